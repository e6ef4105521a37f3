"""Log-likelihoods kept from run to run, under everything that determines them.

An entry's key is a hash of the weights as they are in memory, the tokenizer, the type computed in, the engine's version and the tokens:
after any change of weights nothing is found. One SQLite file; several processes may read and write it at once.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.errors import StoreError
from harness.models.adapters import adapters_off
from harness.scoring.packing import TokenPair
from harness.scoring.prefix import Score

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = "log-likelihoods.sqlite"
ENGINE_VERSION = 1
"""Raised when the engine computes something else than before."""
_AT_ONCE = 500
_WAIT_S = 120.0


def fingerprint(model: Any, tokenizer: Any, dtype: torch.dtype) -> str:
    """What a log-likelihood depends on, besides the tokens. Reads every weight: about a second for two gigabytes."""
    config = model.config.to_json_string(use_diff=False)
    peft = [f"{name} {sorted(map(str, about.to_dict().items()))}" for name, about in sorted(getattr(model, "peft_config", {}).items())]
    adapters = [str(adapters_off(model)), str(getattr(model, "active_adapters", "")), *peft] if peft else []
    digest = hashlib.sha256()
    for part in (str(ENGINE_VERSION), torch.__version__, str(dtype), model.device.type, config, *adapters, _vocabulary(tokenizer)):
        digest.update(f"{len(part)} {part}\n".encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _vocabulary(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return str(backend.to_str()) if backend is not None else repr(sorted(tokenizer.get_vocab().items()))


class ScoreCache:
    """The file in `folder`, which is made if need be.

    Raises:
        StoreError: it cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        with self._clear_errors():
            folder.mkdir(parents=True, exist_ok=True)
            with self._connection() as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, logprob REAL, greedy INTEGER) WITHOUT ROWID")

    def find(self, mark: str, pairs: Iterable[TokenPair]) -> dict[TokenPair, Score]:
        """Those of `pairs` that are known under the fingerprint `mark`."""
        by_key = {_key(mark, pair): pair for pair in pairs}
        keys, found = list(by_key), dict[TokenPair, Score]()
        with self._clear_errors(), self._connection() as connection:
            for start in range(0, len(keys), _AT_ONCE):
                asked = keys[start : start + _AT_ONCE]
                query = f"SELECT key, logprob, greedy FROM scores WHERE key IN ({','.join('?' * len(asked))})"
                found |= {by_key[key]: Score(logprob, bool(greedy)) for key, logprob, greedy in connection.execute(query, asked)}
        return found

    def keep(self, mark: str, scores: Mapping[TokenPair, Score]) -> None:
        """Adds scores; those that are there stay as they are."""
        rows = [(_key(mark, pair), score.logprob, int(score.greedy)) for pair, score in scores.items()]
        with self._clear_errors(), self._connection() as connection:
            connection.executemany("INSERT OR IGNORE INTO scores VALUES (?, ?, ?)", rows)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """One transaction, committed at the end."""
        with closing(sqlite3.connect(self.path, timeout=_WAIT_S)) as connection, connection:
            yield connection

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"{self.path}: the cache of log-likelihoods cannot be used ({error}); delete it or name another folder"
            ) from error


def _key(mark: str, pair: TokenPair) -> bytes:
    digest = hashlib.blake2b(mark.encode(), digest_size=20)
    for ids in pair:
        digest.update(_bytes(ids))
    return digest.digest()


def _bytes(ids: Sequence[int]) -> bytes:
    return np.asarray([len(ids), *ids], dtype="<i8").tobytes()
