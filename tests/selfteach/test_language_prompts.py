import pytest

from harness.core.records import Message
from selfteach.language.prompts import LABEL, OPERATION_PROMPTS, REVIEW_PROMPT, Prompt, pair, prompt_texts
from selfteach.operations import OPERATIONS

PROMPTS = [*OPERATION_PROMPTS.values(), REVIEW_PROMPT]


def test_every_operation_has_a_prompt_in_the_operations_order() -> None:
    assert tuple(OPERATION_PROMPTS) == OPERATIONS


@pytest.mark.parametrize("prompt", PROMPTS)
def test_all_that_requests_share_stands_before_the_last_turn(prompt: Prompt) -> None:
    one, other = prompt.conversation("one request"), prompt.conversation("another request")
    assert one[:-1] == other[:-1]
    assert "one request" in one[-1]["content"]
    assert one[0]["content"].startswith(prompt.task)
    assert prompt.task not in one[-1]["content"]
    roles = [turn["role"] for turn in one]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
    assert len(roles) == 2 * len(prompt.shots) + 1 >= 5


def test_prompts_differ_in_their_shared_part() -> None:
    def leading(prompt: Prompt) -> list[Message]:
        return prompt.conversation("x")[:-1]

    assert len({str(leading(prompt)) for prompt in PROMPTS}) == len(PROMPTS)


def test_a_prompt_without_examples_is_one_turn() -> None:
    (turn,) = Prompt("The task.", "The line:", ()).conversation("x")
    assert turn == {"role": "user", "content": 'The task.\n\nThe line:\n"""x"""'}


def test_examples_do_what_they_show() -> None:
    for operation, prompt in OPERATION_PROMPTS.items():
        for before, after in prompt.shots:
            assert after.startswith(f"{LABEL} "), operation
            assert after.removeprefix(LABEL).strip() != before
    for before, after in OPERATION_PROMPTS["add_constraint"].shots:
        extra = len(after.removeprefix(LABEL).split()) - len(before.split())
        assert 10 <= extra <= 20, after
    assert {reply for _, reply in REVIEW_PROMPT.shots} == {"Equal", "Not Equal"}


def test_reviewers_see_both_and_know_which_is_which() -> None:
    assert pair("a", "b") == "First: a\nSecond: b"
    assert 'Reply "Equal"' in REVIEW_PROMPT.task
    assert '"Not Equal"' in REVIEW_PROMPT.task


def test_prompt_texts_are_everything_shown() -> None:
    shown = "\n".join(turn["content"] for prompt in PROMPTS for turn in prompt.conversation(""))
    assert all(text in shown for text in prompt_texts())
    assert len(prompt_texts()) == sum(2 + 2 * len(prompt.shots) for prompt in PROMPTS)
