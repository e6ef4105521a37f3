"""Self-Instruct: the student writes new instructions after the manner of the seeds, answers them, and is fine-tuned on what holds.

After Wang et al. 2023 (arXiv 2212.10560): a few seeds and a few instructions of its own are shown, the next one is sampled; kept is what
has more than 3 and at most 150 words, does not begin with a punctuation mark, speaks of no image, file or the like, and whose ROUGE-L with
everything kept is below 0.7. Differs from it where a model of this size needs it or the comparison does:
- Examples are chat turns ("Write a new task ...", then a seed), one new instruction a reply: where it should continue a numbered list, a
  135M model writes the answer, or the list, on (benchmarks/data_methods).
- Input and output are not written apart, and classification tasks not treated apart: an instruction is one text.
- An instruction that goes on to the token limit, repeats itself or shows chat marks is refused, and so is one that asks for nothing: it has
  no question mark and begins with no word that a seed begins with. Half of what a 135M model writes tells a story instead.
- An answer must hold: by rule where there is one, else by the samples' agreement, as in the self-teaching system (baselines/answers.py).
  The source trains on every answer: `accept: any` does.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from baselines.config import AnswersConfig
from baselines.replay import seed_examples
from harness.core.budget import Ledger
from harness.core.corpus import CORPUS, Row, write_rows
from harness.core.pool import TaskPool
from harness.core.records import Completion, Demonstration, Instruction, Message
from harness.errors import BudgetExceeded, SpecError
from harness.instructions.similarity import rouge_l
from harness.instructions.telltale import broken, chat_marks, normalise, refuses, repeats, words
from harness.models.finetune_config import FinetuneConfig

if TYPE_CHECKING:
    from harness.models.student import Student

OPERATION = "self_instruct"
ASK = "Write a new task for an assistant."
FEWEST_WORDS, MOST_WORDS = 4, 150
NOT_TEXT = frozenset({"image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps", "draw", "plot", "video",
                      "audio", "flowchart", "diagram"})  # fmt: skip
"""What a model of text can neither see nor make: the source's list, less "music" and "go to", which seeds of ours speak of."""


class SelfInstructConfig(BaseModel):
    """Settings of Self-Instruct."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    generate_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the budget for writing and answering; the rest fine-tunes."""
    human_shots: int = Field(default=6, ge=1)
    """Seeds shown before a new instruction."""
    machine_shots: int = Field(default=2, ge=0)
    """Instructions of its own shown beside them, as soon as there are any."""
    instructions_per_prompt: int = Field(default=8, ge=1)
    """New instructions sampled after the same examples."""
    temperature: float = Field(default=0.7, gt=0)
    """Of writing."""
    max_new_tokens: int = Field(default=64, ge=1)
    """Longest new instruction."""
    rouge_l: float = Field(default=0.7, gt=0, le=1)
    """An instruction this near to anything kept is refused."""
    accept: Literal["consistent", "any"] = "consistent"
    """consistent: an answer that the samples agree on. any: the first without a fault, as in the source (with `answers.samples: 1`)."""
    answers: AnswersConfig = AnswersConfig()
    finetune: FinetuneConfig = FinetuneConfig()


