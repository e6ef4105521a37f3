"""Each check of `doctor` on machines that lack something: it must fail, say what it saw and how to mend it."""

import importlib.metadata
import subprocess
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from harness import doctor
from harness.models.engines.vllm_install import Installation

GIB = 2**30


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def pretend_memory(monkeypatch: pytest.MonkeyPatch, *, available: float, limit: float = float("inf")) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=available * GIB, total=64 * GIB))
    monkeypatch.setattr(doctor, "_container_limit", lambda: limit * GIB)


def test_every_failed_check_has_a_remedy_and_names_are_unique(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: SimpleNamespace(returncode=1, stdout="", stderr=""))
    checks = doctor.run_checks()
    assert len({check.name for check in checks}) == len(checks)
    assert all(check.remedy for check in checks if not check.ok)
    assert all(check.detail for check in checks)


def test_an_old_python_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_python().ok
    monkeypatch.setattr(doctor, "MINIMUM_PYTHON", (9, 0))
    assert not doctor.check_python().ok


def test_packages_that_are_missing_or_too_old_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_packages().ok
    wanted = ["rich>=999", "no-such-package-here", 'never; extra == "dev"', "numpy>=2"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wanted)
    check = doctor.check_packages()
    assert not check.ok
    assert f"rich {importlib.metadata.version('rich')} is not >=999" in check.detail
    assert "no-such-package-here is missing" in check.detail
    assert "never" not in check.detail
    assert "numpy" not in check.detail


def test_memory_is_judged_by_the_smaller_of_free_and_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_memory(monkeypatch, available=20)
    assert doctor.check_memory().ok
    pretend_memory(monkeypatch, available=7)
    assert not doctor.check_memory().ok
    pretend_memory(monkeypatch, available=20, limit=4)
    check = doctor.check_memory()
    assert not check.ok
    assert check.detail == "4.0 of 4.0 GiB free"


def test_a_full_disk_fails_and_a_cache_not_made_yet_does_not(monkeypatch: pytest.MonkeyPatch, cache_home: Path) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage(100 * GIB))  # type: ignore[attr-defined]
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home / "not" / "yet"))
    assert doctor.check_disk().ok
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage(1 * GIB))  # type: ignore[attr-defined]
    check = doctor.check_disk()
    assert not check.ok
    assert "XDG_CACHE_HOME" in check.remedy


def test_a_processor_without_bf16_can_run_but_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    slow = doctor.check_bf16()
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    fast = doctor.check_bf16()
    assert slow.ok
    assert "fp32" in slow.detail
    assert slow.remedy
    assert fast.detail == "in hardware (amx)"


@pytest.mark.parametrize(
    ("cuda", "driver", "ok", "says"), [(None, None, True, ""), ("13.0", None, True, "TORCH_INDEX"), (None, "/bin/x", False, "CUDA build")]
)
def test_torch_that_does_not_suit_the_machine(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, driver: str | None, ok: bool, says: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: driver)  # type: ignore[attr-defined]
    check = doctor.check_gpu()
    assert check.ok == ok
    assert says in check.remedy
    assert bool(check.remedy) == bool(says)


def test_an_empty_cache_lists_what_will_be_fetched() -> None:
    check = doctor.check_cache()
    assert check.ok
    assert "smollm2-135m-instruct" in check.remedy
    assert "reasoning-gym" in check.detail


@pytest.mark.parametrize("cached", [False, True])
def test_no_network_matters_only_while_the_model_is_not_here(monkeypatch: pytest.MonkeyPatch, cached: bool) -> None:
    monkeypatch.setattr(doctor, "is_cached", lambda name: cached)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    check = doctor.check_package_index()
    assert check.ok == cached
    assert "pip cannot reach it" in check.detail
    assert check.remedy


def test_an_index_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **options: object) -> None:
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(subprocess, "run", hang)
    check = doctor.check_package_index(timeout_s=1)
    assert not check.ok
    assert "no answer in 1 s" in check.detail


def test_vllm_is_advice_until_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_vllm", lambda: None)
    (check,) = (check for check in doctor.run_checks() if check.name == "vLLM")
    assert check.ok
    assert "make vllm" in check.remedy
    monkeypatch.setattr(doctor, "find_vllm", lambda: Installation(Path("/somewhere/python"), "vllm 0.33.0"))
    assert doctor.check_vllm().detail == "vllm 0.33.0 of /somewhere/python"


def test_executors_that_lack_something_are_named_with_what_mends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    check = doctor.check_executors()
    assert check.ok
    assert check.detail == "local; ray: ray is not installed; slurm: submitit is not installed"
    assert ".[ray]" in check.remedy
    assert ".[slurm]" in check.remedy
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: object())  # type: ignore[attr-defined]
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)  # type: ignore[attr-defined]
    assert "sbatch is not on the PATH" in doctor.check_executors().detail
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")  # type: ignore[attr-defined]
    check = doctor.check_executors()
    assert "slurm (submitit" in check.detail
    assert not check.remedy
