"""Stages as Slurm jobs through submitit: the ready stages of one kind are one job array; what is preempted goes back into the queue.

A job outlives its driver. `queue/<stage>.json` of the run says which job holds a stage, so that a driver started again waits for it and
does not submit it twice. Slurm is asked by one `squeue` for all jobs, at most every ten seconds; results are seen in the folder where jobs
leave them.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.core.store import RunStore, write_json
from harness.errors import ExecutorError
from harness.study.plan import Setting, Stage
from harness.study.remote import Probe, RemoteTask
from harness.study.schedule import MAX_KILLS, Ended, Executor, worker_environment
from harness.study.slurm_options import job_parameters
from harness.study.worker import StageResult

INSTALL = "pip install -e '.[slurm]'"
MOST_JOBS = 1000
"""Stages in the queue at a time where --workers says nothing else, and jobs of one array: Slurm's own default limit is 1001."""
RESULTS_EVERY_S, QUEUE_EVERY_S = 2.0, 10.0


class SlurmExecutor(Executor):
    """Hands all ready stages to Slurm; the run folder must lie on a file system that the nodes share.

    Args:
        workers: stages in the queue at a time; None: as many as are ready, up to MOST_JOBS.
        options: sbatch's long options by name, without dashes (`partition`, `time`, `account`, `gres`, ...).
    """

    def __init__(self, store: RunStore, *, workers: int | None, threads: int, options: Mapping[str, str | bool]) -> None:
        super().__init__(store, threads=threads)
        self.workers, self.options = workers, options
        self._folder = store.root.absolute() / "slurm"
        self._new: dict[str, list[tuple[Stage, RemoteTask]]] = {}
        self._jobs: dict[str, str] = {}
        """Job id by stage, of what is in the queue."""
        self._missing: set[str] = set()
        self._looked_s = self._asked_s = float("-inf")

    @contextmanager
    def session(self) -> Iterator[None]:
        """Finds the jobs of an earlier driver; at the end cancels what is still in the queue.

        Only a job that still waits or runs is taken over. What others left is no result of this run: their stage is finished (and was
        compared with its checksums), or is tried again.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self.store.queue.mkdir(exist_ok=True)
        alive = queued_jobs()
        for path in self.store.queue.glob("*.json"):
            job = str(_read(path).get("job", ""))
            if job not in alive or self._result_path(job).exists() or self.store.finished(path.stem):
                self._jobs[path.stem] = job
                self._forget(path.stem)
        try:
            yield
        finally:
            self._stop()

    def setting(self) -> Setting:
        """Device and number format on the nodes, by asking one with a job; remembered in the run's folder."""
        path, key = self._folder / "setting.json", {"options": dict(self.options), "threads": self.threads}
        if path.exists() and (known := _read(path)).get("key") == key:
            return Setting(**known["setting"])
        self._folder.mkdir(parents=True, exist_ok=True)
        (job,) = self._sbatch([Probe(self.threads, os.getcwd())], "setting")
        try:
            asked_s = time.monotonic()
            while not self._result_path(job).exists():
                time.sleep(RESULTS_EVERY_S)
                if time.monotonic() - asked_s < QUEUE_EVERY_S:
                    continue
                asked_s = time.monotonic()
                if job not in queued_jobs() and not self._result_path(job).exists():
                    raise ExecutorError(f"the job that asks a node for its device ended without an answer; its output: {self._folder}")
        except BaseException:
            cancel([job])
            raise
        outcome, answer = self._result(job)
        if outcome != "success":
            raise ExecutorError(f"the job that asks a node for its device failed; its output: {self._folder}\n{answer}")
        setting: Setting = answer
        write_json(path, {"key": key, "setting": asdict(setting)})
        return setting

    def free(self, ready: int) -> int:
        """All that are ready, within the limit."""
        outstanding = len(self._jobs) + sum(map(len, self._new.values()))
        return max(0, min(ready, (self.workers or MOST_JOBS) - outstanding))

    def submit(self, stage: Stage, task: Any) -> None:
        """Keeps the stage for the next array of its kind, or takes over the job that an earlier driver submitted for it."""
        path = self._queue_path(stage.id)
        if path.exists():
            self._jobs[stage.id] = str(_read(path)["job"])  # whole: `session` has read it
        else:
            remote = RemoteTask(task, os.getcwd(), worker_environment(self.threads))
            self._new.setdefault(stage.kind, []).append((stage, remote))

    def collect(self, timeout_s: float) -> list[Ended]:
        """Submits what was kept; then results that jobs left, and stages whose job is gone without one."""
        for kind, all_kept in self._new.items():
            for start in range(0, len(all_kept), MOST_JOBS):
                kept = all_kept[start : start + MOST_JOBS]
                for job, (stage, _) in zip(self._sbatch([remote for _, remote in kept], kind), kept, strict=True):
                    self._jobs[stage.id] = job
                    write_json(self._queue_path(stage.id), {"job": job})
        self._new.clear()
        end = time.monotonic() + timeout_s
        while not (ended := self._ended()) and time.monotonic() < end:
            time.sleep(min(0.1, timeout_s))
        return ended

    def _ended(self) -> list[Ended]:
        now = time.monotonic()
        if now - self._looked_s < RESULTS_EVERY_S:
            return []
        self._looked_s = now
        left = set(os.listdir(self._folder))  # listed, because a network file system may remember that a file was not there
        ended = [
            self._settled(stage, StageResult(stage, None, *_failure(answer)) if outcome != "success" else answer)
            for stage, job in list(self._jobs.items())
            if self._result_path(job).name in left
            for outcome, answer in [self._result(job)]
        ]
        if ended or now - self._asked_s < QUEUE_EVERY_S:
            return ended
        self._asked_s = now
        alive = queued_jobs()
        gone = {stage for stage, job in self._jobs.items() if job not in alive}
        # Gone twice in a row: the result of a job that has just ended may still be on its way to this machine.
        lost, self._missing = gone & self._missing, gone
        return [self._died(stage) for stage in lost]

    def _settled(self, stage: str, result: StageResult) -> Ended:
        self._forget(stage)
        return Ended(stage, result)

    def _died(self, stage: str) -> Ended:
        job = self._jobs[stage]
        self._forget(stage)
        self._missing.discard(stage)
        return self.dead(stage, f"Slurm job {job} ended without a result (out of memory?)")

    def _forget(self, stage: str) -> None:
        job = self._jobs.pop(stage)
        self._queue_path(stage).unlink(missing_ok=True)
        for name in ("result", "submitted"):
            for path in self._folder.glob(f"{job}_*{name}.pkl"):
                path.unlink(missing_ok=True)

    def _sbatch(self, work: list[Any], kind: str) -> list[str]:
        """Submits callables as one array; their job ids."""
        submitit = load_submitit()
        slurm = submitit.SlurmExecutor(self._folder, max_num_timeout=MAX_KILLS - 1)
        slurm.update_parameters(**job_parameters(self.options, threads=self.threads, name=f"selfteach-{kind}"))
        jobs = []
        try:
            with slurm.batch():
                jobs = [slurm.submit(each) for each in work]
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError, subprocess.CalledProcessError) as error:
            reason = next((line for line in str(error).splitlines() if line.startswith("sbatch: ")), str(error).strip())
            raise ExecutorError(f"Slurm does not take the jobs: {reason.removeprefix('sbatch: ')}") from error
        return [job.job_id for job in jobs]

    def _queue_path(self, stage: str) -> Path:
        return self.store.queue / f"{stage}.json"

    def _result_path(self, job: str) -> Path:
        return self._folder / f"{job}_0_result.pkl"

    def _result(self, job: str) -> tuple[str, Any]:
        found: tuple[str, Any] = load_submitit().core.utils.pickle_load(self._result_path(job))
        return found

    def _stop(self) -> None:
        self._new.clear()
        jobs = set(self._jobs.values())
        if not jobs:
            return
        cancel(sorted(jobs))
        # What is cancelled may still write into the run folder until Slurm has ended it.
        end = time.monotonic() + 30
        while jobs & queued_jobs().keys() and time.monotonic() < end:
            time.sleep(0.5)
        for stage in list(self._jobs):
            self._forget(stage)


