"""What the weights of a model look like: singular values, power laws in their tails, what stands out of a random matrix.

    spectra = schatten.spectra(model)                      # or a state_dict, or a path
    spectra["alpha"]                                       # columns
    spectra                                                # a table that fits the terminal

All numbers come from the library's operators.
"""

from __future__ import annotations

import difflib
import fnmatch
import json
import math
import os
import pathlib
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from typing_extensions import override

from .tables import Row, Shown, Table, number

Source: TypeAlias = nn.Module | Mapping[str, Any] | str | os.PathLike[str]
FLOATS = ("float16", "bfloat16", "float32", "float64")
AT_ONCE = 2**24  # entries of small matrices that are worked on together: 64 MiB in float32
COMPARED = ("alpha", "stable_rank", "effective_rank", "sigma_max", "num_spikes")


class _Weight(NamedTuple):
    name: str
    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], Tensor]


class Spectra(Table):
    """What `schatten.spectra` returns: a dict of columns, a row per matrix.

    ``skipped`` says of every other tensor why it has no row, ``singular_values`` holds those of each matrix (float64, descending),
    ``options`` what the fit was asked for, ``source`` where the weights came from.
    """

    def __init__(self, columns: Mapping[str, list[Any]], *, source: str = "", options: Mapping[str, Any] | None = None,
                 skipped: Mapping[str, str] | None = None, singular_values: Mapping[str, Tensor] | None = None) -> None:  # fmt: skip
        super().__init__(columns)
        self.source = source
        self.options = dict(options or {})
        self.skipped = dict(skipped or {})
        self.singular_values = dict(singular_values or {})

    @override
    def shown(self) -> list[Shown]:
        columns = [
            Shown("name", _short_name, 0),
            Shown("shape", lambda row: " x ".join(map(str, row["shape"])), 3),
            Shown("sigma_max", lambda row: number(row["sigma_max"]), 4),
            Shown("stable rank", lambda row: number(row["stable_rank"]), 2),
            Shown("eff. rank", lambda row: number(row["effective_rank"]), 6),
            Shown("alpha (D)", _alpha_cell, 0),
        ]
        if "alpha_shuffled" in self:
            columns.append(Shown("shuffled", lambda row: number(row["alpha_shuffled"]), 5))
        columns.append(Shown("spikes", lambda row: number(row["num_spikes"]), 1))
        if any(self["note"]):
            columns.append(Shown("note", lambda row: row["note"], 7))
        return columns

    @override
    def remarks(self) -> list[str]:
        alphas = [alpha for alpha in self["alpha"] if not math.isnan(alpha)]
        said = []
        if alphas:
            low, high = sum(a < 2 for a in alphas), sum(a > 6 for a in alphas)
            said.append(f"Median alpha {statistics.median(alphas):.2f}. Of {len(alphas)} fits {low} have alpha < 2 (over-trained by the "
                        f"HT-SR reading), {high} above 6 (under-trained).")  # fmt: skip
        few = sum("not enough" in note for note in self["note"])
        said.append(f"Not enough eigenvalues for a fit: {few}. Skipped, no matrices: {_some(list(self.skipped))}.")
        return said

    @override
    def about(self) -> dict[str, Any]:
        return {"source": self.source, "options": self.options, "skipped": self.skipped}

    def compare(self, other: Spectra) -> Comparison:
        """The matrices that both have, side by side: ``alpha`` here, ``alpha_other`` there."""
        if not isinstance(other, Spectra):
            raise TypeError(f"compare: expected what schatten.spectra returns, got {type(other).__name__}")
        if self.options != other.options:
            raise ValueError(
                f"compare: expected fits made alike, got {self.options} and {other.options}\n  Make both with the same options."
            )
        mine, theirs = ({row["name"]: row for row in table.rows()} for table in (self, other))
        both = [name for name in mine if name in theirs]
        if not both:
            near = difflib.get_close_matches(next(iter(theirs), ""), list(mine), 1)
            raise ValueError(
                f"compare: expected matrices of the same names, got none in common ({_some(list(mine))}; {_some(list(theirs))})"
                + (f"\n  Nearest: {near[0]}" if near else "")
            )
        columns: dict[str, list[Any]] = {"name": both, "shape": [mine[name]["shape"] for name in both]}
        for column in COMPARED:
            columns[column] = [mine[name][column] for name in both]
            columns[f"{column}_other"] = [theirs[name][column] for name in both]
        return Comparison(columns, [name for name in mine if name not in theirs], [name for name in theirs if name not in mine])

    def plot(self, layer: str | None = None) -> Any:
        """A matplotlib figure: alpha of every matrix, and the tail of one on log-log axes: ``layer``, or the smallest alpha."""
        try:
            import matplotlib.pyplot as plt
        except ImportError:
            raise ImportError(
                "[schatten] expected matplotlib for plot(), got none\n  pip install matplotlib; to_text() prints a table.",
                name="matplotlib",
            ) from None
        row = self._row_of(layer)
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
        self._draw_alphas(left, row)
        self._draw_tail(right, row)
        return figure

    def _row_of(self, layer: str | None) -> Row:
        rows = {row["name"]: row for row in self.rows()}
        fitted = [row for row in rows.values() if not math.isnan(row["alpha"])]
        if layer is None:
            if not fitted:
                raise ValueError(f"plot: expected a matrix with a fit, got none\n  {self.remarks()[-1]}")
            return min(fitted, key=lambda row: float(row["alpha"]))
        if layer not in rows:
            raise ValueError(f"plot: no matrix {layer!r}{_nearest(layer, rows)}")
        if not self.singular_values[layer].max() > 0:
            raise ValueError(f"plot: expected finite numbers in {layer!r} that are not all 0, got others")
        return rows[layer]

    def _draw_alphas(self, axes: Any, chosen: Row) -> None:
        axes.axhspan(2, 6, color="0.93", zorder=0)
        axes.plot(self["layer_id"], self["alpha"], "o", color="C0", label="alpha")
        if "alpha_shuffled" in self:
            axes.plot(self["layer_id"], self["alpha_shuffled"], "_", color="0.5", label="entries shuffled")
            axes.legend()
        axes.plot([chosen["layer_id"]], [chosen["alpha"]], "o", color="C1")
        axes.set(xlabel="layer_id", ylabel="alpha", title="Power-law exponent of every matrix (grey: 2 to 6)")

    def _draw_tail(self, axes: Any, row: Row) -> None:
        eigenvalues = [s * s for s in self.singular_values[row["name"]].tolist() if s > 0]
        count, tail, alpha = len(eigenvalues), row["num_pl_spikes"], row["alpha"]
        axes.loglog(eigenvalues, [(k + 1) / count for k in range(count)], ".", color="C1", label="eigenvalues")
        if tail:
            ends = [row["xmin"], row["lambda_max"]]
            axes.loglog(ends, [tail / count * (x / row["xmin"]) ** (1 - alpha) for x in ends], color="C0", label=f"alpha {alpha:.2f}")
        axes.axvline(row["mp_edge"], color="0.5", linestyle=":", label="edge of a random matrix")
        axes.set(xlabel="eigenvalue of $W^T W$", ylabel="share that is larger", title=f"{row['name']}, tail of {tail}")
        axes.legend()


