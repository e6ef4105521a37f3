"""Trust-region policy optimisation for the operation policy: natural gradient, conjugate gradients, line search under a KL limit.

Schulman et al. 2015 (appendix C). Damping, iteration counts and backtracking are the published code's (docs/method-card.md); MAX_KL is 0.05
instead of 0.01: with rollouts of a few dozen steps the published limit moves the policy too little for learning to show.
`trust_region_step` is shared with the faithful mode (selfteach.faithful), which keeps the published limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from harness.core.flops import linear_flops
from selfteach.policy import ActorCritic, Experience

MAX_KL, DAMPING, CG_STEPS = 0.05, 0.1, 10
BACKTRACKS, SHRINK, ACCEPT_RATIO = 10, 0.5, 0.1
KL_SLACK = 1.5
VALUE_EPOCHS = 10


def improve_by_trpo(network: ActorCritic, optimiser: torch.optim.Optimizer, experience: Experience) -> None:
    """One natural-gradient step of the actor, MAX_KL long (measured, at most half as much again); the critic is fitted by the optimiser."""
    with torch.no_grad():
        old_N_A = network.logprobs(experience.states_N_D)

    def surrogate() -> Tensor:
        return (experience.log_ratio(network.logprobs(experience.states_N_D)).exp() * experience.advantage_N).mean()

    def divergence() -> Tensor:
        return (old_N_A.exp() * (old_N_A - network.logprobs(experience.states_N_D))).sum(1).mean()

    parameters = list(network.actor.parameters())
    before_fisher = network.charger(fisher_flops(network.actor, len(experience.states_N_D)))
    trust_region_step(parameters, surrogate, divergence, max_kl=MAX_KL, kl_slack=KL_SLACK, before_fisher=before_fisher)
    for _ in range(VALUE_EPOCHS):
        optimiser.zero_grad()
        nn.functional.mse_loss(network.values(experience.states_N_D), experience.return_N).backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def trust_region_step(
    parameters: Sequence[nn.Parameter],
    surrogate: Callable[[], Tensor],
    divergence: Callable[[], Tensor],
    *,
    max_kl: float,
    kl_slack: float | None,
    before_fisher: Callable[[], None],
) -> bool:
    """Moves `parameters` along the natural gradient of `surrogate`; returns whether a step was taken.

    The step is sqrt(2 max_kl / xᵀFx) x with (F + damping) x = gradient, halved until the surrogate gains enough; without that no step is
    taken.

    Args:
        surrogate: what to raise, at the parameters' present values.
        divergence: mean KL from the policy that acted, at the parameters' present values; its second derivative there is F.
        kl_slack: a step whose measured KL exceeds `kl_slack` × max_kl is halved too; None does not look (as the published code).
        before_fisher: called before each Fisher-vector product, to pay for it.
    """
    start = surrogate()
    gradient = _flat(torch.autograd.grad(start, parameters))
    kl_gradient = _flat(torch.autograd.grad(divergence(), parameters, create_graph=True))

    def fisher_times(vector: Tensor) -> Tensor:
        before_fisher()
        product = torch.autograd.grad(kl_gradient @ vector, parameters, retain_graph=True)
        return _flat(product) + DAMPING * vector

    direction = conjugate_gradients(fisher_times, gradient, steps=CG_STEPS)
    curvature = direction @ fisher_times(direction)
    if not float(curvature) > 0:
        return False
    step = direction * (2 * max_kl / curvature).sqrt()
    most_kl = float("inf") if kl_slack is None else kl_slack * max_kl
    return _line_search(
        parameters, surrogate, divergence, step, expected=float(gradient @ step), start=float(start.detach()), most_kl=most_kl
    )


def conjugate_gradients(times: Callable[[Tensor], Tensor], target: Tensor, *, steps: int, tolerance: float = 1e-10) -> Tensor:
    """Solves A x = `target` for a symmetric positive definite A known by its products `times`."""
    solution, residual = torch.zeros_like(target), target.clone()
    direction, squared = residual.clone(), float(residual @ residual)
    for _ in range(steps):
        if squared < tolerance:
            break
        product = times(direction)
        size = squared / float(direction @ product)
        solution, residual = solution + size * direction, residual - size * product
        before, squared = squared, float(residual @ residual)
        direction = residual + squared / before * direction
    return solution


def fisher_flops(actor: nn.Sequential, positions: int) -> float:
    """FLOPs of one Fisher-vector product of an MLP at `positions` states: twice through KL's graph and its gradient's (`flops-v1`).

    A layer's two matmuls of the backward pass cost four more when they are differentiated, and its forward two; of the first layer, whose
    input needs no gradient, one and one remain.
    """
    first, *rest = [layer.weight.numel() for layer in actor if isinstance(layer, nn.Linear)]
    return 2 * linear_flops(first, positions) + 6 * linear_flops(sum(rest), positions)


@torch.no_grad()
def _line_search(
    parameters: Sequence[nn.Parameter],
    surrogate: Callable[[], Tensor],
    divergence: Callable[[], Tensor],
    step: Tensor,
    *,
    expected: float,
    start: float,
    most_kl: float,
) -> bool:
    before = nn.utils.parameters_to_vector(parameters)
    for backtrack in range(BACKTRACKS):
        share = SHRINK**backtrack
        nn.utils.vector_to_parameters(before + share * step, parameters)
        gain = float(surrogate()) - start
        # The second condition costs a forward pass: it is looked at only where the first holds.
        if gain > max(ACCEPT_RATIO * share * expected, 0) and (most_kl == float("inf") or float(divergence()) <= most_kl):
            return True
    nn.utils.vector_to_parameters(before, parameters)
    return False


def _flat(tensors: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
