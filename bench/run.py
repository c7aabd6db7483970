#!/usr/bin/env python3
"""Measures Schatten against plain PyTorch, in turns on one machine, and writes docs/benchmarks.md.

`make bench` builds and runs it. `--quick` takes less than a minute, only shows that all of it works, and writes a page
only when --out is given.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import page
import torch
from contest import PAUSE, Budget, Pairs, Side, alternate
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOSS_TOLERANCE = 1e-5
SPEED_TARGET = 0.97
OVERHEAD_TARGET = 0.02
AUXILIARY = {"recipe": "adamw", "lr": 1e-3}
ALL_THREADS = os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is measured."""

    passes: Budget
    optimizers: Budget
    trainer_runs: int
    trainer_steps: dict[str, int]
    large_batch: int
    slow_methods: bool


FULL = Plan(Budget(75, 12, 100, 0.2), Budget(2.5, 5, 30), 3, {"default": 12, "first look": 100}, 2, True)
QUICK = Plan(Budget(1, 2, 4), Budget(0.1, 2, 2, 0.01), 1, {"default": 1, "first look": 25}, 1, False)


@dataclasses.dataclass(frozen=True)
class Bench:
    plan: Plan
    ours: Side
    theirs: Side
    folder: pathlib.Path
    program: pathlib.Path

    def set_up(self, model: dict[str, object], threads: int) -> dict[str, int]:
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


def say(text: str) -> None:
    print(text, flush=True)


# --- forward and backward ---------------------------------------------------------------------------------------------


def check_equal(ours: Side, theirs: Side) -> float:
    """The difference of the losses; ends the program when the two models are not one."""
    a, b = ours.ask("loss"), theirs.ask("loss")
    difference: float = abs(a["loss"] - b["loss"])
    norms = abs(a["gradient_norm"] / b["gradient_norm"] - 1)
    if difference > LOSS_TOLERANCE or norms > LOSS_TOLERANCE:
        raise SystemExit(f"[bench] expected the same loss and gradient norm, got {a} and {b}")
    return difference


def passes(bench: Bench) -> str:
    cases = [("llama-tiny", 6, ALL_THREADS), ("llama-tiny", 6, 1), ("llama-60m", bench.plan.large_batch, ALL_THREADS)]
    rows = []
    for preset, batch, threads in dict.fromkeys(cases):
        shape = bench.set_up({"preset": preset}, threads)
        length = shape["context"]
        bench.give_batch(batch, length, shape["vocab"])
        difference = check_equal(bench.ours, bench.theirs)
        pairs = alternate(bench.ours, bench.theirs, "passes", bench.plan.passes)
        low, high = pairs.interval()
        ours, theirs = (batch * length / statistics.median(s) for s in (pairs.ours, pairs.theirs))
        rows.append([f"{preset}, {batch} x {length}", str(threads), f"{ours:,.0f}", f"{theirs:,.0f}",
                     f"{pairs.ratio():.3f}", f"{low:.3f} to {high:.3f}", str(len(pairs.ours)), f"{difference:.0e}",
                     page.load(pairs.idle, pairs.others), page.verdict(low >= SPEED_TARGET)])
        say(f"passes: {' | '.join(rows[-1])}")
    header = ["model, batch", "threads", "Schatten, tokens/s", "PyTorch, tokens/s", "ratio", "95 % interval", "pairs",
              "loss difference", "idle side, others", "target"]
    return page.table(header, rows)


# --- trainer overhead -------------------------------------------------------------------------------------------------

TRAINER_CONFIGS: dict[str, list[str]] = {
    "default": [],
    "first look": ["data.batch=6", "model.preset=llama-tiny", "schedule.warmup=20", "spectra.every=100"],
}


def train_once(bench: Bench, settings: list[str], run_dir: pathlib.Path) -> dict[str, float]:
    command = [str(bench.program), "train", "--run-dir", str(run_dir)]
    for setting in [*settings, "data.eval_batches=1", "train.sample_length=0"]:
        command += ["--set", setting]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"[bench] {' '.join(command)} failed:\n{done.stderr}")
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    shares: dict[str, float] = records[-1]["shares"]
    return {**shares, "tokens_per_second": records[-1]["tokens_per_second"]}


def overhead(shares: dict[str, float]) -> float:
    return shares["data"] + shares["other"]


