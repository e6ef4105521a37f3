"""benchmarks/scoring/run.py on a GPU: bfloat16, larger batches.

python benchmarks/gpu/scoring.py --model hub:org/name --out scoring.json
"""

from __future__ import annotations

import runpy
from pathlib import Path

RUN = Path(__file__).resolve().parents[1] / "scoring" / "run.py"

if __name__ == "__main__":
    runpy.run_path(str(RUN))["main"](device="cuda", dtype="bfloat16", batch_sizes="8,32,64,128,256")
