"""How a small model is best asked for new instructions: four ways, and what of each survives.

    python benchmarks/data_methods/prompts.py [--rounds 6] [--temperature 0.7] [--show]

Every way is shown the same seeds in the same rounds, and judged by the method's own rules.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
import torch

from baselines.self_instruct import ASK, SelfInstructConfig, unusable
from harness.core.budget import Ledger
from harness.core.records import Completion, Message
from harness.instructions.similarity import rouge_l
from harness.instructions.telltale import words
from harness.models.student import Student
from harness.seeds import generator
from tasks.pool import MixedPool, MixedPoolConfig

FAMILIES = ["letter_counting", "syllogism", "needle_haystack", "isomorphic_strings", "chain_sum", "word_sequence_reversal"]
OTHER_ASK = "What can I do for you?"


def turns(student: Student, shown: list[tuple[str, str]], ask: str, **sampling: int | float) -> list[Completion]:
    """Chat turns: a request for a task, a seed as the reply; the next reply is new."""
    before: list[Message] = []
    for text, _ in shown:
        before += [{"role": "user", "content": ask}, {"role": "assistant", "content": text}]
    return student.generate([[{"role": "user", "content": ask}]], prefixes=[before], **sampling)[0]  # type: ignore[arg-type]


def numbered(student: Student, shown: list[tuple[str, str]], **sampling: int | float) -> list[Completion]:
    """The source's way: a numbered list to continue."""
    text = "Come up with a series of tasks:\n\n" + "".join(f"Task {place + 1}: {text}\n\n" for place, (text, _) in enumerate(shown))
    return student.generate_text([f"{text}Task {len(shown) + 1}:"], stop=(f"Task {len(shown) + 2}",), **sampling)[0]  # type: ignore[arg-type]


def user_turn(student: Student, shown: list[tuple[str, str]], **sampling: int | float) -> list[Completion]:
    """Seeds with their responses, then the beginning of a user's turn, which the model writes itself (as in Magpie)."""
    pairs = [[{"role": "user", "content": text}, {"role": "assistant", "content": response}] for text, response in shown]
    opening = student.render([{"role": "user", "content": "\0"}], add_generation_prompt=False)
    start = opening[: opening.index("\0")].rpartition("<|im_end|>\n")[2]
    text = "".join(student.render(pair, add_generation_prompt=False) for pair in pairs)
    return student.generate_text([text + start], **sampling)[0]  # type: ignore[arg-type]


def main() -> None:
    """Prints one row for each way."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--show", action="store_true", help="print the texts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = SelfInstructConfig()
    ledger = Ledger()
    student = Student.load("smollm2-135m-instruct", adaptation=None, seed=0)
    student.attach(ledger)
    pool_config = MixedPoolConfig.model_validate({"families": FAMILIES, "constraint_share": 0.2, "seed_demonstrations": 40})
    seeds = MixedPool(pool_config, ledger=ledger, rng=generator("self_instruct", "pool"), ngrams=frozenset()).seeds()
    seed_tokens = [words(seed.instruction.text) for seed in seeds]
    seed_words = frozenset(word for tokens in seed_tokens for word in tokens)
    openings = frozenset(tokens[0] for tokens in seed_tokens)
    ways = {
        f'turns, "{ASK}"': lambda shown, **sampling: turns(student, shown, ASK, **sampling),
        f'turns, "{OTHER_ASK}"': lambda shown, **sampling: turns(student, shown, OTHER_ASK, **sampling),
        "numbered list": lambda shown, **sampling: numbered(student, shown, **sampling),
        "user turn": lambda shown, **sampling: user_turn(student, shown, **sampling),
    }
    print(f"{'way':46} {'texts':>6} {'survive':>8}  refused")
    for name, way in ways.items():
        rng = np.random.default_rng(0)
        kept_tokens, refused, survived, made = list(seed_tokens), Counter[str](), 0, 0
        for step in range(options.rounds):
            places = rng.permutation(len(seeds))[: config.human_shots]
            shown = [(seeds[place].instruction.text, seeds[place].response) for place in places]
            sampling = {"n": config.instructions_per_prompt, "max_new_tokens": config.max_new_tokens, "temperature": options.temperature}
            for reply in way(shown, seed=step, **sampling):
                made += 1
                text, tokens = reply.text.strip(), words(reply.text)
                reason = unusable(text, reply.finished, seed_words, openings)
                if reason is None and max(rouge_l(tokens, kept) for kept in kept_tokens) >= config.rouge_l:
                    reason = "near duplicate"
                if options.show:
                    print(f"  {reason or 'kept'} | {text!r}")
                if reason is not None:
                    refused[reason.split(":")[0]] += 1
                    continue
                kept_tokens.append(tokens)
                survived += 1
        told = ", ".join(f"{reason} {count}" for reason, count in refused.most_common())
        print(f"{name:46} {made:6} {survived:8}  {told}", flush=True)


if __name__ == "__main__":
    main()
