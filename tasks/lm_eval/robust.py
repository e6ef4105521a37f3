"""Perturbed versions of multiple-choice tasks for plain lm-eval: each text that its task's YAML lists under `perturb` is changed.

`selfteach` perturbs any task itself (perturbations of a study, `robust:<perturbation>:<task>`, `selfteach score --perturb`), with the
same text and with a check that the meaning stayed; these tasks are for those who run `lm_eval`.
"""

from __future__ import annotations

from typing import Any

from datasets import DatasetDict

from harness.scoring.perturbations import perturb
from tasks.lm_eval import choice

_FIELDS = ("passage", "question")
_READERS = {"boolq": choice.boolq, "openbookqa": choice.openbookqa, "siqa": choice.siqa}


def perturbed(*, of: str, perturbation: str, **_: Any) -> DatasetDict:
    """The documents of task `of` with their texts under `perturbation`; a distractor goes before the question only."""
    fields = _FIELDS[-1:] if perturbation == "distractor" else _FIELDS

    def changed(doc: dict[str, Any]) -> dict[str, Any]:
        protected = [*doc["protected"], *doc["choices"]]
        texts = {name: doc[name] for name in fields if doc[name]}
        return {name: perturb(text, perturbation, sample_id=doc["id"], protected=protected, field=name) for name, text in texts.items()}

    data = _READERS[of]()
    return DatasetDict({**data, "test": data["test"].map(changed)})
