"""Leave-one-family-out: the pool without a family, and the validation items of that family alone."""

from __future__ import annotations

import pytest

from harness.core.suite_spec import SuiteSpec
from harness.errors import SpecError
from harness.scoring.suites import select
from tasks.pool import MixedPool, MixedPoolConfig


def test_one_family_is_left_out_and_nothing_else_changes() -> None:
    config = MixedPoolConfig.model_validate({"families": {"chain_sum": {"max_terms": 3}, "syllogism": {}}, "constraint_share": 0.3})
    assert MixedPool.families(config) == ["chain_sum", "syllogism"]
    less = MixedPool.without(config, "syllogism")
    assert less.families == {"chain_sum": {"max_terms": 3}}
    assert less.model_copy(update={"families": config.families}) == config
    assert MixedPoolConfig.model_validate(less.model_dump(mode="json")) == less, "a stage records it as JSON"


def test_the_validation_task_has_items_of_every_training_family() -> None:
    from harness.instructions.families import TRAIN_FAMILIES
    from harness.scoring.evaluate import load_tasks
    from harness.scoring.items import choose_items

    suite, task = MixedPool.family_task
    (selection,) = select([SuiteSpec(name=suite, tasks=(task,), families=("syllogism",))])
    assert selection.families == ("syllogism",)
    (loaded,) = load_tasks([selection])
    for family in TRAIN_FAMILIES:
        chosen = choose_items(loaded, selection.limit, [family]).indices
        assert {loaded.eval_docs[index]["family"] for index in chosen} == {family}
        assert len(chosen) >= 10, family  # some families have few distinct questions
    with pytest.raises(SpecError, match="no item of these families"):
        choose_items(loaded, None, ["sylogism"])


def test_families_leave_no_trace_in_records_where_they_are_not_used() -> None:
    assert SuiteSpec(name="s").model_dump(mode="json") == {"name": "s", "limit": None, "tasks": None}
