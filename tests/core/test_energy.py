"""Energy: counters that wrap, machines without one, and what the ledger books to which phase."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.core.budget import Ledger
from harness.core.energy import EnergyMeter, NvmlCounter, nvml_counters, rapl_counters, why_no_counter


def zone(root: Path, folder: str, name: str, energy_uj: int, range_uj: int = 1_000_000) -> Path:
    place = root / folder
    place.mkdir()
    (place / "name").write_text(f"{name}\n")
    (place / "energy_uj").write_text(str(energy_uj))
    (place / "max_energy_range_uj").write_text(str(range_uj))
    return place


def test_packages_and_memory_are_counted_once(tmp_path: Path) -> None:
    """The platform holds all of them, cores are part of a package."""
    for folder, name in (("rapl:0", "package-0"), ("rapl:0:0", "core"), ("rapl:0:1", "dram"), ("rapl:1", "package-1"), ("rapl:2", "psys")):
        zone(tmp_path, f"intel-{folder}", name, 250_000)
    counters = rapl_counters(tmp_path)
    assert [name.split()[1] for name in counters] == ["package-0", "dram", "package-1"]
    assert EnergyMeter(counters).read_j() == pytest.approx(0.75)


def test_a_counter_that_starts_again_goes_on(tmp_path: Path) -> None:
    place = zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    meter = EnergyMeter(rapl_counters(tmp_path))
    before = meter.read_j()
    (place / "energy_uj").write_text("100000")
    after = meter.read_j()
    assert before is not None
    assert after is not None
    assert after - before == pytest.approx(0.2)


def test_without_a_readable_counter_there_is_no_number(tmp_path: Path) -> None:
    assert EnergyMeter(rapl_counters(tmp_path)).read_j() is None
    assert "no RAPL counter" in why_no_counter(tmp_path)
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    (tmp_path / "intel-rapl:0/energy_uj").write_text("")  # what an unreadable file amounts to
    assert rapl_counters(tmp_path) == {}
    assert "root" in why_no_counter(tmp_path)


class NVMLError(Exception):
    pass


class FakeNvml(SimpleNamespace):
    """Two cards of 1500 and 4000 mJ; the third does not count."""

    NVMLError = NVMLError

    def nvmlInit(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 3

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, index: int) -> str:  # noqa: N802
        return f"GPU-{index}"

    def nvmlDeviceGetTotalEnergyConsumption(self, index: int) -> int:  # noqa: N802
        if index == 2:
            raise NVMLError
        return (1500, 4000)[index]


@pytest.mark.parametrize(("visible", "joules"), [("0", 1.5), ("GPU-1", 4.0), ("0,1", 5.5), ("", None), ("2", None)])
def test_only_cards_this_process_may_use_are_counted(visible: str, joules: float | None) -> None:
    assert EnergyMeter(nvml_counters(FakeNvml(), visible)).read_j() == joules


def test_a_card_is_asked_at_most_ten_times_a_second() -> None:
    """A card of 700 W that takes 30 ms to answer, read every 10 ms: each reading is behind by its draw in 0.13 s at most."""
    now_s, asked_s = [50.0], list[float]()

    class Slow(FakeNvml):
        def nvmlDeviceGetTotalEnergyConsumption(self, index: int) -> int:  # noqa: N802
            asked_s.append(now_s[0])
            energy_mj = round(700 * now_s[0] * 1000)
            now_s[0] += 0.03
            return energy_mj

    counter = NvmlCounter(Slow(), 0, clock_s=lambda: now_s[0])
    for _ in range(200):
        before_s = now_s[0]
        behind_j = 700 * before_s - counter.read_j()
        assert -1e-6 <= behind_j <= 700 * (0.1 + 0.03) + 1e-6
        now_s[0] += 0.01
    assert len(asked_s) >= 10
    assert min(later - earlier for earlier, later in pairwise(asked_s)) >= 0.1


def test_energy_belongs_to_the_innermost_phase() -> None:
    used = [0.0]
    ledger = Ledger(100.0, energy=EnergyMeter({"fake": lambda: used[0]}))
    with ledger.use_phase("generate"):
        used[0] += 2
        with ledger.use_phase("review"):
            used[0] += 5
        used[0] += 1
    with ledger.use_phase("generate"):
        used[0] += 4
    assert {row["phase"]: row["energy_j"] for row in ledger.rows()} == {"generate": pytest.approx(7), "review": pytest.approx(5)}


def test_a_ledger_without_a_counter_says_none_and_not_zero() -> None:
    ledger = Ledger(100.0, energy=EnergyMeter({}))
    with ledger.use_phase("generate"):
        ledger.charge("student", 10, tokens=1)
    assert [row["energy_j"] for row in ledger.rows()] == [None, None]
