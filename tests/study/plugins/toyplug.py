"""A third party's plug-ins, small enough for tests: an untouched base, real fine-tuning on toy sums, and a suite of toy questions."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from harness.core.parts import train_in_parts
from harness.core.records import Demonstration, Instruction
from harness.errors import BudgetExceeded
from harness.models.finetune import FinetuneConfig, finetune
from harness.scoring.suites import Suite, Task
from harness.seeds import stream_from, stream_state

CORPUS_ROW = {
    "id": "1", "seed_id": "s", "parent_id": "s", "lineage": [{"operation": "deepen", "text": "a\u2028b"}], "operation": "deepen",
    "family": "sum", "instruction": "a line\u2028inside", "constraints": [], "response": "2", "verified": True, "kept": True,
    "reject_reason": None, "reward": {"validity": 1.0, "novelty": 1.0, "learnability": 1.0, "total": 1.0}, "samples": 1, "pass_rate": 1.0,
    "step": 1,
}  # fmt: skip


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ToyBase:
    name = "toy_base"
    summary = "the student as it is"
    seedless = True
    Config = _Config

    def train(self, student, pool, ledger, *, rng, config, out):
        return student


class ToyConfig(_Config):
    learning_rate: float = 3e-3
    fail: str = ""
    """Raise this."""
    kill_file: str = ""
    """Kill the worker as often as the number in this file says."""
    disk_full: bool = False
    idle: bool = False
    """Spend nothing."""
    parts: list[str] = ["a", "b", "c"]
    """Nothing reads it: for sweeps that drop one element at a time."""


class ToySFT:
    name = "toy_sft"
    summary = "fine-tuning on sums"
    Config = ToyConfig

    def train(self, student, pool, ledger, *, rng, config, out):
        if config.disk_full:
            raise RuntimeError("while saving") from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if config.fail:
            raise RuntimeError(config.fail)
        if config.idle:
            return student
        if config.kill_file and Path(config.kill_file).exists():
            left = int(Path(config.kill_file).read_text()) - 1
            Path(config.kill_file).write_text(str(left)) if left else Path(config.kill_file).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        examples = [([{"role": "user", "content": shown.instruction.text}], shown.response) for shown in pool.demonstrations(64, rng=rng)]
        (out / "corpus.jsonl").write_text(json.dumps(CORPUS_ROW, ensure_ascii=False) + "\n", encoding="utf-8")
        while ledger.affords(0.02 * ledger.train_flops):
            try:
                finetune(student, examples, ledger, config=FinetuneConfig(learning_rate=config.learning_rate), rng=rng, max_flops=None)
            except BudgetExceeded:
                break
            wait_for("TOY_TRAIN_WAIT")
        return student


class ToyPartsConfig(_Config):
    first: float = 0.3
    """Share of the budget for the first part."""
    learning_rate: float = 3e-3
    begin_fails: bool = False


class ToyParts:
    """Fine-tuning in two parts; says in a file how often the first was begun."""

    name = "toy_parts"
    summary = "fine-tuning on sums, in two parts"
    Config = ToyPartsConfig
    later = ("learning_rate",)

    @staticmethod
    def first_share(config):
        return config.first

    def train(self, student, pool, ledger, *, rng, config, out):
        return train_in_parts(self, student, pool, ledger, rng=rng, config=config, out=out)

    def begin(self, student, pool, ledger, *, rng, config, out):
        assert config.learning_rate == 3e-3, "later settings are at their defaults"
        if config.begin_fails:
            raise RuntimeError("no first part")
        wait_for("TOY_BEGIN_WAIT")
        if "TOY_BEGINS" in os.environ:
            with Path(os.environ["TOY_BEGINS"]).open("a") as file:
                file.write("begun\n")
        shown = pool.demonstrations(16, rng=rng)
        examples = [([{"role": "user", "content": one.instruction.text}], one.response) for one in shown]
        (out / "examples.json").write_text(json.dumps(examples))
        finetune(student, examples, ledger, config=FinetuneConfig(), rng=rng, max_flops=config.first * ledger.train_flops)

    def finish(self, student, pool, ledger, *, rng, config, out):
        examples = [(turns, response) for turns, response in json.loads((out / "examples.json").read_text())]
        examples += [([{"role": "user", "content": one.instruction.text}], one.response) for one in pool.demonstrations(4, rng=rng)]
        finetune(student, examples, ledger, config=FinetuneConfig(learning_rate=config.learning_rate), rng=rng, must_step=True)
        return student


def wait_for(variable):
    """Waits while the file that an environment variable names exists; says that it waits by touching <file>.there."""
    path = os.environ.get(variable)
    if path and Path(path).exists():
        Path(f"{path}.there").touch()
        while Path(path).exists():
            time.sleep(0.05)


class ToyPoolConfig(_Config):
    families: list[str] = ["vowels", "consonants"]


class ToyPool:
    Config = ToyPoolConfig
    family_task = ("toy_validation", "toy_letters")

    def __init__(self, config, *, ledger, rng, ngrams):
        self.config, self.ledger, self.rng, self.ngrams = config, ledger, rng, ngrams

    def state(self):
        return {"rng": stream_state(self.rng)}

    def restore(self, state):
        self.rng = stream_from(state["rng"])

    @staticmethod
    def families(config):
        return config.families

    @staticmethod
    def without(config, family):
        return ToyPoolConfig(families=[name for name in config.families if name != family])

    def held_out(self, n, *, rng):
        return [Demonstration(Instruction(f"held-{i}", "toy_pool", "sum", f"{i}+99", f"{i}+99"), str(i + 99)) for i in range(n)]

    def demonstrations(self, n, *, rng):
        self.ledger.count("demonstrations", n)
        pairs = self.rng.integers(0, 5, size=(n, 2))
        return [
            Demonstration(Instruction(f"sum-{a}-{b}", "toy_pool", "sum", f"{a}+{b}", f"{a}+{b}"), str(a + b)) for a, b in pairs.tolist()
        ]


TOY_SUITE = Suite(
    "toy_suite",
    "which letter follows",
    (Task("toy_letters", "acc", "choice", chance=0.5, limit=12), Task("toy_digits", "acc", "choice", chance=0.5, limit=12)),
    include_path=Path(__file__).parent / "toytasks",
)
TOY_VALIDATION = Suite(
    "toy_validation",
    "letters again, as the pool's validation split",
    (Task("toy_letters", "acc", "choice", chance=0.5, limit=8),),
    include_path=Path(__file__).parent / "toytasks",
    evaluation=False,
)
