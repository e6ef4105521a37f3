from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml
from scipy import stats

from harness.errors import SpecError
from harness.verdicts.claims import find_claims, load_claims, shipped_claims

ROOT = Path(__file__).parents[2]
VALID = {
    "alpha": 0.05,
    "claims": [
        {
            "id": "one",
            "sentence": "A is 20 % better.",
            "source": "test",
            "treatment": "selfteach",
            "readings": [
                {
                    "name": "relative",
                    "primary": True,
                    "measure": "relative",
                    "threshold": 0.2,
                    "comparators": ["sft"],
                    "estimand": {"kind": "score", "suite": "generation"},
                }
            ],
        }
    ],
}


def edited(path, value):
    """VALID with the value at `path` (keys and indices) replaced."""
    content = yaml.safe_load(yaml.safe_dump(VALID))
    place = content
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return content


def load(tmp_path, content):
    file = tmp_path / "claims.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return load_claims(file)


READING = ("claims", 0, "readings", 0)
READING_BY_40_PERCENT = VALID["claims"][0]["readings"][0] | {"direction": "lower", "measure": "relative", "threshold": -40}


def test_a_valid_file_loads_with_its_defaults(tmp_path):
    found = load(tmp_path, VALID)
    assert found.power == 0.8
    assert found.claims[0].readings[0].direction == "higher"
    assert found.claims[0].readings[0].text == "relative, vs sft"


@pytest.mark.parametrize(
    ("path", "value", "key", "message"),
    [
        (("alhpa",), 0.1, "alhpa", "Did you mean 'alpha'"),
        ((*READING, "treshold"), 0.1, "claims[0].readings[0].treshold", "Did you mean 'threshold'"),
        ((*READING, "estimand"), {"kind": "score", "siute": "x"}, "claims[0].readings[0].estimand.siute", "Did you mean 'suite'"),
        ((*READING, "measure"), "relativ", "claims[0].readings[0].measure", "Did you mean 'relative'"),
        ((*READING, "estimand"), {"kind": "scores"}, "claims[0].readings[0].estimand.kind", "Did you mean 'score'"),
        ((*READING, "threshold"), -0.2, "claims[0].readings[0]", "does not lie on the side"),
        ((*READING, "threshold"), "0.2", "claims[0].readings[0].threshold", "number"),
        (
            READING,
            READING_BY_40_PERCENT,
            "claims[0].readings[0]",
            "-40 of a relative reading: score cannot fall by 100 % or more; 40 % less is -0.4",
        ),
        (READING, READING_BY_40_PERCENT | {"threshold": -1}, "claims[0].readings[0]", "40 % less is -0.4"),
        (READING, READING_BY_40_PERCENT | {"measure": "ratio", "threshold": 0}, "claims[0].readings[0]", "40 % less is 0.6"),
        ((*READING, "comparators"), ["selfteach"], "claims[0]", "compared with itself"),
        ((*READING, "comparators"), [], "claims[0].readings[0].comparators", "at least 1"),
        ((*READING, "comparators"), ["sft", "sft"], "claims[0].readings[0]", "twice"),
        ((*READING, "primary"), False, "claims[0]", "exactly one reading must be primary, 0 are"),
        (("claims", 0, "readings"), VALID["claims"][0]["readings"] * 2, "claims[0]", "2 are"),
        (("claims",), VALID["claims"] * 2, "", "two claims have the id 'one'"),
        (("claims", 0, "id"), "Über", "claims[0].id", "must match"),
        (("alpha",), 0, "alpha", "greater than 0"),
        ((*READING, "margin"), 0.1, "claims[0].readings[0]", "only direction equal"),
        ((*READING, "direction"), "equal", "claims[0].readings[0]", "no threshold"),
        ((*READING, "direction"), "equall", "claims[0].readings[0].direction", "Did you mean 'equal'"),
        ((*READING, "threshold"), float("nan"), "claims[0].readings[0].threshold", "finite"),
        ((*READING, "estimand"), {"kind": "curve"}, "claims[0].readings[0].estimand", "names a curve"),
        ((*READING, "estimand"), {"kind": "score", "curve": "reward"}, "claims[0].readings[0].estimand", "names a curve"),
        ((*READING, "estimand"), {"kind": "score", "last_share": 0.5}, "claims[0].readings[0].estimand", "last_share"),
        (("claims",), [], "claims", "at least 1"),
    ],
)
def test_mistakes_are_named_with_file_and_key(tmp_path, path, value, key, message):
    with pytest.raises(SpecError, match=r"claims\.yaml") as caught:
        load(tmp_path, edited(path, value))
    assert caught.value.key == key
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("measure", "margin", "region"), [("absolute", 0.02, (-0.02, 0.02)), ("relative", 0.1, (-0.1, 0.1)), ("ratio", 0.1, (0.9, 1.1))]
)
def test_a_claim_of_no_difference_has_a_margin_around_no_effect(tmp_path, measure, margin, region):
    content = edited((*READING, "direction"), "equal")
    reading = content["claims"][0]["readings"][0]
    del reading["threshold"]
    reading |= {"margin": margin, "measure": measure}
    found = load(tmp_path, content).claims[0].readings[0]
    assert found.region == pytest.approx(region)
    assert found.threshold == pytest.approx(region[1])
    assert "equal" in found.direction


