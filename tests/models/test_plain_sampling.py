"""Samples are the model's own, whatever its generation_config.json would have them be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.models.student import Student

SETTINGS = [{"repetition_penalty": 5.0}, {"min_p": 0.9}, {"typical_p": 0.2}, {"no_repeat_ngram_size": 1}, {"top_k": 1}, {"top_p": 0.01}]


@pytest.mark.parametrize("settings", SETTINGS, ids=[next(iter(settings)) for settings in SETTINGS])
def test_a_generation_config_does_not_change_samples(tiny_model: Path, settings: dict[str, Any]) -> None:
    student = Student.load(f"file:{tiny_model}", adaptation=None, seed=0)
    student.model.generation_config.eos_token_id = 100  # long replies, in which tokens come again

    def sample() -> list[str]:
        (replies,) = student.generate_text(["abcabc"], max_new_tokens=24, temperature=1.0, n=8, seed=0)
        return [reply.text for reply in replies]

    before = sample()
    student.model.generation_config.update(**settings)
    assert sample() == before
