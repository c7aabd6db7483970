"""The kernels by themselves, as `schatten bench` measures them."""

from __future__ import annotations

import json
import subprocess

import page
from setting import Bench, Column, Record, Section, say

SECONDS, QUICK_SECONDS = 0.2, 0.001


def measure(bench: Bench) -> list[Record]:
    quick = ["--shape", "256x512"] if bench.plan.quick else []
    command = [str(bench.program), "bench", "--json", *quick, "--seconds", str(QUICK_SECONDS if quick else SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"[bench] {' '.join(command)} failed:\n{done.stderr}")
    found = json.loads(done.stdout)
    peaks = found["peaks"]
    say(f"kernels: {len(found['rows'])} rows; {', '.join(f'{name} {value:.0f}' for name, value in peaks.items())}")
    return [{**row, "peaks": peaks} for row in found["rows"]]


def shape_cell(r: Record) -> str:
    return f"{r['cols']:,} entries" if r["rows"] == 1 else f"{r['rows']} x {r['cols']}"


def rate_cell(r: Record) -> str:
    return f"{r['gflops']:.0f} GFLOP/s" if r["gflops"] else f"{r['ns_per_entry']:.2f} ns per entry"


SECTION = Section("kernels", """## Kernels

`schatten bench` on this machine, one thread. "Of the roofline": the time that `mm`'s best rate here allows for the
operations that are needed (a symmetric product needs half of what GFLOP/s counts), or memory's best rate for the bytes.
Ratios are against `mm`, the textbook's loop in the same dtype, an SVD, or the same pass by ATen.""", measure, [
    Column("shape", shape_cell),
    Column("kernel", lambda r: r["kernel"]),
    Column("dtype", lambda r: r["dtype"]),
    Column("time", lambda r: page.seconds(r["seconds"])),
    Column("rate", rate_cell),
    Column("of the roofline", lambda r: f"{r['of_roofline']:.0%}"),
    Column("against", lambda r: r["against"]),
    Column("ratio", lambda r: f"{r['ratio']:.2f}"),
    Column("error", lambda r: f"{r['error']:.1e}"),
])
