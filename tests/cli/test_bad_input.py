"""Bad input: a clear error on stderr, the right exit code, nothing lost."""

from __future__ import annotations

import os
import pathlib
import shutil
import struct

import pytest

GOLDEN = pathlib.Path(os.environ["SCHATTEN_SOURCE_DIR"]) / "tests" / "golden"


def refused(done, code: int, *words: str) -> None:
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout == "" or code == 1
    for word in words:
        assert word in done.stderr, (word, done.stderr)
    assert len(done.stderr.strip().splitlines()) <= 4
    assert "Traceback" not in done.stderr and "frame #" not in done.stderr


def test_unknown_key_names_file_line_column_and_the_nearest(run, tmp_path):
    (tmp_path / "bad.toml").write_text("[train]\nsteps = 5\nclipp = 1.0\n")
    refused(run("train", "bad.toml"), 2, "bad.toml:3:", "clipp", "Did you mean 'clip'")


def test_wrong_type_names_file_line_column(run, tmp_path):
    (tmp_path / "bad.toml").write_text('[train]\nsteps = "many"\n')
    refused(run("train", "bad.toml"), 2, "bad.toml:2:", "integer", "many")


def test_broken_toml_names_the_place(run, tmp_path):
    (tmp_path / "bad.toml").write_text("[train\nsteps = 5\n")
    refused(run("train", "bad.toml"), 2, "bad.toml:1:")


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ("optimizer.matrix.lr=-0.1", "lr"), ("optimizer.matrix.lr=nan", "nan"), ("train.steps=0", "train.steps"),
        ("train.clip=-1", "train.clip"), ("data.batch=0", "data.batch"), ("train.accumulate=3", "divide"),
        ("schedule.kind=cosin", "cosine"), ("optimizer.matrix.recipe=muno", "muon"), ("train.dtype=float8", "float32"),
        ("schedule.warmup=1000000", "train.steps"), ("model.preset=llama-smal", "llama-small"), ("nonsense", "key=value"),
        ('optimizer.matrix={recipe="muon",lr=0.1,momentum=1.0}', "momentum"),
        ('optimizer.matrix={recipe="htmuon",lr=0.1,power=-1}', "power"),
        ("train.steps=[1]", "integer"), ("optimizer.compute=float16", "bfloat16"),
    ],
)  # fmt: skip
def test_bad_settings(run, setting, word):
    refused(run("train", "--set", setting), 2, word)


def test_routes_must_cover_and_match(run, tiny):
    uncovered = '[{match="hidden_matrix",recipe="muon",lr=0.1}]'
    refused(run(*tiny(optimizer__routes=uncovered)), 2, "without a rule", "embed_tokens")
    unmatched = '[{match="conv",recipe="muon",lr=0.1},{match="any",recipe="adamw",lr=0.1}]'
    refused(run(*tiny(optimizer__routes=unmatched)), 2, "rules without a parameter", "'conv'")


