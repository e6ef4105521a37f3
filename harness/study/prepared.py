"""A first part on disk: what its stage leaves, and how a trial's training goes on from there as if it had done it itself.

made/                    what the method's `begin` wrote
weights.safetensors      trained weights as they are, and the states of torch's random generators
state.json               everything booked in the ledger, texts trained on, what the pool gave out, other random states, cap reached
checkpoints/             students kept along the way
"""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from harness.core.budget import Ledger
from harness.models.student import Student
from harness.study.stage import CHECKPOINT_MODELS

MADE = "made"
STATE = "state.json"
WEIGHTS = "weights.safetensors"
_RANDOM = "random state of "


@dataclass(frozen=True)
class Prepared:
    """What a first part has come to: spend at each kept student, why a cap ended it (or nothing), FLOPs and seconds that it took."""

    kept: list[dict[str, Any]]
    ended_by: str
    train_flops: float
    wall_s: float


def save(folder: Path, student: Student, pool: Any, ledger: Ledger, *, kept: list[dict[str, Any]], ended_by: str) -> None:
    """Writes all that `resume` needs beside what `begin` made and the kept students, which lie in `folder` already."""
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in student.model.named_parameters() if weight.requires_grad}
    tensors[_RANDOM + "cpu"] = torch.get_rng_state()
    if student.device.type == "cuda":
        tensors[_RANDOM + "cuda"] = torch.cuda.get_rng_state(student.device)
    save_file(tensors, folder / WEIGHTS)
    version, words, gauss = random.getstate()
    algorithm, keys, *rest = np.random.get_state()
    state = {
        "ledger": ledger.state(),
        "pool": pool.state(),
        "trained_on": list(student.trained_on),
        "in_training_mode": [name for name, module in student.model.named_modules() if module.training],
        "python": [version, list(words), gauss],
        "numpy": [algorithm, np.asarray(keys).tolist(), *rest],
        "kept": kept,
        "ended_by": ended_by,
    }
    (folder / STATE).write_text(json.dumps(state) + "\n", encoding="utf-8")


def resume(prepared: Path, student: Student, pool: Any, ledger: Ledger, out: Path) -> Prepared:
    """Brings a freshly loaded student, a new pool and an unused ledger to where `save` left others, and copies what was made into `out`."""
    state, tensors = json.loads((prepared / STATE).read_text(encoding="utf-8")), load_file(prepared / WEIGHTS)
    weights = {name: weight for name, weight in student.model.named_parameters() if weight.requires_grad}
    saved = {name for name in tensors if not name.startswith(_RANDOM)}
    assert saved == weights.keys(), saved ^ weights.keys()
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(tensors[name])
    student.trained_on = dict.fromkeys((prompt, response) for prompt, response in state["trained_on"])
    # New adapters start in training mode: copies made of them would drop out what those of a student in evaluation mode do not.
    in_training_mode = set(state["in_training_mode"])
    for name, module in student.model.named_modules():
        module.training = name in in_training_mode
    pool.restore(state["pool"])
    ledger.resume(state["ledger"])
    for source, target in ((prepared / MADE, out), (prepared / CHECKPOINT_MODELS, out / CHECKPOINT_MODELS)):
        if source.exists():
            shutil.copytree(source, target, dirs_exist_ok=True)
    torch.set_rng_state(tensors[_RANDOM + "cpu"])
    if student.device.type == "cuda":
        torch.cuda.set_rng_state(tensors[_RANDOM + "cuda"], student.device)
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    algorithm, keys, *rest = state["numpy"]
    np.random.set_state((algorithm, np.asarray(keys, dtype=np.uint32), *rest))
    return Prepared(state["kept"], state["ended_by"], ledger.spent(), state["ledger"]["wall_s"])
