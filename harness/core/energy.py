"""Energy that this machine's counters report: RAPL for processors and memory, NVML for NVIDIA cards.

A counter measures its whole device, whoever keeps it busy: other programs, and other workers of the same study, are in the reading.
Where no counter can be read the answer is None, "not available", and never 0: most containers and virtual machines have none, and Linux
shows RAPL to root only unless an administrator made `energy_uj` readable.

Source: Linux Documentation/power/powercap; NVML nvmlDeviceGetTotalEnergyConsumption.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
NVML_EVERY_S = 0.1
ReadJoules = Callable[[], float]


class EnergyMeter:
    """Joules used since it was made, over all counters it was given; without any it reads None.

    Args:
        counters: by name, functions that read joules which only grow.
    """

    def __init__(self, counters: dict[str, ReadJoules]) -> None:
        self._counters = counters

    @property
    def names(self) -> list[str]:
        """What is measured: "RAPL package-0", "NVML GPU 0" ..."""
        return list(self._counters)

    def read_j(self) -> float | None:
        """The sum of all counters in joules; only differences mean something."""
        return sum(read() for read in self._counters.values()) if self._counters else None


class RaplCounter:
    """One RAPL domain: microjoules that start again at 0 after `max_energy_range_uj`.

    A wrap is seen if it is read at least once a round, which takes minutes to hours.
    """

    def __init__(self, zone: Path) -> None:
        self._file = zone / "energy_uj"
        self._range_uj = int((zone / "max_energy_range_uj").read_text())
        self._last_uj, self._wraps = int(self._file.read_text()), 0

    def read_j(self) -> float:
        """Joules, wraps included."""
        now_uj = int(self._file.read_text())
        if now_uj < self._last_uj:
            self._wraps += 1
        self._last_uj = now_uj
        return (now_uj + self._wraps * self._range_uj) / 1e6


class NvmlCounter:
    """One NVIDIA card, asked at most every 0.1 s, because that can take longer than the phases that it is read between.

    In between it reads as it was last asked, so what the card used in the last 0.1 s before a phase began or ended may stand with the phase
    after it: at most its draw in 0.1 s and in the time that it takes to answer (70 J at 700 W, answered at once). A phase shorter than that
    may read 0. Over all phases nothing is counted twice, and no more than that is lost at their end. The card itself brings its counter up
    to date about as often.
    """

    def __init__(self, nvml: Any, card: Any, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._nvml, self._card, self._clock_s = nvml, card, clock_s
        self._last_j, self._asked_s = 0.0, float("-inf")

    def read_j(self) -> float:
        """Joules since the driver was loaded."""
        now_s = self._clock_s()
        if now_s - self._asked_s >= NVML_EVERY_S:
            self._last_j = float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._card)) / 1e3
            self._asked_s = self._clock_s()
        return self._last_j


def rapl_counters(root: Path = POWERCAP) -> dict[str, ReadJoules]:
    """Processor packages and memory; cores and graphics, being part of a package, are not counted again, nor is the whole platform."""
    found: dict[str, ReadJoules] = {}
    for zone in sorted(root.glob("*-rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
            if name.startswith("package") or name == "dram":
                found[f"RAPL {name} ({zone.name})"] = RaplCounter(zone).read_j
        except (OSError, ValueError):  # not readable, or a driver's dummy
            continue
    return found


def nvml_counters(nvml: Any = None, visible: str | None = None) -> dict[str, ReadJoules]:
    """The NVIDIA cards that this process may use, if pynvml is installed and the cards count (Volta and later).

    Args:
        nvml: the pynvml module.
        visible: CUDA_VISIBLE_DEVICES.
    """
    if nvml is None:
        if find_spec("pynvml") is None:
            return {}
        nvml = import_module("pynvml")
    shown = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible
    wanted = None if shown is None else {name.strip() for name in shown.split(",")}
    found: dict[str, ReadJoules] = {}
    try:
        nvml.nvmlInit()
        for index in range(nvml.nvmlDeviceGetCount()):
            card = nvml.nvmlDeviceGetHandleByIndex(index)
            if wanted is not None and not wanted & {str(index), str(nvml.nvmlDeviceGetUUID(card))}:
                continue
            nvml.nvmlDeviceGetTotalEnergyConsumption(card)  # old cards refuse
            found[f"NVML GPU {index}"] = NvmlCounter(nvml, card).read_j
    except nvml.NVMLError:
        return found
    return found


@lru_cache(maxsize=1)
def _counters_of(process: int) -> EnergyMeter:
    return EnergyMeter(rapl_counters() | nvml_counters())


def machine_energy() -> EnergyMeter:
    """This machine's counters, looked for once a process."""
    return _counters_of(os.getpid())


def why_no_counter(root: Path = POWERCAP) -> str:
    """What stands in the way of the processors' counters, for `selfteach doctor`."""
    zones = [zone for zone in root.glob("*-rapl:*") if (zone / "energy_uj").exists()]
    if zones:
        return f"{zones[0] / 'energy_uj'} is readable by root only"
    return "no RAPL counter here (a container, a virtual machine, or a system that is not Linux)"
