"""The studies that are disturbed where none is named: a tiny real one of 10 stages, and a featherweight one of 8 that loads no torch."""

from __future__ import annotations

import string
from pathlib import Path

import yaml


def write_study(folder: Path) -> Path:
    """Two real methods and the base on a random student of 20,000 weights; makes both in `folder`; the study file's path."""
    model = folder / "model"
    if not model.exists():
        _write_student(model)
    study = {
        "name": "faults",
        "student": {"model": f"file:{model.absolute()}", "adaptation": {"kind": "lora", "rank": 4, "alpha": 8}},
        "pool": {
            "name": "mixed",
            "config": {"families": ["letter_counting", "syllogism", "chain_sum"], "constraint_share": 0.2, "seed_demonstrations": 20},
        },
        "budget": {"train_flops": 2e9},
        "seeds": [0, 1],
        "methods": [
            {"name": "base"},
            {"name": "sft"},
            {
                "name": "evol_instruct",
                "config": {
                    "evolve_share": 0.4,
                    "environment": {"lineages": 4},
                    "responder": {"reasoning_tokens": 4, "instruction_tokens": 12},
                },
            },
        ],
        "suites": [
            {"name": "complex_understanding", "tasks": ["openbookqa"], "limit": {"openbookqa": 6}},
            {"name": "pool_validation", "limit": {"validation_reasoning": 4, "validation_constraints": 3}},
        ],
    }
    path = folder / "faults.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    return path


def write_feather_study(folder: Path) -> Path:
    """The study of tests/study/feather, whose student is a file that nobody loads; the study file's path."""
    model = folder / "model"
    model.mkdir(exist_ok=True)
    for name in ("weights.safetensors", "config.json"):
        (model / name).write_text("{}", encoding="utf-8")
    study = {
        "name": "feather",
        "student": {"model": f"file:{model.absolute()}"},
        "pool": {"name": "feather_pool"},
        "budget": {"train_flops": 3e8},
        "seeds": [0, 1, 2],
        "methods": [{"name": "feather_base"}, {"name": "feather_walk"}],
        "suites": ["feather_suite"],
    }
    path = folder / "feather.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    return path


def _write_student(folder: Path) -> None:
    """A random two-layer Llama with one token per character."""
    import torch
    from tokenizers import Tokenizer, decoders, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {letter: index for index, letter in enumerate(string.printable)} | {"<e>": len(string.printable)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<e>", pad_token="<e>", bos_token="<e>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=101, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=2048, initializer_range=0.1, eos_token_id=100, bos_token_id=100, pad_token_id=100,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
