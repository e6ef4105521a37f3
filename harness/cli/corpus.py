"""`corpus show` and `corpus export`: what methods that write their own instructions made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from rich.console import Console

from harness.cli.corpus_tree import WIDEST_COLUMNS, figure, print_summary, print_trees
from harness.cli.targets import check_file
from harness.cli.text import console, print_json, print_table, say
from harness.core.corpus import CorpusFile, Row, find_corpora, pick_corpus, read_rows, summarise
from harness.core.corpus_export import Format, select, write_export
from harness.errors import SpecError

SHOWN_SEEDS = 10
_FORMATS: tuple[Format, ...] = get_args(Format)


def corpus_show_command(
    place: str, *, trial: str | None, seed: str | None, operation: str | None, rejected: bool, limit: int | None, as_json: bool
) -> None:
    """Prints a corpus as trees with its figures; of a run with several corpora, and no trial named, which there are.

    Raises:
        SpecError: no such corpus, trial, seed or operation.
        StoreError: a line is damaged.
    """
    corpora = find_corpora(place)
    writer = console()
    if trial is None and len(corpora) > 1:
        _list_trials(writer, place, corpora, as_json=as_json)
        return
    found = pick_corpus(corpora, trial)
    rows = read_rows(found.path)
    matching = _matching(rows, found.path, seed=seed, operation=operation, rejected=rejected)
    seeds = list(dict.fromkeys(rows[index]["seed_id"] for index in matching))
    chosen = set(seeds if limit is None and as_json else seeds[: limit or SHOWN_SEEDS])
    shown = {index for index in matching if rows[index]["seed_id"] in chosen}
    summary = summarise(rows)
    if as_json:
        print_json({"corpus": str(found.path), "trial": found.trial, "rows": [rows[index] for index in sorted(shown)], "summary": summary})
        return
    if not writer.is_terminal:
        writer.width = WIDEST_COLUMNS
    print_trees(writer, rows, shown)
    if len(chosen) < len(seeds):
        say(writer, f"\n{len(chosen)} of {len(seeds)} seeds shown; --limit {len(seeds)} shows all")
    elif not matching:
        say(writer, "no such rows" if rows else "an empty corpus")
    writer.print()
    say(writer, f"{found.path}: {summary['made']} instructions from {summary['seeds']} seeds, {summary['kept']} kept")
    if rows:
        print_summary(writer, summary)


def corpus_export_command(
    place: str, *, form: str, out: Path, trial: str | None, rejected: bool, verified_by: str | None, as_json: bool
) -> None:
    """Writes a corpus for `datasets` or TRL.

    Raises:
        SpecError: no such corpus, trial or format, nothing to export, or no such place to write to.
        StoreError: a line is damaged.
    """
    if form not in _FORMATS:
        reason = "a corpus keeps no text of rejected responses, so it holds no preferences" if form == "preference" else "unknown format"
        raise SpecError(reason, key="--format", value=form, valid=_FORMATS)
    found = pick_corpus(find_corpora(place), trial)
    rows = read_rows(found.path)
    judges = {str(row["verified_by"]) for row in rows if row["verified"] and row["verified_by"]}
    if verified_by is not None and verified_by not in judges:
        raise SpecError("nothing in this corpus was verified by that", key="--verified-by", value=verified_by, valid=judges)
    chosen = select(rows, form, rejected=rejected, verified_by=verified_by)
    if not chosen:
        raise SpecError(
            f"nothing to export: of {len(rows)} rows none is kept" + ("" if form == "datasets" else " with a response"), file=found.path
        )
    if out.is_dir() or not out.parent.is_dir():
        raise SpecError("expected a file in a folder that exists", key="--out", value=str(out))
    check_file(out, "--out")
    if out.exists() and out.samefile(found.path):
        raise SpecError("the export would replace the corpus itself", key="--out", value=str(out))
    write_export(chosen, form, out)
    if as_json:
        print_json({"corpus": str(found.path), "trial": found.trial, "format": form, "out": str(out), "rows": len(chosen), "of": len(rows)})
    else:
        say(console(), f"{out}: {len(chosen)} of {len(rows)} rows of {found.trial or found.path}")


def _list_trials(writer: Console, place: str, corpora: Sequence[CorpusFile], *, as_json: bool) -> None:
    listed = [(found, summarise(read_rows(found.path))) for found in corpora]
    if as_json:
        print_json([{"trial": found.trial, "corpus": str(found.path), "summary": summary} for found, summary in listed])
        return
    columns = ("trial", "made", "kept", "answered", "pass rate", "reward")
    body = [
        (found.trial, own["made"], own["kept"], own["answered"], figure(own["pass_rate"]), figure(own["reward"])) for found, own in listed
    ]
    print_table(writer, "", columns, body, right=columns[1:])
    say(writer, f"\n{len(corpora)} trials have a corpus; see one with: selfteach corpus show {place} --trial {corpora[0].trial}")


def _matching(rows: Sequence[Row], path: Path, *, seed: str | None, operation: str | None, rejected: bool) -> list[int]:
    """Indices of the rows asked for; `seed` may be the beginning of an id."""
    seeds = {row["seed_id"] for row in rows}
    operations = {row["operation"] for row in rows}
    if seed is not None and not any(name.startswith(seed) for name in seeds):
        raise SpecError("no such seed in this corpus", file=path, key="--seed", value=seed)
    if operation is not None and operation not in operations:
        raise SpecError("no such operation in this corpus", file=path, key="--operation", value=operation, valid=operations)
    return [
        index
        for index, row in enumerate(rows)
        if (seed is None or row["seed_id"].startswith(seed))
        and (operation is None or row["operation"] == operation)
        and not (rejected and row["kept"])
    ]
