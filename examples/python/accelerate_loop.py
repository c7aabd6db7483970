"""A loop of one's own under Accelerate: prepare, gradient accumulation, clipping, save_state and load_state.

python examples/python/accelerate_loop.py
"""

from __future__ import annotations

import pathlib
import tempfile
from typing import NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import schatten

EPOCHS, BATCHES, ACCUMULATE = 4, 16, 2


class Trained(NamedTuple):
    model: nn.Module
    optimizer: torch.optim.Optimizer  # as prepared: a wrapper around ours
    losses: list[float]
    rates: list[list[float]]  # of each group, after each step


def small_model() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 4))


def batches() -> DataLoader[tuple[Tensor, ...]]:
    draw = torch.Generator().manual_seed(0)
    points = torch.randn(BATCHES * 16, 16, generator=draw)
    labels = (points @ torch.randn(16, 4, generator=draw)).argmax(1)
    return DataLoader(TensorDataset(points, labels), batch_size=16, shuffle=True)


def train(checkpoints: pathlib.Path, resume_after: int | None = None) -> Trained:
    """Saves after each epoch; `resume_after=1` goes on from what was saved after epoch 1."""
    set_seed(0)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=ACCUMULATE)
    model, data = small_model(), batches()
    # optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    optimizer = schatten.Muon(model, lr=0.02, auxiliary={"lr": 3e-3})
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS * BATCHES // ACCUMULATE)
    model, optimizer, data, schedule = accelerator.prepare(model, optimizer, data, schedule)

    start = 0
    if resume_after is not None:
        accelerator.load_state(str(checkpoints / f"epoch-{resume_after}"))
        start = resume_after + 1
    losses: list[float] = []
    rates: list[list[float]] = []
    for epoch in range(start, EPOCHS):
        for points, labels in data:
            with accelerator.accumulate(model):
                loss = nn.functional.cross_entropy(model(points), labels)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            losses.append(loss.item())
            if accelerator.sync_gradients:
                rates.append([group["lr"] for group in optimizer.param_groups])
        accelerator.save_state(str(checkpoints / f"epoch-{epoch}"))
    return Trained(model, optimizer, losses, rates)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole = train(pathlib.Path(folder))
        resumed = train(pathlib.Path(folder), resume_after=1)
    same = all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True))
    print(f"loss {whole.losses[0]:.2f} -> {whole.losses[-1]:.2f}; resumed at half: {'the same weights' if same else 'OTHER WEIGHTS'}")


if __name__ == "__main__":
    main()
