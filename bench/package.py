"""The Python package as its users meet it: one line changed, the same process, the same tensors."""

from __future__ import annotations

import dataclasses
import sys

import page
from contest import Side
from setting import ALL_THREADS, ROOT, Bench, Column, Record, Section, say
from workloads import WORKLOADS

NEVER = 10**9
SETS = ("LLaMA-60M", "GPT-2-124M")
DROP_IN = 0.95  # where the interval of a ratio has to begin, whatever the shape


@dataclasses.dataclass(frozen=True)
class Row:
    ours: str
    peer: str
    must: float | None = None
    options: Record = dataclasses.field(default_factory=dict)
    unit: int = 1
    blocks: int = 0
    sets: tuple[str, ...] = SETS


STEADY = {"every": NEVER}
ROWS = [
    Row("schatten.Muon", "torch.optim.Muon"),
    Row("schatten.Muon", "heavyball.Muon"),
    Row("schatten.Muon", "pytorch_optimizer.Muon"),
    Row("schatten.Muon", "KellerJordan/Muon"),
    Row("schatten.HTMuon", "torch.optim.Muon"),
    Row("schatten.AdamW", "torch.optim.AdamW(fused=True)"),
    Row("schatten.AdamW", "torch.optim.AdamW(foreach=True)"),
    Row("schatten.GaLore", "galore_torch.GaLoreAdamW", options=STEADY),
    Row("schatten.APOLLO", "apollo_torch.APOLLOAdamW", options=STEADY),
    Row("schatten.SOAP", "heavyball.SOAP", unit=10, blocks=1, sets=("LLaMA-60M",)),
]
# One tensor, and as many as a small model has.
GRID_PAIRS = [Row("schatten.AdamW", "torch.optim.AdamW(fused=True)", DROP_IN), Row("schatten.Muon", "torch.optim.Muon", DROP_IN)]
VECTORS = [[n] for n in (16, 64, 256, 1024, 4096)]
MATRICES = [[m, n] for m in (16, 64, 256, 1024, 4096) for n in (16, 64, 256, 1024, 4096) if m * n <= 2**22]
FEW, MANY = 1, 20


def ask(side: Side, row: Row, shapes: list[list[int]], threads: int, budget: tuple[float, int, int, float]) -> Record:
    return side.ask("contest", ours=row.ours, peer=row.peer, options=row.options, shapes=shapes, threads=threads,
                    budget=budget, unit=row.unit)


def worker() -> Side:
    return Side("the Python package", [sys.executable, str(ROOT / "bench" / "package_worker.py")])


def whole_sets(bench: Bench) -> list[Record]:
    quick, records = bench.plan.quick, []
    side = worker()
    for name in SETS[:1] if quick else SETS:
        workload = WORKLOADS[name]
        for row in (row for row in ROWS if name in row.sets):
            shapes = [list(s) for s in workload.tensors(1 if quick else row.blocks or workload.few)]
            chosen = dataclasses.replace(row, options={**row.options, "rank": workload.rank}, unit=1 if quick else row.unit)
            for threads in sorted({1, ALL_THREADS}):
                budget = (0.1, 2, 2, 0.01) if quick else (2.0, 5, 20, 0.1)
                found = ask(side, chosen, shapes, threads, budget)
                records.append({"set": f"{name}, {len(shapes)} matrices", "ours_is": row.ours, "peer": row.peer,
                                "threads": threads, **found})
                say("  ".join(column.cell(records[-1]) for column in SET_COLUMNS))
    side.close()
    return records


def grid(bench: Bench) -> list[Record]:
    quick, records = bench.plan.quick, []
    side = worker()
    for row in GRID_PAIRS:
        shapes = MATRICES if "Muon" in row.ours else VECTORS + MATRICES
        for shape in shapes[:2] if quick else shapes:
            for count in (FEW, MANY):
                small = count * shape[0] * (shape[1] if len(shape) > 1 else 1) <= 2**23
                if not small and not quick:
                    continue
                budget = (0.1, 2, 2, 0.01) if quick else (1.0, 9, 30, 0.02)
                found = ask(side, row, [shape] * count, 1, budget)
                records.append({"shape": "x".join(map(str, shape)), "count": count, "ours_is": row.ours, "peer": row.peer,
                                "must": row.must, "met": found["interval"][0] >= DROP_IN, **found})
                say("  ".join(column.cell(records[-1]) for column in GRID_COLUMNS))
    side.close()
    return records


def microseconds(record: Record, side: str) -> str:
    return f"{record[side]['median'] / record['count'] * 1e6:.3g}"


def ratio_cell(r: Record) -> str:
    return f"{r['ratio']:.2f}" if "ratio" in r else r.get("missing", "")


def interval_cell(r: Record) -> str:
    return f"{r['interval'][0]:.2f} to {r['interval'][1]:.2f}" if "interval" in r else ""


SET_COLUMNS = [
    Column("tensors", lambda r: r["set"]),
    Column("class", lambda r: r["ours_is"]),
    Column("against", lambda r: r["peer"]),
    Column("threads", lambda r: str(r["threads"])),
    Column("ms, median", lambda r: f"{r['ours']['median'] * 1e3:.3g}" if "ours" in r else ""),
    Column("peer's ms", lambda r: f"{r['theirs']['median'] * 1e3:.3g}" if "theirs" in r else ""),
    Column("ratio", ratio_cell),
    Column("95 %", interval_cell),
    Column("others", lambda r: f"{r['others']:.1%}" if "others" in r else ""),
]
GRID_COLUMNS = [
    Column("shape", lambda r: r["shape"]),
    Column("tensors", lambda r: str(r["count"])),
    Column("class", lambda r: r["ours_is"]),
    Column("against", lambda r: r["peer"]),
    Column("us per tensor", lambda r: microseconds(r, "ours")),
    Column("peer's", lambda r: microseconds(r, "theirs")),
    Column("ratio", ratio_cell),
    Column("95 %", interval_cell),
    Column(f"from {DROP_IN}", lambda r: page.verdict(r["met"], r["busy"])),
]

SECTIONS = [
    Section("package", """## The Python package: hidden matrices

One process holds both optimizers and clones of the same tensors, and steps them in turns, A B B A. Median milliseconds
of one `step()`, Python included; the ratio is the peer's time over Schatten's.""", whole_sets, SET_COLUMNS),
    Section("package_grid", f"""## The Python package: every shape

The same for one tensor and for {MANY}, one thread: what Python costs per step shows in the small ones. A drop-in must not
be slower: the interval of the ratio has to begin at {DROP_IN} or above.""", grid, GRID_COLUMNS),
]
