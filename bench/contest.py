"""Two processes timed in turns, and what the pairs say."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import statistics
import subprocess
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

# OpenMP threads spin for some milliseconds after their last work: the other side starts when they sleep.
# (A passive wait policy would slow both sides, and nobody runs with one.)
PAUSE = 0.05
BUSY = 0.1  # cores that others may take before a comparison says nothing
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Side:
    """One process that answers JSON lines."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})

    def ask(self, do: str, **arguments: object) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": f"ended with {self.process.wait()}"}
        if "error" in answer:
            raise SystemExit(f"[bench] {self.name} failed at '{do}': {answer['error']}")
        return answer

    def cpu_seconds(self) -> float:
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def machine_seconds() -> float:
    """CPU seconds that all processes together have used."""
    numbers = [int(word) for word in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(numbers) - numbers[3] - numbers[4]) / CLOCK_TICKS  # all but idle and waiting


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Seconds of both sides, pair by pair, and what else took the CPU meanwhile, in cores."""

    ours: list[float]
    theirs: list[float]
    idle: float  # the side that waited
    others: float  # all other processes

    def logs(self) -> Any:
        return np.log(np.array(self.theirs) / np.array(self.ours))

    def ratio(self) -> float:
        """How many times as fast as theirs ours is."""
        return math.exp(float(np.median(self.logs())))

    def interval(self) -> tuple[float, float]:
        """95 %, by 10,000 resamples of the pairs."""
        logs = self.logs()
        picks = np.random.default_rng(1).integers(0, len(logs), size=(10_000, len(logs)))
        low, high = np.quantile(np.median(logs[picks], axis=1), [0.025, 0.975])
        return math.exp(low), math.exp(high)

    def record(self) -> dict[str, Any]:
        """What is kept of a contest."""
        sides = {name: {"minimum": min(seconds), "median": statistics.median(seconds)}
                 for name, seconds in (("ours", self.ours), ("theirs", self.theirs))}
        return {**sides, "ratio": self.ratio(), "interval": list(self.interval()), "pairs": len(self.ours),
                "idle": self.idle, "others": self.others, "busy": self.idle + self.others > BUSY}


@dataclasses.dataclass(frozen=True)
class Budget:
    seconds: float  # after which a contest ends, warm-up left out
    least: int  # pairs, however long they take
    most: int
    sample: float = 0.1  # seconds that one timing lasts at least


def repeats(side: Side, do: str, budget: Budget, unit: int) -> int:
    """How often `do` runs in one timing: a multiple of `unit`."""
    once: float = side.ask(do, count=unit)["seconds"]
    if once * unit < 3 * budget.sample:  # the first of its kind pays for memory and caches: it may be needed again
        once = side.ask(do, count=unit)["seconds"]
    return unit * max(1, math.ceil(budget.sample / (once * unit)))


def alternate(ours: Side, theirs: Side, do: str, budget: Budget, unit: int = 1) -> Pairs:
    """A B B A A B B A ...: one timing of each side per pair, the other side waiting. Where not every step costs the same,
    `unit` is the number of steps after which costs repeat."""
    counts = {side: repeats(side, do, budget, unit) for side in (ours, theirs)}
    seconds: dict[Side, list[float]] = {ours: [], theirs: []}
    idle = others = wall = 0.0
    deadline = time.monotonic() + budget.seconds
    for pair in range(budget.most):
        if pair >= budget.least and time.monotonic() > deadline:
            break
        for side, other in ((ours, theirs), (theirs, ours))[:: 1 if pair % 2 == 0 else -1]:
            time.sleep(PAUSE)
            before = np.array([machine_seconds(), side.cpu_seconds(), other.cpu_seconds(), time.monotonic()])
            seconds[side].append(side.ask(do, count=counts[side])["seconds"])
            after = np.array([machine_seconds(), side.cpu_seconds(), other.cpu_seconds(), time.monotonic()])
            machine, own, waiting, took = (after - before).tolist()
            idle, others, wall = idle + waiting, others + machine - own - waiting, wall + took
    return Pairs(seconds[ours], seconds[theirs], idle / wall, max(0.0, others / wall))
