"""Table and picture of what run.py measured: trained policies against random ones on held-out seeds, paired by training seed.

    python benchmarks/policy_learning/analyse.py OUT [--picture docs/policy_learning.png]

Differences have Student's t interval over training seeds, the only replicate there is. Components of the reward stand apart, so that a
policy that games one of them is seen.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

CONTROL = "random"
PARTS = ("reward", "validity", "novelty", "learnability", "pass_rate", "kept", "stops")


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % interval over seeds."""
    mean, half = values.mean(), stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return float(mean), float(mean - half), float(mean + half)


def load(folder: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """Records by policy and seed."""
    records: dict[str, dict[int, dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text())
        records.setdefault(record["policy"], {})[record["seed"]] = record
    if CONTROL not in records:
        raise SystemExit(f"{folder}: no record of the {CONTROL} policy")
    return records


def table(records: dict[str, dict[int, dict[str, Any]]]) -> str:
    """Markdown."""
    lines = [f"| policy | seeds | {' | '.join(PARTS)} | reward − random [95 %] |", "|" + "---|" * (len(PARTS) + 3)]
    for policy, by_seed in records.items():
        means = [np.mean([record["held_out"][part] for record in by_seed.values()]) for part in PARTS]
        shared = sorted(by_seed.keys() & records[CONTROL].keys())
        difference = "–"
        if policy != CONTROL and len(shared) > 1:
            values = [by_seed[seed]["held_out"]["reward"] - records[CONTROL][seed]["held_out"]["reward"] for seed in shared]
            mean, low, high = interval(np.array(values))
            difference = f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
        lines.append(f"| {policy} | {len(by_seed)} | {' | '.join(f'{mean:.3f}' for mean in means)} | {difference} |")
    for policy, by_seed in records.items():
        shares = [record["last_shares"] for record in by_seed.values() if record["last_shares"]]
        if shares:
            means_by_name = {name: np.mean([share[name] for share in shares]) for name in shares[0]}
            told = ", ".join(f"{name} {mean:.2f}" for name, mean in sorted(means_by_name.items(), key=lambda item: -item[1]))
            lines.append(f"\n{policy}, shares of the operations in the last five updates: {told}")
    return "\n".join(lines)


def draw(records: dict[str, dict[int, dict[str, Any]]], path: Path) -> None:
    """Mean reward a step against environment steps in training, with 95 % bands over seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for policy, by_seed in records.items():
        curves = [record["training_curve"]["reward"] for record in by_seed.values() if record["updates"]]
        if len(curves) < 2:
            continue
        length = min(map(len, curves))
        reward_S_U = np.array([curve[:length] for curve in curves])
        per_update = next(record["train_steps"] / record["updates"] for record in by_seed.values())
        steps_U = per_update * np.arange(1, length + 1)
        low_U, high_U = np.array([interval(reward_S_U[:, update])[1:] for update in range(length)]).T
        axes.plot(steps_U, reward_S_U.mean(0), label=f"{policy} ({len(curves)} seeds)")
        axes.fill_between(steps_U, low_U, high_U, alpha=0.2)
    random = np.array([record["held_out"]["reward"] for record in records[CONTROL].values()])
    mean, low, high = interval(random)
    axes.axhline(mean, color="grey", linestyle="--", label=f"random, held-out seeds ({len(random)} seeds)")
    axes.axhspan(low, high, color="grey", alpha=0.15)
    axes.set(xlabel="environment steps in training", ylabel="mean reward a step", ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    records = load(options.out)
    print(table(records))
    if options.picture:
        draw(records, options.picture)


if __name__ == "__main__":
    main()
