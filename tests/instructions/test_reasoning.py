import os
import subprocess
import sys

import numpy as np
import pytest

from harness.core.records import Constraint
from harness.errors import SpecError
from harness.instructions import reasoning
from harness.instructions.demonstrate import demonstration
from harness.instructions.reasoning import EVAL_FAMILIES, FAMILIES, TRAIN_FAMILIES, Split
from harness.instructions.render import compose, without_answers
from harness.instructions.verify import verify


def split_for(family: str) -> Split:
    return "evaluation" if FAMILIES[family].held_out else "train"


def test_families_are_disjoint() -> None:
    assert not set(TRAIN_FAMILIES) & set(EVAL_FAMILIES)
    assert len(TRAIN_FAMILIES) >= 7
    assert len(EVAL_FAMILIES) >= 2


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_gold_passes_with_a_little_leniency_and_nonsense_does_not(family: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        item = reasoning.draw(family, {}, split_for(family), rng=rng)
        assert item is not None
        gold = reasoning.gold(item)
        assert gold == item.payload["gold"] == demonstration(item)
        for reply in (gold, f" {gold}.\n", f"Answer: {gold}", f'"{gold}"', f"**{gold}**"):
            assert verify(item, reply).passed, (reply, item)
        # knights_knaves reads statements out of a text, so saying them twice is no contradiction there.
        hedged = [] if family == "knights_knaves" else [f"{gold} {gold}", f"I think that it is perhaps {gold} or not"]
        for reply in ("nonsense", "", *hedged):
            assert not verify(item, reply).passed, (reply, item)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_prompts_and_answers_are_short_at_the_easiest_settings(family: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        item = reasoning.draw(family, {}, split_for(family), rng=rng)
        assert item is not None
        assert len(item.text.split()) < 110
        assert len(reasoning.gold(item).split()) <= 10
        assert item.text.endswith("Reply with the answer only.")


def test_instances_are_equal_for_equal_arguments_and_differ_by_index() -> None:
    config = FAMILIES["chain_sum"].easiest
    assert reasoning.generate("chain_sum", config, 0, 5) == reasoning.generate("chain_sum", config, 0, 5)
    assert reasoning.generate("chain_sum", config, 0, 5).id != reasoning.generate("chain_sum", config, 0, 6).id


def test_instances_do_not_depend_on_the_hash_seed() -> None:
    """Two of reasoning-gym's generators draw from sets of letters."""
    code = (
        "from harness.instructions.reasoning import FAMILIES, generate\n"
        "print([generate(name, FAMILIES[name].easiest, 0, index).body for name in FAMILIES for index in range(5)])"
    )
    texts = {
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


def test_train_and_validation_share_no_question() -> None:
    for family in ("gcd", "products", "caesar_cipher"):
        bodies = {}
        for split in ("train", "validation"):
            rng = np.random.default_rng(0)
            drawn = [reasoning.draw(family, {}, split, rng=rng) for _ in range(60)]
            bodies[split] = {item.body for item in drawn if item is not None}
        assert bodies["train"]
        assert bodies["validation"]
        assert not bodies["train"] & bodies["validation"]


def test_evaluation_families_cannot_be_drawn_for_training() -> None:
    with pytest.raises(AssertionError):
        reasoning.draw("aiw", {}, "train", rng=np.random.default_rng(0))
    with pytest.raises(AssertionError):
        reasoning.draw("gcd", {}, "evaluation", rng=np.random.default_rng(0))


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("attribute", ["depth", "size"])
def test_ladders_climb_to_their_end_and_every_rung_generates(family: str, attribute: str) -> None:
    config, rungs = FAMILIES[family].easiest, 1
    while (climbed := reasoning.harder(family, config, attribute)) is not None:
        assert climbed != config
        config, rungs = climbed, rungs + 1
        item = reasoning.generate(family, config, 0, 3)
        assert verify(item, reasoning.gold(item)).passed
    ladder = FAMILIES[family].depth if attribute == "depth" else FAMILIES[family].size
    assert rungs == max(1, len(ladder))


def test_more_terms_make_longer_sums() -> None:
    easy = FAMILIES["chain_sum"].easiest
    deep = reasoning.harder("chain_sum", easy, "depth")
    assert deep is not None
    signs = lambda body: sum(body.count(sign) for sign in (" + ", " - "))  # noqa: E731
    for index in range(10):
        assert signs(reasoning.generate("chain_sum", easy, 0, index).body) == 1
        assert signs(reasoning.generate("chain_sum", deep, 0, index).body) == 2


def test_answer_and_constraints_must_both_hold() -> None:
    bare = reasoning.generate("syllogism", FAMILIES["syllogism"].easiest, 0, 1)
    gold = reasoning.gold(bare)
    both = (Constraint("start_phrase", {"phrase": "In short"}), Constraint("all_uppercase"))
    item = compose(pool=bare.pool, family=bare.family, body=bare.body, constraints=both, payload=bare.payload)
    assert verify(item, f"IN SHORT {gold.upper()}").passed
    assert verify(item, f"IN SHORT {gold.upper()}").share == 1
    wrong = "NO" if gold == "Yes" else "YES"
    assert verify(item, f"IN SHORT {wrong}").share == pytest.approx(2 / 3)
    assert verify(item, gold).share == pytest.approx(1 / 3)
    assert verify(item, gold).detail == "failed: start_phrase, all_uppercase"
    assert not verify(item, f"Sure:\nIN SHORT {gold.upper()}").passed
    assert verify(item, f"Sure:\nIN SHORT {gold.upper()}", loose=True).passed


def test_verification_needs_no_gold_in_the_payload() -> None:
    item = reasoning.generate("gcd", FAMILIES["gcd"].easiest, 0, 1)
    hidden = without_answers(item)
    assert "gold" not in hidden.payload
    assert hidden.id == item.id
    assert demonstration(hidden) is None
    assert verify(hidden, item.payload["gold"]).passed


@pytest.mark.parametrize("text", ["", "\x00", "9" * 5000, "nan", "inf", "1e999999", "٣", "﷽" * 300, "[[[", "Answer:", "-", "1/0"])
def test_hostile_answers_never_raise(text: str) -> None:
    for family in FAMILIES:
        item = reasoning.generate(family, FAMILIES[family].easiest, 0, 2)
        assert not verify(item, text).passed


def test_wrong_settings_name_the_setting() -> None:
    with pytest.raises(SpecError, match="max_value"):
        reasoning.check_config("gcd", {"max_valu": 3})
    with pytest.raises(SpecError, match="max_value must be"):
        reasoning.check_config("gcd", {"max_value": -3})
    reasoning.check_config("gcd", {"max_value": 90})
