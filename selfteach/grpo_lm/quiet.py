"""Keeps a TRL trainer from what it does beside training: telemetry, log lines, other people's random numbers."""

from __future__ import annotations

import contextlib
import logging
import random
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from huggingface_hub import constants
from transformers.utils import logging as transformers_logging


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """No telemetry, no messages below errors, and the global random generators as they were once the block ends."""
    telemetry, verbosity = constants.HF_HUB_DISABLE_TELEMETRY, transformers_logging.get_verbosity()
    trl_logger = logging.getLogger("trl")
    level, python_state, numpy_state = trl_logger.level, random.getstate(), np.random.get_state()
    constants.HF_HUB_DISABLE_TELEMETRY = True
    transformers_logging.set_verbosity_error()
    trl_logger.setLevel(logging.ERROR)
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You are using 'rollout_func'", category=UserWarning)
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
            # The older of two names is the one that every supported transformers knows.
            warnings.filterwarnings("ignore", message="`gradient_checkpointing` is deprecated", category=FutureWarning)
            yield
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = telemetry
        transformers_logging.set_verbosity(verbosity)
        trl_logger.setLevel(level)
        random.setstate(python_state)
        np.random.set_state(numpy_state)
