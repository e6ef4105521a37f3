"""DPO: TRL's loss on the same batch, a reference that stays, a budget that is met, and a preference that is learnt."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import baselines.direct
from baselines.direct import optimise_directly, pair_losses, referred, sequence_logprobs
from baselines.dpo import DPO, DPOConfig
from baselines.preferences import tokenized
from baselines.rlhf import RLHF
from harness.core.budget import Ledger
from harness.core.records import Preference
from harness.core.spec import Adaptation
from harness.errors import SpecError, TrainingError
from harness.models.examples import update_flops
from harness.models.student import Student
from harness.seeds import generator
from tasks.dataset_pool import DatasetPool, DatasetPoolConfig
from tasks.pool import MixedPool, MixedPoolConfig


def make(tiny_model: Path, flops: float, kind: str = "lora") -> tuple[Student, Ledger, MixedPool]:
    ledger = Ledger(flops)
    student = Student.load(f"file:{tiny_model}", adaptation=Adaptation(kind=kind), seed=0)  # type: ignore[arg-type]
    student.attach(ledger)
    config = MixedPoolConfig(families=["gcd"], constraint_share=0.2, seed_demonstrations=6)  # type: ignore[arg-type]
    return student, ledger, MixedPool(config, ledger=ledger, rng=generator("test"), ngrams=frozenset())


def preferences(pool: MixedPool, n: int) -> list[Preference]:
    """Replies of a are preferred to replies of b."""
    return [Preference(prompt, "aa a", "b bbb") for prompt in pool.prompts(n, rng=np.random.default_rng(0))]


def test_the_loss_is_trl_s_on_the_same_batch(tiny_model: Path, tmp_path: Path) -> None:
    """Equal loss and equal gradients of a policy that has left its reference."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig as TRLConfig
    from trl import DPOTrainer

    student, ledger, pool = make(tiny_model, 1e12, "full")
    student.dtype = torch.float32
    pairs = referred(student, [tokenized(student, preference) for preference in preferences(pool, 3)], ledger)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in student.trainable:
            parameter.add_(0.02 * torch.randn_like(parameter))
    rows = [
        {
            "prompt_ids": list(pair.examples[0].ids[: pair.examples[0].prompt_tokens]),
            "chosen_ids": list(pair.examples[0].ids[pair.examples[0].prompt_tokens :]),
            "rejected_ids": list(pair.examples[1].ids[pair.examples[1].prompt_tokens :]),
        }
        for pair in pairs
    ]
    texts = Dataset.from_list([{"prompt": "p", "chosen": "a", "rejected": "b"}])
    settings = TRLConfig(
        output_dir=str(tmp_path), beta=0.3, use_cpu=student.device.type == "cpu", bf16=False, report_to=[], disable_tqdm=True,
        gradient_checkpointing=None,
    )  # fmt: skip
    reference = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    trainer = DPOTrainer(student.model, reference, settings, train_dataset=texts, processing_class=student.tokenizer)
    student.model.eval()
    theirs = trainer.compute_loss(student.model, trainer._prepare_inputs(trainer.data_collator(rows)))
    theirs.backward()
    expected = [parameter.grad.clone() for parameter in student.trainable]  # type: ignore[union-attr]
    student.model.zero_grad()
    ours = pair_losses(student, pairs, 0.3).mean()
    ours.backward()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-4)
    assert ours.item() != pytest.approx(math.log(2), rel=1e-2)
    for parameter, gradient in zip(student.trainable, expected, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, gradient, atol=1e-3 * float(gradient.abs().max()) + 1e-8)


