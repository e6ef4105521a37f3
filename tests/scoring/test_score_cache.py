"""The cache of log-likelihoods: right after any change, shared between processes, clear when damaged."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from test_engine import FakeStudent, letter_tokenizer, requests, tiny_llama

from harness.errors import StoreError
from harness.scoring.engine import StudentEngine
from harness.scoring.prefix import Score
from harness.scoring.score_cache import FILE, ScoreCache

TEXTS = [("the end", " is"), ("the end", " of it"), ("abc", "de")]


def counted(engine: StudentEngine) -> list[int]:
    sizes: list[int] = []
    assert engine.shares
    engine.model.model.register_forward_pre_hook(lambda _, args, kwargs: sizes.append(kwargs["input_ids"].numel()), with_kwargs=True)
    return sizes


def test_a_second_run_computes_nothing_and_new_requests_alone(tmp_path: Path) -> None:
    model = tiny_llama()
    first = StudentEngine(FakeStudent(model, letter_tokenizer()), dtype="float32", cache=tmp_path).loglikelihood(requests(TEXTS))
    seen: list[tuple[int, int]] = []
    again = StudentEngine(
        FakeStudent(model, letter_tokenizer()), dtype="float32", cache=tmp_path, progress=lambda done, total: seen.append((done, total))
    )
    sizes = counted(again)
    assert again.loglikelihood(requests(TEXTS)) == first
    assert (sizes, seen[-1]) == ([], (3, 3))
    again.loglikelihood(requests([*TEXTS, ("xyz", "a")]))
    assert sizes == [3]


def change_weight(engine: StudentEngine) -> None:
    with torch.no_grad():
        engine.model.model.layers[0].mlp.up_proj.weight[0, 0] += 0.5


def swap_weights(engine: StudentEngine) -> None:
    with torch.no_grad():
        weight = engine.model.model.layers[0].mlp.up_proj.weight
        weight[[0, 1]] = weight[[1, 0]]


def change_config(engine: StudentEngine) -> None:
    engine.model.config.rms_norm_eps = 0.1


def change_dtype(engine: StudentEngine) -> None:
    engine.dtype = torch.bfloat16


@pytest.mark.parametrize("change", [change_weight, swap_weights, change_config, change_dtype])
def test_nothing_is_found_after_a_change(tmp_path: Path, change: Any) -> None:
    engine = StudentEngine(FakeStudent(tiny_llama(), letter_tokenizer()), dtype="float32", cache=tmp_path)
    engine.loglikelihood(requests(TEXTS))
    sizes = counted(engine)
    change(engine)
    changed = engine.loglikelihood(requests(TEXTS))
    assert sum(sizes) > 0
    fresh = StudentEngine(engine.student, dtype="float32" if engine.dtype == torch.float32 else "bfloat16")
    assert changed == fresh.loglikelihood(requests(TEXTS))


def test_contexts_and_continuations_do_not_run_together(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path)
    cache.keep("mark", {((1, 2), (3,)): Score(-1.0, True)})
    assert cache.find("mark", [((1,), (2, 3)), ((1, 2), (3,)), ((1, 2, 3), ())]) == {((1, 2), (3,)): Score(-1.0, True)}
    assert cache.find("other mark", [((1, 2), (3,))]) == {}


def test_two_writers_at_once(tmp_path: Path) -> None:
    """SQLite locks the file between connections, in one process as in two."""

    def write() -> None:
        cache = ScoreCache(tmp_path)
        for start in range(0, 100, 10):
            cache.keep("m", {((i,), (1,)): Score(-float(i), False) for i in range(start, start + 10)})

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(write) for _ in range(2)]:
            done.result()
    found = ScoreCache(tmp_path).find("m", [((i,), (1,)) for i in range(100)])
    assert found == {((i,), (1,)): Score(-float(i), False) for i in range(100)}


def test_a_damaged_file_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database, but long enough to be taken for one" * 50)
    with pytest.raises(StoreError, match="delete it"):
        ScoreCache(tmp_path)
