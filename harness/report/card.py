"""The model card of an exported student: what it is, what made it, what it scored, what that does not say. Markdown."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from harness.core.results import RunResults
from harness.report.numbers import flops as flops_text

_METHOD_LIMITS = (
    "Trained to compare methods at equal compute, not to be used: its answers are checked for nothing but the tasks above.",
    "Simulated annotators and rule verifiers stand in for people; a corpus that a model made carries its errors and biases on.",
)


def model_card(run: RunResults, trial_id: str) -> str:
    """The card of one trial, with YAML front matter as model hubs read it."""
    (trial,) = run.trials[run.trials["trial_id"] == trial_id].to_dict("records")
    study, about = run.study, run.study["provenance"]
    student = study["student"]
    method = next(m for m in study["methods"] if _label(m) == trial["method"])
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [selfteach]",
        "---",
        "",
        f"# {student['model'].rsplit('/', 1)[-1]}, trained by {trial['method']} (study {study['name']}, seed {trial['seed']})",
        "",
        study["question"] or study["title"],
        "",
        f"- Started from: `{student['model']}`; its licence holds for this model too.",
        f"- Adaptation: {_adaptation(student['adaptation'])}",
        f"- Method: `{trial['method']}`, settings {method['config'] or 'as by default'}",
        f"- Budget: {flops_text(trial['budget_flops'])} of training compute, {flops_text(trial['train_flops'])} spent; "
        f"{int(trial['demonstrations'])} demonstrations, {int(trial['comparisons'])} comparisons, {int(trial['verifications'])} rule "
        f"verifications, {int(trial['queries'])} external queries",
        f"- Device: {trial['device']}; selfteach commit {about.get('commit') or 'unknown'}; command `{about['command']}`",
        "",
        "## Scores of this checkpoint",
        "",
        *_scores(run, trial),
        "",
        "One checkpoint of one training seed: methods are compared over seeds, with intervals, in the study's report.",
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in _METHOD_LIMITS),
        "",
    ]
    return "\n".join(lines)


def _label(method: dict[str, Any]) -> str:
    return f"{method['name']}:{method['variant']}" if method["variant"] else str(method["name"])


def _adaptation(adaptation: dict[str, Any]) -> str:
    return "all weights" if adaptation["kind"] == "full" else f"LoRA of rank {adaptation['rank']}, merged into the weights"


def _scores(run: RunResults, trial: Mapping[Hashable, Any]) -> list[str]:
    samples = run.samples[(run.samples["method"] == trial["method"]) & (run.samples["seed"] == trial["seed"])]
    rows = []
    for (task, perturbation), group in samples.groupby(["task", "perturbation"], sort=False):
        known = run.study["tasks"].get(task)
        own = group[group["metric"] == known["metric"]] if known else group[:0]
        scored = own["value"].dropna()
        if len(scored):
            chance = "–" if known["chance"] is None else f"{known['chance']:.0%}"
            rows.append(
                f"| {task} | {perturbation} | {known['metric']} | {float(scored.mean()):.3f} | {len(scored)} / {len(own)} | {chance} |"
            )
    if not rows:
        return ["Not scored."]
    return ["| task | items | metric | mean | scored / asked | chance |", "|---|---|---|---|---|---|", *rows]
