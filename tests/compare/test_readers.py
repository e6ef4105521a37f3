from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as arrow_parquet
import pytest
from log_samples import inspect_samples, lm_eval_rows

from harness.compare.cells import Cell, ReadOptions
from harness.compare.json_files import read_columns
from harness.compare.sources import Source, parse_source, read_path, read_sources
from harness.errors import SpecError

Write = Callable[..., Path]
PLAIN = ReadOptions()
RESULTS = {
    "model_name": "org/model-a", "chat_template_sha": "abc", "n-shot": {"arc": 5}, "versions": {"arc": 1.0},
    "higher_is_better": {"arc": {"acc": True, "surprise": False}}, "results": {},
}  # fmt: skip
DATE = "2026-01-02T03-04-05.678901"


def only(path: Path, options: ReadOptions = PLAIN) -> Cell:
    cells = read_path(path, options).cells
    assert len(cells) == 1, [(cell.task, cell.metric) for cell in cells]
    return cells[0]


def scores(cell: Cell) -> dict[str, float]:
    return dict(zip(cell.item_N.to_pylist(), cell.score_N.tolist(), strict=True))


def test_lm_eval_folder_takes_model_direction_and_setup_from_the_results_of_the_same_date(write: Write) -> None:
    path = write(f"m/samples_arc_{DATE}.jsonl", lm_eval_rows([1.0, 0.0, 1.0]))
    write(f"m/results_{DATE}.json", RESULTS)
    write("m/results_2025-01-01T00-00-00.000000.json", {"model_name": "another"})
    cell = only(path.parent)
    assert (cell.model, cell.task, cell.metric, cell.higher_is_better) == ("org/model-a", "arc", "acc", True)
    assert cell.setup == {"few-shot examples": "5", "task version": "1.0", "chat template": "abc"}
    assert scores(cell) == {"0": 1.0, "1": 0.0, "2": 1.0}


def test_lm_eval_filters_become_metrics_and_pairs_are_left_out_with_a_note(write: Write) -> None:
    rows = lm_eval_rows([1.0, 0.0], metric="exact_match", filters=("strict-match", "flexible-extract"))
    for row in rows:
        row |= {"metrics": ["exact_match", "word_perplexity"], "word_perplexity": [-3.0, 7]}
    reading = read_path(write(f"samples_gsm8k_{DATE}.jsonl", rows), PLAIN)
    assert [cell.metric for cell in reading.cells] == ["exact_match,strict-match", "exact_match,flexible-extract"]
    assert any("word_perplexity is not one number" in note for note in reading.notes)


@pytest.mark.parametrize("values", [[1, 0, 1], [1.0, 0, 1], [True, False, True], [1.0, None, 0.0]])
def test_lm_eval_rows_that_arrow_cannot_read_alike_give_the_same_scores_line_by_line(write: Write, values: list[object]) -> None:
    cell = only(write("samples_x.jsonl", lm_eval_rows(values)))
    assert cell.score_N.tolist() == pytest.approx(
        [float("nan") if value is None else float(str(float(value))) for value in values], nan_ok=True
    )  # type: ignore[arg-type]


def test_the_fast_and_the_slow_reader_agree(write: Write) -> None:
    rows = lm_eval_rows(np.random.default_rng(0).random(50).round(3).tolist())
    fast = only(write("samples_x.jsonl", rows))
    rows[7]["doc_id"] = "7"  # a text among numbers, which Arrow refuses
    path = write("samples_y.jsonl", rows)
    assert read_columns(path, {"doc_id": pa.int64()}) is None
    slow = only(path)
    assert slow.item_N.equals(fast.item_N)
    assert (slow.score_N == fast.score_N).all()
    assert slow.content_N is not None
    assert slow.content_N.equals(fast.content_N)


def test_lm_eval_document_fields_give_clusters_and_tasks(write: Write) -> None:
    path = write("samples_x.jsonl", lm_eval_rows([1.0, 0.0, 1.0, 0.0]))
    cell = only(path, ReadOptions(cluster="passage"))
    assert cell.cluster_N is not None
    assert cell.cluster_N.to_pylist() == ["p0", "p0", "p1", "p1"]
    by = read_path(path, ReadOptions(task="passage")).cells
    assert [(cell.task, len(cell.item_N)) for cell in by] == [("x/p0", 2), ("x/p1", 2)]
    with pytest.raises(SpecError, match=r"samples_x.jsonl: line 1: doc: the document has no such field .*Did you mean 'passage'"):
        read_path(path, ReadOptions(cluster="pasage"))


