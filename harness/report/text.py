"""Making hostile text visible and inert: model outputs, instructions and names are shown, never interpreted."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

from markupsafe import Markup

_REORDERING = (*range(0x200E, 0x2010), *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF)
_VISIBLE: dict[int, str] = {code: f"⟨U+{code:04X}⟩" for code in (*range(0x20), *range(0x7F, 0xA0), *_REORDERING) if chr(code) not in "\n\t"}


def visible(text: object) -> str:
    """`text` with every control, line-separator and text-reordering character replaced by its code point, "⟨U+001B⟩".

    Newlines and tabs stay; lone surrogates become "?", so that the result always encodes as UTF-8.
    """
    whole = str(text).encode("utf-8", "replace").decode("utf-8")
    return whole.replace("\r\n", "\n").translate(_VISIBLE)


def shorten(text: str, limit: int) -> str:
    """At most about `limit` characters of `text`: its start and its end, with the number left out between them."""
    if len(text) <= limit:
        return text
    tail = limit // 2
    head = limit - tail
    return f"{text[:head]}\n[… {len(text) - limit} characters left out …]\n{text[-tail:]}"


def finalize(value: object) -> object:
    """What jinja prints for an expression: markup as it is, anything else as visible text (escaped afterwards by autoescape)."""
    if isinstance(value, Markup):
        return value
    return "" if value is None else visible(value)


def script_json(payload: Any) -> Markup:
    """`payload` as JSON that can stand in a <script type="application/json">: no character of it can end the element."""
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def packed(payload: Any) -> dict[str, str]:
    """`payload` as gzipped JSON in base64, which the page's script unpacks (model text shrinks about fourfold)."""
    raw = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    return {"encoding": "gzip+base64", "data": base64.b64encode(gzip.compress(raw, 6, mtime=0)).decode("ascii")}
