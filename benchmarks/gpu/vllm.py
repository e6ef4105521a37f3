"""Rollouts through vLLM on a GPU: `pip install -e '.[vllm]'`, then `python benchmarks/gpu/vllm.py`.

Ways, figures and options are those of benchmarks/vllm/rollouts.py, at 256 prompts and 256 tokens, where a GPU has something to do.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import torch


def main() -> None:
    """Refuses to pass a processor's figures for a GPU's."""
    if not torch.cuda.is_available():
        sys.exit("no GPU here: benchmarks/vllm/rollouts.py measures on the CPU")
    sys.argv[1:1] = ["--batch", "256", "--new-tokens", "256"]
    runpy.run_path(str(Path(__file__).parents[1] / "vllm" / "rollouts.py"), run_name="__main__")


if __name__ == "__main__":
    main()
