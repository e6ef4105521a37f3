"""Prints, as Markdown, which share of its training FLOPs each method of a finished run spent in which phase.

python -m benchmarks.ledger.shares results/runs/quickstart
"""

from __future__ import annotations

import sys

from harness.core.results import find_run, load_run
from harness.errors import SelfteachError
from harness.report.spending import phase_markdown
from harness.report.views import phase_shares


def main(place: str) -> None:
    """Writes the table and what it was made from to standard output."""
    run = load_run(find_run(place), conclusions=False)
    budget = float(run.study["budget"]["train_flops"])
    seeds = run.trials["seed"].nunique()
    print(phase_markdown(phase_shares(run.ledger)))
    print(
        f"Study `{run.study['name']}`, {budget:.3g} FLOPs a trial (flops-v1), mean over {seeds} seeds, "
        f"{run.study['provenance']['device']}: `python -m benchmarks.ledger.shares {place}`."
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.ledger.shares RUN")
    try:
        main(sys.argv[1])
    except SelfteachError as error:
        sys.exit(str(error))
