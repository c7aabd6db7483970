#!/usr/bin/env python3
"""Runs examples/quickstart.ipynb and stores what it shows: text and pictures, and which code they belong to (`make notebook`).

A forge and the documentation site show these outputs; the tests run the code, and fail where it is not the code that was recorded.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
KEPT = ("text/plain", "image/png")


def code_of(notebook: dict[str, Any]) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def fingerprint(notebook: dict[str, Any]) -> str:
    """Of the code alone: words between it may change without a new recording."""
    return hashlib.sha256("\0".join(code_of(notebook)).encode()).hexdigest()[:16]


def slim(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Text as one piece, and of everything else the plain kinds."""
    kept: list[dict[str, Any]] = []
    for output in outputs:
        if data := output.get("data"):
            output = {**output, "data": {kind: data[kind] for kind in KEPT if kind in data}}
        if kept and output["output_type"] == kept[-1]["output_type"] == "stream" and output["name"] == kept[-1]["name"]:
            kept[-1] = {**kept[-1], "text": kept[-1]["text"] + output["text"]}
        else:
            kept.append(dict(output))
    return kept


def main() -> None:
    try:
        import nbclient
        import nbformat
    except ImportError:
        raise SystemExit("[notebook] expected nbclient and ipykernel\n  pip install -r tools/requirements-docs.txt") from None
    os.environ["PYTHONPATH"] = str(ROOT / "python")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute(cwd=str(ROOT / "examples"))
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times
        if cell.cell_type == "code":
            cell.outputs = [nbformat.from_dict(output) for output in slim(cell.outputs)]
    if any(output.output_type == "stream" and output.name == "stderr" for cell in notebook.cells for output in cell.get("outputs", [])):
        raise SystemExit("[notebook] expected nothing on stderr, got some: nothing is written")
    notebook.metadata["recorded"] = fingerprint(notebook)
    notebook.metadata["language_info"] = {"name": "python"}
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
    print(f"{NOTEBOOK} ({NOTEBOOK.stat().st_size / 1000:.0f} kB)", file=sys.stderr)


if __name__ == "__main__":
    main()
