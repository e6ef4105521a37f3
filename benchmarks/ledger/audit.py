"""Ledger audit: what the meter charges (flops-v1) beside what torch's FlopCounterMode counts, by architecture and phase.

    python benchmarks/ledger/audit.py              # every cell (about ten minutes of one core): cells.json and README.md beside this file
    python benchmarks/ledger/audit.py --only qwen2 --phase decode    # these anew, the rest as it was
    python benchmarks/ledger/audit.py --missing                      # what is not in cells.json: a new architecture, a run cut off

A new architecture is one line of ARCHITECTURES, a new phase one line of PHASES. Attention runs by torch's math kernel, because the counter
does not know the CPU's fused kernels and would count them as nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import phases
import torch
import transformers as hf
from phases import Bench, Work
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

TOLERANCE = 0.02
CELLS = Path(__file__).with_name("cells.json")
SIZES = {"vocab_size": 320, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4}
GROUPED = SIZES | {"num_key_value_heads": 2}

ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "llama, untied": lambda: hf.LlamaConfig(**GROUPED, tie_word_embeddings=False),
    "llama, tied, no groups": lambda: hf.LlamaConfig(**SIZES, num_key_value_heads=4, tie_word_embeddings=True),
    "qwen2, tied, one key-value head": lambda: hf.Qwen2Config(**SIZES, num_key_value_heads=1, tie_word_embeddings=True),
    "qwen3, untied": lambda: hf.Qwen3Config(**GROUPED, head_dim=32, tie_word_embeddings=False),
    "gemma2, tied, window 16": lambda: hf.Gemma2Config(**GROUPED, head_dim=32, sliding_window=16, query_pre_attn_scalar=32),
    "gemma3, tied, window 16": lambda: hf.Gemma3TextConfig(**SIZES, num_key_value_heads=1, head_dim=32, sliding_window=16),
    "mistral, untied, window 16": lambda: hf.MistralConfig(**GROUPED, sliding_window=16),
    "phi3, fused projections": lambda: hf.Phi3Config(**GROUPED, pad_token_id=0),
    "granite": lambda: hf.GraniteConfig(**GROUPED, tie_word_embeddings=False),
    "cohere, tied": lambda: hf.CohereConfig(**GROUPED),
    "gpt2, tied": lambda: hf.GPT2Config(vocab_size=320, n_embd=64, n_layer=3, n_head=4),
}
LARGE: dict[str, Callable[[], Any]] = {
    "SmolLM2-135M, its real size": lambda: hf.LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        tie_word_embeddings=True,
    ),
}  # fmt: skip
ENCODERS: dict[str, Callable[[], Any]] = {
    "bert": lambda: hf.BertConfig(**SIZES),
    "all-MiniLM-L6, its real size": lambda: hf.BertConfig(
        vocab_size=30522, hidden_size=384, intermediate_size=1536, num_hidden_layers=6, num_attention_heads=12
    ),
}
PHASES: dict[str, Callable[[Bench], Work]] = {
    "prefill": lambda bench: phases.prefill(bench),
    "prefill, head at the last position": lambda bench: phases.prefill(bench, last=True),
    "decode with a cache": phases.plain_decode,
    "generate, greedy": lambda bench: phases.generate(bench),
    "generate, prompts shared by 4 replies": lambda bench: phases.generate(bench, n=4),
    "generate, cached few-shot prefixes": lambda bench: phases.generate(bench, prefixes=True),
    "full update": lambda bench: phases.update(bench, "full"),
    "full update, micro-batches": lambda bench: phases.update(bench, "full", micro_batch_size=2),
    "full update, checkpointing": lambda bench: phases.update(bench, "full", checkpointing=True),
    "LoRA update": lambda bench: phases.update(bench, "lora"),
    "LoRA update, packed": lambda bench: phases.update(bench, "lora", packing=True),
    "LoRA update, checkpointing": lambda bench: phases.update(bench, "lora", checkpointing=True),
    "reward model, head only": lambda bench: phases.reward(bench, train_body=False),
    "reward model, body": lambda bench: phases.reward(bench, train_body=True),
    "reference": phases.reference,
    "score, shared tokens once": lambda bench: phases.score(bench, share=True),
    "score, text by text": lambda bench: phases.score(bench, share=False),
    "RLOO step": lambda bench: phases.policy_step(bench, "rloo"),
    "PPO step": lambda bench: phases.policy_step(bench, "ppo"),
    "GRPO step": lambda bench: phases.policy_step(bench, "grpo"),
    "DPO step": phases.preference_step,
    "instructor's GRPO step (TRL)": phases.instructor_step,
}
ENCODER_PHASES: dict[str, Callable[[Bench], Work]] = {"embed": phases.embed}


@dataclass(frozen=True)
class Cell:
    """One comparison. `tokens` and `padding` are what the ledger says."""

    architecture: str
    phase: str
    charged: float
    counted: float
    tokens: int
    padding: int

    @property
    def error(self) -> float:
        """Charged over counted, less one."""
        return self.charged / self.counted - 1


def measure(architecture: str, phase: str) -> Cell:
    """Does a phase's work on an architecture under both counts."""
    bench = Bench({**ARCHITECTURES, **LARGE, **ENCODERS}[architecture]())
    work = {**PHASES, **ENCODER_PHASES}[phase](bench)
    before = [bench.ledger.spent(), *_tokens(bench)]
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=_MISSING) as counter:
        work()
    charged, tokens, padding = (after - start for after, start in zip([bench.ledger.spent(), *_tokens(bench)], before, strict=True))
    return Cell(architecture, phase, charged, counter.get_total_flops(), int(tokens), int(padding))


