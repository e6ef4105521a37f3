from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from harness.compare.align import align
from harness.compare.cells import Cell
from harness.errors import SpecError


def cell(
    model: str, values: Sequence[float], *, items: Sequence[str] | None = None, task: str = "arc", metric: str = "acc", **fields: Any
) -> Cell:
    names = items if items is not None else [f"q{index}" for index in range(len(values))]
    arrays = {name: pa.array(value) for name, value in fields.items() if name in ("cluster_N", "content_N", "prompt_N")}
    return Cell(
        model,
        fields.pop("seed", ""),
        task,
        metric,
        pa.array(names, pa.string()),
        np.array(values, dtype=float),
        Path("log"),
        **(fields | arrays),
    )


def test_items_in_another_order_are_paired_by_id() -> None:
    common = align([cell("a", [1, 0, 1], items=["x", "y", "z"]), cell("b", [10, 20, 30], items=["z", "x", "y"])])
    task = common.tasks[0]
    assert dict(zip(task.items.to_pylist(), task.scores["b"][0].tolist(), strict=True)) == {"x": 20, "y": 30, "z": 10}
    assert common.warnings == []


def test_items_that_are_not_in_every_log_are_refused_with_counts_or_left_out_on_request() -> None:
    cells = [cell("a", [1, 0, 1]), cell("b", [1, 0], items=["q2", "q0"])]
    with pytest.raises(SpecError, match=r"2 common items; 'a' has 3, 'b' has 2; 'q1' of 'a'.*--intersect"):
        align(cells)
    common = align(cells, intersect=True)
    assert common.tasks[0].items.to_pylist() == ["q0", "q2"]
    assert common.tasks[0].scores["a"].tolist() == [[1, 1]]
    assert common.tasks[0].scores["b"].tolist() == [[0, 1]]
    assert "2 common items" in common.warnings[0]
    with pytest.raises(SpecError, match="no item is in every log"):
        align([cell("a", [1]), cell("b", [1], items=["other"])], intersect=True)


def test_equal_ids_of_other_questions_are_refused_or_left_out_on_request() -> None:
    cells = [cell("a", [1, 0, 1], content_N=["h0", "h1", "h2"]), cell("b", [1, 0, 1], content_N=["h0", "hX", "h2"])]
    with pytest.raises(SpecError, match=r"1 of 3 items have the same id but another question or target, e\.g\. 'q1'"):
        align(cells)
    assert align(cells, intersect=True).tasks[0].items.to_pylist() == ["q0", "q2"]


def test_other_prompts_and_setups_are_shown_with_counts() -> None:
    common = align(
        [
            cell("a", [1, 0], prompt_N=["p0", "p1"], setup={"few-shot examples": "0"}),
            cell("b", [1, 0], prompt_N=["p0", "pX"], setup={"few-shot examples": "5"}),
        ]
    )
    assert "different prompts for 1 of 2 items" in common.warnings[0]
    assert "few-shot examples: '0', '5'" in common.warnings[1]


def test_tasks_and_metrics_that_only_one_model_has_are_named() -> None:
    common = align([cell("a", [1, 0]), cell("a", [1, 0], task="piqa"), cell("b", [1, 0])])
    assert [task.task for task in common.tasks] == ["arc"]
    assert "piqa (acc) only by a" in common.warnings[0]
    with pytest.raises(SpecError, match=r"share no task and metric: 'a' has arc \(acc\); 'b' has arc \(f1\)"):
        align([cell("a", [1, 0]), cell("b", [1, 0], metric="f1")])


def test_unscored_items_are_counted_by_model() -> None:
    assert "left out of both sides of 2: b 1" in align([cell("a", [1, 0]), cell("b", [1, np.nan])]).warnings[0]


def test_chosen_models_and_metrics_must_exist() -> None:
    cells = [cell("a", [1, 0]), cell("b", [1, 0]), cell("c", [1, 0])]
    assert align(cells, models=["c", "a"]).models == ["c", "a"]
    with pytest.raises(SpecError, match=r"--models.*Did you mean 'b'"):
        align(cells, models=["a", "bb"])
    with pytest.raises(SpecError, match="--metric"):
        align(cells, metrics=["f1"])
    with pytest.raises(SpecError, match="two models"):
        align(cells, models=["a", "a"])


def test_clusters_that_disagree_or_hold_everything_are_refused() -> None:
    with pytest.raises(SpecError, match="1 of 3 items are in another cluster"):
        align([cell("a", [1, 0, 1], cluster_N=["x", "x", "y"]), cell("b", [1, 0, 1], cluster_N=["x", "y", "y"])])
    with pytest.raises(SpecError, match="all 2 items are in one cluster"):
        align([cell("a", [1, 0], cluster_N=["x", "x"]), cell("b", [1, 0])])


@pytest.mark.parametrize(
    ("metric", "told", "higher"),
    [("acc", None, True), ("word_perplexity", None, False), ("bits_per_byte", None, False), ("ter,none", None, False), 
     ("acc", False, False),
     ("brier_score", True, True), ("reporter", None, True)],
)  # fmt: skip
def test_direction_comes_from_the_log_else_from_the_metrics_name(metric: str, told: bool | None, higher: bool) -> None:
    cells = [cell(model, [1, 0], metric=metric, higher_is_better=told) for model in ("a", "b")]
    assert align(cells).tasks[0].higher_is_better is higher
    assert align(cells, lower=[metric]).tasks[0].higher_is_better is False


def test_logs_that_disagree_on_the_direction_are_refused() -> None:
    with pytest.raises(SpecError, match="one log says higher is better"):
        align([cell("a", [1, 0], higher_is_better=True), cell("b", [1, 0], higher_is_better=False)])


def test_secondary_metrics_are_named_and_shown_on_request() -> None:
    cells = [cell(model, [1, 0], metric=metric, secondary=metric == "loose") for model in ("a", "b") for metric in ("acc", "loose")]
    common = align(cells)
    assert [task.metric for task in common.tasks] == ["acc"]
    assert "loose" in common.notes[0]
    assert [task.metric for task in align(cells, metrics=["loose"]).tasks] == ["loose"]
