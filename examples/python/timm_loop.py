"""A small vision transformer trained as timm's script does it: no weight decay for vectors, warm cosine, label smoothing, clipping.

python examples/python/timm_loop.py
"""

from __future__ import annotations

import math
import pathlib
import tempfile
from typing import Any

import torch
from torch import Tensor, nn

import schatten

EPOCHS, BATCHES, CLASSES = 5, 10, 4


class Block(nn.Module):
    """Named as in timm's VisionTransformer, so that its checkpoints and these have parameters of the same names."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.attn["qkv"](self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)
        x = x + self.attn["proj"](attended)
        mixed: Tensor = x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))
        return mixed


class VisionTransformer(nn.Module):
    def __init__(self, width: int = 48, depth: int = 2, heads: int = 4, patches: int = 16) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, patches + 1, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, kernel_size=4, stride=4)})
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def no_weight_decay(self) -> set[str]:
        return {"pos_embed", "cls_token"}

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embed["proj"](images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1) + self.pos_embed
        logits: Tensor = self.head(self.norm(self.blocks(x))[:, 0])
        return logits


def param_groups_weight_decay(model: VisionTransformer, weight_decay: float) -> list[dict[str, Any]]:
    """timm's rule: no decay for biases, norms and what the model lists. Unlike timm's, the groups keep the names."""
    exempt = model.no_weight_decay()
    decayed = {name: name not in exempt and parameter.ndim > 1 for name, parameter in model.named_parameters()}
    return [
        {"params": [(n, p) for n, p in model.named_parameters() if not decayed[n]], "weight_decay": 0.0},
        {"params": [(n, p) for n, p in model.named_parameters() if decayed[n]], "weight_decay": weight_decay},
    ]


def warm_cosine(optimizer: torch.optim.Optimizer, epochs: int) -> torch.optim.lr_scheduler.LambdaLR:
    def factor(epoch: int) -> float:
        return 0.2 if epoch == 0 else 0.5 * (1 + math.cos(math.pi * epoch / epochs))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def batch(number: int) -> tuple[Tensor, Tensor]:
    """Stripes in four directions under noise; the direction is the class."""
    draw = torch.Generator().manual_seed(number)
    labels = torch.randint(CLASSES, (32,), generator=draw)
    angle = labels.view(-1, 1, 1) * math.pi / CLASSES
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    stripes = torch.sin((x * angle.cos() + y * angle.sin()) * math.pi / 4)
    return stripes[:, None] + 0.3 * torch.randn(32, 3, 16, 16, generator=draw), labels


class Run:
    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = VisionTransformer()
        groups = param_groups_weight_decay(self.model, weight_decay=0.05)
        # self.optimizer = torch.optim.AdamW(groups, lr=3e-3)
        self.optimizer = schatten.Muon(groups, lr=0.02, auxiliary={"lr": 3e-3})
        self.schedule = warm_cosine(self.optimizer, EPOCHS)
        self.epoch = 0
        self.losses: list[float] = []
        self.rates: list[list[float]] = []

    def train(self, until: int = EPOCHS) -> None:
        smoothed = nn.CrossEntropyLoss(label_smoothing=0.1)
        while self.epoch < until:
            for i in range(BATCHES):
                images, labels = batch(self.epoch * BATCHES + i)
                loss = smoothed(self.model(images), labels)
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                self.losses.append(loss.item())
            self.rates.append([group["lr"] for group in self.optimizer.param_groups])
            self.schedule.step()
            self.epoch += 1

    def save(self, path: pathlib.Path) -> None:
        parts: dict[str, Any] = {"state_dict": self.model, "optimizer": self.optimizer, "schedule": self.schedule}
        torch.save({"epoch": self.epoch, **{name: part.state_dict() for name, part in parts.items()}}, path)

    def load(self, path: pathlib.Path) -> None:
        saved = torch.load(path, weights_only=True)
        self.epoch = saved["epoch"]
        self.model.load_state_dict(saved["state_dict"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole, resumed = Run(), Run()
        whole.train(until=2)
        whole.save(pathlib.Path(folder) / "last.pth")
        whole.train()
        resumed.load(pathlib.Path(folder) / "last.pth")
        resumed.train()
    same = all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True))
    print(f"loss {whole.losses[0]:.2f} -> {whole.losses[-1]:.2f}; resumed at epoch 2: {'the same weights' if same else 'OTHER WEIGHTS'}")


if __name__ == "__main__":
    main()