class SelfInstruct:
    """Self-made instructions without evolution."""

    name = "self_instruct"
    summary = "the student writes new instructions few-shot from the seeds (ROUGE-L < 0.7), answers them, and is fine-tuned on them"
    Config = SelfInstructConfig
    grid: ClassVar[dict[str, list[float]]] = {"finetune.learning_rate": [3e-4, 1e-3], "generate_share": [0.3, 0.5]}

    def train(
        self, student: Student, pool: TaskPool, ledger: Ledger, *, rng: np.random.Generator, config: SelfInstructConfig, out: Path
    ) -> Student:
        """Trains in place; writes corpus.jsonl (every instruction written, with why it was refused) to `out`.

        Raises:
            SpecError: nothing was kept, or the budget does not pay for one step.
        """
        from baselines.answers import Answerer, Origin, corpus_row
        from harness.models.finetune import finetune

        write_rng, answer_rng, finetune_rng = rng.spawn(3)
        stop_at = ledger.spent(ledger.account) + config.generate_share * ledger.remaining()
        seeds = pool.seeds()
        writer = Writer(student, pool, ledger, seeds, config=config, rng=write_rng)
        answerer = Answerer(
            student, pool, ledger, seeds, config=config.answers, shots=writer.nearest, accept_any=config.accept == "any"
        )  # fmt: skip
        rows: list[Row] = []
        step, dearest = 0, 0.0
        while True:
            before = ledger.spent(ledger.account)
            # An instruction that cannot be answered any more need not be written.
            most = int((stop_at - before) / dearest) if dearest else config.instructions_per_prompt
            drafts = writer.write(min(most, config.instructions_per_prompt), max_flops=stop_at - before)
            if not drafts:
                break
            new = [draft.instruction for draft in drafts if draft.reason is None]
            answers = answerer.answer(new, max_flops=stop_at - ledger.spent(ledger.account), rng=answer_rng)
            by_id = {answer.instruction.id: answer for answer in answers if answer is not None}
            dearest = max(dearest, (ledger.spent(ledger.account) - before) / len(drafts))
            for draft in drafts:
                origin = Origin(draft.seed.instruction, OPERATION, step)
                answer = by_id.get(draft.instruction.id) if draft.reason is None else None
                if answer is not None:
                    rows.append(answer.row(origin))
                else:
                    rows.append(corpus_row(draft.instruction, origin) | {"reject_reason": draft.reason or "budget: not answered"})
            step += 1
        write_rows(rows, out / CORPUS)
        examples = [([{"role": "user", "content": row["instruction"]}], row["response"]) for row in rows if row["kept"]]
        if not examples:
            raise SpecError(_nothing_kept(rows), key="budget.train_flops", value=ledger.train_flops)
        finetune(student, [*seed_examples(seeds), *examples], ledger, config=config.finetune, rng=finetune_rng, must_step=True)
        return student


@dataclass(frozen=True)
class Draft:
    """An instruction as written, the seed that it is nearest to in wording, and why it is refused (None: it is not)."""

    instruction: Instruction
    seed: Demonstration
    reason: str | None


