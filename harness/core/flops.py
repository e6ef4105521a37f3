"""FLOP convention `flops-v1`: what one forward and backward of a transformer costs.

Matrix-multiplication parameters only (an embedding lookup is free): a forward of T tokens is 2·N_mm·T, plus attention
4·layers·heads·head_dim·T·(P+T) after P cached tokens (full matrix, as torch's FlopCounterMode counts it), plus 2·N_head for every
position the output head is evaluated at. The backward by its true parts: each matmul costs one forward for the gradient of its input and
one more for that of its weight if the weight is trained (so 2× for full fine-tuning, less for LoRA); attention 2×. Gradient
checkpointing repeats the forward once, up to the last product of a layer that its backward needs. Not counted: norms, activations, softmax,
rotary embeddings, sampling, the optimiser's update (elementwise; under 2 % at the sizes tested, see tests/models/test_meter.py).
"""

from __future__ import annotations

from dataclasses import dataclass

CONVENTION = "flops-v1"


@dataclass(frozen=True)
class Shape:
    """What `flops-v1` needs to know of a transformer body.

    Args:
        frozen_params: matmul parameters whose gradient is not computed.
        trained_params: matmul parameters whose gradient is computed.
        layers, heads, head_dim: of the attention.
        no_input_grad_params: frozen matmul parameters that read the embeddings directly, whose input needs no gradient.
        not_repeated_params: matmul parameters that gradient checkpointing leaves out when it repeats the forward, because nothing in their
            layer's backward needs their product.
    """

    frozen_params: int
    trained_params: int
    layers: int
    heads: int
    head_dim: int
    no_input_grad_params: int = 0
    not_repeated_params: int = 0


def attention_flops(shape: Shape, pairs: float) -> float:
    """FLOPs of both attention matmuls (scores, and scores times values) for so many (query, key) pairs in each layer."""
    return 4.0 * shape.layers * shape.heads * shape.head_dim * pairs


def forward_flops(shape: Shape, rows: int, new_tokens: int, past_tokens: float = 0, *, attention_pairs: float | None = None) -> float:
    """FLOPs of the body's forward on `rows` sequences of `new_tokens` (padding included) after `past_tokens` cached ones.

    Args:
        attention_pairs: (query, key) pairs that attention computes, where they are not the full matrix.
    """
    matmul = 2.0 * (shape.frozen_params + shape.trained_params) * rows * new_tokens
    pairs = rows * new_tokens * (past_tokens + new_tokens) if attention_pairs is None else attention_pairs
    return matmul + attention_flops(shape, pairs)


def backward_flops(shape: Shape, rows: int, new_tokens: int) -> float:
    """FLOPs of the body's backward on `rows` sequences of `new_tokens`."""
    per_token = 2.0 * (shape.frozen_params - shape.no_input_grad_params) + 4.0 * shape.trained_params
    return per_token * rows * new_tokens + 2.0 * attention_flops(shape, rows * new_tokens**2)


def repeated_flops(shape: Shape, rows: int, new_tokens: int) -> float:
    """FLOPs of the forward that gradient checkpointing repeats."""
    return forward_flops(shape, rows, new_tokens) - 2.0 * shape.not_repeated_params * rows * new_tokens


def linear_flops(params: int, positions: int, *, input_grad: bool = False, weight_grad: bool = False) -> float:
    """FLOPs of one matmul weight (an output head, say) at `positions`, with the gradients that will be computed of its input and weight."""
    return 2.0 * params * positions * (1 + input_grad + weight_grad)
