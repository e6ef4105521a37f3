"""vLLM as a child process: reads requests on standard input, answers on standard output, ends when its parent does.

Run by path with the Python of an environment that has vLLM; imports nothing of selfteach. A message is four bytes (length, big-endian) and
that many bytes of JSON. The only argument is JSON: {"model": folder, "scratch": folder, "options": for vllm.LLM}. Answers: first
{"vllm", "torch", "kv_tokens"}, then one per request:
    {"call": "generate", "prompts", "seed", "keep_prefixes", "sampling"}  ->  {"replies": [ids], "cached": [tokens found in the cache]}
    {"call": "score", "pairs": [[context ids, continuation ids]]}         ->  {"scores": [[logprob, greedy]]}
    {"call": "reload", "folder"}                                          ->  {}
Whatever goes wrong ends the process with a traceback on standard error.
"""

from __future__ import annotations

import json
import os
import queue
import select
import shutil
import struct
import sys
import threading
from typing import Any


def main() -> None:
    arguments = json.loads(sys.argv[1])
    # Libraries print; what they print must not get between the answers.
    incoming, outgoing = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=read_requests, args=(incoming, requests, arguments["scratch"]), daemon=True).start()
    import torch
    import vllm

    model = vllm.LLM(model=arguments["model"], **arguments["options"])
    cache = model.llm_engine.vllm_config.cache_config
    send(outgoing, {"vllm": vllm.__version__, "torch": torch.__version__, "kv_tokens": cache.num_gpu_blocks * cache.block_size})
    calls: dict[str, Any] = {"generate": generate, "score": score, "reload": reload}
    while True:
        request = requests.get()
        send(outgoing, calls[request.pop("call")](model, **request))


def generate(model: Any, prompts: list[list[int]], seed: int, keep_prefixes: bool, sampling: dict[str, Any]) -> dict[str, Any]:
    import torch
    from vllm import SamplingParams

    if not keep_prefixes:
        model.reset_prefix_cache()
    torch.manual_seed(seed)  # the engine runs in this process: one stream for all rows, so that equal prompts get different samples
    outputs = model.generate(tokens(prompts), SamplingParams(detokenize=False, **sampling), use_tqdm=False)
    return {
        "replies": [list(output.outputs[0].token_ids) for output in outputs],
        "cached": [output.num_cached_tokens or 0 for output in outputs],
    }


def score(model: Any, pairs: list[list[list[int]]]) -> dict[str, Any]:
    from vllm import SamplingParams

    asked = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
    outputs = model.generate(tokens([context + continuation for context, continuation in pairs]), asked, use_tqdm=False)
    scores = []
    for (context, continuation), output in zip(pairs, outputs, strict=True):
        found = [output.prompt_logprobs[len(context) + at][token] for at, token in enumerate(continuation)]
        scores.append([sum(entry.logprob for entry in found), all(entry.rank == 1 for entry in found)])
    return {"scores": scores}


def reload(model: Any, folder: str) -> dict[str, Any]:
    model.collective_rpc("reload_weights", kwargs={"weights_path": folder})
    assert model.reset_prefix_cache(), "keys and values of the old weights are still in use"
    return {}


def tokens(prompts: list[list[int]]) -> list[Any]:
    return [{"prompt_token_ids": ids} for ids in prompts]


def send(descriptor: int, message: dict[str, Any]) -> None:
    body = json.dumps(message).encode()
    with open(os.dup(descriptor), "wb") as stream:
        stream.write(struct.pack(">I", len(body)) + body)


def read_requests(descriptor: int, requests: queue.Queue[dict[str, Any]], scratch: str) -> None:
    """Queues what arrives. Ends the process, whatever it is doing, when the parent closes the pipe or is gone."""
    parent = os.getppid()
    buffered = b""
    while True:
        if select.select([descriptor], [], [], 1.0)[0]:
            received = os.read(descriptor, 1 << 20)
            if not received:
                break
            buffered += received
            while len(buffered) >= 4 and len(buffered) >= 4 + (length := struct.unpack(">I", buffered[:4])[0]):
                requests.put(json.loads(buffered[4 : 4 + length]))
                buffered = buffered[4 + length :]
        if os.getppid() != parent:
            break
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main()
