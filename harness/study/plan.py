"""From a study to trials and stages, each stage under an id hashed from everything that determines its result.

A stage's id covers its part of the spec, the seed, the student's weights, package versions, device, threads and what it builds on; it does
not cover the study's name. Equal ids are computed once: methods without randomness (`seedless`) serve all seeds. What a study does not
ask for (checkpoints, tuning, caps, folds) leaves no trace in ids, so that runs made before these existed stay valid.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel

from harness.core import grid, parts, plugins, provenance
from harness.core.spec import MethodSpec, PoolSpec, StudentSpec, StudySpec
from harness.core.suite_spec import SuiteSpec
from harness.models.device import device_and_precision
from harness.models.engines.vllm_install import require_vllm
from harness.scoring.perturbations import VERSION as PERTURBATION_VERSION
from harness.study.stage_ids import StageIds

StageKind = Literal["train", "score", "checkpoints", "tune", "prepare"]
"""checkpoints: scores the students kept along a run. tune: trains one candidate of a grid and scores it on the validation suites.
prepare: the first part that the training of several trials has in common (harness.core.parts), computed once."""


@dataclass(frozen=True)
class Stage:
    """One unit of work, done in one process. `inputs` are stages that must be finished first; `content` is what the id hashes."""

    id: str
    kind: StageKind
    label: str
    seed: int
    inputs: tuple[str, ...]
    content: dict[str, Any]
    note: str = ""
    """What tells it from others of its kind, label and seed: the candidate's values, the family left out."""
    budget_share: float = 1.0
    """The share of its training budget that it is expected to compute itself: less than all where a first part is shared."""

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.kind} {self.label} seed {self.seed}" + (f" ({self.note})" if self.note else "")

    @property
    def prepared(self) -> str | None:
        """The id of the stage that a train stage takes its first part from."""
        return self.inputs[0] if self.kind == "train" and self.inputs and "tuned" not in self.content else None


@dataclass(frozen=True)
class Trial:
    """A method under one configuration with one training seed. `seedless` trials stand for every seed of the study.

    `fold` names the family that a trial of a cross-validation leaves out of the pool; it is scored on that family alone.
    """

    id: str
    method: str
    variant: str | None
    label: str
    seed: int
    seedless: bool
    train_stage: str
    score_stage: str
    checkpoint_stage: str | None = None
    tune_stages: tuple[str, ...] = ()
    fold: str | None = None

    @property
    def stages(self) -> list[str]:
        """Ids of the trial's own stages, in order."""
        return [stage for stage in (self.train_stage, self.score_stage, self.checkpoint_stage) if stage]


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


def plan_study(study: StudySpec, *, weights: str, setting: Setting, other_weights: Mapping[str, str] | None = None) -> Plan:
    """Expands a study.

    Args:
        weights: sha256 of the student's weights.
        setting: what the machine contributes.
        other_weights: the same of a sweep's further students, by model.
    """
    return _Planner(study, weights, setting, other_weights or {}).plan()


