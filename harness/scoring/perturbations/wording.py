"""Changes of words: contractions, synonyms, British and American spelling, dialect."""

from __future__ import annotations

import re

from harness.scoring.perturbations import dialects
from harness.scoring.perturbations.lexicon import SPELLINGS, SYNONYMS
from harness.scoring.perturbations.protect import LOGIC, WORD, Rng, change_some, free

_AUXILIARIES = ("do", "does", "did", "is", "are", "was", "were", "has", "have", "had", "would", "could", "should", "must")
_EXPANSIONS = {
    **{f"{verb}n't": f"{verb} not" for verb in _AUXILIARIES},
    "can't": "cannot",
    "won't": "will not",
    "i'm": "i am",
    **{f"{who}'re": f"{who} are" for who in ("you", "we", "they")},
    **{f"{who}'ll": f"{who} will" for who in ("i", "you", "he", "she", "it", "we", "they")},
    **{f"{who}'ve": f"{who} have" for who in ("i", "you", "we", "they")},
}
# "They have a child" has no short form, "they have seen" has: only the short ones are told apart, so have is never shortened.
_CONTRACTIONS = {
    **{long: short for short, long in _EXPANSIONS.items() if not long.endswith(" have")},
    **{f"{who} is": f"{who}'s" for who in ("he", "she", "it", "there", "what", "who", "where")},
}
_LONG = re.compile(rf"\b(?:{'|'.join(sorted(_CONTRACTIONS, key=len, reverse=True))})\b(?= [a-z])", re.IGNORECASE)
_SHORT = re.compile(rf"\b(?:{'|'.join(sorted(map(re.escape, _EXPANSIONS), key=len, reverse=True))})\b", re.IGNORECASE)
_TAG = re.compile(r"(?:^|[.,;!?:] +|\b(?:why|how|where|what|when|who) )$", re.IGNORECASE)


def contractions(text: str, mask: list[bool], strength: float, rng: Rng) -> str:
    """ "do not" becomes "don't" and "don't" becomes "do not"; forms with two readings ('s, 'd after a word) are not taken apart."""
    places = [place for place in _LONG.finditer(text) if free(mask, place)]
    # "Don't you ..." turned round is no English: "Do not you ...".
    places += [place for place in _SHORT.finditer(text) if free(mask, place) and not _inverted(text, place)]
    places.sort(key=re.Match.start)
    return change_some(text, places, strength, rng, lambda place: _cased(place[0], _other_form(place[0])))


def _other_form(words: str) -> str:
    folded = words.lower()
    return _EXPANSIONS.get(folded) or _CONTRACTIONS[folded]


def _inverted(text: str, place: re.Match[str]) -> bool:
    """Whether a negated verb stands before its subject, as in a question."""
    return place[0].lower().endswith("n't") and _TAG.search(text[: place.start()]) is not None


def expanded(text: str) -> str:
    """The text in small letters with every contraction that `contractions` knows taken apart."""
    forms = {short: long for long, short in _CONTRACTIONS.items()} | _EXPANSIONS
    pattern = rf"\b(?:{'|'.join(sorted(map(re.escape, forms), key=len, reverse=True))})\b"
    return re.sub(pattern, lambda place: forms[place[0].lower()], text, flags=re.IGNORECASE).lower()


def synonyms(text: str, mask: list[bool], strength: float, rng: Rng) -> str:
    """Chosen words become words of our own table that mean the same (`lexicon.SYNONYMS`)."""
    words = [word for word in _known(text, mask, SYNONYMS) if word[0].lower() not in LOGIC]

    def change(word: re.Match[str]) -> str:
        ways = SYNONYMS[word[0].lower()]
        return _cased(word[0], ways[int(rng.integers(len(ways)))])

    return change_some(text, [word for word in words if _article_fits(text, word)], strength, rng, change)


def _article_fits(text: str, word: re.Match[str]) -> bool:
    """Not after "a" or "an" where a synonym would need the other one."""
    before = text[max(0, word.start() - 3) : word.start()].lower()
    after_article = before in (" a ", " an", "an ") or before == "a " or before.endswith((" a ", " an "))
    vowels = {way[0] in "aeiou" for way in (word[0].lower(), *SYNONYMS[word[0].lower()])}
    return not after_article or len(vowels) == 1


def spelling(text: str, mask: list[bool], strength: float, rng: Rng) -> str:
    """British spellings become American, American ones British."""
    return change_some(text, _known(text, mask, SPELLINGS), strength, rng, lambda word: _cased(word[0], SPELLINGS[word[0].lower()]))


def american(text: str) -> str:
    """The text in small letters with every spelling that `spelling` knows made the first of its pair in alphabetical order."""
    return WORD.sub(lambda word: min(word[0].lower(), SPELLINGS.get(word[0].lower(), word[0].lower())), text)


def dialect(text: str, mask: list[bool], strength: float, rng: Rng) -> str:
    """Grammar of one variety of English, the first in random order of which a rule fits (`dialects`)."""
    names = list(dialects.VARIETIES)
    for index in rng.permutation(len(names)):
        found = [(place, rule) for rule in dialects.VARIETIES[names[index]] for place in rule.pattern.finditer(text) if free(mask, place)]
        if found:
            return _spoken(text, _first_of_overlapping(found), strength, rng)
    return text


def _spoken(text: str, places: list[tuple[re.Match[str], dialects.Rule]], strength: float, rng: Rng) -> str:
    changes = {place.start(): rule.change for place, rule in places}
    return change_some(
        text, [place for place, _ in places], strength, rng, lambda place: _cased(place[0], place.expand(changes[place.start()]))
    )


def _first_of_overlapping(places: list[tuple[re.Match[str], dialects.Rule]]) -> list[tuple[re.Match[str], dialects.Rule]]:
    kept: list[tuple[re.Match[str], dialects.Rule]] = []
    for place, rule in sorted(places, key=lambda pair: pair[0].start()):
        if not kept or place.start() >= kept[-1][0].end():
            kept.append((place, rule))
    return kept


def _known(text: str, mask: list[bool], table: dict[str, tuple[str, ...]] | dict[str, str]) -> list[re.Match[str]]:
    return [word for word in WORD.finditer(text) if word[0].lower() in table and not word[0].isupper() and free(mask, word)]


def _cased(old: str, new: str) -> str:
    """`new` with a capital where `old` has one; the word "i" always has."""
    new = re.sub(r"\bi\b", "I", new)
    return new[0].upper() + new[1:] if old[0].isupper() else new
