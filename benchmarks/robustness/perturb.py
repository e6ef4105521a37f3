"""How long it takes to perturb items by rule, embedding guard apart.

    python -m benchmarks.robustness.perturb --items 1000 --repeats 5

Texts are made from the words of the perturbations' own tables and of a fixed sentence stock, as long as a benchmark question (about 40
words) and as a passage (about 150), each with four protected choices. One row per perturbation: the median of the repeats, in seconds.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import numpy as np

from harness.scoring.perturbations import DISTRACTORS, PERTURBATIONS, perturb
from harness.scoring.perturbations.lexicon import SPELLINGS, SYNONYMS

STOCK = (
    *DISTRACTORS,
    "He is walking to the theatre because she doesn't want to arrive late.",
    "They are going to start 12 minutes after the bell, although nobody knows why.",
    "What is she doing with the large box that we have found?",
)


def main() -> None:
    """Prints the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{arguments.items} items, median of {arguments.repeats}, one thread, {platform.machine()}, Python {platform.python_version()}\n")
    print("| perturbation | ~40 words, s | ~150 words, s |\n|---|---|---|")
    sets = [_texts(arguments.items, n_sentences) for n_sentences in (3, 12)]
    for name, kind in PERTURBATIONS.items():
        if kind.apply:
            print(f"| {name} | " + " | ".join(f"{_seconds(name, texts, arguments.repeats):.2f}" for texts in sets) + " |")


def _texts(n: int, n_sentences: int) -> list[tuple[str, list[str]]]:
    rng = np.random.default_rng(0)
    words = [*SYNONYMS, *SPELLINGS]
    found = []
    for _ in range(n):
        sentences = [*rng.choice(STOCK, n_sentences), "The " + " ".join(rng.choice(words, 6)) + "."]
        choices = [" ".join(rng.choice(words, 3)) for _ in range(4)]
        found.append((f"Question: {' '.join(sentences)}\nAnswer:", choices))
    return found


def _seconds(name: str, texts: list[tuple[str, list[str]]], repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        for index, (text, choices) in enumerate(texts):
            perturb(text, name, sample_id=str(index), protected=choices)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
