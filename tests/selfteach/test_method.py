from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from stand_ins import HashingEncoder, LetterPool, make_seeds

from harness.core.budget import Ledger
from harness.core.spec import Adaptation
from harness.errors import SpecError
from harness.models.embed import Embedder
from harness.models.finetune import FinetuneConfig
from harness.models.student import Student
from harness.seeds import generator
from selfteach.config import EvolConfig, SelfTeachConfig
from selfteach.corpus import read_corpus
from selfteach.environment import EnvironmentConfig
from selfteach.faithful.quirks import FaithfulConfig
from selfteach.method import EvolInstruct, SelfTeach
from selfteach.operations import OPERATIONS
from selfteach.policies.make import make
from selfteach.policy import restore_policy
from selfteach.respond.config import ResponderConfig
from selfteach.training import drawn, training_examples

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
"""peft 0.21 still reads the attribute that transformers 5.23 renamed."""

BUDGET = 1e9
LONGER = 3e9
"""For what a few updates do not show."""
SMALL = {
    "environment": EnvironmentConfig(lineages=3, horizon=2, rouge_l=1.0, cosine=1.0),
    "finetune": FinetuneConfig(learning_rate=1e-2),
    "responder": ResponderConfig(instruction_tokens=8, reasoning_tokens=8),
}


@pytest.fixture(autouse=True)
def no_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Embedder, "load", classmethod(lambda cls, source: HashingEncoder(flops_per_text=1e4)))


class Trained:
    def __init__(
        self,
        model: Path,
        out: Path,
        method: type = SelfTeach,
        *,
        seed: int = 0,
        never: bool = False,
        budget: float = BUDGET,
        **config: object,
    ):
        self.ledger, self.out = Ledger(budget), out
        self.student = Student.load(f"file:{model}", adaptation=Adaptation(rank=4), seed=seed)
        self.before = {name: weight.clone() for name, weight in self.student.model.named_parameters() if weight.requires_grad}
        self.pool = LetterPool(self.ledger, never=never)
        settings = method.Config(**{**SMALL, **config})
        returned = method().train(self.student, self.pool, self.ledger, rng=generator("method", seed), config=settings, out=out)
        assert returned is self.student
        self.entries = read_corpus(out / "corpus.jsonl")
        self.manifest = json.loads((out / "manifest.json").read_text())

    @property
    def moved(self) -> bool:
        return any(
            not torch.equal(weight, self.before[name]) for name, weight in self.student.model.named_parameters() if name in self.before
        )


@pytest.fixture(scope="module")
def selfteach(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Embedder, "load", classmethod(lambda cls, source: HashingEncoder(flops_per_text=1e4)))
        return Trained(tiny_model, tmp_path_factory.mktemp("selfteach"), budget=LONGER)


def test_spends_the_budget_within_two_percent(selfteach: Trained) -> None:
    assert 0.98 * LONGER <= selfteach.ledger.spent() <= LONGER


@pytest.mark.parametrize("method", [SelfTeach, EvolInstruct])
def test_a_budget_too_small_for_one_step_is_an_error(tiny_model: Path, tmp_path: Path, method: type) -> None:
    """Embedding the seeds is paid for, so something has been spent, and still the student is as it was."""
    with pytest.raises(SpecError, match=r"budget.train_flops: too small for one step of fine-tuning"):
        Trained(tiny_model, tmp_path, method, budget=3e5)


def test_the_share_for_evolving_is_kept(selfteach: Trained) -> None:
    update = sum(row["flops"] for row in selfteach.ledger.rows() if row["phase"] == "update")
    assert 0.48 < update / LONGER < 0.7


def test_the_student_learns_and_the_policy_is_saved(selfteach: Trained) -> None:
    assert selfteach.moved
    losses = [point.value for point in selfteach.ledger.curves if point.curve == "loss"]
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:5])
    assert selfteach.manifest["policy_updates"] >= 2
    policy = make("ppo", state_size=32 + 7 + 4, actions=(*OPERATIONS, "stop"), rng=np.random.default_rng(1))
    restore_policy(policy, selfteach.out / "policy.safetensors")


def test_kept_entries_are_verified_and_become_examples(selfteach: Trained) -> None:
    kept = [entry for entry in selfteach.entries if entry.kept]
    assert kept
    assert all(entry.verified and entry.response and entry.pass_rate for entry in kept)
    assert all(entry.reject_reason for entry in selfteach.entries if not entry.kept)
    examples = training_examples(make_seeds(), selfteach.entries)
    assert len(examples) == len(make_seeds()) + len(kept) == selfteach.manifest["training_examples"]
    assert examples[-1] == ([{"role": "user", "content": kept[-1].instruction}], kept[-1].response)


