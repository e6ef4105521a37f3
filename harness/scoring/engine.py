"""The student as an lm-eval model: shared-prefix log-likelihoods, and generation through the student's own engine.

Gives the log-likelihoods of lm-eval's Hugging Face backend with logits_cache=False (within 2e-4 in float32), with the context of an
item's choices computed once, the LM head run only where it is needed, tokenisation in batches, and one device synchronisation per batch.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import has_bos_prefix, normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from harness.core.records import Completion
from harness.models.student import compute_dtype
from harness.scoring.packing import TokenPair, truncate
from harness.scoring.prefix import Score, TokenBudget, score_pairs, unshareable

log = logging.getLogger(__name__)

Dtype = Literal["float32", "bfloat16"]
TOKEN_BUDGETS = {"cpu": 1024, "cuda": 32_768}
"""Padded tokens in a batch where they were fastest (CPU: measured at 1024, 2048, 4096)."""


PROMPTS = 128
"""Prompts given to the student at once; between them progress is reported."""


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
    """An lm-eval model over a student.

    Args:
        dtype: "float32" or "bfloat16" (autocast over the weights' own type); default: bfloat16 where the device computes it in hardware.
        seed: of sampled generations (greedy ones need none).
        max_length: most tokens the model sees at once; default: its maximum position.
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
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        super().__init__()
        self.student, self.model, self.tokenizer = student, student.model, student.tokenizer
        self._device = self.model.device
        self.dtype = getattr(torch, dtype) if dtype else compute_dtype(self.model.device)
        self.seed = seed
        self._budget = TokenBudget(token_budget or TOKEN_BUDGETS.get(self.model.device.type, TOKEN_BUDGETS["cpu"]))
        self._unshareable: list[str | None] = []
        self.max_length = max_length or _max_length(self.model.config)
        self.progress: Callable[[int, int], None] = progress or (lambda done, total: None)
        self._completions: dict[tuple[str, str], list[Completion]] = {}

    @property
    def eot_token_id(self) -> int:
        """The end-of-text token."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """What an empty context is conditioned on: the beginning-of-sequence token, else the end-of-text token."""
        return self.eot_token_id if self.tokenizer.bos_token_id is None else int(self.tokenizer.bos_token_id)

    @property
    def tokenizer_name(self) -> str:
        """Identifies the tokenizer in lm-eval's records."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The rendered conversation; `generate_until` gets it back as its context."""
        rendered: str = self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return rendered

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids of one string."""
        return self._encode([string], add_special_tokens)[0]

    def _encode(self, strings: Sequence[str], add_special_tokens: bool | None = None) -> list[list[int]]:
        """Token ids; a beginning-of-sequence token that is already in the text is not added again."""
        if not strings:
            return []
        if add_special_tokens is not None:
            return list(self.tokenizer(list(strings), add_special_tokens=add_special_tokens)["input_ids"])
        bos = self.tokenizer.decode(self.prefix_token_id)
        kinds = [bool(has_bos_prefix(string, bos)) for string in strings]
        encoded: dict[int, list[int]] = {}
        for has_bos in (False, True):
            rows = [row for row, kind in enumerate(kinds) if kind == has_bos]
            if rows:
                options = {"add_special_tokens": False} if has_bos else {}
                ids = self.tokenizer([strings[row] for row in rows], **options)["input_ids"]
                encoded.update(zip(rows, ids, strict=True))
        return [encoded[row] for row in range(len(strings))]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-probability and greediness of each (context, continuation)."""
        pairs = self._encode_pairs([request.args for request in requests])
        return [(score.logprob, score.greedy) for score in self._score(pairs)]

    def _encode_pairs(self, texts: Sequence[tuple[str, str]]) -> list[TokenPair]:
        """Splits as lm-eval does: spaces that end a context belong to the continuation; the whole is encoded, then cut."""
        split = [(context.rstrip(), context[len(context.rstrip()) :] + continuation) if context else ("", continuation)
                 for context, continuation in texts]  # fmt: skip
        contexts = list(dict.fromkeys(context for context, _ in split if context))
        context_ids = dict(zip(contexts, self._encode(contexts), strict=True))
        whole_ids = iter(self._encode([context + continuation for context, continuation in split if context]))
        bare_ids = iter(self._encode([continuation for context, continuation in split if not context], add_special_tokens=False))
        pairs = []
        for context, _ in split:
            if context:
                head = context_ids[context]
                pairs.append(truncate(head, next(whole_ids)[len(head) :], self.max_length))
                continue
            ids = next(bare_ids)
            head = [] if ids[0] == self.prefix_token_id else [self.prefix_token_id]
            pairs.append(truncate(head or ids[:1], ids if head else ids[1:], self.max_length))
        return pairs

    def _loglikelihood_tokens(self, requests: list[tuple[Any, list[int], list[int]]], **_: Any) -> list[tuple[float, bool]]:
        """lm-eval's own seam: pairs that are already token ids."""
        scores = self._score([truncate(head, tail, self.max_length) for _, head, tail in requests])
        return [(score.logprob, score.greedy) for score in scores]

    def _score(self, pairs: Sequence[TokenPair]) -> list[Score]:
        self.model.eval()
        return score_pairs(
            self.model,
            pairs,
            budget=self._budget,
            autocast=torch.bfloat16 if self.dtype == torch.bfloat16 else None,
            share=self._shares(),
            progress=self.progress,
        )

    def _shares(self) -> bool:
        """Whether shared tokens are computed once; says so, once, if they cannot be."""
        if not self._unshareable:
            self._unshareable = [unshareable(self.model)]
            if self._unshareable[0]:
                name = type(self.model).__name__
                log.warning("%s: every request is computed by itself, because %s (up to several times slower)", name, self._unshareable[0])
        return self._unshareable[0] is None

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Log-probability of whole texts, long ones in windows of the maximum length."""
        windows: list[list[TokenPair]] = []
        for (string,), ids in zip(
            [request.args for request in requests], self._encode([request.args[0] for request in requests]), strict=True
        ):
            assert ids, string
            rolled = get_rolling_token_windows(
                token_list=ids, prefix_token=self.prefix_token_id, max_seq_len=self.max_length, context_len=1
            )
            windows.append([truncate(head, tail, self.max_length) for head, tail in map(make_disjoint_window, rolled)])
        scores = iter(self._score([pair for window in windows for pair in window]))
        return [sum(next(scores).logprob for _ in window) for window in windows]

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
        by_count: dict[int, list[str]] = defaultdict(list)
        for prompt, count in prompts.items():
            by_count[count if temperature > 0 else 1].append(prompt)
        done = 0
        for n, texts in by_count.items():
            texts.sort(key=lambda text: (-len(text), text))  # batches do not depend on the order of requests
            for chunk in (texts[at : at + PROMPTS] for at in range(0, len(texts), PROMPTS)):
                completions = self.student.generate_text(
                    self._fitted(chunk, self.max_length - max_new_tokens),
                    max_new_tokens=max_new_tokens,
                    temperature=temperature,
                    n=n,
                    seed=self.seed,
                    stop=tuple(text for text in settings["until"] if text),
                )
                self._completions.update({(text, key): list(found) for text, found in zip(chunk, completions, strict=True)})
                done += len(chunk)
                self.progress(done, len(prompts))

    def _fitted(self, prompts: Sequence[str], max_tokens: int) -> list[str]:
        """Prompts cut from the left to `max_tokens`, so that the answer fits."""
        assert max_tokens > 0, max_tokens
        encoded = self._encode(prompts, add_special_tokens=False)
        return [
            prompt if len(ids) <= max_tokens else self.tokenizer.decode(ids[-max_tokens:])
            for prompt, ids in zip(prompts, encoded, strict=True)
        ]

    def completion(self, prompt: str, settings: dict[str, Any]) -> Completion:
        """The first completion that `generate_until` made for a prompt under lm-eval's generation settings."""
        return self._completions[prompt, _key(settings)][0]


def _key(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def _max_length(config: Any) -> int:
    text = config.get_text_config()
    return int(getattr(text, "max_position_embeddings", 2048))
