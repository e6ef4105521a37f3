"""The language model as the policy: it writes the next instruction itself and is trained with TRL's GRPO."""
