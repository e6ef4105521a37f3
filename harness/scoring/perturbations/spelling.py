"""Changes of letters: keyboard slips, capitals, small letters, look-alike letters."""

from __future__ import annotations

from harness.scoring.perturbations.protect import Rng, change_some, eligible_words

_NEIGHBOURS = {
    letter: [near for near in row[max(0, index - 1) : index + 2] if near != letter]
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    for index, letter in enumerate(row)
}
LOOKALIKES = dict(zip("aceijopsxyABCEHIJKMOPSTXY", "асеіјорѕхуАВСЕНІЈКМОРЅТХУ", strict=True))  # Latin to Cyrillic
_TO_LATIN = str.maketrans({cyrillic: latin for latin, cyrillic in LOOKALIKES.items()})


def slip(word: str, rng: Rng) -> str:
    """One slip inside a word (never its first letter): neighbouring key, swap, omission or doubling; always another word."""
    while True:
        at = int(rng.integers(1, len(word)))
        letter = word[at]
        match int(rng.integers(4)):
            case 0:
                near = _NEIGHBOURS.get(letter.lower(), [])
                changed = word[:at] + str(rng.choice(near)) + word[at + 1 :] if near else word
            case 1:
                changed = word[:at] + word[at + 1 : at + 2] + letter + word[at + 2 :]
            case 2:
                changed = word[:at] + word[at + 1 :]
            case _:
                changed = word[:at] + letter + word[at:]
        if changed != word:
            return changed


def typos(text: str, mask: list[bool], strength: float, rng: Rng) -> str:
    """One slip in each chosen word."""
    return change_some(text, eligible_words(text, mask), strength, rng, lambda word: slip(word[0], rng))


def upper_case(text: str, mask: list[bool], strength: float, rng: Rng) -> str:
    """Chosen words in capitals."""
    return change_some(text, eligible_words(text, mask), strength, rng, lambda word: word[0].upper())


def lower_case(text: str, mask: list[bool], strength: float, rng: Rng) -> str:
    """Chosen capitalised words in small letters."""
    capitalised = [word for word in eligible_words(text, mask) if word[0] != word[0].lower()]
    return change_some(text, capitalised, strength, rng, lambda word: word[0].lower())


def homoglyphs(text: str, mask: list[bool], strength: float, rng: Rng) -> str:
    """One letter of each chosen word becomes the Cyrillic letter that looks like it."""

    def disguise(word: str) -> str:
        at = int(rng.choice([index for index, letter in enumerate(word) if letter in LOOKALIKES]))
        return word[:at] + LOOKALIKES[word[at]] + word[at + 1 :]

    words = [word for word in eligible_words(text, mask) if any(letter in LOOKALIKES for letter in word[0])]
    return change_some(text, words, strength, rng, lambda word: disguise(word[0]))


def latin(text: str) -> str:
    """The text with look-alike letters turned back."""
    return text.translate(_TO_LATIN)
