"""Published rows: scored here where a task and a model stand in for those of the source, with what differs said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from harness.core.records import CLEAN, Status
from harness.core.suite_spec import SuiteSpec
from harness.errors import SelfteachError
from harness.stats.clustered import mean_t
from harness.stats.equivalence import rope
from harness.study import rescore
from harness.verdicts.board_file import PublishedRow, Rescoring
from harness.verdicts.recheck import LEVEL, Agreement

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

    suite = SuiteSpec(name=rescoring.suite, tasks=(rescoring.task,), limit=rescoring.limit)
    return rescore.Wanted((suite,), (), 0, provenance.cores())


def _tested(row: PublishedRow, rescoring: Rescoring, samples: pd.DataFrame) -> Outcome:
    """The interval covers the draw of items; the published number is taken as exact, for its own items are the same or a superset."""
    mine = samples[(samples["metric"] == rescoring.metric) & (samples["perturbation"] == CLEAN) & (samples["status"] == Status.SCORED)]
    if mine["cluster"].nunique() < 2:
        return "cannot run here", f"fewer than 2 items of {rescoring.task} have a score", None, None
    found = mean_t(mine["value"].to_numpy(dtype=float) - row.value, clusters_N=mine["cluster"].to_numpy(dtype=str), level=LEVEL)
    decided = rope(found.interval, (-rescoring.margin, rescoring.margin))
    verdict = {"practically equal": "reproduced", "practically different": "differs", "undecided": "undecided"}[decided]
    low, high = found.interval
    told = (
        f"{len(mine)} items here: {row.value + found.estimate:.4f}; difference {found.estimate:+.4f}, "
        f"90 % interval {low:+.4f} to {high:+.4f}, margin ±{rescoring.margin:g}"
    )
    if rescoring.differs_in:
        told += f"; unlike the source: {'; '.join(rescoring.differs_in)}"
    p_value = max(found.p_greater(-rescoring.margin), found.p_less(rescoring.margin))
    numbers = Agreement(
        row.value, row.value + found.estimate, found.estimate, found.interval, p_value, 0, 0, (0.0, 1.0), 0, 1, verdict
    )  # fmt: skip
    return verdict, told, None, numbers
