"""Trust-region policy optimisation for the operation policy: natural gradient, conjugate gradients, line search under a KL limit.

Schulman et al. 2015 (appendix C). Damping, iteration counts and backtracking are METHODS.md's; MAX_KL is 0.05 instead of 0.01: with
rollouts of a few dozen steps the published limit moves the policy too little for learning to show.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from selfteach.policy import ActorCritic, Experience

MAX_KL, DAMPING, CG_STEPS = 0.05, 0.1, 10
BACKTRACKS, SHRINK, ACCEPT_RATIO = 10, 0.5, 0.1
VALUE_EPOCHS = 10


def improve_by_trpo(network: ActorCritic, optimiser: torch.optim.Optimizer, experience: Experience) -> None:
    """One natural-gradient step of the actor, MAX_KL long (measured, at most half as much again); the critic is fitted by the optimiser.

    A step that the line search cannot make better within the limit is not taken. Fisher-vector products are not metered: the meter sees
    forward passes and first-order backwards only (known error: about 10 × 2 backwards of a 10k-parameter net an update).
    """
    parameters = list(network.actor.parameters())
    logprobs_N_A = network.logprobs(experience.states_N_D)
    surrogate = (experience.log_ratio(logprobs_N_A).exp() * experience.advantage_N).mean()
    gradient = _flat(torch.autograd.grad(surrogate, parameters, retain_graph=True))
    kl_gradient = _flat(torch.autograd.grad(_kl(logprobs_N_A.detach(), logprobs_N_A), parameters, create_graph=True))

    def fisher_times(vector: Tensor) -> Tensor:
        product = torch.autograd.grad(kl_gradient @ vector, parameters, retain_graph=True)
        return _flat(product) + DAMPING * vector

    direction = conjugate_gradients(fisher_times, gradient, steps=CG_STEPS)
    curvature = direction @ fisher_times(direction)
    if float(curvature) > 0:
        step = direction * (2 * MAX_KL / curvature).sqrt()
        _line_search(network, experience, logprobs_N_A.detach(), step, expected=float(gradient @ step), start=float(surrogate.detach()))
    for _ in range(VALUE_EPOCHS):
        optimiser.zero_grad()
        nn.functional.mse_loss(network.values(experience.states_N_D), experience.return_N).backward()  # type: ignore[no-untyped-call]
        optimiser.step()


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


@torch.no_grad()
def _line_search(network: ActorCritic, experience: Experience, old_N_A: Tensor, step: Tensor, *, expected: float, start: float) -> None:
    parameters = list(network.actor.parameters())
    before = nn.utils.parameters_to_vector(parameters)
    for backtrack in range(BACKTRACKS):
        share = SHRINK**backtrack
        nn.utils.vector_to_parameters(before + share * step, parameters)
        new_N_A = network.logprobs(experience.states_N_D)
        gain = float((experience.log_ratio(new_N_A).exp() * experience.advantage_N).mean()) - start
        if float(_kl(old_N_A, new_N_A)) <= 1.5 * MAX_KL and gain > ACCEPT_RATIO * share * expected:
            return
    nn.utils.vector_to_parameters(before, parameters)


def _kl(old_N_A: Tensor, new_N_A: Tensor) -> Tensor:
    return (old_N_A.exp() * (old_N_A - new_N_A)).sum(1).mean()


def _flat(tensors: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
