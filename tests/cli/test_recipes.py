"""What `schatten recipes` says is so: memory, schedules, JSON."""

from __future__ import annotations

import json

import pytest
from conftest import records


def test_memory_is_what_training_allocates(run, tiny, tmp_path):
    said = {}
    for line in run("recipes", "--memory", "llama-tiny").stdout.splitlines():
        words = line.split()
        if len(words) >= 4 and words[1].isdigit():
            said[words[0]] = int(words[1])
    assert {"muon", "adamw", "soap", "galore", "gum", "apollo"} <= said.keys()
    for recipe in ("muon", "soap", "galore", "gum", "apollo"):
        words = ["train", "--set", "model.preset=llama-tiny", "--set", "train.steps=1", "--set", "data.batch=1",
                 "--set", "data.eval_batches=1", "--set", "train.sample_length=0",
                 "--set", f"data.source=text:{tmp_path / 'text.txt'}",
                 "--set", f'optimizer.matrix={{recipe="{recipe}",lr=0.001}}']  # fmt: skip
        done = run(*words, "--run-dir", recipe, "--quiet")
        assert done.returncode == 0, done.stderr
        assert records(tmp_path / recipe)[0]["state_bytes"] == said[recipe], recipe


def test_schedules_say_where_singular_values_end(run):
    lines = run("recipes", "--schedules").stdout.splitlines()
    bands = {line.split()[0]: (float(line.split()[4]), float(line.split()[6])) for line in lines[1:]}
    assert {"quintic", "cubic", "you", "modded", "polar_express", "gram105", "aol_a", "deepseek_v4", "cubic5", "cans"} <= bands.keys()
    assert all(0 <= low < high < 1.5 for low, high in bands.values())
    assert bands["polar_express"][0] > 0.85


def test_json_has_everything_of_every_recipe(run):
    rows = [json.loads(line) for line in run("recipes", "--json").stdout.splitlines()]
    assert len(rows) >= 36 and len({row["name"] for row in rows}) == len(rows)
    for row in rows:
        assert all(row[key] for key in ("group", "summary", "formula", "paper", "state", "tune", "options", "recipe")), row["name"]
    assert len(run("recipes", "soap", "--json").stdout.splitlines()) == 1


@pytest.mark.parametrize("words, hint", [(("--memory", "llama-tinny"), "llama-tiny"), (("sope",), "soap"), (("sope", "--json"), "soap")])
def test_what_it_does_not_know_is_named(run, words, hint):
    done = run("recipes", *words)
    assert done.returncode == 2 and hint in done.stderr


@pytest.mark.parametrize(
    "key, value, hint",
    [
        ("optimizer.sam.rho", "-1.0", "optimizer.sam.rho"),
        ("optimizer.average", "1.0", "optimizer.average"),
        ("optimizer.matrix", '{recipe="galore",lr=0.1,rank=500}', "500"),
        ("optimizer.matrix", '{recipe="gum",lr=0.1,probability=1.5,full_blocks=0}', "probability"),
        ("optimizer.matrix", '{recipe="htmuon",lr=0.1,every=0}', "every"),
        ("optimizer.matrix", '{recipe="muon",lr=0.1,polar={coefficients=[[4.0098,-7.0585,2.4635]]}}', "0.88"),
        ("optimizer.matrix", '{recipe="muon",lr=0.1,retract={form="projekt"}}', "project"),
        ("optimizer.auxiliary", '{recipe="muon",lr=0.1}', "adamw"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_before_anything_runs(run, tiny, tmp_path, key, value, hint):
    done = run(*tiny(**{key.replace(".", "__"): value}), "--run-dir", "out")
    assert done.returncode == 2, done.stdout
    assert hint in done.stderr, done.stderr
    assert not (tmp_path / "out" / "metrics.jsonl").exists()
