"""`verify`: what a finished run says about claims, as cards, without running or changing anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.cli.text import console, print_json, print_table, say, told_damage
from harness.core.results import RunResults, find_run, load_run
from harness.core.store import file_sha256
from harness.errors import SpecError, StoreError
from harness.report import numbers
from harness.verdicts.claims import ClaimFile, find_claims, load_claims

Row = dict[str, Any]
_STYLES = {"met": "green", "positive but short": "yellow", "contradicted": "red", "evidence changed": "bold red"}
_INDENT = "  "


def verify_command(place: str, *, claims: Sequence[str], only: Sequence[str], as_json: bool) -> None:
    """Judges a run on claim files, after checking that the stages the verdicts rest on are what was sealed.

    Claims that rest on a changed file are not judged; the others are, and every changed stage is told.

    Args:
        claims: paths or shipped names; none: the claims that the run was made for.
        only: ids of claims to show; all are judged, because the adjustment for several claims needs all.
    Raises:
        SpecError: no such run or claims, nothing scored yet, or an unknown id.
        StoreError: raised after printing, if a stage that a shown claim rests on is damaged or was changed, or, where all claims are
            shown, any stage of the run.
    """
    from harness.verdicts.evidence import changed, checksums
    from harness.verdicts.judge import EVIDENCE_CHANGED, judge

    run_dir = find_run(place)
    files = _claim_files(run_dir, claims)
    results = load_run(run_dir, conclusions=False, without_damaged=True)
    if results.samples.empty and not results.damaged:
        raise SpecError("nothing is scored in this run yet", value=str(run_dir))
    specs, sums, damaged = [file for _, file in files], checksums(results), results.damaged
    rows = judge(results, specs, checksums=sums, damaged=damaged)
    # Evidence may have files that judging does not read, such as weights.
    unread = changed(run_dir, dict.fromkeys(stage for row in rows for stage in row["evidence"]))
    if unread:
        damaged = damaged | unread
        rows = judge(results, specs, checksums=sums, damaged=damaged)
    known = list(dict.fromkeys(row["claim_id"] for row in rows))
    for name in only:
        if name not in known:
            raise SpecError("no such claim", key="--claim", value=name, valid=known)
    rows = [row for row in rows if not only or row["claim_id"] in only]
    if as_json:
        print_json(_record(results, files, rows, damaged))
    else:
        _print(console(), results, files, rows, damaged)
    if damaged:
        told = told_damage(run_dir, damaged)
        if not only or any(row["verdict"] == EVIDENCE_CHANGED for row in rows):
            raise StoreError(told)
        say(console(stderr=True), f"selfteach: warning: {told}")


def _claim_files(run_dir: Path, names: Sequence[str]) -> list[tuple[Path, ClaimFile]]:
    from harness.study.run import CLAIMS

    paths = [find_claims(name) for name in names] or sorted((run_dir / CLAIMS).glob("*.yaml"))
    if not paths:
        raise SpecError("the run was made without claims; name a claim file", key="--claims")
    files = [(path, load_claims(path)) for path in dict.fromkeys(paths)]
    owner: dict[str, Path] = {}
    for path, file in files:
        for claim in file.claims:
            if claim.id in owner:
                raise SpecError(f"{owner[claim.id]} has a claim of this id as well", file=path, key="id", value=claim.id)
            owner[claim.id] = path
    return files


def _record(results: RunResults, files: list[tuple[Path, ClaimFile]], rows: list[Row], damaged: dict[str, str]) -> Row:
    primary = [row["verdict"] for row in rows if row["primary"]]
    return {
        "run": str(results.run_dir),
        "study": results.study.get("name"),
        "claims": [
            {"file": str(path), "sha256": file_sha256(path), "alpha": file.alpha, "power": file.power} for path, file in files
        ],
        "stages_checked": len(_stages(rows)),
        "changed": damaged,
        "verdicts_of_primary_readings": {verdict: primary.count(verdict) for verdict in dict.fromkeys(primary)},
        "verdicts": rows,
    }  # fmt: skip


def _stages(rows: list[Row]) -> dict[str, None]:
    """The stages that are evidence, each once."""
    return dict.fromkeys(stage for row in rows for stage in row["evidence"])


def _print(writer: Console, results: RunResults, files: list[tuple[Path, ClaimFile]], rows: list[Row], damaged: dict[str, str]) -> None:
    powers = {claim.id: file.power for _, file in files for claim in file.claims}
    for name in dict.fromkeys(row["claim_id"] for row in rows):
        mine = [row for row in rows if row["claim_id"] == name]
        _print_card(writer, next(row for row in mine if row["primary"]), mine, powers[name])
    seeds = results.study.get("seeds", [])
    say(
        writer,
        f"{results.run_dir}: study {results.study.get('name', 'unnamed')}, {len(seeds)} training seeds. "
        f"{len(_stages(rows))} stages are evidence; every file of theirs matches its checksum.",
    )
    for problem in damaged.values():
        say(writer, f"changed: {problem}", style="bold red")
    if damaged:
        say(writer, "What rests on changed files is not judged; it counts as p = 1, so that adjusted p values are upper bounds.")
    for path, file in files:
        say(
            writer,
            f"claims: {path} (sha256 {file_sha256(path)[:16]}), alpha {file.alpha:g}, Holm over all primary readings that were tested",
        )


def _print_card(writer: Console, primary: Row, readings: list[Row], power: float) -> None:
    writer.rule(characters="─", style="dim")
    say(writer, f"{primary['claim_id']}: {primary['verdict'].upper()}", style=_STYLES.get(primary["verdict"], "bold"))
    say(writer, f"“{primary['sentence']}”\n")
    for label, text in _facts(primary, power):
        if text:
            say(writer, f"{_INDENT}{label:<10}{text}")
    writer.print()
    columns = ("reading", "verdict", "effect", "interval", "claimed", "p", "seeds x items")
    print_table(writer, "", columns, map(_reading_row, readings), right=columns[2:])
    _print_list(
        writer, "Not testable here", [f"{row['reading']}: {row['why']}" for row in readings if row["effect"] is None and row != primary]
    )
    notes = dict.fromkeys(f"{row['reading']}: {row['note']}" for row in readings if row["note"])
    _print_list(writer, "Notes on readings", [*notes])
    _print_list(writer, "The source leaves undefined", primary["undefined_in_source"])
    writer.print()


def _facts(row: Row, power: float) -> list[tuple[str, str]]:
    """Label and text of each line of a card; empty texts are left out."""
    facts = [("source", row["source"]), ("reading", f"{row['reading']} (primary)"), ("measured", row["metric_text"])]
    if row["effect"] is not None:
        shown = numbers.effect(row["effect"], row["estimand"], row["unit"])
        within = numbers.effect_interval(row["interval"], row["estimand"], row["unit"])
        comparator = row["binding_comparator"]
        facts += [
            ("effect", f"{shown}, {100 * row['level']:.3g} % interval {within}; claimed {numbers.claimed(row)}"),
            ("values", f"{row['treatment']} {_value(row, 'treatment_value')}, {comparator} {_value(row, 'baseline_value')}"),
            ("p", _p_text(row)),
            ("power", _power_text(row, power)),
        ]
    facts += [("why", row["why"]), ("chosen", row["rationale"])]
    hashes = row["evidence_sha256"]
    return [*facts, ("evidence", ("\n" + _INDENT + " " * 10).join(f"stage {stage}  sha256 {hashes[stage]}" for stage in row["evidence"]))]


def _value(row: Row, name: str) -> str:
    return numbers.amount(row[name], row["unit"])


def _p_text(row: Row) -> str:
    if row["p_value"] is None:
        return "none: counted, the same for every seed"
    tests = [("no effect", row["p_value"], row["p_holm"])]
    if row["direction"] == "equal" or not _is_none(row):
        bound = "a difference beyond the margin" if row["direction"] == "equal" else "the threshold"
        tests.append((bound, row["p_threshold"], row["p_threshold_holm"]))
    holm = {name: "" if adjusted is None else f" (Holm {numbers.p_value(adjusted)})" for name, _, adjusted in tests}
    return ", ".join(f"{numbers.p_value(p_value)}{holm[name]} of {name}" for name, p_value, _ in tests)


def _is_none(row: Row) -> bool:
    """Whether the claim is "better" without a number: its threshold is no effect."""
    return bool(row["threshold"] == (1.0 if "ratio" in row["estimand"] else 0.0))


def _power_text(row: Row, power: float) -> str:
    size = f"{row['n_seeds']} seeds x {row['n_items']} items" if row["n_items"] != 1 else f"{row['n_seeds']} seeds"
    if row["mde"] is None:
        text = f"{size}; the smallest detectable effect is not known from one seed or from counts"
    else:
        text = f"{size} detect {numbers.magnitude(row['mde'], row['estimand'], row['unit'])} with power {power:.0%}"
    return f"{text}. To decide: {row['needed']}" if row["needed"] else text


def _reading_row(row: Row) -> tuple[object, ...]:
    effect = numbers.effect(row["effect"], row["estimand"], row["unit"])
    within = numbers.effect_interval(row["interval"], row["estimand"], row["unit"])
    size = numbers.MISSING if row["n_seeds"] is None else f"{row['n_seeds']} x {row['n_items']}" if row["n_items"] > 1 else row["n_seeds"]
    p_value = row["p_threshold"] if row["direction"] == "equal" else row["p_value"]
    star = "* " if row["primary"] else "  "
    return star + row["reading"], row["verdict"], effect, within, numbers.claimed(row), numbers.p_value(p_value), size


def _print_list(writer: Console, title: str, lines: Sequence[str]) -> None:
    if lines:
        say(writer, f"\n{_INDENT}{title}:")
    for line in lines:
        say(writer, f"{_INDENT}- {line}")
