"""What generating can cost at most."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.records import Message
from harness.models.generation import PrefixCaches, outgrows_window
from harness.models.student import Student


def generation_bound(
    student: Student,
    conversations: Sequence[Sequence[Message]],
    *,
    prefixes: Sequence[Sequence[Message]],
    prefix_caches: PrefixCaches,
    n: int,
    max_new_tokens: int,
) -> float:
    """The most FLOPs that `student.generate` can be charged for these arguments; 0 when the student is not metered.

    Every prefix that the caches do not hold is computed once, every prompt once for its n samples but for its last token, and every sample
    runs to the limit, padded to the longest of the call.
    """
    meter = student.meter
    if meter is None or not conversations:
        return 0.0
    rows = [_ids(student, prefix, conversation) for prefix, conversation in zip(prefixes, conversations, strict=True)]
    if outgrows_window(student.model, rows, max_new_tokens):
        rows = [((), (*prefix, *prompt)) for prefix, prompt in rows]
    shared = {prefix for prefix, _ in rows if prefix}
    longest = max((len(prefix) for prefix in shared), default=0)
    width = max(len(prompt) for _, prompt in rows)
    cost = sum(meter.body_flops(1, len(prefix)) + meter.head_flops(1) for prefix in shared if prefix not in prefix_caches)
    cost += meter.body_flops(len(rows), width, past_tokens=longest) + meter.head_flops(len(rows))
    samples, last = len(rows) * n, longest + width + max_new_tokens
    return cost + max_new_tokens * (meter.body_flops(samples, 1, past_tokens=last) + meter.head_flops(samples))


def _ids(student: Student, prefix: Sequence[Message], conversation: Sequence[Message]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Prefix and prompt as `Student.generate` splits them: a template that rewrites earlier turns shares none."""
    before = student.render(prefix, add_generation_prompt=False) if prefix else ""
    whole = student.render([*prefix, *conversation])
    if not whole.startswith(before):
        before = ""
    return tuple(student.encode(before)), tuple(student.encode(whole[len(before) :]))
