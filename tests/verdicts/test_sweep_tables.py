"""What a sweep's analysis finds in runs with known truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.core.spec import MethodSpec
from harness.stats.crossed import paired_difference
from harness.verdicts.claims import ClaimFile
from harness.verdicts.frames import Part
from harness.verdicts.judge import judge
from harness.verdicts.leaderboard import leaderboard
from harness.verdicts.sweep import ONE_SEED, sweep_tables

BUDGET = 1e12
TASKS = {"quiz": {"metric": "acc", "suite": "s", "chance": 0.25, "higher_is_better": True}}
STUDENT = {"model": "m", "adaptation": {"kind": "lora", "rank": 16, "alpha": 32, "dropout": 0.0}, "engine": "transformers"}


def made(
    truth: Mapping[str, float],
    levels: Mapping[str, Mapping[str, str]],
    sweep: Mapping[str, Any],
    *,
    rng: np.random.Generator,
    seeds: int = 4,
    items: int = 50,
    seed_sd: float = 0.02,
    spend: Mapping[str, float] | None = None,
    budgets: Mapping[str, float] | None = None,
) -> Part:
    """Graded scores around `truth[label]` + seed luck of each run + an item effect that all share + noise; paired by seed and item."""
    difficulty_N, rows, trials, methods = rng.normal(0, 0.1, items), [], [], []
    for label, mean in truth.items():
        name, _, variant = label.partition(":")
        flops = (budgets or {}).get(label, BUDGET)
        method = {"name": name, "variant": variant or None, "config": {}, "levels": dict(levels.get(label, {}))}
        methods.append(method | ({"at": {"train_flops": flops, "student": STUDENT}} if flops != BUDGET else {}))
        for seed in range(seeds):
            value_N = mean + rng.normal(0, seed_sd) + difficulty_N + rng.normal(0, 0.15, items)
            rows.append(
                pd.DataFrame(
                    {"task": "quiz", "method": label, "seed": seed, "sample_id": [f"q{i}" for i in range(items)], "value": value_N}
                )
            )
            trials.append({
                "trial_id": f"{label}-{seed}", "method": label, "seed": seed, "train_stage": f"t-{label}-{seed}",
                "score_stage": f"s-{label}-{seed}", "status": "finished", "train_flops": flops * (spend or {}).get(label, 0.995),
                "budget_flops": flops, "wall_s": 1.0, "cost_usd": 1.0, "demonstrations": 0, "comparisons": 0,
            })  # fmt: skip
    samples = pd.concat(rows, ignore_index=True).assign(
        suite="s", perturbation="clean", metric="acc", status="scored", prompt="", target="", output="", generated_tokens=1
    )
    samples["cluster"] = samples["sample_id"]
    study = {"tasks": TASKS, "methods": methods, "sweep": sweep, "budget": {"train_flops": BUDGET}, "student": STUDENT}
    none = pd.DataFrame()
    return Part(study, pd.DataFrame(trials), samples, none, none, none, none, none)


def ablation(effects: Sequence[float], rng: np.random.Generator, **more: Any) -> Part:
    names = [f"v{index}" for index in range(len(effects))]
    truth = {"m": 0.5} | {f"m:a={name}": 0.5 + effect for name, effect in zip(names, effects, strict=True)}
    levels = {"m": {"a": "c"}} | {f"m:a={name}": {"a": name} for name in names}
    return made(truth, levels, {"method": "m", "axes": {"a": {"key": "x", "values": names}}}, rng=rng, **more)


def only(results: Part) -> dict[str, Any]:
    (table,) = sweep_tables(results, ["quiz"])["tables"]
    return table


def arrays(results: Part, label: str) -> np.ndarray:
    mine = results.samples[results.samples["method"] == label]
    return mine.pivot(index="seed", columns="sample_id", values="value").to_numpy()


def test_an_ablation_row_is_the_paired_crossed_test_against_the_centre_adjusted_over_all_rows() -> None:
    results = ablation([0.0, 0.1, -0.02], np.random.default_rng(1))
    table = only(results)
    assert [row["variant"] for row in table["ablation"]] == ["m:a=v0", "m:a=v1", "m:a=v2"]
    assert table["family"] == 3
    p_values = []
    for row in table["ablation"]:
        found = paired_difference(arrays(results, row["variant"]), arrays(results, "m"))
        assert row["effect"] == pytest.approx(found.estimate)
        assert row["interval"] == pytest.approx(list(found.interval))
        assert (row["n_seeds"], row["n_items"], row["why"]) == (4, 50, "")
        assert (row["levels"], row["centre_levels"]) == ({"a": row["variant"][-2:]}, {"a": "c"})
        assert row["mde"] > 0
        p_values.append(found.p_value)
    smallest = int(np.argmin(p_values))
    assert smallest == 1
    assert table["ablation"][1]["p_holm"] == pytest.approx(3 * p_values[1])
    assert table["ablation"][1]["p_holm"] < 0.05


def family_wise_errors(n_studies: int, rng: np.random.Generator) -> float:
    wrong = 0
    for _ in range(n_studies):
        wrong += any(row["p_holm"] <= 0.05 for row in only(ablation([0.0] * 5, rng, items=30))["ablation"])
    return wrong / n_studies


def test_a_sweep_of_nothing_finds_nothing_too_often() -> None:
    """40 studies of five variants without an effect: at 5 %, more than 6 false alarms have a chance of 0.3 %."""
    assert family_wise_errors(40, np.random.default_rng(2)) <= 6 / 40


@pytest.mark.slow
def test_family_wise_error_over_many_studies() -> None:
    """At most alpha and three standard errors of the simulation; and without the adjustment it would be far above."""
    assert family_wise_errors(800, np.random.default_rng(3)) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 800)


def test_a_real_effect_is_found_as_often_as_the_detectable_effect_says() -> None:
    rng = np.random.default_rng(4)
    found, detectable = 0, []
    for _ in range(20):
        table = only(ablation([0.0, 0.13, 0.0], rng))
        found += table["ablation"][1]["p_holm"] <= 0.05
        detectable.append(table["ablation"][1]["mde"])
    assert np.median(detectable) < 0.13
    assert found >= 14, "power beyond 0.8 was promised"


def grid(effects: Mapping[tuple[str, str], float], rng: np.random.Generator, **more: Any) -> Part:
    def label(a: str, b: str) -> str:
        moved = [f"{axis}={level}" for axis, level in (("a", a), ("b", b)) if level != "0"]
        return "m:" + ",".join(moved) if moved else "m"

    truth = {label(*levels): 0.5 + effect for levels, effect in effects.items()}
    levels = {label(a, b): {"a": a, "b": b} for a, b in effects}
    axes = {"a": {"key": "x", "values": ["0", "1"]}, "b": {"key": "y", "values": ["0", "1", "2"]}}
    return made(truth, levels, {"method": "m", "design": "grid", "axes": axes}, rng=rng, **more)


def test_main_effects_average_over_the_other_axis_and_interactions_are_differences_of_differences() -> None:
    effects = {(a, b): 0.1 * (a == "1") + 0.05 * int(b) + 0.2 * (a == "1" and b == "2") for a in "01" for b in "012"}
    results = grid(effects, np.random.default_rng(5), seed_sd=0.0, items=200)
    table = only(results)
    assert table["ablation"] == []
    mean = {label: arrays(results, label).mean() for label in set(results.samples["method"])}
    by_level = {(row["axis"], row["level"]): row for row in table["main_effects"]}
    assert set(by_level) == {("a", "1"), ("b", "1"), ("b", "2")}
    simple = [mean["m:a=1"] - mean["m"], mean["m:a=1,b=1"] - mean["m:b=1"], mean["m:a=1,b=2"] - mean["m:b=2"]]
    row = by_level["a", "1"]
    assert row["effect"] == pytest.approx(np.mean(simple))
    assert row["range"] == pytest.approx([min(simple), max(simple)])
    assert row["n_pairs"] == 3
    assert row["effect"] == pytest.approx(0.1 + 0.2 / 3, abs=0.03)
    crossed = {row["second_level"]: row for row in table["interactions"]}
    assert crossed["2"]["effect"] == pytest.approx(simple[2] - simple[0])
    assert crossed["2"]["p_holm"] < 0.01 < crossed["1"]["p_holm"]
    assert table["family"] == 5


def curves(values: Mapping[str, Sequence[float]], rng: np.random.Generator, missing: Sequence[str] = (), **more: Any) -> Part:
    """Each method at budgets that double, with these mean scores; runs that are `missing` failed."""
    truth, levels, budgets = {}, {}, {}
    for doublings in range(max(map(len, values.values()))):
        for method, means in values.items():
            name = f"{2**doublings:g}e12"
            label = f"{method}:budget={name}" if doublings else method
            truth[label], levels[label], budgets[label] = means[doublings], {"budget": name}, BUDGET * 2**doublings
    axis = {"key": "budget.train_flops", "values": sorted(set(budgets.values()))}
    results = made(truth, levels, {"design": "grid", "axes": {"budget": axis}}, rng=rng, budgets=budgets, **more)
    assert set(missing) <= set(truth)
    kept, trials = results.samples, results.trials.copy()
    trials.loc[trials["method"].isin(missing), "status"] = "failed"
    return Part(**{**vars(results), "samples": kept[~kept["method"].isin(missing)], "trials": trials})


def scaling(slopes: Mapping[str, float], rng: np.random.Generator, **more: Any) -> Part:
    return curves({method: [0.3 + slope * doublings for doublings in range(3)] for method, slope in slopes.items()}, rng, **more)


def test_slopes_per_doubling_and_their_difference_are_recovered() -> None:
    results = scaling({"one": 0.1, "two": 0.02}, np.random.default_rng(6), seeds=5, items=100)
    table = only(results)
    assert table["ablation"] == []
    curves = {row["method"]: row for row in table["scaling"]}
    for method, slope in (("one", 0.1), ("two", 0.02)):
        row = curves[method]
        means = [arrays(results, point["label"]).mean() for point in row["points"]]
        assert [point["value"] for point in row["points"]] == pytest.approx(means)
        assert [point["train_flops"] for point in row["points"]] == [1e12, 2e12, 4e12]
        assert row["slope"] == pytest.approx(np.polyfit([0, 1, 2], means, 1)[0])
        assert row["interval"][0] < slope < row["interval"][1]
    (difference,) = table["slope_differences"]
    assert difference["effect"] == pytest.approx(curves["one"]["slope"] - curves["two"]["slope"])
    assert difference["p_holm"] < 0.01
    equal = only(scaling({"one": 0.05, "two": 0.05}, np.random.default_rng(7), seeds=5, items=100))
    assert equal["slope_differences"][0]["p_holm"] > 0.05


FLATTENING = (0.3, 0.4, 0.45, 0.46)


def test_slopes_are_compared_over_the_budgets_that_both_methods_have() -> None:
    """The same curve twice; without its two flat runs the second alone would seem to rise twice as fast."""
    missing = ["q:budget=4e12", "q:budget=8e12"]
    results = curves({"p": FLATTENING, "q": FLATTENING}, np.random.default_rng(14), missing, seeds=5, items=100)
    table = only(results)
    whole, part = table["scaling"]
    assert whole["budgets"] == [1e12, 2e12, 4e12, 8e12]
    assert part["budgets"] == [1e12, 2e12]
    assert [point["train_flops"] for point in part["points"]] == [1e12, 2e12, 4e12, 8e12]
    assert [point["why"] for point in part["points"]] == ["", "", *(f"{label} has no scores" for label in missing)]
    assert part["points"][3]["value"] is part["points"][3]["interval"] is None
    (row,) = table["slope_differences"]
    rises = [arrays(results, f"{name}:budget=2e12").mean() - arrays(results, name).mean() for name in "pq"]
    assert row["budgets"] == [1e12, 2e12]
    assert row["effect"] == pytest.approx(rises[0] - rises[1])
    assert row["p_holm"] > 0.05
    assert part["slope"] == pytest.approx(rises[1])
    assert part["slope"] > 1.5 * whole["slope"], "the slopes of the two curves, each over its own budgets, are not alike"


def test_three_common_budgets_in_the_middle_of_a_curve() -> None:
    results = curves({"p": FLATTENING, "q": FLATTENING}, np.random.default_rng(15), ["p:budget=2e12"], seeds=4)
    table = only(results)
    (row,) = table["slope_differences"]
    assert row["budgets"] == [1e12, 4e12, 8e12]
    doublings = [0, 2, 3]
    slopes = [
        np.polyfit(doublings, [arrays(results, name if d == 0 else f"{name}:budget={2**d}e12").mean() for d in doublings], 1)[0]
        for name in "pq"
    ]
    assert row["effect"] == pytest.approx(slopes[0] - slopes[1])


@pytest.mark.parametrize(
    ("missing", "n_left", "n_shared"),
    [(["q", "q:budget=4e12", "q:budget=8e12"], 1, 1), (["q", "q:budget=2e12", "q:budget=4e12", "q:budget=8e12"], 0, 0),
     (["q", "q:budget=2e12", "p:budget=4e12", "p:budget=8e12"], 2, 0)],
)  # fmt: skip
def test_fewer_than_two_common_budgets_give_no_difference_but_its_reason(missing: list[str], n_left: int, n_shared: int) -> None:
    table = only(curves({"p": FLATTENING, "q": FLATTENING}, np.random.default_rng(16), missing))
    (row,) = table["slope_differences"]
    assert (row["effect"], row["p_holm"], len(row["budgets"])) == (None, None, n_shared)
    assert row["why"] == f"both have scores at {n_shared} of the budgets; a slope needs two"
    assert table["family"] == 0
    curve = next(curve for curve in table["scaling"] if curve["method"] == "q")
    assert len(curve["budgets"]) == n_left
    assert curve["why"] == ("" if n_left == 2 else f"it has scores at {n_left} of the budgets; a slope needs two")


def test_slopes_cover_the_truth() -> None:
    rng, covered = np.random.default_rng(8), 0
    for _ in range(24):
        (row,) = only(scaling({"one": 0.03}, rng, items=30))["scaling"]
        covered += row["interval"][0] <= 0.03 <= row["interval"][1]
    assert covered >= 19


def test_budgets_are_ranked_apart_and_never_compared() -> None:
    results = scaling({"base": 0.0, "one": 0.1}, np.random.default_rng(9))
    board = leaderboard(results)
    assert [row["method"] for row in board["rows"]] == ["base", "one"] or [row["method"] for row in board["rows"]] == ["one", "base"]
    assert [block["name"] for block in board["blocks"]] == ["budget=2e12", "budget=4e12"]
    assert {row["method"] for row in board["blocks"][1]["rows"]} == {"base:budget=4e12", "one:budget=4e12"}
    assert sorted(row["rank"] for row in board["blocks"][1]["rows"]) == [1, 2]
    assert "Ranked are the runs at budget=1e12" in board["notes"][0]
    claims = ClaimFile.model_validate({
        "claims": [{
            "id": "c", "sentence": "s", "source": "x", "treatment": "one:budget=4e12",
            "readings": [{
                "name": "absolute", "comparators": ["one"], "measure": "absolute", "estimand": {"kind": "score"}, "threshold": 0.0,
                "primary": True,
            }],
        }]
    })  # fmt: skip
    (verdict,) = judge(results, claims)
    assert verdict["verdict"] == "not testable here"
    assert "never compared" in verdict["why"]


def test_a_plain_study_has_no_blocks() -> None:
    results = ablation([0.1], np.random.default_rng(10))
    assert "blocks" not in leaderboard(results)


def test_one_seed_and_unmatched_compute_are_refused_with_the_reason() -> None:
    single = only(ablation([0.3, 0.0], np.random.default_rng(11), seeds=1))
    assert {row["why"] for row in single["ablation"]} == {ONE_SEED}
    assert single["family"] == 0
    assert single["ablation"][0]["effect"] == pytest.approx(0.3, abs=0.15)
    assert single["ablation"][0]["p_holm"] is None
    spent = only(ablation([0.3, 0.0], np.random.default_rng(12), spend={"m:a=v0": 0.9}))
    refused, kept = spent["ablation"]
    assert refused["effect"] is None
    assert "compute was not matched: m:a=v0-0 missed its budget by 10.0%" in refused["why"]
    assert kept["p_holm"] is not None
    assert spent["family"] == 1


def test_a_variant_without_scores_is_told() -> None:
    results = ablation([0.1, 0.2], np.random.default_rng(13))
    kept = results.samples[results.samples["method"] != "m:a=v1"]
    partial = Part(**{**vars(results), "samples": kept})
    found = sweep_tables(partial, ["quiz"])
    assert found["tables"][0]["ablation"][1]["why"] == "m:a=v1 has no scores"
    assert any("Without scores: m:a=v1" in note for note in found["notes"])


def test_labels_of_variants_are_valid() -> None:
    assert MethodSpec(name="m", variant="a=v0,budget=2e12").label == "m:a=v0,budget=2e12"
