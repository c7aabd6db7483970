#!/usr/bin/env python3
"""Brings docs/python/diagnostics.md up to date: its list of columns, and after `make demo` the table and the picture of a trained model.

Needs matplotlib for the picture.
"""

from __future__ import annotations

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "python"))
PAGE = ROOT / "docs" / "python" / "diagnostics.md"
RUNS = ROOT / "runs" / "first_look" / "runs" / "muon"

# What WeightWatcher calls it, or why the number is another.
THERE = {
    "num_spikes": "same name; there the bulk is fitted by a search, so it can differ by a few",
    "mp_softrank": "same name; there the bulk is fitted by a search",
    "mp_edge": "`bulk_max`, there in units that make the mean eigenvalue 1",
    "sigma_max": "`sv_max`",
    "sigma_min": "`sv_min`",
    "frobenius_norm": "its square is `norm`",
}
OURS = ("alpha_shuffled", "sigma_median", "rms", "effective_rank", "participation_ratio", "slope")


def columns(described: dict[str, str]) -> str:
    lines = ["| column | is | WeightWatcher |", "|---|---|---|"]
    lines += [f"| `{name}` | {text} | {'-' if name in OURS else THERE.get(name, 'same')} |" for name, text in described.items()]
    return "\n".join(lines) + "\n"


def put(page: str, name: str, text: str) -> str:
    before, rest = page.split(f"<!-- {name} -->\n", 1)
    return f"{before}<!-- {name} -->\n{text}<!-- /{name} -->{rest.split(f'<!-- /{name} -->', 1)[1]}"


def checkpoint() -> pathlib.Path | None:
    """The last one of the first run."""
    found = sorted(RUNS.glob("*/checkpoints/step-*"), key=lambda folder: (folder.parts[-3], -int(folder.name.removeprefix("step-"))))
    return found[0] if found else None


def main() -> None:
    import matplotlib

    import schatten
    from schatten import diagnostics

    matplotlib.use("Agg")
    page = put(PAGE.read_text(), "columns", columns(diagnostics.column_help()))
    if folder := checkpoint():
        spectra = schatten.spectra(folder, shuffled=True)
        page = put(page, "table", f"```\n{spectra.to_text(110)}\n```\n")
        spectra.plot().savefig(PAGE.parent / "spectra.png", dpi=90, metadata={"Software": None})
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
