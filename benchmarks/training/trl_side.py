"""TRL's SFTTrainer on our batches: same texts, same order, same rates; it tokenises, masks and collates by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from harness.models.examples import TokenizedExample
from harness.models.student import Student


class _Losses(TrainerCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" in logs:
            self.values.append(float(logs["loss"]))


def sft_trainer(
    student: Student, batches: Sequence[Sequence[TokenizedExample]], rates: Sequence[float], out: Path, *, max_grad_norm: float = 1.0
) -> tuple[SFTTrainer, list[float]]:
    """A trainer that will take one step on each batch (all of one size) at the rate given for it, and the list its losses will go to."""
    (size,) = {len(batch) for batch in batches}
    texts = [example.text for batch in batches for example in batch]
    rows = [{"prompt": prompt, "completion": student.response_text(response)} for prompt, response in filter(None, texts)]
    optimizer = torch.optim.AdamW(student.trainable, lr=1.0, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rates[min(step, len(rates) - 1)])
    config = SFTConfig(
        output_dir=str(out),
        per_device_train_batch_size=size,
        max_steps=len(batches),
        max_length=None,
        completion_only_loss=True,
        max_grad_norm=max_grad_norm,
        train_sampling_strategy="sequential",
        gradient_checkpointing=False,
        bf16=student.dtype == torch.bfloat16,
        use_cpu=student.device.type == "cpu",
        dataloader_pin_memory=False,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        log_level="error",
    )
    losses = _Losses()
    trainer = SFTTrainer(
        model=student.model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=student.tokenizer,
        optimizers=(optimizer, schedule),
        callbacks=[losses],
    )
    return trainer, losses.values
