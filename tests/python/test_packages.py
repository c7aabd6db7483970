"""Our files in the hands of the packages that others use: tensorboard and transformers."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess

import numpy
import pytest
from safetensors import safe_open

CLI = os.environ["SCHATTEN_CLI"]
SMALL = ["--set", "model.layers=2", "--set", "model.width=64", "--set", "model.heads=4", "--set", "model.ffn=96",
         "--set", "model.context=32", "--set", "data.batch=4", "--set", "data.eval_batches=2", "--set", "train.steps=12",
         "--set", "train.log_every=3", "--set", "train.eval_every=6", "--set", "spectra.every=6"]  # fmt: skip


def train(folder: pathlib.Path, *words: str) -> pathlib.Path:
    text = folder / "text.txt"
    text.write_text("".join(f"{i} bottles of beer on the wall\n" for i in range(3000)))
    subprocess.run([CLI, "train", "--run-dir", str(folder / "run"), "--quiet", "--set", f"data.source=text:{text}",
                    *SMALL, *words], check=True)  # fmt: skip
    return folder / "run"


def test_tensorboard_reads_the_event_files(tmp_path: pathlib.Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(tmp_path)
    events = EventAccumulator(str(run))
    events.Reload()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for tag, event, key in (("train/loss", "train", "loss"), ("validation/loss", "eval", "loss"), ("train/lr", "train", "lr")):
        wanted = [(r["step"], r[key]) for r in rows if r["event"] == event and r.get("split", "validation") == "validation"]
        got = [(e.step, e.value) for e in events.Scalars(tag)]
        assert [s for s, _ in got] == [s for s, _ in wanted]
        numpy.testing.assert_allclose([v for _, v in got], [v for _, v in wanted], rtol=1e-6)
    assert any(tag.endswith("/alpha") for tag in events.Tags()["scalars"])
    histogram = events.Tags()["histograms"][0]
    assert events.Histograms(histogram)[0].histogram_value.num > 0


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("llama-tiny", ["--set", "model.kv_heads=2"]),
        ("llama-tiny", ["--set", "model.kv_heads=4", "--set", "model.tied=1"]),
        ("gpt-small", ["--set", "model.kv_heads=4"]),
    ],
)
def test_transformers_loads_the_weights(tmp_path: pathlib.Path, preset: str, options: list[str]) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    run = train(tmp_path, "--set", f"model.preset={preset}", *options)
    checkpoint = run / "checkpoints" / "step-12"
    model, report = AutoModelForCausalLM.from_pretrained(checkpoint, output_loading_info=True, dtype=torch.float32)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    with safe_open(str(checkpoint / "model.safetensors"), "pt") as file:
        state = model.state_dict()
        for name in file.keys():
            assert torch.equal(file.get_tensor(name), state[name]), name
    # The loss that the trainer reported on its fixed held-out windows, by transformers' own forward pass.
    text = (tmp_path / "text.txt").read_bytes()
    cut = text.index(b"\n", len(text) * 90 // 100) + 1
    held = numpy.frombuffer(text[cut : text.index(b"\n", max(cut, len(text) * 95 // 100)) + 1], dtype=numpy.uint8)
    windows = (len(held) - 1) // 32
    starts = [i * windows // 8 * 32 for i in range(8)]
    tokens = torch.stack([torch.from_numpy(held[s : s + 33].astype(numpy.int64)) for s in starts])
    with torch.no_grad():
        logits = model(tokens[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), tokens[:, 1:].reshape(-1)).item()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    reported = [r["loss"] for r in rows if r["event"] == "eval"][-1]
    assert abs(loss - reported) < 2e-5 * reported


def test_transformers_weights_start_a_run(tmp_path: pathlib.Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=256, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=32, tie_word_embeddings=False)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "hf")
    still = '{recipe="sgd",lr=0.0}'
    run = train(tmp_path, "--set", "model.preset=llama-tiny", "--set", "model.kv_heads=2", "--init-from",
                str(tmp_path / "hf" / "model.safetensors"), "--set", f"optimizer.matrix={still}",
                "--set", f"optimizer.auxiliary={still}")  # fmt: skip
    with safe_open(str(tmp_path / "hf/model.safetensors"), "np") as a, safe_open(
        str(run / "checkpoints/step-12/model.safetensors"), "np") as b:  # fmt: skip
        for name in a.keys():
            assert numpy.array_equal(a.get_tensor(name), b.get_tensor(name)), name
