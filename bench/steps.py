"""Whole optimizer steps against the peers: time, accuracy, state, and the targets that they are judged by."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence

import page
from contest import Pairs, alternate
from peers import RATE
from setting import ALL_THREADS, AUXILIARY, Bench, Column, Record, Section, say
from workloads import WORKLOADS, Examples, Workload, give_matrices, give_model

MATRIX_SETS = tuple(WORKLOADS)
THREADS_TARGET = 1.9  # what two threads should make of one
NEVER = 10**9


@dataclasses.dataclass(frozen=True)
class Row:
    """One recipe of ours against one peer. Targets are ratios per set, or one for all."""

    label: str
    recipe: Record
    peer: str
    options: Record = dataclasses.field(default_factory=dict)
    must: Sequence[float] = ()
    aim: Sequence[float] = ()
    exact: str = ""  # whose singular values the update should have: see workloads.exact_map
    sets: tuple[str, ...] = MATRIX_SETS
    unit: int = 1  # steps after which costs repeat
    slow: bool = False
    blocks: int = 0  # instead of the set's own number
    one_thread: bool = False

    def target(self, values: Sequence[float], name: str) -> float | None:
        if not values:
            return None
        return values[self.sets.index(name)] if len(values) == len(self.sets) else values[0]


def muon(**options: object) -> Record:
    return {"recipe": "muon", "lr": RATE, **options}


def htmuon(**options: object) -> Record:
    return {"recipe": "htmuon", "lr": RATE, **options}


def low_rank(recipe: str, every: int, **options: object) -> Record:
    return {"recipe": recipe, "lr": RATE, "refresh_every": every, **options}


FLOAT32 = {"polar": {"compute": "float32"}}
BFLOAT16X2 = {"polar": {"compute": "bfloat16x2"}}  # 16 bits, where the CPU has AMX; else float32
TORCH_MUON = "torch.optim.Muon"
MUON = [
    Row("muon", muon(), TORCH_MUON, must=[1.5, 1.75, 2.05], aim=[1.9, 2.0, 2.4], exact="quintic"),
    Row("muon, variant torch", muon(variant="torch"), TORCH_MUON, must=[1.5, 1.75, 2.05], aim=[1.9, 2.0, 2.4],
        exact="quintic", one_thread=True),
    Row("muon", muon(), "heavyball.Muon", one_thread=True),
    Row("muon", muon(), "pytorch_optimizer.Muon", one_thread=True),
    Row("muon, float32", muon(**FLOAT32), TORCH_MUON, must=[0.9, 0.95, 1.4], aim=[1.1, 1.15, 1.6], exact="quintic"),
    Row("muon, bfloat16x2", muon(**BFLOAT16X2), TORCH_MUON, must=[0.9, 0.95, 1.4], aim=[1.1, 1.15, 1.6], exact="quintic"),
    Row("muon, float32", muon(**FLOAT32), "textbook, float32", must=[1.9, 1.9, 2.6], aim=[2.2, 2.2, 2.9], exact="quintic",
        slow=True),
]
SVD = "released HTMuon (SVD)"
HTMUON = [
    Row("polar factor, rational", htmuon(power=0, method="rational"), TORCH_MUON, must=[1.6, 1.8, 2.4],
        aim=[2.3, 2.4, 2.8], exact="polar"),
    Row("htmuon, rational", htmuon(method="rational"), SVD, {"power": 0.125}, must=[3.9, 3.3, 4.8], aim=[5.5, 4.5, 5.6],
        exact="power", slow=True),
    Row("htmuon, eigh", htmuon(method="eigh"), SVD, {"power": 0.125}, must=[1.2, 1.2, 1.6], aim=[2], exact="power",
        slow=True),
]
LOW_RANK = [
    Row("galore, steady", low_rank("galore", NEVER), "galore_torch.GaLoreAdamW", {"every": NEVER}, must=[1.2], aim=[1.4]),
    Row("galore, refresh", low_rank("galore", 1), "galore_torch.GaLoreAdamW", {"every": 1}, must=[10], aim=[30], slow=True),
    Row("apollo", low_rank("apollo", NEVER), "apollo_torch.APOLLOAdamW", {"every": NEVER}, must=[1.3], aim=[1.5]),
    Row("apollo_mini", low_rank("apollo_mini", NEVER, rank=1), "apollo_torch.APOLLOAdamW", {"every": NEVER, "rank": 1}),
]
EVERY_10 = {"lr": RATE, "every": 10}
SECOND_ORDER = [
    Row("soap", {"recipe": "soap", **EVERY_10}, "heavyball.SOAP", must=[2]),
    Row("soap", {"recipe": "soap", **EVERY_10}, "pytorch_optimizer.SOAP", one_thread=True),
    Row("shampoo", {"recipe": "shampoo", **EVERY_10}, "heavyball.KLShampoo", must=[2]),
    Row("shampoo, no momentum", {"recipe": "shampoo", "momentum": 0, **EVERY_10}, "pytorch_optimizer.Shampoo",
        one_thread=True),
]
SECOND_ORDER = [dataclasses.replace(row, sets=("LLaMA-60M",), unit=10, slow=True, blocks=1) for row in SECOND_ORDER]
ADAMW = [Row("adamw", {"recipe": "adamw", "lr": RATE}, "torch.optim.AdamW(fused=True)", must=[1.1], aim=[1.3])]
WHOLE_MODELS = [
    Row("muon + adamw", muon(), TORCH_MUON, sets=("llama-tiny", "llama-60m")),
    Row("adamw", {"recipe": "adamw", "lr": RATE}, "torch.optim.AdamW(fused=True)", must=[1.1], aim=[1.3],
        sets=("llama-tiny", "llama-60m")),
]
MASKED = {
    "avx512_bf16": [Row("muon", muon(), TORCH_MUON, slow=True),
                    Row("muon, bfloat16", muon(polar={"compute": "bfloat16"}), TORCH_MUON, slow=True)],
    # Here torch takes ten seconds and more for a step of one block.
    "avx2": [Row("muon", muon(), TORCH_MUON, aim=[5], slow=True, sets=("LLaMA-60M",), blocks=1)],
}


def with_rank(row: Row, workload: Workload) -> tuple[Record, Record]:
    """Both sides' options, with the rank of the set where the row leaves it open."""
    if row not in LOW_RANK or "rank" in row.recipe:
        return row.recipe, row.options
    return {**row.recipe, "rank": workload.rank}, {**row.options, "rank": workload.rank}


