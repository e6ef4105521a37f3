"""The model card of an exported student: what it is, what made it, what it scored, what that does not say. Markdown."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Hashable, Mapping
from typing import Any

from harness.core.blocks import label, student_of
from harness.core.records import CLEAN
from harness.core.results import RunResults
from harness.core.scrub import scrubbed
from harness.report.numbers import count, dollars, flops, seconds
from harness.verdicts.score_table import ScoreRow, score_table

_COUNTERS = {
    "demonstrations": "demonstrations",
    "comparisons": "comparisons by annotators",
    "verifications": "verifications by rule",
    "queries": "queries to other models",
}
_LIMITS = (
    "Trained to compare methods at equal compute, not to be used. Its answers were checked for nothing but the tasks above: not for truth, "
    "safety, bias or privacy. Do not put it before people, and do not let it decide anything about them.",
    "One checkpoint of one training seed. The intervals speak of items; another seed gives another model. Methods are compared over seeds "
    "in the study's report, and only that comparison carries a verdict.",
    "Annotators were simulated, demonstrations written or edited by rule: nothing here was learnt from people's judgement of this model.",
    "A corpus that a model made carries that model's errors, biases and memorised text on.",
)


def model_card(run: RunResults, trial_id: str, *, dtype: str, hub_name: str | None = None, licence: str | None = None) -> str:
    """The card of one trained trial, with YAML front matter.

    Args:
        dtype: of the exported weights.
        hub_name: of the base model (org/name), if it came from a hub.
        licence: of the base model, as hubs abbreviate it; None where it is not known.
    """
    # A card is made to be passed on, and where things lie on a machine is nobody's business.
    run = dataclasses.replace(run, study=scrubbed(run.study))
    (trial,) = run.trials[run.trials["trial_id"] == trial_id].to_dict("records")
    rows = _score_rows(run, trial)
    study, student = run.study, student_of(run.study, str(trial["method"]))
    base = str(student["model"])
    lines = [
        "---",
        _front_matter(run, trial, rows, hub_name, licence).rstrip("\n"),
        "---",
        "",
        f"# {base.rsplit('/', 1)[-1]}, trained by {trial['method']} (study {study['name']}, seed {trial['seed']})",
        "",
        study["question"] or study["title"] or "A student of a selfteach study.",
        "",
        "## What it is",
        "",
        f"- Base model: {_code(base)}" + (f" ([{hub_name}](https://huggingface.co/{hub_name}))" if hub_name else ""),
        f"- Licence: {_licence(licence)}",
        f"- Weights: {_adaptation(student['adaptation'])}; {dtype}",
        "",
        "    from transformers import AutoModelForCausalLM, AutoTokenizer",
        '    model, tokenizer = AutoModelForCausalLM.from_pretrained("FOLDER"), AutoTokenizer.from_pretrained("FOLDER")',
        "",
        "## How it was trained",
        "",
        *_training(run, trial),
        "",
        "## Scores of this checkpoint",
        "",
        *_scores(rows),
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in _LIMITS),
        "",
    ]
    return "\n".join(lines)


def _front_matter(run: RunResults, trial: Mapping[Hashable, Any], rows: list[ScoreRow], hub_name: str | None, licence: str | None) -> str:
    # Imported here: it costs a second, and most commands never need it.
    from huggingface_hub import EvalResult, ModelCardData

    clean = [row for row in rows if row.perturbation == CLEAN and row.estimate is not None]
    data = ModelCardData(
        language="en",
        license=licence or "other",
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["selfteach", str(trial["method"])],
        base_model=hub_name,
        base_model_relation="finetune" if hub_name else None,
        model_name=f"{run.study['name']}-{trial['trial_id']}",
        eval_results=[
            EvalResult(
                task_type="text-generation",
                dataset_type=row.task,
                dataset_name=f"{row.task} ({row.n_scored} items)",
                metric_type=row.metric,
                metric_value=round(row.estimate.value, 4),
            )
            for row in clean
            if row.estimate is not None
        ]
        or None,
    )
    return str(data.to_yaml())


def _training(run: RunResults, trial: Mapping[Hashable, Any]) -> list[str]:
    study, about = run.study, run.study["provenance"]
    method = next(each for each in study["methods"] if label(each) == trial["method"])
    pool = study["pool"]
    counted = ", ".join(f"{count(trial[name])} {words}" for name, words in _COUNTERS.items())
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    corpus = run.corpora.get(str(trial["trial_id"]))
    cells = {
        "method": f"{_code(trial['method'])}, settings {_settings(method['config'])}",
        "data": f"pool {_code(pool['name'])}, settings {_settings(pool['config'])}; rows near an evaluation item are left out",
        "labels and checks": counted,
        "self-made instructions": f"{len(corpus)} made, {sum(row['kept'] for row in corpus)} kept" if corpus else "none",
        "budget": f"{flops(trial['budget_flops'])} of training compute (convention flops-v1), {flops(trial['train_flops'])} spent",
        "time and cost": f"{seconds(trial['wall_s'])} on {trial['device']}; {dollars(trial['cost_usd'])} at the study's prices",
        "training seed": str(trial["seed"]),
        "stage": f"{_code(trial['train_stage'])} of run {_code(study['name'])}",
        "command": _code(about["command"].replace("<path>/", "")),
        "software": f"selfteach commit {about.get('commit') or 'unknown'}; {versions}",
    }
    return ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in cells.items())]


def _score_rows(run: RunResults, trial: Mapping[Hashable, Any]) -> list[ScoreRow]:
    samples, tasks = run.samples, run.study["tasks"]
    mine = samples[(samples["method"] == trial["method"]) & (samples["seed"] == trial["seed"]) & samples["task"].isin(list(tasks))]
    return score_table(mine, tasks)


def _scores(rows: list[ScoreRow]) -> list[str]:
    if not rows:
        return ["Not scored."]
    lines = ["| task | items | metric | score | 95 % interval | scored / asked | chance | |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        found = row.estimate
        value = "–" if found is None else f"{found.value:.3f}"
        interval = "–" if found is None or found.interval is None else f"{found.interval[0]:.3f} to {found.interval[1]:.3f}"
        chance = "–" if row.chance is None else f"{row.chance:.0%}"
        metric = row.metric if row.higher_is_better else f"{row.metric} (less is better)"
        cells = (row.task, row.perturbation, metric, value, interval, f"{row.n_scored} / {row.n_asked}", chance, row.flag)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _licence(licence: str | None) -> str:
    if licence is None:
        return "that of the base model holds for this model too; nothing here says which it is, so look it up before you pass this on"
    return f"{licence}, the base model's, holds for this model too"


def _adaptation(adaptation: dict[str, Any]) -> str:
    return "all of them trained" if adaptation["kind"] == "full" else f"LoRA of rank {adaptation['rank']}, merged into the base model's"


def _settings(config: Mapping[str, Any]) -> str:
    return _code(json.dumps(config, ensure_ascii=False)) if config else "as by default"


def _code(text: object) -> str:
    fence = "``" if "`" in str(text) else "`"
    return f"{fence}{text}{fence}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
