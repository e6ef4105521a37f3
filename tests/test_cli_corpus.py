import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from harness.cli import main
from harness.cli.corpus_tree import print_trees
from harness.core.corpus import read_rows, summarise
from harness.core.corpus_export import as_dataset

HOSTILE = "[bold red]not markup[/] \x1b[31mred\x1b[0m \u202ereversed 終わり\n\nnext :smile:"


def corpus_row(name: str, **changes: object) -> dict[str, object]:
    row = {
        "id": name, "seed_id": "seed-a", "parent_id": "seed-a", "operation": "deepen", "family": "letters",
        "lineage": [{"operation": "seed", "text": "Write."}, {"operation": "deepen", "text": f"Write about {name}."}],
        "instruction": f"Write about {name}.", "constraints": [{"kind": "max_words", "params": {"n": 5}}], "response": "Done.",
        "verified": True, "verified_by": "rule", "kept": True, "reject_reason": None,
        "reward": {"validity": 1.0, "novelty": 0.5, "learnability": 0.75, "total": 0.375}, "samples": 4, "pass_rate": 0.25, "step": 1,
        "rejected_samples": {"cut off": 2, "not verified": 1},
    }  # fmt: skip
    return row | changes


DUPLICATE = {
    "kept": False, "response": None, "verified": None, "verified_by": None, "reject_reason": "duplicate", "pass_rate": None, "samples": 0,
    "rejected_samples": {},
    "reward": {"validity": 0.0, "novelty": 0.0, "learnability": 0.0, "total": 0.0},
}  # fmt: skip
ROWS = [
    corpus_row("one"),
    corpus_row("two", parent_id="one", operation="breadth"),
    corpus_row("three", parent_id="two", **DUPLICATE),
    corpus_row("four", seed_id="seed-b", parent_id="seed-b", operation="breadth", verified_by="consistency"),
]


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "corpus.jsonl", ROWS)


def topics(n: int, variety: int, start: int) -> list[dict[str, object]]:
    return [corpus_row(f"{index}", instruction=f"Say w{(start + index) % variety} now, please, o{index % variety}") for index in range(n)]


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """Two methods, two training seeds: `varied` never repeats itself, `dull` has three texts; an untrained method; a trial still to run."""
    run = tmp_path / "run"
    trials = [
        {"label": label, "seed": seed, "seedless": False, "train_stage": f"{label}{seed}"}
        for label in ("varied", "dull")
        for seed in (1, 2)
    ]
    trials.append({"label": "base", "seed": 0, "seedless": True, "train_stage": "base"})
    trials.append({"label": "varied", "seed": 3, "seedless": False, "train_stage": "pending"})
    for trial in trials[:5]:
        stage = run / "stages" / trial["train_stage"]
        stage.mkdir(parents=True)
        (stage / "meta.json").write_text("{}")
        if trial["label"] != "base":
            write_rows(stage / "corpus.jsonl", topics(12, 100 if trial["label"] == "varied" else 3, trial["seed"]))
    (run / "study.json").write_text(json.dumps({"plan": {"trials": trials}, "seeds": [1, 2, 3]}))
    return run


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["corpus", *map(str, arguments)])
    printed = capsys.readouterr()
    return int(stop.value.code or 0), printed.out, printed.err


@pytest.mark.parametrize("command", ["show", "export", "stats"])
def test_every_command_explains_itself_with_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = call(capsys, command, "--help")
    assert code == 0
    assert "Example" in out
    assert f"selfteach corpus {command} quickstart" in out


