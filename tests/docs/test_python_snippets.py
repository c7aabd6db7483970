"""Every Python block of the pages runs: a page is one program, top to bottom, after the line that every page takes for granted.

Not run here is a block of a page that names a program of examples/python where every line stands in that program, which the tests run,
or in a test; and one after the line ``<!-- not run: reason -->``: it has only to be Python. All of these are counted and listed as
warnings.
"""

from __future__ import annotations

import ast
import functools
import os
import pathlib
import re
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import pytest

SOURCE = pathlib.Path(os.environ["SCHATTEN_SOURCE_DIR"])
PAGES = [SOURCE / "README.md", SOURCE / "CONTRIBUTING.md", *sorted((SOURCE / "docs").rglob("*.md"))]
GRANTED = "import schatten, torch; from torch import nn; model = nn.Sequential(nn.Embedding(64, 32), nn.Linear(32, 32), nn.Linear(32, 64))"
PROGRAM = re.compile(r"examples/python/\w+\.py")
WITHOUT = re.compile(r"ImportError: \[schatten\] expected (pandas|matplotlib) .*")
FENCE = re.compile(r"^(?:<!-- not run: (?P<reason>.*) -->\n\n?)?(?P<indent> *)```python\n(?P<code>.*?)^ *```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    line: int  # of its first line of code
    code: str
    reason: str | None  # why it is not run


def lines_of(text: str) -> set[str]:
    return {line.strip().removesuffix("  # fmt: skip") for line in text.splitlines()}


@functools.cache
def shown_elsewhere(page: str) -> set[str]:
    """The lines of the programs that a page names, and of the tests; nothing where it names none."""
    programs = [SOURCE / name for name in PROGRAM.findall(page)]
    tests = (SOURCE / "tests" / "python").glob("test_*.py") if programs else []
    return set().union(*(lines_of(file.read_text()) for file in [*programs, *tests]))


def blocks(page: str) -> Iterator[Block]:
    for found in FENCE.finditer(page):
        line, code, reason = page.count("\n", 0, found.start("code")) + 1, textwrap.dedent(found["code"]), found["reason"]
        if reason is None and lines_of(code) <= shown_elsewhere(page):
            yield Block(line, "", "from a program that runs")
        else:
            yield Block(line, code, reason)


def program(page: str) -> str:
    """What runs, at the page's own line numbers; what is taken for granted stands beside the title. Empty where nothing runs."""
    out = GRANTED
    for block in blocks(page):
        if block.reason is None:
            out += "\n" * (block.line - 1 - out.count("\n")) + block.code
    return out if out != GRANTED else ""


def name_of(page: pathlib.Path) -> str:
    return str(page.relative_to(SOURCE))


@pytest.mark.parametrize("page", [p for p in PAGES if program(p.read_text())], ids=name_of)
def test_page(page: pathlib.Path, tmp_path: pathlib.Path) -> None:
    file = tmp_path / page.name
    file.write_text(program(page.read_text()))
    environment = {**os.environ, "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, file], cwd=tmp_path, env=environment, text=True, capture_output=True, check=False, timeout=300)
    if missing := WITHOUT.search(done.stderr):
        pytest.skip(missing[0])
    assert done.returncode == 0, f"{name_of(page)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def test_what_does_not_run_is_python_and_says_why() -> None:
    listed = []
    for page in PAGES:
        for block in blocks(page.read_text()):
            if block.reason is not None:
                ast.parse(block.code, f"{name_of(page)}, line {block.line}")
                assert block.reason.strip(), f"{name_of(page)}, line {block.line}: not run, without a reason"
                listed.append(f"{name_of(page)}:{block.line}: {block.reason}")
    if listed:
        warnings.warn("\n  ".join([f"{len(listed)} Python blocks are not run:", *listed]), stacklevel=1)


def test_a_page_is_one_program_at_its_own_lines() -> None:
    page = "# A\n```python\na = 1\n```\n<!-- not run: no GPU here -->\n```python\nb = a\n```\n- item\n  ```python\n  a += 1\n  ```\n"
    assert program(page) == GRANTED + "\n\na = 1\n\n\n\n\n\n\n\na += 1\n"
    assert [block.reason for block in blocks(page)] == [None, "no GPU here", None]
