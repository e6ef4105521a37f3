import numpy as np
import pytest
from pydantic import ValidationError

from harness.core.budget import Ledger
from harness.core.records import Instruction
from harness.errors import SpecError
from harness.instructions.constraints import EVAL_KINDS, TRAIN_KINDS
from harness.instructions.demonstrate import demonstration
from harness.instructions.ngrams import ngram_hashes
from harness.instructions.reasoning import EVAL_FAMILIES, TRAIN_FAMILIES, Split
from harness.instructions.verify import verify
from tasks.pool import MixedPool, MixedPoolConfig, constraint_items, reasoning_items, seed_instructions

SPLITS: tuple[Split, ...] = ("train", "validation", "evaluation")


def make(seed: int = 0, ngrams: frozenset[int] = frozenset(), **config: object) -> tuple[MixedPool, Ledger]:
    ledger = Ledger()
    return MixedPool(MixedPoolConfig.model_validate(config), ledger=ledger, rng=np.random.default_rng(seed), ngrams=ngrams), ledger


def test_seed_file_is_ample_varied_and_within_its_lengths() -> None:
    seeds = [seed for split in SPLITS for seed in seed_instructions(split)]
    assert len(seeds) >= 150
    assert (
        len({seed.id for seed in seeds})
        == len({seed.instruction for seed in seeds})
        == len({seed.response for seed in seeds})
        == len(seeds)
    )
    assert len({seed.topic for seed in seeds}) >= 12
    assert len({seed.form for seed in seeds}) >= 12
    for seed in seeds:
        assert 6 <= len(seed.instruction.split()) <= 25, seed.id
        assert 15 <= len(seed.response.split()) <= 45, seed.id


def test_splits_share_no_seed_and_no_kind() -> None:
    assert min(len(seed_instructions(split)) for split in SPLITS) >= 20
    items = {split: constraint_items(split, 60, seed=1) for split in SPLITS}
    seeds = {split: {item.seed_id for item in found} for split, found in items.items()}
    kinds = {split: {constraint.kind for item in found for constraint in item.constraints} for split, found in items.items()}
    assert not seeds["train"] & seeds["evaluation"]
    assert not seeds["train"] & seeds["validation"]
    assert not seeds["validation"] & seeds["evaluation"]
    assert kinds["train"] <= set(TRAIN_KINDS)
    assert kinds["evaluation"] <= set(EVAL_KINDS)


def test_training_texts_share_no_8_gram_with_evaluation_texts() -> None:
    train = [*constraint_items("train", 300), *reasoning_items("train", TRAIN_FAMILIES, 20)]
    evaluation = [*constraint_items("evaluation", 200), *reasoning_items("evaluation", EVAL_FAMILIES, 30)]
    assert not {h for item in train for h in ngram_hashes(item.text)} & {h for item in evaluation for h in ngram_hashes(item.text)}


@pytest.mark.parametrize("split", SPLITS)
def test_items_have_a_label_that_passes_and_come_out_equal_for_equal_seeds(split: Split) -> None:
    families = EVAL_FAMILIES if split == "evaluation" else TRAIN_FAMILIES
    items = [*constraint_items(split, 20, seed=5), *reasoning_items(split, families[:3], 5, seed=5)]
    assert items == [*constraint_items(split, 20, seed=5), *reasoning_items(split, families[:3], 5, seed=5)]
    assert items[:20] != constraint_items(split, 20, seed=6)
    assert len({item.id for item in items}) == len(items)
    for item in items:
        response = demonstration(item)
        assert response is not None
        assert verify(item, response).passed


def test_numbers_of_constraints_cycle_through_the_range() -> None:
    items = constraint_items("evaluation", 10, (1, 5))
    assert [len(item.constraints) for item in items] == [1, 2, 3, 4, 5] * 2


def test_items_of_the_wrong_split_are_refused() -> None:
    with pytest.raises(SpecError, match="gcd"):
        reasoning_items("evaluation", ["gcd"], 1)
    with pytest.raises(SpecError, match="aiw"):
        reasoning_items("train", ["aiw"], 1)


def test_small_generators_give_what_they_have() -> None:
    items = reasoning_items("validation", ["products"], 500)
    assert 5 < len({item.body for item in items}) == len(items) < 100


def test_every_access_is_counted() -> None:
    pool, ledger = make()
    rng = np.random.default_rng(0)
    seeds = pool.seeds()
    assert pool.seeds() == seeds
    assert ledger.counters["demonstrations"] == len(seeds) == 24
    pool.demonstrations(5, rng=rng)
    assert ledger.counters["demonstrations"] == 29
    prompts = pool.prompts(6, rng=rng)
    assert ledger.counters["demonstrations"] == 29
    pool.verify(prompts[0], "x")
    assert ledger.counters["verifications"] == 1
    pool.preferences([(prompt, "a", "b") for prompt in prompts], rng=rng)
    assert ledger.counters["comparisons"] == 6
    assert ledger.counters["queries"] == 0
    pool.contaminated("x")
    assert ledger.counters == {"demonstrations": 29, "comparisons": 6, "queries": 0, "verifications": 1}


def is_public(instruction: Instruction) -> bool:
    return not {"gold", "reference"} & set(instruction.payload)


def test_no_answer_is_visible_in_what_methods_get() -> None:
    pool, _ = make()
    rng = np.random.default_rng(0)
    labelled = [*pool.seeds(), *pool.demonstrations(40, rng=rng)]
    assert all(is_public(item) for item in pool.prompts(40, rng=rng))
    assert all(is_public(example.instruction) for example in labelled)
    assert all(demonstration(item) is None for item in pool.prompts(10, rng=rng))
    assert all(pool.verify(example.instruction, example.response).passed for example in labelled)


def test_seeds_cover_families_and_requests() -> None:
    pool, _ = make()
    families = [seed.instruction.family for seed in pool.seeds() if seed.instruction.pool == "reasoning"]
    bodies = [seed.instruction.body for seed in pool.seeds()]
    assert len(families) == 12
    assert set(families) == set(TRAIN_FAMILIES)
    assert len(set(bodies)) == 24


def test_shares_and_families_are_as_configured() -> None:
    pool, _ = make(families={"gcd": {"max_value": 99}}, constraint_share=0.25, seed_demonstrations=8)
    drawn = pool.prompts(400, rng=np.random.default_rng(0))
    reasoning = [item for item in drawn if item.pool == "reasoning"]
    assert len(reasoning) / len(drawn) == pytest.approx(0.75, abs=0.07)
    assert {item.family for item in reasoning} == {"gcd"}
    assert all(item.payload["config"]["max_value"] == 99 for item in reasoning)
    assert sum(seed.instruction.pool == "instructions" for seed in pool.seeds()) == 2
    only, _ = make(families=[], constraint_share=1)
    assert {item.pool for item in only.prompts(20, rng=np.random.default_rng(0))} == {"instructions"}


def test_demonstrations_do_not_repeat_questions_before_a_generator_runs_dry() -> None:
    pool, _ = make(families=["products"], constraint_share=0, seed_demonstrations=1)
    bodies = [example.instruction.body for example in pool.demonstrations(50, rng=np.random.default_rng(0))]
    assert len(set(bodies)) == 50
    assert len(pool.demonstrations(200, rng=np.random.default_rng(1))) == 200


def test_equal_seeds_give_equal_pools() -> None:
    (one, _), (same, _), (other, _) = make(1), make(1), make(2)
    assert one.seeds() == same.seeds() != other.seeds()
    draws = [pool.prompts(10, rng=np.random.default_rng(7)) for pool in (one, same)]
    assert draws[0] == draws[1]


def test_contamination_is_found_by_8_grams() -> None:
    text = "one two three four five six seven eight"
    pool, _ = make(ngrams=frozenset(ngram_hashes(text)))
    assert pool.contaminated("He said: One, two, three, four, five, six, seven, eight!")
    assert not pool.contaminated("one two three four five six seven nine")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"families": ["gdc"]}, "Did you mean 'gcd'"),
        ({"families": ["aiw"]}, "held out for evaluation"),
        ({"families": {"gcd": {"max_valu": 3}}}, "Did you mean 'max_value'"),
        ({"families": {"gcd": {"max_value": -3}}}, "max_value must be"),
        ({"families": [{"gcd": {}}]}, "valid dictionary"),
        ({"families": []}, "constraint_share"),
        ({"familys": ["gcd"]}, "familys"),
        ({"constraint_share": 1.5}, "constraint_share"),
        ({"seed_demonstrations": 0}, "seed_demonstrations"),
        ({"annotators": {"flip_probability": 0.9}}, "flip_probability"),
    ],
)
def test_wrong_settings_are_refused_before_anything_runs(config: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MixedPoolConfig.model_validate(config)