def test_inspect_values_epochs_and_unscored_samples(write: Write) -> None:
    header = {"eval": {"model": "openai/x", "task": "arc", "task_version": 2}}
    path = write("a.eval", {"header.json": header, "summaries.json": inspect_samples(["C", "I", "P", "N", "C", "C", "C", "I"], epochs=2)})
    reading = read_path(path, PLAIN)
    assert (reading.cells[0].model, reading.cells[0].task, reading.cells[0].metric) == ("openai/x", "arc", "match")
    assert scores(reading.cells[0]) == {"0": 1.0, "1": 0.5, "2": 0.75, "3": 0.0}
    assert any("2 epochs" in note for note in reading.notes)
    failed = [*inspect_samples([1, 0]), {"id": 9, "epoch": 1, "input": "q", "target": "a", "error": "timeout"}]
    cell = only(write("b.json", {"version": 2, **header, "samples": failed}))
    assert np.isnan(scores(cell)["9"])


def test_inspect_dictionaries_of_scores_are_several_metrics_and_journals_are_read(write: Write) -> None:
    header = {"eval": {"model": "m", "task": "t"}}
    summaries = inspect_samples([{"strict": "C", "loose": 0.5}, {"strict": "I", "loose": 1}])
    path = write(
        "a.eval", {"_journal/start.json": header, "_journal/summaries/2.json": summaries[1:], "_journal/summaries/1.json": summaries[:1]}
    )
    assert {cell.metric: scores(cell) for cell in read_path(path, PLAIN).cells} == {
        "match/strict": {"0": 1.0, "1": 0.0},
        "match/loose": {"0": 0.5, "1": 1.0},
    }


def test_inspect_members_packed_by_zstandard_are_read(write: Write, tmp_path: Path) -> None:
    members = {"header.json": {"eval": {"model": "m", "task": "t"}}, "summaries.json": inspect_samples(["C", "I", "C"])}
    path = tmp_path / "z.eval"
    _write_zstandard(path, {name: json.dumps(value).encode() for name, value in members.items()})
    assert scores(only(path)) == {"0": 1.0, "1": 0.0, "2": 1.0}
    damaged = bytearray(path.read_bytes())
    damaged[80] ^= 0xFF
    path.write_bytes(bytes(damaged))
    with pytest.raises(SpecError, match=r"z\.eval"):
        read_path(path, PLAIN)


def _write_zstandard(path: Path, members: dict[str, bytes]) -> None:
    """A zip file by hand: Python's own writer learns method 93 in 3.14."""
    codec, local, central = pa.Codec("zstd"), b"", b""
    for name, content in members.items():
        packed = codec.compress(content, asbytes=True)
        fields = struct.pack("<HHHHHIIIHH", 20, 0, 93, 0, 33, zlib.crc32(content), len(packed), len(content), len(name), 0)
        central += b"PK\x01\x02" + struct.pack("<H", 20) + fields + struct.pack("<HHHII", 0, 0, 0, 0, len(local)) + name.encode()
        local += b"PK\x03\x04" + fields + name.encode() + packed
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(central), len(local), 0)
    path.write_bytes(local + central + end)
    assert zipfile.is_zipfile(path)


def test_helm_averages_trials_and_shows_what_it_leaves_out(write: Write) -> None:
    def entry(item: str, trial: int, value: float, perturbation: str | None = None) -> dict[str, object]:
        stats = [
            {"name": {"name": name}, "count": 1, "sum": number, "mean": number}
            for name, number in (("exact_match", value), ("num_bytes", 9))
        ]
        view = {"perturbation": {"name": perturbation}} if perturbation else {}
        return {"instance_id": item, "train_trial_index": trial, "stats": stats, **view}

    entries = [entry("id1", 0, 1.0), entry("id1", 1, 0.0), entry("id2", 0, 1.0), entry("id2", 1, 1.0), entry("id1", 0, 0.0, "typos")]
    path = write("run/per_instance_stats.json", entries)
    write("run/run_spec.json", {"name": "mmlu:subject=law,model=openai_x", "adapter_spec": {"model": "openai/x", "max_train_instances": 5}})
    reading = read_path(path.parent, PLAIN)
    cell = reading.cells[0]
    assert (cell.model, cell.task, cell.metric, len(reading.cells)) == ("openai/x", "mmlu:subject=law", "exact_match", 1)
    assert scores(cell) == {"id1": 0.5, "id2": 1.0}
    assert any("typos 1" in note for note in reading.notes)
    assert scores(only(path.parent, ReadOptions(perturbation="typos"))) == {"id1": 0.0}


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_tables_of_every_kind_give_the_same_cells(write: Write, tmp_path: Path, kind: str) -> None:
    rows = [
        {"Item": f"q{index}", "score": index / 4, "model": model, "seed": seed, "cluster": f"c{index // 2}"}
        for model in ("a", "b")
        for seed in (1, 2)
        for index in range(4)
    ]
    separator = "\t" if kind == "tsv" else ","
    if kind == "parquet":
        path = tmp_path / "t.parquet"
        arrow_parquet.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        path = write("t.jsonl", rows)
    else:
        lines = [separator.join(rows[0]), *(separator.join(map(str, row.values())) for row in rows)]
        path = write(f"t.{kind}", "\ufeff" + "\r\n".join(lines) + "\r\n")
    cells = read_path(path, PLAIN).cells
    assert [(cell.model, cell.seed) for cell in cells] == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]
    assert all(scores(cell) == {"q0": 0.0, "q1": 0.25, "q2": 0.5, "q3": 0.75} for cell in cells)
    assert cells[0].cluster_N is not None
    assert cells[0].cluster_N.to_pylist() == ["c0", "c0", "c1", "c1"]


