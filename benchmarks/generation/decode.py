"""What a cache that grows in place would save: `python benchmarks/generation/decode.py [--repeats 5] [--threads 2]` (SmolLM2-135M, CPU).

Too little to keep: the cache lives here, not in harness. Seconds of `generate_tokens` (greedy, no end token, so that the work is fixed)
with transformers' dynamic cache, which copies all keys and values to append a token, and with one whose layers have room and write the
token alone; in turn within every repeat. Wall seconds, and processor seconds, which a busy machine disturbs less. Replies must be equal.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from harness.models import generation
from harness.models.student import Student

ROOM = 64
"""Positions added when a layer's room is used up."""


class GrowingLayer(DynamicLayer):
    """A layer's keys and values (B, heads, T, head_dim), views of tensors with room for more positions."""

    _layer_type = None

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends along T; returns all keys and values."""
        before = self.get_seq_length()
        length = before + key_states.shape[2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if before == 0 or length > self._room[0].shape[2]:
            self._room = tuple(
                _with_room(held, new, before, length) for held, new in ((self.keys, key_states), (self.values, value_states))
            )
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, before:length] = new
        self._look(length)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keeps the rows `indices`."""
        length = self.get_seq_length()
        self._room = tuple(room[indices] for room in self._room)
        self._look(length)

    def _look(self, length: int) -> None:
        self.keys, self.values = (room[:, :, :length] for room in self._room)


def _with_room(held: torch.Tensor, new: torch.Tensor, before: int, length: int) -> torch.Tensor:
    rows, heads, _, size = new.shape
    room = new.new_empty(rows, heads, length + ROOM, size)
    if before:
        room[:, :, :before] = held
    return room


def growing_cache(config: Any) -> DynamicCache:
    """A dynamic cache whose layers grow in place."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer() for _ in cache.layers]
    return cache


CACHES: dict[str, Callable[[Any], DynamicCache]] = {"copying": lambda config: DynamicCache(config=config), "growing": growing_cache}
CONTEXTS = {"short": (0, 40), "few-shot": (220, 40)}
"""Tokens of the prefix that all prompts share, and of the prompts."""


def generate(student: Student, cache: str, batch: int, context: str, new_tokens: int) -> tuple[float, float, list[list[list[int]]]]:
    """Wall and processor seconds, and the replies."""
    make = CACHES[cache]
    generation.DynamicCache = lambda config: make(config)
    shared, own = CONTEXTS[context]
    numbers = torch.Generator().manual_seed(0)
    drawn = torch.randint(300, 40_000, (batch, own), generator=numbers).tolist()
    prompts = [row[: own - at % 8] for at, row in enumerate(drawn)]  # padded, as prompts of tasks are
    prefix = torch.randint(300, 40_000, (shared,), generator=numbers).tolist()
    with student.autocast(), torch.inference_mode():
        started, used = time.perf_counter(), time.process_time()
        replies = generation.generate_tokens(
            student.model, prompts, prefixes=[prefix] * batch, n=1, max_new_tokens=new_tokens, temperature=0.0, seed=0, eos_ids=[],
            pad_id=student.pad_id,
        )  # fmt: skip
        return time.perf_counter() - started, time.process_time() - used, replies


def main() -> None:
    """Prints the median seconds and the median of the paired ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 48, 64])
    parser.add_argument("--contexts", choices=CONTEXTS, nargs="+", default=list(CONTEXTS))
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    student = Student.load("smollm2-135m-instruct", adaptation=None, seed=0)
    student.model.eval()
    for context in options.contexts:
        for batch in options.batches:
            found: dict[str, list[tuple[float, float, list[list[list[int]]]]]] = {name: [] for name in CACHES}
            for repeat in range(options.repeats + 1):
                for name in CACHES if repeat % 2 else reversed(CACHES):
                    found[name].append(generate(student, name, batch, context, options.new_tokens))
            assert found["copying"][0][2] == found["growing"][0][2], "replies differ"
            wall, used = ([[run[clock] for run in found[name][1:]] for name in CACHES] for clock in (0, 1))
            ratios = [statistics.median(a / b for a, b in zip(*seconds, strict=True)) for seconds in (wall, used)]
            copying_s, growing_s = (statistics.median(seconds) for seconds in wall)
            print(
                f"{context:9} batch {batch:3}: copying {copying_s:6.2f} s, growing {growing_s:6.2f} s, "
                f"ratio {ratios[0]:.2f} (processor {ratios[1]:.2f}), n={options.repeats}",
                flush=True,
            )


if __name__ == "__main__":
    main()
