from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    printed = capsys.readouterr()
    return int(stop.value.code or 0), printed.out, printed.err


@pytest.mark.parametrize(
    "command", ["run", "plan", "status", "report", "methods", "tasks", "models list", "models fetch", "models show", "doctor"]
)
def test_every_command_explains_itself_with_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = call(capsys, *command.split(), "--help")
    assert code == 0
    assert f"selfteach {command}" in out
    assert "Example" in out


def test_help_and_bare_command_list_the_commands_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = call(capsys, "--help")
    for word in ("run", "plan", "status", "report", "models", "methods", "tasks", "doctor", "Exit codes"):
        assert word in out


def test_starting_up_imports_nothing_heavy() -> None:
    code = (
        "import sys, harness.cli\n"
        "heavy = {'torch', 'transformers', 'pandas', 'scipy', 'lm_eval', 'matplotlib', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_status_and_report_import_no_torch() -> None:
    code = (
        "import sys, harness.cli.status, harness.cli.commands, harness.cli.conclude, harness.report.page, harness.report.tables\n"
        "import harness.verdicts.judge, harness.verdicts.leaderboard\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "no-such.yaml"], "no such study file"),
        (["plan", "no-such.yaml"], "no such study file"),
        (["run", "x.yaml", "--executor", "slurmm"], "unknown executor"),
        (["run", "x.yaml", "--report-to", "tensorbord"], "Did you mean 'tensorboard'"),
        (["run", "x.yaml", "--report-to", "none,tensorboard"], "none stands alone"),
        (["status", "no-such-run"], "no such run"),
        (["report", "no-such-run"], "no such run"),
        (["methods", "sfft"], "unknown method"),
        (["tasks", "generatoin"], "unknown suite"),
        (["models", "show", "smollm2-135m-instruc"], "Did you mean 'smollm2-135m-instruct'"),
        (["models", "fetch", "smollm2-135m-instruc"], "Did you mean 'smollm2-135m-instruct'"),
    ],
)
def test_a_users_mistake_is_one_message_on_standard_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("selfteach: ")
    assert told in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [], "a mistake leaves nothing behind"


@pytest.mark.parametrize(("out", "told"), [("notes.yaml/z", "notes.yaml is no folder"), ("/proc/z/run", "nothing can be written in /proc")])
def test_a_run_folder_that_cannot_be_made_is_told_with_its_option(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, told: str
) -> None:
    study = Path(__file__).parents[1] / "studies" / "quickstart.yaml"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.yaml").write_text("")
    code, _, err = call(capsys, "run", str(study), "--out", out)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("selfteach: --out: ")
    assert told in err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.yaml"]


@pytest.mark.parametrize("arguments", [["run"], ["runn", "x"], ["run", "x", "--wrokers", "2"], ["run", "x", "--workers", "0"]])
def test_wrong_usage_exits_with_2_and_no_traceback(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert "Traceback" not in err
    assert err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_disk_that_refuses_is_one_message(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "/full/report.html")

    monkeypatch.setattr("harness.cli.commands.report_command", refuse)
    code, _, err = call(capsys, "report", "x")
    assert code == 4
    assert err == f"selfteach: /full/report.html: {os.strerror(number)}; finished stages are untouched\n"


def test_text_from_outside_is_no_markup_and_no_control_sequence(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "status", "[bold]x[/bold]\x1b[2J\u202e")
    assert code == 2
    assert "[bold]x[/bold]" in err
    assert "\x1b" not in err
    assert "\u202e" not in err


def test_models_are_listed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "models", "list", "--json")
    assert code == 0
    assert {"name", "kind", "megabytes", "here", "licence", "note"} == set(json.loads(out)[0])
    assert "smollm2-135m-instruct" in {row["name"] for row in json.loads(out)}


def test_tasks_are_listed_with_chance_levels(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "tasks", "complex_understanding", "--json")
    assert code == 0
    logiqa = next(row for row in json.loads(out)["tasks"] if row["name"] == "logiqa")
    assert logiqa["chance"] == 0.25
