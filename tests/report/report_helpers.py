"""Reading a rendered report back in tests."""

from __future__ import annotations

import base64
import gzip
import json
from html.parser import HTMLParser
from typing import Any


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
