"""`schatten bench`: measures, prints, plans and refuses."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios

import pytest
from conftest import CLI, Run

QUICK = ("bench", "--seconds", "0", "--shape", "40x72")


def table(run: Run, *words: str) -> dict[str, object]:
    done = run(*QUICK, "--json", *words)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_json_has_every_kernel_with_its_figures(run: Run) -> None:
    found = table(run)
    rows = found["rows"]
    kernels = {row["kernel"] for row in rows}
    assert {"rational polar factor", "rational power 1/8", "momentum and norm", "decay and update", "AdamW"} <= kernels
    assert all(value > 0 for value in found["peaks"].values())
    for row in rows:
        assert row["seconds"] > 0 and row["of_roofline"] > 0 and row["ratio"] > 0, row
        assert (row["gflops"] or row["ns_per_entry"]) > 0, row


def test_errors_are_those_of_the_dtype(run: Run) -> None:
    """A kernel that computes something else would show here."""
    limits = {"float32": 1e-5, "bfloat16": 1e-2, "bfloat16x2": 1e-4, "bfloat16x3": 1e-5}
    products = [row for row in table(run)["rows"] if "product" in row["kernel"] or row["rows"] == 1]
    assert products
    for row in products:
        assert row["error"] < limits[row["dtype"]], row
    steps = [row for row in table(run)["rows"] if "Newton-Schulz" in row["kernel"]]
    for row in steps:
        assert row["error"] < (0.1 if row["dtype"] == "bfloat16" else 1e-3), row


def test_rows_name_the_shape_and_the_threads(run: Run) -> None:
    rows = table(run, "--threads", "2", "--shape", "64x64")["rows"]
    assert {(40, 72), (64, 64)} == {(row["rows"], row["cols"]) for row in rows if row["rows"] != 1}
    assert {row["threads"] for row in rows} == {2}


def test_fewer_instructions_can_be_asked_for(run: Run) -> None:
    found = table(run, "--isa", "portable")
    assert found["isa"] == "portable"
    assert not any("product" in row["kernel"] for row in found["rows"])  # linalg goes by ATen there


def test_text_is_a_table_under_a_roofline(run: Run) -> None:
    done = run(*QUICK)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("roofline") and "40 x 72" in lines
    assert max(map(len, lines)) <= 100
    assert any("rational polar factor" in line and "%" in line for line in lines)


def test_plan_measures_nothing_and_chooses_per_dtype(run: Run) -> None:
    done = run("bench", "--plan", "768x3072", "--plan", "512x512", "--json")
    assert done.returncode == 0, done.stderr
    wide, square = (json.loads(line) for line in done.stdout.splitlines())
    for found in (wide, square):
        for compute in {plan["compute"] for plan in found["plans"]}:
            ways = [plan for plan in found["plans"] if plan["compute"] == compute]
            assert [plan["chosen"] for plan in ways] == [True] + [False] * (len(ways) - 1)
            assert ways[0]["seconds"] == min(plan["seconds"] for plan in ways)
    assert "gram" in {plan["iteration"] for plan in wide["plans"]}
    assert "gram" not in {plan["iteration"] for plan in square["plans"]}
    text = run("bench", "--plan", "768x3072", "--isa", "portable").stdout
    assert text.startswith("768 x 3072") and "portable" in text and "\n> " in text


def on_terminal(columns: int, *words: str) -> list[str]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with subprocess.Popen([CLI, *words], stdout=theirs) as process:
        os.close(theirs)
        text = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # how a closed terminal says that it is
                break
            text += piece
    os.close(ours)
    assert process.returncode == 0
    return text.decode().splitlines()


@pytest.mark.parametrize("columns", [60, 100, 200])
def test_tables_fit_the_terminal(columns: int) -> None:
    lines = on_terminal(columns, *QUICK)
    assert max(map(len, lines)) <= columns
    assert any("error" in line.split() for line in lines) == (columns > 60)  # the narrow one has less to say
    assert max(map(len, on_terminal(columns, "bench", "--plan", "768x3072"))) <= columns


@pytest.mark.parametrize("shape", ["768", "x", "0x5", "5x-1", "1e3x4", "64x64x64", "64x 64", "99999x1", ""])
def test_a_bad_shape_is_refused(run: Run, shape: str) -> None:
    for option in ("--shape", "--plan"):
        done = run("bench", option, shape)
        assert done.returncode == 2 and not done.stdout
        assert "ROWSxCOLS" in done.stderr and (f"'{shape}'" in done.stderr)


def test_unknown_instructions_are_refused(run: Run) -> None:
    done = run("bench", "--plan", "64x64", "--isa", "avx9")
    assert done.returncode == 2 and "avx2" in done.stderr


@pytest.mark.parametrize("words", [("--threads", "0"), ("--seconds", "-1"), ("--seconds", "long")])
def test_other_bad_options_are_refused(run: Run, words: tuple[str, str]) -> None:
    assert run("bench", *words).returncode == 2


@pytest.mark.parametrize("columns", [60, 120])
def test_columns_keep_apart(columns: int) -> None:
    rows = [line for line in on_terminal(columns, *QUICK) if "Newton-Schulz" in line]
    assert rows
    assert all(re.search(r"(gram|triangle) +b?float", row) for row in rows), rows