@dataclass
class Writer:
    """Writes new instructions with the student as it was loaded; compute is charged to "execute"."""

    student: Student
    pool: TaskPool
    ledger: Ledger
    seeds: Sequence[Demonstration]
    config: SelfInstructConfig
    rng: np.random.Generator
    own: list[str] = field(default_factory=list)
    """What was written and not refused: shown as examples later on."""

    def __post_init__(self) -> None:
        self._tokens = {id(seed): words(seed.instruction.text) for seed in self.seeds}
        self._kept_tokens = list(self._tokens.values())
        self._seed_words = frozenset(word for tokens in self._kept_tokens for word in tokens)
        self._openings = frozenset(tokens[0] for tokens in self._kept_tokens if tokens)
        self._used_share = 1.0

    def write(self, n: int, *, max_flops: float) -> list[Draft]:
        """Up to `n` new instructions after one set of examples; fewer where compute is short, none where it does not pay for one."""
        turns = self._examples()
        while n and self._bound(turns, n) * self._used_share > max_flops:
            n //= 2
        if not n:
            return []
        bound, before = self._bound(turns, n), self.ledger.spent(self.ledger.account)
        try:
            with self.ledger.use_phase("execute"), self.student.as_loaded():
                (replies,) = self.student.generate(
                    [_asked()],
                    prefixes=[turns],
                    n=n,
                    max_new_tokens=self.config.max_new_tokens,
                    temperature=self.config.temperature,
                    seed=int(self.rng.integers(2**31)),
                )
        except BudgetExceeded:
            return []
        self._used_share = (self._used_share + (self.ledger.spent(self.ledger.account) - before) / bound) / 2
        return [self._draft(reply) for reply in replies]

    def nearest(self, instruction: Instruction) -> list[Demonstration]:
        """The seeds nearest to an instruction in wording, the nearest last: what its answers are shown."""
        tokens = words(instruction.text)
        ranked = sorted(self.seeds, key=lambda seed: (-rouge_l(tokens, self._tokens[id(seed)]), seed.instruction.id))
        return ranked[: self.config.answers.shots][::-1]

    def _examples(self) -> list[Message]:
        humans = [self.seeds[place].instruction.text for place in self.rng.permutation(len(self.seeds))[: self.config.human_shots]]
        machines = [self.own[place] for place in self.rng.permutation(len(self.own))[: self.config.machine_shots]]
        shown = [*humans, *machines]
        order = self.rng.permutation(len(shown))
        return [turn for place in order for turn in (*_asked(), {"role": "assistant", "content": shown[place]})]

    def _bound(self, turns: list[Message], n: int) -> float:
        from harness.models.bound import generation_bound

        return generation_bound(
            self.student, [_asked()], prefixes=[turns], prefix_caches={}, n=n, max_new_tokens=self.config.max_new_tokens
        )  # fmt: skip

    def _draft(self, reply: Completion) -> Draft:
        text = reply.text.strip()
        tokens = words(text)
        name = hashlib.sha256(f"{OPERATION}\0{text}".encode("utf-8", "replace")).hexdigest()[:16]
        seed = max(self.seeds, key=lambda seed: (rouge_l(tokens, self._tokens[id(seed)]), seed.instruction.id))
        instruction = Instruction(
            name, seed.instruction.pool, OPERATION, text, text, seed_id=seed.instruction.id, operation=OPERATION, step=1
        )  # fmt: skip
        reason = unusable(text, reply.finished, self._seed_words, self._openings)
        if reason is None and self.pool.contaminated(text):
            reason = "contaminated"
        if reason is None:
            overlap = max(rouge_l(tokens, kept) for kept in self._kept_tokens)
            reason = f"near duplicate: ROUGE-L {overlap:.2f}" if overlap >= self.config.rouge_l else None
        if reason is None:
            self._kept_tokens.append(tokens)
            self.own.append(text)
        return Draft(instruction, seed, reason)


def _asked() -> list[Message]:
    return [{"role": "user", "content": ASK}]


def unusable(text: str, finished: bool, seed_words: frozenset[str], openings: frozenset[str]) -> str | None:
    """Why a text cannot be an instruction, whatever else was kept.

    Args:
        seed_words: all words of the seeds: what they speak of can be asked for.
        openings: the words that seeds begin with.
    """
    if not finished:
        return "cut off"
    length = len(text.split())
    if not FEWEST_WORDS <= length <= MOST_WORDS:
        return f"length: {length} words, not {FEWEST_WORDS} to {MOST_WORDS}"
    if broken(text):
        return "broken characters"
    if not re.match(r"\w|[\"'“‘(]", text):
        return "begins with a punctuation mark"
    if chat_marks(text) is not None or normalise(ASK) in normalise(text):
        return "prompt leak"
    if refuses(text, ""):
        return "refusal"
    if repeats(text):
        return "endless repetition"
    tokens = words(text)
    beyond = (NOT_TEXT - seed_words) & set(tokens)
    if beyond:
        return f"not a matter of text: {min(beyond)}"
    return None if "?" in text or (tokens[:1] and tokens[0] in openings) else "asks for nothing"


def _nothing_kept(rows: Sequence[Row]) -> str:
    if not rows:
        return "too small: it does not pay for writing one instruction"
    reasons = Counter(str(row["reject_reason"]).split(":")[0] for row in rows)
    told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    return f"nothing to train on: none of {len(rows)} instructions that the student wrote was kept ({told}); raise the budget"
