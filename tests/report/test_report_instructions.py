from report_helpers import unpacked
from synthetic_run import HOSTILE, synthetic_run

from harness.report.instructions import browser


def test_every_row_is_there_with_its_lineage():
    run = synthetic_run(seeds=2, items=2)
    found = browser(run.corpora)
    rows = [(trial, row) for trial, corpus in run.corpora.items() for row in corpus]
    assert found["shown"] == found["total"] == len(rows)
    payload = unpacked(found["packed"])
    texts = payload["texts"]
    for (trial, row), packed in zip(rows, payload["rows"], strict=True):
        at, name, operation, kept, reason, _, steps, response, facts = packed
        assert (payload["trials"][at], name, texts[operation], kept) == (trial, row["id"], row["operation"], row["kept"])
        assert [(texts[step], texts[text]) for step, text in steps] == [(step["operation"], step["text"]) for step in row["lineage"]]
        assert kept or row["reject_reason"].startswith(texts[reason])
        assert (None if response is None else texts[response]) == row["response"]
        assert "passed 25.0\u202f% of 4 samples" in texts[facts]


def test_what_does_not_fit_is_left_out_the_same_way_each_time():
    corpora = synthetic_run(seeds=2, items=2).corpora
    small = browser(corpora, size_limit_bytes=3000)
    assert 0 < small["shown"] < small["total"]
    assert len(small["packed"]["data"]) <= 3000
    assert small == browser(corpora, size_limit_bytes=3000)


def test_sparse_rows_and_hostile_text():
    found = browser({"t": [{"id": "a\x00", "kept": False, "instruction": HOSTILE}]})
    (row,) = unpacked(found["packed"])["rows"]
    assert row[1] == "a⟨U+0000⟩"
    assert browser({})["total"] == 0
