"""A tiny random student; and every test ends in the folder it began in."""

from __future__ import annotations

import string
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _back_to_the_same_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undone at the end, whoever changed folders meanwhile: what a cluster's worker runs enters the driver's."""
    monkeypatch.chdir(Path.cwd())


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Llama with one token per character, to which every capital letter ends a reply."""
    import torch
    from tokenizers import Tokenizer, decoders, models
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    vocabulary = {letter: index for index, letter in enumerate(string.printable)} | {"<e>": len(string.printable)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<e>", pad_token="<e>", bos_token="<e>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=101, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=2048, initializer_range=0.1, eos_token_id=100, bos_token_id=100, pad_token_id=100,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    capitals = [vocabulary[letter] for letter in string.ascii_uppercase]
    model.generation_config = GenerationConfig(eos_token_id=[100, *capitals], bos_token_id=100, pad_token_id=100)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder
