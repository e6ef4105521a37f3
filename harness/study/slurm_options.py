"""`--slurm key=value`: sbatch's long options as given, less those that the executor sets, plus what a stage's job needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import SpecError
from harness.study.schedule import worker_environment

TIME_MIN = 240
"""A job's limit where none is given."""
SIGNAL_DELAY_S = 90
_OURS = {
    "cpus-per-task": "--threads sets it",
    "array": "the ready stages of one kind are one array",
    "nodes": "a stage runs on one machine",
    "ntasks": "a stage is one task",
    "ntasks-per-node": "a stage is one task",
    "job-name": "jobs are named selfteach-<kind>",
    "output": "logs lie in the run's folder",
    "error": "logs lie in the run's folder",
    "signal": "stages are told of preemption by submitit's",
    "open-mode": "logs are appended to",
    "wrap": "a job is the executor's own script",
    "test-only": "jobs are to run",
    "parsable": "the executor reads what sbatch prints",
    "wait": "the executor waits by itself",
    "dependency": "the executor orders stages itself",
}


def parse_options(given: Sequence[str]) -> dict[str, str | bool]:
    """`key=value` and bare `key` as a mapping with dashes in the keys.

    Raises:
        SpecError: an option has no name, is given twice, is the executor's to set, or would break out of its line in the job's script.
    """
    found: dict[str, str | bool] = {}
    for text in given:
        if not text.isprintable():
            raise SpecError("expected no line breaks or other control characters", key="--slurm", value=text)
        name, equals, value = text.partition("=")
        key = name.strip().removeprefix("--").replace("_", "-")
        if not key or (equals and not value.strip()):
            raise SpecError("expected key=value, one of sbatch's long options, such as partition=gpu", key="--slurm", value=text)
        if key in _OURS:
            raise SpecError(f"{key} cannot be set: {_OURS[key]}", key="--slurm", value=text)
        if key in found:
            raise SpecError(f"{key} is given twice", key="--slurm", value=text)
        found[key] = value.strip() if equals else True
    minutes(str(found.get("time", TIME_MIN)))
    return found


def minutes(text: str) -> int:
    """Slurm's time formats in whole minutes, rounded up: 90, 2:30 (minutes:seconds), 4:00:00, 1-12, 1-12:30, 1-12:30:00.

    Raises:
        SpecError: it is none of them.
    """
    days, dash, rest = text.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdigit() for part in [*parts, *([days] if dash else [])]) or len(parts) > 3:
        raise SpecError("expected a time as sbatch takes it, such as 90 (minutes), 4:00:00 or 1-12:00:00", key="--slurm time", value=text)
    numbers = [int(part) for part in parts]
    if dash:
        hours, minute, second = [*numbers, 0, 0][:3]
        seconds = int(days) * 86400 + hours * 3600 + minute * 60 + second
    elif len(numbers) == 3:
        seconds = numbers[0] * 3600 + numbers[1] * 60 + numbers[2]
    else:
        seconds = numbers[0] * 60 + (numbers[1] if len(numbers) == 2 else 0)
    if seconds <= 0:
        raise SpecError("expected more than no time", key="--slurm time", value=text)
    return -(-seconds // 60)


def job_parameters(options: Mapping[str, str | bool], *, threads: int, name: str) -> dict[str, Any]:
    """Submitit's parameters of a job that does one stage."""
    setup = [f"export {key}={value}" for key, value in worker_environment(threads).items()]
    extra = {"requeue": True, **{key: value for key, value in options.items() if key != "time"}}
    if "no-requeue" in extra:
        del extra["requeue"]
    return {
        "job_name": name,
        "time": minutes(str(options.get("time", TIME_MIN))),
        "cpus_per_task": threads,
        "signal_delay_s": SIGNAL_DELAY_S,
        "setup": setup,
        # Since Slurm 22.05 a step no longer inherits it, and would be bound to one core.
        "srun_args": [f"--cpus-per-task={threads}"],
        "additional_parameters": extra,
    }
