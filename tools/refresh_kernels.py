#!/usr/bin/env python3
"""Writes the accuracy table of docs/kernels.md: what `build/tests/test_linalg --gtest_filter=PolarEngines.*` prints."""

from __future__ import annotations

import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "kernels.md"
LINE = re.compile(r"^ {4}(\S.*?) {2,}(\S.*?) {2,}(\S+) \(bfloat16 textbook (\S+)\)$")
BEGIN, END = "<!-- accuracy: begin -->\n", "<!-- accuracy: end -->\n"


def main() -> None:
    test = [str(ROOT / "build" / "tests" / "test_linalg"), "--gtest_filter=PolarEngines.*"]
    lines = subprocess.run(test, capture_output=True, text=True, check=True).stdout.splitlines()
    errors: dict[str, dict[str, str]] = {}
    for found in filter(None, map(LINE.match, lines)):
        spectrum, way, error, textbook = found.groups()
        errors.setdefault("textbook, bfloat16, by ATen", {})[spectrum] = textbook
        errors.setdefault(way, {})[spectrum] = error
    spectra = list(next(iter(errors.values())))
    rows = [["way (instructions)", *spectra], ["---", *["---:"] * len(spectra)]]
    rows += [[way, *(of[s] for s in spectra)] for way, of in errors.items()]
    table = "".join("| " + " | ".join(row) + " |\n" for row in rows)
    page = PAGE.read_text()
    PAGE.write_text(page[: page.index(BEGIN)] + BEGIN + table + page[page.index(END) :])


if __name__ == "__main__":
    main()
