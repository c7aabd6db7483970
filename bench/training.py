"""Training as a whole against plain PyTorch: passes, the trainer's own cost, memory, and where a step's time goes."""

from __future__ import annotations

import json
import pathlib
import statistics
import subprocess

import page
from contest import Side, alternate
from setting import ALL_THREADS, AUXILIARY, Bench, Column, Record, Section, say

LOSS_TOLERANCE = 1e-5
SPEED_TARGET = 0.97
OVERHEAD_TARGET = 0.02


def tell(name: str, columns: list[Column], records: list[Record]) -> None:
    say(f"{name}: {' | '.join(column.cell(records[-1]) for column in columns)}")


# --- forward and backward ---------------------------------------------------------------------------------------------


def check_equal(ours: Side, theirs: Side) -> float:
    """The difference of the losses; ends the program when the two models are not one."""
    a, b = ours.ask("loss"), theirs.ask("loss")
    difference: float = abs(a["loss"] - b["loss"])
    norms = abs(a["gradient_norm"] / b["gradient_norm"] - 1)
    if difference > LOSS_TOLERANCE or norms > LOSS_TOLERANCE:
        raise SystemExit(f"[bench] expected the same loss and gradient norm, got {a} and {b}")
    return difference


def passes(bench: Bench) -> list[Record]:
    cases = [("llama-tiny", 6, ALL_THREADS), ("llama-tiny", 6, 1), ("llama-60m", bench.plan.large_batch, ALL_THREADS)]
    records: list[Record] = []
    for preset, batch, threads in dict.fromkeys(cases):
        shape = bench.set_up({"preset": preset}, threads)
        length = shape["context"]
        bench.give_batch(batch, length, shape["vocab"])
        difference = check_equal(bench.ours, bench.theirs)
        pairs = alternate(bench.ours, bench.theirs, "passes", bench.plan.passes)
        records.append({"case": f"{preset}, {batch} x {length}", "threads": threads, "tokens": batch * length,
                        "loss_difference": difference, "met": pairs.interval()[0] >= SPEED_TARGET, **pairs.record()})
        tell("passes", PASSES_COLUMNS, records)
    return records


def rate(side: str) -> Column:
    name = {"ours": "Schatten", "theirs": "PyTorch"}[side]
    return Column(f"{name}, tokens/s", lambda r: f"{r['tokens'] / r[side]['median']:,.0f}")


PASSES_COLUMNS = [
    Column("model, batch", lambda r: r["case"]),
    Column("threads", lambda r: str(r["threads"])),
    rate("ours"),
    rate("theirs"),
    Column("ratio", lambda r: f"{r['ratio']:.3f}"),
    Column("95 %", lambda r: f"{r['interval'][0]:.3f} to {r['interval'][1]:.3f}"),
    Column("pairs", lambda r: str(r["pairs"])),
    Column("loss difference", lambda r: f"{r['loss_difference']:.0e}"),
    Column("idle side, others", lambda r: page.load(r["idle"], r["others"])),
    Column("target", lambda r: page.verdict(r["met"], r["busy"])),
]

# --- trainer overhead -------------------------------------------------------------------------------------------------

TRAINER_CONFIGS: dict[str, list[str]] = {
    "default": [],
    "first look": ["data.batch=6", "model.preset=llama-tiny", "schedule.warmup=20", "spectra.every=100"],
}
SHARES = ("forward", "backward", "optimizer", "spectra", "data", "other")


def train_once(bench: Bench, settings: list[str], run_dir: pathlib.Path) -> dict[str, float]:
    command = [str(bench.program), "train", "--run-dir", str(run_dir)]
    for setting in [*settings, "data.eval_batches=1", "train.sample_length=0"]:
        command += ["--set", setting]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"[bench] {' '.join(command)} failed:\n{done.stderr}")
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    shares: dict[str, float] = records[-1]["shares"]
    return {**shares, "tokens_per_second": records[-1]["tokens_per_second"], "overhead": shares["data"] + shares["other"]}


def trainer(bench: Bench) -> list[Record]:
    records: list[Record] = []
    for name, settings in TRAINER_CONFIGS.items():
        steps = bench.plan.trainer_steps[name]
        runs = [train_once(bench, [*settings, f"train.steps={steps}"], bench.folder / f"{name[:5]}-{i}")
                for i in range(bench.plan.trainer_runs)]
        worst = max(runs, key=lambda run: run["overhead"])
        records.append({"config": name, "runs": len(runs), "steps": steps, **worst,
                        "met": worst["overhead"] < OVERHEAD_TARGET})
        tell("trainer", TRAINER_COLUMNS, records)
    return records


def share(part: str) -> Column:
    return Column(part, lambda r: f"{r[part]:.2%}")


TRAINER_COLUMNS = [
    Column("config", lambda r: r["config"]),
    Column("runs x steps", lambda r: f"{r['runs']} x {r['steps']}"),
    Column("tokens/s", lambda r: f"{r['tokens_per_second']:,.0f}"),
    *(share(part) for part in (*SHARES, "overhead")),
    Column("target", lambda r: page.verdict(r["met"])),
]

# --- memory -----------------------------------------------------------------------------------------------------------

KINDS = ("weights", "gradients", "state")


