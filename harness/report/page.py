"""The report: one self-contained HTML file rendered from a run's files alone. No torch, no network; opens from disk."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from harness.core.results import RunResults, load_run
from harness.core.store import write_text
from harness.report import charts, instructions, numbers, samples, sections, views
from harness.report.tables import Files, page_files, write_tables
from harness.report.text import finalize, packed, script_json, shorten

SECTIONS = (
    ("verdicts", "Verdicts"),
    ("leaderboard", "Leaderboard"),
    ("cost", "Cost"),
    ("compute", "Compute audit"),
    ("curves", "Curves"),
    ("learned", "Before / after"),
    ("robustness", "Robustness"),
    ("holistic", "Beyond accuracy"),
    ("instructions", "Instructions"),
    ("samples", "Samples"),
    ("provenance", "Provenance"),
    ("limits", "Limits"),
)
SCRIPTS = ("common.js", "tables.js", "samples.js", "instructions.js")


def render(run_dir: Path, out: Path | None = None) -> Path:
    """Writes the report of a run in one step and returns its path.

    Args:
        run_dir: the run's folder.
        out: the file to write; by default report.html in the run's folder.
    """
    path = out if out is not None else run_dir / "report.html"
    write_text(path, page(load_run(run_dir)))
    return path


def render_with_tables(run_dir: Path) -> tuple[Path, list[Path]]:
    """Writes the report and its tables as files beside it, from one drawing of the charts; returns the report's path and the tables'."""
    run = load_run(run_dir)
    text, files = _page_and_files(run)
    path = run_dir / "report.html"
    write_text(path, text)
    return path, write_tables(run_dir, run, files)


def page(run: RunResults) -> str:
    """The report of `run` as HTML."""
    return _page_and_files(run)[0]


def _page_and_files(run: RunResults) -> tuple[str, Files]:
    """The report as HTML, and each of its tables in every format."""
    environment = _environment()
    methods = views.method_order(run.trials, run.leaderboard)
    palette = charts.Palette(methods)
    macros = environment.get_template("macros.html.j2").make_module({"palette": palette})
    context = sections.context(run, methods, palette)
    context["browser"] = _browser(run, methods)
    made = instructions.browser(run.corpora)
    context["made"] = made | {"json": script_json(made["packed"])}
    files = page_files(context, run)
    context["table_files"] = script_json(packed(files))
    script = "".join(map(_asset, SCRIPTS))
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    text = environment.get_template("report.html.j2").render(
        context,
        m=macros,
        palette=palette,
        sections=[*SECTIONS[:2], *([("sweep", "Sweep")] if context["sweep"] else []), *SECTIONS[2:]],
        css=Markup(_asset("report.css")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
    )
    return text, files


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("harness", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    writers = (
        numbers.amount,
        numbers.claimed,
        numbers.count,
        numbers.dollars,
        numbers.effect,
        numbers.effect_interval,
        numbers.energy,
        numbers.flops,
        numbers.interval,
        numbers.magnitude,
        numbers.number,
        numbers.p_value,
        numbers.percent,
        numbers.points,
        numbers.seconds,
    )
    environment.filters |= {writer.__name__: writer for writer in writers}
    environment.filters |= {
        "slug": lambda text: re.sub(r"[^a-z0-9]+", "-", str(text).lower()).strip("-"),
        "shorten": lambda text: shorten(str(text), 3000),
        "level": lambda value: "95 %" if numbers.absent(value) else f"{100 * float(value):.3g} %",
        "points_interval": lambda bounds: numbers.interval(bounds, numbers.points),
        "number_interval": lambda bounds: numbers.interval(bounds, numbers.number),
    }
    return environment


def _browser(run: RunResults, methods: list[str]) -> dict[str, Any]:
    metrics = {task: entry["metric"] for task, entry in (run.study.get("tasks") or {}).items()}
    browser = samples.browser(run.samples, methods, metrics=metrics)
    return browser | {"json": script_json(browser["packed"])}


def _asset(name: str) -> str:
    return resources.files("harness.report").joinpath(name).read_text(encoding="utf-8")
