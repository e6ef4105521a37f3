"""What the worker asks of torch."""

import random

__version__ = "0.0-fake"


def manual_seed(seed):
    random.seed(seed)
