"""Scores students of a frozen leaderboard again: finds their weights by checksum, scores them as their study did, keeps what is scored."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.core import provenance
from harness.core.budget import Ledger
from harness.core.perturbation_spec import PerturbationSpec
from harness.core.published import MODEL, WEIGHTS, joined_sha256, weights_sha256
from harness.core.spec import StudySpec
from harness.core.store import META, RunStore, file_sha256
from harness.core.suite_spec import SuiteSpec
from harness.errors import SelfteachError, SourceError, StoreError

if TYPE_CHECKING:
    from harness.models.engines.base import EngineName

Progress = Callable[[int, int], None]
_RECORDED_APART = ("plan", "tasks", "provenance")
_CODE = ("harness.core", "harness.instructions", "harness.models", "harness.scoring")


@dataclass(frozen=True)
class Wanted:
    """What a student is scored on and by which engine, as its study scored it."""

    suites: tuple[SuiteSpec, ...]
    perturbations: tuple[PerturbationSpec, ...]
    seed: int
    threads: int
    training_seed: int = 0
    engine: EngineName = "transformers"


@dataclass(frozen=True)
class FoundStudent:
    """Where a student's weights are here.

    Attributes:
        folder: an untrained model's folder, or one written by `Student.save`.
        base: the folder of the untrained model that a trained student's adapters belong to; None where the folder holds all weights.
    """

    folder: Path
    trained: bool
    base: Path | None = None


def study_of(record: dict[str, Any]) -> StudySpec:
    """The study that a study.json records."""
    return StudySpec.model_validate({key: value for key, value in record.items() if key not in _RECORDED_APART})


def untrained_folder(source: str, expected: str | None, student: Path | None) -> tuple[Path, str]:
    """The folder of an untrained student, and what is wrong with it (other weights than the frozen ones), or nothing.

    Args:
        source: where it is from; `file:` ones were local, so `student` stands in for them.
    Raises:
        SourceError: it cannot be had here.
    """
    from harness.models.sources import resolve, weights_hash

    local, named_here = source.startswith("file:"), Path(source.removeprefix("file:")).expanduser()
    elsewhere = SourceError(f"the student was a local folder, {source}; name it with --student FOLDER")
    if local and student is None and not named_here.exists():
        raise elsewhere
    folder = student if local and student is not None else resolve(source, quiet=True)
    found = weights_hash(folder)
    if expected is not None and found != expected:
        if local and student is None and not named_here.is_absolute():  # a published run has the last part of its path only
            raise elsewhere
        named = folder if local else source
        return folder, f"the untrained weights of {named} are other ones: sha256 {found[:12]}..., frozen were {expected[:12]}..."
    return folder, ""


def base_folder(folder: Path, expected: str | None, student: Path | None) -> tuple[Path | None, str]:
    """As `untrained_folder`, of the model that a trained student's adapters belong to; None for a student that has all weights itself.

    Args:
        folder: written by `Student.save`.
    Raises:
        SourceError: the base cannot be had here, or the folder does not say which it is.
    """
    from harness.models.student import STUDENT_FILE

    try:
        about = json.loads((folder / STUDENT_FILE).read_text(encoding="utf-8"))
        lora, source = (about["adaptation"] or {}).get("kind") == "lora", str(about["source"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"{folder / STUDENT_FILE} does not say what the student was trained from ({error})") from error
    return untrained_folder(source, expected, student) if lora else (None, "")


def trained_folders(places: Sequence[Path]) -> dict[str, list[Path]]:
    """The model folders of trained students by the checksum that their stage recorded of their weights.

    Args:
        places: run folders, and folders of run folders.
    """
    found: dict[str, list[Path]] = {}
    for place in places:
        for path in sorted([*place.glob(f"stages/*/{META}"), *place.glob(f"*/stages/*/{META}")]):
            stage = path.parent
            try:
                meta = RunStore(stage.parent.parent).meta(stage.name)
            except StoreError:
                continue
            recorded = weights_sha256(meta) if meta.get("kind") == "train" else None
            if recorded is not None and (stage / MODEL).is_dir():
                found.setdefault(recorded, []).append(stage / MODEL)
    return found


def intact(folders: Sequence[Path], expected: str) -> Path | None:
    """The first of the folders whose weights still have this checksum, and whose other files are those that were sealed with them."""
    return next((folder for folder in folders if _checksum(folder) == expected and _as_sealed(folder)), None)


def _as_sealed(folder: Path) -> bool:
    """A changed adapter_config.json makes another student of the same weights."""
    store, stage = RunStore(folder.parent.parent.parent), folder.parent.name
    try:
        store.verify(stage, [name for name in store.meta(stage)["files"] if name.startswith(MODEL)])
    except StoreError:
        return False
    return True


def _checksum(folder: Path) -> str | None:
    return joined_sha256({path.name: file_sha256(path) for path in sorted(folder.glob(f"*{WEIGHTS}"))}) if folder.is_dir() else None


def score_again(found: FoundStudent, wanted: Wanted, *, progress: Progress | None) -> pd.DataFrame:
    """Samples of a student (SAMPLE_COLUMNS); those scored before under the same circumstances are read from the cache.

    Raises:
        EngineError: the engine that its study scored with is not installed, or does not start.
    """
    from harness.models.cache import cache_root

    kept = cache_root() / "rescored" / f"{_key(found, wanted)}.parquet"
    if kept.exists():
        with contextlib.suppress(OSError, ValueError):  # a damaged entry is computed again
            return pd.read_parquet(kept)
    samples = _scored(found, wanted, progress)
    kept.parent.mkdir(parents=True, exist_ok=True)
    temporary = kept.with_name(f".{kept.name}.{os.getpid()}")
    samples.to_parquet(temporary, index=False)
    os.replace(temporary, kept)
    return samples


def engine_version(engine: EngineName) -> str:
    """The engine as a frozen model names it: "transformers" (whose version is among those of the run), or vLLM with its version.

    Raises:
        EngineError: it is not installed.
    """
    from harness.models.engines.vllm_install import require_vllm

    return require_vllm().version if engine == "vllm" else engine


def _key(found: FoundStudent, wanted: Wanted) -> str:
    """Everything that determines the samples; what adapters do depends on their base and their configuration as much as on themselves."""
    from harness.core import plugins
    from harness.models.sources import weights_hash
    from harness.study.plan import local_setting

    setting = local_setting(wanted.threads)
    packages = (*_CODE, *(plugins.package("suites", suite.name) for suite in wanted.suites))
    content = {
        "weights": weights_hash(found.folder),
        "base": None if found.base is None else weights_hash(found.base),
        "engine": engine_version(wanted.engine),
        "suites": [suite.model_dump(mode="json") for suite in wanted.suites],
        "perturbations": [spec.model_dump(mode="json") for spec in wanted.perturbations],
        "seeds": [wanted.seed, wanted.training_seed],
        "setting": vars(setting),
        "versions": provenance.versions(),
        "code": provenance.code_sha256(packages),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _scored(found: FoundStudent, wanted: Wanted, progress: Progress | None) -> pd.DataFrame:
    from harness.models.student import Student
    from harness.scoring.suites import score

    with repeatably(wanted.training_seed, wanted.threads):
        if found.trained:
            source = None if found.base is None else f"file:{found.base.absolute()}"
            model = Student.restore(found.folder, source=source, engine=wanted.engine)
        else:
            model = Student.load(f"file:{found.folder.absolute()}", adaptation=None, seed=0, engine=wanted.engine)
        ledger = Ledger(account="eval")
        model.attach(ledger)
        try:
            return score(model, list(wanted.suites), list(wanted.perturbations), ledger=ledger, seed=wanted.seed, progress=progress)
        finally:
            model.engine.close()


@contextlib.contextmanager
def repeatably(seed: int, threads: int) -> Iterator[None]:
    """The state that a study's score stage starts from; torch's threads and determinism are put back afterwards."""
    import torch

    from harness.study.trial import make_repeatable

    before, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn = torch.is_deterministic_algorithms_warn_only_enabled()
    make_repeatable(seed, threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn)


def why_not(error: SelfteachError) -> str:
    """One line for what cannot be had here."""
    return " ".join(str(error).split())
