"""corpus.jsonl for readers that do not know who wrote it: rows of plain JSON, where a run keeps them, what they add up to.

docs/corpus.md describes a row. Only REQUIRED keys must be there; plug-ins may leave the others out, and older files lack some.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.store import RunStore, write_text
from harness.errors import SpecError, StoreError

Row = dict[str, Any]
CORPUS = "corpus.jsonl"
RUNS = Path("results/runs")
REQUIRED: dict[str, type] = {"id": str, "instruction": str, "operation": str, "kept": bool}
_OPTIONAL: dict[str, tuple[tuple[type, ...], Any]] = {
    "seed_id": ((str,), ""),
    "parent_id": ((str,), ""),
    "lineage": ((list,), []),
    "family": ((str,), ""),
    "constraints": ((list,), []),
    "response": ((str, type(None)), None),
    "verified": ((bool, type(None)), None),
    "verified_by": ((str, type(None)), None),
    "reject_reason": ((str, type(None)), None),
    "reward": ((dict,), {}),
    "samples": ((int,), 0),
    "pass_rate": ((float, int, type(None)), None),
    "step": ((int,), 0),
    "rejected_samples": ((dict,), {}),
}
COLUMNS = (
    "id", "seed_id", "parent_id", "lineage", "operation", "family", "instruction", "constraints", "response", "verified", "verified_by",
    "kept", "reject_reason", "reward", "samples", "pass_rate", "step",
    "rejected_samples",
)  # fmt: skip
REWARD_PARTS = ("validity", "novelty", "learnability", "total")


@dataclass(frozen=True)
class CorpusFile:
    """A corpus and whose it is; `trial`, `method` and `seed` are None for a file that stands by itself."""

    path: Path
    trial: str | None = None
    method: str | None = None
    seed: int | None = None


def read_rows(path: Path) -> list[Row]:
    """Reads a corpus; optional keys that are missing get their defaults, lone surrogates become U+FFFD.

    Raises:
        StoreError: it cannot be read, or a line is not a corpus row; names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                rows.append(_checked(json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise StoreError(f"{path}:{number}: not a corpus row ({error})") from error
    return rows


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """Writes a corpus atomically; lone surrogates, which no file can hold, become U+FFFD."""
    write_text(path, "".join(json.dumps(encodable(row), allow_nan=False) + "\n" for row in rows))


def find_corpora(place: Path | str) -> list[CorpusFile]:
    """The corpora that a user means: a file, a folder with a corpus.jsonl, a run's folder, or a study's name under results/runs.

    Raises:
        SpecError: there is no such thing, or no corpus in it.
        StoreError: the run's study.json is damaged.
    """
    given = Path(place)
    if given.is_file():
        return [CorpusFile(given)]
    if (given / CORPUS).is_file():
        return [CorpusFile(given / CORPUS)]
    run = next((folder for folder in (given, RUNS / given) if (folder / "study.json").is_file()), None)
    if run is None:
        expected = f"expected a run's folder, a study's name under {RUNS}, or a {CORPUS}"
        raise SpecError(expected, value=str(place), valid=[path.parent.name for path in RUNS.glob("*/study.json")])
    found = _corpora_of_run(run)
    if not found:
        raise SpecError(f"no finished training of this run wrote a {CORPUS}: its methods make none, or are still to run", value=str(run))
    return found


def pick_corpus(corpora: Sequence[CorpusFile], trial: str | None) -> CorpusFile:
    """The one corpus of a trial; without a name, the only one that there is.

    Raises:
        SpecError: no such trial, or several and none named.
    """
    names = [found.trial for found in corpora if found.trial is not None]
    if trial is None and len(corpora) == 1:
        return corpora[0]
    if trial is None:
        raise SpecError(f"{len(corpora)} trials have a corpus, name one: {', '.join(names)}", key="--trial")
    match = [found for found in corpora if found.trial == trial]
    if not match:
        raise SpecError("no corpus of such a trial" if names else "a file has no trials", key="--trial", value=trial, valid=names)
    return match[0]


def reason_kind(row: Row) -> str:
    """Why a row was rejected, without the figures that stand behind a colon."""
    return str(row["reject_reason"] or "no reason recorded").split(":")[0]


def encodable(value: Any) -> Any:
    """A JSON value with lone surrogates replaced by U+FFFD: they cannot be encoded, and `datasets` refuses a whole file for one."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {encodable(key): encodable(inner) for key, inner in value.items()}
    return [encodable(inner) for inner in value] if isinstance(value, list | tuple) else value


def summarise(rows: Sequence[Row]) -> Row:
    """What a corpus adds up to.

    Means are over what they are defined for: validity and reward over all rows that have a reward, novelty over the valid of them,
    learnability over the answered of them, pass rate over the answered; None where there are none. "operations" has the same figures for
    each operation, in order of first appearance.
    """
    operations = dict.fromkeys(row["operation"] for row in rows)
    by_operation = {operation: [row for row in rows if row["operation"] == operation] for operation in operations}
    return {
        **_figures(rows),
        "seeds": len({row["seed_id"] for row in rows}),
        "operations": {operation: _figures(own) for operation, own in by_operation.items()},
        "rejected": dict(Counter(reason_kind(row) for row in rows if not row["kept"]).most_common()),
        "verified_by": dict(Counter(row["verified_by"] or "not recorded" for row in rows if row["verified"]).most_common()),
    }


def _figures(rows: Sequence[Row]) -> Row:
    rewarded = [row for row in rows if row["reward"]]
    answered = [row for row in rows if row["pass_rate"] is not None]
    return {
        "made": len(rows),
        "kept": sum(row["kept"] for row in rows),
        "answered": len(answered),
        "verified": sum(bool(row["verified"]) for row in rows),
        "pass_rate": _mean(row["pass_rate"] for row in answered),
        "validity": _mean(row["reward"]["validity"] for row in rewarded),
        "novelty": _mean(row["reward"]["novelty"] for row in rewarded if row["reward"]["validity"]),
        "learnability": _mean(row["reward"]["learnability"] for row in rewarded if row["pass_rate"] is not None),
        "reward": _mean(row["reward"]["total"] for row in rewarded),
    }


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None


def _checked(row: Any) -> Row:
    if not isinstance(row, dict):
        raise ValueError("expected a JSON object")
    for key, kind in REQUIRED.items():
        if key not in row:
            raise ValueError(f"{key!r} is missing")
        if not isinstance(row[key], kind):
            raise ValueError(f"{key!r} should be {kind.__name__}, not {row[key]!r:.40}")
    whole = {key: default for key, (_, default) in _OPTIONAL.items()} | row
    for key, (kinds, _) in _OPTIONAL.items():
        if not isinstance(whole[key], kinds):
            raise ValueError(f"{key!r} should be {' or '.join(_json_name(kind) for kind in kinds)}, not {whole[key]!r:.40}")
    _check_parts(whole)
    if whole["reward"]:
        whole["reward"] = dict.fromkeys(REWARD_PARTS, 0.0) | whole["reward"]
    return {key: encodable(value) for key, value in whole.items()}


def _check_parts(row: Row) -> None:
    wrong = [step for step in row["lineage"] if not _has_text(step, "operation", "text")]
    wrong += [one for one in row["constraints"] if not _has_text(one, "kind") or not isinstance(one.get("params", {}), dict)]
    wrong += [value for value in row["reward"].values() if isinstance(value, bool) or not isinstance(value, int | float)]
    if wrong:
        raise ValueError(f"lineage, constraints or reward hold {wrong[0]!r:.60}")
    if any(type(count) is not int for count in row["rejected_samples"].values()):
        raise ValueError(f"'rejected_samples' should count, not hold {row['rejected_samples']!r:.60}")


def _has_text(value: Any, *keys: str) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in keys)


def _json_name(kind: type) -> str:
    return "null" if kind is type(None) else kind.__name__


def _corpora_of_run(run: Path) -> list[CorpusFile]:
    store = RunStore(run)
    try:
        study = json.loads((run / "study.json").read_text(encoding="utf-8"))
        trials = [
            (trial["label"], seed, store.folder(trial["train_stage"]) / CORPUS)
            for trial in study["plan"]["trials"]
            if store.finished(trial["train_stage"]) and not trial.get("fold")
            for seed in (study["seeds"] if trial["seedless"] else [trial["seed"]])
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{run / 'study.json'} is damaged (not the record of a study); run the study again to make it anew") from error
    return [CorpusFile(path, f"{label}-{seed}", label, seed) for label, seed, path in trials if path.is_file()]