class _Planner:
    def __init__(self, study: StudySpec, weights: str, setting: Setting, other_weights: Mapping[str, str]) -> None:
        self.study, self.weights, self.setting, self.other_weights = study, weights, setting, other_weights
        self.versions = provenance.versions()
        if study.student.engine == "vllm":
            self.versions["engine"] = require_vllm().version
        self.stages: dict[str, Stage] = {}
        self.trials: list[Trial] = []
        self._id = StageIds()
        self._trainings: dict[tuple[str, str | None], dict[str, Any]] = {}
        """By label and family left out, what determines a training run."""
        self._configs: dict[int, tuple[MethodSpec, BaseModel]] = {}
        """By `id` of a method: itself, so that the number stays its own, and its settings as the plug-in completes them."""
        self._contents: dict[str, dict[str, Any]] = {}
        """What describes methods, pools and students, as the plug-ins complete it: each worked out once for all stages."""
        self._first: dict[str, tuple[dict[str, Any], float]] = {}
        """By label, the method with the settings that determine the first part of its training, and the share of the budget of that."""
        self._evaluation = [suite.model_dump(mode="json") for suite in study.suites if plugins.load("suites", suite.name).evaluation]
        self._setting = asdict(setting)
        self._caps = study.budget.caps.model_dump(mode="json", exclude_none=True)
        self._asked = self._suites(study.suites)
        self._perturbations = [each.model_dump(mode="json", exclude_defaults=True) for each in study.perturbations]

    def plan(self) -> Plan:
        shareable = hasattr(plugins.load("pools", self.study.pool.name), "restore")
        for method in self.study.methods:
            plugin = plugins.load("methods", method.name)
            if shareable and parts.in_two_parts(plugin):
                config = self._config(method)
                first = self._method_content(method) | {"config": parts.first_config(plugin, config).model_dump(mode="json")}
                self._first[method.label] = first, float(plugin.first_share(config))
            seedless = bool(getattr(plugin, "seedless", False))
            tuning = [] if seedless or self.study.tune is None else self._tune_stages(method)
            for seed in self.study.seeds[:1] if seedless else self.study.seeds:
                self._trial(method, seed, seedless, tuning)
                for family in folds(self.study):
                    self._trial(method, seed, seedless, tuning, fold=family)
        return Plan(self.trials, self._shared(), self.setting)

    def _shared(self) -> dict[str, Stage]:
        """The stages, with one stage for every first part that the training of two or more trials has in common."""
        users: dict[str, list[Stage]] = {}
        first_of: dict[str, str] = {}
        for stage in self.stages.values():
            if content := self._first_content(stage):
                first_of[stage.id] = self._id(content)
                users.setdefault(first_of[stage.id], []).append(stage)
        found: dict[str, Stage] = {}
        for stage in self.stages.values():
            first = first_of.get(stage.id, "")
            if len(users.get(first, ())) < 2:
                found[stage.id] = stage
                continue
            share = self._first[stage.label][1]
            if first not in found:
                note = f"for {len(users[first])} trials" + (f", {stage.note}" if stage.note else "")
                found[first] = Stage(first, "prepare", stage.label, stage.seed, (), self._first_content(stage), note, share)
            # What a stage is made from does not depend on who made it: the id stays that of a trial run alone.
            found[stage.id] = replace(stage, inputs=(first,), budget_share=1 - share)
        return found

    def _first_content(self, stage: Stage) -> dict[str, Any]:
        """What determines the first part of a train stage; nothing where it has none to share. Tuned settings are known too late."""
        if stage.kind != "train" or "tuned" in stage.content or stage.label not in self._first:
            return {}
        return {**stage.content, "kind": "prepare", "method": self._first[stage.label][0]}

    def _trial(self, method: MethodSpec, seed: int, seedless: bool, tuning: list[Stage], fold: str | None = None) -> None:
        kept = self.study.checkpoints is not None and not seedless and fold is None
        # An untrained student is the same without any family.
        train = self._add(self._train_stage(method, seed, tuning, kept, None if seedless else fold))
        score = self._add(self._score_stage(method, seed, train, fold))
        checkpoints = self._add(self._checkpoint_stage(method, seed, train)).id if kept else None
        tuned = tuple(stage.id for stage in tuning)
        trial_id = f"{method.label}-{'all' if seedless else seed}" + (f"-without-{fold}" if fold else "")
        self.trials.append(
            Trial(trial_id, method.name, method.variant, method.label, seed, seedless, train.id, score.id, checkpoints, tuned, fold)
        )

    def _add(self, stage: Stage) -> Stage:
        return self.stages.setdefault(stage.id, stage)

    def _tune_stages(self, method: MethodSpec) -> list[Stage]:
        tune = self.study.tune
        assert tune is not None
        tried = grid.candidates(method_grid(self.study, method))
        flops = tune.flops / max(1, len(tried) * len(tune.seeds))
        found = []
        for values in tried:
            for seed in tune.seeds:
                content = {
                    **self._training(method.model_copy(update={"config": grid.with_values(method.config, values)}), self.study.pool),
                    "kind": "tune",
                    "seed": seed,
                    "values": values,
                    "train_flops": flops,
                    "validation": self._suites(tune.suites),
                }
                found.append(self._add(Stage(self._id(content), "tune", method.label, seed, (), content, grid.written(values))))
        return found

    def _train_stage(self, method: MethodSpec, seed: int, tuning: list[Stage], kept: bool, fold: str | None) -> Stage:
        if (method.label, fold) not in self._trainings:
            pool = self.study.pool if fold is None else pool_without(self.study.pool, fold)
            self._trainings[method.label, fold] = self._training(method, pool)
        content = {"kind": "train", **self._trainings[method.label, fold], "seed": seed}
        if tuning:
            content["tuned"] = [stage.id for stage in tuning]
        if kept and self.study.checkpoints is not None:
            content["checkpoints"] = self.study.checkpoints.shares
        inputs = tuple(stage.id for stage in tuning)
        return Stage(self._id(content), "train", method.label, seed, inputs, content, f"without {fold}" if fold else "")

    def _training(self, method: MethodSpec, pool: PoolSpec) -> dict[str, Any]:
        """What determines a training run, but for its seed."""
        # Configurations are hashed as the plug-in completes them, so that writing out a default changes nothing.
        study, plugin = self.study, plugins.load("methods", method.name)
        content = {
            "method": self._method_content(method),
            "pool": self._pool_content(pool),
            "student": self._student_content(study.student_of(method)),
            # What trains nothing is the same at every budget of a sweep.
            "train_flops": study.budget.train_flops if getattr(plugin, "seedless", False) else study.train_flops_of(method),
            # The pool keeps clear of every evaluation item, so the suites shape what is trained on.
            "suites": self._evaluation,
            "setting": self._setting,
            "versions": self.versions,
        }
        if self._caps:
            content["caps"] = self._caps | ({"prices": study.prices} if "usd" in self._caps else {})
        return content

    def _student_content(self, student: StudentSpec) -> dict[str, Any]:
        known = f"student {student.model_dump_json()}"
        if known not in self._contents:
            weights = self.other_weights.get(student.model, self.weights)
            self._contents[known] = {"weights": weights, "adaptation": student.adaptation.model_dump(mode="json")}
        return self._contents[known]

    def _method_content(self, method: MethodSpec) -> dict[str, Any]:
        known = json.dumps([method.name, method.config], sort_keys=True, default=repr)
        if known not in self._contents:
            config = self._config(method).model_dump(mode="json")
            self._contents[known] = {"name": method.name, "config": config, "from": plugins.distribution("methods", method.name)}
        return self._contents[known]

    def _config(self, method: MethodSpec) -> BaseModel:
        known = id(method)
        if known not in self._configs:
            self._configs[known] = method, plugins.load("methods", method.name).Config(**method.config)
        return self._configs[known][1]

    def _pool_content(self, pool: PoolSpec) -> dict[str, Any]:
        known = json.dumps(["pool", pool.name, pool.config], sort_keys=True, default=repr)
        if known not in self._contents:
            config = plugins.load("pools", pool.name).Config(**pool.config)
            contents = {"contents": config.fingerprint()} if hasattr(config, "fingerprint") else {}
            about = {"name": pool.name, "config": config.model_dump(mode="json"), "from": plugins.distribution("pools", pool.name)}
            self._contents[known] = about | contents
        return self._contents[known]

    def _score_stage(self, method: MethodSpec, seed: int, train: Stage, fold: str | None) -> Stage:
        suites = self.study.suites if fold is None else fold_suites(self.study, fold)
        perturbations = self._perturbations if fold is None else []
        content = self._scoring("score", train, suites) | {"perturbations": perturbations}
        if perturbations or any(name.startswith("robust:") for suite in suites for name in suite.tasks or ()):
            content["perturbation_version"] = PERTURBATION_VERSION
        return Stage(self._id(content), "score", method.label, seed, (train.id,), content, f"on {fold}" if fold else "")

    def _checkpoint_stage(self, method: MethodSpec, seed: int, train: Stage) -> Stage:
        content = self._scoring("checkpoints", train, checkpoint_suites(self.study))
        return Stage(self._id(content), "checkpoints", method.label, seed, (train.id,), content)

    def _scoring(self, kind: StageKind, train: Stage, suites: list[SuiteSpec]) -> dict[str, Any]:
        return {
            "kind": kind,
            "inputs": [train.id],
            "suites": self._asked if suites is self.study.suites else self._suites(suites),
            "setting": self._setting,
            "versions": self.versions,
        }

    def _suites(self, suites: list[SuiteSpec]) -> list[dict[str, Any]]:
        return [{**suite.model_dump(mode="json"), "from": plugins.distribution("suites", suite.name)} for suite in suites]


