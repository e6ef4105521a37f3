"""The student as an lm-eval model: log-likelihoods with every shared token computed once, and generation by the student's own engine.

Gives the log-likelihoods of lm-eval's Hugging Face backend with logits_cache=False (within 2e-4 in float32); docs/scoring.md says how.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs, resolve_max_length
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from harness.core.records import Completion
from harness.errors import SpecError
from harness.models.student import compute_dtype
from harness.scoring.encoding import Encoder
from harness.scoring.packing import TokenPair
from harness.scoring.prefix import Score, TokenBudget, score_pairs, unshareable
from harness.scoring.score_cache import ScoreCache, fingerprint

log = logging.getLogger(__name__)

Dtype = Literal["float32", "bfloat16"]
TOKEN_BUDGETS = {"cpu": 1024, "cuda": 32_768}
"""Tokens in a batch where they were fastest (CPU: measured at 512, 1024, 2048)."""
PROMPTS = 128
"""Prompts given to the student at once; between them progress is reported."""
IMPOSSIBLE = Score(float("-inf"), False)
"""What a request gets that cannot be scored: it never wins, and `StudentEngine.problem` has the reason."""
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "top_p": (None, 1, 1.0),
    "top_k": (None, 0),
    "min_p": (None, 0, 0.0),
    "num_beams": (None, 1),
    "repetition_penalty": (None, 1, 1.0),
    "no_repeat_ngram_size": (None, 0),
}
"""Settings of other samplers, and the values at which they do nothing."""
_IRRELEVANT_IF_GREEDY = ("top_p", "top_k", "min_p")


class ScoredStudent(Protocol):
    """What the engine needs of a student (harness.models.student.Student has it)."""

    name: str
    model: Any
    tokenizer: Any

    def generate_text(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float, n: int, seed: int, stop: Sequence[str]
    ) -> list[list[Completion]]:
        """`n` completions for each rendered prompt."""
        ...


class StudentEngine(TemplateLM):  # type: ignore[misc]  # lm-eval is untyped
    """An lm-eval model over a student. A student whose `engine` is another than transformers computes its log-likelihoods there.

    Args:
        dtype: "float32" or "bfloat16" (autocast where weights are float32); default: bfloat16 where the device computes it in hardware.
        seed: of sampled generations (greedy ones need none).
        max_length: most tokens the model sees at once; default: its maximum position.
        token_budget: most tokens computed at once; halved for good when memory runs out.
        add_bos_token, prefix_token_id: as in lm-eval's Hugging Face backend.
        cache: folder in which log-likelihoods are kept from run to run; None keeps none.
        progress: called with (done, in all) of what is being computed; may be replaced between runs.
    """

    backend = "causal"

    def __init__(
        self,
        student: ScoredStudent,
        *,
        dtype: Dtype | None = None,
        seed: int = 0,
        max_length: int | None = None,
        token_budget: int | None = None,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        cache: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        super().__init__()
        self.student, self.model, self.tokenizer = student, student.model, student.tokenizer
        self._device = self.model.device
        self.dtype = getattr(torch, dtype) if dtype else compute_dtype(self.model.device)
        self.seed = seed
        self.max_length: int = max_length or resolve_max_length(self.model.config, self.tokenizer)
        engine = getattr(student, "engine", None)
        self._other_engine = engine if engine is not None and engine.name != "transformers" else None
        if self._other_engine is not None:
            self.max_length = min(self.max_length, self._other_engine.max_length)
        self.encoder = Encoder(self.tokenizer, max_length=self.max_length, add_bos_token=add_bos_token, prefix_token_id=prefix_token_id)
        self.budget = TokenBudget(token_budget or TOKEN_BUDGETS.get(self.model.device.type, TOKEN_BUDGETS["cpu"]))
        self._cache = ScoreCache(cache) if cache is not None else None
        self.progress: Callable[[int, int], None] = progress or (lambda done, total: None)
        self._completions: dict[tuple[str, str], list[Completion]] = {}
        self._problems: dict[tuple[str, str], str] = {}

    @property
    def eot_token_id(self) -> int:
        """The end-of-text token."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What an empty context is conditioned on: the beginning-of-sequence token, else the end-of-text token."""
        return self.encoder.prefix_token_id

    @property
    def tokenizer_name(self) -> str:
        """Identifies the tokenizer in lm-eval's records."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The rendered conversation; `generate_until` gets it back as its context.

        A tokenizer without a template gets plain "Role: content" lines, as `Student.render` writes them.
        """
        if self.tokenizer.chat_template is None:
            turns = [f"{turn['role'].capitalize()}: {turn['content']}" for turn in chat_history]
            return "\n".join([*turns, "Assistant:"] if add_generation_prompt else turns)
        rendered: str = self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return rendered

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids of one string."""
        return self.encoder.encode([string], add_special_tokens=add_special_tokens)[0]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-probability and greediness of each (context, continuation); (-inf, False) for one that cannot be scored."""
        texts = [request.args for request in requests]
        encoded = self.encoder.pairs(texts)
        problems = {text: reason for text, reason in zip(texts, encoded, strict=True) if isinstance(reason, str)}
        self._problems.update(problems)
        if problems:
            log.warning(
                "%d of %d requests cannot be scored and count as impossible: %s", len(problems), len(texts), next(iter(problems.values()))
            )
        return self._with_impossible(encoded)

    def problem(self, context: str, continuation: str) -> str | None:
        """Why `loglikelihood` could not score this request; None if it could."""
        return self._problems.get((context, continuation))

    def _loglikelihood_tokens(self, requests: list[tuple[Any, list[int], list[int]]], **_: Any) -> list[tuple[float, bool]]:
        """lm-eval's own seam: pairs that are already token ids."""
        return self._with_impossible([self.encoder.pair(head, tail) for _, head, tail in requests])

    def _with_impossible(self, encoded: Sequence[TokenPair | str]) -> list[tuple[float, bool]]:
        scores = iter(self._score([pair for pair in encoded if not isinstance(pair, str)]))
        found = (IMPOSSIBLE if isinstance(pair, str) else next(scores) for pair in encoded)
        return [(score.logprob, score.greedy) for score in found]

    def _score(self, pairs: Sequence[TokenPair]) -> list[Score]:
        if not pairs:
            return []
        distinct = list(dict.fromkeys(pairs))
        mark = fingerprint(self.model, self.tokenizer, self.dtype) if self._cache else ""
        known = self._cache.find(mark, distinct) if self._cache else {}
        if known:
            self.progress(len(known), len(distinct))
        new = [pair for pair in distinct if pair not in known]
        if new:
            known |= self._computed(new, mark, before=len(known))
        return [known[pair] for pair in pairs]

    def _computed(self, pairs: Sequence[TokenPair], mark: str, *, before: int) -> dict[TokenPair, Score]:
        """Scores of distinct pairs, kept in the cache as they come."""
        scores: dict[TokenPair, Score] = {}
        self.model.eval()
        for batch in self._batches(pairs):
            scores |= batch
            if self._cache:
                self._cache.keep(mark, batch)
            self.progress(before + len(scores), before + len(pairs))
        return scores

    def _batches(self, pairs: Sequence[TokenPair]) -> Iterator[dict[TokenPair, Score]]:
        if self._other_engine is not None:
            found = self._other_engine.score_pairs(pairs)
            yield {pair: Score(*score) for pair, score in zip(pairs, found, strict=True)}
            return
        mixed = self.dtype == torch.bfloat16 and any(weight.dtype == torch.float32 for weight in self.model.parameters())
        yield from score_pairs(self.model, pairs, budget=self.budget, autocast=torch.bfloat16 if mixed else None, share=self.shares)

    @cached_property
    def shares(self) -> bool:
        """Whether shared tokens are computed once; says so, once, if they cannot be."""
        reason = unshareable(self.model)
        if reason:
            name = type(self.model).__name__
            log.warning("%s: every text is computed by itself, because %s (slower where items share a beginning)", name, reason)
        return reason is None

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-probability of whole texts, long ones in windows of the maximum length; an empty text has 0."""
        windows: list[list[TokenPair]] = []
        for ids in self.encoder.encode([request.args[0] for request in requests]):
            rolled = get_rolling_token_windows(
                token_list=ids, prefix_token=self.prefix_token_id, max_seq_len=self.max_length, context_len=1
            )
            cut = [self.encoder.pair(head, tail) for head, tail in map(make_disjoint_window, rolled)]
            windows.append([pair for pair in cut if not isinstance(pair, str)])
        scores = iter(self._score([pair for window in windows for pair in window]))
        return [sum((next(scores).logprob for _ in window), 0.0) for window in windows]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Completions of rendered prompts; equal greedy requests are generated once."""
        by_settings: dict[str, Counter[str]] = defaultdict(Counter)
        for request in requests:
            prompt, settings = request.args
            by_settings[_key(settings)][prompt] += 1
        for key, prompts in by_settings.items():
            self._generate(key, prompts)
        taken: Counter[tuple[str, str]] = Counter()
        texts = []
        for request in requests:
            slot = (request.args[0], _key(request.args[1]))
            completions = self._completions[slot]
            texts.append(completions[taken[slot] % len(completions)].text)
            taken[slot] += 1
        return texts

    def _generate(self, key: str, prompts: Counter[str]) -> None:
        settings = normalize_gen_kwargs(json.loads(key), default_max_gen_toks=256)
        max_new_tokens, temperature = settings["max_gen_toks"], float(settings.get("temperature", 0.0))
        _check_sampler(settings, greedy=temperature == 0)
        room = self.max_length - max_new_tokens
        if room <= 0:
            raise SpecError(f"expected less than the model's {self.max_length} tokens", key="max_gen_toks", value=max_new_tokens)
        by_count: dict[int, list[str]] = defaultdict(list)
        for prompt, count in prompts.items():
            by_count[count if temperature > 0 else 1].append(prompt)
        done = 0
        for n, texts in by_count.items():
            texts.sort(key=lambda text: (-len(text), text))  # batches do not depend on the order of requests
            for chunk in (texts[at : at + PROMPTS] for at in range(0, len(texts), PROMPTS)):
                completions = self.student.generate_text(
                    self.encoder.prompts(chunk, room),
                    max_new_tokens=max_new_tokens,
                    temperature=temperature,
                    n=n,
                    seed=self.seed,
                    stop=tuple(text for text in settings["until"] if text),
                )
                self._completions.update({(text, key): list(found) for text, found in zip(chunk, completions, strict=True)})
                done += len(chunk)
                self.progress(done, len(prompts))

    def completion(self, prompt: str, settings: dict[str, Any]) -> Completion:
        """The first completion that `generate_until` made for a prompt under lm-eval's generation settings."""
        return self._completions[prompt, _key(settings)][0]


def _key(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def _check_sampler(settings: dict[str, Any], *, greedy: bool) -> None:
    """Refuses what generation would silently leave out.

    Raises:
        SpecError: a setting that is not implemented.
    """
    for name, neutral in _NEUTRAL.items():
        if settings.get(name) not in neutral and not (greedy and name in _IRRELEVANT_IF_GREEDY):
            raise SpecError(
                "selfteach samples from the model's own distribution at a temperature, or greedily; leave this out or use --model hf",
                key=f"generation_kwargs.{name}",
                value=settings[name],
            )
