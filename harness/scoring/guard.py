"""How alike two texts are in meaning, by sentence embeddings; computed once per pair of texts on a machine, whatever is scored on them."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from harness.core.budget import Ledger
from harness.models.cache import cache_root
from harness.models.embed import Embedder
from harness.models.registry import DEFAULT_EMBEDDER

_VERSION = "similarity-v1"
_TABLE = "create table if not exists similarity (pair text primary key, cosine real not null)"


class SimilarityGuard:
    """Cosine similarity of MiniLM embeddings, kept in a file of the cache.

    What is computed anew is charged to the ledger's current account, phase "embed"; the encoder is loaded only then.

    Args:
        load: gives the encoder.
        file: where similarities are kept.
    """

    def __init__(self, ledger: Ledger, *, load: Callable[[], Embedder] = Embedder.load, file: Path | None = None) -> None:
        self._ledger, self._load = ledger, load
        self._file = file or cache_root() / "similarity.sqlite3"
        self._embedder: Embedder | None = None

    def similarities(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """The cosine of each pair (clean text, changed text), in -1..1.

        Raises:
            SourceError: the encoder cannot be had.
        """
        keys = [_key(*pair) for pair in pairs]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._file, timeout=60)) as store:
            store.execute(_TABLE)
            known = {
                key: found[0]
                for key in set(keys)
                if (found := store.execute("select cosine from similarity where pair = ?", [key]).fetchone())
            }
            missing = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in known}
        if missing:
            fresh = dict(zip(missing, self._cosines(list(missing.values())), strict=True))
            with closing(sqlite3.connect(self._file, timeout=60)) as store, store:
                store.executemany("insert or ignore into similarity values (?, ?)", fresh.items())
            known |= fresh
        return [known[key] for key in keys]

    def _cosines(self, pairs: list[tuple[str, str]]) -> list[float]:
        if self._embedder is None:
            self._embedder = _quietly(self._load)
            self._embedder.attach(self._ledger)
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        place = {text: index for index, text in enumerate(texts)}
        embeddings_N_D = self._embedder.encode(texts)
        clean, changed = (embeddings_N_D[[place[pair[side]] for pair in pairs]] for side in (0, 1))
        return [round(float(cosine), 6) for cosine in np.einsum("nd,nd->n", clean, changed)]


def _quietly(load: Callable[[], Embedder]) -> Embedder:
    """Loads without transformers' progress bar, which would tear the display of what is being scored."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return load()
    finally:
        if shown:
            logging.enable_progress_bar()


def _key(clean: str, changed: str) -> str:
    return hashlib.sha256(json.dumps([_VERSION, DEFAULT_EMBEDDER, clean, changed]).encode()).hexdigest()
