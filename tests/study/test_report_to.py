"""`--report-to`: curves in a tracker, and a run that is otherwise the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.results import load_run
from harness.core.store import RunStore
from tests.study.conftest import Workplace


def test_a_reported_run_is_the_same_run(workplace: Workplace, reference: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert workplace.main("run", workplace.write(), "--report-to", "tensorboard") == 0
    mine, theirs = RunStore(workplace.run_dir), RunStore(reference)
    stages = load_run(reference).study["plan"]["stages"]
    assert {stage["id"] for stage in stages} == {path.name for path in mine.stages.iterdir() if path.name != "failed"}
    for stage in stages:
        results = {
            name: checksum
            for name, checksum in theirs.meta(stage["id"])["files"].items()
            if name.endswith(("safetensors", "samples.parquet"))
        }
        assert results or stage["label"] == "toy_base"
        assert results.items() <= mine.meta(stage["id"])["files"].items(), stage["id"]

    folders = sorted(path.name for path in (workplace.run_dir / "tensorboard").iterdir())
    assert [name.rpartition("-")[0] for name in folders] == ["toy-toy_sft-0", "toy-toy_sft-1"], "base trains nothing"
    curves = load_run(workplace.run_dir).curves.set_index(["seed", "curve"]).sort_index()
    for seed, name in enumerate(folders):
        events = EventAccumulator(str(workplace.run_dir / "tensorboard" / name))
        events.Reload()
        losses = curves.loc[(seed, "loss")]
        assert [event.step for event in events.Scalars("train/loss")] == [int(flops / 1e6) for flops in losses["train_flops"]]
        assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(losses["value"].tolist())
        stage = load_run(workplace.run_dir).trials.set_index(["method", "seed"]).loc[("toy_sft", seed), "train_stage"]
        assert name.endswith(str(stage)[:6])
        assert mine.meta(str(stage))["tracking_s"] > 0
        assert "tracking_s" not in theirs.meta(str(stage))