def needed(stages: Iterable[Stage], done: set[str]) -> list[Stage]:
    """The stages that are still to do: those not done, but for first parts whose trials are all trained."""
    missing = [stage for stage in stages if stage.id not in done]
    wanted = {upstream for stage in missing for upstream in stage.inputs}
    return [stage for stage in missing if stage.kind != "prepare" or stage.id in wanted]


def checkpoint_suites(study: StudySpec) -> list[SuiteSpec]:
    """What students kept along the runs are scored on."""
    return (study.checkpoints.suites if study.checkpoints else None) or study.suites


def method_grid(study: StudySpec, method: MethodSpec) -> dict[str, list[Any]]:
    """What tuning tries for a method: the study's grid under one of its names, else its own, less what the study sets itself."""
    assert study.tune is not None
    declared = getattr(plugins.load("methods", method.name), "grid", {})
    given = next((study.tune.grids[name] for name in method.names if name in study.tune.grids), declared)
    return grid.unset(given, method.config)


def local_setting(threads: int) -> Setting:
    """This machine's device and number format, with `threads` threads for each worker."""
    return Setting(*device_and_precision(), threads)


def folds(study: StudySpec) -> list[str]:
    """The families that are left out of training in turn."""
    if study.folds is None:
        return []
    if study.folds.leave_out is not None:
        return study.folds.leave_out
    pool = plugins.load("pools", study.pool.name)
    return list(pool.families(pool.Config(**study.pool.config)))


def pool_without(pool: PoolSpec, family: str) -> PoolSpec:
    """The pool less one family."""
    plugin = plugins.load("pools", pool.name)
    config = plugin.without(plugin.Config(**pool.config), family)
    return PoolSpec(name=pool.name, config=config.model_dump(mode="json"))


def fold_suites(study: StudySpec, family: str) -> list[SuiteSpec]:
    """What a trial that was trained without `family` is scored on: that family's items of the pool's validation tasks."""
    pool = plugins.load("pools", study.pool.name)
    suite, task = pool.family_task
    return [SuiteSpec(name=suite, tasks=(task,), families=(family,))]
