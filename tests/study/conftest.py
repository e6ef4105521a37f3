"""A workplace for studies in tests: a tiny random model, a third party's plug-ins on the path, and study files built from a template."""

from __future__ import annotations

import os
import shutil
import signal
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

PLUGINS = Path(__file__).parent / "plugins"
PYTHONPATH = os.pathsep.join([str(Path(__file__).parents[2]), str(PLUGINS)])
"""For processes that tests start: the tree under test comes before one that may be installed."""


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def write_tiny_model(folder: Path) -> Path:
    """A random two-layer Llama with one token per character."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {letter: index for index, letter in enumerate(string.printable)} | {"<e>": len(string.printable)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<e>", pad_token="<e>", bos_token="<e>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=256, initializer_range=0.4, eos_token_id=100, bos_token_id=100, pad_token_id=100,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@dataclass
class Workplace:
    """Where a test's studies lie and run."""

    root: Path
    model: Path
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def run_dir(self) -> Path:
        return self.root / "results" / "runs" / "toy"

    def write(self, **changes: Any) -> Path:
        """A study file: the template with top-level keys replaced (None removes one)."""
        content = {
            "name": "toy",
            "student": {"model": f"file:{self.model}", "adaptation": {"kind": "lora", "rank": 4, "alpha": 8}},
            "pool": {"name": "toy_pool"},
            "budget": {"train_flops": 3e8},
            "seeds": [0, 1],
            "methods": [{"name": "toy_base"}, {"name": "toy_sft"}],
            "suites": ["toy_suite"],
            "perturbations": [{"name": "typos", "min_similarity": 0.0}],
        } | changes
        path = self.root / "toy.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}, sort_keys=False))
        return path

    def start(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        """Starts `selfteach <arguments>` in the workplace, in its own process group."""
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.cli", *map(str, arguments)],
            cwd=self.root,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def selfteach(self, *arguments: object, **environment: str) -> tuple[int, str]:
        """Runs `selfteach <arguments>` to its end; exit code and everything it printed."""
        process = self.start(*arguments, **environment)
        output, _ = process.communicate(timeout=600)
        return process.returncode, output

    def main(self, *arguments: object) -> int:
        """Runs `selfteach <arguments>` in this process (workers are processes of their own all the same); the exit code."""
        from harness.cli import main

        with pytest.raises(SystemExit) as stop:
            main([*map(str, arguments)])
        return int(stop.value.code or 0)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Waits until `condition` holds; fails the test after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The run folder of the template study, computed without interruption."""
    place = Workplace(tmp_path_factory.mktemp("reference"), tiny_model)
    code, output = place.selfteach("run", place.write(), PYTHONPATH=PYTHONPATH, XDG_CACHE_HOME=str(place.root / "cache"))
    assert code == 0, output
    return place.run_dir


@pytest.fixture(scope="session")
def published_once(tmp_path_factory: pytest.TempPathFactory, reference: Path) -> Path:
    """The reference run as published; not to be changed."""
    from harness.cli.conclude import conclude_with_tables
    from harness.core.publish import publish_run

    out = tmp_path_factory.mktemp("published") / "results" / "toy"
    publish_run(reference, out, partial=False, conclude=conclude_with_tables)
    return out


@pytest.fixture
def published(published_once: Path, workplace: Workplace) -> Path:
    """A copy of the published reference run in the workplace."""
    return Path(shutil.copytree(published_once, workplace.root / "results" / "toy"))


@pytest.fixture
def workplace(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(PLUGINS))
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    place = Workplace(tmp_path, tiny_model)
    yield place
    for process in place.running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