def test_show_draws_lineages_with_reward_parts_apart(capsys: pytest.CaptureFixture[str], corpus: Path) -> None:
    code, out, _ = call(capsys, "show", corpus)
    assert code == 0
    assert out.splitlines()[:11] == [
        "seed seed-a",
        "Write.",
        "└── deepen · kept · passed 1 of 4",
        "    validity 1.00 × novelty 0.50 × learnability 0.75 = reward 0.38",
        "    Write about one.",
        "    └── breadth · kept · passed 1 of 4",
        "        validity 1.00 × novelty 0.50 × learnability 0.75 = reward 0.38",
        "        Write about two.",
        "        └── deepen · rejected: duplicate",
        "            Write about three.",
        "seed seed-b",
    ]
    assert "4 instructions from 2 seeds, 3 kept" in out
    assert "verified by: rule 2, consistency 1" in out
    assert "rejected: duplicate 1" in out
    table = {line.split("│")[0].strip(): [cell.strip() for cell in line.split("│")[1:]] for line in out.splitlines() if "│ " in line}
    assert table["deepen"] == ["2", "1 (50%)", "1", "0.25", "0.50", "0.50", "0.75", "0.19"]
    assert table["all"] == ["4", "3 (75%)", "3", "0.25", "0.75", "0.50", "0.75", "0.28"]


def test_show_filters_and_keeps_what_led_there(capsys: pytest.CaptureFixture[str], corpus: Path) -> None:
    _, rejected, _ = call(capsys, "show", corpus, "--rejected")
    for name in ("one", "two", "three"):
        assert f"Write about {name}." in rejected
    assert "four" not in rejected
    _, breadth, _ = call(capsys, "show", corpus, "--operation", "breadth", "--seed", "seed-a")
    assert "two" in breadth
    assert "three" not in breadth
    _, limited, _ = call(capsys, "show", corpus, "--limit", 1)
    assert "1 of 2 seeds shown; --limit 2 shows all" in limited
    assert "four" not in limited
    _, as_json, _ = call(capsys, "show", corpus, "--rejected", "--json")
    found = json.loads(as_json)
    assert [row["id"] for row in found["rows"]] == ["three"]
    assert found["summary"]["made"] == 4


def test_whole_text_goes_to_a_pipe_and_a_cut_one_to_a_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    long = "word " * 200 + "終"
    path = write_rows(tmp_path / "long.jsonl", [corpus_row("x", instruction=long)])
    _, out, _ = call(capsys, "show", path)
    assert long in out
    terminal = Console(file=io.StringIO(), force_terminal=True, width=60)
    print_trees(terminal, read_rows(path), {0})
    lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.file.getvalue()).splitlines()
    assert all(len(line) <= 60 for line in lines)
    assert lines[-1].endswith("…")


def test_a_cut_text_starts_where_it_departs_from_its_parent(tmp_path: Path) -> None:
    parent = "Tell me of " + "rivers and " * 9 + "lakes."
    lineage = [{"operation": "seed", "text": parent}, {"operation": "deepen", "text": ""}]
    added, replaced = parent + " Say why.", "Now sing of " + "rivers and " * 9 + "lakes."
    rows = [corpus_row("a", instruction=added, lineage=lineage), corpus_row("b", instruction=replaced, lineage=lineage)]
    terminal = Console(file=io.StringIO(), force_terminal=True, width=50)
    print_trees(terminal, read_rows(write_rows(tmp_path / "c.jsonl", rows)), {0, 1})
    lines = [line.strip(" │") for line in re.sub(r"\x1b\[[0-9;]*m", "", terminal.file.getvalue()).splitlines()]
    assert lines[4].startswith("…")
    assert lines[4].endswith("lakes. Say why.")
    assert len(lines[4]) == 50 - 4, "filled with what comes before the change"
    assert lines[7] == "Now sing of rivers and rivers and rivers and …"


def test_model_text_is_inert_in_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lineage = [{"operation": "seed", "text": HOSTILE}]
    hostile = {"family": HOSTILE, "operation": HOSTILE, "reject_reason": HOSTILE, "lineage": lineage}
    path = write_rows(tmp_path / "hostile.jsonl", [corpus_row("x", instruction=HOSTILE, seed_id=HOSTILE, kept=False, **hostile)])
    code, out, _ = call(capsys, "show", path)
    assert code == 0
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert out.count("[bold red]not markup[/] ⟨U+001B⟩[31mred") >= 5
    assert ":smile:" in out


