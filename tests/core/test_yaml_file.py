"""Files are read by libyaml as by PyYAML, and what libyaml's binding would crash on is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.core import yaml_file
from harness.core.yaml_file import DEEPEST, YamlFile
from harness.errors import SpecError

ROOT = Path(__file__).parents[2]


def read(path: Path, monkeypatch: pytest.MonkeyPatch, *, slowly: bool) -> tuple[object, dict[yaml_file.Location, int]]:
    with monkeypatch.context() as patch:
        if slowly:
            patch.setattr(yaml_file, "_FastLoader", None)
        file = YamlFile(path, "study")
        return file.read(), file.lines


@pytest.mark.parametrize("path", sorted(ROOT.glob("studies/*.yaml")), ids=lambda path: path.stem)
def test_both_readers_find_the_same_content_on_the_same_lines(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(path, monkeypatch, slowly=False) == read(path, monkeypatch, slowly=True)


@pytest.mark.parametrize(
    "text", ["a: [1, 2", "a: 1\nb: - 2", "a: b: c", "a:\n\t- 1", "a: *nowhere", "%x\na: 1", "a: !!python/none 1", "\x00", "- a\nb: 1"]
)
def test_mistakes_are_told_in_the_same_words(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    told = []
    for slowly in (False, True):
        with pytest.raises(SpecError) as error:
            read(path, monkeypatch, slowly=slowly)
        told.append(str(error.value))
    assert told[0] == told[1]


@pytest.mark.parametrize("opened", ["[", "{a: ", "- "])
@pytest.mark.parametrize("levels", [DEEPEST, DEEPEST + 1, 200_000])
def test_deep_nesting_is_refused_and_no_crash(opened: str, levels: int, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: " + opened * levels if opened != "- " else opened * levels + "1")
    code = f"from pathlib import Path; from harness.core.yaml_file import YamlFile; YamlFile(Path({str(path)!r}), 'study').read()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    if opened == "- " and levels <= DEEPEST + 1:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 1
        assert "SpecError" in done.stderr
        assert "not valid YAML" in done.stderr
