"""Makes a published run (harness.core.published) of a finished one: copied, scrubbed, sealed anew, judged anew, searched for traces."""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from harness.core.published import MODEL, TEXT, TEXT_COLUMNS, TEXTS, WEIGHTS, is_published
from harness.core.results import load_run
from harness.core.scrub import RULE, scrubbed, scrubbed_text
from harness.core.store import META, Meta, RunStore, file_sha256, sealed, write_json, write_text
from harness.core.traces import TABLES, names_in, search, traces
from harness.errors import SpecError, StoreError

_LEFT_OUT = (MODEL, "checkpoints/", "trained_on.jsonl", "held_out.jsonl")
_IGNORED = "lock\nprogress/\nlogs/\nstages/failed/\n"
"""What commands that judge a run leave in its folder."""
_STATUS_WITH_REASON = ("skipped", "error")
Names = tuple[str, ...]
"""Of users and machines, to be replaced in records."""


@dataclass(frozen=True)
class PublishedRun:
    """What was published."""

    folder: Path
    stages: int
    missing: int
    files: int
    size_bytes: int


def publish_run(run_dir: Path, out: Path, *, partial: bool, conclude: Callable[[Path], object]) -> PublishedRun:
    """Publishes the run as the folder `out`, which appears whole or not at all.

    Args:
        partial: accept a run with stages that are not finished; they are simply not there.
        conclude: judges a run folder and writes its report (that lies in layers above this one).
    Raises:
        SpecError: `out` exists, or the run is published already, not finished, or has nothing scored.
        StoreError: a stage is damaged, `out` cannot be written, or a trace of this machine is left.
    """
    store = RunStore(run_dir)
    results = load_run(run_dir, conclusions=False)
    missing = _check(results.study, store, out, partial)
    if results.samples.empty:
        raise SpecError("nothing is scored in this run yet", value=str(run_dir))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out)
        place = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-{os.getpid()}-"))
    except OSError as error:
        raise StoreError(f"cannot write to {out.parent}: {error.strerror or error}") from error
    try:
        copy = place / out.name
        metas = {stage["id"]: store.meta(stage["id"]) for stage in results.study["plan"]["stages"] if store.finished(stage["id"])}
        names = names_in(results.study, metas.values())
        _copy_stages(metas, store, copy, names)
        write_json(copy / "study.json", _study(results.study, store, missing, names))
        with RunStore(copy).locked():
            conclude(copy)
        for leftover in ("lock", "progress", "logs", "stages/failed"):
            shutil.rmtree(copy / leftover) if (copy / leftover).is_dir() else (copy / leftover).unlink(missing_ok=True)
        write_text(copy / ".gitignore", _IGNORED)
        hosts = {str(about.get("host", "")) for about in (*metas.values(), results.study["provenance"].get("machine", {}))}
        search(copy, traces([run_dir, place], hosts, names))
        files = [path for path in copy.rglob("*") if path.is_file()]
        summary = PublishedRun(out, len(metas), len(missing), len(files), sum(path.stat().st_size for path in files))
        copy.chmod(0o755)
        os.rename(copy, out)
    except OSError as error:
        raise StoreError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return summary


def _remove_leftovers(out: Path) -> None:
    """What killed processes left of earlier attempts at `out`."""
    for path in out.parent.glob(f".{glob.escape(out.name)}-*-*"):
        pid = path.name.removeprefix(f".{out.name}-").partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _check(study: dict[str, Any], store: RunStore, out: Path, partial: bool) -> list[str]:
    """Names of the stages that are not finished."""
    try:
        taken = out.exists()
    except OSError as error:
        raise SpecError(f"cannot be a folder: {error.strerror}", key="--out", value=str(out)) from error
    if taken:
        raise SpecError("expected a folder that does not exist yet", key="--out", value=str(out))
    if out.resolve().is_relative_to(store.root.resolve()):
        raise SpecError("expected a folder outside the run", key="--out", value=str(out))
    if is_published(study):
        raise SpecError("this run is published already; copy its folder", value=str(store.root))
    missing = [
        f"{stage['kind']} {stage['label']} seed {stage['seed']}"
        for stage in study["plan"]["stages"]
        if stage["kind"] != "prepare" and not store.finished(stage["id"])  # a first part is needed only until what builds on it is trained
    ]
    if missing and not partial:
        raise SpecError(
            f"the run is not finished: {len(missing)} of {len(study['plan']['stages'])} stages are missing ({missing[0]}, ...); "
            "finish it, or publish what there is with --partial",
            value=str(store.root),
        )
    return missing