def test_parents_that_form_a_ring_or_a_very_long_chain_are_drawn(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ring = [corpus_row("a", parent_id="b"), corpus_row("b", parent_id="a"), corpus_row("c", parent_id="c")]
    chain = [corpus_row(f"g{depth}", seed_id="s", parent_id=f"g{depth - 1}") for depth in range(300)]
    code, out, _ = call(capsys, "show", write_rows(tmp_path / "ring.jsonl", ring + chain))
    assert code == 0
    for name in ("a", "b", "c", "g0", "g299"):
        assert f"Write about {name}." in out
    assert max(map(len, out.splitlines())) < 160


def test_a_run_with_several_corpora_lists_them(capsys: pytest.CaptureFixture[str], run_folder: Path) -> None:
    code, out, _ = call(capsys, "show", run_folder)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if " │ " in line] == ["varied-1", "varied-2", "dull-1", "dull-2"]
    assert f"selfteach corpus show {run_folder} --trial varied-1" in out
    _, one, _ = call(capsys, "show", run_folder, "--trial", "dull-2", "--json")
    assert len(json.loads(one)["rows"]) == 12
    _, listed, _ = call(capsys, "show", run_folder, "--json")
    assert [entry["trial"] for entry in json.loads(listed)] == ["varied-1", "varied-2", "dull-1", "dull-2"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["show", "nowhere"], "expected a run's folder, a study's name under results/runs, or a corpus.jsonl (got 'nowhere')"),
        (["show", ".."], "expected a run's folder"),
        (["show", "untrained"], "no finished training of this run wrote a corpus.jsonl"),
        (["show", "corpus.jsonl", "--trial", "x"], "a file has no trials"),
        (["show", "corpus.jsonl", "--seed", "x"], "no such seed in this corpus"),
        (["show", "corpus.jsonl", "--operation", "deepn"], "Did you mean 'deepen'?"),
        (["show", "run", "--trial", "varied-9"], "no corpus of such a trial (got 'varied-9'). Did you mean 'varied-"),
        (["export", "run", "--out", "x"], "4 trials have a corpus, name one: varied-1, varied-2, dull-1, dull-2"),
        (["export", "corpus.jsonl", "--format", "preference", "--out", "x"], "no text of rejected responses"),
        (["export", "corpus.jsonl", "--format", "stf", "--out", "x"], "Did you mean 'sft'?"),
        (["export", "corpus.jsonl", "--out", "run"], "expected a file in a folder that exists (got 'run')"),
        (["export", "corpus.jsonl", "--out", "no/x"], "expected a file in a folder that exists"),
        (["export", "corpus.jsonl", "--out", "/proc/x"], "--out: nothing can be written in /proc"),
        (["export", "corpus.jsonl", "--out", "corpus.jsonl"], "would replace the corpus itself"),
        (["export", "corpus.jsonl", "--verified-by", "rules", "--out", "x"], "Did you mean 'rule'?"),
        (["export", "rejected.jsonl", "--out", "x"], "nothing to export: of 1 rows none is kept"),
        (["stats", "corpus.jsonl", "--against", "x"], "no corpus of such a method"),
        (["stats", "corpus.jsonl", "--against", "corpus.jsonl"], "no other method of this run has a corpus"),
        (["stats", "run", "--against", "vared"], "Did you mean 'varied'?"),
    ],
)
def test_a_users_mistake_is_one_message(
    capsys: pytest.CaptureFixture[str],
    corpus: Path,
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(corpus.parent)
    write_rows(Path("rejected.jsonl"), ROWS[2:3])
    Path("untrained").mkdir()
    Path("untrained/study.json").write_text(json.dumps({"plan": {"trials": []}, "seeds": []}))
    before = sorted(Path().iterdir())
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("selfteach: ")
    assert told in err
    assert err.count("\n") == 1
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("{", "Expecting property name"),
        ("[]", "expected a JSON object"),
        (json.dumps({"id": "x"}), "'instruction' is missing"),
        (json.dumps(corpus_row("x", kept="yes")), "'kept' should be bool, not 'yes'"),
        (json.dumps(corpus_row("x", pass_rate="high")), "'pass_rate' should be float or int or null, not 'high'"),
        (json.dumps(corpus_row("x", lineage=[{"operation": "seed"}])), "lineage, constraints or reward hold {'operation': 'seed'}"),
        (json.dumps(corpus_row("x", constraints=[{"kind": "a", "params": []}])), "lineage, constraints or reward hold"),
        (json.dumps(corpus_row("x", reward={"total": "1"})), "lineage, constraints or reward hold '1'"),
        ("[" * 100_000, "corpus.jsonl:6: not a corpus row"),
    ],
)
def test_a_damaged_line_is_named(capsys: pytest.CaptureFixture[str], corpus: Path, damage: str, told: str) -> None:
    corpus.write_text(corpus.read_text() + "\n" + damage + "\n")
    for command in (["show"], ["stats"], ["export", "--out", corpus.parent / "x"]):
        code, out, err = call(capsys, command[0], corpus, *command[1:])
        assert (code, out) == (4, "")
        assert "corpus.jsonl:6: not a corpus row" in err
        assert told in err