def trainer(bench: Bench) -> str:
    rows = []
    for name, settings in TRAINER_CONFIGS.items():
        steps = bench.plan.trainer_steps[name]
        runs = [train_once(bench, [*settings, f"train.steps={steps}"], bench.folder / f"{name[:5]}-{i}")
                for i in range(bench.plan.trainer_runs)]
        worst = max(runs, key=overhead)
        rows.append([name, f"{len(runs)} x {steps}", f"{worst['tokens_per_second']:,.0f}",
                     *(f"{worst[part]:.2%}" for part in ("forward", "backward", "optimizer", "spectra", "data", "other")),
                     f"{overhead(worst):.2%}", page.verdict(overhead(worst) < OVERHEAD_TARGET)])
        say(f"trainer: {' | '.join(rows[-1])}")
    header = ["config", "runs x steps", "tokens/s", "forward", "backward", "optimizer", "spectra", "data", "other", "overhead",
              "target"]
    return page.table(header, rows)


# --- memory -----------------------------------------------------------------------------------------------------------


def memory(bench: Bench) -> str:
    rows = []
    for preset in ("llama-tiny", "llama-60m"):
        for recipe in ("muon", "htmuon", "adamw"):
            got = bench.ours.ask("memory", model={"preset": preset}, recipe={"recipe": recipe, "lr": 1e-3},
                                 auxiliary=AUXILIARY, length=16)
            equal = all(got[part][0] == got[part][1] for part in ("weights", "gradients", "state"))
            cells = [f"{got[part][1]:,} / {got[part][0]:,}" for part in ("weights", "gradients", "state")]
            rows.append([f"{preset}, {recipe}", *cells, f"{got['left_by_step']:,}", f"{got['tables']:,}",
                         page.verdict(equal and got["left_by_step"] == 0)])
            say(f"memory: {' | '.join(rows[-1])}")
    return page.table(["model, recipe", "weights", "gradients", "optimizer state", "left by a step", "rotary tables",
                       "equal"], rows)


# --- optimizer steps --------------------------------------------------------------------------------------------------

MATRIX_RECIPES: list[tuple[str, dict[str, object], str]] = [
    ("muon, torch's variant", {"recipe": "muon", "variant": "torch"}, "Muon"),
    ("muon", {"recipe": "muon"}, "Muon"),
    ("htmuon, rational", {"recipe": "htmuon", "method": "rational"}, "Muon"),
    ("htmuon, eigh", {"recipe": "htmuon", "method": "eigh"}, "Muon"),
    ("htmuon, svd", {"recipe": "htmuon", "method": "svd"}, "Muon"),
    ("adamw", {"recipe": "adamw"}, "AdamW"),
    ("adamw", {"recipe": "adamw"}, "AdamW fused"),
]


def random_gradients(folder: pathlib.Path) -> str:
    draw = torch.Generator().manual_seed(2)
    weights = load_file(folder / "weights.safetensors")
    path = folder / "gradients.safetensors"
    save_file({name: 1e-3 * torch.randn(w.shape, generator=draw) for name, w in weights.items()}, path)
    return str(path)


def compare_steps(bench: Bench, recipe: dict[str, object], torch_name: str, threads: int, whole: bool,
                  gradients: str) -> Pairs:
    more: dict[str, object] = {"threads": threads, "gradients": gradients}
    if whole:
        more["auxiliary"] = AUXILIARY
    bench.ours.ask("optimizer", recipe={**recipe, "lr": 1e-3}, **more)
    bench.theirs.ask("optimizer", recipe=torch_name, **more)
    return alternate(bench.ours, bench.theirs, "steps", bench.plan.optimizers)


def optimizers(bench: Bench) -> str:
    cases: list[tuple[str, dict[str, object], bool]] = [
        ("llama-tiny, all", {"preset": "llama-tiny"}, True),
        ("llama-60m, 2 blocks", {"preset": "llama-60m", "layers": 2, "vocab": 256}, False)]
    rows = []
    for case, model, whole in cases:
        bench.set_up(model, ALL_THREADS)
        gradients = random_gradients(bench.folder)
        for label, recipe, torch_name in MATRIX_RECIPES:
            if not whole and not bench.plan.slow_methods and recipe.get("method") in ("svd", "eigh"):
                continue
            for threads in sorted({1, ALL_THREADS}):
                pairs = compare_steps(bench, recipe, torch_name, threads, whole, gradients)
                low, high = pairs.interval()
                rows.append([f"{case}: {label}", f"torch.optim.{torch_name}", str(threads),
                             page.seconds(statistics.median(pairs.ours)),
                             page.seconds(statistics.median(pairs.theirs)), f"{pairs.ratio():.3g}",
                             f"{low:.3g} to {high:.3g}", str(len(pairs.ours)), page.load(pairs.idle, pairs.others)])
                say(f"optimizers: {' | '.join(rows[-1])}")
    return page.table(["tensors: Schatten", "against", "threads", "Schatten", "PyTorch", "ratio", "95 % interval",
                       "pairs", "idle side, others"], rows)


