"""The queue of stages against the plain rule: whatever is ready, most urgent first; nothing after a failure."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.store import RunStore
from harness.study.plan import Stage
from harness.study.schedule import Ended, Executor, _chain_seconds, _Queue
from harness.study.worker import StageResult
from tests.study.cheap_stages import Watcher


def stage(name: str, *inputs: str) -> Stage:
    return Stage(name, "train", name, 0, inputs, {})


def tangle(n: int, seed: int) -> list[Stage]:
    """Stages that each build on up to three earlier ones."""
    rng = np.random.default_rng(seed)
    found: list[Stage] = []
    for index in range(n):
        upstream = rng.choice(index, size=min(index, int(rng.integers(4))), replace=False) if index else []
        found.append(stage(f"s{index:03}", *(f"s{place:03}" for place in sorted(map(int, upstream)))))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_the_queue_hands_out_what_the_plain_rule_would(seed: int) -> None:
    stages, rng = tangle(60, seed), np.random.default_rng(seed)
    priority = _chain_seconds(stages, {one.id: float(rng.random()) for one in stages})
    done = {"s000"}
    queue = _Queue([one for one in stages if one.id not in done], done, priority)
    pending, failed = {one.id: one for one in stages if one.id not in done}, set[str]()
    while queue.waiting:
        ready = [one for one in pending.values() if set(one.inputs) <= done]
        expected = sorted(ready, key=lambda one: (-priority[one.id], one.id))[:3]
        taken = queue.take(3)
        assert [one.id for one in taken] == [one.id for one in expected]
        for one in taken:
            del pending[one.id]
            if rng.random() < 0.1:
                failed.add(one.id)
                dropped = queue.drop_after(one)
                while hopeless := {name for name, other in pending.items() if set(other.inputs) & (failed | dropped)}:
                    assert hopeless <= dropped
                    for name in hopeless:
                        del pending[name]
                assert not dropped & pending.keys()
            elif rng.random() < 0.1:
                queue.put_back(one)
                pending[one.id] = one
            else:
                done.add(one.id)
                queue.finished(one)
    assert not pending


def test_ten_thousand_chains_take_no_longer_each_than_a_hundred() -> None:
    """Counted, not timed: how often a stage's inputs are looked at."""
    stages = [one for n in range(10_000) for one in (stage(f"t{n}"), stage(f"z{n}", f"t{n}"))]
    queue = _Queue(stages, set(), _chain_seconds(stages, {one.id: 1.0 for one in stages}))
    handed_out = 0
    while queue.waiting:
        for one in queue.take(2):
            handed_out += 1
            queue.finished(one)
    assert handed_out == 20_000


class Scripted(Executor):
    """An engine without workers: `answer` is called for each stage handed out, with its id and the how-many-eth time it is."""

    def __init__(self, root: Path, answer: Callable[[RunStore, str, int], StageResult]) -> None:
        super().__init__(RunStore(root), threads=1)
        self.store.make()
        self.answer, self.submitted = answer, list[str]()
        self._pending: list[str] = []

    def session(self) -> AbstractContextManager[None]:
        return nullcontext()

    def free(self, ready: int) -> int:
        return ready

    def submit(self, stage: Stage, task: Any) -> None:
        self.submitted.append(stage.id)
        self._pending.append(stage.id)

    def collect(self, timeout_s: float) -> list[Ended]:
        pending, self._pending = self._pending, []
        return [Ended(name, self.answer(self.store, name, self.submitted.count(name))) for name in pending]


def publish(store: RunStore, name: str) -> StageResult:
    return StageResult(name, store.write_stage(name, lambda folder: {"wall_s": 0.0}))


def run(executor: Executor, *stages: Stage) -> tuple[Any, Watcher]:
    watcher = Watcher()
    seconds = {one.id: 1.0 for one in stages}
    return executor.run(stages, done=set(), seconds=seconds, task_for=lambda one: None, observer=watcher), watcher


def test_a_success_counts_only_if_the_stage_is_there(tmp_path: Path) -> None:
    def answer(store: RunStore, name: str, time: int) -> StageResult:
        return publish(store, name) if name != "lies" and (name, time) != ("late", 1) else StageResult(name, {"wall_s": 1.0})

    executor = Scripted(tmp_path, answer)
    outcome, watcher = run(executor, stage("lies"), stage("late"), stage("good"), stage("after", "lies"))
    assert outcome.finished == {"late", "good"}
    assert outcome.blocked == {"after"}
    assert outcome.failed["lies"].startswith("it is said to be done, but is not in the run's folder, 2 times; workers must see")
    assert executor.submitted.count("late") == 2
    assert watcher.told.count(("killed", "lies")) == 2
