"""Plans: every token that can be shared is planned once, and nothing is lost."""

from __future__ import annotations

import random

import numpy as np
import pytest

from harness.scoring.packing import TokenPair, lay_out, plan, truncate


def random_pairs(seed: int, *, shots: int, items: int, own: int = 20) -> list[TokenPair]:
    rng = random.Random(seed)
    draw = lambda low, high: tuple(rng.randrange(50) for _ in range(rng.randint(low, high)))  # noqa: E731
    start = draw(shots, shots)
    contexts = [start + draw(2, own) for _ in range(items)]
    return [(context, draw(1, 5)) for context in contexts for _ in range(4)]


def planned_tokens(pairs: list[TokenPair], budget: int) -> int:
    packs = plan(pairs, token_budget=budget, prediction_budget=10**9)
    trunks = {pack.trunk for pack in packs}
    return sum(pack.tokens for pack in packs) + sum(map(len, trunks))


@pytest.mark.parametrize(("shots", "budget"), [(0, 64), (3, 64), (200, 64), (200, 1024)])
def test_every_pair_is_predicted_once_from_its_own_path(shots: int, budget: int) -> None:
    pairs = random_pairs(1, shots=shots, items=30)
    predicted: dict[TokenPair, list[int]] = {}
    for pack in plan(pairs, token_budget=budget, prediction_budget=10**9):
        layout = lay_out(pack)
        assert len(layout.ids_T) == pack.tokens
        seen = {}  # place -> the texts that its visible tokens spell
        for bucket in layout.buckets:
            for row, slots in enumerate(bucket.slot_N_L):
                for column, place in enumerate(slots):
                    if bucket.start <= place < bucket.end and bucket.row_T[place - bucket.start] == row * len(slots) + column:
                        own = bucket.visible_N_L_K[row, column, layout.trunk_length :]
                        assert bucket.visible_N_L_K[row, column, : layout.trunk_length].all()
                        path = slots[own]
                        order = np.argsort(layout.position_T[path])
                        assert list(layout.position_T[path][order]) == list(range(layout.trunk_length, layout.trunk_length + len(path)))
                        seen[int(place)] = (*pack.trunk, *layout.ids_T[path][order].tolist())
        for row_index, target, pair_index in zip(layout.row_R, layout.target_R, layout.pair_R, strict=True):
            pair = layout.pairs[pair_index]
            done = predicted.setdefault(pair, [])
            assert seen[int(layout.source_K[row_index])] == (*pair[0], *done), "the tokens it is predicted from are its text so far"
            done.append(int(target))
    assert {pair: tuple(tokens) for pair, tokens in predicted.items()} == {pair: pair[1] for pair in pairs}


def test_few_shot_examples_are_planned_once_and_choices_share_their_context() -> None:
    pairs = random_pairs(2, shots=300, items=40)
    distinct_tails = sum(len({tail[:cut] for _, tail in group for cut in range(1, len(tail))}) for group in by_context(pairs).values())
    own_contexts = sum(len(context) - 300 for context in by_context(pairs))
    saved_by_chance = 300 + own_contexts + distinct_tails - planned_tokens(pairs, 512)
    assert 0 <= saved_by_chance <= 5, "two items may begin alike after the examples"


def by_context(pairs: list[TokenPair]) -> dict[tuple[int, ...], list[TokenPair]]:
    groups: dict[tuple[int, ...], list[TokenPair]] = {}
    for pair in dict.fromkeys(pairs):
        groups.setdefault(pair[0], []).append(pair)
    return groups


def test_each_subject_gets_its_own_examples() -> None:
    subjects = [random_pairs(seed, shots=150, items=12) for seed in (3, 4, 5)]
    packs = plan([pair for subject in subjects for pair in subject], token_budget=256, prediction_budget=10**9)
    assert {len(pack.trunk) for pack in packs} == {150}
    assert len({pack.trunk for pack in packs}) == 3


def test_a_trunk_that_saves_too_little_is_not_made() -> None:
    pairs = random_pairs(6, shots=30, items=3)
    assert {len(pack.trunk) for pack in plan(pairs, token_budget=4096, prediction_budget=10**9)} == {0}
    assert {len(pack.trunk) for pack in plan(pairs, token_budget=64, prediction_budget=10**9)} == {30}


def test_questions_about_one_passage_share_it_without_a_trunk() -> None:
    passage = tuple(range(100))
    pairs = [((*passage, 200 + item, 300), (5, 6)) for item in range(2)]
    (pack,) = plan(pairs, token_budget=4096, prediction_budget=10**9)
    assert (pack.tokens, len(pack.blocks)) == (100 + 2 * 3, 1)


def test_plans_do_not_depend_on_the_order_and_keep_to_the_budgets() -> None:
    pairs = random_pairs(7, shots=20, items=50)
    shuffled = random.Random(0).sample(pairs, len(pairs))
    packs = plan(pairs, token_budget=128, prediction_budget=30)
    assert packs == plan(shuffled, token_budget=128, prediction_budget=30)
    for pack in packs:
        assert len(pack.blocks) == 1 or (pack.tokens <= 128 and len(lay_out(pack).source_K) <= 30)
    halves = next(pack for pack in packs if len(pack.blocks) > 1).halves()
    assert sum(half.tokens for half in halves) in {pack.tokens for pack in packs}


def test_truncation_keeps_the_end_of_the_context() -> None:
    assert truncate((1, 2, 3, 4), (5, 6), 3) == ((3, 4), (5, 6)), "three fed tokens: 3 4 5"
    assert truncate((1,), (5, 6), 3) == ((1,), (5, 6))
