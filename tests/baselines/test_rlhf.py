"""RLHF's parts on a tiny random student: the reward model ranks what can be ranked, noise and shuffling hurt it, the budget is met."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.config import RewardConfig
from baselines.preferences import collect_preferences, tokenized
from baselines.reward_model import RewardModel, fit, pair_flops, split_by_prompt
from baselines.rlhf import RLHF, RLHFConfig
from harness.core.budget import Ledger
from harness.core.pool import TaskPool
from harness.core.records import Preference
from harness.core.spec import Adaptation
from harness.errors import SpecError
from harness.models.examples import TokenizedExample
from harness.models.student import Student
from harness.seeds import generator
from tasks.pool import MixedPool, MixedPoolConfig


def make(tiny_model: Path, flops: float, seed: int = 0) -> tuple[Student, Ledger, TaskPool]:
    ledger = Ledger(flops)
    student = Student.load(f"file:{tiny_model}", adaptation=Adaptation(), seed=seed)
    student.attach(ledger)
    config = MixedPoolConfig(families=["gcd", "chain_sum"], constraint_share=0.2, seed_demonstrations=6)
    return student, ledger, MixedPool(config, ledger=ledger, rng=generator("test", seed), ngrams=frozenset())


def separable(pool: TaskPool, n: int, rng: np.random.Generator) -> list[Preference]:
    """Replies that end in z are always preferred."""
    return [Preference(prompt, "good z", "good b") for prompt in pool.prompts(n, rng=rng)]


@pytest.mark.parametrize("train_body", [False, True])
def test_the_reward_model_ranks_held_out_pairs(tiny_model: Path, train_body: bool) -> None:
    student, ledger, pool = make(tiny_model, 1e13)
    rng = np.random.default_rng(0)
    config = RewardConfig(train_body=train_body, epochs=4, learning_rate=1e-2)
    model = RewardModel(student, config)
    model.attach(ledger)
    found = fit(model, separable(pool, 60, rng), ledger, config=config, rng=rng)
    assert len(found.held_out) == 9
    assert found.held_out_accuracy > 0.85
    assert {row["phase"] for row in ledger.rows() if row["model"] == "reward model" and row["flops"]} == {"reward"}


@pytest.mark.parametrize(
    ("prompts", "held_out_pairs"),
    [(list("abcdefghijklmnopqrst"), 3), (list("aabbccddeeffgghhiijj"), 2), (list("aaaaaaaaab"), 1), (list("aaab"), 1), (list("ab"), 1)],
)
def test_no_prompt_is_on_both_sides(prompts: list[str], held_out_pairs: int) -> None:
    for seed in range(20):
        held_out, train = split_by_prompt(prompts, 0.15, rng=np.random.default_rng(seed))
        assert sorted(held_out + train) == list(range(len(prompts)))
        assert not {prompts[place] for place in held_out} & {prompts[place] for place in train}
        assert len(held_out) == held_out_pairs


def test_pairs_of_a_single_prompt_are_split_among_themselves() -> None:
    held_out, train = split_by_prompt(["a"] * 10, 0.3, rng=np.random.default_rng(0))
    assert (len(held_out), len(train)) == (3, 7)
    assert sorted(held_out + train) == list(range(10))


def test_memorised_prompts_are_not_taken_for_accuracy(tiny_model: Path) -> None:
    """Every prompt has five pairs with one verdict of its own, so whoever has seen the prompt knows it: held-out ones are guessed."""
    student, ledger, pool = make(tiny_model, 1e13)
    rng = np.random.default_rng(0)
    pairs = []
    for prompt in pool.prompts(24, rng=rng):
        one, other = "".join(rng.choice(list("acdefgh"), 6)), "".join(rng.choice(list("acdefgh"), 6))
        pairs += [Preference(prompt, one, other)] * 5
    config = RewardConfig(held_out_share=0.5, ridge=0.1)
    found = fit(RewardModel(student, config), pairs, ledger, config=config, rng=rng)
    assert len(found.held_out) == 60
    assert found.held_out_accuracy < 0.85


def test_shuffled_labels_teach_the_reward_model_nothing(tiny_model: Path) -> None:
    student, ledger, pool = make(tiny_model, 1e13)
    rng = np.random.default_rng(0)
    pairs = [
        Preference(pair.instruction, *((pair.chosen, pair.rejected) if rng.random() < 0.5 else (pair.rejected, pair.chosen)))
        for pair in separable(pool, 120, rng)
    ]
    model = RewardModel(student, RewardConfig())
    found = fit(model, pairs, ledger, config=RewardConfig(held_out_share=0.5), rng=rng)
    assert abs(found.held_out_accuracy - 0.5) < 0.2


def test_preferences_are_counted_and_leave_room_for_the_reward_model(tiny_model: Path) -> None:
    student, ledger, pool = make(tiny_model, 1e12)
    config = RLHFConfig(max_new_tokens=8)
    preferences = collect_preferences(
        student,
        pool,
        ledger,
        max_flops=2e10,
        price=lambda pair: pair_flops(student, pair, config.reward),
        config=config,
        rng=np.random.default_rng(0),
    )
    assert ledger.counters["comparisons"] == len(preferences.pairs) >= 2
    model = RewardModel(student, RewardConfig())
    model.attach(ledger)
    fit(model, preferences.pairs, ledger, config=config.reward, rng=np.random.default_rng(0))
    assert 0.4 * 2e10 < ledger.spent() < 1.1 * 2e10


@pytest.mark.parametrize("algorithm", ["rloo", "ppo", "grpo"])
def test_the_whole_method_meets_its_budget_and_pays_for_every_phase(tiny_model: Path, tmp_path: Path, algorithm: str) -> None:
    student, ledger, pool = make(tiny_model, 2e10)
    config = RLHFConfig(algorithm=algorithm, max_new_tokens=8, prompts_per_step=2)  # type: ignore[arg-type]
    RLHF().train(student, pool, ledger, rng=generator("rlhf"), config=config, out=tmp_path)
    assert 0.98 * 2e10 < ledger.spent() <= 2e10
    paid = {row["phase"] for row in ledger.rows() if row["flops"] > 0}
    assert paid == {"generate", "reward", "reference", "update"}
    written = json.loads((tmp_path / "reward_model.json").read_text())
    assert written["train_pairs"] + written["held_out_pairs"] == written["pairs"] == ledger.counters["comparisons"]
    assert written["source"] == "annotators"
    assert {point.curve for point in ledger.curves} >= {"loss", "rlhf_reward", "rlhf_kl", "reward_model_loss", "ptx_loss"}


@pytest.mark.parametrize(
    ("flops", "message"),
    [(1e6, "one step"), (1e8, "two preference pairs"), (6e8, "the reward model on 8 pairs"), (1e9, "do not pay for a step of rloo")],
)
def test_a_budget_too_small_for_a_part_says_for_which(tiny_model: Path, tmp_path: Path, flops: float, message: str) -> None:
    student, ledger, pool = make(tiny_model, flops)
    with pytest.raises(SpecError, match=rf"budget\.train_flops: too small.*{message}"):
        RLHF().train(student, pool, ledger, rng=generator("rlhf"), config=RLHFConfig(), out=tmp_path)


def labels_with(flips: float, pool: TaskPool, n: int, rng: np.random.Generator) -> list[Preference]:
    """Pairs of random letters told apart by their last one, a share of which is labelled the other way round."""
    noise = ["".join(rng.choice(list("acdefgh"), 6)) for _ in range(2 * n)]
    pairs = [Preference(one, f"{noise[2 * i]}z", f"{noise[2 * i + 1]}b") for i, one in enumerate(pool.prompts(n, rng=rng))]
    return [Preference(pair.instruction, pair.rejected, pair.chosen) if rng.random() < flips else pair for pair in pairs]


def test_noisier_labels_make_a_worse_reward_model(tiny_model: Path) -> None:
    """Few pairs, so that noise is not averaged away: accuracy on clean pairs falls from none to .25 to .5, where it is at chance."""
    student, _, pool = make(tiny_model, 1e13)
    rng = np.random.default_rng(0)
    clean = [tokenized(student, pair) for pair in labels_with(0.0, pool, 60, rng)]
    accuracy = []
    for flips in (0.0, 0.25, 0.5):
        found = []
        for _ in range(6):
            model = RewardModel(student, RewardConfig())
            fit(model, labels_with(flips, pool, 24, rng), Ledger(1e13), config=RewardConfig(), rng=rng)
            with torch.no_grad():
                margin_B = model([chosen for chosen, _ in clean]) - model([rejected for _, rejected in clean])
            found.append(float((margin_B > 0).float().mean()))
        accuracy.append(float(np.mean(found)))
    assert accuracy[0] > 0.9
    assert accuracy[0] > accuracy[1] + 0.02
    assert accuracy[1] > accuracy[2] + 0.1
    assert abs(accuracy[2] - 0.5) < 0.3


def test_accuracy_beats_chance_by_a_margin_that_chance_does_not_reach(tiny_model: Path) -> None:
    """40 held-out pairs: chance gives .66 or more in under 3 % of cases."""
    student, ledger, pool = make(tiny_model, 1e13)
    rng = np.random.default_rng(0)
    config = RewardConfig(held_out_share=0.5)
    found = fit(RewardModel(student, config), labels_with(0.1, pool, 80, rng), ledger, config=config, rng=rng)
    assert len(found.held_out) == 40
    assert found.held_out_accuracy > 0.66
    assert found.held_out_accuracy == np.mean([margin > 0 for margin in found.margins])


def test_a_reward_model_is_paid_for_by_one_ledger(tiny_model: Path) -> None:
    student, ledger, pool = make(tiny_model, 1e13)
    model = RewardModel(student, RewardConfig())
    model.attach(ledger)
    other = Ledger(1e13)
    model.attach(other)
    model.score([tokenized(student, pair)[0] for pair in labels_with(0.0, pool, 2, np.random.default_rng(0))])
    assert ledger.spent() == 0
    assert other.spent() > 0


def test_short_memory_leaves_the_reward_model_as_it_would_be(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student, ledger, pool = make(tiny_model, 1e13)
    pairs = separable(pool, 20, np.random.default_rng(0))
    config = RewardConfig(train_body=True, learning_rate=1e-3)
    whole = RewardModel.features
    heads = []
    for rows in (99, 6):
        model = RewardModel(student, config)

        def limited(self: RewardModel, examples: Sequence[TokenizedExample], most: int = rows) -> torch.Tensor:
            if len(examples) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return whole(self, examples)

        monkeypatch.setattr(RewardModel, "features", limited)
        fit(model, pairs, ledger, config=config, rng=np.random.default_rng(0))
        heads.append(model.head.weight.detach().clone())
    assert any("were split" in note for note in ledger.notes)
    assert torch.allclose(heads[0], heads[1], atol=0.1 * float(heads[0].abs().max()))