def test_a_tables_columns_can_be_named_and_empty_scores_are_no_scores(write: Write) -> None:
    path = write("t.csv", "key;points;run;judge\nq1;1;r1;x\nq2;;r1;x\nq1;0;r2;x\nq2;TRUE;r2;x\n")
    cells = read_path(path, ReadOptions(item="key", score="points", seed="run", task="judge")).cells
    assert [(cell.seed, cell.task) for cell in cells] == [("r1", "x"), ("r2", "x")]
    assert np.isnan(scores(cells[0])["q2"])
    assert scores(cells[1]) == {"q1": 0.0, "q2": 1.0}


def test_a_stages_samples_are_a_table_whose_status_and_perturbation_count(tmp_path: Path) -> None:
    rows = [
        {"suite": "s", "task": "arc", "perturbation": view, "sample_id": f"q{index}", "cluster": f"q{index}", "metric": "acc", "value": 1.0,
         "status": "scored" if index else "error"}
        for view in ("clean", "typos")
        for index in range(3)
    ]  # fmt: skip
    path = tmp_path / "samples.parquet"
    arrow_parquet.write_table(pa.Table.from_pylist(rows), path)
    reading = read_path(path, PLAIN)
    cell = reading.cells[0]
    assert (cell.task, cell.metric, cell.cluster_N, len(reading.cells)) == ("arc", "acc", None, 1)
    assert np.isnan(scores(cell)["q0"])
    assert any("typos" in note for note in reading.notes)


def test_the_kind_of_log_is_told_from_its_content_not_its_name(write: Write) -> None:
    assert only(write("table.txt", "item,score\na,1\nb,0\n")).metric == "score"
    assert only(write("log.dat", "".join(json.dumps(row) + "\n" for row in lm_eval_rows([1.0, 0.0])))).metric == "acc"


def test_names_give_models_and_checkpoints(write: Write) -> None:
    paths = [write(f"{name}.csv", "item,score\nq1,1\nq2,0\n") for name in ("one", "two", "three")]
    cells = read_sources([Source(paths[0], "new"), Source(paths[1], "new"), Source(paths[2], "old")], PLAIN).cells
    assert [(cell.model, cell.seed) for cell in cells] == [("new", "#1"), ("new", "#2"), ("old", "")]
    unnamed = read_sources([Source(path) for path in paths], PLAIN).cells
    assert [cell.model for cell in unnamed] == ["one", "two", "three"]
    for name in (None, "new"):
        with pytest.raises(SpecError, match=r"given twice.*one\.csv"):
            read_sources([Source(paths[0], name), Source(paths[0].parent / "." / ".." / paths[0].parent.name / "one.csv", name)], PLAIN)
    assert [cell.model for cell in read_sources([Source(paths[0], "a"), Source(paths[0], "b")], PLAIN).cells] == ["a", "b"]


def test_two_logs_of_one_model_are_called_by_their_paths_and_that_is_said(write: Write) -> None:
    for folder in ("before", "after"):
        write(f"{folder}/samples_arc_{DATE}.jsonl", lm_eval_rows([1.0, 0.0]))
        path = write(f"{folder}/results_{DATE}.json", RESULTS)
    reading = read_sources([Source(path.parent.parent / name) for name in ("before", "after")], PLAIN)
    assert [cell.model for cell in reading.cells] == ["before", "after"]
    assert any("org/model-a" in note for note in reading.notes)


def test_a_folder_with_two_logs_of_one_task_is_refused_with_both_names(write: Write) -> None:
    write(f"m/samples_arc_{DATE}.jsonl", lm_eval_rows([1.0]))
    path = write("m/samples_arc_2026-02-02T00-00-00.000000.jsonl", lm_eval_rows([1.0]))
    with pytest.raises(SpecError, match=r"2 logs of task 'arc'.*samples_arc_2026-01.*samples_arc_2026-02"):
        read_path(path.parent, PLAIN)


def test_a_path_with_an_equals_sign_that_exists_is_a_path(write: Write) -> None:
    path = write("lr=1.csv", "item,score\nq1,1\n")
    assert parse_source(str(path)) == Source(path)
    assert parse_source(f"best={path}") == Source(path, "best")
