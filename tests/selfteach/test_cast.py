from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from stand_ins import LetterPool, make_seeds

from harness.core.budget import Ledger
from harness.models.student import Student
from selfteach.cast import Cast
from selfteach.config import CastConfig

EITHER = {"verification": "either"}
ADDRESS = "http://127.0.0.1:9/v1"


def cast(model: Path, **settings: object) -> Cast:
    ledger = Ledger()
    student = Student.load(f"file:{model}", adaptation=None, seed=0)
    student.attach(ledger)
    return Cast(CastConfig(responder=EITHER, **settings), student, LetterPool(ledger), ledger, make_seeds())


@pytest.mark.parametrize(
    ("settings", "place", "said"),
    [
        ({"executor": "rulez", "responder": EITHER}, ("executor",), "'rules'"),
        ({"reviewer": ""}, ("reviewer",), "student"),
        ({"responder_model": "rules"}, ("responder_model",), "student"),
        ({"responder_model": "minilm-l6-v2"}, ("responder_model",), "smollm2"),
        ({"executor": {"base_url": ADDRESS}, "responder": EITHER}, ("executor", "model"), "required"),
        ({"executor": {"base_url": ADDRESS, "model": "m", "key": "k"}, "responder": EITHER}, ("executor", "key"), "not permitted"),
        ({"reviewer": {"base_url": "localhost", "model": "m"}}, ("reviewer", "base_url"), "http://localhost:8000/v1"),
        ({"executor": {"base_url": ADDRESS, "model": "m"}}, (), "verification"),
    ],
)
def test_a_mistake_is_told_once_and_where_it_is(settings: dict[str, object], place: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CastConfig.model_validate(settings)
    (mistake,) = caught.value.errors()
    assert mistake["loc"] == place
    assert said in mistake["msg"]


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(ValidationError) as caught:
        CastConfig.model_validate({"reviewer": {"base_url": "https://user:secret@host/v1", "model": "m"}})
    assert "secret" not in caught.value.errors()[0]["msg"]
    # A message that quotes a value of its own gets none added (harness.core.yaml_file).
    assert "(got 'https://...@host')" in caught.value.errors()[0]["msg"]


def test_sources_and_endpoints_may_play(tiny_model: Path) -> None:
    settings = {"executor": f"file:{tiny_model}", "reviewer": "hub:org/model", "responder_model": {"base_url": ADDRESS, "model": "m"}}
    config = CastConfig.model_validate({**settings, "responder": EITHER})
    assert CastConfig.model_validate(config.model_dump()) == config


def test_what_an_operation_may_cost_is_known_beforehand_where_it_is_computed_here(tiny_model: Path) -> None:
    assert cast(tiny_model).executor_flops() == 0
    assert cast(tiny_model, executor={"base_url": ADDRESS, "model": "m"}).executor_flops() == 0
    taught, expert = cast(tiny_model, executor="student"), cast(tiny_model, executor=f"file:{tiny_model}")
    assert taught.executor_flops() == expert.executor_flops() > 0
    for found in (taught, expert):
        # The prompts of a model whose tokens are letters are longer than PROMPT_TOKENS.
        found.executor().apply_batch([make_seeds()[0].instruction], ["deepen"], rng=np.random.default_rng(0))
        assert found._ledger.spent() < 10 * found.executor_flops()


def test_an_endpoints_calls_and_failures_are_reported(tiny_model: Path) -> None:
    settings = {"base_url": ADDRESS, "model": "m", "retries": 1, "backoff_s": 0}
    found = cast(tiny_model, executor=settings, reviewer=settings)
    assert found.endpoints() == {}
    instruction = make_seeds()[0].instruction
    (outcome,) = found.executor().apply_batch([instruction], ["deepen"], rng=np.random.default_rng(0))
    assert (outcome.instruction, outcome.reason) == (None, "no reply")
    (review,) = found.reviewer().review([(instruction, instruction)], rng=np.random.default_rng(0))
    assert not review.gain
    (told,) = found.endpoints().values()
    assert (told["calls"], told["retries"], told["failures"], told["replies"]) == (4, 2, 2, 0)
    assert found._ledger.counters["queries"] == 4
