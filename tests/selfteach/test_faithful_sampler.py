from __future__ import annotations

import numpy as np
import pytest
import torch
from test_faithful_train import Barren, Priced, train

from harness.core.budget import Ledger
from selfteach.corpus import manifest
from selfteach.elimination import Context, Kept, Limits
from selfteach.faithful.quirks import FaithfulConfig, Quirks
from selfteach.faithful.sampler import Eliminator, Generated, generate_faithful, overrule
from selfteach.faithful.train import FINISHED, SPENT, FaithfulRun
from selfteach.stubs import StubEncoder, StubExecutor, stub_seeds

TRAINED = train()


def generate(quirks: Quirks | None = None, *, run: FaithfulRun = TRAINED, seed: int = 0, n: int = 40, **options: object) -> Generated:
    config = FaithfulConfig(quirks=quirks or Quirks())
    options = {"executor": StubExecutor(), "ledger": Ledger(), **options}
    return generate_faithful(run.policy, stub_seeds(n), config=config, rng=np.random.default_rng(seed), **options)


def operations(generated: Generated) -> np.ndarray:
    return np.array([entry.operation for entry in generated.entries]).reshape(-1, 6)


def test_six_chained_steps_a_seed_unanswered() -> None:
    generated = generate(n=40)
    assert generated.ended == FINISHED
    assert len(generated.entries) == 240
    assert len({entry.id for entry in generated.entries}) == 240
    for start in range(0, 240, 6):
        chain = generated.entries[start : start + 6]
        assert {entry.seed_id for entry in chain} == {f"stub-{start // 6}"}
        assert [entry.parent_id for entry in chain] == [chain[0].seed_id, *[entry.id for entry in chain[:-1]]]
        assert [step.operation for step in chain[-1].lineage] == ["seed", *[entry.operation for entry in chain]]
        assert all(generated.instructions[entry.id].text == entry.instruction == entry.lineage[-1].text for entry in chain)
        assert all(entry.kept and entry.response is None and entry.verified is None for entry in chain)
    assert {entry.step for entry in generated.entries} == {TRAINED.policy.updates}
    assert manifest(generated.entries)["answered"] == 0


def test_sampler_overrules_the_policy() -> None:
    chosen = np.array([0, 1, 2, 3, 4, 5])
    config = FaithfulConfig()
    for time in range(6):
        expected = [0] * 6 if time in (1, 4) else [1, 1, 2, 3, 4, 5]
        assert overrule(chosen, time, config).tolist() == expected
    free = FaithfulConfig(quirks=Quirks().without("forced_breadth"))
    assert overrule(chosen, 1, free).tolist() == [1, 1, 2, 3, 4, 5]
    plain = FaithfulConfig(quirks=Quirks().without("breadth_replaced"))
    assert overrule(chosen, 0, plain).tolist() == chosen.tolist()
    assert overrule(chosen, 4, plain).tolist() == [0] * 6


def test_breadth_at_the_forced_steps_and_only_there() -> None:
    done = operations(generate())
    assert (done[:, [1, 4]] == "breadth").all()
    assert not (done[:, [0, 2, 3, 5]] == "breadth").any()
    tilted = (done[:, [0, 2, 3, 5]] == "add_constraint").mean()
    level = (operations(generate(Quirks().without("constraint_bonus")))[:, [0, 2, 3, 5]] == "add_constraint").mean()
    assert tilted > level + 0.1


def test_normaliser_is_lost_or_not_and_left_as_it_was() -> None:
    run = train()
    with torch.no_grad():
        run.policy.actor.mean[-1].weight.mul_(30)
    before = run.policy.state_dict()
    lost = operations(generate(run=run))
    kept = operations(generate(Quirks().without("normaliser_lost"), run=run))
    assert not np.array_equal(lost, kept)
    after = run.policy.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_without_normaliser_there_is_nothing_to_lose() -> None:
    quirks = Quirks().without("running_normaliser")
    run = train(FaithfulConfig(environment_steps=60, quirks=quirks))
    again = operations(generate(quirks.without("normaliser_lost"), run=run))
    assert np.array_equal(operations(generate(quirks, run=run)), again)


def test_failed_operations_are_rejects() -> None:
    generated = generate(n=2, executor=Barren())
    assert len(generated.entries) == 12
    assert generated.instructions == {}
    assert {entry.reject_reason for entry in generated.entries} == {"executor: no further constraint fits"}
    assert {entry.parent_id for entry in generated.entries} == {"stub-0", "stub-1"}


def test_elimination_where_it_is_not_off() -> None:
    def eliminator() -> Eliminator:
        return Eliminator(StubEncoder(), Context(Kept(), Limits(), lambda text: "deepen" in text))

    kept = generate(n=20, eliminator=eliminator())
    assert all(entry.kept for entry in kept.entries)
    generated = generate(Quirks().without("no_elimination"), n=20, eliminator=eliminator())
    rejected = [entry for entry in generated.entries if not entry.kept]
    assert rejected
    assert all((entry.operation == "deepen") == (not entry.kept) for entry in generated.entries)
    assert {entry.reject_reason for entry in rejected} == {"contaminated"}
    assert {entry.id for entry in generated.entries if entry.kept} == set(generated.instructions)
    assert not {entry.id for entry in rejected} & {entry.parent_id for entry in generated.entries}


@pytest.mark.parametrize(("share", "ended"), [(7.5e7, SPENT), (np.inf, "budget refused")])
def test_generation_ends_in_budget(share: float, ended: str) -> None:
    ledger, run = Ledger(1e8), train()
    run.policy.attach(ledger)
    price = 0.0 if share == np.inf else 1.1e6
    generated = generate(run=run, n=100, executor=Priced(ledger, 1e6), ledger=ledger, max_flops=share, attempt_flops=price)
    assert generated.ended.startswith(ended)
    assert ledger.spent() <= min(share, 1e8)
    assert len(generated.entries) > 60
    assert len(generated.entries) < 100


def test_same_seed_same_generation() -> None:
    assert np.array_equal(operations(generate(seed=1)), operations(generate(seed=1)))
    assert not np.array_equal(operations(generate(seed=1)), operations(generate(seed=2)))
