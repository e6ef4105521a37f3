"""tuned.json: settings that a search found, written into the run that searched and taken by studies that name it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.core import grid, plugins
from harness.core.spec import MethodSpec, StudySpec
from harness.core.yaml_file import YamlFile

TUNED = "tuned.json"


def circumstances(study: StudySpec) -> dict[str, Any]:
    """What tuned settings depend on: student, pool (its configuration completed) and the budget they are for."""
    pool = plugins.load("pools", study.pool.name).Config(**study.pool.config).model_dump(mode="json")
    return {
        "student": {"model": study.student.model, "adaptation": study.student.adaptation.model_dump(mode="json")},
        "pool": {"name": study.pool.name, "config": pool},
        "train_flops": study.budget.train_flops,
    }


def take(study: StudySpec, file: YamlFile) -> StudySpec:
    """The study with the settings of the tuned.json that it names; what a method's configuration sets itself stays.

    What differs from the circumstances of the search becomes a note of the study.

    Raises:
        SpecError: there is no such file, it is damaged, or it has settings for none of the study's methods.
    """
    path, record = _read(study, file)
    found: dict[str, Any] = record["methods"]
    methods, notes = [], differences(study, record, str(study.tuned))
    for method in study.methods:
        entry = _entry(found, method)
        if entry is None:
            if not getattr(plugins.load("methods", method.name), "seedless", False):
                notes.append(f"{study.tuned} has no settings for {method.label}, which keeps its own.")
            methods.append(method)
            continue
        values = {key: value for key, value in entry["values"].items() if not grid.is_set(method.config, key)}
        config = grid.with_values(method.config, values)
        methods.append(method.model_copy(update={"config": config}))
    if all(_entry(found, method) is None for method in study.methods):
        raise file.fail("it has settings for none of this study's methods", ("tuned",), str(path), found)
    return study.model_copy(update={"methods": methods, "notes": [*study.notes, *notes]})


def differences(study: StudySpec, record: dict[str, Any], name: str) -> list[str]:
    """Sentences on what differs between this study and the one that searched."""
    mine, notes = circumstances(study), []
    for key, what in (("student", "student"), ("pool", "pool"), ("train_flops", "budget (train_flops)")):
        if mine[key] != record.get(key):
            notes.append(f"The tuned settings of {name} were found with another {what}: {_apart(record.get(key), mine[key])}.")
    return notes


def _entry(found: dict[str, Any], method: MethodSpec) -> dict[str, Any] | None:
    """What was found for a method, under any of its names."""
    return next((found[name] for name in method.names if name in found), None)


def _apart(theirs: Any, mine: Any) -> str:
    """What differs, one level down where both are mappings."""
    if not (isinstance(theirs, dict) and isinstance(mine, dict)):
        return f"{theirs}, here {mine}"
    return "; ".join(f"{key} {theirs.get(key)}, here {value}" for key, value in mine.items() if theirs.get(key) != value)


def _read(study: StudySpec, file: YamlFile) -> tuple[Path, dict[str, Any]]:
    name = str(study.tuned)
    places = [file.path.parent / name, Path(name), Path("results/runs") / name]
    path = next((place / TUNED if place.is_dir() else place for place in places if place.is_file() or (place / TUNED).is_file()), None)
    if path is None:
        near = sorted(str(run.parent.name) for run in Path("results/runs").glob(f"*/{TUNED}"))
        raise file.fail(
            f"no such run or file with tuned settings ({TUNED} is written by a run of a study with `tune`)", ("tuned",), name, near
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise file.fail(f"{path} cannot be read: {error}", ("tuned",)) from error
    entries = record.get("methods") if isinstance(record, dict) else None
    if not isinstance(entries, dict) or not all(
        isinstance(entry, dict) and isinstance(entry.get("values"), dict) for entry in entries.values()
    ):
        raise file.fail(f"{path} holds no tuned settings (expected methods: label: values)", ("tuned",))
    return path, record
