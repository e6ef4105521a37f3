"""The shape of a chat-completions answer, read from bytes that nobody vouches for."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from harness.core.records import Completion

BYTES_PER_TOKEN = 4
"""For servers that report no usage."""
_CUT_OFF = ("length", "content_filter")


class Rubbish(ValueError):
    """A server answered something that is no chat completion."""


@dataclass(frozen=True)
class Answer:
    """One call's replies and what it says they took; `estimated` when it says nothing usable."""

    completions: list[Completion]
    prompt_tokens: int
    completion_tokens: int
    estimated: bool


def parse_reply(content: bytes, request: dict[str, Any]) -> Answer:
    """Reads a chat completion.

    Args:
        request: what was asked, for estimating what the server did not count.
    Raises:
        Rubbish: not JSON, or not of the shape {"choices": [{"message": {"content": text}}, ...]}.
    """
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Rubbish("not JSON") from error
    choices = data.get("choices") if isinstance(data, dict) else None
    if not isinstance(choices, list) or not choices:
        raise Rubbish("no choices")
    texts = [_text(choice) for choice in choices]
    usage = data.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    estimated = prompt is None or completion is None
    guesses = [_guess(text) for text in texts]
    if completion is None:
        completion = sum(guesses)
    if prompt is None:
        prompt = sum(_guess(turn["content"]) for turn in request["messages"])
    finished = [choice.get("finish_reason") not in _CUT_OFF for choice in choices]
    shares = _shared(completion, guesses)
    completions = [Completion(text, tokens, end) for text, tokens, end in zip(texts, shares, finished, strict=True)]
    return Answer(completions, prompt, completion, estimated)


def _text(choice: Any) -> str:
    """What a choice says; null, which stands beside refusals and tool calls, is nothing."""
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict) or "content" not in message:
        raise Rubbish("a choice without a message")
    text = message["content"]
    if text is not None and not isinstance(text, str):
        raise Rubbish("a message that is no text")
    # JSON can spell half of a surrogate pair, which no file or tokenizer takes.
    return (text or "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**31 else None


def _guess(text: str) -> int:
    return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)


def _shared(total: int, weights: list[int]) -> list[int]:
    """`total` in whole parts in proportion to `weights`; the last takes what rounding leaves."""
    whole = sum(weights)
    parts = [total * weight // whole if whole else 0 for weight in weights[:-1]]
    return [*parts, total - sum(parts)]
