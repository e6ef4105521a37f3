"""lm-eval's own tasks as tasks of a suite: what its YAML says of metric and kind, with the data left where they are until scored."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from harness.errors import SpecError
from harness.scoring.suites import Task

CHANCE = {
    "arc_challenge": 0.25,
    "arc_easy": 0.25,
    "boolq": 0.5,
    "commonsense_qa": 0.2,
    "copa": 0.5,
    "hellaswag": 0.25,
    "logiqa": 0.25,
    "openbookqa": 0.25,
    "piqa": 0.5,
    "sciq": 0.25,
    "social_iqa": 1 / 3,
    "winogrande": 0.5,
}
"""What guessing scores in tasks that are asked for often; lm-eval itself does not say it."""
_LOWER = frozenset({"bits_per_byte", "brier_score", "byte_perplexity", "perplexity", "ter", "wer", "word_perplexity"})
_DEFAULTS = {"multiple_choice": ["acc"], "loglikelihood": ["acc"], "generate_until": ["exact_match"]}


def lm_eval_task(name: str) -> Task:
    """The task that lm-eval calls `name`: acc_norm where it has that, else its first metric.

    Raises:
        SpecError: lm-eval has no such task, or it is a group of tasks, a Python class or one without a score for each sample.
    """
    config = _config(name)
    kind = config.get("output_type", "generate_until")
    listed = config.get("metric_list") or [{"metric": metric} for metric in _DEFAULTS.get(kind, [])]
    metrics = {entry["metric"]: entry for entry in listed if isinstance(entry.get("metric"), str)}
    if kind == "loglikelihood_rolling" or not metrics:
        raise SpecError("this task has no score for each sample (perplexity, or none that its YAML names)", key="tasks", value=name)
    metric = "acc_norm" if "acc_norm" in metrics else next(iter(metrics))
    filters = [entry["name"] for entry in config.get("filter_list") or []]
    place = ", ".join(str(config[key]) for key in ("dataset_path", "dataset_name") if config.get(key))
    return Task(
        name,
        metric if len(filters) < 2 else f"{metric},{filters[0]}",
        "generation" if kind == "generate_until" else "choice",
        higher_is_better=bool(metrics[metric].get("higher_is_better", metric not in _LOWER)),
        chance=CHANCE.get(name),
        source=f"lm-eval {version('lm_eval')}, hub:{place}" if place else f"lm-eval {version('lm_eval')}",
        licence="see the data set's page",
    )


def _config(name: str) -> dict[str, Any]:
    index = lm_eval_manager().task_index
    entry = index.get(name)
    if entry is None:
        raise SpecError("lm-eval has no such task", key="tasks", value=name, valid=index)
    if entry.kind.name != "TASK":
        raise SpecError(f"this is a {entry.kind.name.lower()} of lm-eval; name its tasks one by one", key="tasks", value=name)
    from lm_eval.tasks._yaml_loader import load_yaml

    config: dict[str, Any] = load_yaml(entry.yaml_path, resolve_func=False, recursive=True)
    return config


@functools.cache
def lm_eval_manager() -> Any:
    """lm-eval's TaskManager of its own tasks, made once a process: reading its 14,000 YAML files takes seconds."""
    with _quiet():
        from lm_eval.tasks import TaskManager

        return TaskManager()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
