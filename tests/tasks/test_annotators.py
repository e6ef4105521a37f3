import numpy as np
import pytest
from pydantic import ValidationError

from harness.core.records import Constraint
from harness.instructions.render import compose
from harness.scoring.cost import Prices, cost
from tasks.annotators import AnnotatorProfile, Annotators, AnnotatorsConfig, brevity, cleanliness, relevance, value

ITEM = compose(pool="instructions", family="garden", body="Describe a garden after heavy rain.", constraints=[Constraint("no_commas")])
GOOD, BAD = "The garden shines after the rain.", "Well, no, never, perhaps, who knows, ###, hmm"


def test_published_noise_price_and_time_are_the_defaults_and_a_price_stands_in_one_place() -> None:
    assert AnnotatorsConfig().flip_probability == 0.25
    spent = cost({"comparisons": 10}, 0.0, Prices())
    assert (spent.labels_usd, spent.human_s) == (pytest.approx(3.0), pytest.approx(368.0))
    for key, price in (("usd_per_comparison", "prices.comparison_usd"), ("seconds_per_comparison", "prices.comparison_s")):
        with pytest.raises(ValidationError, match=f"{key}.*{price}"):
            AnnotatorsConfig.model_validate({key: 0.3})


def test_criteria_on_cases_written_by_hand() -> None:
    assert brevity(ITEM, "") == 1
    assert brevity(ITEM, "word " * 40) == pytest.approx(0.5)
    assert brevity(ITEM, "word " * 200) == 0
    assert cleanliness(ITEM, GOOD) == 1
    assert cleanliness(ITEM, "a ### b") == 0.5
    assert cleanliness(ITEM, "a\na\n<|im_end|>") == 0
    assert relevance(ITEM, "Garden rain!") == 1
    assert relevance(ITEM, "Nothing of it") == 0
    profile = AnnotatorProfile(name="x", weights={"correctness": 3.0, "brevity": 1.0})
    assert value(profile, ITEM, "word " * 40) == pytest.approx((3 * 1 + 1 * 0.5) / 4)


def test_without_noise_everyone_prefers_the_response_that_is_better_throughout() -> None:
    votes = Annotators(AnnotatorsConfig(flip_probability=0)).votes([(ITEM, GOOD, BAD), (ITEM, BAD, GOOD)], rng=np.random.default_rng(0))
    assert votes.tolist() == [[True, False]] * 4


def test_annotators_disagree_about_what_matters() -> None:
    long_but_right = "After the heavy rain the garden shines and drips. " * 12
    short_but_wrong = "Wet, green."
    votes = Annotators(AnnotatorsConfig(flip_probability=0)).votes([(ITEM, long_but_right, short_but_wrong)], rng=np.random.default_rng(0))
    by_name = dict(zip([profile.name for profile in AnnotatorsConfig().profiles], votes[:, 0], strict=True))
    assert by_name["examiner"]
    assert by_name["reader"]
    hurried = AnnotatorProfile(name="only", weights={"brevity": 1.0})
    pool = Annotators(AnnotatorsConfig(profiles=(hurried,), flip_probability=0))
    assert not pool.prefers_first(hurried, ITEM, long_but_right, short_but_wrong, rng=np.random.default_rng(0))


def test_labels_are_flipped_as_often_as_stated() -> None:
    pool, pairs = Annotators(AnnotatorsConfig()), [(ITEM, GOOD, BAD)] * 4000
    votes = pool.votes(pairs, rng=np.random.default_rng(0))
    assert np.mean(votes) == pytest.approx(0.75, abs=0.015)


def test_equal_responses_are_decided_by_a_fair_coin() -> None:
    votes = Annotators(AnnotatorsConfig(flip_probability=0)).votes([(ITEM, GOOD, GOOD)] * 2000, rng=np.random.default_rng(0))
    assert np.mean(votes) == pytest.approx(0.5, abs=0.03)


def test_labels_are_equal_for_equal_seeds_and_name_their_annotator() -> None:
    pool = Annotators(AnnotatorsConfig())
    first = [pool.label(ITEM, GOOD, BAD, rng=rng) for rng in [np.random.default_rng(3)] for _ in range(50)]
    again = [pool.label(ITEM, GOOD, BAD, rng=rng) for rng in [np.random.default_rng(3)] for _ in range(50)]
    other = [pool.label(ITEM, GOOD, BAD, rng=rng) for rng in [np.random.default_rng(4)] for _ in range(50)]
    assert first == again != other
    assert {label.annotator for label in first} == {profile.name for profile in pool.config.profiles}
    assert all({label.chosen, label.rejected} == {GOOD, BAD} for label in first)


@pytest.mark.parametrize(
    "config",
    [
        {"flip_probability": 0.6},
        {"profiles": []},
        {"profiles": [{"name": "a", "weights": {"corectness": 1}}]},
        {"profiles": [{"name": "a", "weights": {"brevity": 0}}]},
        {"profiles": [{"name": "a", "weights": {"brevity": -1, "correctness": 2}}]},
        {"profiles": [{"name": "a", "weights": {"brevity": 1}}, {"name": "a", "weights": {"brevity": 1}}]},
        {"noise": 0.1},
    ],
)
def test_wrong_settings_are_refused(config: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AnnotatorsConfig.model_validate(config)
