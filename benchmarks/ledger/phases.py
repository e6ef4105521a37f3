"""What the audit has every architecture do: one function per phase, which prepares and returns the work that is counted."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import AutoModel, AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

from baselines.config import OptimiseConfig, RewardConfig
from baselines.direct import pair_losses, referred
from baselines.policy_gradient import Learner
from baselines.reward_model import RewardModel, fit
from harness.core.budget import Ledger
from harness.core.records import Instruction, Message, Preference
from harness.core.spec import Adaptation
from harness.models.embed import Embedder
from harness.models.examples import padded, response_logits, tokenize
from harness.models.finetune import FinetuneConfig, finetune
from harness.models.meter import meter
from harness.models.student import Student
from harness.scoring.prefix import TokenBudget, score_pairs

Kind = Literal["lora", "full"]
Work = Callable[[], object]
WORDS = ["a cat", "why", "two words and more", "a list", "bee", "where it went", "no", "some other thing"]
TASKS: list[list[Message]] = [[{"role": "user", "content": word}] for word in WORDS]
EXAMPLES = [(task, word[::-1]) for task, word in zip(TASKS, WORDS, strict=True)]
PROMPTS = [Instruction(word, "audit", "f", word, word) for word in WORDS]
PREFERENCES = [Preference(prompt, word.upper(), word[::-1]) for prompt, word in zip(PROMPTS, WORDS, strict=True)]
EVERY_REPLY_ENDS = [0]
"""No text holds it: replies run to their limit, so that decoding is worth measuring."""


@dataclass
class Bench:
    """One architecture: makes students of it, attached to one ledger."""

    config: Any
    ledger: Ledger = field(default_factory=Ledger)

    def student(self, kind: Kind | None) -> Student:
        """Random weights; a tokenizer with one token per character."""
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(self.config)
        model.generation_config = GenerationConfig(eos_token_id=EVERY_REPLY_ENDS, pad_token_id=1)
        if kind == "lora":
            from peft import LoraConfig, get_peft_model

            transposed = model.config.model_type == "gpt2"
            model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", fan_in_fan_out=transposed))
        student = Student("audit", model, _tokenizer(), Adaptation(kind=kind) if kind else None)
        student.dtype = torch.float32
        student.attach(self.ledger)
        return student


def _tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {"<pad>": 0, "<e>": 1} | {letter: index for index, letter in enumerate(string.printable, start=2)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<e>", pad_token="<e>", bos_token="<e>")


def _batch(student: Student) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return padded([tokenize(student, *example) for example in EXAMPLES], student.pad_id, student.device)


def prefill(bench: Bench, *, last: bool = False) -> Work:
    """A batch without gradients; the head everywhere, or at the last position only."""
    student = bench.student(None)
    ids_B_T, mask_B_T, _ = _batch(student)
    options = {"logits_to_keep": 1} if last else {}
    return torch.no_grad()(lambda: student.model(input_ids=ids_B_T, attention_mask=mask_B_T, **options))


def plain_decode(bench: Bench) -> Work:
    """transformers' own generation, with a cache."""
    student = bench.student(None)
    ids_B_T, mask_B_T, _ = _batch(student)
    return lambda: student.model.generate(input_ids=ids_B_T, attention_mask=mask_B_T, max_new_tokens=6, do_sample=False)


def generate(bench: Bench, *, n: int = 1, prefixes: bool = False) -> Work:
    """The students' generation: prompts computed once for n replies; few-shot prefixes once for two calls."""
    student = bench.student("lora")
    shots: list[Message] = [{"role": "user", "content": "seven"}, {"role": "assistant", "content": "neves"}]
    options: dict[str, Any] = {"max_new_tokens": 6, "temperature": 1.0 if n > 1 else 0.0, "seed": 0, "n": n}
    if not prefixes:
        return lambda: student.generate(TASKS[:4], **options)
    caches: dict[Any, Any] = {}
    before = [shots if row % 2 else [*shots, *shots] for row in range(4)]
    return lambda: [student.generate(TASKS[:4], prefixes=before, prefix_caches=caches, **options) for _ in range(2)]


def update(bench: Bench, kind: Kind, *, checkpointing: bool = False, **config: Any) -> Work:
    """Two batches of supervised fine-tuning."""
    student = bench.student(kind)
    if checkpointing:
        student.model.activation_checkpointing_enable()
    settings = FinetuneConfig(batch_size=4, **config)
    bench.ledger.train_flops = 1e18
    return lambda: finetune(student, iter(EXAMPLES), bench.ledger, config=settings, rng=np.random.default_rng(0))