class Comparison(Table):
    """Two spectra side by side. ``only_here`` and ``only_there`` name the matrices that the other lacks."""

    def __init__(self, columns: Mapping[str, list[Any]], only_here: list[str], only_there: list[str]) -> None:
        super().__init__(columns)
        self.only_here, self.only_there = only_here, only_there

    @override
    def shown(self) -> list[Shown]:
        columns = [Shown("name", _short_name, 0)]
        for importance, column in enumerate(COMPARED):
            columns.append(Shown(column, lambda row, c=column: f"{number(row[c])} > {number(row[c + '_other'])}", importance))  # type: ignore[misc]
        return columns

    @override
    def remarks(self) -> list[str]:
        said = [
            f"Only in the {which}: {_some(names)}." for which, names in (("first", self.only_here), ("second", self.only_there)) if names
        ]
        changes = [b - a for a, b in zip(self["alpha"], self["alpha_other"], strict=True) if not math.isnan(b - a)]
        if changes:
            said.insert(0, f"alpha changed by {statistics.median(changes):+.2f} in the median, {min(changes):+.2f} to {max(changes):+.2f}.")
        return said

    @override
    def about(self) -> dict[str, Any]:
        return {"only_here": self.only_here, "only_there": self.only_there}


def spectra(
    model: Source,
    *,
    names: str | Iterable[str] | None = None,
    fit: str = "goodness_of_fit",
    minimum: int = 50,
    above: float | None = None,
    shuffled: bool = False,
    dtype: torch.dtype | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Spectra:
    """Singular values of every matrix of a model, and what they say.

    Args:
        model: a module, a state_dict, or a path: a ``.safetensors`` file, a ``.safetensors.index.json``, or a folder of these. Of files one
            tensor at a time is read.
        names: only those that match one of these patterns, as ``"*.attention.*"``.
        fit: where the tail starts: ``"goodness_of_fit"`` (WeightWatcher), ``"median"`` (TempBalance, AlphaDecay, and what
            ``schatten train`` writes), ``"fix_finger"``.
        minimum: fewer eigenvalues give no fit; their alpha is NaN and their note says so.
        above: only eigenvalues above this are fitted (WeightWatcher: 1e-5); by default all that are not rounding errors.
        shuffled: adds ``alpha_shuffled``, the alpha of the same entries in random order; takes twice the time.
        dtype: ``torch.float64`` computes in it; by default float64 stays, everything else is computed in float32.
        progress: called with (done, total, name) before each piece of work.

    A tensor [out, in, ...] is the matrix [out, in * ...]. What has no two sides longer than 1, or no dtype of real numbers, is listed in
    ``skipped``.
    """
    options = {"fit": fit, "minimum": minimum, "above": -1.0 if above is None else float(above), "shuffled_seed": 0 if shuffled else -1}
    skipped: dict[str, str] = {}
    weights = list(_matrices(_selected(list(_weights(model, skipped)), names, skipped), skipped))
    if dtype is not None and dtype not in (torch.float32, torch.float64):
        raise ValueError(f"spectra: expected dtype torch.float32 or torch.float64, got {dtype}")
    numbers: list[list[float]] = []
    values: list[Tensor] = []
    for batch in _batches(weights):
        if progress:
            progress(len(numbers), len(weights), batch[0].name)
        matrices = [_matrix(weight.load(), dtype) for weight in batch]
        table, sigma = torch.ops.schatten.spectra(matrices, json.dumps(options))
        numbers += table.tolist()
        values += [s.cpu() for s in sigma]
        del matrices  # before the next ones are loaded
    columns: dict[str, list[Any]] = {"layer_id": list(range(len(weights))), "name": [w.name for w in weights]}
    columns |= {"shape": [w.shape for w in weights], "dtype": [w.dtype for w in weights]}
    for i, column in enumerate(json.loads(torch.ops.schatten.spectra_columns())):
        if column["name"] != "alpha_shuffled" or shuffled:
            columns[column["name"]] = [int(row[i]) if column["whole"] else row[i] for row in numbers]
    columns["note"] = [_note(row, minimum) for row in Table(columns).rows()]
    source = type(model).__name__ if isinstance(model, nn.Module | Mapping) else os.fspath(model)
    chosen = {
        "fit": fit,
        "minimum": minimum,
        "above": above,
        "shuffled": shuffled,
        "dtype": str(dtype).removeprefix("torch.") if dtype else None,
    }
    return Spectra(columns, source=source, options=chosen, skipped=skipped,
                   singular_values={w.name: v for w, v in zip(weights, values, strict=True)})  # fmt: skip


def column_help() -> dict[str, str]:
    """What each column of numbers is, by name."""
    return {column["name"]: column["help"] for column in json.loads(torch.ops.schatten.spectra_columns())}


# --- where weights come from ------------------------------------------------------------------------------------------


def _weights(model: Source, skipped: dict[str, str]) -> Iterator[_Weight]:
    if isinstance(model, nn.Module):
        return _of_tensors(dict(model.named_parameters(remove_duplicate=False)), skipped)
    if isinstance(model, Mapping):
        return _of_tensors(model, skipped)
    if isinstance(model, str | os.PathLike):
        return _of_files(pathlib.Path(model))
    raise TypeError(
        f"spectra: expected a module, a state_dict or a path, got {type(model).__name__}\n  A single matrix: schatten.spectra({{'w': w}})"
    )


def _of_tensors(tensors: Mapping[str, Any], skipped: dict[str, str]) -> Iterator[_Weight]:
    first: dict[Any, str] = {}
    if tensors and not any(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError(
            f"spectra: expected tensors by name, got {type(next(iter(tensors.values()))).__name__} under {_some(list(map(str, tensors)))}\n"
            "  Pass the state_dict inside, as checkpoint['model']."
        )
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            skipped[name] = f"{type(value).__name__}, no tensor"
            continue
        if value.is_meta:
            raise ValueError(f"spectra: expected weights, got '{name}' on the meta device, without numbers\n  Load the model first.")
        same = first.setdefault(_identity(value), name)
        if same != name:
            skipped[name] = f"the same tensor as '{same}'"
            continue
        yield _Weight(name, tuple(value.shape), _dtype_name(value), lambda value=value: value)  # type: ignore[misc]


def _identity(value: Tensor) -> Any:
    if hasattr(value, "full_tensor") or value.layout != torch.strided or value.numel() == 0:
        return id(value)
    return (value.data_ptr(), value.shape, value.stride(), value.dtype)


def _of_files(path: pathlib.Path) -> Iterator[_Weight]:
    if not path.exists():
        raise FileNotFoundError(f"spectra: expected a safetensors file, its index or a folder of them, got no file {path}")
    if path.is_file() and path.suffix not in (".safetensors", ".json"):
        raise ValueError(
            f"spectra: expected .safetensors or .index.json, got {path}\n  Load it yourself: schatten.spectra(torch.load(path))"
        )
    for stored in json.loads(torch.ops.schatten.stored_weights(str(path))):
        yield _Weight(
            stored["name"], tuple(stored["shape"]), stored["dtype"],
            lambda stored=stored: torch.ops.schatten.stored_weight(stored["file"], stored["name"]),  # type: ignore[misc]
        )  # fmt: skip


def _selected(weights: list[_Weight], names: str | Iterable[str] | None, skipped: dict[str, str]) -> list[_Weight]:
    if names is None:
        return weights
    patterns = [names] if isinstance(names, str) else list(names)
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(weight.name, pattern) for weight in weights):
            raise ValueError(f"spectra: no weight is named {pattern!r}{_nearest(pattern, [weight.name for weight in weights])}")
    skipped.clear()  # of what was asked for nothing
    return [weight for weight in weights if any(fnmatch.fnmatchcase(weight.name, pattern) for pattern in patterns)]


def _matrices(weights: Iterable[_Weight], skipped: dict[str, str]) -> Iterator[_Weight]:
    for weight in weights:
        if reason := _reason_to_skip(weight):
            skipped[weight.name] = reason
        else:
            yield weight


def _reason_to_skip(weight: _Weight) -> str:
    if weight.dtype not in FLOATS:
        return f"dtype {weight.dtype}"
    if 0 in weight.shape:
        return "empty"
    rows, columns = sides(weight.shape)
    return "" if rows > 1 and columns > 1 else "scalar" if rows == columns else "vector"


def sides(shape: tuple[int, ...]) -> tuple[int, int]:
    """Of the matrix that a tensor is seen as: [out, in * kh * kw]."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


def _batches(weights: list[_Weight]) -> Iterator[list[_Weight]]:
    """Small ones together, which keeps all cores at work; large ones alone, which keeps memory small."""
    batch: list[_Weight] = []
    entries = 0
    for weight in weights:
        size = math.prod(weight.shape)
        if batch and entries + size > AT_ONCE:
            yield batch
            batch, entries = [], 0
        batch.append(weight)
        entries += size
    if batch:
        yield batch


def _matrix(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    whole = tensor.detach()
    if hasattr(whole, "full_tensor"):  # a DTensor: all processes take part
        whole = whole.full_tensor()
    whole = whole.reshape(sides(tuple(whole.shape)))
    return whole if dtype is None else whole.to(dtype)


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.") if tensor.layout == torch.strided else f"{tensor.dtype}, {tensor.layout}"


# --- words ------------------------------------------------------------------------------------------------------------


def _note(row: Row, minimum: int) -> str:
    if math.isnan(row["sigma_max"]):
        return "holds NaN or infinity"
    if row["sigma_max"] == 0:
        return "all entries are 0"
    if row["num_evals"] < minimum:
        return f"not enough eigenvalues: {row['num_evals']} of {minimum}"
    return "no power law fits" if math.isnan(row["alpha"]) else ""


def _short_name(row: Row) -> str:
    return str(row["name"]).removesuffix(".weight")


def _alpha_cell(row: Row) -> str:
    return "-" if math.isnan(row["alpha"]) else f"{row['alpha']:.2f} ({row['D']:.3f})"


def _some(names: list[str]) -> str:
    if len(names) <= 3:
        return ", ".join(names) or "none"
    return f"{', '.join(names[:2])} and {len(names) - 2} more"


def _nearest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(name, known, 3, 0.4)
    return f"\n  Nearest: {', '.join(near)}" if near else f"\n  There are: {_some(known)}"
