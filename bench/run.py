#!/usr/bin/env python3
"""Measures Schatten against PyTorch and its optimizers, in turns on one machine, and writes docs/benchmarks.md.

`make bench` builds, installs the peers of requirements.txt and runs it twice: for this page, and for the Python package
(`--only package package_grid --out docs/python/benchmarks.md`): twenty minutes. `--only SECTION ...` measures some
sections and shows them (with --out: writes them). `--quick` takes a minute or two and only shows that all
of it works. Numbers go to build/bench/results.json, too.
"""

from __future__ import annotations

import argparse
import datetime
import json
import pathlib
import platform
import time

import kernels
import package
import page
import steps
import training
from contest import BUSY, PAUSE
from setting import ALL_THREADS, FULL, QUICK, ROOT, Bench, Record, Section, opened, say

SECTIONS = [*steps.SECTIONS, *package.SECTIONS, kernels.SECTION, *training.SECTIONS]
NAMES = [section.name for section in SECTIONS]

METHOD = f"""Two processes, one C++ and one Python, hold the same weights and the same random tokens. They are timed in
turns, A B B A, while the other waits for input. Each timing starts after a pause of {PAUSE * 1e3:.0f} ms, when OpenMP's
threads have stopped spinning; threads are equal, OpenMP's settings the defaults. "Idle side, others" is the share of a
core that the waiting side and all other processes took meanwhile; above {BUSY:.0%} there is no verdict. A ratio is the
peer's seconds over Schatten's: above 1 Schatten is faster. It is the median over pairs of neighbours; the interval is
95 %, from 10,000 resamples of the pairs."""


def machine(bench: Bench) -> Record:
    ours, theirs = bench.ours.ask("describe"), bench.theirs.ask("describe")
    return {**ours, "python": platform.python_version(), "packages": theirs["versions"],
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat()}


def machine_table(about: Record, command: str, took: float) -> str:
    packages = [f"{name} {version}" for name, version in about["packages"].items()]
    rows = [["CPU", f"{about['cpu']}, {ALL_THREADS} cores, {about['memory_bytes'] / 2**30:.0f} GiB"],
            ["instruction sets", f"{', '.join(about['instructions'])}; kernels use {about['isa']}"],
            ["system", f"{about['system']}, compiler {about['compiler']}"],
            ["Schatten, Python", f"{about['schatten']}, {about['python']}"],
            ["peers", ", ".join(packages)],
            ["date", about["date"]],
            ["command", f"`{command}`, {took:.0f} s"]]
    return "\n".join("| " + " | ".join(row) + " |" for row in [["", ""], ["---", "---"], *rows])


def shown(section: Section, records: list[Record]) -> str:
    if not records:
        return f"{section.text}\n\nNothing of this on this machine."
    columns = [c for c in section.columns if any(c.cell(r) for r in records)]
    return f"{section.text}\n\n" + page.table([c.header for c in columns], [[c.cell(r) for c in columns] for r in records])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="does it work, not how fast it is")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="SECTION", help=", ".join(NAMES))
    parser.add_argument("--out", type=pathlib.Path, help="the page (default docs/benchmarks.md; none with --quick, --only)")
    parser.add_argument("--json", type=pathlib.Path, default=ROOT / "build" / "bench" / "results.json")
    parser.add_argument("--driver", type=pathlib.Path, default=ROOT / "build" / "bench" / "schatten_bench")
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "build" / "schatten")
    return parser.parse_args()


def main() -> None:
    options = parse()
    began = time.monotonic()
    chosen = [s for s in SECTIONS if (s.name in options.only if options.only else s not in package.SECTIONS)]
    results: Record = {}
    with opened(QUICK if options.quick else FULL, options.driver, options.program) as bench:
        about = machine(bench)
        for section in chosen:
            start = time.monotonic()
            say(f"--- {section.name}")
            results[section.name] = section.measure(bench)
            say(f"--- {section.name}: {time.monotonic() - start:.0f} s")
    took = time.monotonic() - began
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"machine": about, "seconds": took, **results}, indent=1) + "\n")
    words = [*(["--quick"] if options.quick else []), *(["--only", *options.only] if options.only else [])]
    head = machine_table(about, " ".join(["python bench/run.py", *words]), took)
    method = [METHOD] if any(section not in package.SECTIONS for section in chosen) else []  # theirs stands in their text
    generated = "\n\n".join([head, *method, *(shown(section, results[section.name]) for section in chosen)])
    if busy := sum(record.get("busy", False) for records in results.values() for record in records):
        say(f"{busy} rows were measured beside other work: measure again on a quiet machine")
    out = options.out or (None if options.quick or options.only else ROOT / "docs" / "benchmarks.md")
    if out is None:
        say("\n" + generated)
    else:
        page.write(out, generated)
        say(f"\n{out} is written, after {took:.0f} s")


if __name__ == "__main__":
    main()
