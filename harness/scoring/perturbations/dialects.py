"""Rules for grammar of three varieties of English, only such as leave no doubt about what is meant.

Each rule carries out a feature that descriptions of the variety attest (eWAVE's numbers in brackets); it does so everywhere, which no
speaker does, and nothing else of the variety is rendered. A drop under these rules says that a model is thrown by this grammar. It says
nothing about how a model serves the people who speak so: for that, ask them (Multi-VALUE, Ziems et al. 2023, had speakers judge its rules).
Left out because they can change what is said: negative concord (eWAVE 154), "never" as plain past negation (159), habitual "be" (90),
dropped articles (62), "only" as a focus marker.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_STATIVES = {
    "want": "wanting", "need": "needing", "know": "knowing", "like": "liking", "understand": "understanding", "believe": "believing",
    "prefer": "preferring", "own": "owning", "remember": "remembering",
}  # fmt: skip
_VERBS = """
want need know like think believe work live play walk run make take give get come see look find use help start move turn call ask tell
put keep hold bring write read eat drink sleep speak learn grow open buy pay send build stay fall cut reach kill remain drive break
receive wait wear throw love hear feel leave seem add
"""
_PRONOUN = r"(he|she|it|we|they|you)"
_WHO = r"(he|she|it|they|you|we)"
_ING = r"((?!(?:some|any|every|no)thing\b|during\b|evening\b|morning\b|king\b|ring\b|thing\b|spring\b|string\b|bring\b)[a-z]{2,}ing)"


@dataclass(frozen=True)
class Rule:
    """Every match of `pattern` may become `change` (a template for the match's groups)."""

    feature: str
    pattern: re.Pattern[str]
    change: str


def _rule(feature: str, pattern: str, change: str) -> Rule:
    return Rule(feature, re.compile(pattern, re.IGNORECASE), change)


VARIETIES: dict[str, tuple[Rule, ...]] = {
    "African American English": (
        _rule("no copula before V-ing (176)", rf"\b{_PRONOUN} (?:is|are) {_ING}\b", r"\1 \2"),
        _rule("no third person -s (170)", rf"\b(he|she) ({'|'.join(_VERBS.split())})s\b", r"\1 \2"),
        _rule("ain't for is not, are not (155)", rf"\b(?:is not|are not|isn't|aren't)(?= [a-z])(?! (?:{_WHO}|there)\b)", "ain't"),
    ),
    "Indian English": (
        *(_rule("progressive of stative verbs (88)", rf"\b(they|we|you) {verb}\b", rf"\1 are {form}") for verb, form in _STATIVES.items()),
        *(_rule("progressive of stative verbs (88)", rf"\b(he|she) {verb}s\b", rf"\1 is {form}") for verb, form in _STATIVES.items()),
        _rule("no inversion in wh-questions (228)", rf"\b(what|where|why|how|when) (is|are) {_WHO} {_ING}\b", r"\1 \3 \2 \4"),
    ),
    "Southern and colloquial English": (
        _rule("a-dropped g", r"\b(go|do|walk|talk|look|try|eat|sleep|work|play|sit|wait|think|get(?=ting)t|run(?=ning)n)ing\b", r"\1in'"),
        _rule("gonna", r"\b(am|is|are|was|were|'re|'m) going to (?=[a-z]+\b)(?!the\b|a\b|an\b|school\b|work\b|bed\b|town\b)", r"\1 gonna "),
        _rule("y'all for you all", r"\byou all\b", "y'all"),
        _rule("fixing to", r"\b(is|are) about to\b", r"\1 fixin' to"),
    ),
}  # fmt: skip
