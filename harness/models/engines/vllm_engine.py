"""vLLM behind the student: a child process with merged weights, brought up to date before a call, charged by its token counts.

Charges follow `flops-v1`: a prompt's tokens that were not found in the cache, one forward for every reply token but the last, the output
head once for every reply token (in scoring: at every position). Nothing is padded. What replies will cost is known only when they have
ended, so a call runs as many prompts at once as the budget holds if every reply ran to its limit, books what they came to, and goes on; a
prompt whose own bound the ledger refuses ends the call before it is computed. The budget is never overspent.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.core.flops import Shape, forward_flops, linear_flops
from harness.errors import EngineError
from harness.models.engines import vllm_worker
from harness.models.engines.base import EngineName, PairScore
from harness.models.engines.process import WorkerProcess
from harness.models.engines.vllm_install import require_vllm
from harness.models.engines.weights import Fingerprint, fingerprint, scratch_folder, write_checkpoint
from harness.models.generation import PLAIN_SAMPLING, PrefixCaches
from harness.models.meter import body_shape

if TYPE_CHECKING:
    from harness.models.student import Student

START_TIMEOUT_S = 600.0
MAX_LENGTH = 8192
"""Most tokens of a prompt with its reply, where the model can hold as many."""
CPU_CACHE_GIB = 2
GPU_MEMORY_SHARE = 0.35
"""Of the GPU, which the student being trained shares."""
CPU_BLOCK = 32
"""Tokens in a block of the cache, the smallest that the CPU kernels take: only whole blocks are shared between prompts."""


class VllmEngine:
    """Starts its process when it is first used.

    Args:
        command: of the worker without its argument; default: this repository's, with the Python that has vLLM.
    """

    name: EngineName = "vllm"

    def __init__(self, student: Student, *, command: Sequence[str] | None = None) -> None:
        # The student holds its engine: a strong reference back would keep both, and the process, until the next garbage collection.
        self._student = weakref.ref(student)
        self._command = command
        self._process: WorkerProcess | None = None
        self._loaded: Fingerprint | None = None
        self._scratch: Path | None = None

    @property
    def student(self) -> Student:
        """Whose engine this is."""
        student = self._student()
        assert student is not None, "the student is gone"
        return student

    def generate_tokens(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        prefixes: Sequence[Sequence[int]],
        n: int,
        max_new_tokens: int,
        temperature: float,
        seed: int,
        prefix_caches: PrefixCaches | None = None,
        stopped: Callable[[Sequence[int]], bool] | None = None,
    ) -> list[list[list[int]]]:
        """See `Engine`. `prefix_caches` itself stays empty: given, what earlier calls have computed may be used again. `stopped` is not
        asked: the worker sees no callback, and replies come back whole.

        Raises:
            EngineError: a prompt with its reply is longer than the engine's limit; the process could not start or has ended.
        """
        rows = [[*prefix, *prompt] for prefix, prompt in zip(prefixes, prompts, strict=True)]
        if not rows:
            return []
        longest = max(map(len, rows)) + max_new_tokens
        if longest > self.max_length:
            raise EngineError(f"a prompt with its reply may come to {longest} tokens; the vLLM engine holds {self.max_length}")
        sampling = self._sampling(temperature, max_new_tokens)
        process = self._current()
        replies: list[list[list[int]]] = []
        while len(replies) < len(rows):
            batch = self._affordable(rows[len(replies) :], n, max_new_tokens, int(process.ready["kv_tokens"]))
            answer = process.call(
                "generate",
                prompts=[row for row in batch for _ in range(n)],
                seed=(seed + len(replies)) % 2**31,
                keep_prefixes=prefix_caches is not None or bool(replies),
                sampling=sampling,
            )
            self._book(batch, n, answer)
            found = iter(answer["replies"])
            replies += [[next(found) for _ in range(n)] for _ in batch]
        return replies

    def score_pairs(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[PairScore]:
        """See `Engine`. Charged before it is computed; equal pairs once. Contexts that are too long lose tokens on the left."""
        cut = [self._truncated(tuple(context), tuple(continuation)) for context, continuation in pairs]
        waiting = list(dict.fromkeys(cut))
        known: dict[tuple[tuple[int, ...], tuple[int, ...]], PairScore] = {}
        process = self._current() if waiting else None
        while waiting and process is not None:
            lengths = [len(context) + len(continuation) for context, continuation in waiting]
            size = _fitting(lengths, int(process.ready["kv_tokens"]))
            self._charge(sum(map(self._score_flops, lengths[:size])), sum(lengths[:size]))
            answer = process.call("score", pairs=waiting[:size])
            known |= {pair: PairScore(*score) for pair, score in zip(waiting[:size], answer["scores"], strict=True)}
            waiting = waiting[size:]
        return [known[pair] for pair in cut]

    def close(self) -> None:
        """See `Engine`."""
        if self._process is not None:
            self._process.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
        self._process = self._loaded = self._scratch = None

    @property
    def max_length(self) -> int:
        """Most tokens of a prompt with its reply."""
        config = self.student.model.config.get_text_config()
        return min(int(getattr(config, "max_position_embeddings", MAX_LENGTH)), MAX_LENGTH)

    def _current(self) -> WorkerProcess:
        """The process, with the student's weights as they are now."""
        model = self.student.model
        now = fingerprint(model)
        if self._process is None:
            self._process = self._start()
        elif now != self._loaded:
            folder = self._weights_folder(config=False)
            self._process.call("reload", folder=str(folder))
            shutil.rmtree(folder)
        self._loaded = now
        return self._process

    def _weights_folder(self, *, config: bool) -> Path:
        student = self.student
        if self._scratch is None:
            self._scratch = scratch_folder(sum(weight.numel() for weight in student.model.parameters()) * student.dtype.itemsize)
            weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
        folder = self._scratch / "weights"
        write_checkpoint(student.model, folder, dtype=student.dtype, config=config)
        return folder

    def _start(self) -> WorkerProcess:
        command = list(self._command or ())
        if not command:
            command = [str(require_vllm().python), "-I", str(Path(vllm_worker.__file__))]
        folder = self._weights_folder(config=True)
        assert self._scratch is not None
        arguments = {"model": str(folder), "scratch": str(self._scratch), "options": self._options()}
        process = WorkerProcess(
            [*command, json.dumps(arguments)],
            environment=worker_environment(Path(command[0]), self.student.device),
            log=Path(tempfile.gettempdir()) / f"{self._scratch.name}.log",
            start_timeout_s=START_TIMEOUT_S,
        )
        (folder / "model.safetensors").unlink()
        return process

    def _options(self) -> dict[str, Any]:
        """For vllm.LLM. A student that is only read is scored: its head runs in fp32, or single-token choices would tie in bf16."""
        student = self.student
        options: dict[str, Any] = {
            "dtype": str(student.dtype).removeprefix("torch."),
            "max_model_len": self.max_length,
            "skip_tokenizer_init": True,
            "generation_config": "vllm",
            "enable_prefix_caching": True,
            "disable_log_stats": True,
            "seed": 0,
        }
        if student.adaptation is None:
            options["hf_overrides"] = {"head_dtype": "float32"}
        if student.device.type == "cuda":
            return options | {"gpu_memory_utilization": GPU_MEMORY_SHARE}
        return options | {"enforce_eager": True, "block_size": CPU_BLOCK}

    def _sampling(self, temperature: float, max_new_tokens: int) -> dict[str, Any]:
        """As harness.models.generation samples: greedy under the model's own repetition penalty, else from the plain distribution."""
        own = self.student.model.generation_config.repetition_penalty if temperature == 0 else None
        return {
            "temperature": temperature,
            "max_tokens": max_new_tokens,
            "stop_token_ids": self.student.eos_ids,
            "top_k": 0,
            "top_p": PLAIN_SAMPLING["top_p"],
            "repetition_penalty": own or PLAIN_SAMPLING["repetition_penalty"],
        }

    @functools.cached_property
    def _shape(self) -> Shape:
        return body_shape(self.student.body, adapters=False)

    @functools.cached_property
    def _head_flops(self) -> float:
        return linear_flops(self.student.model.get_output_embeddings().weight.numel(), 1)

    def reply_flops(self, prompt: int, new_tokens: int, *, cached: int = 0) -> float:
        """FLOPs of a reply of `new_tokens` to a prompt of which `cached` tokens need not be computed."""
        prefill = forward_flops(self._shape, 1, prompt - cached, cached)
        decoded = new_tokens - 1
        # Linear in the tokens before it, so the mean step stands for all.
        step = forward_flops(self._shape, 1, 1, prompt) + forward_flops(self._shape, 1, 1, prompt + decoded - 1)
        return prefill + decoded * step / 2 + new_tokens * self._head_flops

    def _score_flops(self, length: int) -> float:
        return forward_flops(self._shape, 1, length) + length * self._head_flops

    def _truncated(self, context: tuple[int, ...], continuation: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        room = self.max_length - 1 - len(continuation)  # vLLM always makes one token more
        if room < 1:
            raise EngineError(
                f"a continuation of {len(continuation)} tokens does not fit into the {self.max_length} that the vLLM engine holds"
            )
        return context[-room:], continuation

    def _affordable(self, rows: Sequence[list[int]], n: int, max_new_tokens: int, cache_tokens: int) -> Sequence[list[int]]:
        """The first rows whose replies fit the cache and, if all of them run to the limit, the budget.

        Raises:
            BudgetExceeded: not even one does.
        """
        rows = rows[: _fitting([n * (len(row) + max_new_tokens) for row in rows], cache_tokens)]
        ledger = self.student.ledger
        if ledger is None or ledger.account != ledger.bound:
            return rows
        flops = tokens = 0.0
        for count, row in enumerate(rows):
            flops += n * self.reply_flops(len(row), max_new_tokens)
            tokens += n * (len(row) + max_new_tokens - 1)
            if ledger.affords(flops) and (ledger.caps.tokens is None or ledger.tokens() + tokens <= ledger.caps.tokens):
                continue
            if count == 0:
                ledger.charge(self.student.name, flops, int(tokens))  # refuses
            return rows[:count]
        return rows

    def _book(self, rows: Sequence[list[int]], n: int, answer: dict[str, Any]) -> None:
        flops, tokens = 0.0, 0
        lengths = [len(row) for row in rows for _ in range(n)]
        for prompt, reply, cached in zip(lengths, answer["replies"], answer["cached"], strict=True):
            flops += self.reply_flops(prompt, len(reply), cached=cached)
            tokens += prompt - cached + len(reply) - 1
        self._charge(flops, tokens)

    def _charge(self, flops: float, tokens: int) -> None:
        if self.student.ledger is not None:
            self.student.ledger.charge(self.student.name, flops, tokens)


def worker_environment(python: Path, device: torch.device) -> dict[str, str]:
    """What vLLM is told through the environment: one process, no network, and on the CPU this process's share of the cores."""
    environment = dict(os.environ) | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    if device.type == "cuda":
        return environment
    threads, cores = torch.get_num_threads(), sorted(os.sched_getaffinity(0))
    # Only a process that has all cores can say which ones are its own.
    bound = ",".join(map(str, cores)) if threads >= len(cores) else "nobind"
    environment |= {
        "VLLM_CPU_KVCACHE_SPACE": str(CPU_CACHE_GIB),
        "VLLM_CPU_OMP_THREADS_BIND": bound,
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    return environment


def _fitting(sizes: Sequence[int], room: int) -> int:
    """How many of the first `sizes` add up to `room` at most; one at least."""
    total = 0
    for count, size in enumerate(sizes):
        total += size
        if total > room:
            return max(1, count)
    return len(sizes)
