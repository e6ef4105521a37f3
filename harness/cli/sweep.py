"""A sweep on the terminal: what it will run (`plan`), and what it found (`run`, `report`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from harness.cli.text import print_table, say
from harness.core.blocks import blocks
from harness.core.spec import StudySpec

if TYPE_CHECKING:
    from harness.study.plan import Plan


def planned_sweep(study: StudySpec, plan: Plan) -> dict[str, Any] | None:
    """What a sweep comes to: axes with their levels, blocks with their methods, and how many stages serve more than one trial."""
    if study.sweep is None:
        return None
    seen: dict[str, dict[str, None]] = {}
    for method in study.methods:
        for axis, level in (method.levels or {}).items():
            seen.setdefault(axis, {}).setdefault(level)
    users = Counter(stage for trial in plan.trials for stage in _upstream(plan, trial.stages))
    return {
        "design": study.sweep.design,
        "method": study.sweep.method,
        "axes": [
            {"name": name, "key": axis.key, "levels": list(seen[name]), "centre": next(iter(seen[name]))}
            for name, axis in study.sweep.axes.items()
            if name in seen  # training seeds are no levels
        ],
        "blocks": [vars(block) | {"methods": list(block.methods)} for block in blocks(study.model_dump(mode="json"))],
        "variants": len(study.methods),
        "trials": len(plan.trials),
        "stages_alone": users.total(),
        "stages": len(users),
        "stages_shared": sum(count > 1 for count in users.values()),
    }


def _upstream(plan: Plan, stages: list[str]) -> set[str]:
    """Stages and everything that they build on."""
    found: set[str] = set()
    waiting = list(stages)
    while waiting:
        stage = waiting.pop()
        if stage not in found:
            found.add(stage)
            waiting += plan.stages[stage].inputs
    return found


def print_planned_sweep(writer: Console, sweep: Mapping[str, Any] | None) -> None:
    """Prints what `planned_sweep` found."""
    if sweep is None:
        return
    around = f" around {sweep['method']}" if sweep["method"] else ""
    rows = [(axis["name"], axis["key"] or "several", axis["centre"], "; ".join(axis["levels"][1:])) for axis in sweep["axes"]]
    writer.print()
    print_table(writer, f"Sweep: {sweep['design'].replace('_', ' ')}{around}", ("axis", "sets", "centre", "other levels"), rows)
    for block in sweep["blocks"] if len(sweep["blocks"]) > 1 else ():
        say(writer, f"compared at {block['name']} ({block['train_flops']:.3g} FLOPs, {block['student']}): {'; '.join(block['methods'])}")
    say(
        writer,
        f"{sweep['variants']} methods and variants, {sweep['trials']} trials. Run alone they would take {sweep['stages_alone']} stages, "
        f"together {sweep['stages']}; {sweep['stages_shared']} of these serve more than one trial.",
    )


def print_sweep(writer: Console, sweep: Mapping[str, Any]) -> None:
    """Prints what a sweep found."""
    from harness.report.sweep_tables import tables
    from harness.report.table import printed

    for found in tables(sweep):
        head, *rows = printed(found.table)
        writer.print()
        print_table(writer, found.title, head, rows, right=[column.title for column in found.table.columns if column.numeric])
        say(writer, found.table.caption)
    for note in sweep["notes"]:
        say(writer, f"note: {note}")