_MISSING = {
    # The in-place product in the backward of TRL's fused output head.
    torch.ops.aten.addmm_: lambda total, left, right, **_: 2 * left[0] * left[1] * right[1],
}


def _tokens(bench: Bench) -> tuple[int, int]:
    rows = bench.ledger.rows()
    return sum(row["tokens"] for row in rows), sum(row["padding"] for row in rows)


def cells() -> list[tuple[str, str]]:
    """Every (architecture, phase) of the table."""
    pairs = [(architecture, phase) for architecture in (*LARGE, *ARCHITECTURES) for phase in PHASES]
    return pairs + [(architecture, phase) for architecture in ENCODERS for phase in ENCODER_PHASES]


def as_markdown(found: list[Cell]) -> str:
    """The audit as a page: errors in percent, then what was charged for the first architecture."""
    names = list(dict.fromkeys(cell.architecture for cell in found))
    errors = {(cell.architecture, cell.phase): cell for cell in found}
    worst = max(found, key=lambda cell: abs(cell.error))
    versions = f"torch {torch.__version__}, transformers {hf.__version__}"
    lines = [
        "# Ledger audit",
        "",
        "Charged by `flops-v1` over counted by torch's `FlopCounterMode`, less one, in percent. Written by",
        f"`python benchmarks/ledger/audit.py` ({versions}; counts do not depend on the machine). n = {len(found)} cells; the worst is",
        f"{worst.error:+.2%} ({worst.phase}, {worst.architecture}); {sum(abs(cell.error) > TOLERANCE for cell in found)} beyond 2 %.",
        "Sizes are small unless the name says otherwise (3 layers, width 64); what the convention leaves out weighs most there.",
        "",
        "| architecture | " + " | ".join(PHASES) + " |",
        "|---|" + "---|" * len(PHASES),
    ]
    for name in names:
        row = [f"{errors[name, phase].error:+.2%}" if (name, phase) in errors else "" for phase in PHASES]
        if any(row):
            lines.append(f"| {name} | " + " | ".join(row) + " |")
    lines += ["", "| encoder | embed |", "|---|---|"]
    lines += [f"| {name} | {errors[name, 'embed'].error:+.2%} |" for name in names if (name, "embed") in errors]
    first = [cell for cell in found if cell.architecture == names[0]]
    lines += ["", f"## Amounts: {names[0]}", "", "| phase | charged, GFLOP | counted, GFLOP | tokens | padding |", "|---|---|---|---|---|"]
    lines += [f"| {c.phase} | {c.charged / 1e9:,.2f} | {c.counted / 1e9:,.2f} | {c.tokens} | {c.padding} |" for c in first]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures what was chosen, keeps it in cells.json with what was measured before, and writes README.md once nothing is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="architectures whose name holds this")
    parser.add_argument("--phase", default="", help="phases whose name holds this")
    parser.add_argument("--missing", action="store_true", help="only what cells.json lacks")
    arguments = parser.parse_args()
    kept = {(cell.architecture, cell.phase): cell for cell in _read()}
    for name, phase in cells():
        if arguments.only not in name or arguments.phase not in phase or (arguments.missing and (name, phase) in kept):
            continue
        started = time.monotonic()
        cell = kept[name, phase] = measure(name, phase)
        mark = "" if abs(cell.error) <= TOLERANCE else "  BEYOND 2 %"
        print(f"{cell.error:+8.2%}  {name:32} {phase:40} {time.monotonic() - started:6.1f} s{mark}", flush=True)
        CELLS.write_text("[\n" + ",\n".join(json.dumps(asdict(cell)) for cell in kept.values()) + "\n]\n")
    if set(cells()) <= set(kept):
        CELLS.with_name("README.md").write_text(as_markdown([kept[pair] for pair in cells()]))


def _read() -> list[Cell]:
    return [Cell(**cell) for cell in json.loads(CELLS.read_text())] if CELLS.exists() else []


if __name__ == "__main__":
    main()
