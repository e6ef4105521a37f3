"""Documents and judgement of the toy tasks. The environment variable TOY_SCORE_WAIT names a file while which scoring waits."""

from __future__ import annotations

import string
from itertools import pairwise

from datasets import Dataset, DatasetDict
from toyplug import wait_for


def _documents(symbols: str, name: str) -> DatasetDict:
    rows = [
        {
            "id": f"{name}-{index}",
            "family": "vowels" if symbol in "aeiou" else "consonants",
            "question": f"what follows {symbol} in the row",
            "choices": [after, symbol],
            "gold": index % 2,
        }
        for index, (symbol, after) in enumerate(pairwise(symbols))
    ]
    return DatasetDict({"test": Dataset.from_list(rows)})


def letters(**_: object) -> DatasetDict:
    return _documents(string.ascii_lowercase, "letters")


def digits(**_: object) -> DatasetDict:
    return _documents(string.digits + string.ascii_uppercase, "digits")


def judge(doc: dict[str, object], results: list[tuple[float, bool]]) -> dict[str, float]:
    wait_for("TOY_SCORE_WAIT")
    scores = [score for score, _ in results]
    return {"acc": float(scores.index(max(scores)) == doc["gold"])}
