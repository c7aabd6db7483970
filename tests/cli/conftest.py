"""The program under test, a small text, and a config that trains in about a second."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Callable

import pytest

CLI = os.environ["SCHATTEN_CLI"]
TINY = {
    "model.preset": "llama-tiny", "model.layers": "1", "model.width": "32", "model.heads": "2", "model.kv_heads": "2",
    "model.ffn": "64", "model.context": "32", "data.batch": "4", "data.eval_batches": "2", "train.steps": "20",
    "train.eval_every": "10", "train.log_every": "5", "train.sample_length": "8", "train.threads": "1",
}  # fmt: skip
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def corpus(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "text.txt"
    path.write_text("".join(f"line {i}: the quick brown fox number {i * i}\n" for i in range(2000)))
    return path


@pytest.fixture
def run(tmp_path: pathlib.Path) -> Run:
    def call(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [CLI, *map(str, words)], text=True, capture_output=True, cwd=tmp_path, check=False, timeout=300, **options
        )  # type: ignore[call-overload, no-any-return]

    return call


@pytest.fixture
def tiny(corpus: pathlib.Path) -> Callable[..., list[str]]:
    """`train` words for a tiny run; keywords override keys (dots written as __)."""

    def words(**overrides: object) -> list[str]:
        settings = {**TINY, "data.source": f"text:{corpus}"}
        settings.update({key.replace("__", "."): str(value) for key, value in overrides.items()})
        return ["train", *(word for key, value in settings.items() for word in ("--set", f"{key}={value}"))]

    return words


def records(run_dir: pathlib.Path, name: str = "metrics.jsonl") -> list[dict[str, object]]:
    return [json.loads(line) for line in (run_dir / name).read_text().splitlines()]
