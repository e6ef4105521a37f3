"""From lm-eval's strings to token ids, as lm-eval's Hugging Face backend makes them, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from lm_eval.models.utils import has_bos_prefix

from harness.scoring.packing import TokenPair, truncate


class Encoder:
    """A tokenizer under lm-eval's conventions.

    Args:
        max_length: most tokens the model sees at once.
        add_bos_token: whether texts get the tokenizer's special tokens; None leaves it to the tokenizer.
        prefix_token_id: what an empty context is conditioned on; None is the beginning-of-sequence token, else the end token.
    """

    def __init__(self, tokenizer: Any, *, max_length: int, add_bos_token: bool | None = None, prefix_token_id: int | None = None) -> None:
        self.tokenizer, self.max_length, self.add_bos_token = tokenizer, max_length, add_bos_token
        default = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        self.prefix_token_id = int(default if prefix_token_id is None else prefix_token_id)

    def encode(self, strings: Sequence[str], *, add_special_tokens: bool | None = None) -> list[list[int]]:
        """Token ids; a beginning-of-sequence token that is already in the text is not added again."""
        if not strings:
            return []
        if add_special_tokens is not None:
            return list(self.tokenizer(list(strings), add_special_tokens=add_special_tokens)["input_ids"])
        default = {} if self.add_bos_token is None else {"add_special_tokens": self.add_bos_token}
        bos = self.tokenizer.decode(self.prefix_token_id)
        kinds = [bool(has_bos_prefix(string, bos)) for string in strings]
        encoded: dict[int, list[int]] = {}
        for has_bos in (False, True):
            rows = [row for row, kind in enumerate(kinds) if kind == has_bos]
            if rows:
                options = {"add_special_tokens": False} if has_bos else default
                ids = self.tokenizer([strings[row] for row in rows], **options)["input_ids"]
                encoded.update(zip(rows, ids, strict=True))
        return [encoded[row] for row in range(len(strings))]

    def pairs(self, texts: Sequence[tuple[str, str]]) -> list[TokenPair | str]:
        """Each (context, continuation) as token ids, or why it cannot be scored.

        Split as lm-eval does: spaces that end a context belong to the continuation; the whole is encoded, then cut. A context that is too
        long loses tokens on the left.
        """
        split = [(context.rstrip(), context[len(context.rstrip()) :] + continuation) if context else ("", continuation)
                 for context, continuation in texts]  # fmt: skip
        contexts = list(dict.fromkeys(context for context, _ in split))
        context_ids = dict(zip(contexts, self.encode(contexts), strict=True))
        # A context of spaces alone is encoded whole too, by lm-eval, though nothing of it is left.
        plain = [bool(context) for context, _ in texts]
        whole_ids = iter(self.encode([head + tail for (head, tail), is_plain in zip(split, plain, strict=True) if is_plain]))
        bare_ids = iter(
            self.encode([tail for (_, tail), is_plain in zip(split, plain, strict=True) if not is_plain], add_special_tokens=False)
        )
        found: list[TokenPair | str] = []
        for (context, _), is_plain in zip(split, plain, strict=True):
            if is_plain:
                head = context_ids[context]
                found.append(self.pair(head, next(whole_ids)[len(head) :]))
                continue
            ids = next(bare_ids)
            starts = bool(ids) and ids[0] == self.prefix_token_id
            found.append(self.pair(ids[:1], ids[1:]) if starts else self.pair([self.prefix_token_id], ids))
        return found

    def pair(self, context: Sequence[int], continuation: Sequence[int]) -> TokenPair | str:
        """The pair cut to the model's length, or why it cannot be scored."""
        if not continuation:
            return "the continuation is empty, or has no token of its own after this context"
        if not context:
            return "the context has no token, and the tokenizer puts none before it"
        if len(continuation) > self.max_length:
            return f"the continuation's {len(continuation)} tokens are more than the model's {self.max_length}"
        return truncate(context, continuation, self.max_length)

    @cached_property
    def _bos_of_texts(self) -> str:
        """The beginning-of-sequence token, if the tokenizer puts it before texts."""
        bos = self.tokenizer.bos_token_id
        starts = self.encode(["a"])[0][:1] == [bos] if bos is not None else False
        return str(self.tokenizer.bos_token) if starts else ""

    def prompts(self, texts: Sequence[str], max_tokens: int) -> list[str]:
        """Prompts as they are given to a generator that adds no special tokens: with the beginning-of-sequence token where the tokenizer
        puts one, cut from the left to `max_tokens`."""
        bos = self._bos_of_texts
        whole = [text if not bos or text.startswith(bos) else bos + text for text in texts]
        encoded = self.encode(whole, add_special_tokens=False)
        return [
            text if len(ids) <= max_tokens else self.tokenizer.decode(ids[-max_tokens:]) for text, ids in zip(whole, encoded, strict=True)
        ]
