"""Methods of this repository in two parts: gone on with from files, they end exactly as they do in one go."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from harness.core import parts, plugins
from harness.core.budget import Ledger
from harness.core.records import Instruction, Verification
from harness.core.spec import Adaptation
from harness.instructions.reasoning import TRAIN_FAMILIES
from harness.models.embed import Embedder
from harness.models.student import Student
from harness.seeds import generator
from harness.study import prepared
from tasks.dataset_pool import DatasetPool, DatasetPoolConfig
from tasks.pool import MixedPool, MixedPoolConfig

BUDGET = 6e9
EVOLVING = {"environment": {"lineages": 3, "horizon": 2}, "responder": {"instruction_tokens": 6, "reasoning_tokens": 6, "samples": 2}}
PREFERRING = {"max_new_tokens": 6, "finetune": {"batch_size": 4}}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "selfteach": ("selfteach", EVOLVING, {"finetune": {"learning_rate": 1e-2, "batch_size": 4}}),
    "evol_instruct": ("evol_instruct", EVOLVING, {"finetune": {"learning_rate": 1e-2}}),
    "rlhf": ("rlhf", PREFERRING, {"algorithm": "ppo", "prompts_per_step": 2, "learning_rate": 1e-3}),
    "rlhf body": ("rlhf", PREFERRING | {"reward": {"train_body": True}}, {"algorithm": "grpo", "prompts_per_step": 2}),
    "rlaif": ("rlaif", PREFERRING, {"prompts_per_step": 2, "kl_coefficient": 0.2}),
    "dpo": ("dpo", PREFERRING, {"beta": 0.3, "batch_size": 3}),
}


class LetterEncoder:
    """Counts of letters, unit norm, at a price."""

    def attach(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def encode(self, texts: list[str]) -> np.ndarray:
        with self.ledger.use_phase("embed"):
            self.ledger.charge("encoder", 1e4 * len(texts), len(texts))
        rows = np.array([[text.count(letter) + 0.1 for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts], dtype=np.float32)
        found: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return found


@dataclass
class Place:
    """A student, a pool and a ledger that have not met yet."""

    student: Student
    pool: MixedPool
    ledger: Ledger

    def result(self, out: Path) -> dict[str, Any]:
        """All that a trial leaves, apart from clock times."""
        rows = [{key: value for key, value in row.items() if key not in ("wall_s", "energy_j")} for row in self.ledger.rows()]
        curves = [(point.curve, point.step, point.train_flops, point.value) for point in self.ledger.curves]
        held_out = self.pool.held_out(5, rng=generator("held out"))
        files = {path.name: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
        weights = {name: weight.detach().clone() for name, weight in self.student.model.named_parameters() if weight.requires_grad}
        found = {"rows": rows, "curves": curves, "counters": self.ledger.counters, "notes": self.ledger.notes, "held_out": held_out}
        return found | {"trained_on": list(self.student.trained_on), "files": files, "weights": weights, "reports": self.pool.reports()}


def place(tiny_model: Path, kind: str = "lora") -> Place:
    ledger = Ledger(BUDGET)
    student = Student.load(f"file:{tiny_model}", adaptation=Adaptation.model_validate({"kind": kind, "rank": 4, "dropout": 0.2}), seed=0)
    student.attach(ledger)
    config = MixedPoolConfig.model_validate({"families": ["gcd", "chain_sum"], "constraint_share": 0.3, "seed_demonstrations": 6})
    torch.manual_seed(0)
    return Place(student, MixedPool(config, ledger=ledger, rng=generator("pool"), ngrams=frozenset()), ledger)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No downloads, and random replies pass, so that there is a corpus."""
    monkeypatch.setattr(Embedder, "load", classmethod(lambda cls, source: LetterEncoder()))
    monkeypatch.setattr(MixedPool, "verify", lambda self, instruction, response: Verification(len(response) % 3 > 0, 1.0))
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


