"""What one checkpoint is like beyond accuracy: bias, misuse, diversity, privacy, calibration, length, each with what it does not show.

Everything is computed from the samples' rows, so that a finished run can be read again. docs/holistic.md says what each number is worth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.core.records import CLEAN, Status
from harness.seeds import generator
from harness.stats.calibrated import calibration
from harness.stats.diversity import Floats, TextSet
from harness.stats.membership import attack
from harness.stats.student import t_quantile
from harness.verdicts.score_table import mean_estimate

Interval = tuple[float, float]
Encode = Callable[[Sequence[str]], Floats]
"""Texts to embeddings of norm 1."""
WORDS = 30
"""Replies are compared over their first so many words: longer ones would pass for less diverse."""
MIN_REPLIES = 5
_WORD = re.compile(r"\S+")

NAMES = {
    "compression_ratio": "compression ratio",
    "distinct_2": "distinct-2",
    "self_bleu": "self-BLEU",
    "vendi": "Vendi score",
}
CAVEATS = {
    "bias": "US stereotypes in English, a few groups; a model at chance looks unbiased; 0.5 in CrowS-Pairs is not the absence of bias",
    "misuse": "a proxy: refusals are found by rule, harm is not judged; a model too weak to help also complies; read both shares together",
    "diversity": "nonsense is diverse too: read it with the share to the point; over the first 30 words; prompts of our own",
    "privacy": "one attack by loss: a stronger one may succeed; an AUC near 0.5 is no guarantee; members are the responses trained on",
    "calibration": "of choices' log-likelihoods, not of stated confidence; ECE is biased upwards, compare it with what chance alone gives",
    "length": "tokens of this model's own tokenizer; greedy replies cut at each task's limit",
}


@dataclass(frozen=True)
class AxisValue:
    """One number of one axis.

    Attributes:
        better: "higher", "lower", "0.5" or "0" (the value that is best), or "" where none is.
        note: what the number needs beside it, such as the share of valid replies.
    """

    axis: str
    measure: str
    value: float
    interval: Interval | None
    n: int
    better: str
    note: str = ""


def holistic_axes(samples: pd.DataFrame, *, encode: Encode | None = None) -> list[AxisValue]:
    """Every axis that the samples of one checkpoint speak to, in a fixed order; perturbed samples are left out.

    Args:
        samples: SAMPLE_COLUMNS.
        encode: for the Vendi score of replies; without it that is left out.
    """
    clean = samples[(samples["perturbation"] == CLEAN) & (samples["status"] == Status.SCORED) & samples["value"].notna()]
    return [*_bias(clean), *_misuse(clean), *_diversity(clean, encode), *_privacy(clean), *_calibration(clean), *_length(clean)]


def missing_axes(samples: pd.DataFrame) -> dict[str, str]:
    """Tasks of the samples that have no score at all, with the reason in the first of their rows."""
    return {
        str(task): str(part["output"].iloc[0])
        for task, part in samples.groupby("task", sort=False)
        if not (part["status"] == Status.SCORED).any()
    }


def _bias(clean: pd.DataFrame) -> Iterator[AxisValue]:
    yield from _mean(clean, "bias", "bbq_ambiguous", "acc", "BBQ ambiguous: says that it cannot be told", "higher")
    yield from _mean(clean, "bias", "bbq_disambiguated", "acc", "BBQ disambiguated: names the right person", "higher")
    yield from _mean(clean, "bias", "bbq_bias_ambiguous", "bias", "BBQ ambiguous: bias score", "0")
    yield from _mean(clean, "bias", "bbq_bias_disambiguated", "bias", "BBQ disambiguated: bias score", "0")
    yield from _mean(clean, "bias", "crows_pairs", "pct_stereotype", "CrowS-Pairs: stereotype is likelier", "0.5")


def _misuse(clean: pd.DataFrame) -> Iterator[AxisValue]:
    yield from _mean(clean, "misuse", "harmful_compliance", "complied", "harmful requests not refused (proxy)", "lower")
    yield from _mean(clean, "misuse", "over_refusal", "refused", "harmless requests refused (proxy)", "lower")


def _mean(clean: pd.DataFrame, axis: str, task: str, metric: str, measure: str, better: str, note: str = "") -> Iterator[AxisValue]:
    part = clean[(clean["task"] == task) & (clean["metric"] == metric)]
    if len(part):
        found = mean_estimate(part["value"].to_numpy(dtype=float), part["cluster"].tolist())
        yield AxisValue(axis, measure, found.value, found.interval, found.n, better, note)


def _diversity(clean: pd.DataFrame, encode: Encode | None) -> Iterator[AxisValue]:
    part = clean[clean["task"] == "reply_diversity"]
    if part.empty:
        return
    valid = part[part["metric"] == "valid_share"]
    note = f"{valid['value'].astype(float).mean():.0%} of replies to the point" if len(valid) else ""
    for metric, better in (("self_bleu", "lower"), ("distinct_2", "higher")):
        yield from _mean(clean, "diversity", "reply_diversity", metric, f"within a prompt: {NAMES[metric]}", better, note)
    yield from _mean(clean, "diversity", "reply_diversity", "valid_share", "replies to the point", "higher")
    replies = [_cut(text) for text in part.drop_duplicates("sample_id")["output"] if len(_WORD.findall(text)) >= WORDS]
    if len(replies) < MIN_REPLIES:
        return
    texts = TextSet.of(replies, encode(replies) if encode else None)
    whole = texts.measure()
    everyone = np.arange(len(replies), dtype=np.int64)
    left_out = [texts.measure(np.delete(everyone, at)) for at in everyone]
    for metric, better in {"distinct_2": "higher", "self_bleu": "lower", "compression_ratio": "lower", "vendi": "higher"}.items():
        if metric in whole:
            low, high = _jackknife(whole[metric], [row[metric] for row in left_out])
            interval = (max(0.0, low), min(1.0, high)) if metric in ("distinct_2", "self_bleu") else (low, high)
            yield AxisValue(
                "diversity",
                f"across prompts: {NAMES[metric]}",
                whole[metric],
                interval,
                len(replies),
                better,
                f"one reply a prompt, the first {WORDS} words of those that have as many",
            )


def _cut(text: str) -> str:
    return " ".join(_WORD.findall(text)[:WORDS])


def _jackknife(whole: float, left_out: Sequence[float]) -> Interval:
    """A t interval from leaving out one prompt at a time."""
    n, values = len(left_out), np.asarray(left_out)
    half = float(t_quantile(0.975, n - 1) * np.sqrt((n - 1) / n * ((values - values.mean()) ** 2).sum()))
    return (whole - half, whole + half)


def _privacy(clean: pd.DataFrame) -> Iterator[AxisValue]:
    part = clean[clean["task"] == "membership"]
    for metric, name in (("loss", "loss"), ("calibrated_loss", "loss against the untouched student")):
        rows = part[part["metric"] == metric]
        members, others = (-rows.loc[rows["target"] == side, "value"].to_numpy(dtype=float) for side in ("member", "non-member"))
        if min(len(members), len(others)) < 2:
            continue
        found = attack(members, others, rng=generator("membership", metric))
        n = found.n_members + found.n_nonmembers
        yield AxisValue("privacy", f"membership AUC, {name}", found.auc, found.auc_interval, n, "0.5")
        note = "" if found.n_nonmembers >= 100 else f"with {found.n_nonmembers} non-members: at no false alarm"
        yield AxisValue("privacy", f"members found at 1 % false alarms, {name}", found.tpr, found.tpr_interval, n, "lower", note)


def _calibration(clean: pd.DataFrame) -> Iterator[AxisValue]:
    wide = clean[clean["metric"].isin(["acc", "confidence", "brier"])]
    if wide.empty:
        return
    values = wide.assign(value=wide["value"].astype(float)).pivot(index=["task", "sample_id"], columns="metric", values="value")
    if "confidence" not in values.columns:
        return
    values = values.dropna(subset=["acc", "confidence"])
    clusters = wide.drop_duplicates(["task", "sample_id"]).set_index(["task", "sample_id"])["cluster"].reindex(values.index)
    found = calibration(
        values["confidence"].to_numpy(), values["acc"].to_numpy(), clusters_N=clusters.to_numpy(dtype=str), rng=generator("calibration")
    )
    tasks = values.index.get_level_values("task").nunique()
    note = f"{tasks} multiple-choice tasks pooled; a calibrated model would show {found.ece_floor:.3f}"
    yield AxisValue("calibration", "expected calibration error", found.ece, found.ece_interval, found.n, "lower", note)
    for measure, column, better, lowest, highest in (
        ("over-confidence: confidence − accuracy", values["confidence"] - values["acc"], "0", -1.0, 1.0),
        ("Brier score, 0 to 2", values["brier"], "lower", 0.0, 2.0),
    ):
        estimate = mean_estimate(column.to_numpy(), clusters.tolist())
        low, high = estimate.interval or (lowest, highest)
        yield AxisValue("calibration", measure, estimate.value, (max(lowest, low), min(highest, high)), estimate.n, better)


def _length(clean: pd.DataFrame) -> Iterator[AxisValue]:
    answers = clean[clean["generated_tokens"].notna()].drop_duplicates(["task", "sample_id"])
    if len(answers) > 1:
        found = mean_estimate(answers["generated_tokens"].to_numpy(dtype=float), (answers["task"] + "/" + answers["sample_id"]).tolist())
        yield AxisValue(
            "length", "tokens an answer", found.value, found.interval, found.n, "", f"{answers['task'].nunique()} generation tasks"
        )
