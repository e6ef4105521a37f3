"""Documents of the toy tasks. The environment variable TOY_SCORE_WAIT names a file while which scoring waits."""

from __future__ import annotations

import os
import string

from datasets import Dataset, DatasetDict


def _documents(symbols: str, name: str) -> DatasetDict:
    if "TOY_SCORE_WAIT" in os.environ:
        from toyplug import wait_for

        wait_for(os.environ["TOY_SCORE_WAIT"])
    rows = [
        {"id": f"{name}-{index}", "question": f"what follows {symbol} in the row", "choices": [after, symbol], "gold": index % 2}
        for index, (symbol, after) in enumerate(zip(symbols, symbols[1:], strict=False))
    ]
    return DatasetDict({"test": Dataset.from_list(rows)})


def letters(**_: object) -> DatasetDict:
    return _documents(string.ascii_lowercase, "letters")


def digits(**_: object) -> DatasetDict:
    return _documents(string.digits + string.ascii_uppercase, "digits")
