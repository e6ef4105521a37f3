"""From a study to trials and stages, each stage under an id hashed from everything that determines its result.

A stage's id covers its part of the spec, the seed, the student's weights, package versions, device, threads and what it builds on; it does
not cover the study's name. Equal ids are computed once: methods without randomness (`seedless`) serve all seeds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from harness.core import plugins, provenance
from harness.core.spec import MethodSpec, StudySpec

StageKind = Literal["train", "score"]


@dataclass(frozen=True)
class Stage:
    """One unit of work, done in one process. `inputs` are stages that must be finished first; `content` is what the id hashes."""

    id: str
    kind: StageKind
    label: str
    seed: int
    inputs: tuple[str, ...]
    content: dict[str, Any]

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.kind} {self.label} seed {self.seed}"


@dataclass(frozen=True)
class Trial:
    """A method under one configuration with one training seed. `seedless` trials stand for every seed of the study."""

    id: str
    method: str
    variant: str | None
    label: str
    seed: int
    seedless: bool
    train_stage: str
    score_stage: str


@dataclass(frozen=True)
class Setting:
    """What the machine contributes to a result: device, number format, threads of one worker."""

    device: str
    precision: str
    threads: int


@dataclass(frozen=True)
class Plan:
    """A study's trials, and its stages in an order in which inputs come first."""

    trials: list[Trial]
    stages: dict[str, Stage]
    setting: Setting

    def as_json(self) -> dict[str, Any]:
        """For study.json."""
        return {
            "trials": [asdict(trial) for trial in self.trials],
            "stages": [{key: value for key, value in asdict(stage).items() if key != "content"} for stage in self.stages.values()],
            "setting": asdict(self.setting),
        }


def plan_study(study: StudySpec, *, weights: str, setting: Setting) -> Plan:
    """Expands a study.

    Args:
        weights: sha256 of the student's weights.
        setting: what the machine contributes.
    """
    stages: dict[str, Stage] = {}
    trials = []
    for method in study.methods:
        seedless = bool(getattr(plugins.load("methods", method.name), "seedless", False))
        for seed in study.seeds[:1] if seedless else study.seeds:
            train = _train_stage(study, method, seed, weights=weights, setting=setting)
            score = _score_stage(study, method, seed, train, setting=setting)
            stages.setdefault(train.id, train)
            stages.setdefault(score.id, score)
            trial_id = f"{method.label}-{'all' if seedless else seed}"
            trials.append(Trial(trial_id, method.name, method.variant, method.label, seed, seedless, train.id, score.id))
    return Plan(trials, stages, setting)


def local_setting(threads: int) -> Setting:
    """This machine's device and number format, with `threads` threads for each worker."""
    import torch

    from harness.models.student import compute_dtype, default_device

    device = default_device()
    name = f"cuda {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type
    return Setting(name, str(compute_dtype(device)).removeprefix("torch."), threads)


def stage_id(content: dict[str, Any]) -> str:
    """The first 16 hex digits of the content's sha256."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _train_stage(study: StudySpec, method: MethodSpec, seed: int, *, weights: str, setting: Setting) -> Stage:
    # Configurations are hashed as the plug-in completes them, so that writing out a default changes nothing.
    method_config = plugins.load("methods", method.name).Config(**method.config).model_dump(mode="json")
    pool_config = plugins.load("pools", study.pool.name).Config(**study.pool.config).model_dump(mode="json")
    content = {
        "kind": "train",
        "method": {"name": method.name, "config": method_config, "from": plugins.distribution("methods", method.name)},
        "pool": {"name": study.pool.name, "config": pool_config, "from": plugins.distribution("pools", study.pool.name)},
        "seed": seed,
        "student": {"weights": weights, "adaptation": study.student.adaptation.model_dump(mode="json")},
        "train_flops": study.budget.train_flops,
        # The pool keeps clear of every evaluation item, so the suites shape what is trained on.
        "suites": [suite.model_dump(mode="json") for suite in study.suites if plugins.load("suites", suite.name).evaluation],
        "setting": asdict(setting),
        "versions": provenance.versions(),
    }
    return Stage(stage_id(content), "train", method.label, seed, (), content)


def _score_stage(study: StudySpec, method: MethodSpec, seed: int, train: Stage, *, setting: Setting) -> Stage:
    content = {
        "kind": "score",
        "inputs": [train.id],
        "suites": [{**suite.model_dump(mode="json"), "from": plugins.distribution("suites", suite.name)} for suite in study.suites],
        "perturbations": study.perturbations,
        "setting": asdict(setting),
        "versions": provenance.versions(),
    }
    return Stage(stage_id(content), "score", method.label, seed, (train.id,), content)
