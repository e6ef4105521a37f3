"""Does `compare` reproduce published differences from public outputs? `python benchmarks/compare/published.py FOLDER`.

FOLDER is a clone of the GitHub repository suzgunmirac/BIG-Bench-Hard (MIT). It holds what code-davinci-002 answered to every question of 27
task files, asked directly and asked to think step by step, and beside that the accuracies (Suzgun et al. 2022). The script scores each
answer by exact match, names every accuracy that is not the published one, and compares the two ways of asking. Nothing of the data is
kept: the tables that compare reads lie in a temporary folder.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

MODEL = "code-davinci-002"
SUFFIX = "_few_shot_template_0-255000"
ANSWER = re.compile(r"answer is (.*)", re.DOTALL)


def answer(prediction: str, *, step_by_step: bool) -> str:
    """What the model settled on: the whole reply, or what follows "the answer is" up to the closing full stop."""
    found = ANSWER.search(prediction) if step_by_step else None
    return (found[1] if found else prediction).strip().removesuffix(".").strip()


def scores(outputs: Path, *, step_by_step: bool) -> list[int]:
    """1 or 0 for every question of a task, in the file's order."""
    rows = json.loads(outputs.read_text())["outputs"]
    return [int(answer(row["prediction"], step_by_step=step_by_step) == row["target"].strip().removesuffix(".")) for row in rows]


def published(outputs: Path) -> float | None:
    """The accuracy in percent that the repository states beside the outputs; None where it states none."""
    place = outputs.with_name(outputs.name.removesuffix(".json") + "_eval_metrics.jsonl")
    return float(json.loads(place.read_text())["accuracy"]) if place.exists() else None


def collect(folder: Path) -> tuple[dict[str, list[tuple[str, str, int]]], list[str]]:
    """Rows (task, item, score) of both ways of asking, and the lines of accuracies that differ from the published ones."""
    rows: dict[str, list[tuple[str, str, int]]] = {"direct": [], "cot": []}
    wrong = []
    for way, found in rows.items():
        for outputs in sorted((folder / f"{MODEL}-outputs" / f"{MODEL}-{way}").glob(f"*{SUFFIX}.json")):
            task, marks = outputs.name.removesuffix(f"{SUFFIX}.json"), scores(outputs, step_by_step=way == "cot")
            found += [(task, f"{task}-{index}", mark) for index, mark in enumerate(marks)]
            stated, reached = published(outputs), 100 * sum(marks) / len(marks)
            if stated is None or abs(stated - reached) > 1e-6:
                wrong.append(f"{task}, {way}: published {stated}, from the outputs {reached:.4f}")
    return rows, wrong


def main() -> None:
    """Checks, then prints compare's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    rows, wrong = collect(parser.parse_args().folder)
    if not all(rows.values()):
        sys.exit(f"no outputs of {MODEL} in this folder; clone suzgunmirac/BIG-Bench-Hard")
    print("\n".join(["accuracies that differ from the published ones:", *wrong]) if wrong else "every accuracy is the published one")
    with tempfile.TemporaryDirectory() as scratch:
        for way, found in rows.items():
            with (Path(scratch) / f"{way}.csv").open("w", newline="") as file:
                csv.writer(file).writerows([("task", "item", "score"), *found])
        subprocess.run(
            [sys.executable, "-m", "harness.cli", "compare", *(f"{way}={scratch}/{way}.csv" for way in ("cot", "direct"))], check=True
        )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
