"""Which examples stand before an instruction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from stand_ins import HashingEncoder, make_instruction

from harness.core.records import Constraint, Demonstration, Instruction
from harness.instructions.shots import demonstration_turns, varied
from selfteach.respond.config import ResponderConfig
from selfteach.respond.shots import Examples, nearest


def shot(name: str, *kinds: str, family: str = "", topic: str = "topic", length: int = 0) -> Demonstration:
    payload = {"generator": family} if family else {}
    constraints = tuple(Constraint(kind) for kind in kinds)
    text = name + "." * length
    return Demonstration(
        make_instruction(text, name=name, family=family or topic, constraints=constraints, payload=payload), f"answer {name}"
    )


SHOTS = [
    shot("gcd-long", family="gcd", length=40),
    shot("gcd", family="gcd"),
    shot("gcd-2", family="gcd", length=5),
    shot("commas", "no_commas"),
    shot("commas and title", "no_commas", "title"),
    shot("title", "title", length=9),
    shot("other", "bullets"),
]


def names(shots: list[Demonstration]) -> list[str]:
    return [one.instruction.id for one in shots]


def chosen(examples: Examples, instruction: Instruction, embedding: np.ndarray | None = None) -> list[str]:
    return names(examples.choose([instruction], None if embedding is None else embedding[None])[0])


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (shot("x", family="gcd"), ["gcd", "gcd-2"]),
        (shot("x", "title", family="gcd"), ["gcd", "title"]),
        (shot("x", "no_commas"), ["commas", "commas and title"]),
        (shot("x", "no_commas", "title"), ["commas and title"]),
        (shot("x", "bullets", "title"), ["other", "title"]),
        (shot("x", "unseen"), ["gcd", "other"]),
    ],
)
def test_matching_shots_show_what_the_instruction_asks(wanted: Demonstration, expected: list[str]) -> None:
    assert chosen(Examples(SHOTS, config=ResponderConfig()), wanted.instruction) == expected


@pytest.mark.parametrize("settings", [{"context": "none"}, {"shots": 0}, {"context": "fixed", "shots": 0}])
def test_no_shots(settings: dict[str, object]) -> None:
    examples = Examples(SHOTS, config=ResponderConfig(**settings), rng=np.random.default_rng(0))
    assert chosen(examples, SHOTS[0].instruction) == []
    assert examples.turns([SHOTS[0].instruction], None) == [[]]


def unit(angle: float) -> np.ndarray:
    return np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)


def nearby(*angles: float, shots: int = 2) -> Examples:
    seeds = [shot(f"seed-{place}") for place in range(len(angles))]
    embeddings = np.stack([unit(angle) for angle in angles])
    return Examples(seeds, config=ResponderConfig(context="nearest", shots=shots), seed_embeddings_N_D=embeddings)


def test_nearest_shots_have_the_greatest_cosines_and_stand_oldest_first() -> None:
    examples = nearby(1.5, 0.9, 0.1, 0.3)
    assert chosen(examples, make_instruction("x"), unit(0.0)) == ["seed-2", "seed-3"]
    assert chosen(examples, make_instruction("x"), unit(1.0)) == ["seed-0", "seed-1"]
    (turns,) = examples.turns([make_instruction("x")], unit(0.0)[None])
    assert [turn["content"] for turn in turns] == ["seed-2", "answer seed-2", "seed-3", "answer seed-3"]


def test_nearest_breaks_ties_by_age_however_many_rows_there_are() -> None:
    """Products of equal rows differ in the last bits with their place in the matrix."""
    rng = np.random.default_rng(0)
    near, far, queries = (rows / np.linalg.norm(rows, axis=-1, keepdims=True) for rows in map(np.float32, _normal(rng)))
    for count in range(3, 60):
        seeds = [shot(f"seed-{place}") for place in range(count + 1)]
        rows = np.stack([far, *[near] * count])
        examples = Examples(seeds, config=ResponderConfig(context="nearest"), seed_embeddings_N_D=rows)
        for query in queries:
            closer = ["seed-1", "seed-2"] if query @ near > query @ far else ["seed-0", "seed-1"]
            assert chosen(examples, make_instruction("x"), query) == closer


def _normal(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return rng.normal(size=384), rng.normal(size=384), rng.normal(size=(3, 384))


def test_nearest_never_shows_the_instruction_itself_nor_one_text_twice() -> None:
    examples = nearby(0.0, 0.5, 1.0)
    own = examples.choose([make_instruction("other words", name="seed-0")], unit(0.0)[None])[0]
    assert names(own) == ["seed-1", "seed-2"]
    assert chosen(examples, make_instruction(" SEED-0 ", name="copy"), unit(0.0)) == ["seed-1", "seed-2"]
    examples.remember(make_instruction("seed-1", name="again"), "answer", unit(0.01))
    assert chosen(examples, make_instruction("x"), unit(0.0)) == ["seed-0", "again"]


def test_nearest_context_grows_with_the_corpus_and_others_do_not() -> None:
    examples = nearby(0.5, 1.0, shots=1)
    new, query = make_instruction("evolved", name="evolved-1"), make_instruction("x")
    assert chosen(examples, query, unit(0.0)) == ["seed-0"]
    examples.remember(new, "done", unit(0.1))
    assert examples.choose([query], unit(0.0)[None]) == [[Demonstration(new, "done")]]
    assert chosen(examples, new, unit(0.1)) == ["seed-0"]
    still = Examples(SHOTS, config=ResponderConfig(context="matching"))
    before = chosen(still, query)
    still.remember(replace(query, id="y"), "done", unit(0.0))
    assert chosen(still, query) == before


def test_nearest_knows_the_embeddings_of_what_it_may_show() -> None:
    examples = nearby(0.0, 0.1, 1.5, shots=1)
    seeds = [shot("seed-0").instruction, shot("seed-2").instruction]
    assert [names(shots) for shots in examples.choose(seeds, None)] == [["seed-1"], ["seed-1"]]
    with pytest.raises(AssertionError, match="embeddings of"):
        examples.choose([make_instruction("x", name="new")], None)


def test_nearest_agrees_with_a_plain_search() -> None:
    known = [Demonstration(make_instruction(f"text {n}", name=str(n)), "a") for n in range(50)]
    rows = HashingEncoder(size=8).encode([one.instruction.text + f" w{place % 7}" for place, one in enumerate(known)])
    for place in range(50):
        cosines = rows @ rows[place]
        expected = sorted(sorted((n for n in range(50) if n != place), key=lambda n: -cosines[n])[:3])
        assert nearest(known[place].instruction, known, cosines, 3) == expected


def test_settings_without_what_they_need_are_refused() -> None:
    with pytest.raises(AssertionError, match="embeddings"):
        Examples(SHOTS, config=ResponderConfig(context="nearest"))
    with pytest.raises(AssertionError, match="rng"):
        Examples(SHOTS, config=ResponderConfig(context="fixed"))


def test_fixed_shots_are_the_same_for_all_and_drawn_by_the_rng() -> None:
    def draw(seed: int) -> Examples:
        return Examples(SHOTS, config=ResponderConfig(context="fixed"), rng=np.random.default_rng(seed))

    first, second = draw(0).choose([SHOTS[0].instruction, make_instruction("x")], None)
    assert names(first) == names(second)
    assert names(first) == chosen(draw(0), make_instruction("y"))
    assert len({tuple(chosen(draw(seed), make_instruction("y"))) for seed in range(20)}) > 3


@pytest.mark.parametrize("seed", range(10))
def test_fixed_shots_vary_in_form_and_family(seed: int) -> None:
    pool = [shot(f"gcd-{n}", family="gcd") for n in range(9)] + [shot("sum", family="chain_sum")]
    pool += [shot(f"request-{n}", "no_commas", topic="rivers") for n in range(9)] + [shot("lamp", "title", topic="lamps")]
    four = [one.instruction.family for one in varied(pool, 4, rng=np.random.default_rng(seed))]
    assert sorted(four) == ["chain_sum", "gcd", "lamps", "rivers"]
    two = [one.instruction.payload for one in varied(pool, 2, rng=np.random.default_rng(seed))]
    assert sorted(map(bool, two)) == [False, True]


def test_fixed_shots_stop_where_the_seeds_do() -> None:
    assert len(varied(SHOTS, 100, rng=np.random.default_rng(0))) == len(SHOTS)


def test_a_demonstration_is_two_turns() -> None:
    assert demonstration_turns(SHOTS[1]) == [{"role": "user", "content": "gcd"}, {"role": "assistant", "content": "answer gcd"}]
