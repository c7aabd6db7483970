"""examples/quickstart.ipynb runs, and what is stored in it was shown by its code."""

from __future__ import annotations

import json
import os
import pathlib
import sys
from typing import Any

import pytest

SOURCE = pathlib.Path(os.environ["SCHATTEN_SOURCE_DIR"])
sys.path.insert(0, str(SOURCE / "tools"))

from refresh_notebook import NOTEBOOK, code_of, fingerprint  # noqa: E402


@pytest.fixture(scope="module")
def notebook() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(NOTEBOOK.read_text())
    return content


def test_its_code_runs(notebook: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("QUICKSTART_STEPS", "10")
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, code in enumerate(code_of(notebook)):
        exec(compile(code, f"{NOTEBOOK.name}, code cell {number}", "exec"), names)
    shown = capsys.readouterr().out
    for optimizer in ("adamw", "muon", "htmuon"):
        assert f"{optimizer:7}   seed 1: " in shown
    losses = [run["loss"] for runs in names["fresh"].values() for run in runs]
    assert len(losses) == 6 and max(losses) < 5.4, losses  # ln 256 = 5.55 knows nothing
    assert all(len(run["records"]) == 20 for runs in names["fresh"].values() for run in runs), "10 watched steps of two matrices"


def test_its_outputs_are_those_of_its_code(notebook: dict[str, Any]) -> None:
    assert notebook["metadata"].get("recorded") == fingerprint(notebook), "make notebook"
    kinds = [output["output_type"] for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert kinds and set(kinds) <= {"stream", "display_data", "execute_result"}
    assert kinds.count("display_data") == 2, "two pictures: record it where matplotlib is"
    assert NOTEBOOK.stat().st_size < 200_000
