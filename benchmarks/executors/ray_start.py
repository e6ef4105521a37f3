"""Where the seconds go that Ray takes beside the stages: its start, its first workers, its end.

    PYTHONPATH=. python benchmarks/executors/ray_start.py --repeats 3

A cluster of this machine's own with two CPUs, as `--executor ray --workers 2` starts it; two tasks of 0.3 s at a time, twice. Printed:
medians with the least and the greatest.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time


def pause() -> int:
    """A task: 0.3 s; returns its worker's pid."""
    time.sleep(0.3)
    return os.getpid()


def once() -> None:
    """Prints the seconds of each step, in a fresh process."""
    from harness.study.ray_executor import joined, load_ray
    from harness.study.ray_head import RayHead
    from harness.study.schedule import worker_environment

    began = time.monotonic()

    def lap(step: str) -> None:
        nonlocal began
        print(f"{step}\t{time.monotonic() - began}", flush=True)
        began = time.monotonic()

    with RayHead(cpus=2, environment=worker_environment(1)) as address:
        lap("cluster started")
        ray = load_ray()
        lap("ray imported")
        with joined(address):
            lap("joined")
            for name in ("first tasks", "second tasks"):
                ray.get([ray.remote(pause).options(num_cpus=1).remote() for _ in range(2)])
                lap(name)
        lap("left")
    lap("cluster ended")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        once()
        return
    seconds: dict[str, list[float]] = {}
    for _ in range(arguments.repeats):
        done = subprocess.run([sys.executable, __file__, "--once"], capture_output=True, text=True, check=True)
        for line in done.stdout.splitlines():
            step, _, took = line.partition("\t")
            seconds.setdefault(step, []).append(float(took))
    for step, values in seconds.items():
        print(f"{step}: {statistics.median(values):.1f} s ({min(values):.1f}-{max(values):.1f}, n = {len(values)})")


if __name__ == "__main__":
    main()
