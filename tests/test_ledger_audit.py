"""The ledger audit's cells (benchmarks/ledger/audit.py): charged within 2 % of what torch counts; some always, all of them under `slow`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks" / "ledger"
sys.path.insert(0, str(FOLDER))

import audit  # noqa: E402

FAST_ARCHITECTURES = ("llama, untied", "qwen2, tied, one key-value head", "gemma2, tied, window 16")
FAST_PHASES = (
    "prefill", "full update, micro-batches", "full update, checkpointing", "LoRA update", "LoRA update, packed",
    "LoRA update, checkpointing", "reward model, head only", "reference", "score, shared tokens once",
)  # fmt: skip
FAST = [(name, phase) for name in FAST_ARCHITECTURES for phase in FAST_PHASES] + [("bert", "embed")]
SLOW = [pair for pair in audit.cells() if pair not in FAST]


def check(architecture: str, phase: str) -> audit.Cell:
    cell = audit.measure(architecture, phase)
    assert cell.counted > 0
    assert cell.charged == pytest.approx(cell.counted, rel=audit.TOLERANCE)
    return cell


@pytest.mark.parametrize(("architecture", "phase"), FAST)
def test_the_ledger_charges_what_torch_counts(architecture: str, phase: str) -> None:
    check(architecture, phase)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("architecture", "phase"), SLOW)
def test_the_ledger_charges_what_torch_counts_in_every_cell(architecture: str, phase: str) -> None:
    check(architecture, phase)


def test_padding_is_counted_apart() -> None:
    """Of eight prompts with five to 41 tokens, padded to the longest."""
    cell = check("llama, untied", "prefill")
    lengths = [len(f"User: {word}\nAssistant: {word[::-1]}") + 1 for word in audit.phases.WORDS]
    assert cell.tokens == sum(lengths)
    assert cell.padding == len(lengths) * max(lengths) - sum(lengths)


def test_shared_tokens_are_computed_and_charged_once() -> None:
    together, apart = (check("llama, untied", phase) for phase in ("score, shared tokens once", "score, text by text"))
    assert together.padding == 0
    assert together.tokens < 0.5 * (apart.tokens + apart.padding)


def test_the_page_names_the_worst_cell_and_those_beyond_the_limit() -> None:
    good, bad = audit.Cell("a", "prefill", 101.0, 100.0, 1, 0), audit.Cell("a", "reference", 95.0, 100.0, 1, 0)
    page = audit.as_markdown([good, bad])
    assert "n = 2 cells; the worst is\n-5.00% (reference, a); 1 beyond 2 %." in page
    assert "+1.00%" in page
