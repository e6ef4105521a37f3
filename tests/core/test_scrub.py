"""Places and names are taken out of records; web addresses, item-like texts and everything relative stay."""

from __future__ import annotations

import pytest

from harness.core.scrub import scrubbed, scrubbed_command, scrubbed_text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("/home/alice", "<path>"),
        ("file:/home/alice", "file:<path>"),
        ("file:///home/alice/models/tiny", "file:tiny"),
        ("file:/home/ann/models/tiny", "file:tiny"),
        ("file:/data/tiny", "file:tiny"),
        ("file:../models/tiny", "file:tiny"),
        ("file:alice/tiny", "file:tiny"),
        ("the student file:/home/alice/tiny, merged", "the student file:tiny, merged"),
        ("file:/data/alice smith/models/tiny", "file:tiny"),
        ("file:C:\\Users\\alice smith\\tiny", "file:tiny"),
        ("/users/alice/p/x", "<path>/x"),
        ("/nfs/home/alice/x", "<path>/x"),
        ("/media/alice/disk/x", "<path>/x"),
        ("/storage/alice/x", "<path>/x"),
        ("/gscratch/lab/alice/x", "<path>/x"),
        ("/project/def-alice/alice/x", "<path>/x"),
        ("/project/def-alice", "<path>"),
        ("/export/home/alice", "<path>"),
        ("/Volumes/Alice/x", "<path>/x"),
        (r"\\srv\share\alice\x", "<path>/x"),
        (r"copied to \\srv\share\alice\x, see there", "copied to <path>/x, see there"),
        ("/lustre01/alice/x", "<path>/x"),
        ("/home1/alice/x.bin", "<path>/x.bin"),
        ("/home/alice smith/models/x.bin", "<path>/x.bin"),
        ("cannot read /home/alice smith/models/x.bin: gone", "cannot read <path>/x.bin: gone"),
        ("cannot read '/data/my disk/alice b. smith/old models/x.bin'", "cannot read '<path>/x.bin'"),
        ("no such file: /scratch/ann/run-7/x.parquet, try again", "no such file: <path>/x.parquet, try again"),
        ("It lies in /scratch/ann/x.parquet.", "It lies in <path>/x.parquet."),
        (r"C:\Users\ann\model", "<path>/model"),
        (r"C:\Users\ann", "<path>"),
        ("D:/work/ann/model", "<path>/model"),
        ("~alice/models/x", "<path>/x"),
        ("../../home/alice/x.yaml", "<path>/x.yaml"),
        ("-I/home/alice/include", "<path>/include"),
        ("PATH=/home/alice/bin:/usr/local/bin", "PATH=<path>/bin:<path>/bin"),
        ("s3://bucket/users/alice/x", "<path>/x"),
        ("/tmp/study.yaml", "<path>/study.yaml"),
        ("/scratch/study.yaml", "<path>/study.yaml"),
        ("/scratch/alice", "<path>"),
    ],
)
def test_paths_are_cut(text: str, kept: str) -> None:
    assert scrubbed_text(text) == kept
    assert scrubbed_text(kept) == kept
    assert scrubbed({text: [text]}) == {kept: [kept]}


@pytest.mark.parametrize(
    "text",
    [
        "selfteach run studies/x.yaml --out results/runs/x",
        "either/or and 3/4 and https://example.org/home/x and http://hub/users/ann",
        "the /dataset of /homework, or a pool",
        "org/model-1 at 1e9 FLOP/s",
        "<b>bold</b> </td> and the path <path>/x",
        "Linux-6.1.0-x86_64-with-glibc2.39",
        "profile: brief",
        "file:tiny",
        "~/models/x",
        "",
        "/",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert scrubbed_text(text) == text


def test_names_go_as_whole_words_and_where_they_end_a_path() -> None:
    names = ("alice", "login1")
    assert scrubbed_text("alice@login1: malice of alice's alice_2", names) == "<name>@<name>: malice of <name>'s alice_2"
    assert scrubbed_text("/project/def-lab/members/alice", names) == "<path>"
    assert scrubbed_text("../alice/x.yaml", names) == "../<name>/x.yaml"
    assert scrubbed({"alice": 1, "of alice": 2}, names) == {"alice": 1, "of <name>": 2}


def test_keys_that_become_the_same_are_kept_apart() -> None:
    assert scrubbed({"/home/ann/x": 1, "/data/bob/x": 2}) == {"<path>/x": 1, "<path>/x (2)": 2}


def test_a_setting_called_host_stays() -> None:
    assert scrubbed({"config": {"host": "annotators.example.org", "n": 3}}) == {"config": {"host": "annotators.example.org", "n": 3}}


def test_each_word_of_a_command_is_a_word() -> None:
    command = "selfteach run '/home/alice smith/x.yaml' --out /scratch/alice/runs/y --limit 3"
    assert scrubbed_command(command) == "selfteach run <path>/x.yaml --out <path>/y --limit 3"
    assert scrubbed({"command": command}) == {"command": "selfteach run <path>/x.yaml --out <path>/y --limit 3"}
    assert scrubbed_command("selfteach run 'my study.yaml' /home/ann/results") == "selfteach run 'my study.yaml' <path>/results"
    assert scrubbed_command("unbalanced ' /home/ann/runs/x") == "unbalanced ' <path>/x"
