"""Sets of matrices that are stepped, their synthetic gradients, and what a step should do to them exactly."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable

import torch
from peers import QUINTIC
from safetensors.torch import load_file, save_file
from setting import Bench, Record
from torch import Tensor

Shape = tuple[int, int]
GRADIENT = 1e-3  # typical entry
MOMENTUM = 0.95


def llama_block(width: int, ffn: int) -> list[Shape]:
    return [(width, width)] * 4 + [(ffn, width)] * 2 + [(width, ffn)]


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    block: list[Shape]  # hidden matrices of one transformer block
    blocks: int  # measured; of `of`
    few: int  # the same where a step is slow
    of: int
    rank: int  # of low-rank methods

    def tensors(self, blocks: int) -> list[Shape]:
        return self.block * blocks


# All fused: GPT-2's queries, keys and values are one matrix.
WORKLOADS = {w.name: w for w in (
    Workload("LLaMA-60M", llama_block(512, 1376), 8, 2, 8, 128),
    Workload("LLaMA-135M", llama_block(768, 2048), 2, 1, 12, 256),
    Workload("GPT-2-124M", [(2304, 768), (768, 768), (3072, 768), (768, 3072)], 2, 1, 12, 256))}


def give_matrices(bench: Bench, shapes: list[Shape]) -> str:
    """The same random weights to both sides; returns a file of gradients."""
    tag = f"{len(shapes)} of {shapes[0]}"
    weights, gradients = (bench.folder / f"{kind} {tag}.safetensors" for kind in ("weights", "gradients"))
    if not weights.exists():
        draw = torch.Generator().manual_seed(2)
        for path, size in ((weights, 0.02), (gradients, GRADIENT)):
            save_file({f"matrix{i:02d}": size * torch.randn(s, generator=draw) for i, s in enumerate(shapes)}, path)
    for side in (bench.ours, bench.theirs):
        side.ask("tensors", weights=str(weights))
    return str(gradients)


def give_model(bench: Bench, preset: str, threads: int) -> str:
    """A whole model, gradients of all its tensors."""
    bench.set_up({"preset": preset}, threads)
    draw = torch.Generator().manual_seed(2)
    path = bench.folder / "gradients.safetensors"
    weights = load_file(bench.folder / "weights.safetensors")
    save_file({name: GRADIENT * torch.randn(w.shape, generator=draw) for name, w in weights.items()}, path)
    return str(path)


# --- accuracy ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Factors:
    """G = U diag(s) V^T in float64."""

    spectrum: str
    u: Tensor
    s: Tensor
    vh: Tensor

    def mapped(self, f: Callable[[Tensor], Tensor]) -> Tensor:
        return (self.u * f(self.s)) @ self.vh


def gaussian(shape: Shape, draw: torch.Generator) -> Factors:
    g = GRADIENT * torch.randn(shape, generator=draw)
    return Factors("Gaussian", *torch.linalg.svd(g.double(), full_matrices=False))


def graded(shape: Shape, draw: torch.Generator) -> Factors:
    """sigma_k = 1 / k, as large as the Gaussian matrix."""
    rank = min(shape)
    u, v = (torch.linalg.qr(torch.randn(side, rank, generator=draw, dtype=torch.float64))[0] for side in shape)
    s = 1 / torch.arange(1, rank + 1, dtype=torch.float64)
    return Factors("1/k", u, s * (GRADIENT * (shape[0] * shape[1]) ** 0.5 / s.norm()), v.mT)


def quintic(s: Tensor) -> Tensor:
    a, b, c = QUINTIC
    s = s / s.norm()
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    return s


def exact_map(name: str) -> Callable[[Tensor], Tensor]:
    """By the name that a row gives: quintic, polar, power."""
    if name == "quintic":
        return quintic
    power = {"polar": 0.0, "power": 0.125}[name]
    return lambda s: ((1 - MOMENTUM**2) * s) ** power  # of Nesterov's average after one step from nothing


class Examples:
    """Matrices of known factors, one per shape and spectrum, given to both sides as gradients of weights that are 0."""

    def __init__(self, bench: Bench, workload: Workload) -> None:
        draw = torch.Generator().manual_seed(3)
        shapes = list(dict.fromkeys(workload.block))
        made = [make(shape, draw) for shape in shapes for make in (gaussian, graded)]
        self.factors = {f"{i:02d} {f.spectrum}": f for i, f in enumerate(made)}
        self.weights, self.gradients = (bench.folder / f"{workload.name} {kind}.safetensors" for kind in ("zero", "examples"))
        matrices = {name: f.mapped(lambda s: s).float().contiguous() for name, f in self.factors.items()}
        save_file(matrices, self.gradients)
        save_file({name: torch.zeros_like(m) for name, m in matrices.items()}, self.weights)

    def errors(self, updates: pathlib.Path, rate: float, map_name: str) -> dict[str, float]:
        """Largest relative Frobenius error per spectrum, c(m, n) included."""
        worst: dict[str, float] = {}
        for name, update in load_file(updates).items():
            factors = self.factors[name]
            size = max(1, update.shape[0] / update.shape[1]) ** 0.5
            exact = size * factors.mapped(exact_map(map_name))
            error = float((update.double() / rate - exact).norm() / exact.norm())
            worst[factors.spectrum] = max(error, worst.get(factors.spectrum, 0))
        return worst

    def measure(self, bench: Bench, recipe: Record, peer: str, options: Record, map_name: str, rate: float) -> Record:
        more = {"gradients": str(self.gradients), "threads": 1}
        out = bench.folder / "update.safetensors"
        found = {}
        for side, arguments in ((bench.ours, {"recipe": recipe}), (bench.theirs, {"recipe": peer, "options": options})):
            side.ask("tensors", weights=str(self.weights))
            side.ask("optimizer", **arguments, **more)
            side.ask("update", file=str(out))
            found["ours" if side is bench.ours else "theirs"] = self.errors(out, rate, map_name)
        return found
