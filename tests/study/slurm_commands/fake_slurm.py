"""Slurm's commands as far as selfteach and submitit use them, for machines without Slurm: every job starts at once, as a process group.

One file for all commands, told apart by the first argument. State lies in $FAKE_SLURM: jobs/<id>/{script, pid, requeue, ended}.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(os.environ["FAKE_SLURM"])
JOBS = STATE / "jobs"


def sbatch(arguments: list[str]) -> int:
    script = Path(arguments[-1]).read_text()
    options = {match[1]: match[3] or "" for match in re.finditer(r"^#SBATCH --([\w-]+)(=(.*))?$", script, re.MULTILINE)}
    with (STATE / "submissions").open("a") as log:
        log.write(" ".join(f"{key}={value}" for key, value in options.items()) + "\n")
    if options.get("partition") == "nowhere":
        sys.stderr.write("sbatch: error: invalid partition specified: nowhere\n")
        return 1
    main = 100 + len(list(STATE.glob("id-*")))
    (STATE / f"id-{main}").touch()
    indices = range(int(re.match(r"0-(\d+)", options["array"])[1]) + 1) if "array" in options else [None]
    for index in indices:
        job = str(main) if index is None else f"{main}_{index}"
        (JOBS / job).mkdir(parents=True)
        (JOBS / job / "script").write_text(script)
        environment = {**os.environ, "SLURM_JOB_ID": str(main), "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1"}
        if index is not None:
            environment |= {"SLURM_ARRAY_JOB_ID": str(main), "SLURM_ARRAY_TASK_ID": str(index)}
        subprocess.Popen(
            [sys.executable, __file__, "run-job", job],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    sys.stdout.write(f"Submitted batch job {main}\n")
    return 0


def run_job(arguments: list[str]) -> int:
    folder = JOBS / arguments[0]
    while True:
        process = subprocess.Popen(["bash", str(folder / "script")], start_new_session=True)
        (folder / "pid").write_text(str(process.pid))
        process.wait()
        if not (folder / "requeue").exists():
            break
        (folder / "requeue").unlink()
    (folder / "ended").touch()
    return 0


def srun(arguments: list[str]) -> int:
    job, index = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_ARRAY_TASK_ID")
    outputs = {}
    while arguments and arguments[0].startswith("--"):
        option = arguments.pop(0)
        if option in ("--output", "--error"):
            outputs[option] = arguments.pop(0)
    for option, descriptor in (("--output", 1), ("--error", 2)):
        name = outputs[option].replace("%j", job).replace("%A", job).replace("%a", str(index)).replace("%t", "0")
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), descriptor)
    (JOBS / (job if index is None else f"{job}_{index}") / "step").write_text(str(os.getpid()))
    os.execvp(arguments[0], arguments)


def squeue(arguments: list[str]) -> int:
    for folder in sorted(JOBS.iterdir()) if JOBS.exists() else ():
        if not (folder / "ended").exists():
            sys.stdout.write(f"{folder.name} {'RUNNING' if (folder / 'pid').exists() else 'PENDING'}\n")
    return 0


def scancel(arguments: list[str]) -> int:
    sent = signal.SIGKILL
    if "--signal" in arguments:
        place = arguments.index("--signal")
        sent = signal.Signals[f"SIG{arguments[place + 1].removeprefix('SIG')}"]
        del arguments[place : place + 2]
    for job in arguments:
        while not (JOBS / job / "pid").exists():
            time.sleep(0.02)
        try:
            if sent == signal.SIGKILL:
                os.killpg(int((JOBS / job / "pid").read_text()), sent)
            else:
                os.kill(int((JOBS / job / "step").read_text()), sent)
        except ProcessLookupError:
            continue
    return 0


def scontrol(arguments: list[str]) -> int:
    assert arguments[0] == "requeue", shlex.join(arguments)
    (JOBS / arguments[1] / "requeue").touch()
    return 0


COMMANDS = {"sbatch": sbatch, "srun": srun, "squeue": squeue, "scancel": scancel, "scontrol": scontrol, "run-job": run_job}

if __name__ == "__main__":
    sys.exit(COMMANDS[sys.argv[1]](sys.argv[2:]))
