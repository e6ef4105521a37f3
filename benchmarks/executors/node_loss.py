"""Does a study come to the same scores when a machine is lost in the middle of it?

    python benchmarks/executors/node_loss.py
    python benchmarks/executors/node_loss.py --tiny

Two Ray nodes with a core each are simulated on this machine; the second is killed while stages run on both. The samples are compared with
those of an undisturbed run in local processes.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from common import command, environment, samples, study_file, timed_run

from harness.core.store import RunStore
from harness.study.progress import read_progress
from tests.study.two_ray_nodes import TwoNodes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="the tests' study")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        place = Path(folder)
        study = study_file(place, tiny=arguments.tiny)
        seconds = disturbed_run(study, place, tiny=arguments.tiny)
        print(f"with a node lost: {seconds:.1f} s", flush=True)
        timed_run(study, place / "undisturbed", ["--workers", "2"], environment(place, tiny=arguments.tiny))
        lost, whole = samples(place / "disturbed"), samples(place / "undisturbed")
        pd.testing.assert_frame_equal(lost, whole, check_exact=True)
        print(f"{len(lost)} samples, all equal to the undisturbed run's")


def disturbed_run(study: Path, place: Path, *, tiny: bool) -> float:
    """Seconds of the run during which a node is killed."""
    began, store = time.monotonic(), RunStore(place / "disturbed")
    with TwoNodes(cpus=1) as nodes:
        options = ["--executor", "ray", "--address", nodes.address]
        # Started from here, so that the token of the simulated cluster is in its environment.
        driver = subprocess.Popen(command(study, store.root, *options), env=environment(place, tiny=tiny))
        while driver.poll() is None and nodes.second_alive:
            if store.progress.exists() and len(read_progress(store.progress)) == 2:
                nodes.kill_second()
                print("second node killed", flush=True)
            time.sleep(0.05)
        if nodes.second_alive:
            raise SystemExit("the study ended before two stages ran at a time")
        if driver.wait():
            raise SystemExit(f"the study failed with exit code {driver.returncode}")
    return time.monotonic() - began


if __name__ == "__main__":
    main()
