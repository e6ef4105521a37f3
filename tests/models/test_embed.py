from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from harness.core.budget import Ledger
from harness.errors import BudgetExceeded, SourceError
from harness.models import embed
from harness.models.embed import Embedder

WORDS = ["[PAD]", "[UNK]", "river", "lamp", "seven", "green", "run", "quiet"]
TEXTS = ["river", "green lamp seven run quiet river", "lamp lamp", "seven green", "quiet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=16,
        initializer_range=0.5,
    )  # fmt: skip
    BertModel(config).save_pretrained(path)
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(path)
    (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 8}))
    return path


@pytest.fixture
def embedder(folder: Path) -> Embedder:
    return Embedder.load(f"file:{folder}")


def test_mean_pooled_unit_vectors(embedder: Embedder) -> None:
    tokens: Any = embedder.tokenizer(TEXTS[1], return_tensors="pt").to(embedder.model.device)
    with torch.no_grad():
        mean = embedder.model(**tokens).last_hidden_state[0].mean(0).cpu().numpy()
    (vector,) = embedder.encode([TEXTS[1]])
    assert vector == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    assert vector.dtype == np.float32


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_order_batch_and_padding_do_not_matter(embedder: Embedder, batch_size: int) -> None:
    together = embedder.encode(TEXTS, batch_size=batch_size)
    alone = np.concatenate([embedder.encode([text]) for text in TEXTS])
    backwards = embedder.encode(TEXTS[::-1], batch_size=batch_size)[::-1]
    assert together == pytest.approx(alone, abs=1e-5)
    assert together == pytest.approx(backwards, abs=1e-5)
    assert np.linalg.norm(together, axis=1) == pytest.approx(1.0, abs=1e-5)


def test_texts_over_the_models_limit_are_cut(embedder: Embedder) -> None:
    assert embedder.max_tokens == 8
    assert embedder.encode(["river " * 100]) == pytest.approx(embedder.encode(["river " * 8]), abs=1e-6)


def test_charged_to_its_phase_and_to_the_last_ledger_only(embedder: Embedder) -> None:
    first, second = Ledger(1e12), Ledger(1e12)
    embedder.attach(first)
    embedder.encode(TEXTS)
    embedder.attach(second)
    embedder.encode(TEXTS)
    for ledger in (first, second):
        (row,) = [row for row in ledger.rows() if row["flops"]]
        assert (row["phase"], row["model"], row["tokens"]) == ("embed", embedder.name, 12)
    assert first.spent() == second.spent() > 0


def test_a_refused_batch_raises(embedder: Embedder) -> None:
    embedder.attach(Ledger(10.0))
    with pytest.raises(BudgetExceeded, match="embed"):
        embedder.encode(TEXTS)


def test_a_folder_without_an_encoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no sentence encoder"):
        Embedder.load(f"file:{tmp_path}")


def test_the_token_limit_has_a_default(tmp_path: Path) -> None:
    assert embed._max_tokens(tmp_path) == embed.DEFAULT_MAX_TOKENS
