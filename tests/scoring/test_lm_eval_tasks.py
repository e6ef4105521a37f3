"""lm-eval's own tasks by name; slow because lm-eval reads all of its 14,000 YAML files to know one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.core.suite_spec import SuiteSpec
from harness.errors import SpecError
from harness.scoring.lm_eval_tasks import lm_eval_task
from harness.scoring.suites import select


@pytest.mark.slow
def test_metric_kind_and_source_come_from_its_yaml() -> None:
    (arc, gsm8k, boolq) = select([SuiteSpec(name="lm_eval", tasks=("arc_challenge", "gsm8k", "boolq"), limit=7)])
    assert (arc.task.metric, arc.task.kind, arc.task.chance, arc.limit) == ("acc_norm", "choice", 0.25, 7)
    assert "ai2_arc" in arc.task.source
    assert (gsm8k.task.metric, gsm8k.task.kind) == ("exact_match,strict-match", "generation")
    assert boolq.suite.include_path is None, "lm-eval's own, not ours of the same name"
    assert "super_glue" in boolq.task.source


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"), [("arc_chalenge", "Did you mean 'arc_challenge'"), ("mmlu", "group"), ("wikitext", "no score for each sample")]
)
def test_what_is_no_task_with_samples_is_refused(name: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        lm_eval_task(name)


def test_tasks_must_be_named() -> None:
    with pytest.raises(SpecError, match="name some"):
        select([SuiteSpec(name="lm_eval")])


@pytest.mark.slow
def test_without_a_network_there_is_one_clear_message() -> None:
    command = [sys.executable, "-m", "harness.cli", "score", "--model", "smollm2-135m-instruct", "--suite", "lm_eval"]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([*command, "--tasks", "arc_challenge"], capture_output=True, text=True, env=offline, check=False)
    assert done.returncode == 3
    assert "the data of task arc_challenge cannot be had" in done.stderr
    assert "Traceback" not in done.stderr
