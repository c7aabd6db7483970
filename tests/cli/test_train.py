"""One run: what it writes, how it goes on after a stop or a kill, and what it says."""

from __future__ import annotations

import json
import os
import pathlib
import pty
import random
import signal
import subprocess
import time

import pytest
from conftest import CLI, records
from safetensors import safe_open

WALL = {"t", "seconds", "cpu_seconds", "tokens_per_second", "tokens_per_second_with_eval", "shares", "peak_bytes", "noticed"}


def comparable(run_dir: pathlib.Path, name: str = "metrics.jsonl") -> list[dict[str, object]]:
    """Records without wall times, and without the starts (a resumed run has two)."""
    kept = [r for r in records(run_dir, name) if r.get("event") != "start"]
    return [{k: v for k, v in r.items() if k not in WALL} for r in kept]


def tensors(path: pathlib.Path) -> dict[str, bytes]:
    with safe_open(str(path), "np") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()}


def assert_same_end(a: pathlib.Path, b: pathlib.Path, step: int) -> None:
    for name in ("model.safetensors", "optimizer.safetensors"):
        left, right = (tensors(d / "checkpoints" / f"step-{step}" / name) for d in (a, b))
        assert left.keys() == right.keys()
        assert [k for k in left if left[k] != right[k]] == []
    assert comparable(a) == comparable(b)


def test_writes_the_run_directory(run, tiny, tmp_path):
    done = run(*tiny(spectra__every=10, train__test="true"), "--run-dir", "out")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    for name in ("config.toml", "environment.json", "metrics.jsonl", "spectra.jsonl", "samples.txt"):
        assert (out / name).stat().st_size > 0, name
    assert {p.name for p in (out / "checkpoints" / "step-20").iterdir()} == {
        "model.safetensors", "optimizer.safetensors", "state.json", "config.json"}  # fmt: skip
    events = [r["event"] for r in records(out)]
    assert events[0] == "start" and events[-1] == "end" and events.count("eval") == 3
    end = records(out)[-1]
    assert end["status"] == "ok" and end["step"] == 20 and abs(sum(end["shares"].values()) - 1) < 1e-9
    losses = [r["loss"] for r in records(out) if r["event"] == "train"]
    assert losses[-1] < losses[0]
    spectrum = records(out, "spectra.jsonl")[0]
    assert {"weight", "momentum", "update", "alpha", "alpha_shuffled", "update_ratio"} <= spectrum.keys()
    start = records(out)[0]
    with safe_open(str(out / "checkpoints/step-20/optimizer.safetensors"), "np") as file:
        held = sum(file.get_tensor(k).nbytes for k in file.keys() if not k.endswith("/step"))
    assert held == start["state_bytes"]


def test_piped_output_is_plain_lines(run, tiny):
    done = run(*tiny(), "--run-dir", "out")
    assert "\033" not in done.stdout and "\r" not in done.stdout
    assert sum(line.startswith("step") for line in done.stdout.splitlines()) >= 4
    lines = [line for line in done.stdout.splitlines() if "/text.txt" not in line]  # paths are never cut
    assert max(map(len, lines)) <= 100