def test_the_loss_starts_at_log_2_and_the_preference_is_learnt(tiny_model: Path) -> None:
    student, ledger, pool = make(tiny_model, 1e10)
    pairs = referred(student, [tokenized(student, preference) for preference in preferences(pool, 24)], ledger)
    other = [tokenized(student, preference) for preference in preferences(pool, 4)]
    assert optimise_directly(student, pairs, ledger, config=DPOConfig(learning_rate=1e-2), rng=np.random.default_rng(0)) > 4
    losses = [point.value for point in ledger.curves if point.curve == "dpo_loss"]
    assert losses[0] == pytest.approx(math.log(2), abs=0.02)
    assert np.mean(losses[-3:]) < 0.5 * losses[0]
    ledger.train_flops = None
    before = referred(make(tiny_model, 1e12)[0], other, Ledger(1e12))
    with torch.no_grad():
        gains = [sequence_logprobs(student, pair.examples).cpu() - torch.tensor([pair.chosen, pair.rejected]) for pair in before]
    assert all(float(chosen) > float(rejected) for chosen, rejected in gains)
    assert set(student.trained_on) == {pair.examples[0].text for pair in pairs}


def test_shuffled_preferences_teach_it_nothing(tiny_model: Path) -> None:
    """Half the pairs say a, half b: the margin between fresh a and b stays within a fifth of what it becomes when all say a."""

    def margin(flip: bool) -> float:
        student, ledger, pool = make(tiny_model, 1e10)
        kept = [
            Preference(p.instruction, p.rejected, p.chosen) if flip and index % 2 else p for index, p in enumerate(preferences(pool, 24))
        ]
        start = referred(student, [tokenized(student, p) for p in preferences(pool, 4)], ledger)
        pairs = referred(student, [tokenized(student, p) for p in kept], ledger)
        optimise_directly(student, pairs, ledger, config=DPOConfig(learning_rate=1e-2), rng=np.random.default_rng(0))
        ledger.train_flops = None
        with torch.no_grad():
            now = [sequence_logprobs(student, pair.examples).tolist() for pair in start]
        return float(np.mean([(n[0] - pair.chosen) - (n[1] - pair.rejected) for n, pair in zip(now, start, strict=True)]))

    learnt = margin(flip=False)
    assert learnt > 5
    assert abs(margin(flip=True)) < 0.2 * learnt


def test_the_whole_method_meets_its_budget_and_pays_for_every_phase(tiny_model: Path, tmp_path: Path) -> None:
    student, ledger, pool = make(tiny_model, 3e10)
    DPO().train(student, pool, ledger, rng=generator("dpo"), config=DPOConfig(max_new_tokens=8), out=tmp_path)
    assert 0.98 * 3e10 < ledger.spent() <= 3e10
    assert {row["phase"] for row in ledger.rows() if row["flops"] > 0} == {"generate", "reference", "update"}
    written = json.loads((tmp_path / "preferences.json").read_text())
    assert written["source"] == "annotators"
    assert 2 <= written["pairs"] == ledger.counters["comparisons"]
    assert 0 <= written["agreement_with_noise_free"] <= 1
    assert {point.curve for point in ledger.curves} >= {"loss", "dpo_loss", "dpo_accuracy"}


class Given(MixedPool):
    """A pool with preferences of its own."""

    table: Sequence[tuple[str, str]] = ()

    def given_preferences(self, n: int, *, rng: np.random.Generator) -> list[Preference]:
        handed, self.table = self.table[:n], self.table[n:]
        self._ledger.count("comparisons", len(handed))
        return [Preference(self.prompts(1, rng=rng)[0], *pair) for pair in handed]


def given(tiny_model: Path, table: Sequence[tuple[str, str]], flops: float = 3e10) -> tuple[Student, Ledger, Given]:
    student, ledger, _ = make(tiny_model, flops)
    config = MixedPoolConfig(families=["gcd"], constraint_share=0.2, seed_demonstrations=6)  # type: ignore[arg-type]
    pool = Given(config, ledger=ledger, rng=generator("test"), ngrams=frozenset())
    pool.table = table
    return student, ledger, pool


