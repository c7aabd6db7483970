"""A run of the program goes on in Python, and back: weights by transformers, optimizer state by its own file."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from contract import distance
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import schatten

CLI = os.environ["SCHATTEN_CLI"]
LINE = "Schatten is a shadow, not noise"  # 31 letters: every window of 32 bytes is this line
SETTINGS = {"model.preset": "llama-tiny", "model.layers": 1, "model.width": 32, "model.heads": 2, "model.kv_heads": 2, "model.ffn": 64,
            "model.context": 32, "data.source": "text:text.txt", "data.batch": 4, "data.eval_batches": 1, "train.steps": 6,
            "train.eval_every": 6, "train.log_every": 1, "train.sample_length": 0, "train.threads": 1, "train.checkpoint_every": 3,
            "train.clip": 0.0, "schedule.kind": "constant",
            "optimizer.matrix": '{recipe="muon",lr=0.02,weight_decay=0.1,polar={compute="float32"}}',
            "optimizer.auxiliary": '{recipe="adamw",lr=0.003}'}  # fmt: skip


def program(folder: pathlib.Path, *words: str) -> None:
    done = subprocess.run([CLI, "train", "--run-dir", "run", "--quiet", *words], cwd=folder, text=True, capture_output=True, check=False,
                          env={**os.environ, "GOMP_SPINCOUNT": "1000"})  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Six steps, with checkpoints after three and six."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "text.txt").write_text(f"{LINE}\n" * 400)
    program(folder, *(word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")))
    return folder


def checkpoint(folder: pathlib.Path, step: int) -> pathlib.Path:
    return folder / "run" / "checkpoints" / f"step-{step}"


def model_of(folder: pathlib.Path, step: int) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    model: nn.Module = transformers.AutoModelForCausalLM.from_pretrained(checkpoint(folder, step), dtype=torch.float32)
    return model.train()


def optimizer_of(model: nn.Module) -> schatten.Muon:
    return schatten.Muon(
        model, lr=0.02, weight_decay=0.1, ns_coefficients="quintic", options={"variant": "jordan", "polar.compute": "float32"},
        auxiliary={"lr": 0.003},
    )  # fmt: skip


def go_on(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    tokens = torch.tensor([*f"{LINE}\n{LINE[0]}".encode()]).expand(4, 33)
    for _ in range(steps):
        logits: Any = model(tokens[:, :-1]).logits
        optimizer.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()


def moved(model: nn.Module, before: dict[str, Tensor]) -> list[Tensor]:
    return [p.detach() - before[name] for name, p in model.named_parameters()]


def test_python_goes_on_with_a_run_of_the_program(run: pathlib.Path) -> None:
    model, fresh = model_of(run, 3), model_of(run, 3)
    optimizer = optimizer_of(model)
    optimizer.import_state(load_file(checkpoint(run, 3) / "optimizer.safetensors"))
    go_on(model, optimizer, 3)
    go_on(fresh, optimizer_of(fresh), 3)
    before = load_file(checkpoint(run, 3) / "model.safetensors")
    expected = moved(model_of(run, 6), before)
    assert distance(moved(model, before), expected) < 1e-4, distance(moved(model, before), expected)
    assert distance(moved(fresh, before), expected) > 0.1
    theirs = load_file(checkpoint(run, 6) / "optimizer.safetensors")
    ours = optimizer.export_state()
    assert ours.keys() == theirs.keys() and all(int(v) == 6 for k, v in ours.items() if k.endswith("/step"))


def test_the_program_goes_on_with_what_python_wrote(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """State that went through Python ends in the weights of the run that never stopped, bit for bit."""
    folder = tmp_path / "again"
    shutil.copytree(run, folder)
    shutil.rmtree(checkpoint(folder, 6))
    file = checkpoint(folder, 3) / "optimizer.safetensors"
    optimizer = optimizer_of(model_of(folder, 3))
    optimizer.import_state(load_file(file))
    exported = optimizer.export_state()
    file.unlink()
    save_file(exported, file)
    program(folder, "--resume")
    expected = load_file(checkpoint(run, 6) / "model.safetensors")
    assert all(torch.equal(value, expected[name]) for name, value in load_file(checkpoint(folder, 6) / "model.safetensors").items())


def test_names_may_differ(run: pathlib.Path) -> None:
    model = model_of(run, 3)
    optimizer = schatten.Muon([(name.removeprefix("model."), p) for name, p in model.named_parameters()], lr=0.02)
    tensors = load_file(checkpoint(run, 3) / "optimizer.safetensors")
    with pytest.raises(ValueError, match="names="):
        optimizer.import_state(tensors)
    names = {name.removeprefix("model."): name for name, _ in model.named_parameters()}
    optimizer.import_state(tensors, names)
    assert optimizer.export_state(names).keys() == tensors.keys()