def contest(bench: Bench, row: Row, recipe: Record, options: Record, gradients: str, threads: int, whole: bool) -> Record:
    """Times and state, or what is missing."""
    more: Record = {"threads": threads, "gradients": gradients, **({"auxiliary": AUXILIARY} if whole else {})}
    bench.ours.ask("optimizer", recipe=recipe, **more)
    answer = bench.theirs.ask("optimizer", recipe=row.peer, options=options, **more)
    if "missing" in answer:
        return {"missing": answer["missing"]}
    budget = bench.plan.slow_steps if row.slow else bench.plan.steps
    pairs: Pairs = alternate(bench.ours, bench.theirs, "steps", budget, 1 if bench.plan.quick else row.unit)
    state = {name: side.ask("state_bytes")["bytes"] for name, side in (("ours", bench.ours), ("theirs", bench.theirs))}
    return {**pairs.record(), "state_bytes": state}


def judged(record: Record) -> Record:
    """Adds whether the interval begins at the targets or above."""
    if "missing" in record:
        return record
    low = record["interval"][0]
    met = {name: low >= record[name] for name in ("must", "aim") if record[name] is not None}
    return {**record, "met": met}


def blocks_of(row: Row, workload: Workload, quick: bool) -> int:
    return 1 if quick else row.blocks or (workload.few if row.slow else workload.blocks)


