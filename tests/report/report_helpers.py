"""Reading a rendered report back in tests."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
from html.parser import HTMLParser
from typing import Any

from synthetic_run import HOSTILE, METHODS

from harness.core.results import RunResults


def unpacked(packed: dict[str, str]) -> Any:
    """What `harness.report.text.packed` packed."""
    assert packed["encoding"] == "gzip+base64"
    return json.loads(gzip.decompress(base64.b64decode(packed["data"])))


class Page(HTMLParser):
    """The elements of a page in order, their attributes, and the text of some."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.open.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def values(self, name: str) -> list[str]:
        """Every value of the attribute `name`."""
        return [value or "" for _, found, value in self.attributes if found == name]

    def text(self) -> str:
        """All text outside scripts and styles."""
        return "".join(data for tag, data in self.texts if tag not in ("script", "style"))


def hostile_everywhere(run: RunResults, hostile: str = HOSTILE) -> RunResults:
    """`run` with hostile text also in names, claims, notes, curves and provenance."""

    def spoilt(value: Any) -> Any:
        if isinstance(value, str):
            return value + hostile
        if isinstance(value, dict):
            return {key: spoilt(inner) for key, inner in value.items()}
        return [spoilt(inner) for inner in value] if isinstance(value, list) else value

    names = {method: method + hostile for method in METHODS if method != "base"}
    frames = {
        name: getattr(run, name).assign(method=getattr(run, name)["method"].replace(names))
        for name in ("trials", "samples", "ledger", "curves")
    }
    frames["samples"] = frames["samples"].assign(task=frames["samples"]["task"] + hostile)
    frames["curves"] = frames["curves"].assign(curve=frames["curves"]["curve"] + hostile)
    board = json.loads(json.dumps(run.leaderboard))
    for about in board["front"]["axes"].values():
        for row in about["rows"]:
            row["method"] = names.get(row["method"], row["method"])
    for row in board["tracks"]["rows"]:
        row["method"] = names.get(row["method"], row["method"])
    for row in board["rows"]:
        row["method"] = names.get(row["method"], row["method"])
        row["per_task"] = {task + hostile: cell for task, cell in row["per_task"].items()}
        row["robustness"] = {name + hostile: cell for name, cell in row["robustness"].items()}
    verdicts = [
        {**verdict, **{key: spoilt(verdict[key]) for key in ("sentence", "why", "treatment", "reading", "evidence")}}
        for verdict in run.verdicts
    ]
    study = {**run.study, "title": hostile, "question": hostile, "notes": [hostile], "provenance": {hostile: hostile}}
    corpora = {trial: [spoilt(row) for row in rows] for trial, rows in run.corpora.items()}
    return dataclasses.replace(run, study=study, verdicts=verdicts, leaderboard=board, corpora=corpora, **frames)