# --- the page ---------------------------------------------------------------------------------------------------------


def machine(bench: Bench, command: str, took: float) -> str:
    about = bench.ours.ask("describe")
    rows = [["CPU", f"{about['cpu']}, {ALL_THREADS} cores, {about['memory_bytes'] / 2**30:.0f} GiB"],
            ["instruction sets", ", ".join(about["instructions"])],
            ["system", f"{about['system']}, compiler {about['compiler']}"],
            ["Schatten, torch, Python", f"{about['schatten']}, {torch.__version__}, {platform.python_version()}"],
            ["date", datetime.datetime.now(datetime.timezone.utc).date().isoformat()],
            ["command", f"`{command}`, {took:.0f} s"]]
    return "\n".join("| " + " | ".join(row) + " |" for row in [["", ""], ["---", "---"], *rows])


METHOD = f"""Two processes, one C++ and one Python, hold the same weights and the same random tokens. They are timed in
turns, A B B A, while the other waits for input. Each timing starts after a pause of {PAUSE * 1e3:.0f} ms, when OpenMP's
threads have stopped spinning; threads are equal, OpenMP's settings the defaults. "Idle side, others" is the share of a
core that the waiting side and all other processes took meanwhile: numbers from a busy machine mean little. A ratio is
PyTorch's seconds over Schatten's: above 1 Schatten is faster. It is the median over pairs of neighbours; the interval
is 95 %, from 10,000 resamples of the pairs."""

PASSES = f"""## Forward and backward

float32, eager, one step's loss and gradients (gradients dropped before). The Python model is `bench/plain_llama.py`;
its loss and gradient norm must agree within {LOSS_TOLERANCE:.0e} before anything is timed. Target: the interval begins
at {SPEED_TARGET} or above."""

TRAINER = f"""## Trainer overhead

Shares of a training step by the run's own clocks (`shares` in `metrics.jsonl`): data and other are what the trainer
adds to forward, backward and optimizer. Spectra are asked for and have a share of their own; evaluation and checkpoints
are outside the step. The worst run is shown.
`default` is `schatten train` without a config (few steps), `first look` the base of `examples/first_look.toml`.
Target: below {OVERHEAD_TARGET:.0%}."""

MEMORY = """## Memory

Bytes allocated / bytes declared. Gradients and state are what torch's allocator gave during the backward pass and the
construction of the optimizer; "left by a step" is what it kept after `step()`. Hidden matrices go by the recipe, the
rest by AdamW. Target: equal to the byte, and nothing left."""

OPTIMIZERS = """## Optimizer steps

Time of one `step()`, gradients given. "All" are all tensors of the model: hidden matrices by the recipe, the rest by
AdamW on both sides; "2 blocks" are the 14 hidden matrices of two blocks alone (512 x 512, 1376 x 512, 512 x 1376).
Newton-Schulz runs in bfloat16 on both sides where the CPU multiplies it. PyTorch has no HTMuon: its rows show the cost
beside Muon's. No target."""


@contextlib.contextmanager
def opened(options: argparse.Namespace) -> Iterator[Bench]:
    for program in (options.driver, options.program):
        if not program.exists():
            raise SystemExit(f"[bench] expected {program}, got nothing there\n  `make bench` builds it.")
    ours = Side("the C++ side", [str(options.driver)])
    theirs = Side("the Python side", [sys.executable, str(ROOT / "bench" / "plain_worker.py")])
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Bench(QUICK if options.quick else FULL, ours, theirs, pathlib.Path(folder), options.program)
    finally:
        ours.close()
        theirs.close()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="less than a minute: does it work, not how fast it is")
    parser.add_argument("--out", type=pathlib.Path, help="the page (default docs/benchmarks.md; none with --quick)")
    parser.add_argument("--driver", type=pathlib.Path, default=ROOT / "build" / "bench" / "schatten_bench")
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "build" / "schatten")
    return parser.parse_args()


def main() -> None:
    options = parse()
    began = time.monotonic()
    with opened(options) as bench:
        sections = [PASSES, passes(bench), TRAINER, trainer(bench), MEMORY, memory(bench), OPTIMIZERS,
                    optimizers(bench)]
        command = "python bench/run.py" + (" --quick" if options.quick else "")
        head = machine(bench, command, time.monotonic() - began)
    generated = "\n\n".join([head, METHOD, *sections])
    out = options.out or (None if options.quick else ROOT / "docs" / "benchmarks.md")
    if out is None:
        say("\n" + generated)
    else:
        page.write(out, generated)
        say(f"\n{out} is written, after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
