"""A LLaMA trained by Hugging Face's Trainer, once for each of the two ways to hand over an optimizer.

python examples/python/transformers_trainer.py
"""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

import schatten

STEPS = 40


class Counting(Dataset[dict[str, torch.Tensor]]):
    """Sequences that go up by a step of their own: 3, 5, 7, ... The model has to find the step."""

    def __len__(self) -> int:
        return 256

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        ids = (torch.arange(17) * (1 + i % 5) + i) % 64
        return {"input_ids": ids, "labels": ids}


def small_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=32,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def trainer(folder: str | pathlib.Path, model: LlamaForCausalLM, **optimizer: Any) -> Trainer:
    args = TrainingArguments(
        str(folder), max_steps=STEPS, per_device_train_batch_size=8, gradient_accumulation_steps=2, max_grad_norm=1.0,
        lr_scheduler_type="cosine", warmup_steps=4, logging_steps=1, save_steps=STEPS // 2, save_total_limit=2,
        seed=1, use_cpu=True, report_to=[], disable_tqdm=True,
    )  # fmt: skip
    return Trainer(model, args, train_dataset=Counting(), **optimizer)


def with_optimizer(folder: str | pathlib.Path) -> Trainer:
    """The model is there: make the optimizer. None leaves the schedule to the Trainer's arguments."""
    model = small_llama()
    # optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    optimizer = schatten.Muon(model, lr=0.02, auxiliary={"lr": 3e-3})
    return trainer(folder, model, optimizers=(optimizer, None))


def with_class_and_kwargs(folder: str | pathlib.Path) -> Trainer:
    """The Trainer makes the optimizer, as it must with FSDP and `model_init`. Behind a lambda it gives the class the model itself."""
    # how = (torch.optim.AdamW, {"lr": 3e-3})
    how = (lambda: schatten.Muon, {"lr": 0.02, "auxiliary": {"lr": 3e-3}})
    return trainer(folder, small_llama(), optimizer_cls_and_kwargs=how)


def weights(trained: Trainer) -> list[torch.Tensor]:
    assert trained.model is not None
    return list(trained.model.parameters())


def losses(trained: Trainer) -> list[float]:
    return [float(line["loss"]) for line in trained.state.log_history if "loss" in line]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for way in (with_optimizer, with_class_and_kwargs):
            whole = way(folder)
            whole.train()
            resumed = way(folder)
            resumed.train(resume_from_checkpoint=f"{folder}/checkpoint-{STEPS // 2}")
            same = all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))
            first, last = losses(whole)[0], losses(whole)[-1]
            print(f"{way.__name__}: loss {first:.2f} -> {last:.2f}; resumed at half: {'the same weights' if same else 'OTHER WEIGHTS'}")


if __name__ == "__main__":
    main()