def test_the_manifest_counts(selfteach: Trained) -> None:
    assert selfteach.manifest["counters"] == selfteach.ledger.counters
    assert selfteach.manifest["counters"]["demonstrations"] == len(make_seeds())
    assert selfteach.manifest["counters"]["verifications"] > 0
    assert selfteach.manifest["note"] is None
    assert selfteach.manifest["phases"]["generate:model0"]["tokens"] > 0
    assert selfteach.manifest["endpoints"] == {}
    assert (
        sum(selfteach.manifest["rejected_samples"].values())
        + sum(round(entry.samples * entry.pass_rate) for entry in selfteach.entries if entry.pass_rate is not None)
        == selfteach.manifest["response_samples"]
    )
    assert {"policy", "embed", "generate"} <= {key.split(":")[0] for key in selfteach.manifest["phases"]}


def test_same_seed_same_corpus_and_weights(tiny_model: Path, tmp_path: Path) -> None:
    first, again = Trained(tiny_model, tmp_path / "first"), Trained(tiny_model, tmp_path / "again")
    assert again.entries == first.entries
    assert Trained(tiny_model, tmp_path / "other", seed=1).entries != first.entries
    weights = dict(first.student.model.named_parameters())
    assert first.moved
    assert all(torch.equal(weight, weights[name]) for name, weight in again.student.model.named_parameters())


def test_the_control_differs_in_the_policy_alone(tiny_model: Path, tmp_path: Path) -> None:
    control = Trained(tiny_model, tmp_path, EvolInstruct)
    assert 0.98 * BUDGET <= control.ledger.spent() <= BUDGET
    assert control.manifest["policy"] == "random"
    assert not any(row["phase"] == "policy" and row["flops"] for row in control.ledger.rows())
    assert EvolConfig().model_dump().items() <= SelfTeachConfig().model_dump().items()
    assert SelfTeachConfig().model_dump().keys() - EvolConfig().model_dump().keys() == {"policy", "mdp", "faithful", "grpo"}
    entropies = [point.value for point in control.ledger.curves if point.curve == "operation entropy"]
    assert max(entropies) > 1.0
    assert SelfTeach.name != EvolInstruct.name


@pytest.mark.parametrize("policy", ["trpo", "bandit"])
def test_other_policies_train_too(tiny_model: Path, tmp_path: Path, policy: str) -> None:
    trained = Trained(tiny_model, tmp_path, policy=policy)
    assert trained.manifest["policy_updates"] >= 2
    assert (tmp_path / "policy.safetensors").is_file()


def test_a_fixed_policy_and_fewer_operations_do_what_they_say(tiny_model: Path, tmp_path: Path) -> None:
    operations = ("breadth", "add_constraint")
    fixed = Trained(tiny_model, tmp_path / "fixed", policy="fixed:deepen")
    assert {entry.operation for entry in fixed.entries} == {"deepen"}
    fewer = Trained(tiny_model, tmp_path / "fewer", policy="random", operations=operations)
    assert {entry.operation for entry in fewer.entries} == set(operations)


def test_consistency_alone_calls_no_verifier(tiny_model: Path, tmp_path: Path) -> None:
    responder = ResponderConfig(instruction_tokens=8, reasoning_tokens=8, verification="consistency", samples=6)
    trained = Trained(tiny_model, tmp_path, responder=responder)
    assert trained.manifest["counters"]["verifications"] == 0
    assert {entry.verified_by for entry in trained.entries} <= {None, "consistency"}
    assert math.isclose(trained.ledger.spent(), BUDGET, rel_tol=0.02)


def test_the_faithful_mdp_trains_generates_answers_and_fine_tunes(tiny_model: Path, tmp_path: Path) -> None:
    trained = Trained(tiny_model, tmp_path, mdp="faithful", faithful=FaithfulConfig(environment_steps=24), budget=LONGER)
    assert trained.manifest["policy_updates"] == 4
    assert trained.manifest["policy"] == "faithful"
    assert len(trained.entries) == 6 * len(make_seeds())
    steps = [entry.operation for entry in trained.entries if entry.seed_id == trained.entries[0].seed_id]
    assert (steps[1], steps[4]) == ("breadth", "breadth")
    assert "breadth" not in (steps[0], steps[2], steps[3], steps[5])
    assert any(entry.kept and entry.response for entry in trained.entries)
    assert all(entry.reject_reason for entry in trained.entries if not entry.kept)
    assert math.isclose(trained.ledger.spent(), LONGER, rel_tol=0.02)
    assert (tmp_path / "policy.safetensors").is_file()


