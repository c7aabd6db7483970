"""What the contract tests share: every class of the package, small models, and how one trains."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeAlias

import torch
from schatten._classes import __all__ as NAMES
from torch import Tensor, nn

import schatten

Class: TypeAlias = Any  # a class of the package: each has a signature of its own
CLASSES: dict[str, Class] = {name: getattr(schatten, name) for name in NAMES}


def _locality(name: str) -> str:
    """How much of a matrix the class's recipe needs at once: "elementwise", "row" or "matrix"."""
    optimizer = CLASSES[name]([("w", nn.Parameter(torch.zeros(2, 2)))])
    request = {"groups": [{"recipe": {"recipe": optimizer.defaults["algorithm"]}, "hyper": [], "parameters": []}]}
    (group,) = json.loads(torch.ops.schatten.declare(json.dumps(request), [1.0]))
    return str(group["locality"])


ELEMENTWISE = [name for name in NAMES if _locality(name) == "elementwise"]
MATRIX = [name for name in NAMES if name not in ELEMENTWISE]
# Classes that send vectors, embeddings and heads to an auxiliary recipe.
ROUTED = [name for name in NAMES if len(CLASSES[name](nn.Linear(2, 2)).param_groups) == 2]


def step(optimizer: torch.optim.Optimizer, *arguments: Any) -> Any:
    """One step. MuonClip is told the largest logits of a block first, without which it takes none."""
    if isinstance(optimizer, schatten.Optimizer) and any(g["algorithm"] == "muonclip" for g in optimizer.param_groups):
        optimizer.observe("largest_logits", 0, torch.tensor([1.0, 2.0]))
    return optimizer.step(*arguments)


def small(dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    """An embedding, two matrices, a norm and biases."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 5)).to(dtype)


def loss_of(model: nn.Module, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    out = model(torch.randint(7, (8,), generator=generator))
    return out.square().mean()


def train(optimizer: torch.optim.Optimizer, model: nn.Module, steps: int = 3, first: int = 0) -> None:
    """Each step has another batch, which follows from its number."""
    for t in range(first, first + steps):
        optimizer.zero_grad()
        loss_of(model, t).backward()
        step(optimizer)


def weight(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> nn.Parameter:
    return nn.Parameter(noise(*shape, dtype=dtype, seed=seed))


def noise(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    wide = torch.float64 if dtype.is_floating_point else torch.complex128
    return torch.randn(shape, generator=generator, dtype=wide).to(dtype)


def given_gradients(optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor], steps: int = 3, first: int = 0) -> None:
    """Steps with gradients that depend on the step and the position alone."""
    parameters = list(parameters)
    for t in range(first, first + steps):
        for i, p in enumerate(parameters):
            p.grad = noise(*p.shape, dtype=p.dtype, seed=1000 * t + i)
        step(optimizer)


def values(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [p.detach().clone() for p in parameters]


def same(a: Iterable[Tensor], b: Iterable[Tensor]) -> bool:
    """Bit for bit."""
    return all(x.dtype == y.dtype and torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in zip(a, b, strict=True))


def distance(a: Iterable[Tensor], b: Iterable[Tensor]) -> float:
    """Of two lists of tensors, relative to the second."""
    pairs = [(x.detach().double(), y.detach().double()) for x, y in zip(a, b, strict=True)]
    return float(sum((x - y).norm() for x, y in pairs) / sum(y.norm() for _, y in pairs))
