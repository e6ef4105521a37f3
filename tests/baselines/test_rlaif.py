"""RLAIF: the judge is the starting checkpoint, asked in both orders, paid for and not counted as a human."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.rlaif import RLAIF
from baselines.rlhf import RLHFConfig
from baselines.self_judge import QUESTION, SelfJudge
from harness.core.budget import Ledger
from harness.core.records import Instruction
from harness.core.spec import Adaptation
from harness.models.student import Student
from harness.seeds import generator
from tasks.pool import MixedPool, MixedPoolConfig

ASKED = Instruction("1", "p", "f", "Say hello.", "Say hello {name}.")
PAIRS = [(ASKED, "hello", "bye bye bye"), (ASKED, "hi {x}", "hello there")]


def make(tiny_model: Path, flops: float, kind: str = "lora") -> tuple[Student, Ledger, MixedPool]:
    ledger = Ledger(flops)
    student = Student.load(f"file:{tiny_model}", adaptation=Adaptation(kind=kind), seed=0)  # type: ignore[arg-type]
    student.attach(ledger)
    student.dtype = torch.float32
    config = MixedPoolConfig(families=["gcd"], constraint_share=0.2, seed_demonstrations=6)  # type: ignore[arg-type]
    return student, ledger, MixedPool(config, ledger=ledger, rng=generator("test"), ngrams=frozenset())


def test_swapping_the_responses_swaps_the_verdict(tiny_model: Path) -> None:
    student, ledger, _ = make(tiny_model, 1e12)
    judge = SelfJudge(student, ledger)
    leads = judge.leads(PAIRS)
    swapped = judge.leads([(one, second, first) for one, first, second in PAIRS])
    assert leads == pytest.approx([-lead for lead in swapped], abs=1e-4)
    assert all(lead != 0 for lead in leads)
    labels = judge.label(PAIRS, rng=np.random.default_rng(0))
    assert [label.chosen == first for label, (_, first, _) in zip(labels, PAIRS, strict=True)] == [lead > 0 for lead in leads]
    assert {label.annotator for label in labels} == {"self"}


def test_the_lead_is_the_difference_of_the_verdicts_log_probabilities(tiny_model: Path) -> None:
    student, ledger, _ = make(tiny_model, 1e12)
    judge = SelfJudge(student, ledger)
    found = []
    for first, second in (("hello", "bye bye bye"), ("bye bye bye", "hello")):
        text = student.render([{"role": "user", "content": QUESTION.format(request=ASKED.text, first=first, second=second)}])
        with torch.no_grad(), student.as_loaded():
            logits_V = student.model(torch.tensor([student.encode(text + " ")], device=student.device)).logits[0, -1].float()
        found.append(float(logits_V[student.encode("A")[0]] - logits_V[student.encode("B")[0]]))
    assert judge.leads(PAIRS[:1])[0] == pytest.approx((found[0] - found[1]) / 2, abs=1e-3)


def test_equal_responses_are_decided_by_a_coin(tiny_model: Path) -> None:
    student, ledger, _ = make(tiny_model, 1e12)
    same = [(ASKED, "hello", "hello")]
    assert SelfJudge(student, ledger).leads(same) == [0.0]


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_judge_stays_the_starting_checkpoint(tiny_model: Path, kind: str) -> None:
    student, ledger, _ = make(tiny_model, 1e12, kind)
    judge = SelfJudge(student, ledger)
    before = judge.leads(PAIRS)
    with torch.no_grad():
        for parameter in student.trainable:
            parameter.add_(0.1)
    assert judge.leads(PAIRS) == pytest.approx(before, abs=1e-5)
    assert {row["phase"] for row in ledger.rows() if row["flops"] > 0} == {"review"}


def test_the_whole_method_counts_no_comparison_and_tells_how_good_its_labels_are(tiny_model: Path, tmp_path: Path) -> None:
    student, ledger, pool = make(tiny_model, 2e10)
    config = RLHFConfig(max_new_tokens=6, prompts_per_step=1, preference_share=0.3)
    RLAIF().train(student, pool, ledger, rng=generator("rlaif"), config=config, out=tmp_path)
    assert 0.98 * 2e10 < ledger.spent() <= 2e10
    assert ledger.counters["comparisons"] == 0
    assert {row["phase"] for row in ledger.rows() if row["flops"] > 0} == {"generate", "review", "reward", "reference", "update"}
    written = json.loads((tmp_path / "reward_model.json").read_text())
    assert written["source"] == "self"
    assert written["pairs"] >= 2
    assert 0 <= written["agreement_with_noise_free"] <= 1
    assert 0 < written["agreement_pairs"] <= written["pairs"]
