"""Dequantises a GGUF model once, so that it can be trained: fp32 safetensors and the tokenizer in a folder that transformers loads.

    python -m harness.models.convert MODEL.gguf FOLDER

`convert_gguf` runs this module as a process of its own: the parent needs no torch, and the converter's memory goes back to the machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from harness.errors import SourceError

RECIPE = "fp32-1"
"""Part of the cache key: change it when the conversion below changes its output."""


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Writes the model in `gguf` to `folder` as fp32 safetensors with config and tokenizer.

    Raises:
        SourceError: transformers cannot read the file; the message ends with its reason.
    """
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "harness.models.convert", str(gguf), str(folder)]
    with subprocess.Popen(
        command, env={**os.environ, **quiet}, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        messages = process.stderr.read()
    if process.returncode != 0:
        lines = [line for line in messages.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"the converter ended with {process.returncode}"
        raise SourceError(f"{gguf.name}: cannot be converted to safetensors: {reason}")


def _end_with_parent() -> None:
    """Ends this process when the parent does, so that a converter whose parent was killed writes nothing more into the cache."""

    def wait() -> None:
        sys.stdin.read()  # returns when the parent's end of the pipe is closed, whatever ended it
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # Without `dequantize` the weights stay quantised and can neither be saved nor trained.
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    _end_with_parent()
    _convert(Path(sys.argv[1]), Path(sys.argv[2]))