@pytest.mark.parametrize(("margin", "told"), [(None, "needs a margin"), (-0.1, "greater than 0"), ("0.1", "number"), (1.5, "below 1")])
def test_wrong_margins_are_named(tmp_path, margin, told):
    content = edited((*READING, "direction"), "equal")
    reading = content["claims"][0]["readings"][0]
    del reading["threshold"]
    for measure, kind in (("ratio", "score"), ("relative", "score"), ("ratio", "drop")):
        reading |= {"margin": margin, "measure": measure, "estimand": {"kind": kind}}
        with pytest.raises(SpecError, match=told):
            load(tmp_path, content)


@pytest.mark.parametrize("estimand", [{"kind": "drop"}, {"kind": "curve", "curve": "reward"}])
def test_what_may_be_negative_may_fall_by_more_than_all_of_it(tmp_path, estimand):
    content = edited(READING, READING_BY_40_PERCENT | {"threshold": -1, "estimand": estimand})
    assert load(tmp_path, content).claims[0].readings[0].threshold == -1


def test_better_without_a_number_has_the_threshold_no_effect(tmp_path):
    assert load(tmp_path, edited((*READING, "threshold"), 0)).claims[0].readings[0].threshold == 0


def test_mistakes_are_named_with_their_line(tmp_path):
    text = "alpha: 0.05\nclaims:\n  - id: a\n    sentence: s\n    source: s\n    treatment: t\n    raedings: []\n"
    with pytest.raises(SpecError, match=r"claims\.yaml:7: claims\[0\]\.raedings: unknown key.*Did you mean 'readings'"):
        load(tmp_path, text)
    with pytest.raises(SpecError, match=r"claims\.yaml:2: not valid YAML"):
        load(tmp_path, "alpha: 0.05\nclaims: ]\n")
    with pytest.raises(SpecError, match=r"claims\.yaml:2: alpha: the key is written twice"):
        load(tmp_path, "alpha: 0.05\nalpha: 0.1\n")


def test_a_missing_key_is_named(tmp_path):
    content = edited(("claims", 0, "source"), "x")
    del content["claims"][0]["source"]
    with pytest.raises(SpecError, match=r"claims\[0\].source: this key is required"):
        load(tmp_path, content)


@pytest.mark.parametrize("text", ["- a\n- b\n", "", "claims: [", "claims: !!python/object:os.system {}"])
def test_files_that_are_no_claim_files(tmp_path, text):
    with pytest.raises(SpecError, match=r"claims\.yaml"):
        load(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SpecError, match=r"nowhere\.yaml"):
        load_claims(tmp_path / "nowhere.yaml")


def test_find_by_path_then_by_shipped_name(tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("x")
    assert find_claims("mine.yaml", tmp_path) == own
    if entry_points(group="selfteach.suites"):
        assert find_claims("review_2024").name == "review_2024.yaml"
        with pytest.raises(SpecError, match="Did you mean 'review_2024'"):
            find_claims("review_2042", tmp_path)


def test_every_shipped_claim_file_loads():
    files = sorted((ROOT / "tasks/claims").glob("*.yaml"))
    assert files
    for file in files:
        load_claims(file)
    assert set(shipped_claims().values()) <= {file.resolve() for file in files} | set(shipped_claims().values())


def test_the_review_is_read_relative_and_absolute_against_both_rivals():
    claims = {claim.id: claim for claim in load_claims(ROOT / "tasks/claims/review_2024.yaml").claims}
    assert [abs(claims[name].readings[0].threshold) for name in claims] == [0.40, 0.25, 0.30, 0.15, 0.20]
    for claim in claims.values():
        assert claim.undefined_in_source
        assert claim.rationale
        assert {"sft", "rlhf"} <= {name for reading in claim.readings for name in reading.comparators}
    for name in ("generation_accuracy", "human_intervention", "robustness", "complex_understanding"):
        kinds = {(reading.measure, comparator) for reading in claims[name].readings for comparator in reading.comparators}
        assert {("relative", "sft"), ("relative", "rlhf"), ("absolute", "sft"), ("absolute", "rlhf")} <= kinds
    assert next(reading for reading in claims["complex_understanding"].readings if reading.primary).comparators == ["base", "sft", "rlhf"]


def test_the_papers_claims_are_read_in_several_ways_and_say_what_cannot_be_tested():
    claims = {claim.id: claim for claim in load_claims(ROOT / "tasks/claims/teams_rl_2024.yaml").claims}
    assert set(claims) == {"queries", "arc", "privacy", "policy_beats_random", "transfer"}
    for claim in claims.values():
        assert claim.undefined_in_source
        assert claim.rationale
        assert len(claim.readings) >= 2
    primary = {name: next(reading for reading in claim.readings if reading.primary) for name, claim in claims.items()}
    assert primary["queries"].threshold == 0.0573
    assert primary["arc"].threshold == pytest.approx(0.5435 - 0.516)
    assert primary["privacy"].threshold == pytest.approx(0.47 - 0.72)
    assert {reading.estimand.kind for reading in claims["policy_beats_random"].readings} == {"score", "curve"}
    assert {reading.direction for reading in claims["queries"].readings} == {"lower", "equal"}


def test_the_z_that_the_arc_claim_quotes():
    share, rival, items = 0.5435, 0.516, 1172
    z = (share - rival) / (share * (1 - share) / items + rival * (1 - rival) / items) ** 0.5
    rationale = next(claim for claim in load_claims(ROOT / "tasks/claims/teams_rl_2024.yaml").claims if claim.id == "arc").rationale
    assert f"z of {z:.2f} (p = {2 * stats.norm.sf(z):.2f})" in rationale
