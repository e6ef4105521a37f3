"""Published rows: scored here where a task and a model stand in for those of the source, with what differs said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from harness.core.records import CLEAN, Status
from harness.core.suite_spec import SuiteSpec
from harness.errors import SelfteachError
from harness.stats.clustered import mean_t
from harness.study import rescore
from harness.verdicts.board_file import PublishedRow, Rescoring
from harness.verdicts.recheck import LEVEL, Agreement, verdict_of

WHOLE = 10**9
"""More items than any task has: what is scored where a row names no limit, rather than as many as a study scores by default."""

Outcome = tuple[str, str, bool | None, Agreement | None]


def reproduce_published(row: PublishedRow, student: Path | None, report: Callable[[str, int, int], None]) -> Outcome:
    """Verdict, reason, recomputed and numbers of a published row. Nobody has its samples, so the new mean is tested against the number."""
    if row.rescoring is None:
        return "cannot run here", "no model or task here stands in for it; settings of the source: see `sources`", None, None
    try:
        folder, _ = rescore.untrained_folder(row.rescoring.source, None, student)
        found = rescore.FoundStudent(folder, trained=False)
        samples = rescore.score_again(found, _wanted(row.rescoring), progress=lambda done, total: report(row.id, done, total))
    except SelfteachError as error:
        return "cannot run here", rescore.why_not(error), None, None
    return _tested(row, row.rescoring, samples)


def _wanted(rescoring: Rescoring) -> rescore.Wanted:
    from harness.core import provenance

    suite = SuiteSpec(name=rescoring.suite, tasks=(rescoring.task,), limit=rescoring.limit or WHOLE)
    return rescore.Wanted((suite,), (), 0, provenance.cores())


def _tested(row: PublishedRow, rescoring: Rescoring, samples: pd.DataFrame) -> Outcome:
    """The interval covers the draw of items; the published number is taken as exact, for its own items are the same or a superset.

    An item without a score counts once as wrong and once as right, and the interval covers both.
    """
    mine = samples[(samples["metric"] == rescoring.metric) & (samples["perturbation"] == CLEAN)]
    scored_N = (mine["status"] == Status.SCORED).to_numpy() & mine["value"].notna().to_numpy()
    if mine["cluster"][scored_N].nunique() < 2:
        return "cannot run here", f"fewer than 2 of {len(mine)} items of {rescoring.task} have a score", None, None
    values_N = mine["value"].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    clusters_N = mine["cluster"].to_numpy(dtype=str)
    low, high = (
        mean_t(np.where(scored_N, values_N, worst) - row.value, clusters_N=clusters_N, level=LEVEL) for worst in (0.0, 1.0)
    )  # fmt: skip
    interval, lost = (low.interval[0], high.interval[1]), int((~scored_N).sum())
    new = float(values_N[scored_N].mean())
    verdict = verdict_of(interval, rescoring.margin)
    told = (
        f"{len(mine) - lost} of {len(mine)} items have a score here: {new:.4f}; difference {new - row.value:+.4f}, "
        f"90 % interval {interval[0]:+.4f} to {interval[1]:+.4f}, margin ±{rescoring.margin:g}"
    )
    if lost:
        told += f"; the {lost} without a score count as wrong at its low end and as right at its high end"
    if rescoring.differs_in:
        told += f"; unlike the source: {'; '.join(rescoring.differs_in)}"
    p_value = max(low.p_greater(-rescoring.margin), high.p_less(rescoring.margin))
    numbers = Agreement(row.value, new, new - row.value, interval, p_value, 0, 0, (0.0, 1.0), lost, 1, verdict)
    return verdict, told, None, numbers
