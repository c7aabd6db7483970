"""A LightningModule whose configure_optimizers returns Muon and a cosine schedule; clipping and checkpoints are the Trainer's.

python examples/python/lightning_module.py
"""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import schatten

EPOCHS, BATCHES = 4, 12


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(32, 24)
        self.body = nn.Sequential(nn.Linear(24, 48), nn.GELU(), nn.LayerNorm(48), nn.Linear(48, 48), nn.GELU())
        self.head = nn.Linear(48, 8)
        self.losses: list[float] = []
        self.rates: list[list[float]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        words, labels = batch
        loss = nn.functional.cross_entropy(self.head(self.body(self.embedding(words).mean(1))), labels)
        self.losses.append(loss.item())
        self.rates.append([group["lr"] for group in self.optimizers().param_groups])  # type: ignore[union-attr]
        return loss

    def configure_optimizers(self) -> Any:
        # optimizer = torch.optim.AdamW(self.parameters(), lr=3e-3)
        optimizer = schatten.Muon(self, lr=0.02, auxiliary={"lr": 3e-3})
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS * BATCHES)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def batches() -> DataLoader[tuple[Tensor, ...]]:
    """Bags of words; the label is the commonest word's class. The order is fixed: Lightning's checkpoint does not hold a sampler's."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(8, (BATCHES * 32,), generator=draw)
    words = torch.randint(32, (len(labels), 10), generator=draw)
    words[:, :5] = labels[:, None] * 4 + words[:, :5] % 4
    return DataLoader(TensorDataset(words, labels), batch_size=32)


def fit(folder: str | pathlib.Path, resume: str | None = None, **options: Any) -> Classifier:
    lightning.seed_everything(0, verbose=False)
    module = Classifier()
    trainer = lightning.Trainer(
        max_epochs=EPOCHS, gradient_clip_val=1.0, callbacks=[ModelCheckpoint(folder, "{epoch}", save_top_k=-1)],
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(module, batches(), ckpt_path=resume)
    return module


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole = fit(folder)
        resumed = fit(folder, resume=f"{folder}/epoch=1.ckpt")
    same = all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    print(f"loss {whole.losses[0]:.2f} -> {whole.losses[-1]:.2f}; resumed at half: {'the same weights' if same else 'OTHER WEIGHTS'}")


if __name__ == "__main__":
    main()
