"""`score`, `certify` and `lm-eval`: one model, without a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app.options import JsonOption

commands = typer.Typer()


@commands.command(
    epilog="Examples:\n\n  selfteach score --model smollm2-135m-instruct --suite complex_understanding --limit 50\n\n"
    "  selfteach score --model results/runs/quickstart/stages/<id>/model --suite generation --out scores\n\n"
    "  selfteach score --model smollm2-135m-instruct --suite complex_understanding --tasks openbookqa,boolq --perturb typos,case\n\n"
    "  selfteach score --model hub:org/name --suite lm_eval --tasks arc_challenge\n\n"
    "  selfteach score --model smollm2-135m-instruct --suite holistic --json\n\n"
    "docs/suites.md says what the tasks are, docs/holistic.md what the axes beyond accuracy are worth. "
    "Exit code 2: no such suite, task or perturbation. 3: the model or a task's data cannot be had."
)
def score(
    model: Annotated[
        str,
        typer.Option(
            "--model", metavar="MODEL", help="A known name, hub:, file: or pypi: source, a model's folder or a trained student's."
        ),
    ],
    suite: Annotated[list[str], typer.Option("--suite", metavar="NAME", help="A suite of `selfteach tasks`; may be repeated.")],
    tasks: Annotated[
        str | None, typer.Option("--tasks", metavar="A,B", help="Only these tasks. Suite lm_eval takes any of lm-eval's.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Items of each task. Default: the task's own.")] = None,
    perturb: Annotated[str | None, typer.Option("--perturb", metavar="A,B", help="Score under these perturbations too.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Write samples and results, in lm-eval's layout too.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Score one model on suites of tasks: scores with intervals, chance level, licences; no study needed."""
    from harness.cli.score import score_command

    listed = {
        name: [part.strip() for part in (given or "").split(",") if part.strip()]
        for name, given in (("tasks", tasks), ("perturb", perturb))
    }
    score_command(model, suites=suite, tasks=listed["tasks"], limit=limit, perturb=listed["perturb"], out=out, as_json=as_json)


@commands.command(
    epilog="Example:\n\n  selfteach certify --model smollm2-135m-instruct --tasks openbookqa --include-path tasks/lm_eval "
    "--out certificate.json\n\nExit code 1: something differs, or fewer than 3000 requests were compared."
)
def certify(
    model: Annotated[str, typer.Option("--model", metavar="MODEL", help="A known name, source, or folder; loaded in float32.")],
    tasks: Annotated[str | None, typer.Option("--tasks", metavar="A,B", help="lm-eval tasks whose requests are compared too.")] = None,
    include_path: Annotated[Path | None, typer.Option("--include-path", metavar="FOLDER", help="Folder with those tasks' YAML.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Items of each task. Default: all.")] = None,
    traps: Annotated[int, typer.Option("--traps", min=16, help="Requests that are made to be hard.")] = 1200,
    device: Annotated[str | None, typer.Option("--device", help="Default: the first GPU, else the CPU.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the certificate as JSON.", dir_okay=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the scoring engine with lm-eval's Hugging Face backend, request by request."""
    from harness.cli.certify import certify_command

    named = [name.strip() for name in (tasks or "").split(",") if name.strip()]
    certify_command(model, tasks=named, include_path=include_path, limit=limit, traps=traps, device=device, out=out, as_json=as_json)


@commands.command(
    "lm-eval",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    epilog="Example:\n\n  selfteach lm-eval run --model selfteach --model_args pretrained=smollm2-135m-instruct,dtype=float32 "
    "--include_path tasks/lm_eval --tasks openbookqa\n\ndocs/scoring.md lists the model's arguments.",
)
def lm_eval(context: typer.Context) -> None:
    """lm-eval's own command line, with `--model selfteach` in it; all arguments are lm-eval's."""
    from harness.scoring.lm_eval import main as lm_eval_main

    lm_eval_main(context.args)
