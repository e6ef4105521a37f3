"""From a YAML file to a StudySpec, or to one message that says where the mistake is."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from harness.core import grid, plugins, sweep
from harness.core.grid import Grid
from harness.core.perturbation_spec import PerturbationSpec, robust_task
from harness.core.spec import CheckpointsSpec, FoldsSpec, MethodSpec, StudySpec, TuneSpec
from harness.core.suite_spec import SuiteSpec
from harness.core.sweep_spec import SweepSpec
from harness.core.yaml_file import Location, YamlFile, key_path
from harness.errors import SpecError


class StudyFile:
    """A study file while it is checked, down to the names of plug-ins and the keys of their configurations."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = YamlFile(path, "study")

    def load(self) -> StudySpec:
        """The checked study.

        Raises:
            SpecError: the first mistake found.
        """
        content = self._file.read()
        if not isinstance(content, dict):
            raise SpecError("a study file must be a mapping of keys such as name, student, methods", file=self.path)
        study = self._file.validated(StudySpec, content, ())
        self._check_student(study)
        self._check_plugins(study)
        study = self._anchored(study)
        if study.sweep is not None:
            study = sweep.expand(study, self._file, check_model=self._check_model)
        self._check_claims(study)
        if study.checkpoints is not None:
            self._check_checkpoints(study, study.checkpoints)
        if study.tune is not None:
            self._check_tune(study, study.tune)
        if study.folds is not None:
            self._check_folds(study, study.folds)
        if study.tuned is not None:
            study = import_module("harness.core.tuned").take(study, self._file)
            for index, method in enumerate(study.methods):
                self._check_config("methods", method.name, method.config, ("methods", index))
        return study

    def _check_student(self, study: StudySpec) -> None:
        self._check_model(study.student.model, ("student", "model"))

    def _check_model(self, name: str, at: Location) -> None:
        known = import_module("harness.models.registry").KNOWN
        models = [model for model, source in known.items() if source.kind == "model"]
        if name in known and name not in models:
            raise self._file.fail(f"a model is expected, this names {_KINDS[known[name].kind]}", at, name, models)
        if name not in known and not name.startswith(("hub:", "file:", "pypi:")):
            forms = "expected a known model, hub:org/name[@revision], file:/path or pypi:<package>==<version>#<member>"
            raise self._file.fail(forms, at, name, models)

    def _check_plugins(self, study: StudySpec) -> None:
        self._check_config("pools", study.pool.name, study.pool.config, ("pool",))
        for index, method in enumerate(study.methods):
            self._check_config("methods", method.name, method.config, ("methods", index))
            for key in ("levels", "at"):
                if getattr(method, key) is not None:
                    raise self._file.fail("is set by a sweep, not in a study file", ("methods", index, key))
        self._check_suites(study.suites, ("suites",))
        for index, perturbation in enumerate(study.perturbations):
            self._check_perturbation(perturbation, ("perturbations", index))
        self._file.validated(import_module("harness.scoring.cost").Prices, study.prices, ("prices",))

    def _check_config(self, kind: plugins.Kind, name: str, config: dict[str, Any], at: Location) -> None:
        if name not in plugins.names(kind):
            raise self._file.fail(f"unknown {kind.removesuffix('s')}", (*at, "name"), name, plugins.names(kind))
        plugin = plugins.load(kind, name, file=self.path, key=key_path((*at, "name")))
        self._file.validated(plugin.Config, config, (*at, "config"))

    def _anchored(self, study: StudySpec) -> StudySpec:
        """The study with its pool's paths, which are written relative to this file, found."""
        anchored = getattr(plugins.load("pools", study.pool.name).Config, "anchored", None)
        if anchored is None:
            return study
        try:
            config = anchored(study.pool.config, self.path.parent)
        except SpecError as error:
            raise self._file.fail(error.expected, ("pool", "config", *str(error.key).split(".")), error.value, error.valid) from error
        return study.model_copy(update={"pool": study.pool.model_copy(update={"config": config})})

    def _check_suites(self, suites: Sequence[SuiteSpec], at: Location) -> dict[str, str]:
        """Of every task that is scored the suite; a task's name tells scores apart, so it may be there once."""
        chosen: dict[str, str] = {}
        for index, suite in enumerate(suites):
            for task in self._check_suite(suite, (*at, index)):
                if task in chosen:
                    where = f"of suite {suite.name}" if chosen[task] == suite.name else f"of suites {chosen[task]} and {suite.name}"
                    raise self._file.fail(f"task {task} {where} is asked for twice", (*at, index))
                chosen[task] = suite.name
        return chosen

    def _check_suite(self, suite: SuiteSpec, at: Location) -> list[str]:
        """The names of the suite's tasks that the study scores."""
        if suite.name not in plugins.names("suites"):
            raise self._file.fail("unknown suite", (*at, "name"), suite.name, plugins.names("suites"))
        plugin = plugins.load("suites", suite.name, file=self.path)
        wanted = [self._plain_task(name, (*at, "tasks", index)) for index, name in enumerate(suite.tasks or ())]
        if plugin.any_task:
            try:
                import_module("harness.scoring.suites").select([suite])
            except SpecError as error:
                raise self._file.fail(error.expected, (*at, "tasks"), error.value) from None
            return list(dict.fromkeys(wanted))
        offered = [task.name for task in plugin.tasks]
        for index, name in enumerate(wanted):
            if name not in offered:
                raise self._file.fail(f"suite {suite.name} has no such task", (*at, "tasks", index), name, offered)
        for name in suite.limit if isinstance(suite.limit, dict) else ():
            if self._plain_task(name, (*at, "limit", name)) not in offered:
                raise self._file.fail(f"suite {suite.name} has no such task", (*at, "limit", name), name, offered)
        return offered if suite.tasks is None else list(dict.fromkeys(wanted))

    def _plain_task(self, name: str, at: Location) -> str:
        """The task of a name such as robust:typos:openbookqa."""
        try:
            robust = robust_task(name)
        except SpecError as error:
            raise self._file.fail(error.expected, at, name) from None
        if robust is None:
            return name
        self._check_perturbation(robust[0], at)
        return robust[1]

    def _check_perturbation(self, perturbation: PerturbationSpec, at: Location) -> None:
        known = import_module("harness.scoring.perturbations").PERTURBATIONS
        if perturbation.name not in known:
            raise self._file.fail("unknown perturbation", at, perturbation.name, known)
        if perturbation.strength is not None and not known[perturbation.name].adjustable:
            raise self._file.fail(f"{perturbation.name} has no strength to set", at, perturbation.label)

    def _check_checkpoints(self, study: StudySpec, checkpoints: CheckpointsSpec) -> None:
        final = self._check_suites(study.suites, ("suites",))
        at: Location = ("checkpoints", "suites")
        for index, suite in enumerate(checkpoints.suites or ()):
            for task in self._check_suite(suite, (*at, index)):
                if final.get(task) != suite.name:
                    raise self._file.fail("checkpoints can be scored only on what the study scores", (*at, index), task, list(final))
        self._check_suites(checkpoints.suites or (), at)

    def _check_tune(self, study: StudySpec, tune: TuneSpec) -> None:
        self._check_suites(tune.suites, ("tune", "suites"))
        for index, suite in enumerate(tune.suites):
            if plugins.load("suites", suite.name).evaluation:
                valid = [name for name in plugins.names("suites") if not plugins.load("suites", name).evaluation]
                text = "settings are chosen on a validation suite only, never on one that the study is judged by"
                raise self._file.fail(text, ("tune", "suites", index), suite.name, valid)
        labels = [method.label for method in study.methods]
        names = [*labels, *(method.name for method in study.methods if method.name not in labels)]
        for name, tried in tune.grids.items():
            if name not in names:
                raise self._file.fail("no method of this study", ("tune", "grids", name), name, names)
            for method in study.methods:
                if name in (method.label, method.name):
                    self._check_grid(method, tried, ("tune", "grids", name), study.sweep)

    def _check_grid(self, method: MethodSpec, tried: Grid, at: Location, swept: SweepSpec | None) -> None:
        plugin = plugins.load("methods", method.name)
        keys = grid.dotted_keys(plugin.Config)
        for key, values in tried.items():
            if key not in keys:
                raise self._file.fail(f"{method.name} has no such setting", (*at, key), key, keys)
            if grid.is_set(method.config, key) and at[-1] == method.label:
                axis = swept.axis_of(key) if swept is not None and set(swept.of_method) <= set(method.levels or {}) else None
                setter = "methods" if axis is None else f"the sweep's axis {axis}"
                raise self._file.fail(f"{setter} sets it for {method.label} already; leave it out here or there", (*at, key))
            if not values:
                raise self._file.fail("must have at least one value", (*at, key))
            for index, value in enumerate(values):
                try:
                    self._file.validated(plugin.Config, grid.with_values(method.config, {key: value}), ("methods",))
                except SpecError as error:
                    raise self._file.fail(error.expected, (*at, key, index), value) from None

    def _check_folds(self, study: StudySpec, folds: FoldsSpec) -> None:
        pool = plugins.load("pools", study.pool.name)
        if not hasattr(pool, "without"):
            raise self._file.fail(f"pool {study.pool.name} has no families to leave out", ("folds",))
        families = list(pool.families(pool.Config(**study.pool.config)))
        for index, family in enumerate(folds.leave_out or ()):
            if family not in families:
                raise self._file.fail("the study's pool has no such family", ("folds", "leave_out", index), family, families)
        if len(families) < 2:
            raise self._file.fail("a pool of one family has nothing to train on without it", ("folds",))

    def _check_claims(self, study: StudySpec) -> None:
        claims = import_module("harness.verdicts.claims")
        for index, name in enumerate(study.claims):
            try:
                path = claims.find_claims(name, self.path.parent)
            except SpecError as error:
                raise self._file.fail(error.expected, ("claims", index), name, claims.shipped_claims()) from error
            claims.load_claims(path)  # a mistake in it must not wait until everything is trained


_KINDS = {"embedder": "an embedder", "data": "a data set", "package": "an installed package"}