def test_empty_non_utf8_and_short_corpora(run, tiny, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    refused(run(*tiny(data__source="text:empty.txt")), 1, "empty")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n" * 1000)
    refused(run(*tiny(data__source="text:latin.txt")), 1, "UTF-8", "3")
    (tmp_path / "short.txt").write_text("a\n" * 30)
    refused(run(*tiny(data__source="text:short.txt")), 1, "33")
    refused(run(*tiny(data__source="text:nowhere")), 1, "nowhere")
    refused(run(*tiny(data__source="nowhere")), 2, "python-source")


def shard(path: pathlib.Path, tokens: list[int], magic: int = 20240520, count: int | None = None, extra: bytes = b"") -> None:
    header = [magic, 1, len(tokens) if count is None else count] + [0] * 253
    path.write_bytes(struct.pack("<256i", *header) + struct.pack(f"<{len(tokens)}H", *tokens) + extra)


def test_bad_shards(run, tiny, tmp_path):
    good = [i % 50 for i in range(4000)]
    shard(tmp_path / "good_val.bin", good)
    cases = {
        "magic.bin": ({"magic": 1234}, "magic"), "short.bin": ({"count": 9999}, "9999"),
        "odd.bin": ({"extra": b"x"}, "token"), "swapped.bin": ({"magic": 0x48D63401}, "magic"),
    }  # fmt: skip
    for name, (options, word) in cases.items():
        shard(tmp_path / name, good, **options)
        refused(run(*tiny(data__source="tokens:*.bin", model__vocab=50)), 1, name, word)
        (tmp_path / name).unlink()
    shard(tmp_path / "train.bin", [*good, 77])
    refused(run(*tiny(data__source="tokens:*.bin", model__vocab=50)), 1, "train.bin", "77")
    shard(tmp_path / "train.bin", good)
    assert run(*tiny(data__source="tokens:*.bin", model__vocab=50), "--run-dir", "ok", "--quiet").returncode == 0


def test_a_damaged_or_foreign_checkpoint_is_refused_and_kept(run, tiny, tmp_path):
    words = tiny(train__steps=20, train__checkpoint_every=10)
    assert run(*words, "--run-dir", "out", "--quiet").returncode == 0
    last = tmp_path / "out" / "checkpoints" / "step-20"
    before = (tmp_path / "out" / "metrics.jsonl").read_bytes()
    whole = (last / "model.safetensors").read_bytes()
    (last / "model.safetensors").write_bytes(whole[:-10])
    refused(run("train", "--resume", "--run-dir", "out"), 1, "model.safetensors")
    (last / "model.safetensors").write_bytes(whole)
    state = (last / "state.json").read_text()
    (last / "state.json").write_text(state.replace('"version": 1', '"version": 99'))
    refused(run("train", "--resume", "--run-dir", "out"), 1, "version 99")
    (last / "state.json").write_text(state)
    shutil.copy(last / "model.safetensors", last / "optimizer.safetensors")
    refused(run("train", "--resume", "--run-dir", "out"), 1, "optimizer.safetensors", "another model or recipe")
    assert (tmp_path / "out" / "metrics.jsonl").read_bytes() == before
    other = run(*tiny(model__width=64), "--run-dir", "other", "--init-from", str(last / "model.safetensors"))
    refused(other, 1, "model.safetensors", "misshaped", "[256, 32] instead of [256, 64]")
    assert not (tmp_path / "other").exists()


def test_run_directories_are_not_overwritten(run, tiny, tmp_path):
    assert run(*tiny(), "--run-dir", "out", "--quiet").returncode == 0
    before = (tmp_path / "out" / "metrics.jsonl").read_bytes()
    refused(run(*tiny(), "--run-dir", "out"), 2, "--resume")
    refused(run(*tiny(seed=9), "--run-dir", "out"), 2, "another config")
    refused(run(*tiny(seed=9), "--run-dir", "out", "--resume-or-start"), 2, "another config")
    refused(run(*tiny(), "--run-dir", "new", "--resume"), 2, "checkpoint")
    assert (tmp_path / "out" / "metrics.jsonl").read_bytes() == before


def test_unwritable_and_full_run_directories(run, tiny, tmp_path):
    (tmp_path / "file").write_text("")
    refused(run(*tiny(), "--run-dir", "file/out"), 1, "file/out")
    if os.path.exists("/dev/full"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "metrics.jsonl").symlink_to("/dev/full")
        refused(run(*tiny(), "--run-dir", "out", "--json"), 1, "metrics.jsonl", "No space left")


def test_hostile_weights(run, tiny):
    for file in sorted((GOLDEN / "formats" / "safetensors").glob("bad_*.safetensors")):
        done = run(*tiny(), "--run-dir", "out", "--init-from", str(file))
        assert done.returncode == 1 and file.name in done.stderr, (file.name, done.stderr)


def test_usage(run):
    assert run().returncode == 2
    assert run("trian").returncode == 2
    for command in ("train", "campaign", "report", "sample", "recipes", "data", "doctor"):
        done = run(command, "--help")
        assert done.returncode == 0 and "-h,--help" in done.stdout
    refused(run("recipes", "muno"), 2, "muon")
    refused(run("report", "nowhere"), 1, "nowhere")
    refused(run("sample", "nowhere"), 1, "nowhere")
