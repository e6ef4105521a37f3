"""Rows in TRL's formats: what they mean, and one clear message for each way to get them wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import SourceError, SpecError
from tasks.tables import check_source, read_rows
from tasks.trl_formats import Item, parse

USER = {"role": "user", "content": "What colour is the sky?"}
BLUE, GREEN = {"role": "assistant", "content": "It is blue."}, {"role": "assistant", "content": "It is green."}


def write(folder: Path, rows: list[Any], name: str = "rows.jsonl") -> str:
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    elif name.endswith(".json"):
        path.write_text(json.dumps(rows))
    else:
        import pandas as pd

        frame = pd.DataFrame(rows)
        frame.to_parquet(path) if name.endswith(".parquet") else frame.to_csv(path, index=False)
    return f"file:{path}"


def items(source: str, kind: Any, *, skip_bad: bool = False, columns: dict[str, str] | None = None) -> list[Item]:
    rows = read_rows(source, split="train", subset=None)
    return parse(rows, kind, columns=columns or {}, skip_bad=skip_bad, key=f"pool.config.{kind}", source=source.removeprefix("file:")).items


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "What colour is the sky?", "completion": " It is blue.\n"},
        {"prompt": [USER], "completion": [BLUE]},
        {"messages": [USER, BLUE]},
        {"messages": [USER, BLUE], "prompt": "a copy, without a completion"},
    ],
)
def test_every_format_of_demonstrations_means_the_same(tmp_path: Path, row: dict[str, Any]) -> None:
    (item,) = items(write(tmp_path, [row]), "demonstrations")
    assert (item.prompt, item.completion) == ("What colour is the sky?", "It is blue.")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "What colour is the sky?", "chosen": "It is blue.", "rejected": "It is green."},
        {"prompt": [USER], "chosen": [BLUE], "rejected": [GREEN]},
        {"chosen": [USER, BLUE], "rejected": [USER, GREEN]},
        {"prompt": "a copy that does not count", "chosen": [USER, BLUE], "rejected": [USER, GREEN]},
    ],
)
def test_every_format_of_preferences_means_the_same(tmp_path: Path, row: dict[str, Any]) -> None:
    (item,) = items(write(tmp_path, [row]), "preferences")
    assert (item.prompt, item.chosen, item.rejected) == ("What colour is the sky?", "It is blue.", "It is green.")


def test_implicit_prompts_are_those_of_trl(tmp_path: Path) -> None:
    from trl.data_utils import extract_prompt

    system = {"role": "system", "content": "Be brief."}
    row = {"chosen": [system, USER, BLUE], "rejected": [system, USER, GREEN]}
    reference = extract_prompt(row)
    (item,) = items(write(tmp_path, [row]), "preferences")
    assert item.prompt == "\n\n".join(turn["content"] for turn in reference["prompt"])
    assert [item.chosen, item.rejected] == [reference[side][0]["content"] for side in ("chosen", "rejected")]


def test_an_implicit_prompt_in_texts_ends_before_a_word(tmp_path: Path) -> None:
    row = {"chosen": "The sky is usually blue.", "rejected": "The sky is usually black."}
    (item,) = items(write(tmp_path, [row]), "preferences")
    assert (item.prompt, item.chosen, item.rejected) == ("The sky is usually", "blue.", "black.")
    longer = {"chosen": "Name one bird. Owl", "rejected": "Name one bird. Owl Owl"}
    (item,) = items(write(tmp_path, [longer]), "preferences")
    assert item.prompt in item.prompt + item.chosen
    assert item.chosen != item.rejected


def test_columns_answers_and_system_turns(tmp_path: Path) -> None:
    row = {"instruction": [{"role": "system", "content": "Be brief."}, USER], "output": "Blue", "gold": 7}
    (item,) = items(write(tmp_path, [row]), "demonstrations", columns={"prompt": "instruction", "completion": "output", "answer": "gold"})
    assert item.prompt == "Be brief.\n\nWhat colour is the sky?"
    assert item.answer == "7"
    (prompt,) = items(write(tmp_path, [{"prompt": "Why?", "answer": " yes "}]), "prompts")
    assert (prompt.prompt, prompt.answer, prompt.completion) == ("Why?", "yes", None)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet"])
def test_files_of_every_kind_hold_what_datasets_reads(tmp_path: Path, name: str) -> None:
    import datasets

    rows = [{"prompt": f'say "{n}", \u2028 please\nnow', "completion": f"ä {n}", "answer": str(n)} for n in range(5)]
    source = write(tmp_path, rows, name)
    kind = {"jsonl": "json"}.get(name.rpartition(".")[2], name.rpartition(".")[2])
    reference = datasets.load_dataset(kind, data_files=source.removeprefix("file:"), split="train", cache_dir=str(tmp_path / "cache"))
    found = read_rows(source, split="train", subset=None)
    assert [{key: str(value) for key, value in row.values.items()} for row in found] == [
        {key: str(value) for key, value in row.items()} for row in reference
    ]
    assert len(items(source, "demonstrations")) == 5


GOOD = {"prompt": "a", "completion": "b"}
BOT, IMAGE = {"role": "bot", "content": "x"}, {"role": "assistant", "content": [{"type": "image"}]}
PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}


@pytest.mark.parametrize(
    ("kind", "rows", "message"),
    [
        ("demonstrations", [{"prompt": "a", "complection": "b"}], "no such column.*'completion'.*Did you mean 'complection'"),
        ("demonstrations", [{"text": "a"}], "messages or prompt \\+ completion"),
        ("preferences", [{"prompt": "a", "chosen": "b"}], "no such column.*'rejected'"),
        ("preferences", [PAIR, PAIR | {"rejected": None}], "rows.jsonl:2: rejected: is missing or null; a preference needs"),
        ("preferences", [PAIR, PAIR, PAIR | {"rejected": " b "}], "rows.jsonl:3: rejected: is the same as chosen"),
        ("preferences", [{"chosen": [USER, BLUE], "rejected": [USER, BLUE]}], ":1: rejected: is the same as chosen"),
        ("preferences", [{"chosen": [USER, BLUE], "rejected": [GREEN]}], "the prompt, must be one user turn"),
        ("preferences", [{"prompt": "a", "chosen": "b", "rejected": [GREEN]}], "expected a text like chosen, found a list of turns"),
        ("preferences", [{"prompt": [USER], "chosen": [USER, BLUE], "rejected": [USER, GREEN]}], "chosen: expected one assistant turn"),
        ("demonstrations", [GOOD, GOOD | {"completion": " \n"}], ":2: completion: is empty"),
        ("demonstrations", [GOOD, GOOD | {"prompt": ""}], ":2: prompt: the prompt is empty"),
        ("demonstrations", [GOOD, GOOD | {"prompt": [USER]}], ":2: prompt: expected a text, as in the rows before, found a list of turns"),
        ("demonstrations", [GOOD, GOOD | {"completion": 5}], ":2: completion: expected a text or a list of turns, found int 5"),
        ("demonstrations", [GOOD, GOOD | {"answer": ["x"]}], ":2: answer: expected an answer"),
        ("demonstrations", [GOOD, '{"prompt": "a", "completion": "b"\n'], ":2: not valid JSON"),
        ("demonstrations", [GOOD, '["a"]\n'], ":2: expected a JSON object"),
        ("demonstrations", ["\n \n"], "the file has no rows"),
        ("demonstrations", [{"messages": [USER]}], "ends with an assistant turn"),
        ("demonstrations", [{"messages": [USER, BLUE, USER, BLUE]}], "must be one user turn.*found user, assistant, user"),
        ("demonstrations", [{"messages": [USER, BOT]}], r"messages\[1\].role: expected system, user, assistant"),
        ("demonstrations", [{"messages": [USER, {"content": "x"}]}], r"messages\[1\]: expected a turn with role and content"),
        ("demonstrations", [{"messages": [USER, IMAGE]}], r"messages\[1\].content: expected a text"),
        ("prompts", [{"question": "a"}], "prompts need prompt.*Did you mean|prompts need prompt.*Valid: question"),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_message_with_place_and_column(tmp_path: Path, kind: str, rows: list[Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        items(write(tmp_path, rows), kind)


def test_bad_rows_are_left_out_only_on_request_and_counted(tmp_path: Path) -> None:
    source = write(tmp_path, [GOOD, GOOD | {"completion": ""}, "{\n", GOOD | {"prompt": [USER]}, GOOD])
    with pytest.raises(SpecError, match=r":2: .*pool.config.demonstrations.skip_bad: true leaves such rows out"):
        items(source, "demonstrations")
    rows = read_rows(source, split="train", subset=None)
    found = parse(rows, "demonstrations", columns={}, skip_bad=True, key="k", source="s")
    assert (len(found.items), found.skipped) == (2, 3)
    with pytest.raises(SpecError, match=r"none of its 2 rows can be used; the first: .*:1: completion: is empty"):
        items(write(tmp_path, [GOOD | {"completion": ""}] * 2), "demonstrations", skip_bad=True)
    with pytest.raises(SpecError, match="no such column"):  # a whole table is not a bad row
        items(write(tmp_path, [{"x": "a"}]), "demonstrations", skip_bad=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"nothing of the kind", "not a Parquet file"),
        ("a.csv", b'prompt,completion\na,"b\n', "not valid CSV"),
        ("a.csv", b"prompt,completion\n", "the file has no rows"),
        ("a.json", b"[1, 2", "not valid JSON"),
        ("a.json", b"[]", "the file has no rows"),
        ("a.jsonl", b"\xff\xfe", "not a text file in UTF-8"),
    ],
)
def test_files_that_are_not_what_their_name_says(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SpecError, match=message):
        items(f"file:{tmp_path / name}", "demonstrations")


@pytest.mark.parametrize("source", ["file:a.txt", "rows.jsonl", "hub:", "hub:a/b/c", "file:"])
def test_sources_of_no_known_form(source: str) -> None:
    with pytest.raises(SpecError, match="expected file:PATH"):
        check_source(source)


def test_hub_sets_are_loaded_pinned_and_failures_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    asked: list[tuple[Any, ...]] = []

    def load(name: str, subset: str | None, *, split: str, revision: str | None, cache_dir: str) -> Any:
        asked.append((name, subset, split, revision))
        if split == "absent":
            raise ValueError("Unknown split \"absent\". Should be one of ['train'].")
        if name == "who/knows":
            raise DatasetNotFoundError("Dataset 'who/knows' doesn't exist on the Hub or cannot be accessed.")
        if name == "far/away":
            raise ConnectionError("Couldn't reach 'far/away' on the Hub")
        return datasets.Dataset.from_list([{"chosen": [USER, BLUE], "rejected": [USER, GREEN], "score": 1.0}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    (item,) = items("hub:org/pairs@abc1", "preferences")
    assert asked == [("org/pairs", None, "train", "abc1")]
    assert (item.where, item.rejected) == ("hub:org/pairs@abc1 (train), row 1", "It is green.")
    for source, split, error, message in (
        ("hub:org/pairs", "absent", SpecError, "Unknown split"),
        ("hub:who/knows", "train", SpecError, "no such data set"),
        ("hub:far/away", "train", SourceError, "cannot be reached"),
    ):
        with pytest.raises(error, match=message):
            read_rows(source, split=split, subset=None)
