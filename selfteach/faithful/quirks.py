"""What the published code does that one would not do again, each a switch of its own, and the settings of the faithful mode.

Read off the code of SafeRL-Lab/TeaMs-RL (docs/method-card.md). All on is the published system.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Quirks(BaseModel):
    """True is what the published code does; the second half of each description is what False does instead."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    blind_state: bool = True
    """The state is the one-hot of the last action, zeros at reset: the text is never seen. Off: the instruction's embedding (projected to
    32 dimensions) and the step as a share of the horizon are appended."""
    running_normaliser: bool = True
    """States are z-scored by statistics that move with every observation, clipped to ±5: an action seldom taken is an outlier. Off: raw."""
    gaussian_argmax: bool = True
    """The action is the argmax of a 6-d Gaussian sample. Off: it is drawn from the softmax of the six outputs."""
    breadth_bonus: bool = True
    """0.3 is added to breadth's coordinate before the argmax, in training. Off: nothing is added."""
    one_hot_as_sample: bool = True
    """The one-hot is stored as if it were the Gaussian sample, so its log-probability is not the action's. Off: the sample is stored.
    Without `gaussian_argmax` there is no sample and the action's own log-probability is used either way."""
    persistent_lineage: bool = True
    """One instruction is evolved on and on, across episodes. Off: every episode starts at a fresh seed."""
    tiny_batch: bool = True
    """An update learns from a single episode of six steps. Off: from `lineages` episodes; the environment's steps stay as many."""
    tiny_kl: bool = True
    """An update may move the policy by a KL of 0.01. Off: by what selfteach.trpo allows."""
    exact_reply: bool = True
    """The reward is 1 if the reviewer's words are exactly "Not Equal"; "Not Equal." earns nothing. Off: its judgement counts."""
    normaliser_lost: bool = True
    """Generation starts with empty normaliser statistics. Off: with those of training."""
    constraint_bonus: bool = True
    """In generation 0.7 is added to add-constraint's coordinate. Off: nothing is added."""
    forced_breadth: bool = True
    """In generation steps 1 and 4 (from 0) are breadth, whatever the policy says. Off: the policy decides."""
    breadth_replaced: bool = True
    """In generation breadth chosen at any other step becomes add-constraint. Off: breadth it is."""
    no_elimination: bool = True
    """Whatever the executor makes is kept. Off: the elimination rules reject, and a lineage goes on from its last kept instruction."""

    @classmethod
    def none(cls) -> Quirks:
        """All off."""
        return cls(**dict.fromkeys(cls.model_fields, False))

    def without(self, name: str) -> Quirks:
        """The same with one quirk off."""
        assert name in type(self).model_fields, name
        return self.model_copy(update={name: False})


TRAINING_QUIRKS = (
    "blind_state",
    "running_normaliser",
    "gaussian_argmax",
    "breadth_bonus",
    "one_hot_as_sample",
    "persistent_lineage",
    "tiny_batch",
    "tiny_kl",
    "exact_reply",
)
"""Those that act in training; the others act in generation."""


class FaithfulConfig(BaseModel):
    """Settings of the faithful mode. Training ends after `environment_steps` applied operations: 200 updates × 6 in the published code."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    quirks: Quirks = Quirks()
    environment_steps: int = Field(default=1200, ge=1)
    horizon: int = Field(default=6, ge=2)
    lineages: int = Field(default=8, ge=1)
    """Episodes an update learns from where `quirks.tiny_batch` is off."""
    generation_lineages: int = Field(default=16, ge=1)
    """Seeds evolved as one batch in generation. The published code has 1, which only the running normaliser can tell apart."""

    @property
    def episodes_per_update(self) -> int:
        """B."""
        return 1 if self.quirks.tiny_batch else self.lineages
