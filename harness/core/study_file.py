"""From a YAML file to a StudySpec, or to one message that says where the mistake is."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from harness.core import plugins
from harness.core.spec import StudySpec
from harness.core.suite_spec import SuiteSpec
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
        self._check_claims(study)
        return study

    def _check_student(self, study: StudySpec) -> None:
        known, name = import_module("harness.models.registry").KNOWN, study.student.model
        models = [model for model, source in known.items() if source.kind == "model"]
        at = ("student", "model")
        if name in known and name not in models:
            raise self._file.fail(f"a model is expected, this names {_KINDS[known[name].kind]}", at, name, models)
        if name not in known and not name.startswith(("hub:", "file:", "pypi:")):
            forms = "expected a known model, hub:org/name[@revision], file:/path or pypi:<package>==<version>#<member>"
            raise self._file.fail(forms, at, name, models)

    def _check_plugins(self, study: StudySpec) -> None:
        self._check_config("pools", study.pool.name, study.pool.config, ("pool",))
        for index, method in enumerate(study.methods):
            self._check_config("methods", method.name, method.config, ("methods", index))
        chosen: set[tuple[str, str]] = set()
        for index, suite in enumerate(study.suites):
            for task in self._check_suite(suite, ("suites", index)):
                if (suite.name, task) in chosen:
                    raise self._file.fail(f"task {task} of suite {suite.name} is asked for twice", ("suites", index))
                chosen.add((suite.name, task))
        known = import_module("harness.scoring.perturbations").PERTURBATIONS
        for index, name in enumerate(study.perturbations):
            if name not in known:
                raise self._file.fail("unknown perturbation", ("perturbations", index), name, known)
        self._file.validated(import_module("harness.scoring.cost").Prices, study.prices, ("prices",))

    def _check_config(self, kind: plugins.Kind, name: str, config: dict[str, Any], at: Location) -> None:
        if name not in plugins.names(kind):
            raise self._file.fail(f"unknown {kind.removesuffix('s')}", (*at, "name"), name, plugins.names(kind))
        plugin = plugins.load(kind, name, file=self.path, key=key_path((*at, "name")))
        self._file.validated(plugin.Config, config, (*at, "config"))

    def _check_suite(self, suite: SuiteSpec, at: Location) -> list[str]:
        """The names of the suite's tasks that the study scores."""
        if suite.name not in plugins.names("suites"):
            raise self._file.fail("unknown suite", (*at, "name"), suite.name, plugins.names("suites"))
        offered = [task.name for task in plugins.load("suites", suite.name, file=self.path).tasks]
        for index, name in enumerate(suite.tasks or ()):
            if name not in offered:
                raise self._file.fail(f"suite {suite.name} has no such task", (*at, "tasks", index), name, offered)
        for name in suite.limit if isinstance(suite.limit, dict) else ():
            if name not in offered:
                raise self._file.fail(f"suite {suite.name} has no such task", (*at, "limit", name), name, offered)
        return offered if suite.tasks is None else list(suite.tasks)

    def _check_claims(self, study: StudySpec) -> None:
        claims = import_module("harness.verdicts.claims")
        for index, name in enumerate(study.claims):
            try:
                path = claims.find_claims(name, self.path.parent)
            except SpecError as error:
                raise self._file.fail(error.expected, ("claims", index), name, claims.shipped_claims()) from error
            claims.load_claims(path)  # a mistake in it must not wait until everything is trained


_KINDS = {"embedder": "an embedder", "data": "a data set", "package": "an installed package"}