def measure_row(bench: Bench, row: Row, name: str, thread_counts: Sequence[int], examples: dict[str, Examples]) -> list[Record]:
    records: list[Record] = []
    workload = WORKLOADS.get(name)
    error: Record | None = None
    if workload:
        recipe, options = with_rank(row, workload)
        if row.exact:
            if name not in examples:
                examples[name] = Examples(bench, workload)
            error = examples[name].measure(bench, recipe, row.peer, options, row.exact, RATE)
        shapes = workload.tensors(blocks_of(row, workload, bench.plan.quick))
        gradients, size = give_matrices(bench, shapes), sum(m * n for m, n in shapes)
        note = f"{name}, {len(shapes)} matrices"
    else:
        recipe, options = row.recipe, row.options
        gradients, size, note = give_model(bench, name, ALL_THREADS), 0, f"{name}, all tensors"
    for threads in thread_counts[:1] if row.one_thread else thread_counts:
        found = contest(bench, row, recipe, options, gradients, threads, whole=workload is None)
        one = next((r for r in records if r["threads"] == 1), None)
        gain = one["ours"]["median"] / found["ours"]["median"] if one and "ours" in found and "ours" in one else None
        records.append(judged({
            "set": note, "label": row.label, "recipe": recipe, "peer": row.peer, "threads": threads, "parameters": size,
            "must": row.target(row.must, name), "aim": row.target(row.aim, name), "error": error, "threads_gain": gain,
            **found}))
        say("  ".join(column.cell(records[-1]) for column in COLUMNS))
    return records


def measure(bench: Bench, rows: list[Row], thread_counts: Sequence[int] = ()) -> list[Record]:
    examples: dict[str, Examples] = {}
    thread_counts = thread_counts or sorted({1, ALL_THREADS})
    names = list(dict.fromkeys(name for row in rows for name in row.sets))
    if bench.plan.quick:
        names = names[:1]
    return [record for name in names for row in rows if name in row.sets
            for record in measure_row(bench, row, name, thread_counts, examples)]


# --- a CPU with fewer instructions ------------------------------------------------------------------------------------

