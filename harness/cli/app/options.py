"""Arguments and options that several commands share, and what exit codes mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXIT_CODES = (
    "Exit codes: 0 done, 1 other error, 2 wrong study, name or option, 3 a model or data source cannot be had, "
    "4 run folder in use, damaged or full, 5 a stage failed (the rest is kept), 6 a leaderboard row differs, 7 no row of a "
    "leaderboard could be checked, 130 stopped by Ctrl-C, SIGTERM or a closed terminal."
)

StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file, such as studies/quickstart.yaml.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or a study's name under results/runs.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON on standard output and nothing else there.")]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=512, help="Workers that share the cores evenly. Default: one per GPU, else one per core."),
]
OutOption = Annotated[Path | None, typer.Option("--out", help="The run's folder. Default: results/runs/<study's name>.", file_okay=False)]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=512, help="Cores of each worker. Default: an even share of this machine's; elsewhere 1."),
]
