"""The Python package against other optimizers in one process: both step clones of the same tensors, in turns."""

from __future__ import annotations

import json
import pathlib
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import peers
import torch
from contest import Budget, Pairs, machine_seconds
from torch import Tensor, nn

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "python"))
import schatten

Record = dict[str, Any]
OURS: dict[str, Callable[[list[Tensor], Record], torch.optim.Optimizer]] = {
    "schatten.AdamW": lambda p, _: schatten.AdamW(p, lr=peers.RATE),
    "schatten.Muon": lambda p, _: schatten.Muon(p, lr=peers.RATE),
    "schatten.HTMuon": lambda p, _: schatten.HTMuon(p, lr=peers.RATE),
    "schatten.SOAP": lambda p, _: schatten.SOAP(p, lr=peers.RATE),
    "schatten.GaLore": lambda p, o: schatten.GaLore(p, lr=peers.RATE, rank=o["rank"], refresh_every=o["every"]),
    "schatten.APOLLO": lambda p, o: schatten.APOLLO(p, lr=peers.RATE, rank=o["rank"], refresh_every=o["every"]),
}


def clones(shapes: list[list[int]]) -> list[Tensor]:
    draw = torch.Generator().manual_seed(2)
    made: list[Tensor] = []
    for shape in shapes:
        parameter = nn.Parameter(0.02 * torch.randn(shape, generator=draw))
        parameter.grad = 1e-3 * torch.randn(shape, generator=draw)
        made.append(parameter)
    return made


class Stepper:
    """One side: an optimizer, its tensors, and gradients that stay as they are."""

    def __init__(self, make: Callable[[list[Tensor]], torch.optim.Optimizer], shapes: list[list[int]], spoils: bool) -> None:
        self.tensors = clones(shapes)
        self.optimizer = make(self.tensors)
        self.gradients = [p.grad for p in self.tensors]
        self.spoils = spoils

    def seconds(self, count: int) -> float:
        """Mean of `count` steps; giving gradients back is not counted."""
        if not self.spoils:
            began = time.perf_counter()
            for _ in range(count):
                self.optimizer.step()
            return (time.perf_counter() - began) / count
        total = 0.0
        for _ in range(count):
            for parameter, gradient in zip(self.tensors, self.gradients, strict=True):
                parameter.grad = gradient.clone() if gradient is not None else None
            began = time.perf_counter()
            self.optimizer.step()
            total += time.perf_counter() - began
        return total / count


def alternate(ours: Stepper, theirs: Stepper, budget: Budget, unit: int) -> Pairs:
    """A B B A: the pairs that contest.py takes from two processes."""
    counts = {}
    for side in (ours, theirs):
        side.seconds(unit)
        counts[side] = unit * max(1, round(budget.sample / (side.seconds(unit) * unit)))
    seconds: dict[Stepper, list[float]] = {ours: [], theirs: []}
    wall, own, machine = time.monotonic(), time.process_time(), machine_seconds()
    for pair in range(budget.most):
        if pair >= budget.least and time.monotonic() - wall > budget.seconds:
            break
        for side in (ours, theirs)[:: 1 if pair % 2 == 0 else -1]:
            seconds[side].append(side.seconds(counts[side]))
    took = time.monotonic() - wall
    others = (machine_seconds() - machine - (time.process_time() - own)) / took
    return Pairs(seconds[ours], seconds[theirs], 0.0, max(0.0, others))


def contest(command: Record) -> Record:
    torch.set_num_threads(command["threads"])
    options, peer = command["options"], command["peer"]
    try:
        theirs = Stepper(lambda p: peers.make_peer(peer, p, options), command["shapes"], not peer.startswith("torch."))
    except ImportError as error:
        return {"missing": f"not installed: {error.name}"}
    ours = Stepper(lambda p: OURS[command["ours"]](p, options), command["shapes"], False)
    return alternate(ours, theirs, Budget(*command["budget"]), command["unit"]).record()


def main() -> None:
    warnings.filterwarnings("ignore")
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = contest(command)
        except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