def test_a_language_model_executor_needs_no_verifier(tiny_model: Path, tmp_path: Path) -> None:
    responder = ResponderConfig(instruction_tokens=8, reasoning_tokens=8, verification="either")
    trained = Trained(tiny_model, tmp_path, executor="student", executor_tokens=8, reviewer="student", responder=responder)
    assert trained.manifest["cast"] == {"executor": "student", "reviewer": "student", "responder": "student"}
    assert trained.manifest["counters"]["queries"] == 0
    assert any(row["phase"] == "execute" and row["flops"] for row in trained.ledger.rows())
    assert trained.ledger.spent() <= BUDGET


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"policy": "pop"}, "ppo"),
        ({"policy": "fixed:deepn"}, "deepen"),
        ({"policy": "fixed:deepen", "operations": ["breadth"]}, "deepen"),
        ({"executor": "student"}, "verification"),
        ({"policy": "grpo_lm"}, "verification"),
        ({"policy": "grpo_lm", "executor": "student", "responder": {"verification": "either"}}, "no executor"),
        ({"grpo": {"group": 4}}, "policy: grpo_lm"),
        ({"mdp": "faithful", "policy": "bandit"}, "its own"),
        ({"faithful": {"quirks": {"tiny_kl": False}}}, "mdp: faithful"),
        ({"embedder": "minilm"}, "minilm-l6-v2"),
        ({"environment": {"reward_terms": ["novelty", "novelty"]}}, "once"),
        ({"operations": ["bredth"]}, "breadth"),
        ({"operations": ["breadth", "breadth"]}, "once"),
        ({"mdp": "faithful", "operations": ["breadth"]}, "all six"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SelfTeachConfig.model_validate(settings)


def test_without_a_verified_response_the_seeds_alone_train(tiny_model: Path, tmp_path: Path) -> None:
    trained = Trained(tiny_model, tmp_path, never=True)
    assert trained.manifest["note"] == "nothing was accepted: fine-tuned on the seeds alone"
    assert trained.manifest["kept"] == 0
    assert trained.moved
    assert trained.ledger.spent() >= 0.98 * BUDGET


def test_a_budget_too_small_to_evolve_still_trains(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Embedder, "load", classmethod(lambda cls, source: HashingEncoder(flops_per_text=1e9)))
    trained = Trained(tiny_model, tmp_path, budget=1e8)
    assert trained.moved
    assert trained.entries == []
    assert trained.manifest["ended"].startswith("budget refused")
    assert not (tmp_path / "policy.safetensors").exists()
    assert trained.ledger.spent() <= 1e8


def test_the_tune_account_is_charged_like_the_train_account(tiny_model: Path, tmp_path: Path) -> None:
    ledger = Ledger(BUDGET, account="tune", bound="tune")
    student = Student.load(f"file:{tiny_model}", adaptation=Adaptation(rank=4), seed=0)
    SelfTeach().train(student, LetterPool(ledger), ledger, rng=generator("method", 0), config=SelfTeachConfig(**SMALL), out=tmp_path)
    assert ledger.spent("train") == 0
    assert math.isclose(ledger.spent("tune"), BUDGET, rel_tol=0.02)
    told = json.loads((tmp_path / "manifest.json").read_text())["phases"]
    assert told["generate:model0"]["flops"] > 0


def test_corpus_size_draws_kept_entries_smaller_draws_within_larger_ones(selfteach: Trained) -> None:
    kept = [entry for entry in selfteach.entries if entry.kept]
    draws = [drawn(selfteach.entries, size, rng=generator("draw", 3)) for size in (1, 3, len(kept), None)]
    assert [len(draw) for draw in draws] == [1, 3, len(kept), len(kept)]
    assert draws[3] == kept
    ids = [{entry.id for entry in draw} for draw in draws]
    assert ids[0] < ids[1] < ids[2]
    assert [entry.id for entry in draws[1]] == [entry.id for entry in kept if entry.id in ids[1]], "in their order"
    assert len({drawn(selfteach.entries, 1, rng=generator("draw", seed))[0].id for seed in range(20)}) > 1


def test_a_corpus_size_trains_on_so_many_and_leaves_evolving_alone(tiny_model: Path, tmp_path: Path, selfteach: Trained) -> None:
    cut = Trained(tiny_model, tmp_path, budget=LONGER, corpus_size=2)
    assert cut.entries == selfteach.entries
    assert cut.manifest["training_examples"] == len(make_seeds()) + 2
    assert cut.ledger.spent() >= 0.98 * LONGER


def test_settings_that_are_not_used_leave_no_trace_in_ids() -> None:
    """Ids of finished runs hash the completed configuration; this is the one that studies/quickstart.yaml trains with."""
    config = {"evolve_share": 0.4, "environment": {"lineages": 12}, "responder": {"reasoning_tokens": 10, "instruction_tokens": 40}}
    assert "corpus_size" not in SelfTeachConfig.model_validate(config).model_dump(mode="json")
    assert SelfTeachConfig.model_validate(config | {"corpus_size": 5}).model_dump(mode="json")["corpus_size"] == 5


def test_configs_are_strict() -> None:
    with pytest.raises(ValidationError, match="polcy"):
        SelfTeachConfig(polcy="ppo")
    with pytest.raises(ValidationError, match="policy"):
        EvolConfig(policy="ppo")
    with pytest.raises(ValidationError, match="horizon"):
        SelfTeachConfig(environment={"horizon": 0})
