"""Files are read by libyaml as by PyYAML, and what libyaml's binding would crash on is refused."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from harness.core import yaml_file
from harness.core.spec import load_study
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
    "text", ["a: [1, 2", "a: 1\nb: - 2", "a: b: c", "a:\n\t- 1", "a: *nowhere", "%x\na: 1", "a: !!python/none 1", "\x00", "- a\nb: 1",
     "limit: 3\t# three", "a: |# c\n  x", "a: [x?y]", "? !", "a: !!bool x", "a: !!timestamp x"],
)  # fmt: skip
def test_mistakes_are_told_in_the_same_words(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    told = []
    for slowly in (False, True):
        with pytest.raises(SpecError) as error:
            read(path, monkeypatch, slowly=slowly)
        told.append(str(error.value))
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1, .inf]", "a[1]: expected a finite number (got '.inf')"),
        ("a: .nan", "expected a finite number"),
        ("a: 1e999", "expected a finite number"),
        ("a: 1" + "0" * 18, "at most 18 digits"),
        ("a: 0x" + "F" * 16, "at most 18 digits"),
        ('a: "\\ud800"', "half of a surrogate pair"),
        ("? [a]\n: 1", "keys must be text"),
        ("a: &a [x, x, x, x, x, x, x, x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 8)}]\n" for a, b in pairwise("abcdefghi")),
         "more than 500,000 values, with what aliases repeat"),
    ],
)  # fmt: skip
def test_what_nothing_downstream_can_hold_is_refused_where_it_stands(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as error:
        YamlFile(path, "study").read()
    assert told in str(error.value)
    assert f"{path}:" in str(error.value)


def test_numbers_of_every_kind_pass(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: [8e12, 1_000.5, -3, 0x1F, 1:30.5, 999999999999999999, ü]")
    assert YamlFile(path, "study").read() == {"a": [8e12, 1000.5, -3, 31, 90.5, 999999999999999999, "ü"]}


class Inner(BaseModel):
    counts: tuple[int, ...] = ()
    open: bool = False


class Settings(BaseModel):
    steps: int = 1
    rate: float | None = None
    inner: Inner = Inner()
    named: dict[str, int] = {}
    source: int | str = 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("steps: true", "steps: expected a number, not a truth value (got True)"),
        ('steps: "8"', "steps: expected a number, not text (got '8')"),
        ('rate: "1e-3"', "rate: expected a number, not text"),
        ("inner: {counts: [1, yes]}", "inner.counts[1]: expected a number, not a truth value"),
        ("inner: {open: 1}", "inner.open: expected true or false (got 1)"),
        ('inner: {open: "no"}', "inner.open: expected true or false (got 'no')"),
        ("named: {a: false}", "named.a: expected a number, not a truth value"),
    ],
)
def test_settings_of_another_type_are_refused_not_converted(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    file = YamlFile(path, "study")
    with pytest.raises(SpecError) as error:
        file.validated(Settings, file.read())
    assert told in str(error.value)
    assert f"{path}:1" in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("suites: [{name: complex_understanding, limit: true}]", "suites[0].limit: expected a number, not a truth value"),
        ('suites: [{name: complex_understanding, tasks: [piqa], limit: {piqa: "7"}}]', "suites[0].limit.piqa: expected a number, not text"),
        ('perturbations: [{name: typos, strength: "0.4"}]', "perturbations[0].strength: expected a number, not text"),
    ],
)
def test_suites_and_perturbations_are_as_strict_as_the_rest_of_a_study(text: str, told: str, tmp_path: Path) -> None:
    key = text.partition(":")[0]
    study = yaml.safe_load((ROOT / "studies" / "quickstart.yaml").read_text())
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in study.items() if name != key}) + text)
    with pytest.raises(SpecError) as error:
        load_study(path)
    assert told in str(error.value)


def test_settings_of_their_own_type_pass(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text('{steps: 8.0, rate: 1, inner: {counts: [2, 3], open: true}, named: {a: 1}, source: "8"}')
    file = YamlFile(path, "study")
    kept = file.validated(Settings, file.read())
    assert kept == Settings(steps=8, rate=1.0, inner=Inner(counts=(2, 3), open=True), named={"a": 1}, source="8")


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
