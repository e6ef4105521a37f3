"""Bootstrap of many models at once against lm-eval's bootstrap of the same statistic, side by side.

    python benchmarks/stats/bootstrap.py [--models 20] [--items 10000] [--resamples 10000] [--pairs 5] [--lm-eval-models M] [--json FILE]

Both bootstrap the mean score of every model over the same right/wrong items with the same number of resamples: ours takes all models at
once, lm-eval's `bootstrap_stderr` one after another, on all cores, as `lm_eval` calls it. Runs alternate (ours, lm-eval, ours, ...); the
ratio is taken within each pair of runs. Then what lm-eval has no counterpart of: intervals of paired differences, BCa and studentised, with
and without clusters. With --lm-eval-models fewer than --models, lm-eval's time is scaled up: its work is one independent loop a model.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.stats.bootstrap import against, all_pairs, bootstrap, paired_bootstrap

Scores = npt.NDArray[np.float64]


def main() -> None:
    """Measures, prints, and writes --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=10_000, help="a multiple of 1000 (lm-eval's chunk)")
    parser.add_argument("--pairs", type=int, default=5, help="alternating runs of ours and lm-eval's")
    parser.add_argument("--lm-eval-models", type=int, help="how many models lm-eval does (all)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    scores_N_M = right_or_wrong(args.items, args.models)
    machine = describe_machine()
    print(json.dumps(machine))
    print(f"{args.models} models × {args.items} items, {args.resamples} resamples, {args.pairs} runs; seconds: median (least–most)")

    share = args.lm_eval_models or args.models
    ours_s, theirs_s = [], []
    for repeat in range(args.pairs):
        took, errors = timed(lambda repeat=repeat: means(scores_N_M, args.resamples, repeat))
        ours_s.append(took)
        took, reference = timed(lambda: lm_eval_errors(scores_N_M[:, :share], args.resamples))
        theirs_s.append(took * args.models / share)
        np.testing.assert_allclose(errors[:share], reference, rtol=0.1)
    ratio = [theirs / ours for ours, theirs in zip(ours_s, theirs_s, strict=True)]
    rows = {
        "standard errors of all means, ours": ours_s,
        f"the same, lm-eval (from {share} of {args.models} models)": theirs_s,
        "lm-eval / ours": ratio,
    }
    for name, work in workloads(scores_N_M, args.resamples).items():
        rows[name] = [timed(lambda repeat=repeat, work=work: work(repeat))[0] for repeat in range(args.pairs)]
    for name, values in rows.items():
        print(f"{name:75} {statistics.median(values):9.3f} ({min(values):.3f}–{max(values):.3f})")
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak resident memory {peak_mib:.0f} MiB")
    if args.json:
        found = {
            "machine": machine,
            "arguments": {key: str(value) for key, value in vars(args).items()},
            "seconds": rows,
            "peak_mib": peak_mib,
        }
        args.json.write_text(json.dumps(found, indent=1) + "\n")


def right_or_wrong(n_items: int, n_models: int) -> Scores:
    """Scores of models that share item difficulty, so that pairing matters; seed 0."""
    rng = np.random.default_rng(0)
    difficulty_N = rng.normal(0, 1.5, (n_items, 1))
    skill_M = np.linspace(-0.5, 0.5, n_models)
    return (rng.random((n_items, n_models)) < 1 / (1 + np.exp(difficulty_N - skill_M))).astype(np.float64)


def means(scores_N_M: Scores, resamples: int, seed: int) -> Scores:
    """Our bootstrap standard error of every model's mean."""
    found = bootstrap(scores_N_M, lambda mean_M: mean_M, rng=np.random.default_rng(seed), resamples=resamples, method="percentile")
    return found.standard_error_D


def lm_eval_errors(scores_N_M: Scores, resamples: int) -> list[float]:
    """lm-eval's bootstrap standard error of each model's mean, its progress bars thrown away."""
    from lm_eval.api.metrics import bootstrap_stderr, mean

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return [bootstrap_stderr(mean, column.tolist(), resamples) for column in scores_N_M.T]


def workloads(scores_N_M: Scores, resamples: int) -> dict[str, Callable[[int], object]]:
    """What lm-eval has no counterpart of, by name: a function of the seed."""
    n_items, n_models = scores_N_M.shape
    clusters_N = np.arange(n_items) // 5

    def paired(pairs: Sequence[tuple[int, int]], method: str, clusters: npt.NDArray[np.intp] | None) -> Callable[[int], object]:
        return lambda seed: paired_bootstrap(
            scores_N_M, pairs, rng=np.random.default_rng(seed), resamples=resamples, method=method, clusters_N=clusters
        )

    cases: dict[str, Callable[[int], object]] = {}
    for what, pairs in (("against one", against(0, n_models)), ("all pairs", all_pairs(n_models))):
        for method in ("bca", "studentised"):
            for label, clusters in (("items", None), ("clusters of 5", clusters_N)):
                cases[f"paired differences, {what} ({len(pairs)}), {method}, {label}"] = paired(pairs, method, clusters)
    return cases


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """Wall seconds and result."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def describe_machine() -> dict[str, object]:
    """Processor, cores this process may use, load before the start, versions."""
    cpuinfo = Path("/proc/cpuinfo")
    models = (
        [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if cpuinfo.exists()
        else []
    )
    packages = {name: version(name) for name in ("numpy", "scipy", "lm_eval")}
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        **packages,
    }


if __name__ == "__main__":
    main()
