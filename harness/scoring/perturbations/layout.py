"""Changes around the words: spaces, punctuation marks, a sentence before the question, labels of the prompt."""

from __future__ import annotations

import re

from harness.scoring.perturbations.protect import Rng, change_some, free

DISTRACTORS = (
    "The bakery on the corner opens early in summer.",
    "A grey cat was asleep on the window sill.",
    "The old lighthouse had been painted that spring.",
    "Rain was expected over the hills in the evening.",
    "The museum shop sells postcards of the harbour.",
    "Somebody had left a green umbrella on the bus.",
    "The choir rehearses in the hall behind the station.",
    "Fresh tulips stood in a vase near the door.",
)
LEADS = ("Here is a question. ", "Please consider the following. ", "Look at this one. ", "Next item. ")
"""Put before a prompt that has no label to reword."""
LABELS: dict[str, tuple[str, ...]] = {
    "Question": ("Q", "Query", "Problem"),
    "Answer": ("A", "Response", "Reply"),
    "Q": ("Question", "Query"),
    "A": ("Answer", "Response"),
    "Passage": ("Text", "Paragraph", "Context"),
    "Context": ("Passage", "Text"),
    "Choices": ("Options", "Candidates"),
    "Options": ("Choices", "Candidates"),
}
_LABEL = re.compile(rf"^({'|'.join(LABELS)}):", re.MULTILINE)
_OPTION = re.compile(r"^([A-H])([.)])(?= )", re.MULTILINE)
_SPACE = re.compile(r"(?<=[^\s]) (?=[^\s])")
_MARK = re.compile(r"(?<=[A-Za-z])[,.?!](?=\s|\Z)")


def whitespace(text: str, mask: list[bool], strength: float, rng: Rng) -> str:
    """Chosen single spaces between words become two or three."""
    spaces = [space for space in _SPACE.finditer(text) if not any(mask[space.start() - 1 : space.end() + 1])]
    return change_some(text, spaces, strength, rng, lambda _: " " * int(rng.integers(2, 4)))


def punctuation(text: str, mask: list[bool], strength: float, rng: Rng) -> str:
    """Chosen marks are doubled or set apart by a space; none is lost."""
    marks = [mark for mark in _MARK.finditer(text) if free(mask, mark)]
    return change_some(text, marks, strength, rng, lambda mark: f" {mark[0]}" if rng.integers(2) else mark[0] * 2)


def distractor(text: str, mask: list[bool], strength: float, rng: Rng) -> str:
    """Puts one sentence at the start, after a leading label such as "Question:"."""
    label = re.match(r"(?:[A-Za-z]+:\s*)?", text)
    assert label is not None
    return f"{label[0]}{rng.choice(DISTRACTORS)} {text[label.end() :]}"


def paraphrase(text: str, mask: list[bool], strength: float, rng: Rng) -> str:
    """Rewords the prompt's own template: its labels, and "A." before options as "A)"; a sentence of lead where there is neither."""
    chosen = {label: str(rng.choice(ways)) for label, ways in LABELS.items()}
    # Two labels of one prompt must not become the same.
    if chosen["Answer"] == "A":
        chosen["Question"] = "Q"
    lead = str(rng.choice(LEADS))
    present = {label[1] for label in _LABEL.finditer(text)} - ({"A"} if re.search(r"^B:", text, re.MULTILINE) else set())
    if _options(text):
        text = _OPTION.sub(lambda option: option[1] + (")" if option[2] == "." else "."), text)
    elif not present:
        return lead + text
    words = {label: chosen[label] for label in present}
    if len(set(words.values())) < len(words):
        words = {}
    return _LABEL.sub(lambda label: f"{words.get(label[1], label[1])}:", text)


def _options(text: str) -> bool:
    """Whether lines "A. ...", "B. ..." from A on are the text's only lines of that kind."""
    letters = [option[1] for option in _OPTION.finditer(text)]
    return len(letters) >= 2 and "".join(letters) == "ABCDEFGH"[: len(letters)]


def template_free(text: str) -> str:
    """The text without what `paraphrase` may touch: labels, option marks, leads."""
    for lead in LEADS:
        text = text.removeprefix(lead)
    names = {*LABELS, *(way for ways in LABELS.values() for way in ways)}
    text = re.sub(rf"^(?:{'|'.join(sorted(names))}):", ":", text, flags=re.MULTILINE)
    return _OPTION.sub(lambda option: option[1], text)