@pytest.mark.parametrize("case", list(CASES))
def test_what_goes_on_from_files_ends_as_what_was_never_interrupted(tiny_model: Path, tmp_path: Path, case: str) -> None:
    name, first, later = CASES[case]
    method = plugins.load("methods", name)
    config = method.Config(**{**first, **later})
    alone, out = place(tiny_model, "full" if case == "rlhf body" else "lora"), tmp_path / "alone"
    method().train(alone.student, alone.pool, alone.ledger, rng=generator("method"), config=config, out=out)
    expected = alone.result(out)
    assert 0.9 * BUDGET < alone.ledger.spent() <= BUDGET

    begun, stage = place(tiny_model, "full" if case == "rlhf body" else "lora"), tmp_path / "prepare"
    (stage / prepared.MADE).mkdir(parents=True)
    # Whoever shares it may have other settings for what comes later.
    other = parts.first_config(method, method.Config(**first))
    assert other == parts.first_config(method, config)
    method().begin(begun.student, begun.pool, begun.ledger, rng=generator("method"), config=other, out=stage / prepared.MADE)
    begun_flops = begun.ledger.spent()
    prepared.save(stage, begun.student, begun.pool, begun.ledger, kept=[], ended_by="")
    torch.manual_seed(99)

    ended, out = place(tiny_model, "full" if case == "rlhf body" else "lora"), tmp_path / "shared"
    torch.manual_seed(98)
    taken = prepared.resume(stage, ended.student, ended.pool, ended.ledger, out)
    assert taken.train_flops == begun_flops > 0
    method().finish(ended.student, ended.pool, ended.ledger, rng=generator("method"), config=config, out=out)
    found = ended.result(out)
    weights, wanted = found.pop("weights"), expected.pop("weights")
    assert found == expected
    assert all(torch.equal(weights[name], wanted[name]) for name in wanted)
    moved = [name for name, weight in begun.student.model.named_parameters() if name in wanted and not torch.equal(weight, wanted[name])]
    assert moved, "the second part trains"


@pytest.mark.parametrize("name", ["selfteach", "evol_instruct", "rlhf", "rlaif", "dpo"])
def test_what_the_first_part_reads_is_no_later_setting_and_its_share_is_one(name: str) -> None:
    method = plugins.load("methods", name)
    config = method.Config()
    assert 0 < method.first_share(config) < 1
    assert parts.first_config(method, config) == config, "defaults stay"


@pytest.mark.parametrize("change", [{"evolve_share": 0.4}, {"policy": "bandit"}, {"environment": {"lineages": 2}}])
def test_another_corpus_is_another_first_part(change: dict[str, Any]) -> None:
    method = plugins.load("methods", "selfteach")
    first = parts.first_config(method, method.Config())
    assert parts.first_config(method, method.Config(**change)) != first
    assert parts.first_config(method, method.Config(finetune={"learning_rate": 5e-4})) == first


def test_a_ledger_goes_on_exactly_where_another_stopped() -> None:
    passed: list[float] = []
    first = Ledger(100.0)
    first.watch([10.0, 50.0], passed.append)
    with first.use_phase("generate"):
        first.charge("b", 0.1, 3)
        first.charge("a", 30.2, 4, 1)
    first.count("comparisons", 2)
    first.observe("loss", float("nan"))
    first.observe("loss", 0.5)
    first.note("left out")
    assert passed == [10.0]
    state = json.loads(json.dumps(first.state()))
    second = Ledger(100.0)
    second.watch([10.0, 50.0], passed.append)
    second.resume(state)
    assert second.rows() == first.rows()
    assert (second.spent(), second.remaining(), second.counters, second.notes) == (
        first.spent(),
        first.remaining(),
        first.counters,
        ["left out"],
    )
    assert second.wall_s() >= state["wall_s"]
    second.charge("a", 30.0, 1)
    assert passed == [10.0, 50.0], "each mark once"
    second.observe("loss", 0.4)
    assert [point.step for point in second.curves] == [1, 2, 3]
    with pytest.raises(AssertionError, match="fresh ledger"):
        second.resume(state)


def test_instructions_of_every_family_survive_json(tiny_model: Path) -> None:
    """What the pool has compared goes through JSON, payloads of generators included."""
    from dataclasses import asdict

    rng = generator("families")
    config = MixedPoolConfig.model_validate({"families": list(TRAIN_FAMILIES), "constraint_share": 0.3})
    pool = MixedPool(config, ledger=Ledger(), rng=rng, ngrams=frozenset())
    for instruction in [pool._draw(rng) for _ in range(200)]:
        assert Instruction.from_row(json.loads(json.dumps(asdict(instruction)))) == instruction


def test_a_dataset_pool_deals_on_where_another_stopped(tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {n} plus 2?", "completion": str(n + 2)} for n in range(30)]
    pd.DataFrame(rows).to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    config = DatasetPoolConfig.model_validate({"demonstrations": {"source": f"file:{tmp_path / 'rows.jsonl'}"}, "seed_demonstrations": 4})

    def pool() -> DatasetPool:
        return DatasetPool(config, ledger=Ledger(), rng=generator("pool"), ngrams=frozenset())

    first, second, new = pool(), pool(), pool()
    rng = generator("deal")
    first.seeds()
    first.demonstrations(7, rng=rng)
    second.restore(json.loads(json.dumps(first.state())))
    drawn = [each.demonstrations(30, rng=generator("on")) for each in (first, second, new)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert first.held_out(3, rng=generator("h")) == second.held_out(3, rng=generator("h")) == []
    assert second.seeds() == first.seeds()
    assert second._ledger.counters["demonstrations"] == 26 - 7, "seeds and what was dealt before are counted already"
