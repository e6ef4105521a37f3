"""lm-eval's command line with `--model selfteach` in it: `python -m harness.scoring.lm_eval run --model selfteach ...`.

lm-eval 0.4.13 finds models by a table of its own and has no entry points for others, so the model is registered here first; all
arguments are lm-eval's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from harness.errors import SelfteachError


def main(arguments: Sequence[str]) -> None:
    """Runs lm-eval's command line on `arguments`."""
    from lm_eval.__main__ import cli_evaluate

    from harness.scoring.selfteach_lm import register

    register()
    before = sys.argv
    sys.argv = ["lm-eval", *arguments]
    try:
        cli_evaluate()
    finally:
        sys.argv = before


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SelfteachError as error:
        sys.exit(f"error: {error}")