def test_given_preferences_are_used_and_nothing_is_sampled(tiny_model: Path, tmp_path: Path) -> None:
    student, ledger, pool = given(tiny_model, [("good", "bad"), ("same", "same"), ("x" * 600, "y"), *[("yes", "no")] * 9])
    DPO().train(student, pool, ledger, rng=generator("dpo"), config=DPOConfig(), out=tmp_path)
    written = json.loads((tmp_path / "preferences.json").read_text())
    assert (written["source"], written["pairs"], ledger.counters["comparisons"]) == ("given", 10, 12)
    assert written["dropped"] == {"equal": 1, "too_long": 1, "repeated": 0}
    assert any("1 have equal responses, 1 are too long" in note for note in ledger.notes)
    assert "generate" not in {row["phase"] for row in ledger.rows() if row["flops"] > 0}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([("same", "same")] * 6, "6 have equal responses"),
        ([("good", ""), ("fine", " ")] * 4, "one-sided preferences: the rejected response of all 8 pairs"),
        ([("", "bad")] * 4, "one-sided preferences: the chosen response of all 4 pairs"),
        ([], "nothing to prefer: of 0 pairs"),
    ],
)
def test_preferences_that_teach_nothing_are_refused_with_counts(
    tiny_model: Path, tmp_path: Path, table: list[tuple[str, str]], message: str
) -> None:
    student, ledger, pool = given(tiny_model, table)
    with pytest.raises(TrainingError, match=message):
        DPO().train(student, pool, ledger, rng=generator("dpo"), config=DPOConfig(), out=tmp_path)


def test_a_budget_too_small_says_so(tiny_model: Path, tmp_path: Path) -> None:
    for flops in (1e6, 1e8, 3e8):
        student, ledger, pool = make(tiny_model, flops)
        with pytest.raises(SpecError, match="too small"):
            DPO().train(student, pool, ledger, rng=generator("dpo"), config=DPOConfig(), out=tmp_path)


def test_a_diverging_loss_is_named(tiny_model: Path) -> None:
    student, ledger, pool = make(tiny_model, 1e10)
    pairs = referred(student, [tokenized(student, preference) for preference in preferences(pool, 4)], ledger)
    with torch.no_grad():
        student.trainable[0].fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"dpo diverged: its loss became nan at learning_rate 0\.0001"):
        optimise_directly(student, pairs, ledger, config=DPOConfig(), rng=np.random.default_rng(0))


def test_memory_that_runs_out_on_the_last_flops_ends_it_and_keeps_what_was_learnt(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failed attempt is charged, so that the batch cannot be paid for again."""
    student, ledger, pool = make(tiny_model, 1e10)
    pairs = referred(student, [tokenized(student, preference) for preference in preferences(pool, 4)], ledger)
    price = update_flops(student, [example for pair in pairs for example in pair.examples])
    ledger.train_flops = ledger.spent() + 2.5 * price
    done: list[int] = []

    def limited(*given: Any) -> torch.Tensor:
        losses = pair_losses(*given)
        done.append(len(given[1]))
        if len(done) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses

    monkeypatch.setattr(baselines.direct, "pair_losses", limited)
    assert optimise_directly(student, pairs, ledger, config=DPOConfig(batch_size=4), rng=np.random.default_rng(0)) >= 1
    assert done[:2] == [4, 4]
    assert ledger.spent() <= ledger.train_flops
    assert not student.model.training


@pytest.mark.parametrize("method", [DPO, RLHF])
def test_a_pool_that_cannot_compare_is_refused_before_anything_is_spent(tiny_model: Path, tmp_path: Path, method: type[DPO | RLHF]) -> None:
    (tmp_path / "demos.jsonl").write_text('{"prompt": "Say a.", "completion": "a"}\n')
    config = DatasetPoolConfig.model_validate({"demonstrations": {"source": f"file:{tmp_path / 'demos.jsonl'}"}})
    student, ledger, _ = make(tiny_model, 3e10)
    pool = DatasetPool(config, ledger=ledger, rng=generator("test"), ngrams=frozenset())
    with pytest.raises(SpecError, match=r"pool.config.preferences: this pool has no annotators"):
        method().train(student, pool, ledger, rng=generator("dpo"), config=method.Config(), out=tmp_path)  # type: ignore[arg-type]
    assert ledger.spent() == 0