def test_json_is_records_and_nothing_else(run, tiny, tmp_path):
    done = run(*tiny(), "--run-dir", "out", "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == records(tmp_path / "out")


def test_same_seed_same_bits_other_seed_others(run, tiny, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run(*tiny(seed=seed), "--run-dir", name, "--quiet").returncode == 0
    assert_same_end(tmp_path / "a", tmp_path / "b", 20)
    assert comparable(tmp_path / "a") != comparable(tmp_path / "c")


def test_spectra_do_not_change_the_run(run, tiny, tmp_path):
    run(*tiny(), "--run-dir", "a", "--quiet")
    run(*tiny(spectra__every=7), "--run-dir", "b", "--quiet")
    left, right = (tensors(tmp_path / d / "checkpoints/step-20/model.safetensors") for d in "ab")
    assert left == right


@pytest.mark.parametrize("recipe", ["muon", "htmuon", "adamw"])
def test_sigkill_at_random_moments_then_resume_is_bit_identical(run, tiny, tmp_path, recipe):
    matrix = f'{{recipe="{recipe}",lr=0.01}}'
    words = tiny(train__steps=120, train__checkpoint_every=7, train__sample_every=25, spectra__every=30,
                 train__test="true", optimizer__matrix=matrix)  # fmt: skip
    began = time.monotonic()
    assert run(*words, "--run-dir", "straight", "--quiet").returncode == 0
    whole = time.monotonic() - began
    start_up = records(tmp_path / "straight")[0]["t"] - records(tmp_path / "straight")[-1]["t"] + whole
    rng = random.Random(recipe)
    kills = 0
    for _ in range(40):
        child = subprocess.Popen([CLI, *words, "--run-dir", "killed", "--resume-or-start", "--quiet"], cwd=tmp_path)
        try:
            child.wait(timeout=start_up + rng.random() * 0.7 * (whole - start_up))
            break
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            kills += 1
        folders = [p.name for p in (tmp_path / "killed" / "checkpoints").glob("step-*")]
        for name in folders:  # complete or absent
            assert (tmp_path / "killed" / "checkpoints" / name / "state.json").exists()
            tensors(tmp_path / "killed" / "checkpoints" / name / "optimizer.safetensors")
    else:
        assert run(*words, "--run-dir", "killed", "--resume-or-start", "--quiet").returncode == 0
    assert kills >= 1
    assert_same_end(tmp_path / "straight", tmp_path / "killed", 120)
    assert comparable(tmp_path / "straight", "spectra.jsonl") == comparable(tmp_path / "killed", "spectra.jsonl")
    assert (tmp_path / "straight/samples.txt").read_text() == (tmp_path / "killed/samples.txt").read_text()
    if any(r.get("resumed_from") for r in records(tmp_path / "killed")):
        assert len(list((tmp_path / "killed").glob("events.out.tfevents.*"))) >= 2


def test_interrupt_saves_and_exits_130(run, tiny, tmp_path):
    words = tiny(train__steps=100000)
    child = subprocess.Popen([CLI, *words, "--run-dir", "out", "--json"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    while '"train"' not in child.stdout.readline():
        pass
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=60) == 130
    end = records(tmp_path / "out")[-1]
    assert end["status"] == "interrupted"
    assert (tmp_path / "out" / "checkpoints" / f"step-{end['step']}" / "state.json").exists()
    more = run("train", "--resume", "--run-dir", "out", "--set", f"train.steps={end['step'] + 5}")
    assert more.returncode == 2 and "another config" in more.stderr  # steps are part of the schedule


def test_accumulation_equals_the_big_batch(run, tiny, tmp_path):
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        ends = []
        for parts in (1, 2, 4):
            name = f"{dtype}-{parts}"
            done = run(*tiny(train__accumulate=parts, train__dtype=dtype, train__steps=10,
                             optimizer__matrix='{recipe="sgd",lr=0.1}', optimizer__auxiliary='{recipe="sgd",lr=0.1}'),
                       "--run-dir", name, "--quiet")  # fmt: skip
            assert done.returncode == 0, done.stderr
            with safe_open(str(tmp_path / name / "checkpoints/step-10/model.safetensors"), "np") as file:
                ends.append({k: file.get_tensor(k) for k in file.keys()})
        for other in ends[1:]:
            for name, tensor in ends[0].items():
                assert abs(tensor - other[name]).max() <= tolerance * abs(tensor).max(), (dtype, name)


def test_init_from_a_run(run, tiny, tmp_path):
    run(*tiny(), "--run-dir", "first", "--quiet")
    done = run(*tiny(train__steps=1, optimizer__matrix='{recipe="sgd",lr=0.0}', optimizer__auxiliary='{recipe="sgd",lr=0.0}'),
               "--run-dir", "second", "--init-from", "first", "--quiet")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert tensors(tmp_path / "first/checkpoints/step-20/model.safetensors") == tensors(
        tmp_path / "second/checkpoints/step-1/model.safetensors")  # fmt: skip


def test_three_bad_steps_end_the_run_as_diverged(run, tiny, tmp_path):
    done = run(*tiny(optimizer__matrix='{recipe="sgd",lr=1e30}', optimizer__auxiliary='{recipe="sgd",lr=1e30}',
                     train__clip=0), "--run-dir", "out")  # fmt: skip
    assert done.returncode == 1
    end = records(tmp_path / "out")[-1]
    skips = [r for r in records(tmp_path / "out") if r["event"] == "skip"]
    assert end["status"] == "diverged" and end["skipped"] == len(skips) == 3
    assert [r["in_a_row"] for r in skips] == [1, 2, 3]
    assert end["layer"].startswith("model.") and end["layer"] in done.stdout


def test_sample_is_text_that_begins_with_the_prompt(run, tiny):
    run(*tiny(), "--run-dir", "out", "--quiet")
    first, second = (run("sample", "out", "--prompt", "line", "--length", "20") for _ in range(2))
    assert first.returncode == 0 and first.stdout.startswith("line") and first.stdout == second.stdout


def test_threads_are_patient_unless_told_otherwise(run):
    plain = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    assert "asleep after 5000 turns" in run("doctor", env=plain).stdout
    assert "asleep after 77 turns" in run("doctor", env={**plain, "GOMP_SPINCOUNT": "77"}).stdout
    assert "asleep" not in run("doctor", env={**plain, "OMP_WAIT_POLICY": "active"}).stdout


def test_a_live_line_on_a_terminal(tiny, tmp_path):
    parent, child = pty.openpty()
    process = subprocess.Popen([CLI, *tiny(train__steps=60), "--run-dir", "out"], cwd=tmp_path, stdout=child, stderr=child,
                               env={**os.environ, "COLUMNS": "60"})  # fmt: skip
    os.close(child)
    text = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            chunk = os.read(parent, 65536)
        except OSError:
            break
        if not chunk:
            break
        text += chunk
    assert process.wait() == 0
    assert b"\r\033[2K" in text and b"eta" in text
