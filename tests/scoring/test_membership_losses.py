"""Losses of training texts: their values, the reference, what is skipped and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from harness.core.budget import Ledger
from harness.core.records import SAMPLE_COLUMNS, TrainingRecord
from harness.core.spec import Adaptation
from harness.core.suite_spec import SuiteSpec
from harness.models.finetune import FinetuneConfig, finetune
from harness.models.student import Student
from harness.scoring.membership import response_losses
from harness.scoring.suites import evaluation_ngrams, score
from harness.stats.membership import auc

SPEC = SuiteSpec(name="holistic", tasks=("membership",))
MEMBERS = [(f"user: say {letter}\nassistant:", letter * 4) for letter in "abcdefgh"]
OTHERS = [(f"user: say {letter}\nassistant:", letter * 4) for letter in "ijklmnop"]


def scored(student: Student, training: TrainingRecord | None, **spec: object) -> pd.DataFrame:
    ledger = Ledger(account="eval")
    student.attach(ledger)
    frame = score(student, [SPEC.model_copy(update=spec)], [], ledger=ledger, seed=0, training=training)
    assert list(frame.columns) == list(SAMPLE_COLUMNS)
    return frame


def test_the_loss_is_the_models_own_over_the_response(tiny_model: Path) -> None:
    student = Student.load(f"file:{tiny_model}", adaptation=None, seed=0)
    found = response_losses(student, MEMBERS[:2])
    for (prompt, response), loss in zip(MEMBERS[:2], found, strict=True):
        head, tail = student.encode(prompt), student.encode(student.response_text(response))
        with torch.inference_mode():
            logits = student.model(input_ids=torch.tensor([head + tail], device=student.device)).logits[0].float()
        expected = torch.nn.functional.cross_entropy(logits[len(head) - 1 : -1], torch.tensor(tail, device=student.device))
        assert loss == pytest.approx(float(expected), abs=0.03)


def test_an_untrained_student_tells_no_one_and_a_trained_one_its_members(tiny_model: Path, tmp_path: Path) -> None:
    training = TrainingRecord(members=MEMBERS, nonmembers=OTHERS)
    untouched = scored(Student.load(f"file:{tiny_model}", adaptation=None, seed=0), training)
    assert (untouched[untouched.metric == "calibrated_loss"].value == 0).all()

    student = Student.load(f"file:{tiny_model}", adaptation=Adaptation(kind="full"), seed=0)
    ledger = Ledger(2e10)
    student.attach(ledger)
    examples = [([{"role": "user", "content": prompt}], response) for prompt, response in MEMBERS]
    finetune(student, examples, ledger, config=FinetuneConfig(learning_rate=1e-2), rng=np.random.default_rng(0))
    student.save(tmp_path)
    rendered = [(student.render([{"role": "user", "content": prompt}]), response) for prompt, response in MEMBERS]
    others = [(student.render([{"role": "user", "content": prompt}]), response) for prompt, response in OTHERS]
    frame = scored(Student.restore(tmp_path), TrainingRecord(members=rendered, nonmembers=others))
    rows = frame[frame.metric == "calibrated_loss"]
    values = {side: -rows[rows.target == side].value.to_numpy(dtype=float) for side in ("member", "non-member")}
    assert auc(values["member"], values["non-member"])[0] > 0.9
    assert not frame.duplicated(["sample_id", "metric"]).any()


def test_both_sides_are_cut_to_equal_size_and_shared_texts_are_members_only(tiny_model: Path) -> None:
    student = Student.load(f"file:{tiny_model}", adaptation=None, seed=0)
    training = TrainingRecord(members=[*MEMBERS, *MEMBERS], nonmembers=[*OTHERS[:5], *MEMBERS[:3]])
    frame = scored(student, training)
    assert frame[frame.metric == "loss"].target.value_counts().to_dict() == {"member": 5, "non-member": 5}
    fewer = scored(student, training, limit=4)
    assert set(fewer.sample_id) < set(frame.sample_id)
    assert len(fewer) == 8, "two texts of each side, two metrics"


@pytest.mark.parametrize(
    ("training", "reason"),
    [
        (None, "nothing is known"),
        (TrainingRecord(nonmembers=OTHERS), "trained on no text"),
        (TrainingRecord(members=MEMBERS), "no held-out texts"),
    ],
)
def test_what_cannot_be_attacked_has_one_row_with_the_reason(tiny_model: Path, training: TrainingRecord | None, reason: str) -> None:
    (row,) = scored(Student.load(f"file:{tiny_model}", adaptation=None, seed=0), training).itertuples()
    assert (row.status, row.metric) == ("skipped", "calibrated_loss")
    assert reason in row.output
    assert pd.isna(row.value)


def test_the_reference_is_charged_and_training_texts_are_no_evaluation_items(tiny_model: Path) -> None:
    student, ledger = Student.load(f"file:{tiny_model}", adaptation=None, seed=0), Ledger(account="eval")
    student.attach(ledger)
    score(student, [SPEC], [], ledger=ledger, seed=0, training=TrainingRecord(members=MEMBERS, nonmembers=OTHERS))
    alone = Ledger(account="eval")
    student.attach(alone)
    with alone.use_account("eval"), alone.use_phase("score"):
        response_losses(student, [*MEMBERS, *OTHERS])
    assert ledger.spent("eval") == pytest.approx(2 * alone.spent("eval"))
    assert evaluation_ngrams([SPEC]) == frozenset()
