"""What torch computes on, told without importing it: the same answer, kept for this processor, and torch asked where a GPU may be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core import plugins
from harness.models import cache, device
from harness.study.plan import local_setting

_TOLD = "import sys\nfrom harness.models.device import device_and_precision\nprint(*device_and_precision(), 'torch' in sys.modules)"
no_gpu = pytest.mark.skipif(device.gpu_possible(), reason="this machine may have a GPU: torch is asked each time")


def told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Device, precision and whether torch was imported, in a process of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return subprocess.run([sys.executable, "-c", _TOLD], capture_output=True, text=True, check=True).stdout.split()


def kept_in(folder: Path) -> list[Path]:
    return list((folder / "selfteach" / "processors").glob("*.json"))


@no_gpu
def test_the_second_answer_is_the_first_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = local_setting(1)  # torch is imported by now, or is asked
    first, second = told(tmp_path, monkeypatch), told(tmp_path, monkeypatch)
    assert first == [here.device, here.precision, "True"]
    assert second == [here.device, here.precision, "False"]


@no_gpu
@pytest.mark.parametrize("content", ["", "{", '"float8"', "[1]"])
def test_a_damaged_answer_is_asked_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    first = told(tmp_path, monkeypatch)
    (kept,) = kept_in(tmp_path)
    kept.write_text(content)
    assert told(tmp_path, monkeypatch) == first
    assert json.loads(kept.read_text()) == first[1]


@no_gpu
def test_a_cache_that_is_no_folder_costs_seconds_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "selfteach").write_text("")
    assert told(tmp_path, monkeypatch)[2] == "True"


def test_another_processor_or_torch_is_another_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    key = device._processor_key()
    monkeypatch.setattr(device, "version", lambda name: "0.0.1")
    assert device._processor_key() != key
    monkeypatch.undo()
    monkeypatch.setattr(device, "RULE", "another rule")
    assert device._processor_key() != key
    monkeypatch.undo()
    monkeypatch.setattr(device.platform, "machine", lambda: "riscv64")
    assert device._processor_key() != key


@pytest.mark.parametrize(
    ("made", "possible"),
    [
        ([], False),
        (["dev/null", "dev/nvme0", "dev/nvram", "cards/0000:00:01.0/vendor=0x1022"], False),
        (["dev/nvidia0"], True),
        (["dev/nvidiactl"], True),
        (["dev/kfd"], True),
        (["dev/dxg"], True),
        (["driver"], True),
        (["cards/0000:01:00.0/vendor=0x10de"], True),  # its node is made by the first program that uses it
        (["cards/0000:00:01.0/vendor=0x8086", "cards/0000:01:00.0/vendor=0x1002"], True),
    ],
)
def test_a_gpu_is_possible_where_its_node_its_driver_or_its_card_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: list[str], possible: bool
) -> None:
    monkeypatch.setattr(device.sys, "platform", "linux")
    for name, place in (("_NODES", "dev"), ("_DRIVER", "driver"), ("_CARDS", "cards")):
        monkeypatch.setattr(device, name, tmp_path / place)
    for file in made:
        path, _, content = file.partition("=")
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"{content}\n")
    assert device.gpu_possible() is possible


def test_torch_is_asked_where_a_gpu_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "cache_root", lambda: tmp_path)
    monkeypatch.setattr(device, "gpu_possible", lambda: True)
    monkeypatch.setattr(device, "_ask_torch", lambda: ("cuda NVIDIA Test", "bfloat16"))
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert device.device_and_precision() == ("cuda NVIDIA Test", "bfloat16")
    assert list(tmp_path.iterdir()) == []


def test_settings_of_all_methods_are_read_without_torch() -> None:
    code = (
        "import sys\nfrom harness.core import plugins\n"
        "for kind in ('methods', 'pools', 'suites'):\n"
        "    for name in plugins.names(kind):\n"
        "        plugins.load(kind, name)\n"
        "        heavy = {'torch', 'transformers', 'peft', 'trl'} & set(sys.modules)\n"
        "        assert not heavy, (name, heavy)\n"
    )
    assert plugins.names("methods")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
