"""The rival's half of language.py; runs in distilabel's own environment. Reads "go" lines, evolves, answers with a JSON line each."""

from __future__ import annotations

import json
import sys
import time

import distilabel
import torch
import transformers
from distilabel.models.llms import TransformersLLM
from distilabel.steps.tasks import EvolInstruct


def main() -> None:
    model, instructions_file, batch_size, max_new_tokens, dtype, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    with open(instructions_file, encoding="utf-8") as file:
        instructions = json.load(file)
    llm = TransformersLLM(
        model=model,
        torch_dtype=dtype,
        generation_kwargs={"max_new_tokens": int(max_new_tokens), "temperature": 0.7, "repetition_penalty": 1.0},
    )
    task = EvolInstruct(llm=llm, num_evolutions=1)
    task.load()
    # TransformersLLM has no batch size of its own (one prompt after another); the pipeline underneath has.
    llm._pipeline._batch_size = int(batch_size)
    llm._pipeline.tokenizer.padding_side = "left"
    if llm._pipeline.model.dtype != getattr(torch, dtype):
        raise SystemExit(f"the rival's model is {llm._pipeline.model.dtype}, not {dtype}")
    versions = {"distilabel": distilabel.__version__, "transformers": transformers.__version__, "torch": torch.__version__}
    print(json.dumps({"ready": versions}), flush=True)
    for line in sys.stdin:
        if line.strip() != "go":
            break
        started = time.perf_counter()
        rows = next(task.process([{"instruction": text} for text in instructions]))
        wall_s = time.perf_counter() - started
        evolved = [row["evolved_instruction"] or "" for row in rows]
        tokens = sum(len(ids) for ids in llm._pipeline.tokenizer(evolved, add_special_tokens=False)["input_ids"])
        print(json.dumps({"wall_s": wall_s, "instructions": len(evolved), "tokens": tokens}), flush=True)


if __name__ == "__main__":
    main()
