"""Behaves as the worker expects vLLM to: replies that depend on weights, prompt and seed, and a cache of prompt blocks.

FAKE_VLLM makes it fail: `start`, `silent` (never starts), `generate`.
"""

import os
import random
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

__version__ = "0.0-fake"
BLOCK = 4
KV_BLOCKS = int(os.environ.get("FAKE_VLLM_BLOCKS", "1000"))
VOCABULARY = 90


class SamplingParams:
    def __init__(self, **options):
        vars(self).update({"prompt_logprobs": None, "stop_token_ids": [], **options})


class LLM:
    def __init__(self, model, **options):
        print("noise on standard output")
        if os.environ.get("FAKE_VLLM") == "start":
            sys.exit("no kernel for this processor")
        if os.environ.get("FAKE_VLLM") == "silent":
            time.sleep(60)
        assert (Path(model) / "config.json").is_file()
        self.options = options
        self.llm_engine = SimpleNamespace(
            vllm_config=SimpleNamespace(cache_config=SimpleNamespace(num_gpu_blocks=KV_BLOCKS, block_size=BLOCK))
        )
        self._blocks = set()
        self._read(model)

    def _read(self, folder):
        self._weights = zlib.crc32((Path(folder) / "model.safetensors").read_bytes())

    def collective_rpc(self, name, kwargs):
        assert name == "reload_weights"
        self._read(kwargs["weights_path"])

    def reset_prefix_cache(self):
        self._blocks.clear()
        return True

    def generate(self, prompts, params, use_tqdm):
        if os.environ.get("FAKE_VLLM") == "generate":
            sys.exit("out of memory")
        return [self._reply(prompt["prompt_token_ids"], params) for prompt in prompts]

    def _reply(self, prompt, params):
        assert len(prompt) + params.max_tokens <= self.options["max_model_len"]
        first = zlib.crc32(repr((self._weights, prompt)).encode())
        if params.temperature > 0:
            first ^= random.getrandbits(32)
        ids = [(first >> (3 * at) % 29) % VOCABULARY for at in range(params.max_tokens)]
        stops = [at for at, token in enumerate(ids) if token in params.stop_token_ids]
        ids = ids[: stops[0] + 1] if stops else ids
        starts = [tuple(prompt[:end]) for end in range(BLOCK, len(prompt), BLOCK)]
        cached = 0 if params.prompt_logprobs is not None else BLOCK * sum(start in self._blocks for start in starts)
        self._blocks.update(starts)
        logprobs = None
        if params.prompt_logprobs is not None:
            logprobs = [None] + [{token: SimpleNamespace(logprob=-token / 10, rank=1 + token % 2)} for token in prompt[1:]]
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=ids)], num_cached_tokens=cached, prompt_logprobs=logprobs)
