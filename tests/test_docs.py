"""The documentation: it builds without a warning and without a network, documents every command and option, and its examples are valid."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from harness.cli.app import app
from harness.core.spec import StudySpec, load_study
from harness.verdicts.claims import load_claims

ROOT = Path(__file__).parents[1]
STUDY = {
    "name": "documented",
    "student": {"model": "smollm2-135m-instruct"},
    "pool": {"name": "mixed"},
    "budget": {"train_flops": 8e12},
    "seeds": [0, 1],
    "methods": [{"name": "base"}, {"name": "sft"}, {"name": "rlhf", "variant": "ppo", "config": {"algorithm": "ppo"}}],
    "suites": ["complex_understanding", "pool_validation"],
}
"""What a snippet that shows some keys of a study is put into."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="mkdocs-material is not installed (extra `docs`)")
    out = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT), "http_proxy": "http://127.0.0.1:9", "COLUMNS": "40"}
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    return out


def commands(group: Any, *before: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *before, name)
        else:
            yield (*before, name), command


def test_every_command_and_option_is_on_its_page(site: Path) -> None:
    found = list(commands(typer.main.get_command(app)))
    assert ("corpus", "export") in [names for names, _ in found]
    listed = (site / "commands" / "index.html").read_text()
    for names, command in found:
        page = html.unescape((site / "commands" / f"{names[0]}.html").read_text())
        assert f"selfteach {' '.join(names)}" in page
        assert command.help.split(";")[0].split("`")[0] in page
        for parameter in command.params:
            if parameter.name == "help" or parameter.hidden:
                continue
            if parameter.param_type_name == "option":
                assert re.search(rf"<code>{parameter.opts[0]}\b", page), (names, parameter.opts)
            assert re.sub(r"\W+", " ", parameter.help)[:40] in re.sub(r"\W+", " ", re.sub(r"</?code>", "", page)), (names, parameter.help)
        assert f'href="{names[0]}.html"' in listed, "the navigation leads there"


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert not re.findall(r"<(?:script|img|iframe)[^>]*src=[\"']?(?:https?:)?//[^>]*>", text), page
        assert not re.findall(r"<link[^>]*rel=[\"']?(?:stylesheet|preconnect|icon)[^>]*href=[\"']?(?:https?:)?//[^>]*>", text), page
    for sheet in site.rglob("*.css"):
        assert "fonts.googleapis" not in sheet.read_text()


def test_pages_of_the_program_follow_it(site: Path) -> None:
    assert "<!-- options -->" not in (site / "commands" / "run.html").read_text()
    assert "selfteach run [OPTIONS]" in (site / "commands" / "run.html").read_text(), "no line is broken by a narrow terminal"
    assert not list(site.rglob("hooks*"))


def snippets() -> list[Any]:
    found = []
    for page in sorted((ROOT / "docs").glob("*.md")):
        for at, block in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)):
            found.append(pytest.param(block, id=f"{page.stem}-{at}"))
    return found


@pytest.mark.parametrize("block", snippets())
def test_what_the_pages_show_of_study_and_claim_files_is_valid(block: str, tmp_path: Path) -> None:
    content = yaml.safe_load(block)
    path = tmp_path / "shown.yaml"
    if isinstance(content.get("claims"), list) and isinstance(content["claims"][0], dict):
        path.write_text(block)
        assert load_claims(path).claims
        return
    assert content.keys() <= StudySpec.model_fields.keys(), "neither a study nor a claim file"
    if content.keys() == {"tuned"}:
        pytest.skip("names a run that was made before")
    path.write_text(yaml.safe_dump(STUDY | content))
    load_study(path)
