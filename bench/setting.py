"""What every section of run.py works with: the two sides, how much is measured, and what a section is."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from contest import Budget, Side
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
ALL_THREADS = os.cpu_count() or 1
AUXILIARY = {"recipe": "adamw", "lr": 1e-3}
Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is measured."""

    passes: Budget
    steps: Budget
    slow_steps: Budget  # SVDs, second-order methods, a CPU without its best instructions
    trainer_runs: int
    trainer_steps: Mapping[str, int]
    profile_steps: int
    large_batch: int
    quick: bool


FULL = Plan(Budget(25, 8, 60, 0.2), Budget(2, 5, 20), Budget(4, 3, 6), 3, {"default": 12, "first look": 100}, 5, 2, False)
QUICK = Plan(Budget(1, 2, 4), Budget(0.1, 2, 2, 0.01), Budget(0.1, 2, 2, 0.01), 1, {"default": 1, "first look": 25}, 2, 1,
             True)


@dataclasses.dataclass(frozen=True)
class Bench:
    plan: Plan
    ours: Side
    theirs: Side
    folder: pathlib.Path
    driver: pathlib.Path  # programs
    program: pathlib.Path

    def set_up(self, model: Record, threads: int) -> dict[str, int]:
        """The same weights on both sides; the shape of the model is returned."""
        weights = str(self.folder / "weights.safetensors")
        shape: dict[str, int] = self.ours.ask("setup", model=model, threads=threads, weights=weights)["shape"]
        self.theirs.ask("setup", shape=shape, threads=threads, weights=weights)
        return shape

    def give_batch(self, batch: int, length: int, vocab: int) -> None:
        """The same random tokens to both sides."""
        draw = torch.Generator().manual_seed(1)
        tokens = torch.randint(0, vocab, (batch, length + 1), generator=draw)
        file = self.folder / "batch.safetensors"
        save_file({"tokens": tokens[:, :-1].clone(), "targets": tokens[:, 1:].clone()}, file)
        for side in (self.ours, self.theirs):
            side.ask("batch", file=str(file))

    @contextlib.contextmanager
    def with_environment(self, environment: Mapping[str, str]) -> Iterator[Bench]:
        """The same bench with two new sides that see more of the environment."""
        with sides(self.driver, environment) as (ours, theirs):
            yield dataclasses.replace(self, ours=ours, theirs=theirs)


@contextlib.contextmanager
def sides(driver: pathlib.Path, environment: Mapping[str, str]) -> Iterator[tuple[Side, Side]]:
    ours = Side("the C++ side", [str(driver)], environment)
    theirs = Side("the Python side", [sys.executable, str(ROOT / "bench" / "plain_worker.py")], environment)
    try:
        yield ours, theirs
    finally:
        ours.close()
        theirs.close()


@contextlib.contextmanager
def opened(plan: Plan, driver: pathlib.Path, program: pathlib.Path) -> Iterator[Bench]:
    for needed in (driver, program):
        if not needed.exists():
            raise SystemExit(f"[bench] expected {needed}, got nothing there\n  `make bench` builds it.")
    with tempfile.TemporaryDirectory() as folder, sides(driver, {}) as (ours, theirs):
        yield Bench(plan, ours, theirs, pathlib.Path(folder), driver, program)


@dataclasses.dataclass(frozen=True)
class Column:
    header: str
    cell: Callable[[Record], str]


@dataclasses.dataclass(frozen=True)
class Section:
    """Measures records (they go to the JSON file as they are), and says how a table shows them."""

    name: str
    text: str
    measure: Callable[[Bench], list[Record]]
    columns: list[Column]


def say(text: str) -> None:
    print(text, flush=True)
