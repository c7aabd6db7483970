"""A training recipe as torchtune's are: a config that names its parts, gradient accumulation, clipping, a warm cosine, checkpoints.

python examples/python/torchtune_recipe.py
"""

from __future__ import annotations

import copy
import importlib
import math
import pathlib
import tempfile
from typing import Any

import torch
from torch import Tensor, nn

Config = dict[str, Any]

CONFIG: Config = {
    "seed": 0,
    "model": {"vocabulary": 64, "width": 48, "layers": 2, "heads": 4, "context": 16},
    # "optimizer": {"_component_": "torch.optim.AdamW", "lr": 3e-3},
    "optimizer": {"_component_": "schatten.Muon", "lr": 0.02, "auxiliary": {"lr": 3e-3}},
    "lr_scheduler": {"num_warmup_steps": 4},
    "max_steps": 40,
    "batch_size": 8,
    "gradient_accumulation_steps": 2,
    "clip_grad_norm": 1.0,
    "save_every_n_steps": 20,
}


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.q_proj, self.k_proj, self.v_proj, self.output_proj = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention_norm(x)
        q, k, v = (p(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.output_proj(attended.transpose(1, 2).flatten(-2))
        mixed: Tensor = x + self.mlp(self.mlp_norm(x))
        return mixed


class LanguageModel(nn.Module):
    def __init__(self, vocabulary: int, width: int, layers: int, heads: int, context: int) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(vocabulary, width)
        self.pos_embeddings = nn.Embedding(context, width)
        self.layers = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        self.output = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tok_embeddings(tokens) + self.pos_embeddings.weight[: tokens.shape[-1]]
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.output(self.norm(x))
        return logits


def instantiate(config: Config, *arguments: Any) -> Any:
    """`_component_` by its dotted name, called with the config's other entries."""
    module, name = config["_component_"].rsplit(".", 1)
    return getattr(importlib.import_module(module), name)(*arguments, **{k: v for k, v in config.items() if k != "_component_"})


def cosine_with_warmup(optimizer: torch.optim.Optimizer, num_warmup_steps: int, max_steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    def factor(step: int) -> float:
        if step < num_warmup_steps:
            return (step + 1) / num_warmup_steps
        return 0.5 * (1 + math.cos(math.pi * (step - num_warmup_steps) / (max_steps - num_warmup_steps)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)  # a factor, so that each group keeps a rate of its own


class Recipe:
    def __init__(self, config: Config, folder: pathlib.Path, resume_from: int | None = None) -> None:
        self.config, self.folder, self.step = config, folder, 0
        torch.manual_seed(config["seed"])
        self.model = LanguageModel(**config["model"])
        # torchtune passes self.model.parameters(), whose embeddings and heads cannot be told from hidden matrices: pass the names, too
        self.optimizer: torch.optim.Optimizer = instantiate(config["optimizer"], self.model.named_parameters())
        self.schedule = cosine_with_warmup(self.optimizer, max_steps=config["max_steps"], **config["lr_scheduler"])
        self.losses: list[float] = []
        self.rates: list[list[float]] = []
        if resume_from is not None:
            self.load_checkpoint(resume_from)

    def batch(self, number: int) -> Tensor:
        """Sequences that go up by a step of their own. The number is the seed, so that a resumed run reads on where it stopped."""
        draw = torch.Generator().manual_seed(number)
        starts, steps = torch.randint(64, (2, self.config["batch_size"], 1), generator=draw)
        tokens: Tensor = (starts + (1 + steps % 5) * torch.arange(self.config["model"]["context"])) % 64
        return tokens

    def train(self) -> None:
        accumulate = self.config["gradient_accumulation_steps"]
        while self.step < self.config["max_steps"]:
            total = 0.0
            for micro in range(accumulate):
                tokens = self.batch(self.step * accumulate + micro)
                logits = self.model(tokens[:, :-1])
                loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()) / accumulate
                loss.backward()
                total += loss.item()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config["clip_grad_norm"])
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.losses.append(total)
            self.rates.append([group["lr"] for group in self.optimizer.param_groups])
            self.schedule.step()
            self.step += 1
            if self.step % self.config["save_every_n_steps"] == 0:
                self.save_checkpoint()

    def parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}

    def save_checkpoint(self) -> None:
        torch.save({"step": self.step, **{k: v.state_dict() for k, v in self.parts().items()}}, self.folder / f"step-{self.step}.pt")

    def load_checkpoint(self, step: int) -> None:
        saved = torch.load(self.folder / f"step-{step}.pt", weights_only=True)
        self.step = saved["step"]
        for name, part in self.parts().items():
            part.load_state_dict(saved[name])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole = Recipe(copy.deepcopy(CONFIG), pathlib.Path(folder))
        whole.train()
        resumed = Recipe(copy.deepcopy(CONFIG), pathlib.Path(folder), resume_from=CONFIG["max_steps"] // 2)
        resumed.train()
    same = all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True))
    print(f"loss {whole.losses[0]:.2f} -> {whole.losses[-1]:.2f}; resumed at half: {'the same weights' if same else 'OTHER WEIGHTS'}")


if __name__ == "__main__":
    main()