def test_a_damaged_study_and_a_binary_file_are_named(capsys: pytest.CaptureFixture[str], run_folder: Path) -> None:
    (run_folder / "study.json").write_text("{}")
    code, _, err = call(capsys, "show", run_folder)
    assert code == 4
    assert "study.json is damaged" in err
    binary = run_folder / "x.jsonl"
    binary.write_bytes(b"\xff\xfe")
    code, _, err = call(capsys, "show", binary)
    assert code == 4
    assert "cannot be read" in err


def test_a_plug_ins_bare_rows_are_enough(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bare = {"id": "1", "instruction": "Sing.", "operation": "make", "kept": True, "own": {"key": 1}}
    path = write_rows(tmp_path / "corpus.jsonl", [bare])
    for arguments in (["show", path], ["stats", tmp_path], ["export", path, "--format", "datasets", "--out", tmp_path / "x.parquet"]):
        code, _, err = call(capsys, *arguments)
        assert (code, err) == (0, "")


def test_an_empty_corpus_is_shown_and_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = write_rows(tmp_path / "corpus.jsonl", [])
    assert "an empty corpus" in call(capsys, "show", path)[1]
    assert call(capsys, "stats", path)[0] == 0


@pytest.mark.parametrize(("form", "keys"), [("sft", {"messages"}), ("prompt-completion", {"prompt", "completion"})])
def test_exports_are_what_trl_reads(capsys: pytest.CaptureFixture[str], corpus: Path, form: str, keys: set[str]) -> None:
    from datasets import load_dataset
    from trl.data_utils import is_conversational

    out = corpus.parent / "train.jsonl"
    code, printed, _ = call(capsys, "export", corpus, "--format", form, "--out", out)
    assert code == 0
    assert printed == f"{out}: 3 of 4 rows of {corpus}\n"
    data = load_dataset("json", data_files=str(out), split="train", cache_dir=str(corpus.parent / "cache"))
    assert set(data.column_names) == keys
    assert all(is_conversational(example) for example in data)
    turns = data[1]["messages"] if form == "sft" else data[1]["prompt"] + data[1]["completion"]
    assert turns == [{"role": "user", "content": "Write about two."}, {"role": "assistant", "content": "Done."}]


def test_export_selects(capsys: pytest.CaptureFixture[str], corpus: Path) -> None:
    from datasets import load_dataset

    out = corpus.parent / "x.parquet"
    _, printed, _ = call(capsys, "export", corpus, "--format", "datasets", "--all", "--out", out, "--json")
    assert json.loads(printed)["rows"] == 4
    data = load_dataset("parquet", data_files=str(out), split="train", cache_dir=str(corpus.parent / "cache"))
    assert data.to_list() == ROWS
    _, printed, _ = call(capsys, "export", corpus, "--all", "--out", out, "--json")
    assert json.loads(printed)["rows"] == 3, "a rejected row without a response cannot be trained on"
    call(capsys, "export", corpus, "--verified-by", "consistency", "--out", out)
    assert [json.loads(line)["messages"][0]["content"] for line in out.read_text().splitlines()] == ["Write about four."]
    assert sorted(path.name for path in corpus.parent.iterdir()) == ["cache", "corpus.jsonl", "x.parquet"]


def test_stats_compares_with_a_control_over_training_seeds(capsys: pytest.CaptureFixture[str], run_folder: Path) -> None:
    code, out, _ = call(capsys, "stats", run_folder, "--against", "dull", "--json")
    assert code == 0
    found = json.loads(out)["methods"]["varied"]
    assert found["pairs"].keys() == {"1", "2"}
    assert found["pairs"]["1"]["n"] == 12
    for metric, higher in (("distinct_1", True), ("distinct_2", True), ("self_bleu", False), ("compression_ratio", False)):
        low, high = found["diversity"][metric]["interval"]
        assert (low > 0) if higher else (high < 0), metric
    assert found["yields"]["kept"]["difference"] == 0
    _, table, _ = call(capsys, "stats", run_folder, "--against", "dull")
    assert "varied against dull" in table
    assert "matched, by training seed: 12 of 12 and 12, 12 of 12 and 12 texts" in table
    assert table == call(capsys, "stats", run_folder, "--against", "dull")[1], "the same draws every time"


def test_stats_warns_that_unmatched_columns_do_not_compare(capsys: pytest.CaptureFixture[str], run_folder: Path) -> None:
    _, out, _ = call(capsys, "stats", run_folder)
    assert "do not compare methods" in out
    assert re.search(r"distinct 2 +│ +\S+ +│ +\S+", out)
    assert "vendi" not in out


def test_stats_says_which_seed_could_not_be_matched(capsys: pytest.CaptureFixture[str], run_folder: Path) -> None:
    write_rows(run_folder / "stages/dull2/corpus.jsonl", topics(3, 3, 0))
    _, out, _ = call(capsys, "stats", run_folder, "--against", "dull")
    assert "training seed 2 is not compared: only 3 texts have a counterpart of their length (12 and 3 texts)" in out
    shutil.rmtree(run_folder / "stages/dull1")
    shutil.rmtree(run_folder / "stages/varied2")
    code, _, err = call(capsys, "stats", run_folder, "--against", "dull")
    assert code == 2
    assert "no training seed in common" in err


def test_nothing_heavy_is_imported_without_need() -> None:
    code = (
        "import sys, harness.cli.corpus, harness.cli.corpus_stats\n"
        "assert not {'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_rewards_none_are_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A method that computes no reward did not get a reward of 0."""
    rows = [corpus_row("one", reward={}), {key: value for key, value in corpus_row("two").items() if key != "reward"}]
    path = write_rows(tmp_path / "corpus.jsonl", rows)
    found = summarise(read_rows(path))
    assert [found[name] for name in ("validity", "novelty", "learnability", "reward")] == [None] * 4
    assert found["pass_rate"] == 0.25
    with pytest.raises(SystemExit) as stop:
        main(["corpus", "show", str(path)])
    assert not stop.value.code
    shown = capsys.readouterr().out
    assert "Write about two." in shown
    assert "reward 0" not in shown
    assert as_dataset(read_rows(path))[0]["reward"] is not None