def reward(bench: Bench, *, train_body: bool) -> Work:
    """A reward model fitted to preferences: a head on frozen features, or the body's adapters too."""
    config = RewardConfig(train_body=train_body, batch_size=4)
    model = RewardModel(bench.student("lora"), config)
    model.attach(bench.ledger)
    return lambda: fit(model, PREFERENCES, bench.ledger, config=config, rng=np.random.default_rng(0))


def reference(bench: Bench) -> Work:
    """Token log-probabilities under the frozen copy that a KL penalty is towards."""
    student = bench.student("lora")
    parts = student.frozen_body(), student.frozen_head()
    meter(parts[0], "reference", bench.ledger)
    batch = _batch(student)
    return torch.no_grad()(lambda: response_logits(student, *batch, reference=parts))


def score(bench: Bench, *, share: bool) -> Work:
    """Choices after contexts, shared tokens computed once (with a few-shot trunk) or every text by itself."""
    student = bench.student(None)
    student.model.eval()
    trunk = tuple(range(3, 43))
    contexts = [(*trunk, *range(44 + item, 56)) for item in range(6)]
    pairs = [(context, (60 + choice, *range(70, 72 + choice))) for context in contexts for choice in range(4)]
    return lambda: list(score_pairs(student.model, pairs, budget=TokenBudget(256), autocast=None, share=share))


class _LetterScore:
    """A reward without a model."""

    def score(self, examples: Any) -> torch.Tensor:
        return torch.tensor([float(len(example.ids) % 5) for example in examples])


def policy_step(bench: Bench, algorithm: str) -> Work:
    """One step of RLOO, PPO or GRPO: sampling, reference and all epochs of the update."""
    student = bench.student("lora")
    settings: Any = {"algorithm": algorithm, "samples_per_prompt": 3, "max_new_tokens": 8}
    learner = Learner(student, _LetterScore(), bench.ledger, OptimiseConfig(**settings))
    return lambda: learner.step(PROMPTS[:3], rng=np.random.default_rng(0))


def preference_step(bench: Bench) -> Work:
    """DPO: the reference's log-probabilities of both responses, and one epoch of updates."""
    student = bench.student("lora")
    pairs = [
        tuple(tokenize(student, [{"role": "user", "content": choice.instruction.text}], text) for text in (choice.chosen, choice.rejected))
        for choice in PREFERENCES
    ]
    bench.ledger.train_flops = 1e18

    def work() -> None:
        ready = referred(student, pairs, bench.ledger)
        student.model.train()
        for start in range(0, len(ready), 4):
            pair_losses(student, ready[start : start + 4], 0.1).mean().backward()

    return work


def instructor_step(bench: Bench) -> Work:
    """One update of the self-teaching system's language-model instructor by TRL's GRPO trainer."""
    from selfteach.grpo_lm.config import GrpoConfig
    from selfteach.grpo_lm.evolve import train_writer
    from selfteach.grpo_lm.judge import Judgement
    from selfteach.grpo_lm.writer import Writer

    class Judge:
        def prompts(self, parents: int, *, rng: np.random.Generator) -> list[list[Message]]:
            return TASKS[:parents]

        def judge(self, replies_P_G: Any, **_: Any) -> Judgement:
            rewards = [[float(len(reply.text) % 4 + place) for place, reply in enumerate(replies)] for replies in replies_P_G]
            return Judgement(np.array(rewards, np.float32), [], True)

    writer = Writer(bench.student("lora"), bench.ledger, rank=4, rng=np.random.default_rng(0))
    config = GrpoConfig(parents=2, group=4, max_new_tokens=8, temperature=1.0, kl_weight=0.04, rank=4)

    def work() -> None:
        with TemporaryDirectory() as out:
            rng = np.random.default_rng(0)
            train_writer(writer, Judge(), bench.ledger, config=config, max_flops=np.inf, max_updates=1, rng=rng, out=Path(out))

    return work


def embed(bench: Bench) -> Work:
    """Sentence embeddings."""
    embedder = Embedder(AutoModel.from_config(bench.config), _tokenizer(), name="embedder")
    embedder.attach(bench.ledger)
    return lambda: embedder.encode(WORDS, batch_size=4)
