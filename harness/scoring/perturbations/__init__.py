"""Changes to a prompt that leave its answer as it is: noise, wording, layout, order.

Any lm-eval task can be perturbed. What an answer hangs on is protected: quoted text, code, tokens with digits or symbols, list and
choice lines, labels ("Question:"), the answer cue, logical words, and whatever a task lists. A perturbed item depends on its sample id
(and the perturbation's strength and seed) only, so that it is the same for every method and training seed.
"""

from harness.scoring.perturbations.layout import DISTRACTORS
from harness.scoring.perturbations.protect import occurrences, protected_mask
from harness.scoring.perturbations.registry import PERTURBATIONS, VERSION, Perturbation, perturb, perturb_doc, stream

__all__ = ["DISTRACTORS", "PERTURBATIONS", "VERSION", "Perturbation", "occurrences", "perturb", "perturb_doc", "protected_mask", "stream"]
