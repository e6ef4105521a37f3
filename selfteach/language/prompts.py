"""What a language model is told in the roles of executor and reviewer: our own wording and our own examples.

The part that all requests of one operation share (task and examples) comes first, so that its keys and values are computed once. No system
turn is used, because some chat templates know none. The published system's prompts (Evol-Instruct's) are not used here.

Every request repeats its line and "do not answer", and every example's reply begins with a label, because a small model answers what it
should rewrite: so prompted, 66 of 72 replies of SmolLM2-135M-Instruct read as a request (an imperative or a question; temperature .7);
without them, in another wording, 28 of 60.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.records import Message

LABEL = "New request:"
"""Replies begin with it in the examples: it keeps a small model from answering what it should rewrite."""
EQUAL, NOT_EQUAL = "Equal", "Not Equal"


@dataclass(frozen=True)
class Prompt:
    """A task in words, the line that stands before every request, and worked examples: (what is given, the reply to imitate)."""

    task: str
    line: str
    shots: tuple[tuple[str, str], ...]

    def conversation(self, given: str) -> list[Message]:
        """The task and the examples as chat turns, and as the last turn what is given now."""
        turns: list[Message] = []
        for before, after in self.shots:
            turns += [{"role": "user", "content": self._turn(before)}, {"role": "assistant", "content": after}]
        turns.append({"role": "user", "content": self._turn(given)})
        turns[0]["content"] = f"{self.task}\n\n{turns[0]['content']}"
        return turns

    def _turn(self, given: str) -> str:
        return f'{self.line}\n"""{given}"""'


def _operation(task: str, line: str, *shots: tuple[str, str]) -> Prompt:
    return Prompt(
        f"You get something that a person asked for. You do not answer it. {task}",
        f"Do not answer this. {line}",
        tuple((before, f"{LABEL} {after}") for before, after in shots),
    )


OPERATION_PROMPTS: dict[str, Prompt] = {
    "breadth": _operation(
        "Think up a different thing to ask for in the same field, about as long and as hard, that hardly anybody would think of.",
        "Think up another thing to ask for in the same field:",
        ("Name three flowers that are easy to grow.", "Name three mosses that can live on a stone wall."),
        ("Explain how a zip fastener works.", "Explain how the lock of an old canal boat cabin keeps shut in a storm."),
        ("Write two lines about a friendly dog.", "Write two lines about a shy hedgehog that crosses a railway."),
    ),
    "add_constraint": _operation(
        "Say it again with exactly one further demand on the reply, in ten to twenty extra words.",
        "Say it again with one more demand:",
        (
            "Name three flowers that are easy to grow.",
            "Name three flowers that are easy to grow, and leave out any that would harm a cat that chews on their leaves.",
        ),
        (
            "Explain how a zip fastener works.",
            "Explain how a zip fastener works, but do it without naming any material that a zip is usually made from.",
        ),
        (
            "Write two lines about a friendly dog.",
            "Write two lines about a friendly dog in which every line begins with a word of just one syllable.",
        ),
    ),
    "deepen": _operation(
        "Ask for the same, but so that the reply must go further below the surface: causes, limits or consequences.",
        "Ask for it so that the reply must go deeper:",
        (
            "Name three flowers that are easy to grow.",
            "Name three flowers that are easy to grow, and explain what each one does underground that makes it so undemanding.",
        ),
        (
            "Explain how a zip fastener works.",
            "Explain how a zip fastener works, why it jams when one tooth is bent, and what that tells about its weakest point.",
        ),
        (
            "Write two lines about a friendly dog.",
            "Write two lines about a friendly dog that let the reader feel what its friendliness has cost it.",
        ),
    ),
    "concretise": _operation(
        "Ask for the same with its general words replaced by particular ones: one place, one person, one kind.",
        "Ask for it about something more particular:",
        ("Name three flowers that are easy to grow.", "Name three tulips that are easy to grow on a north-facing balcony in Oslo."),
        ("Explain how a zip fastener works.", "Explain how the metal zip fastener of a leather motorcycle jacket works."),
        ("Write two lines about a friendly dog.", "Write two lines about Bruno, a three-legged sheepdog at a village bakery."),
    ),
    "increase_reasoning": _operation(
        "Ask for it in such a way that nobody can reply without several steps of thought, one after the other.",
        "Ask for it so that it takes several steps of thought:",
        (
            "Name three flowers that are easy to grow.",
            "Work out which three flowers suit a bed that gets four hours of sun and is watered twice a week, then rank them by effort.",
        ),
        (
            "Explain how a zip fastener works.",
            "First explain what each part of a zip fastener does, then work out from that which part fails first and how to mend it.",
        ),
        (
            "Write two lines about a friendly dog.",
            "Decide on three traits of a friendly dog, pick the two that contrast most, and write one line about each of the two.",
        ),
    ),
    "complicate_input": _operation(
        "Ask for something of the kind that depends on data, and put the data into the text: a small table, a piece of code or JSON.",
        "Ask for something like it that depends on data you give:",
        (
            "Name three flowers that are easy to grow.",
            'Name the flower that needs the least water, going by this JSON: {"tulip": 3, "poppy": 1, "rose": 6}',
        ),
        (
            "Explain how a zip fastener works.",
            "Explain which zip fastener in this table would jam first.\n| length cm | bent teeth |\n| 20 | 0 |\n| 35 | 2 |",
        ),
        (
            "Write two lines about a friendly dog.",
            'Write two lines about the dog that this code prints.\nfor name in ["Bruno", "Asta"]:\n    print(name[0], "barks")',
        ),
    ),
}
"""By operation, in the order of selfteach.operations.OPERATIONS; "stop" has nothing to say to a model."""


def pair(parent: str, child: str) -> str:
    """How two instructions are put before a reviewer."""
    return f"First: {parent}\nSecond: {child}"


REVIEW_PROMPT = Prompt(
    f'You get two things that were asked for. Reply "{EQUAL}" if one good reply would serve both equally well, and "{NOT_EQUAL}" if the '
    f"second asks for something that the first does not. Reply with {EQUAL} or {NOT_EQUAL} and not a word more.",
    f"{EQUAL} or {NOT_EQUAL}?",
    (
        (pair("Name a bird that cannot fly.", "Tell me one bird which is unable to fly."), EQUAL),
        (pair("Name a bird that cannot fly.", "Name a bird that cannot fly and say where it nests."), NOT_EQUAL),
        (pair("How do I clean a kettle?", "Write a poem about a kettle that never boils."), NOT_EQUAL),
        (pair("How do I clean a kettle?", "What is the way to clean a kettle?"), EQUAL),
    ),
)


def prompt_texts() -> list[str]:
    """Everything a model is shown beside the instruction itself: what must not come back from it."""
    prompts = [*OPERATION_PROMPTS.values(), REVIEW_PROMPT]
    return [text for prompt in prompts for text in (prompt.task, prompt.line, *(part for shot in prompt.shots for part in shot))]
