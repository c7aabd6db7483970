"""`schatten spectra`: the same numbers as schatten.spectra, within the terminal."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest
import torch
from conftest import Run
from safetensors.torch import save_file

import schatten


@pytest.fixture
def weights(tmp_path: pathlib.Path) -> pathlib.Path:
    torch.manual_seed(0)
    tensors = {"layers.0.attention.query_projection.weight": torch.randn(90, 60), "conv": torch.randn(60, 20, 3, 3),
               "bias": torch.randn(60), "half": torch.randn(64, 64).half(), "small": torch.randn(8, 9),
               "ids": torch.arange(9).reshape(3, 3),
               "bad\x1b[31m": torch.full((60, 60), float("nan"))}  # fmt: skip
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_json_is_what_python_says(run: Run, weights: pathlib.Path) -> None:
    cases: list[tuple[list[str], dict[str, Any]]] = [
        ([], {}),
        (["--fit", "median", "--minimum", "8", "--shuffled"], {"fit": "median", "minimum": 8, "shuffled": True}),
    ]
    for words, options in cases:
        done = run("spectra", weights, "--json", *words)
        assert done.returncode == 0, done.stderr
        lines = {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}
        expected = schatten.spectra(weights, **options)
        assert [name for name, line in lines.items() if "skipped" not in line] == expected["name"]
        assert {name for name, line in lines.items() if "skipped" in line} == set(expected.skipped) == {"bias", "ids"}
        for row in json.loads(expected.to_json())["rows"]:
            for column in set(row) - {"layer_id", "note", "shape"}:
                value = row[column]
                expects = pytest.approx(value, rel=1e-4, abs=1e-4) if isinstance(value, float) else value
                assert lines[row["name"]][column] == expects, (row["name"], column)


def test_the_table(run: Run, weights: pathlib.Path) -> None:
    for columns in ("60", "120"):
        done = run("spectra", weights, weights, "--shuffled", env={**os.environ, "COLUMNS": columns})
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout and "bad\\u" in done.stdout
        assert "Without a fit: 2. No matrices: 2." in " ".join(done.stdout.split())
        assert max(map(len, done.stdout.splitlines())) <= int(columns)
        assert len(done.stdout.partition("Median")[0].splitlines()) == 1 + 2 * 5 and "shuffled" in done.stdout.splitlines()[0]


def test_what_is_wrong_is_said(run: Run, weights: pathlib.Path) -> None:
    for words, code, message in (
        (["nowhere.safetensors"], 1, "no such file"),
        ([weights.parent / "none"], 1, "none"),
        ([weights, "--fit", "hill"], 2, "goodness_of_fit"),
        ([weights, weights, "--json"], 2, "excludes"),
        ([], 2, "required"),
    ):
        done = run("spectra", *words)
        assert done.returncode == code and message in done.stderr + done.stdout and not done.stdout.count("sigma_max"), (words, done.stderr)
