"""SIGKILL at random moments of a study, again and again: does it end with the scores of the undisturbed run, every time?

A round is one run folder: `selfteach run` is started, a random process of it (the driver or another) is killed at a random moment,
and the same command is given again until the study is finished. README.md has the commands; exit code 1: something was not as it should be.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import platform
import shlex
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parent))
from identity import differences
from tiny import write_feather_study, write_study
from watch import POLL_S, Attempt

from harness.core.store import META, RunStore, file_sha256, write_json

MOMENTS = {"any": 0.5, "writing": 0.15, "sealing": 0.2, "concluding": 0.15}
"""How the moment of a kill is drawn: uniform over the attempt, or shortly after something was seen to begin."""
DELAY_S = {"writing": 0.5, "sealing": 0.03, "concluding": 3.0}
DRIVER_SHARE = 0.5
FAILED_CODE = 5
FEATHER = Path(__file__).parents[2] / "tests" / "study" / "feather"


@dataclass(frozen=True)
class Kill:
    round: int
    attempt: int
    victim: str
    moment: str
    phase: str
    at_s: float
    gone_s: float | None
    """Of a killed driver: seconds until its workers were gone."""


class Campaign:
    """Rounds of kills over one study, and what was found wrong."""

    def __init__(self, options: argparse.Namespace, rng: np.random.Generator) -> None:
        self.options, self.rng, self.work = options, rng, Path(options.work).absolute()
        self.work.mkdir(parents=True, exist_ok=True)
        write = write_feather_study if options.light else write_study
        self.study = Path(options.study) if options.study else write(self.work)
        self.program, self.environment = ["-m", "harness.cli"], dict[str, str]()
        if options.light:
            path = os.pathsep.join(filter(None, [str(FEATHER), os.environ.get("PYTHONPATH")]))
            self.program, self.environment = [str(FEATHER / "feather_run.py")], {"PYTHONPATH": path, "FEATHER_S": "1"}
        self.kills: list[Kill] = []
        self.defects: list[str] = []
        self.counts: collections.Counter[str] = collections.Counter()
        self.life_s = self.planned = 0.0

    def attempt(self, run_dir: Path) -> Attempt:
        layout = ["--workers", str(self.options.workers), "--executor", self.options.executor, "--out", str(run_dir)]
        log = self.work / f"{run_dir.name}.log"
        return Attempt(self.program, [str(self.study), *layout], run_dir, log, self.environment)

    def reference(self) -> Path:
        """The undisturbed run; its duration scales the moments of kills."""
        run_dir = self.work / "runs" / "undisturbed"
        shutil.rmtree(run_dir, ignore_errors=True)
        attempt = self.attempt(run_dir)
        if attempt.driver.wait() != 0:
            raise SystemExit(f"the undisturbed run failed: {attempt.log.read_text()}")
        self.life_s, self.planned = attempt.seconds(), len(attempt.finished())
        return run_dir

    def round(self, number: int, reference: Path) -> None:
        """One run folder from nothing to finished, killed on the way; checked after every attempt and at the end."""
        run_dir = self.work / "runs" / "disturbed"
        shutil.rmtree(run_dir, ignore_errors=True)
        sealed: dict[str, str] = {}
        for place in range(1, 1000):
            attempt = self.attempt(run_dir)
            struck = self._disturb(number, place, attempt)
            code = attempt.driver.wait()
            gone_s, orphans = attempt.wait_gone(self.options.orphan_s)
            if struck and struck[-1]["victim"] == "driver":
                struck[-1]["gone_s"] = round(gone_s, 3)
            self.kills += [Kill(**kill) for kill in struck]
            where = f"round {number}, attempt {place}"
            self.defects += [f"{where}: still running {self.options.orphan_s:g} s after the driver: {line}" for line in orphans]
            sealed = self._check_attempt(where, attempt, code, struck, sealed)
            if code == 0:
                self._check_round(f"round {number}", run_dir, reference)
                return
            self.counts["resumes"] += 1

    def _disturb(self, number: int, place: int, attempt: Attempt) -> list[dict[str, Any]]:
        """Kills until the driver is killed or the attempt ends."""
        struck: list[dict[str, Any]] = []
        while len(self.kills) + len(struck) < self.options.kills:
            moment = str(self.rng.choice(list(MOMENTS), p=list(MOMENTS.values())))
            if not self._wait(attempt, moment):
                return struck
            phase = attempt.phase(int(self.planned))
            others = [process for process in attempt.processes() if process.pid != attempt.driver.pid]
            spared = self.rng.random() >= DRIVER_SHARE and others
            victim = others[int(self.rng.integers(len(others)))] if spared else psutil.Process(attempt.driver.pid)
            at_s = round(attempt.seconds(), 3)
            try:
                name = _role(victim, attempt)
                victim.kill()
            except psutil.NoSuchProcess:
                continue
            struck.append(
                {"round": number, "attempt": place, "victim": name, "moment": moment, "phase": phase, "at_s": at_s, "gone_s": None}
            )
            if name == "driver":
                return struck
        return struck

    def _wait(self, attempt: Attempt, moment: str) -> bool:
        """Waits for a moment of this kind; whether the attempt still runs then."""
        seen = {
            "any": lambda: True,
            "writing": attempt.writing,
            "sealing": attempt.sealing,
            "concluding": lambda: len(attempt.finished()) >= self.planned,
        }[moment]
        delay_s = self.rng.uniform(0, DELAY_S.get(moment, max(1.0, self.life_s - attempt.seconds())))
        due = None
        while attempt.driver.poll() is None:
            if due is None and seen():
                due = time.monotonic() + delay_s
            if due is not None and time.monotonic() >= due:
                return True
            time.sleep(POLL_S)
        return False

    def _check_attempt(
        self, where: str, attempt: Attempt, code: int, struck: list[dict[str, Any]], sealed: dict[str, str]
    ) -> dict[str, str]:
        """What must hold after every attempt; the sealed meta.json of every finished stage, by hash."""
        output = attempt.log.read_text(errors="replace")
        by_driver = bool(struck) and struck[-1]["victim"] == "driver"
        expected = {-9} if by_driver else {0, FAILED_CODE} if len(struck) >= 2 else {0}
        if code not in expected or "Traceback (most recent" in output:
            self.defects.append(f"{where}: exit code {code} after {[kill['victim'] for kill in struck]}: {output[-1500:]}")
        self.counts["failed stages, tried again"] += output.count("FAILED ")
        events = RunStore(attempt.run_dir).journal.events()  # raises if it cannot be read
        damaged = [event["error"] for event in events if event["event"] == "stage_damaged"]
        self.defects += [f"{where}: a stage was damaged by a kill: {error}" for error in damaged]
        now = {stage: file_sha256(attempt.store.folder(stage) / META) for stage in attempt.finished()}
        for stage, before in sealed.items():
            if now.get(stage) != before:
                self.defects.append(f"{where}: finished stage {stage} was replaced or removed")
        return now

    def _check_round(self, where: str, run_dir: Path, reference: Path) -> None:
        self.counts["rounds"] += 1
        found = differences(run_dir, reference)
        self.defects += [f"{where}: {text}" for text in found]
        self.counts["rounds equal to the undisturbed run"] += not found
        store = RunStore(run_dir)
        left = [*store.stages.glob(".tmp-*"), *store.progress.iterdir(), *store.failed.iterdir(), *run_dir.rglob(".*.tmp")]
        self.defects += [f"{where}: left behind: {path.relative_to(run_dir)}" for path in left]
        twice = collections.Counter(event["stage"] for event in store.journal.events() if event["event"] == "stage_finished")
        self.defects += [f"{where}: stage {stage} was finished {times} times" for stage, times in twice.items() if times > 1]
        self.counts["stages begun"] += sum(event["event"] == "stage_started" for event in store.journal.events())
        self.counts["stages finished"] += int(self.planned)

    def record(self, wall_s: float) -> dict[str, Any]:
        gone = [kill.gone_s for kill in self.kills if kill.gone_s is not None]
        return {
            "command": shlex.join(["python", "benchmarks/faults/kills.py", *sys.argv[1:]]),
            "machine": {"system": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()},
            "seed": self.options.seed,
            "kills": len(self.kills),
            "victims": dict(collections.Counter(kill.victim for kill in self.kills).most_common()),
            "phases": dict(collections.Counter(kill.phase for kill in self.kills).most_common()),
            **dict(self.counts),
            "stages": int(self.planned),
            "undisturbed_s": round(self.life_s, 1),
            "longest_until_workers_gone_s": max(gone, default=None),
            "wall_s": round(wall_s, 1),
            "defects": self.defects,
            "each": [asdict(kill) for kill in self.kills],
        }


def _role(process: psutil.Process, attempt: Attempt) -> str:
    if process.pid == attempt.driver.pid:
        return "driver"
    words = " ".join(process.cmdline())
    return "tracker" if "resource_tracker" in words else "worker" if "spawn_main" in words else process.name()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and victims")
    parser.add_argument("--study", help="a study file; default: a tiny one that is made here")
    parser.add_argument("--light", action="store_true", help="stages of tests/study/feather: all is real but the computing; no torch")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--executor", default="local")
    parser.add_argument("--work", default="results/faults", help="folder for the run folders and logs")
    parser.add_argument("--orphan-s", type=float, default=2.0, help="how long a killed driver's processes may take to go")
    parser.add_argument("--out", help="write the result as JSON, after every round")
    options = parser.parse_args()
    began = time.monotonic()
    print(f"seed {options.seed}; {options.kills} kills", flush=True)
    campaign = Campaign(options, np.random.default_rng(options.seed))
    reference = campaign.reference()
    print(f"undisturbed: {int(campaign.planned)} stages in {campaign.life_s:.1f} s", flush=True)
    number = 0
    while len(campaign.kills) < options.kills and len(campaign.defects) < 20:
        number += 1
        known = len(campaign.defects)
        campaign.round(number, reference)
        print(
            f"[{time.monotonic() - began:6.0f} s] round {number}: {len(campaign.kills)} kills, {campaign.counts['resumes']} resumes, "
            f"{len(campaign.defects)} defects",
            flush=True,
        )
        for defect in campaign.defects[known:]:
            print(f"  defect: {defect}", flush=True)
        record = campaign.record(time.monotonic() - began)
        if options.out:
            write_json(Path(options.out), record)
    print(json.dumps({key: value for key, value in record.items() if key != "each"}, indent=1))
    return 1 if campaign.defects else 0


if __name__ == "__main__":
    sys.exit(main())