def load_submitit() -> Any:
    """The package `submitit`, imported when it is first needed."""
    importlib.import_module("submitit.core.utils")
    return importlib.import_module("submitit")


def check_slurm() -> None:
    """Raises:
    ExecutorError: submitit or one of Slurm's commands is not here.
    """
    if importlib.util.find_spec("submitit") is None:
        raise ExecutorError(f"--executor slurm needs the package submitit, which is not installed: {INSTALL}")
    missing = [command for command in ("sbatch", "srun", "squeue", "scancel", "scontrol") if shutil.which(command) is None]
    if missing:
        raise ExecutorError(
            f"--executor slurm needs Slurm's commands, and {', '.join(missing)} is not on the PATH: run it on a login node of the cluster"
        )


def queued_jobs() -> dict[str, str]:
    """State by id ("12" or "12_3") of this user's jobs that Slurm has not done with.

    Raises:
        ExecutorError: Slurm has not answered for five minutes.
    """
    command = ["squeue", "--noheader", "--array", "--me", "--format=%i %T"]
    end = time.monotonic() + 300
    while True:
        asked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            return dict(line.split(maxsplit=1) for line in asked.stdout.splitlines() if line.strip())
        if time.monotonic() > end:
            raise ExecutorError(f"Slurm does not answer: {asked.stderr.strip()}")
        time.sleep(QUEUE_EVERY_S)


def cancel(jobs: list[str]) -> None:
    """Cancels jobs; those that have ended are no error."""
    for start in range(0, len(jobs), 200):
        subprocess.run(["scancel", *jobs[start : start + 200]], stdin=subprocess.DEVNULL, capture_output=True, check=False)


def _read(path: Path) -> dict[str, Any]:
    """A small file of ours; empty, with a notice, where it is torn: what it said is found out anew."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        print(f"{path} is damaged and not used ({error})", file=sys.stderr)
        return {}
    return found if isinstance(found, dict) else {}


def _failure(trace: str) -> tuple[str, str]:
    lines = trace.strip().splitlines() or ["failed outside the stage"]
    return lines[-1][:500], trace
