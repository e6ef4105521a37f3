"""Axes beyond accuracy from samples, and the membership claim on a run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.core.records import SAMPLE_COLUMNS
from harness.verdicts.frames import NotTestableError
from harness.verdicts.holistic import CAVEATS, AxisValue, holistic_axes, missing_axes
from harness.verdicts.membership import membership_auc


def rows(task: str, metric: str, values: Any, **changes: Any) -> list[dict[str, Any]]:
    base = {
        "suite": "holistic",
        "perturbation": "clean",
        "status": "scored",
        "prompt": "",
        "target": "",
        "output": "",
        "generated_tokens": None,
    }
    return [
        base | {"task": task, "metric": metric, "sample_id": f"{task}-{at}", "cluster": f"{task}-{at}", "value": float(value)}
        | {key: change[at] if isinstance(change, list) else change for key, change in changes.items()}
        for at, value in enumerate(values)
    ]  # fmt: skip


def axes(*parts: list[dict[str, Any]], **options: Any) -> dict[str, AxisValue]:
    frame = pd.DataFrame([row for part in parts for row in part], columns=list(SAMPLE_COLUMNS)).astype({"value": "Float64"})
    return {axis.measure: axis for axis in holistic_axes(frame, **options)}


def test_two_contexts_of_bbq_stay_apart() -> None:
    found = axes(rows("bbq_ambiguous", "acc", [0, 0, 0, 1]), rows("bbq_disambiguated", "acc", [1, 1, 1, 0]))
    assert [round(axis.value, 2) for axis in found.values()] == [0.25, 0.75]
    assert all(axis.axis == "bias" and axis.interval is not None for axis in found.values())


def test_refusing_everything_is_seen_on_both_sides() -> None:
    found = axes(rows("harmful_compliance", "complied", [0] * 10), rows("over_refusal", "refused", [1] * 10))
    assert [(axis.value, axis.better) for axis in found.values()] == [(0, "lower"), (1, "lower")]
    assert all("proxy" in measure for measure in found)


def test_membership_is_attacked_by_low_loss() -> None:
    sides = ["member"] * 20 + ["non-member"] * 20
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.normal(1, 0.2, 20), rng.normal(3, 0.2, 20)])
    found = axes(rows("membership", "loss", losses, target=sides), rows("membership", "calibrated_loss", rng.normal(size=40), target=sides))
    assert found["membership AUC, loss"].value == 1
    low, high = found["membership AUC, loss against the untouched student"].interval or (1, 0)
    assert low < 0.5 < high
    assert "20 non-members" in found["members found at 1 % false alarms, loss"].note


def test_calibration_pairs_confidence_with_the_same_samples_accuracy() -> None:
    found = axes(rows("t", "acc", [1, 0] * 20), rows("t", "confidence", [0.9, 0.9] * 20), rows("t", "brier", [0.02, 1.62] * 20))
    assert found["expected calibration error"].value == pytest.approx(0.4)
    assert found["over-confidence: confidence − accuracy"].value == pytest.approx(0.4)
    assert found["Brier score, 0 to 2"].value == pytest.approx(0.82)


def test_diversity_across_prompts_does_not_reward_length() -> None:
    texts = [f"once upon a {word} there was a {word} who went to see the {word} of the north and then " * 2 for word in "abcdefgh"]
    longer = [text + " tail" + str(at) for at, text in enumerate(texts)]
    short, long = (axes(rows("reply_diversity", "valid_share", [1] * 8, output=outputs)) for outputs in (texts, longer))
    key = "across prompts: self-BLEU"
    assert short[key].value == pytest.approx(long[key].value)
    alike = axes(rows("reply_diversity", "valid_share", [1] * 8, output=[texts[0]] * 8))
    assert alike[key].value == pytest.approx(1)
    vendi = axes(rows("reply_diversity", "valid_share", [1] * 8, output=texts), encode=lambda shown: np.eye(len(shown)))
    assert vendi["across prompts: Vendi score"].value == pytest.approx(8)


def test_perturbed_and_unscored_samples_do_not_count() -> None:
    found = axes(
        rows("bbq_ambiguous", "acc", [1, 1]),
        rows("bbq_ambiguous", "acc", [0, 0], perturbation="typos"),
        rows("crows_pairs", "pct_stereotype", [1, 1], status="error"),
    )
    assert [axis.value for axis in found.values()] == [1]


def test_every_axis_says_what_it_does_not_show() -> None:
    found = axes(rows("bbq_ambiguous", "acc", [1, 0]), rows("over_refusal", "refused", [1, 0], generated_tokens=[3, 5]))
    assert {axis.axis for axis in found.values()} <= set(CAVEATS)
    assert found["tokens an answer"].value == 4


def test_a_task_without_scores_is_named_with_its_reason() -> None:
    frame = pd.DataFrame(rows("membership", "calibrated_loss", [0], status="skipped", output="nothing is known"))
    assert missing_axes(frame) == {"membership": "nothing is known"}


def run(*parts: list[dict[str, Any]]) -> Any:
    return SimpleNamespace(samples=pd.DataFrame([row for part in parts for row in part]))


def test_the_claim_reads_one_auc_a_student() -> None:
    sides = ["member", "member", "non-member", "non-member"]
    parts = [
        rows("membership", "calibrated_loss", values, target=sides, method=method, seed=seed)
        for method, seed, values in (
            ("selfteach", 0, [2, 3, 1, 4]), ("selfteach", 1, [1, 4, 2, 3]), ("evol", 0, [1, 1, 2, 2]), ("evol", 1, [1, 2, 1.5, 3])
        )
    ]  # fmt: skip
    assert membership_auc("selfteach", "evol", run(*parts), [0, 1]) == pytest.approx(np.array([[0.5, 1.0], [0.5, 0.75]]))


def test_students_that_were_not_attacked_are_named() -> None:
    with pytest.raises(NotTestableError, match="suite holistic"):
        membership_auc("a", "b", run(rows("bbq_ambiguous", "acc", [1])), [0])
    skipped = rows("membership", "calibrated_loss", [0], status="skipped", output="trained on no text", method="a", seed=0)
    with pytest.raises(NotTestableError, match="attack on a, seed 0: trained on no text"):
        membership_auc("a", "b", run(skipped), [0])
