"""schatten.spectra against float64 oracles, the authors' recorded numbers and the program; optimizer.watch against what it watches."""

from __future__ import annotations

import builtins
import copy
import json
import math
import os
import pathlib
import pickle
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import schatten
from schatten import diagnostics, tables

SOURCE = pathlib.Path(os.environ["SCHATTEN_SOURCE_DIR"])
CLI = pathlib.Path(os.environ["SCHATTEN_CLI"])
GOLDEN = sorted((SOURCE / "tests" / "golden" / "diagnostics").glob("*.safetensors"))
NAN = float("nan")


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def heavy(rows: int, columns: int, exponent: float = 0.7, seed: int = 0) -> Tensor:
    """Singular values k^-exponent."""
    u, v = (torch.linalg.qr(gaussian(n, min(rows, columns), seed=seed + i, dtype=torch.float64))[0] for i, n in enumerate((rows, columns)))
    product: Tensor = (u * torch.arange(1, min(rows, columns) + 1, dtype=torch.float64) ** -exponent) @ v.T
    return product


def oracle(matrix: Tensor) -> dict[str, float]:
    """From definitions, in numpy."""
    w = matrix.double().numpy()
    s = np.linalg.svd(w, compute_uv=False)
    lam = np.sort(s**2)
    fits = []
    for i in range(len(lam) - 1):
        tail = lam[i:]
        alpha = 1 + len(tail) / np.log(tail / lam[i]).sum()
        fits.append((np.abs(1 - (tail / lam[i]) ** (1 - alpha) - np.arange(len(tail)) / len(tail)).max(), i, alpha))
    distance, start, alpha = min(fits)
    p, q = s / s.sum(), lam / lam.sum() + 1e-10
    short, long = sorted(w.shape)
    edge = w.var() * long * (1 + (short / long) ** 0.5) ** 2
    unit = edge / (w.var() * long)
    spread = math.sqrt((short / long) ** 0.5 * unit ** (2 / 3) * short ** (-2 / 3))
    return {
        "N": long, "M": short, "Q": long / short, "num_evals": short, "alpha": alpha, "D": distance, "xmin": lam[start],
        "num_pl_spikes": short - start, "sigma": (alpha - 1) / (short - start) ** 0.5, "alpha_weighted": alpha * np.log10(lam[-1]),
        "log_alpha_norm": np.log10((lam**alpha).sum()), "log_norm": np.log10(lam.sum()), "log_spectral_norm": np.log10(lam[-1]),
        "lambda_max": lam[-1], "sigma_max": s[0], "sigma_median": np.median(s), "sigma_min": s[-1], "frobenius_norm": np.linalg.norm(w),
        "rms": (w**2).mean() ** 0.5, "stable_rank": lam.sum() / lam[-1], "effective_rank": np.exp(-(p * np.log(p)).sum()),
        "participation_ratio": lam.sum() ** 2 / (lam**2).sum(), "matrix_rank": short, "entropy": -(q * np.log(q)).sum() / np.log(short),
        "slope": -np.polyfit(np.log(np.arange(1, short // 2 + 1)), np.log(s[: short // 2]), 1)[0], "mp_edge": edge,
        "num_spikes": (lam > w.var() * long * (unit + spread)).sum(), "mp_softrank": edge / lam[-1],
    }  # fmt: skip


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [gaussian(90, 60), gaussian(60, 90) * 1e-4, heavy(80, 100)], ids=["tall", "tiny", "heavy"])
def test_every_column_is_what_it_says(weight: Tensor) -> None:
    got, expected = schatten.spectra({"w": weight}, dtype=torch.float64), oracle(weight)
    assert set(got) == {"layer_id", "name", "shape", "dtype", "note", *expected}
    for column, value in expected.items():
        assert got[column][0] == pytest.approx(value, rel=1e-9), column
    np.testing.assert_allclose(got.singular_values["w"], np.linalg.svd(weight.double().numpy(), compute_uv=False), rtol=1e-11)
    assert set(expected) | {"alpha_shuffled"} == set(diagnostics.column_help())


MARCHENKO_PASTUR = {"num_spikes", "mp_softrank"}  # theirs fit the bulk by a search


@pytest.mark.parametrize("file", GOLDEN, ids=lambda f: f.stem)
def test_weightwatchers_numbers(file: pathlib.Path) -> None:
    with safe_open(file, "pt") as f:
        if "in.w" not in f.keys() or f.get_tensor("in.w").ndim != 2:
            assert file.stem in {"alpha_assignment", "closed_form", "conv_3x3"}
            return
        recorded = json.loads(f.metadata()["scalars"])
    got = schatten.spectra(file, names="in.w", above=1e-5, minimum=20, dtype=torch.float64)
    shared = [name for name in got if f"ww.{name}" in recorded and name not in MARCHENKO_PASTUR]
    assert {"alpha", "D", "xmin", "sigma", "num_pl_spikes", "alpha_weighted", "log_alpha_norm", "log_norm", "log_spectral_norm",
            "stable_rank", "entropy", "matrix_rank", "lambda_max", "Q", "N", "M", "num_evals"} <= set(shared)  # fmt: skip
    if recorded["ww.num_evals"] < 20:  # they fit those by a rule of their own
        assert math.isnan(got["alpha"][0]) and got["note"] == ["not enough eigenvalues: 16 of 20"]
        return
    for name in shared:
        assert got[name][0] == pytest.approx(recorded[f"ww.{name}"], rel=1e-8, abs=1e-9), name
    median = schatten.spectra(file, names="in.w", fit="median", dtype=torch.float64)
    assert median["alpha"][0] == pytest.approx(recorded["tempbalance.median.alpha"], rel=1e-8)
    assert median["D"][0] == pytest.approx(recorded["tempbalance.median.D"], rel=1e-8)


def test_float32_is_near() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        w = heavy(80, 100).to(dtype)
        got, exact = schatten.spectra({"w": w}), schatten.spectra({"w": w}, dtype=torch.float64)
        assert got["dtype"] == [str(dtype).removeprefix("torch.")]
        for column in ("alpha", "stable_rank", "sigma_max", "effective_rank"):
            assert got[column][0] == pytest.approx(exact[column][0], rel=1e-3), column


def test_too_few_eigenvalues_have_no_alpha_and_say_so() -> None:
    got = schatten.spectra({"a": gaussian(40, 30), "b": gaussian(80, 60).log(), "c": torch.zeros(60, 60), "d": torch.eye(60)})
    assert all(math.isnan(alpha) for alpha in got["alpha"])
    assert got["note"] == ["not enough eigenvalues: 30 of 50", "holds NaN or infinity", "all entries are 0", "no power law fits"]
    assert got["stable_rank"][0] > 1 and got["num_evals"] == [30, 60, 60, 60]
    assert math.isnan(got["sigma_max"][1]) and got["sigma_max"][2:] == [0, 1]
    assert not math.isnan(schatten.spectra({"a": gaussian(40, 30)}, minimum=20)["alpha"][0])


def test_a_shuffled_copy_has_no_tail() -> None:
    spiked = {"w": heavy(120, 120, 1.0)}
    got = schatten.spectra(spiked, shuffled=True)
    assert got["alpha_shuffled"][0] > got["alpha"][0] + 1
    assert "alpha_shuffled" not in schatten.spectra(spiked)
    assert got["alpha_shuffled"] == schatten.spectra(spiked, shuffled=True)["alpha_shuffled"]


def test_the_operator_is_sound() -> None:
    options = json.dumps({"minimum": 2, "shuffled_seed": 1})
    matrices = [gaussian(20, 12), gaussian(8, 30, dtype=torch.bfloat16)]
    torch.library.opcheck(torch.ops.schatten.spectra.default, (matrices, options))
    table, values = torch.ops.schatten.spectra([m.to("meta") for m in matrices], options)
    assert table.shape == (2, len(diagnostics.column_help())) and [v.shape[0] for v in values] == [12, 8]
    xmin = torch.ops.schatten.spectra(matrices, options)[0][0][list(diagnostics.column_help()).index("xmin")].item()
    tails = [schatten.spectra({"w": matrices[0]}, minimum=2, above=above)["num_pl_spikes"][0] for above in (None, 1.2 * xmin)]
    assert tails[1] < tails[0]
    for wrong in (torch.zeros(3), torch.zeros(2, 2, dtype=torch.int64), torch.zeros(0, 4)):
        with pytest.raises(ValueError, match=r"expected matrices \[m, n\]"):
            torch.ops.schatten.spectra([wrong], "")
    with pytest.raises(ValueError, match="Did you mean 'minimum'"):
        torch.ops.schatten.spectra(matrices, '{"minimun": 3}')


# --- where weights come from ------------------------------------------------------------------------------------------


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.conv = nn.Embedding(80, 64), nn.Conv2d(64, 60, 3)
        self.up, self.norm, self.small, self.head = nn.Linear(64, 90), nn.LayerNorm(64), nn.Linear(8, 4), nn.Linear(64, 80, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("mask", torch.ones(70, 70))


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model()


def same(a: schatten.Spectra, b: schatten.Spectra) -> None:
    mine, theirs = ({row.pop("name"): row for row in table.rows()} for table in (a, b))
    assert mine.keys() == theirs.keys()
    for name, row in mine.items():
        a_numbers, b_numbers = ([v for v in r.values() if isinstance(v, float)] for r in (row, theirs[name]))
        np.testing.assert_allclose(a_numbers, b_numbers, rtol=1e-5)


def test_a_module_its_state_dict_and_its_file_are_one(model: Model, tmp_path: pathlib.Path) -> None:
    of_module = schatten.spectra(model)
    assert of_module["name"] == ["embed.weight", "conv.weight", "up.weight", "small.weight"]
    assert of_module["shape"][1] == (60, 64, 3, 3) and (of_module["M"][1], of_module["N"][1]) == (60, 576)
    assert of_module["rms"][1] == pytest.approx(model.conv.weight.detach().square().mean().sqrt().item(), rel=1e-5)
    assert of_module.skipped["up.bias"] == of_module.skipped["norm.weight"] == "vector"
    assert of_module.skipped["head.weight"] == "the same tensor as 'embed.weight'"
    assert set(of_module["name"]) | set(of_module.skipped) == set(dict(model.named_parameters(remove_duplicate=False)))
    state = {**model.state_dict(), "ids": torch.arange(9).reshape(3, 3), "extra": 1, "z": torch.zeros(60, 60, dtype=torch.complex64)}
    of_state = schatten.spectra(state, names="*")
    assert "mask" in of_state["name"], "a state_dict does not tell buffers"
    assert of_state.skipped["ids"] == "dtype int64" and of_state.skipped["z"] == "dtype complex64"
    assert schatten.spectra(state).skipped["extra"] == "int, no tensor"
    file = {k: v for k, v in model.state_dict().items() if k not in ("head.weight", "mask")}
    save_file(file, tmp_path / "model.safetensors")
    same(of_module, schatten.spectra(tmp_path / "model.safetensors"))
    same(of_module, schatten.spectra(str(tmp_path)))


def test_sharded_files(model: Model, tmp_path: pathlib.Path) -> None:
    state = {k: v for k, v in model.state_dict().items() if k != "head.weight"}
    first, second = dict(list(state.items())[:3]), dict(list(state.items())[3:])
    save_file(first, tmp_path / "model-1.safetensors")
    save_file(second, tmp_path / "model-2.safetensors")
    same(schatten.spectra(state), schatten.spectra(tmp_path))
    where = {name: f"model-{1 if name in first else 2}.safetensors" for name in state if name != "mask"}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    del state["mask"]
    same(schatten.spectra(state), schatten.spectra(index))
    same(schatten.spectra(state), schatten.spectra(tmp_path))
    for wrong, word in (({"embed.weight": "model-2.safetensors"}, "embed.weight"), ({"a": "../a.safetensors"}, "beside it"),
                        ({"a": "none.safetensors"}, "no such file")):  # fmt: skip
        index.write_text(json.dumps({"weight_map": wrong}))
        with pytest.raises(RuntimeError, match=word):
            schatten.spectra(index)
    index.unlink()
    save_file(first, tmp_path / "again.safetensors")
    with pytest.raises(RuntimeError, match="every tensor in one file"):
        schatten.spectra(tmp_path)


MEASURE = """
import pathlib, re, sys, torch, schatten
def peak():  # of this program alone; ru_maxrss begins with its parent's
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
schatten.spectra({"w": torch.randn(64, 65536)})
before = peak()
assert len(schatten.spectra(sys.argv[1])["name"]) == 24
print(peak() - before)
"""


def test_a_file_is_never_in_memory_as_a_whole(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "large.safetensors"
    save_file({f"w{i}": gaussian(64, 65536, seed=i) for i in range(24)}, path)
    given_back = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}  # what is freed, at once: glibc keeps some of it as it likes
    done = subprocess.run([sys.executable, "-c", MEASURE, path], text=True, capture_output=True, check=False, env=given_back)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 1024 < 0.5 * path.stat().st_size, f"{int(done.stdout) / 1024:.0f} MiB of {path.stat().st_size >> 20} MiB"


def test_names_and_progress(model: Model) -> None:
    seen: list[Any] = []
    got = schatten.spectra(model, names=["up.*", "conv.weight"], progress=lambda *words: seen.append(words))
    assert got["name"] == ["conv.weight", "up.weight"] and got.skipped == {"up.bias": "vector"} and seen == [(0, 2, "conv.weight")]
    with pytest.raises(ValueError, match=r"no weight is named 'up.wieght'\n  Nearest: up.weight"):
        schatten.spectra(model, names="up.wieght")


def test_wrong_sources_are_explained(model: Model, tmp_path: pathlib.Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"")
    (tmp_path / "cut.safetensors").write_bytes(b"\x09")
    (tmp_path / "empty").mkdir()
    cases: list[tuple[Any, type[Exception], str]] = [
        (torch.zeros(3, 3), TypeError, "A single matrix"),
        ({"model": model.state_dict()}, ValueError, r"checkpoint\['model'\]"),
        (nn.Linear(3, 3, device="meta"), ValueError, "meta device"),
        (tmp_path / "none", FileNotFoundError, "got no file"),
        (tmp_path / "model.pt", ValueError, "torch.load"),
        (tmp_path / "cut.safetensors", RuntimeError, "8 bytes of header length"),
        (tmp_path / "empty", RuntimeError, r"\*.safetensors in this folder"),
    ]
    for source, error, word in cases:
        with pytest.raises(error, match=word):
            schatten.spectra(source)
    with pytest.raises(ValueError, match="median, goodness_of_fit"):
        schatten.spectra(model, fit="hill")
    with pytest.raises(ValueError, match=r"float32 or torch.float64"):
        schatten.spectra(model, dtype=torch.bfloat16)
    assert dict(schatten.spectra({}))["name"] == []


# --- what the table does ----------------------------------------------------------------------------------------------


def test_the_table_fits(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    got = schatten.spectra({**{f"layers.{i}.a_long_name_of_something.weight": gaussian(60, 60) for i in range(70)}, **model.state_dict()})
    for width in (40, 60, 80, 100, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        text = repr(got)
        assert max(map(len, text.splitlines())) <= width, width
        assert "alpha (D)" in text and "… " not in text.splitlines()[0]
        assert len(text.splitlines()) < tables.MOST_ROWS + 12 and "more; the columns hold them all" in text
    assert "Not enough eigenvalues for a fit: 1." in text and "not enough eigenvalues: 4 of 50" in text
    assert "Skipped, no matrices: up.bias" not in text and f"and {len(got.skipped) - 2} more" in text
    assert tables.shortened("layers.10.attention.weight", 11) == "lay….weight"


def test_html_is_safe() -> None:
    text = schatten.spectra({"<b>&": gaussian(60, 60)})._repr_html_()
    assert "&lt;b&gt;&amp;" in text and "<b>" not in text and text.count("<tr>") == 2


def test_json(tmp_path: pathlib.Path, model: Model) -> None:
    got = schatten.spectra(model)
    read = json.loads(got.to_json(tmp_path / "s.json"))
    assert read == json.loads((tmp_path / "s.json").read_text())
    assert [row["name"] for row in read["rows"]] == got["name"] and read["skipped"] == got.skipped and read["options"] == got.options
    assert read["rows"][3]["alpha"] is None and read["rows"][0]["alpha"] == got["alpha"][0]
    again = pickle.loads(pickle.dumps(got))
    assert again.to_json() == got.to_json() and again.skipped == got.skipped


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    real = builtins.__import__

    def fake(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] in missing:
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", fake)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, model: Model) -> None:
    got = schatten.spectra(model)
    without(monkeypatch, "pandas", "matplotlib")
    with pytest.raises(ImportError, match="pip install pandas"):
        got.to_pandas()
    with pytest.raises(ImportError, match="pip install matplotlib"):
        got.plot()


def test_pandas(model: Model) -> None:
    pytest.importorskip("pandas")
    got = schatten.spectra(model)
    frame = got.to_pandas()
    assert list(frame.columns) == list(got) and frame.set_index("name").loc["up.weight", "M"] == 64
    assert frame["num_spikes"].dtype.kind == "i" and frame["alpha"].dtype.kind == "f"


def test_plot(model: Model, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    got = schatten.spectra(model, shuffled=True)
    left, right = got.plot("up.weight").axes
    np.testing.assert_array_equal(left.lines[0].get_ydata(), got["alpha"])
    eigenvalues = got.singular_values["up.weight"].numpy() ** 2
    np.testing.assert_allclose(right.lines[0].get_xdata(), eigenvalues)
    x, y = right.lines[1].get_data()
    assert y[1] / y[0] == pytest.approx((x[1] / x[0]) ** (1 - got["alpha"][2])) and (y[0] * 64) == got["num_pl_spikes"][2]
    got.plot().savefig(tmp_path / "a.png")
    got.plot("small.weight")
    with pytest.raises(ValueError, match=r"Nearest: up.weight"):
        got.plot("up.wight")
    with pytest.raises(ValueError, match="expected a matrix with a fit"):
        schatten.spectra({"w": gaussian(9, 9)}).plot()


def test_compare(model: Model) -> None:
    before = schatten.spectra({"a": gaussian(60, 60), "b": gaussian(70, 60, seed=1), "gone": gaussian(60, 60)})
    after = schatten.spectra({"b": 2 * gaussian(70, 60, seed=1), "a": heavy(60, 60), "new": gaussian(60, 60)})
    both = before.compare(after)
    assert both["name"] == ["a", "b"] and both.only_here == ["gone"] and both.only_there == ["new"]
    assert both["alpha"] == before["alpha"][:2] and both["alpha_other"] == [after["alpha"][1], after["alpha"][0]]
    assert both["sigma_max_other"][1] == pytest.approx(2 * both["sigma_max"][1], rel=1e-5)
    assert "Only in the second: new." in both.to_text(60) and max(map(len, both.to_text(60).splitlines())) <= 60
    assert json.loads(both.to_json())["only_there"] == ["new"]
    with pytest.raises(ValueError, match="fits made alike"):
        before.compare(schatten.spectra({"a": gaussian(60, 60)}, fit="median"))
    with pytest.raises(ValueError, match="none in common"):
        before.compare(schatten.spectra({"c": gaussian(60, 60)}))
    with pytest.raises(TypeError, match=r"what schatten.spectra returns"):
        before.compare(model)  # type: ignore[arg-type]


# --- the program ------------------------------------------------------------------------------------------------------

TINY = {"model.preset": "llama-tiny", "model.layers": 1, "model.width": 64, "model.heads": 2, "model.kv_heads": 2, "model.ffn": 96,
        "model.context": 32, "data.source": "text:text.txt", "data.batch": 4, "data.eval_batches": 1, "train.steps": 4,
        "train.eval_every": 4, "train.log_every": 1, "train.sample_length": 4, "train.threads": 1, "spectra.every": 4}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What `schatten train` leaves of a tiny run."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "text.txt").write_text("".join(f"line {i}: the quick brown fox number {i * i}\n" for i in range(2000)))
    words = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    subprocess.run([CLI, "train", *words, "--run-dir", "out"], cwd=folder, check=True, capture_output=True)
    return folder / "out"


def test_the_programs_spectra_are_ours(run: pathlib.Path) -> None:
    recorded = {r["name"]: r for r in map(json.loads, (run / "spectra.jsonl").read_text().splitlines()) if r["step"] == 4}
    got = schatten.spectra(run / "checkpoints" / "step-4", fit="median")
    rows = {row["name"]: row for row in got.rows()}
    assert len(recorded) == 7
    for name, record in recorded.items():
        row = rows[name]
        assert row["alpha"] == pytest.approx(record["alpha"]["alpha"], rel=1e-3), name
        assert row["D"] == pytest.approx(record["alpha"]["distance"], abs=1e-3)
        for column in ("sigma_max", "sigma_median", "frobenius_norm", "stable_rank", "effective_rank", "participation_ratio", "slope"):
            assert row[column] == pytest.approx(record["weight"][column], rel=1e-4), (name, column)


# --- watching ---------------------------------------------------------------------------------------------------------


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(60, 70), nn.ReLU(), nn.Linear(70, 60), nn.LayerNorm(60))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, call: Any = None) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(gaussian(8, 60)).pow(2).mean().backward()
        (call or optimizer.step)()


def test_records_say_what_happened() -> None:
    model, records = network(), list[dict[str, Any]]()
    optimizer = schatten.Muon(model, lr=0.02, weight_decay=0.1)
    optimizer.watch(every=3, callback=records.append)
    train(model, optimizer, 2)
    weights = [model.get_parameter("0.weight"), model.get_parameter("2.weight")]
    before = [p.detach().double().numpy().copy() for p in weights]
    train(model, optimizer, 1)
    assert [(r["step"], r["name"]) for r in records] == [(3, "0.weight"), (3, "2.weight")]
    for record, old, weight in zip(records, before, weights, strict=True):
        new, momentum = weight.detach().double().numpy(), optimizer.state[weight]["momentum_buffer"].double().numpy()
        assert record["lr"] == 0.02 and record["shape"] == list(weight.shape)
        assert weight.grad is not None and record["grad_norm"] == pytest.approx(weight.grad.norm().item(), rel=1e-6)
        assert record["update_ratio"] == pytest.approx(np.linalg.norm(old - new) / np.linalg.norm(new), rel=1e-3)
        for what, matrix in (("weight", new), ("momentum", momentum), ("update", old - new)):
            s = np.linalg.svd(matrix, compute_uv=False)
            assert record[what]["sigma_max"] == pytest.approx(s[0], rel=1e-3), what
            assert record[what]["stable_rank"] == pytest.approx((s**2).sum() / s[0] ** 2, rel=1e-3), what
        expected = schatten.spectra({"w": weight}, fit="median")
        assert record["alpha"]["alpha"] == pytest.approx(expected["alpha"][0], rel=1e-5)


class Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append(str(func))
        return func(*args, **(kwargs or {}))


def test_it_changes_nothing_and_costs_nothing_between() -> None:
    weights, calls = [], []
    for watched in (False, True):
        model = network()
        optimizer = schatten.HTMuon(model, lr=0.02)
        if watched:
            optimizer.watch(every=5, callback=lambda record: None)
        train(model, optimizer, 2)
        model(gaussian(8, 60)).pow(2).mean().backward()
        with Counted() as counted:
            optimizer.step()
        calls.append(counted.calls)
        train(model, optimizer, 8)
        weights.append([p.detach().clone() for p in model.parameters()])
    assert calls[0] == calls[1]
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_sinks(tmp_path: pathlib.Path, run: pathlib.Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    model, writer = network(), SummaryWriter(tmp_path / "events")
    optimizer = schatten.Muon(model, lr=0.02)
    handle = optimizer.watch(2, jsonl=tmp_path / "spectra.jsonl", writer=writer, names="0.*")
    train(model, optimizer, 5)
    lines = [json.loads(line) for line in (tmp_path / "spectra.jsonl").read_text().splitlines()]
    assert [(r["step"], r["name"]) for r in lines] == [(2, "0.weight"), (4, "0.weight")]
    program = json.loads((run / "spectra.jsonl").read_text().splitlines()[0])
    assert program.keys() == lines[0].keys() - {"lr", "grad_norm"} and all(
        program[k].keys() == lines[0][k].keys() for k in ("weight", "update")
    )
    writer.close()
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("spectra/0.weight/alpha")] == [
        (r["step"], pytest.approx(r["alpha"]["alpha"])) for r in lines
    ]
    assert "spectra/0.weight/momentum_stable_rank" in events.Tags()["scalars"]
    handle.remove()
    train(model, optimizer, 4)
    assert len((tmp_path / "spectra.jsonl").read_text().splitlines()) == 2


def test_the_report_reads_it(tmp_path: pathlib.Path) -> None:
    model = nn.Sequential()
    model.add_module("layers", nn.Sequential(nn.Linear(60, 70), nn.Linear(70, 60)))
    optimizer = schatten.Muon(model, lr=0.02)
    optimizer.watch(2, jsonl=tmp_path / "spectra.jsonl")
    train(model, optimizer, 4)
    (tmp_path / "metrics.jsonl").write_text('{"event": "start", "t": 0, "step": 0}\n')
    subprocess.run([CLI, "report", "."], cwd=tmp_path, check=True, capture_output=True)
    page = (tmp_path / "report.html").read_text()
    assert 'id="alpha"' in page and 'id="spectra-update"' in page and "layers.1.weight" in page


def test_closures_schedules_and_other_recipes() -> None:
    for name in ("HTMuon", "GaLore", "AdamW", "SOAP", "NorMuon"):
        model, records = network(), list[dict[str, Any]]()
        optimizer = getattr(schatten, name)(model, lr=0.01)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        optimizer.watch(2, records.append)

        def closure(model: nn.Module = model, optimizer: Any = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss: Tensor = model(gaussian(8, 60)).pow(2).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        for _ in range(4):
            optimizer.step(closure)
            scheduler.step()
        assert [r["step"] for r in records] == [2, 2, 4, 4], name
        assert [r["lr"] for r in records] == [0.005, 0.005, 0.00125, 0.00125] and records[0]["update_ratio"] > 0
        assert name == "GaLore" or "momentum" in records[0]


def test_a_watch_is_no_state() -> None:
    model, records = network(), list[dict[str, Any]]()
    optimizer = schatten.Muon(model, lr=0.02)
    plain = optimizer.state_dict()
    optimizer.watch(2, records.append)
    assert optimizer.state_dict().keys() == plain.keys()
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert not twin._optimizer_step_pre_hooks and not twin._optimizer_step_post_hooks
    train(model, optimizer, 3)
    resumed = schatten.Muon(model, lr=0.02)
    later: list[dict[str, Any]] = []
    resumed.watch(4, later.append)
    resumed.load_state_dict(optimizer.state_dict())  # after three steps
    train(model, resumed, 6)
    assert sorted({r["step"] for r in later}) == [4, 8] and {r["step"] for r in records} == {2}


def test_steps_that_were_none_do_not_count() -> None:
    model, records = network(), list[dict[str, Any]]()
    optimizer = schatten.Muon(model, lr=0.02)
    optimizer.watch(3, records.append)
    for _ in range(4):
        optimizer.step()  # no gradients: nothing
    train(model, optimizer, 6)
    assert [r["step"] for r in records] == [3, 3, 6, 6]
    model[0].weight.requires_grad_(False)
    model[0].weight.grad = None
    train(model, optimizer, 3)
    assert [(r["step"], r["name"]) for r in records[4:]] == [(9, "2.weight")]
    records.clear()
    model[0].weight.requires_grad_(True)
    model[2].weight.requires_grad_(False)  # which is ahead by three
    model[2].weight.grad = None
    train(model, optimizer, 6)
    assert [(r["step"], r["name"]) for r in records] == [(9, "0.weight"), (12, "0.weight")]
    records.clear()
    rehearsing = schatten.Muon(network(), lr=0.0)
    rehearsing.watch(1, records.append)
    for p in rehearsing.param_groups[0]["params"]:
        p.grad = torch.zeros_like(p)
    rehearsing.step()  # makes state, and is no step
    assert not records and rehearsing.state


def test_a_compiled_step_breaks_on_watched_steps_only() -> None:
    import torch._dynamo as dynamo

    model, records = network(), list[dict[str, Any]]()
    optimizer = schatten.Muon(model, lr=0.01)
    optimizer.watch(5, records.append)
    dynamo.reset()
    dynamo.utils.counters.clear()
    step = torch.compile(lambda: optimizer.step(), backend="eager")
    breaks = []
    for _ in range(15):
        train(model, optimizer, 1, step)
        breaks.append(sum(dynamo.utils.counters["graph_break"].values()))
    assert breaks[:4] == [0] * 4 and [r["step"] for r in records] == [5, 5, 10, 10, 15, 15]
    plain_model = network()
    plain = schatten.Muon(plain_model, lr=0.01)
    train(plain_model, plain, 15)
    torch.testing.assert_close(model[0].weight, plain_model[0].weight)


def test_wrong_watches_are_explained() -> None:
    optimizer = schatten.Muon(network(), lr=0.02)
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"every": 0, "callback": print}, ValueError, "from 1, got 0"),
        ({}, ValueError, "somewhere to put the records"),
        ({"callback": 3}, TypeError, "function of one record"),
        ({"writer": 3}, TypeError, "add_scalar"),
        ({"callback": print, "names": "3.*"}, ValueError, r"matrices named '3.\*', got none\n  Parameters: 0.weight"),
    ]
    for options, error, word in cases:
        with pytest.raises(error, match=word):
            optimizer.watch(**options)
    with pytest.raises(ValueError, match="hidden matrices, got none"):
        schatten.AdamW([torch.nn.Parameter(torch.zeros(3))]).watch(callback=print)
    assert not optimizer._optimizer_step_pre_hooks, "a refused watch leaves nothing behind"


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_pages_columns_are_current() -> None:
    page = (SOURCE / "docs" / "python" / "diagnostics.md").read_text()
    for name, text in diagnostics.column_help().items():
        assert f"| `{name}` | {text} |" in page, f"{name}: tools/refresh_diagnostics.py brings the page up to date"
    assert (SOURCE / "docs" / "python" / "spectra.png").is_file()


def test_the_pages_snippets_run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (SOURCE / "docs" / "python" / "diagnostics.md").read_text()
    snippets = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(snippets) >= 4
    pytest.importorskip("matplotlib").use("Agg")
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    for snippet in snippets:
        exec(compile(snippet, "diagnostics.md", "exec"), scope)