def memory(bench: Bench) -> list[Record]:
    records: list[Record] = []
    for preset in ("llama-tiny", "llama-60m"):
        for recipe in ("muon", "htmuon", "adamw"):
            got = bench.ours.ask("memory", model={"preset": preset}, recipe={"recipe": recipe, "lr": 1e-3},
                                 auxiliary=AUXILIARY, length=16)
            equal = all(got[kind][0] == got[kind][1] for kind in KINDS)
            records.append({"case": f"{preset}, {recipe}", **got, "met": equal and got["left_by_step"] == 0})
            tell("memory", MEMORY_COLUMNS, records)
    return records


def allocated(kind: str) -> Column:
    return Column({"state": "optimizer state"}.get(kind, kind), lambda r: f"{r[kind][1]:,} / {r[kind][0]:,}")


MEMORY_COLUMNS = [
    Column("model, recipe", lambda r: r["case"]),
    *(allocated(kind) for kind in KINDS),
    Column("left by a step", lambda r: f"{r['left_by_step']:,}"),
    Column("rotary tables", lambda r: f"{r['tables']:,}"),
    Column("equal", lambda r: page.verdict(r["met"])),
]

# --- where the time of a step goes ------------------------------------------------------------------------------------

# The default model and its batch; LLaMA-60M with a batch that a small machine holds.
PROFILED = [("llama-small", 16), ("llama-60m", 4)]
NESTEROV: Record = {"direction": {"stage": "ema", "beta": 0.95, "nesterov": True}}
RECIPES: dict[str, Record] = {"muon": {"recipe": "muon"}, "htmuon": {"recipe": "htmuon"}, "adamw": {"recipe": "adamw"}}


def profile(bench: Bench) -> list[Record]:
    records: list[Record] = []
    for preset, batch in PROFILED:
        shape = bench.set_up({"preset": preset}, ALL_THREADS)
        batch = 1 if bench.plan.quick else batch
        bench.give_batch(batch, shape["context"], shape["vocab"])
        matrices = [{"matrices": True, "recipe": {**recipe, "lr": 1e-3}} for recipe in (*RECIPES.values(), NESTEROV)]
        parts = [*matrices, {"matrices": False, "recipe": AUXILIARY}]
        bench.ours.ask("profile", count=1, parts=parts)  # pays for memory and caches
        runs = bench.ours.ask("profile", count=bench.plan.profile_steps, parts=parts)["seconds"]
        forward, backward, *steps, momentum, rest = [statistics.median(seconds) for seconds in runs]
        for recipe, step in zip(RECIPES, steps, strict=True):
            mapping = 0 if recipe == "adamw" else max(0.0, step - momentum)
            found = {"forward": forward, "backward": backward, "spectral": mapping, "elementwise": step - mapping,
                     "rest": rest}
            records.append({"case": f"{preset}, {batch} x {shape['context']}, {recipe}",
                            "tokens": batch * shape["context"], "seconds": sum(found.values()), **found})
            tell("profile", PROFILE_COLUMNS, records)
    return records


def part(name: str, header: str) -> Column:
    return Column(header, lambda r: f"{page.seconds(r[name])}, {r[name] / r['seconds']:.1%}")


PROFILE_COLUMNS = [
    Column("model, batch, recipe", lambda r: r["case"]),
    Column("step", lambda r: page.seconds(r["seconds"])),
    Column("tokens/s", lambda r: f"{r['tokens'] / r['seconds']:,.0f}"),
    part("forward", "forward"),
    part("backward", "backward"),
    part("spectral", "optimizer: spectral map"),
    part("elementwise", "optimizer: moments, decay, apply"),
    part("rest", "optimizer: AdamW of the rest"),
]

SECTIONS = [
    Section("passes", f"""## Forward and backward

float32, eager, one step's loss and gradients (gradients dropped before). The Python model is `bench/plain_llama.py`;
its loss and gradient norm must agree within {LOSS_TOLERANCE:.0e} before anything is timed. Target: the interval begins
at {SPEED_TARGET} or above.""", passes, PASSES_COLUMNS),
    Section("trainer", f"""## Trainer overhead

Shares of a training step by the run's own clocks (`shares` in `metrics.jsonl`): data and other are what the trainer
adds to forward, backward and optimizer. Spectra are asked for and have a share of their own; evaluation and checkpoints
are outside the step. The worst run is shown.
`default` is `schatten train` without a config (few steps), `first look` the base of `examples/first_look.toml`.
Target: below {OVERHEAD_TARGET:.0%}.""", trainer, TRAINER_COLUMNS),
    Section("profile", f"""## Where the time of a step goes

Seconds and shares of one training step, {ALL_THREADS} threads, medians. The hidden matrices' step is taken apart by
timing a second optimizer that only keeps Nesterov's average and applies it: what the whole step takes beyond that is the
spectral map's. `llama-small` is the default model.""", profile, PROFILE_COLUMNS),
    Section("memory", """## Memory

Bytes allocated / bytes declared. Gradients and state are what torch's allocator gave during the backward pass and the
construction of the optimizer; "left by a step" is what it kept after `step()`. Hidden matrices go by the recipe, the
rest by AdamW. Target: equal to the byte, and nothing left.""", memory, MEMORY_COLUMNS),
]
