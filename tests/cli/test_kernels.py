"""The instruction set of a run: named, written down, kept over a resume."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from collections.abc import Callable

import pytest
from conftest import Run
from safetensors import safe_open

Words = Callable[..., list[str]]
PLAIN = {key: value for key, value in os.environ.items() if key != "SCHATTEN_ISA"}
CHECKPOINTS = {"train__checkpoint_every": 10, "train__log_every": 20}


def under(isa: str) -> dict[str, str]:
    return {**PLAIN, "SCHATTEN_ISA": isa}


@pytest.fixture
def best(run: Run) -> str:
    return str(json.loads(run("doctor", "--json", env=PLAIN).stdout)["kernels"])


def weights(run_dir: pathlib.Path) -> dict[str, bytes]:
    with safe_open(str(run_dir / "checkpoints/step-20/model.safetensors"), "np") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()}


def state(run_dir: pathlib.Path, step: int) -> pathlib.Path:
    return run_dir / f"checkpoints/step-{step}/state.json"


def stopped_at_10(run: Run, words: list[str], folder: pathlib.Path, env: dict[str, str]) -> None:
    done = run(*words, "--run-dir", folder, "--quiet", env=env)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(folder / "checkpoints/step-20")


def test_a_resumed_run_keeps_its_instructions(run: Run, tiny: Words, tmp_path: pathlib.Path, best: str) -> None:
    if best == "portable":
        pytest.skip("this CPU knows one set of instructions only")
    other, words = ("avx2" if best != "avx2" else "portable"), tiny(**CHECKPOINTS)
    assert run(*words, "--run-dir", "straight", "--quiet", env=under(other)).returncode == 0
    assert run(*words, "--run-dir", "here", "--quiet", env=PLAIN).returncode == 0
    assert weights(tmp_path / "straight") != weights(tmp_path / "here")  # else there is nothing to be kept
    stopped_at_10(run, words, tmp_path / "stopped", under(other))
    done = run(*words, "--run-dir", "stopped", "--resume", env=PLAIN)
    assert done.returncode == 0, done.stderr
    assert f"written with {other} kernels, so the run goes on with them (here: {best})" in done.stdout
    assert weights(tmp_path / "stopped") == weights(tmp_path / "straight")
    assert json.loads(state(tmp_path / "stopped", 20).read_text())["kernels"] == other


def test_a_limit_is_kept_and_what_it_means_is_said(run: Run, tiny: Words, tmp_path: pathlib.Path, best: str) -> None:
    if best == "portable":
        pytest.skip("this CPU knows one set of instructions only")
    words = tiny(**CHECKPOINTS)
    stopped_at_10(run, words, tmp_path / "out", PLAIN)
    done = run(*words, "--run-dir", "out", "--resume", env=under("portable"))
    assert done.returncode == 0, done.stderr
    assert f"written with {best} kernels, SCHATTEN_ISA allows portable: results may differ" in done.stdout
    assert json.loads(state(tmp_path / "out", 20).read_text())["kernels"] == "portable"


def test_another_set_in_the_config_is_another_config(run: Run, tiny: Words, tmp_path: pathlib.Path) -> None:
    words = tiny(**CHECKPOINTS)
    stopped_at_10(run, words, tmp_path / "out", PLAIN)
    before = state(tmp_path / "out", 10).read_text()
    done = run(*words, "--set", "optimizer.kernels=portable", "--run-dir", "out", "--resume", env=PLAIN)
    assert done.returncode == 2 and "another config" in done.stderr
    assert state(tmp_path / "out", 10).read_text() == before


def test_a_set_that_nobody_knows_is_refused(run: Run, tiny: Words, tmp_path: pathlib.Path) -> None:
    words = tiny(**CHECKPOINTS)
    stopped_at_10(run, words, tmp_path / "out", PLAIN)
    file = state(tmp_path / "out", 10)
    file.write_text(json.dumps({**json.loads(file.read_text()), "kernels": "avx9000"}))
    done = run(*words, "--run-dir", "out", "--resume", env=PLAIN)
    assert done.returncode == 2 and "avx9000" in done.stderr and "amx_bf16" in done.stderr
    assert run(*words, "--set", "optimizer.kernels=avx9000", "--run-dir", "new").returncode == 2
    assert not (tmp_path / "new").exists()


def test_plans_are_written_down_and_compared(run: Run, tiny: Words, tmp_path: pathlib.Path) -> None:
    words = tiny(**CHECKPOINTS, optimizer__kernels="portable")
    stopped_at_10(run, words, tmp_path / "out", PLAIN)
    file = state(tmp_path / "out", 10)
    saved = json.loads(file.read_text())
    environment = json.loads((tmp_path / "out/environment.json").read_text())
    assert saved["kernels"] == environment["kernels"] == "portable"
    assert saved["plans"] == environment["plans"]
    assert saved["plans"]["hidden_matrix 32x32"] == "quintic Newton-Schulz, 5 steps: textbook, float32, by ATen"
    assert run(*words, "--run-dir", "out", "--resume", env=PLAIN).stdout.count("otherwise than the checkpoint's") == 0
    shutil.rmtree(tmp_path / "out/checkpoints/step-20")
    saved["plans"]["hidden_matrix 32x32"] = "magic"
    file.write_text(json.dumps(saved))
    done = run(*words, "--run-dir", "out", "--resume", env=PLAIN)
    assert done.returncode == 0 and done.stdout.count("otherwise than the checkpoint's") == 1
    assert 'before by "magic"' in done.stdout
    assert json.loads(state(tmp_path / "out", 20).read_text())["plans"] == environment["plans"]