def _study(study: dict[str, Any], store: RunStore, missing: list[str], names: Names) -> dict[str, Any]:
    """study.json of the published run."""
    times = [event["t"] for event in store.journal.events()]
    date = datetime.fromtimestamp(max(times), UTC).date().isoformat() if times else None
    published = {"run_ended": date, "finished": not missing, "rule": RULE}
    clean: dict[str, Any] = scrubbed(study, names)
    about = clean["provenance"]
    about.get("machine", {}).pop("host", None)
    return clean | {"provenance": {**about, "published": published}}


def _copy_stages(stages: dict[str, Meta], store: RunStore, copy: Path, names: Names) -> None:
    """Copies the run's finished stages and its files into `copy`."""
    (copy / "stages").mkdir(parents=True)
    for name in ("claims/*.yaml", "tuned.json"):
        for path in sorted(store.root.glob(name)):
            target = copy / path.relative_to(store.root)
            target.parent.mkdir(exist_ok=True)
            _copy(path, target, names)
    texts = _Texts()
    metas: dict[str, Meta] = {}
    for stage, meta in stages.items():
        store.verify(stage, ())  # the seal, before its list of files is used
        # Weights are not needed: a run may have been brought from another machine without them. If they are there they must be those.
        store.verify(stage, [name for name in meta["files"] if not _left_out(name) or (store.folder(stage) / name).is_file()])
        metas[stage] = _copied_stage(store.folder(stage), meta, copy / "stages" / stage, texts, names)
    texts.write(copy / TEXTS)
    shared = {TEXTS: file_sha256(copy / TEXTS)}
    for stage, meta in metas.items():
        uses = shared if "samples.parquet" in meta["files"] else {}
        write_json(copy / "stages" / stage / META, sealed(meta | ({"shared_files": uses} if uses else {})))


def _left_out(name: str) -> bool:
    return name.startswith(_LEFT_OUT) or name.endswith(WEIGHTS)


def _copied_stage(stage: Path, meta: Meta, target: Path, texts: _Texts, names: Names) -> Meta:
    target.mkdir()
    for name in meta["files"]:
        if _left_out(name):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        source = stage / name
        if name == "samples.parquet":
            _write_parquet(texts.taken_from(_without_paths(pd.read_parquet(source), names)), target / name)
        elif name in TABLES:
            _write_parquet(_scrubbed_frame(pd.read_parquet(source), names), target / name)
        elif name.endswith(".parquet"):
            _write_parquet(pd.read_parquet(source), target / name)
        else:
            _copy(source, target / name, names)
    files = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    kept = {key: value for key, value in meta.items() if key not in ("files", "checksum", "host")}
    before = {"checksum": meta["checksum"], "files": meta["files"]}
    return {**scrubbed(kept, names), "published": before, "files": {name: file_sha256(target / name) for name in files}}


def _copy(source: Path, target: Path, names: Names) -> None:
    if source.suffix == ".json":
        write_json(target, scrubbed(json.loads(source.read_text(encoding="utf-8")), names))
    elif source.suffix in (".yaml", ".yml"):
        # A claim names its authors, and one of them may be called like a user.
        lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
        write_text(target, "".join(map(scrubbed_text, lines)))
    else:
        target.write_bytes(source.read_bytes())


def _without_paths(samples: pd.DataFrame, names: Names) -> pd.DataFrame:
    """Samples without paths and names in the reasons why some have no score; what a model wrote stays."""
    reasons = samples["status"].isin(_STATUS_WITH_REASON)
    if not reasons.any():
        return samples
    clean = samples["output"].map(lambda reason: scrubbed(reason, names))
    return samples.assign(output=samples["output"].where(~reasons, clean))


def _scrubbed_frame(frame: pd.DataFrame, names: Names) -> pd.DataFrame:
    words = [column for column in frame.columns if not pd.api.types.is_numeric_dtype(frame[column])]
    return frame.assign(**{column: frame[column].map(lambda value: scrubbed(value, names)).astype(frame[column].dtype) for column in words})


class _Texts:
    """Prompts and targets of all stages, each pair once."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], int] = {}

    def taken_from(self, samples: pd.DataFrame) -> pd.DataFrame:
        """The samples with their texts replaced by a number."""
        pairs = zip(*(samples[column] for column in TEXT_COLUMNS), strict=True)
        numbers = [self.rows.setdefault(pair, len(self.rows)) for pair in pairs]
        return samples.drop(columns=list(TEXT_COLUMNS)).assign(**{TEXT: pd.array(numbers, dtype="int32")})

    def write(self, path: Path) -> None:
        _write_parquet(pd.DataFrame(list(self.rows), columns=list(TEXT_COLUMNS)), path)


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    frame.to_parquet(path, index=False, compression="zstd", compression_level=19)