# What this CPU has beyond a level is hidden from both sides: oneDNN, ATen and MKL have a variable each, ours has one.
LEVELS = {
    "avx512_bf16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}
ORDER = ["portable", "avx2", "avx512", "avx512_bf16", "amx_bf16"]
ASK_TORCH = "import torch; a = torch.ones(256, 256, dtype=torch.bfloat16); a @ a; print(torch.backends.cpu.get_cpu_capability())"


def seen_by_torch(environment: dict[str, str]) -> str:
    """What oneDNN says that it uses for a product of bfloat16, and ATen's level."""
    done = subprocess.run([sys.executable, "-c", ASK_TORCH], env={**os.environ, **environment, "ONEDNN_VERBOSE": "1"},
                          capture_output=True, text=True, check=True)
    used = {line.split(",")[6] for line in done.stdout.splitlines() if ",exec,cpu,matmul," in line}
    return f"oneDNN {', '.join(sorted(used)) or 'not used'}; ATen {done.stdout.splitlines()[-1]}"


def masked(bench: Bench) -> list[Record]:
    best = bench.ours.ask("describe")["isa"]
    records = []
    for level, theirs in LEVELS.items():
        if ORDER.index(level) >= ORDER.index(best):
            continue
        environment = {**theirs, "SCHATTEN_ISA": level}
        seen = seen_by_torch(environment)
        say(f"masked: {level}; {seen}")
        with bench.with_environment(environment) as low:
            records += [{**r, "level": level, "torch_uses": seen} for r in measure(low, MASKED[level], [1])]
    return records


# --- how it is shown --------------------------------------------------------------------------------------------------


def times(side: str) -> Column:
    def cell(r: Record) -> str:
        if side not in r:
            return r.get("missing", "") if side == "theirs" else ""
        return f"{page.seconds(r[side]['minimum'])} / {page.seconds(r[side]['median'])}"

    return Column({"ours": "Schatten, min / median", "theirs": "peer, min / median"}[side], cell)


def error_cell(r: Record) -> str:
    if not r["error"]:
        return ""
    return " / ".join(", ".join(f"{e:.1e}" for e in r["error"][side].values()) for side in ("ours", "theirs"))


def state_cell(r: Record) -> str:
    if "state_bytes" not in r or not r["parameters"]:
        return ""
    return " / ".join(f"{r['state_bytes'][side] / r['parameters']:.2f}" for side in ("ours", "theirs"))


def target_cell(r: Record) -> str:
    return " / ".join(f"{r[name]:g}" for name in ("must", "aim") if r[name] is not None)


def verdict_cell(r: Record) -> str:
    met = r.get("met", {})
    if not met:
        return ""
    if r["busy"]:
        return page.BUSY_MACHINE
    if "must" not in met:
        return "aim met" if met["aim"] else "aim not met"
    return "**not met**" if not met["must"] else "aim met" if met.get("aim") else "must met"


def gain_cell(r: Record) -> str:
    gain = r["threads_gain"]
    if gain is None or r["busy"]:
        return ""
    return f"{gain:.2f}" if gain >= THREADS_TARGET else f"**{gain:.2f}**"


COLUMNS = [
    Column("tensors: Schatten", lambda r: f"{r['set']}: {r['label']}"),
    Column("against", lambda r: r["peer"]),
    Column("threads", lambda r: str(r["threads"])),
    times("ours"),
    times("theirs"),
    Column("ratio", lambda r: f"{r['ratio']:.2f}" if "ratio" in r else ""),
    Column("95 %", lambda r: f"{r['interval'][0]:.2f} to {r['interval'][1]:.2f}" if "interval" in r else ""),
    Column("must / aim", target_cell),
    Column("verdict", verdict_cell),
    Column("error, ours / peer", error_cell),
    Column("state B/param, ours / peer", state_cell),
    Column("gain by threads", gain_cell),
    Column("pairs", lambda r: str(r.get("pairs", ""))),
    Column("idle side, others", lambda r: page.load(r["idle"], r["others"]) if "idle" in r else ""),
]
MASKED_COLUMNS = [Column("instructions", lambda r: r["level"]), *COLUMNS, Column("torch uses", lambda r: r["torch_uses"])]

BLOCKS = "\n".join(f"- {w.name}: {w.blocks} of {w.of} ({w.few} where a step is slow)" for w in WORKLOADS.values())
STEPS = f"""Time of one `step()` of the hidden matrices of some blocks, gradients given, float32 weights. The ratio is what counts.
Blocks measured:

{BLOCKS}

"Error" is the relative Frobenius error of one update against the same map of singular values in float64, the worst of
the set's shapes, for a Gaussian matrix and for one with sigma_k = 1/k. A target is met when the interval begins there or
above. "Gain by threads" is one thread's median over that of all threads (target {THREADS_TARGET})."""

SECTIONS = [
    Section("muon", f"## Optimizer steps: Muon\n\n{STEPS}\n\nNewton-Schulz is in bfloat16 on both sides unless a row says "
            "otherwise.", lambda bench: measure(bench, MUON), COLUMNS),
    Section("htmuon", f"""## Optimizer steps: powers of singular values

Against Muon's step: the polar factor by a rational function (another function than Muon's quintic: errors stand beside
it). Against HTMuon's exact form as released, one `torch.linalg.svd` per matrix (`{SVD}`, written in bench/peers.py).
Gaussian square matrices have singular values below the rational form's interval, where it falls to 0 as it says.""",
            lambda bench: measure(bench, HTMUON), COLUMNS),
    Section("adamw", "## Optimizer steps: AdamW", lambda bench: measure(bench, ADAMW), COLUMNS),
    Section("low_rank", """## Optimizer steps: low rank

Rank 128 (LLaMA-60M) and 256. "Steady": the projection stays. "Refresh": it is renewed in every step.""",
            lambda bench: measure(bench, LOW_RANK), COLUMNS),
    Section("second_order", """## Optimizer steps: second order

Bases and roots are renewed every 10 steps on both sides; a timing is 10 steps, told per step. heavyball is not compiled;
its one Shampoo is KL-Shampoo.""", lambda bench: measure(bench, SECOND_ORDER), COLUMNS),
    Section("whole", """## Optimizer steps: whole models

All tensors: hidden matrices by the recipe, the rest by AdamW (the peers': fused).""",
            lambda bench: measure(bench, WHOLE_MODELS), COLUMNS),
    Section("masked", """## Muon on lesser CPUs

What this CPU has beyond a level is hidden from both sides by their own switches (`SCHATTEN_ISA`; `ONEDNN_MAX_CPU_ISA`,
`ATEN_CPU_CAPABILITY`, `MKL_ENABLE_INSTRUCTIONS`), one thread, few blocks. It is still this CPU: another one that stops
at that level has other rates. What `muon` computes in there is its own choice (float32 where that is faster); without
AVX-512 torch multiplies bfloat16 in loops of its own.""", masked, MASKED_COLUMNS),
]
