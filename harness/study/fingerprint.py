"""Which code a stage was computed by."""

from __future__ import annotations

from harness.core import plugins, provenance
from harness.core.spec import MethodSpec, StudySpec
from harness.study.plan import Stage

_HARNESS = ("harness.core", "harness.instructions", "harness.models", "harness.scoring", "harness.study")


def method_of(study: StudySpec, label: str) -> MethodSpec:
    """The study's method with this label."""
    (method,) = (method for method in study.methods if method.label == label)
    return method


def code_fingerprint(study: StudySpec, stage: Stage) -> str:
    """The start of a sha256 over the Python packages that a stage runs: ours, and those of its plug-ins."""
    packages = [*_HARNESS, *(plugins.package("suites", suite.name) for suite in study.suites)]
    if stage.kind in ("train", "tune", "prepare"):
        packages += [plugins.package("methods", stage.content["method"]["name"]), plugins.package("pools", study.pool.name)]
    return provenance.code_sha256(tuple(packages))[:16]
