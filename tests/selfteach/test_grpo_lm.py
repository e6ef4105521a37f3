from __future__ import annotations

import logging
import random
import string
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import huggingface_hub.utils._telemetry as telemetry
import numpy as np
import pytest
import torch
from stand_ins import HashingEncoder, make_seeds
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harness.core.budget import Ledger
from harness.core.records import Completion, Instruction, Message
from harness.core.spec import Adaptation
from harness.models.student import Student
from selfteach.corpus import Entry, Reward
from selfteach.environment import Environment, EnvironmentConfig
from selfteach.evolve import BARREN_EPISODES, SPENT, Evolution
from selfteach.grpo_lm.config import GrpoConfig
from selfteach.grpo_lm.evolve import MARGIN, POLICY_FOLDER, evolve_by_language, train_writer
from selfteach.grpo_lm.judge import EnvironmentJudge, Judgement
from selfteach.grpo_lm.writer import Writer
from selfteach.operations import OPERATIONS
from selfteach.roles import Answer

SMALL = GrpoConfig(parents=2, group=4, max_new_tokens=12, temperature=1.0, learning_rate=1e-2, kl_weight=0.04, rank=4)


class LetterJudge:
    """Rewards small letters; charges a price a reply, as answering would."""

    def __init__(self, ledger: Ledger | None = None, *, price: float = 0.0, complete: bool = True, valid: bool = True) -> None:
        self.ledger, self.price, self.complete, self.valid = ledger, price, complete, valid
        self.limits: list[float] = []
        self.texts: list[str] = []

    def prompts(self, parents: int, *, rng: np.random.Generator) -> list[list[Message]]:
        return [[{"role": "user", "content": f"write {index}" * (index + 1)}] for index in range(parents)]

    def judge(self, replies_P_G: Sequence[Sequence[Completion]], *, update: int, max_flops: float, rng: np.random.Generator) -> Judgement:
        texts = [reply.text for replies_G in replies_P_G for reply in replies_G]
        self.limits.append(max_flops)
        self.texts += texts
        if self.ledger is not None:
            self.ledger.charge("answers", self.price, 0)
        rewards_N = [sum(letter in string.ascii_lowercase for letter in text) / 12 for text in texts]
        entries = [_entry(f"{update}-{place}", reward, valid=self.valid) for place, reward in enumerate(rewards_N)]
        return Judgement(np.array(rewards_N, np.float32).reshape(len(replies_P_G), -1), entries, self.complete)


def _entry(name: str, learnability: float, *, valid: bool) -> Entry:
    reward = Reward(float(valid), float(valid), learnability)
    return Entry(name, "s", "p", (), "breadth", "f", name, (), "yes", True, "consistency", valid, None, reward, 4, 0.5, 1)


def load(model: Path, ledger: Ledger, kind: str = "lora") -> Student:
    student = Student.load(f"file:{model}", adaptation=Adaptation(kind=kind, rank=4), seed=0)
    student.attach(ledger)
    return student


def train(
    model: Path, out: Path, ledger: Ledger, judge: LetterJudge, config: GrpoConfig = SMALL, *, seed: int = 0, **options: object
) -> tuple[Evolution, Writer]:
    writer = Writer(load(model, ledger), ledger, rank=config.rank, rng=np.random.default_rng(seed))
    options.setdefault("max_flops", np.inf)
    return train_writer(writer, judge, ledger, config=config, rng=np.random.default_rng(seed), out=out, **options), writer


def curve(ledger: Ledger, name: str) -> list[float]:
    return [point.value for point in ledger.curves if point.curve == name]


def test_learns_what_is_rewarded(tiny_model: Path, tmp_path: Path) -> None:
    ledger = Ledger()
    config = SMALL.model_copy(update={"group": 16, "learning_rate": 0.1, "kl_weight": 0.0})
    evolution, _ = train(tiny_model, tmp_path, ledger, LetterJudge(), config, max_updates=20)
    rewards = curve(ledger, "reward")
    assert evolution.updates == len(rewards) == 20
    assert np.mean(rewards[-5:]) > 1.5 * np.mean(rewards[:5])


@pytest.mark.parametrize("kl_weight", [0.0, 0.04])
def test_charges_what_torch_counts(tiny_model: Path, tmp_path: Path, kl_weight: float) -> None:
    ledger = Ledger()
    config = SMALL.model_copy(update={"kl_weight": kl_weight})
    # The counter knows neither the CPU's fused attention nor the in-place product in the backward of TRL's fused head.
    missing = {torch.ops.aten.addmm_: lambda total, left, right, **_: 2 * left[0] * left[1] * right[1]}
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=missing) as counter:
        train(tiny_model, tmp_path, ledger, LetterJudge(), config, max_updates=2)
    assert ledger.spent() == pytest.approx(counter.get_total_flops(), rel=0.02)
    spent = {row["phase"]: row["flops"] for row in ledger.rows() if row["flops"]}
    assert spent.keys() == {"execute", "policy"}
    kl = curve(ledger, "policy kl")
    assert len(kl) == (2 if kl_weight else 0)
    if kl:
        # The first update starts from the reference.
        assert kl[0] == pytest.approx(0, abs=1e-6) != kl[1] > 0


