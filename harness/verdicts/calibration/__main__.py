"""Regenerates docs/calibration: `make calibration`, or

python -m harness.verdicts.calibration --out docs/calibration --replications 4000 --seed 0 --workers 2
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import scipy

from harness.seeds import generator
from harness.verdicts.calibration.design import Cell, cells
from harness.verdicts.calibration.plots import draw
from harness.verdicts.calibration.rates import rates
from harness.verdicts.calibration.tables import tables


def main() -> None:
    """Simulates, then writes results.csv, tables.md and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--replications", type=int, default=4000, help="simulated studies a cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    results = pd.DataFrame(simulate(list(cells()), chosen.replications, chosen.seed, chosen.workers))
    results.to_csv(chosen.out / "results.csv", index=False, float_format="%.6g")
    command = f"python -m harness.verdicts.calibration --out docs/calibration --replications {chosen.replications} --seed {chosen.seed}"
    text = "\n".join([*_head(command, chosen.replications, chosen.seed), *tables(results)])
    (chosen.out / "tables.md").write_text(text.rstrip() + "\n", encoding="utf-8")
    for path in draw(results, chosen.out):
        print(path)


def simulate(chosen: list[Cell], replications: int, seed: int, workers: int) -> Iterator[dict[str, object]]:
    """One row a cell: its family, kind, world and rates. The number of workers does not change them."""
    run = partial(_row, replications=replications, seed=seed)
    if workers == 1:
        yield from map(run, chosen)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(run, chosen, chunksize=4)


def _row(cell: Cell, *, replications: int, seed: int) -> dict[str, object]:
    found = rates(cell, replications=replications, rng=generator("calibration", seed, cell))
    return {"family": cell.family, "kind": cell.kind} | asdict(cell.world) | found


def _head(command: str, replications: int, seed: int) -> Iterator[str]:
    yield "# Calibration tables"
    yield ""
    yield "Written by the command below; what they mean is in [statistics.md](../statistics.md#calibration)."
    yield ""
    yield f"    {command}"
    yield ""
    yield (
        f"{replications} simulated studies a cell, seed {seed}; one standard error is {np.sqrt(0.05 * 0.95 / replications):.4f} at .05. "
        f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}, pandas {pd.__version__}, "
        f"matplotlib {matplotlib.__version__}."
    )
    yield ""
    yield (
        "Seed SD and item SD are those of the difference between the methods, on the logit scale. Rows of one seed are marked "
        '"items only": they are the paired test on two checkpoints, and show what it misses when training runs differ.'
    )
    yield ""


if __name__ == "__main__":
    main()
