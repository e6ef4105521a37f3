"""Tables of what `faithful.py` and `corrected.py` found: `python benchmarks/stub_policies/table.py` writes `README.md`.

Means over seeds with 95 % intervals (Student's t); the unit is the run.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

RESULTS = Path(__file__).parent / "results"
BEST = {"breadth best": 0, "flat": 0, "breadth worst": 5}
"""The operation whose share is shown; with nothing to find, breadth's."""
RATES = {
    "one best": "One operation at .95, the others at .60 (flat: all at .775)",
    "spread": "Rates spread evenly from .95 to .60",
    "rules": "All at .775, operations carried out by rules on the pool's seeds",
}
HEAD = """# What policies learn on stub reviewers

Share of the best operation (flat: of breadth, where there is nothing to find) in the last 300 of 1,200 environment steps, and the mean
reward over the same steps: mean over seeds, 95 % interval by Student's t. CPU, one thread a worker.
"""


def interval(values: Sequence[float]) -> str:
    """Mean and 95 % interval of independent runs."""
    mean, n = float(np.mean(values)), len(values)
    if n == 1:
        return f"{mean:.2f}"
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return f"{mean:.2f} [{mean - half:.2f}, {mean + half:.2f}]"


def table(rows: list[dict[str, Any]], rates: str) -> str:
    """Markdown: a line a variant, two columns a profile."""
    cells: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["rates"] == rates:
            cells[row["variant"], row["profile"]].append(row)
    variants = list(dict.fromkeys(variant for variant, _ in cells))
    profiles = [profile for profile in BEST if any(key[1] == profile for key in cells)]
    lines = ["| | " + " | ".join(f"{profile}: share | reward" for profile in profiles) + " | n |", "|---" * (2 * len(profiles) + 2) + "|"]
    for variant in variants:
        line, counts = ["without any quirk" if variant == "none" else variant], set()
        for profile in profiles:
            found = cells.get((variant, profile), [])
            if found:
                line += [interval([row["shares"][BEST[profile]] for row in found]), interval([row["reward"] for row in found])]
                counts.add(len(found))
            else:
                line += ["", ""]
        lines.append("| " + " | ".join([*line, "/".join(map(str, sorted(counts)))]) + " |")
    return "\n".join(lines)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    parts = [HEAD]
    for name, title in (("faithful", "The published update"), ("corrected", "Corrected policies")):
        rows = [json.loads(line) for line in (RESULTS / f"{name}.jsonl").read_text().splitlines()]
        parts.append(f"## {title}\n`python benchmarks/stub_policies/{name}.py --seeds {1 + max(row['seed'] for row in rows)}`\n")
        parts += [
            f"{sentence}:\n\n{table(rows, rates)}\n" for rates, sentence in RATES.items() if any(row["rates"] == rates for row in rows)
        ]
    (RESULTS.parent / "README.md").write_text("\n".join(parts))


if __name__ == "__main__":
    main()
