"""The folder of a study's run: every method is a model, its training seeds are the checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.compare.cells import Cell, Reading, ReadOptions, checked, name_of, strings
from harness.core.records import Status
from harness.errors import SpecError


def is_run(folder: Path) -> bool:
    """Whether the folder is a run's."""
    return (folder / "study.json").is_file() and (folder / "stages").is_dir()


def read_run(folder: Path, options: ReadOptions) -> Reading:
    """The cells of a run's finished trials, clean items unless another perturbation is named."""
    for option, field, own in (("--by", options.task, "task"), ("--cluster", options.cluster, "cluster")):
        if field not in (None, own):
            raise SpecError("a run is compared by its own tasks and clusters", file=folder, key=option, value=field, valid=[own])
    # Reading a run needs pandas, which costs half a second that no other log needs.
    from harness.core.results import load_run
    from harness.verdicts.frames import VALIDATION_SUITE

    run = load_run(folder, conclusions=False)
    reading = Reading()
    samples = run.samples
    if not len(samples):
        raise SpecError("no trial of this run is scored yet", file=folder)
    chosen = samples[samples["perturbation"] == options.perturbation]
    if not len(chosen):
        views = [name_of(view) for view in samples["perturbation"].unique()]
        raise SpecError("no item of this run has this perturbation", file=folder, value=options.perturbation, valid=views)
    if len(chosen) < len(samples):
        others = sorted(set(samples["perturbation"]) - {options.perturbation})
        reading.notes.append(
            f"{folder.name}: only {options.perturbation} items are compared (also there: {', '.join(others)}; --perturbation)"
        )
    tasks = run.study.get("tasks") or {}
    for (method, seed, task, metric), part in chosen.groupby(["method", "seed", "task", "metric"], sort=False):
        scores = np.where(part["status"] == Status.SCORED, part["value"].astype(float), np.nan)
        items = strings(part["sample_id"])
        clusters = strings(part["cluster"])
        about = tasks.get(task, {})
        own = about.get("metric", metric) == metric and part["suite"].iloc[0] != VALIDATION_SUITE
        cell = Cell(
            name_of(method), str(seed), name_of(task), name_of(metric), items, scores, folder,
            cluster_N=None if clusters.equals(items) else clusters, higher_is_better=about.get("higher_is_better"), secondary=not own,
        )  # fmt: skip
        reading.cells.append(checked(cell))
    reading.notes += [
        f"{folder.name}: {row['trial_id']} is {row['status']} and not compared"
        for row in run.trials[run.trials["status"] != "finished"].to_dict("records")
    ]
    return reading