def test_bounds_hold_and_are_near(tiny_model: Path, tmp_path: Path) -> None:
    ledger, judge = Ledger(), LetterJudge()
    _, writer = train(tiny_model, tmp_path, ledger, judge, max_updates=1)
    spent = {row["phase"]: row["flops"] for row in ledger.rows() if row["flops"]}
    conversations = judge.prompts(2, rng=np.random.default_rng(0))
    limits = {"n": SMALL.group, "max_new_tokens": SMALL.max_new_tokens}
    assert 0.5 < spent["execute"] / writer.write_bound_flops(conversations, **limits) <= 1
    assert 0.8 < spent["policy"] / writer.update_bound_flops(conversations, **limits, reference=True) <= 1


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_student_stays_as_it_is(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    ledger = Ledger()
    student = load(tiny_model, ledger, kind)
    before = {name: (weight.clone(), weight.requires_grad) for name, weight in student.model.named_parameters()}
    config, modules = student.model.config.to_dict(), [name for name, _ in student.model.named_modules()]
    head = student.model.get_output_embeddings().weight
    writer = Writer(student, ledger, rank=4, rng=np.random.default_rng(0))
    train_writer(writer, LetterJudge(), ledger, config=SMALL, max_flops=np.inf, rng=np.random.default_rng(0), out=tmp_path, max_updates=2)
    assert writer.student.model.get_output_embeddings().weight.data_ptr() == head.data_ptr()
    after = dict(student.model.named_parameters())
    assert after.keys() == before.keys()
    for name, (weight, trainable) in before.items():
        assert torch.equal(after[name], weight)
        assert after[name].requires_grad == trainable
        assert after[name].grad is None
    assert student.model.config.to_dict() == config
    assert [name for name, _ in student.model.named_modules()] == modules
    assert any(weight.any() for name, weight in writer.student.model.named_parameters() if "lora_B" in name)
    spent = ledger.spent()
    ids = torch.tensor([[1, 2, 3]], device=student.device)
    assert student.model(input_ids=ids).logits.shape == (1, 3, 101)
    assert ledger.spent() > spent


def test_a_fresh_writer_writes_as_the_student_would(tiny_model: Path) -> None:
    ledger = Ledger()
    student = load(tiny_model, ledger)
    writer = Writer(student, ledger, rank=4, rng=np.random.default_rng(0))
    conversations = LetterJudge().prompts(2, rng=np.random.default_rng(0))
    written = writer.write(conversations, n=3, max_new_tokens=8, temperature=1.0, rng=np.random.default_rng(1))
    seed = int(np.random.default_rng(1).integers(2**31))
    assert written.completions_P_G == student.generate(conversations, n=3, max_new_tokens=8, temperature=1.0, seed=seed)


def test_ends_within_its_share(tiny_model: Path, tmp_path: Path) -> None:
    ledger, judge = Ledger(), LetterJudge()
    train(tiny_model, tmp_path, ledger, judge, max_updates=1)
    step_flops = ledger.spent()
    ledger, share = Ledger(100 * step_flops), 5 * step_flops
    judge = LetterJudge(ledger, price=step_flops / 2)
    evolution, _ = train(tiny_model, tmp_path, ledger, judge, max_flops=share)
    assert evolution.ended == SPENT
    assert evolution.updates >= 2
    assert share - 1.5 * MARGIN * ledger.spent() / evolution.updates < ledger.spent() <= share
    # What answers may cost leaves room for the update.
    assert all(limit < share - step_flops / 2 for limit in judge.limits)


def test_too_small_a_share_buys_nothing(tiny_model: Path, tmp_path: Path) -> None:
    ledger = Ledger(1e9)
    evolution, _ = train(tiny_model, tmp_path, ledger, LetterJudge(), max_flops=1e5)
    assert (evolution.ended, evolution.updates, evolution.entries) == (SPENT, 0, [])
    assert ledger.spent() == 0


def test_a_refused_charge_keeps_what_was_made(tiny_model: Path, tmp_path: Path) -> None:
    trial = Ledger()
    train(tiny_model, tmp_path, trial, LetterJudge(), max_updates=1)
    ledger = Ledger(1.8 * trial.spent())
    evolution, _ = train(tiny_model, tmp_path, ledger, LetterJudge(ledger, price=0.2 * trial.spent()), max_flops=10 * trial.spent())
    assert evolution.ended.startswith("budget refused")
    assert evolution.updates == 1
    assert len(evolution.entries) == 16
    assert ledger.spent() <= ledger.train_flops


def test_no_update_on_rewards_that_compute_cut_short(tiny_model: Path, tmp_path: Path) -> None:
    evolution, writer = train(tiny_model, tmp_path, Ledger(), LetterJudge(complete=False), max_updates=3)
    assert (evolution.ended, evolution.updates, len(evolution.entries)) == (SPENT, 0, 8)
    assert not any(weight.any() for name, weight in writer.student.model.named_parameters() if "lora_B" in name)


def test_ends_when_nothing_survives(tiny_model: Path, tmp_path: Path) -> None:
    evolution, _ = train(tiny_model, tmp_path, Ledger(), LetterJudge(valid=False), max_updates=9)
    assert evolution.updates == BARREN_EPISODES
    assert "survived" in evolution.ended


def test_same_seed_same_texts(tiny_model: Path, tmp_path: Path) -> None:
    judges = [LetterJudge() for _ in range(3)]
    for judge, seed in zip(judges, (1, 1, 2), strict=True):
        train(tiny_model, tmp_path, Ledger(), judge, seed=seed, max_updates=1)
    assert judges[0].texts == judges[1].texts != judges[2].texts


def test_leaves_no_trace(tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(telemetry, "_start_telemetry_thread", lambda: calls.append("telemetry"))
    monkeypatch.chdir(tmp_path)
    load(tiny_model, Ledger())
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    expected = random.random(), np.random.random(), float(torch.rand(()))
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    level = logging.getLogger("trl").level
    capfd.readouterr()
    train(tiny_model, tmp_path / "out", Ledger(), LetterJudge(), max_updates=2)
    assert (random.random(), np.random.random(), float(torch.rand(()))) == expected
    assert capfd.readouterr() == ("", "")
    assert calls == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert list((tmp_path / "out").iterdir()) == []
    assert logging.getLogger("trl").level == level


class Answerer:
    """Solves two samples in four of what has an even length."""

    def remember(self, instruction: Instruction, response: str, embedding: np.ndarray) -> None:
        pass

    def answer(
        self, instructions: Sequence[Instruction], *, embeddings_N_D: np.ndarray, max_flops: float, rng: np.random.Generator
    ) -> list[Answer | None]:
        solved = [len(instruction.text) % 2 == 0 for instruction in instructions]
        return [Answer(4, 2 if each else 0, "yes" if each else None, "consistency") for each in solved]


def environment(**config: object) -> Environment:
    settings = EnvironmentConfig(**{"horizon": 3, "rouge_l": 1.0, "cosine": 1.0, **config})
    return Environment(
        make_seeds(), OPERATIONS, _NeverAsked(), HashingEncoder(), Answerer(), lambda text: False, settings, must_verify=False
    )


class _NeverAsked:
    def apply_batch(self, *args: object, **options: object) -> list[object]:
        raise AssertionError("the environment's own executor has nothing to do")


def replies(*groups: Sequence[str]) -> list[list[Completion]]:
    return [[Completion(text, len(text), True) for text in group] for group in groups]


def test_siblings_share_a_parent_and_one_that_was_solved_goes_on() -> None:
    judge, rng = EnvironmentJudge(environment(), max_new_tokens=64), np.random.default_rng(0)
    assert all("Describe" in turns[-1]["content"] for turns in judge.prompts(2, rng=rng))
    made = replies(["Tell of xylophones", "Tell of zebra crosses"], ["Sing of kings", "Sing of kings"])
    judgement = judge.judge(made, update=1, max_flops=np.inf, rng=rng)
    texts = [entry.instruction for entry in judgement.entries]
    assert texts == ["Tell of xylophones", "Tell of zebra crosses", "Sing of kings", "Sing of kings"]
    parents = [entry.parent_id for entry in judgement.entries]
    assert parents[0] == parents[1] != parents[2] == parents[3]
    assert len({entry.id for entry in judgement.entries}) == 4
    operations = [entry.operation for entry in judgement.entries]
    assert operations[0] == operations[1]
    assert set(operations) <= set(OPERATIONS)
    assert judgement.rewards_P_G.shape == (2, 2)
    assert judgement.rewards_P_G[0, 0] > 0 == judgement.rewards_P_G[0, 1]
    assert judgement.entries[3].reject_reason == "duplicate"
    # The first group goes on with the one that was solved, the second stays where it was.
    second = judge.prompts(2, rng=rng)
    assert "Tell of xylophones" in second[0][-1]["content"]
    assert judgement.entries[2].lineage[0].text in second[1][-1]["content"]
    judgement = judge.judge(replies(["Tell of trains"] * 2, ["Sing of queens!"] * 2), update=2, max_flops=np.inf, rng=rng)
    assert [step.text for step in judgement.entries[0].lineage[1:]] == ["Tell of xylophones", "Tell of trains"]


def test_lineages_start_afresh_after_the_horizon() -> None:
    judge, rng = EnvironmentJudge(environment(horizon=2), max_new_tokens=64), np.random.default_rng(0)
    depths = []
    for update in range(4):
        judge.prompts(1, rng=rng)
        text = f"Text number {update} {'ab'[update % 2] * 3}!"
        judgement = judge.judge(replies([text, "?"]), update=update, max_flops=np.inf, rng=rng)
        depths.append(len(judgement.entries[0].lineage) - 1)
    assert depths == [1, 2, 1, 2]


def test_what_the_executor_rejects_earns_nothing() -> None:
    judge, rng = EnvironmentJudge(environment(), max_new_tokens=8), np.random.default_rng(0)
    judge.prompts(1, rng=rng)
    cut = replace(replies(["Tell of cut"])[0][0], finished=False)
    judgement = judge.judge([[cut, *replies(["", "I am sorry"])[0]]], update=1, max_flops=np.inf, rng=rng)
    assert not judgement.rewards_P_G.any()
    assert [entry.reject_reason for entry in judgement.entries] == [
        "executor: cut off by the limit",
        "executor: empty reply",
        "executor: refusal",
    ]


def test_evolves_by_language_end_to_end(tiny_model: Path, tmp_path: Path) -> None:
    ledger = Ledger(2e10)
    student, world = load(tiny_model, ledger), environment()
    usual = world.executor
    evolution = evolve_by_language(
        world, student, ledger, config=SMALL, max_flops=1.5e10, rng=np.random.default_rng(0), out=tmp_path / "stage"
    )
    assert evolution.updates >= 2
    assert len(evolution.entries) == 8 * evolution.updates
    assert any(entry.kept for entry in evolution.entries)
    assert 8e9 < ledger.spent() <= 1.5e10
    assert world.executor is usual
    assert [path.name for path in (tmp_path / "stage").iterdir()] == [POLICY_FOLDER]
    assert not any(path.is_dir() for path in (tmp_path / "stage" / POLICY_FOLDER).iterdir())
    restored = Student.restore(tmp_path / "stage" / POLICY_FOLDER)
    ids = torch.tensor([[1, 2, 3, 4]], device=student.device)
    assert not torch.allclose(restored.model(input_ids=ids).logits, student.model(input_ids=ids).logits, atol=1e-4)
    assert {"reward", "validity", "novelty", "corpus size", "policy kl", "policy entropy"} <= {point.curve for point in ledger.curves}


def test_trls_statistics_go_to_the_ledgers_tracker_and_change_nothing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Board:
        spent_s = 0.0

        def __init__(self) -> None:
            self.rows: list[tuple[float, dict[str, float]]] = []

        def ready(self) -> list[str]:
            return ["tensorboard"]

        def log(self, values: dict[str, float], train_flops: float) -> None:
            self.rows.append((train_flops, dict(values)))

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    weights = []
    for board in (None, Board()):
        ledger = Ledger()
        ledger.tracker = board
        _, writer = train(tiny_model, tmp_path / str(len(weights)), ledger, LetterJudge(ledger), max_updates=2)
        weights.append([weight.detach().clone() for weight in writer.student.trainable])
    for before, after in zip(*weights, strict=True):
        torch.testing.assert_close(before, after, rtol=0, atol=0)
    assert board is not None
    steps = [(flops, values) for flops, values in board.rows if "policy/loss" in values]
    assert len(steps) == 2
    assert 0 < steps[0][0] < steps[1][0]
    assert {"policy/kl", "policy/entropy", "policy/grad_norm"} <= steps[0][1].keys()
    assert [values["reward"] for _, values in board.rows if "reward" in values] == curve(ledger, "reward")
    assert not list(tmp_path.rglob("events.out*")), "TRL opens no tracker of its own"


def test_no_trainer_reports_where_nobody_asked(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", "http://127.0.0.1:9")  # transformers would add a tracker by itself
    asked: list[str] = []
    monkeypatch.setattr("transformers.integrations.integration_utils.KubeflowCallback.__init__", lambda self: asked.append("built"))
    monkeypatch.setattr(
        "transformers.integrations.integration_utils.KubeflowCallback.on_train_begin", lambda *_, **__: asked.append("called")
    )
    ledger = Ledger()
    train(tiny_model, tmp_path, ledger, LetterJudge(ledger), max_updates=1)
    assert asked == ["built"]
