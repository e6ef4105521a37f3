"""Which trackers an option asks for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.core import trackers
from harness.core.trackers import TRACKERS, read_trackers
from harness.errors import SpecError


def pretend(monkeypatch: pytest.MonkeyPatch, *installed: str) -> None:
    monkeypatch.setattr(trackers, "_installed", lambda name: name in installed)


def test_words_are_those_of_report_to(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "wandb", "tensorboard")
    assert read_trackers([]) == read_trackers(["none"]) == ()
    assert read_trackers(["wandb", "tensorboard", "wandb"]) == ("wandb", "tensorboard")
    assert read_trackers(["all"]) == ("tensorboard", "wandb")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["mlflow"], "pip install mlflow"),
        (["trackio", "tensorboard", "mlflow"], "pip install trackio mlflow"),
        (["wandbb"], "Did you mean 'wandb'"),
        (["none", "wandb"], "none stands alone"),
    ],
)
def test_what_cannot_be_had_is_one_message(monkeypatch: pytest.MonkeyPatch, words: list[str], told: str) -> None:
    pretend(monkeypatch, "wandb", "tensorboard")
    with pytest.raises(SpecError, match=told):
        read_trackers(words)


def test_all_of_none_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    with pytest.raises(SpecError, match="pip install"):
        read_trackers(["all"])


def test_a_trackers_output_folder_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TRACKERS:
        (tmp_path / name).mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert not any(trackers._installed(name) for name in TRACKERS if name not in sys.modules)
    (tmp_path / "mlflow" / "__init__.py").touch()
    import importlib

    importlib.invalidate_caches()
    assert trackers._installed("mlflow")
