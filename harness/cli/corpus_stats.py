"""`corpus stats`: counts and diversity of a run's corpora, method by method or against one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console

from harness.cli.text import console, print_json, print_table, say
from harness.core.corpus import Row, find_corpora, read_rows
from harness.errors import SpecError
from harness.seeds import generator
from harness.stats.corpora import CorpusComparison, Encode, compare_corpora, corpus_yield, kept_texts
from harness.stats.diversity import HIGHER_IS_MORE_DIVERSE, Floats
from harness.stats.matched import Difference

_YIELDS = ("made", "kept", "kept_share", "verified_share", "operation_entropy")
_UNMATCHED = (
    "diversity depends on number and length of texts, so these columns do not compare methods; --against METHOD does, at equal both"
)

Corpora = Mapping[str, Mapping[int, Sequence[Row]]]
"""Rows by method and training seed."""


def corpus_stats_command(place: str, *, against: str | None, semantic: bool, as_json: bool) -> None:
    """Prints a run's corpora by method; with `against`, differences to that method over training seeds, texts at equal size and length.

    Raises:
        SpecError: no such corpus or method, or no training seed in common.
        StoreError: a line is damaged.
    """
    corpora: dict[str, dict[int, list[Row]]] = {}
    for found in find_corpora(place):
        corpora.setdefault(found.method or found.path.name, {})[found.seed or 0] = read_rows(found.path)
    others = [method for method in corpora if method != against]
    if against is not None and (against not in corpora or not others):
        expected = "no other method of this run has a corpus" if against in corpora else "no corpus of such a method"
        raise SpecError(expected, key="--against", value=against, valid=() if against in corpora else corpora)
    encode = _encoder(corpora) if semantic else None
    writer = console()
    if against is None:
        methods = {method: _means(by_seed, encode) for method, by_seed in corpora.items()}
        if as_json:
            print_json({"methods": methods, "note": _UNMATCHED})
        else:
            _print_methods(writer, methods)
        return
    compared = {
        method: compare_corpora(corpora[method], corpora[against], encode=encode, rng=generator("corpus-stats", method, against))
        for method in others
    }
    if as_json:
        print_json({"against": against, "methods": {method: asdict(found) for method, found in compared.items()}})
        return
    for method, comparison in compared.items():
        _print_comparison(writer, method, against, comparison)


def _encoder(corpora: Corpora) -> Encode:
    """Embeddings of all kept instructions, computed once."""
    from harness.models.embed import Embedder

    texts = {row["instruction"] for by_seed in corpora.values() for rows in by_seed.values() for row in rows if row["kept"]}
    if not texts:
        raise SpecError("no instruction was kept, so there is nothing to embed", key="--semantic")
    embeddings = dict(zip(sorted(texts), Embedder.load().encode(sorted(texts)), strict=True))

    def encode(chosen: Sequence[str]) -> Floats:
        return np.stack([embeddings[text] for text in chosen])

    return encode


def _means(by_seed: Mapping[int, Sequence[Row]], encode: Encode | None) -> dict[str, float]:
    """Means over training seeds, of the seeds where the figure is defined."""
    found: dict[str, list[float]] = {}
    for rows in by_seed.values():
        texts = kept_texts(rows, encode)
        words = {"words": float(texts.words_N.mean())} if len(texts) else {}
        for name, value in (corpus_yield(rows) | words | texts.measure()).items():
            found.setdefault(name, []).append(value)
    return {"training_seeds": float(len(by_seed))} | {name: float(np.mean(values)) for name, values in found.items()}


def _print_methods(writer: Console, methods: Mapping[str, Mapping[str, float]]) -> None:
    names = ("training_seeds", *_YIELDS, "words", *HIGHER_IS_MORE_DIVERSE)
    rows = [
        (name.replace("_", " "), *(_number(means.get(name)) for means in methods.values()))
        for name in names
        if any(name in means for means in methods.values())
    ]
    print_table(writer, "", ("mean over training seeds", *methods), rows, right=tuple(methods))
    say(writer, f"\n{_UNMATCHED}")


def _print_comparison(writer: Console, method: str, against: str, found: CorpusComparison) -> None:
    columns = ("", method, against, "difference", "95 % interval", "training seeds")
    print_table(
        writer,
        f"\n{method} against {against}",
        columns,
        _rows({name: found.yields[name] for name in _YIELDS if name in found.yields}),
        right=columns[1:],
    )
    if found.diversity:
        pairs = found.pairs.values()
        kept = ", ".join(f"{pair.n} of {pair.n_a} and {pair.n_b}" for pair in pairs)
        words = f"{np.mean([pair.words_a for pair in pairs]):.1f} and {np.mean([pair.words_b for pair in pairs]):.1f} words"
        print_table(writer, "\nkept instructions at equal number and length", columns, _rows(found.diversity), right=columns[1:])
        say(writer, f"matched, by training seed: {kept} texts, of {words} on average")
    for seed, reason in found.skipped.items():
        say(writer, f"training seed {seed} is not compared: {reason}")


def _rows(differences: Mapping[str, Difference]) -> list[tuple[object, ...]]:
    return [
        (
            name.replace("_", " ") + _direction(name),
            _number(found.a),
            _number(found.b),
            f"{found.difference:+.3g}",
            "-" if found.interval is None else f"{found.interval[0]:+.3g} to {found.interval[1]:+.3g}",
            found.n_seeds,
        )
        for name, found in differences.items()
    ]


def _direction(name: str) -> str:
    return " (less is more diverse)" if HIGHER_IS_MORE_DIVERSE.get(name) is False else ""


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
