"""The interface of engines: token ids in, token ids or log-probabilities out, everything charged to the student's ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol, get_args

from harness.models.generation import PrefixCaches

EngineName = Literal["transformers", "vllm"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)


class PairScore(NamedTuple):
    """Summed log-probability (nats) of a continuation, and whether greedy decoding would produce it."""

    logprob: float
    greedy: bool


class Engine(Protocol):
    """Computes with a student's weights as they are at the call."""

    name: EngineName

    def generate_tokens(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        prefixes: Sequence[Sequence[int]],
        n: int,
        max_new_tokens: int,
        temperature: float,
        seed: int,
        prefix_caches: PrefixCaches | None = None,
        stopped: Callable[[Sequence[int]], bool] | None = None,
    ) -> list[list[list[int]]]:
        """Samples `n` replies to each prompt; see `harness.models.generation.generate_tokens`.

        Raises:
            BudgetExceeded: the ledger refused.
        """
        ...

    def score_pairs(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[PairScore]:
        """Scores each (context, continuation), neither of them empty."""
        ...

    def close(self) -> None:
        """Ends what the engine has started; it starts again when it is next used."""
        ...
