r"""What in a run's records says where and by whom it was made, and how it is taken out; harness.core.traces searches what was missed.

The rule, in one place (docs/leaderboards.md repeats it): the hashed host names of the machines go; an absolute path of two or more parts
becomes `<path>/` and its last part, or `<path>` alone where that part may be somebody's home; a student that was a folder,
`file:/somewhere/name`, becomes `file:name`; names of users and of the machine become `<name>`, a cluster's address in
a command `<host>`. Web addresses stay. So do processor, memory,
system and package versions, because results depend on them, and texts of items and models, because they are data.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from typing import Any

RULE = (
    "hosts removed; absolute paths cut to their last part, and dropped where that may be a user's folder; names of users and machine "
    "replaced; local students named by their folder's name; item texts, replies and self-made instructions unchanged"
)
HOMES = ("home", "users")
"""Folders whose folders are people's, whatever lies above them; compared without case."""
_NOBODYS = ("tmp", "opt", "usr", "var", "models", "content", "workspace", "datasets")
"""Folders under the root whose folders are hardly ever named after people."""
_FILE = r"\.(?:ya?ml|jsonl?|toml|py|sh|md|txt|log|csv|tsv|parquet|safetensors|bin|pt|gguf|html)"

_PART = r"[^\s\"'`,;:)\[\]<>|/\\]+"
_WORD = rf"(?![^\s/\\]*{_FILE}\s){_PART}"
# A folder's name may have a space in it, a user's two: nothing else tells a path's next word from the sentence's.
_FOLDER = rf"(?:(?<=[\\/]home[\\/])|(?<=[\\/][Uu]sers[\\/])){_WORD}(?: (?!-){_WORD}){{0,2}}|{_WORD}(?: (?!-){_WORD})?"
_REST = rf"(?:(?:{_FOLDER})[/\\]+)+(?:{_PART})?"
_ADDRESS = re.compile(r"(--address[ =])[^\s<]+")
WEB = r"\b(?:https?|ftp)://[^\s\"'`<>]*"
_PLACES = re.compile(
    rf"(?P<web>{WEB})"
    r"|(?P<quote>[\"'`])(?P<quoted>(?:/|~\w|[A-Za-z]:[/\\]|\\\\)[^\"'`\n]*[/\\][^\"'`\n]*)(?P=quote)"
    rf"|(?P<file>\bfile:[^\s\"'`,;)]+)"
    rf"|(?<![\w.])[a-z][a-z0-9+.-]+://{_REST}"  # another scheme: a bucket or a share
    rf"|(?<![\w.<>/~])(?:/|(?<!:)//){_REST}"
    rf"|(?<![\w\\])(?:\\\\|[A-Za-z]:[/\\]+){_REST}"
    rf"|(?<![\w/])~[\w.-]+[/\\]{_REST}"
    rf"|(?<![\w.~/])[\w.~-][\w.~/-]*/(?:home|[Uu]sers)/(?:{_REST}|{_PART})"  # relative, through somebody's home
)
_STARTS = re.compile(r"/{1,2}[^/\s]|~\w|[A-Za-z]:[/\\]|\\\\")
_SENTENCE = re.compile(r"[,;:\"'`](?:\s|$)|\s[-/]|\\\s|://|\n")
"""What tells a sentence, or several words of a command, from one place with spaces in its name."""


def scrubbed(value: Any, names: Collection[str] = ()) -> Any:
    """JSON-like `value`, keys and all, without places and `names`.

    Args:
        names: of users and machines, to be replaced where they stand as whole words (`harness.core.traces.names_in`).
    """
    if isinstance(value, dict):
        found: dict[Any, Any] = {}
        for key, part in value.items():
            # A key of one word is a setting's or a field's name.
            new = _other_than(scrubbed_text(key, names if re.search(r"[\s/\\@]", key) else ()), found) if isinstance(key, str) else key
            found[new] = scrubbed_command(part, names) if key == "command" and isinstance(part, str) else scrubbed(part, names)
        return found
    if isinstance(value, list):
        return [scrubbed(part, names) for part in value]
    return scrubbed_text(value, names) if isinstance(value, str) else value


def scrubbed_text(text: str, names: Collection[str] = ()) -> str:
    """`text` with places cut as the rule says and `names` replaced."""
    if text.startswith("file:") and not _SENTENCE.search(text, len("file:")):
        cut = _student(text, names)
    elif _STARTS.match(text) and not _SENTENCE.search(text) and len(_parts(text)) > 1:
        cut = _cut(text, names)
    else:
        cut = _PLACES.sub(lambda match: _replaced(match, names), text)
    for name in names:
        cut = whole_word(name).sub("<name>", cut)
    return cut


def scrubbed_command(text: str, names: Collection[str] = ()) -> str:
    """A command line, each of whose words is scrubbed by itself; a cluster's address goes."""
    text = _ADDRESS.sub(r"\1<host>", text)
    try:
        words = shlex.split(text)
    except ValueError:
        return scrubbed_text(text, names)
    clean = [scrubbed_text(word, names) for word in words]
    # Quoted as before, but for what stands in a place's or a name's stead.
    return " ".join(word if re.fullmatch(r"[\w@%+=:,./<>-]+", word) else shlex.quote(word) for word in clean)


def whole_word(name: str) -> re.Pattern[str]:
    """Finds `name` where it is no part of a longer word."""
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")


def _replaced(match: re.Match[str], names: Collection[str]) -> str:
    if match["web"] is not None:
        return match["web"]
    if match["quoted"] is not None:
        place = match["quoted"]
        return f"{match['quote']}{_cut(place, names) if len(_parts(place)) > 1 else place}{match['quote']}"
    if match["file"] is not None:
        return _student(match["file"], names)
    place = match.group()
    # The full stop that ends a sentence is no part of the path.
    end = "." if place.endswith(".") else ""
    return _cut(place.removesuffix(end) if end else place, names) + end


def _student(source: str, names: Collection[str]) -> str:
    place = source.removeprefix("file:")
    parts = _parts(place)
    # A student's folder is its name, also right under a disk.
    nameless = not parts or ((place[0] in "/~" or len(parts) > 1) and _of_a_person(parts, names))
    return "file:<path>" if nameless else f"file:{parts[-1]}"


def _cut(place: str, names: Collection[str]) -> str:
    parts = _parts(place)
    shared = len(parts) == 2 and parts[0] not in _NOBODYS and not re.search(rf"{_FILE}$", parts[-1])
    return "<path>" if shared or _of_a_person(parts, names) else f"<path>/{parts[-1]}"


def _of_a_person(parts: list[str], names: Collection[str]) -> bool:
    above = parts[-2].lower() if len(parts) > 1 else ""
    return parts[-1].lower() in HOMES or above in HOMES or parts[-1] in names


def _parts(place: str) -> list[str]:
    return [part for part in re.split(r"[/\\]+", place) if part]


def _other_than(key: str, taken: Collection[Any]) -> str:
    number, new = 2, key
    while new in taken:
        number, new = number + 1, f"{key} ({number})"
    return new
