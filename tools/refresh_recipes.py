#!/usr/bin/env python3
"""Writes docs/recipes.md and one page per recipe: doc blocks of schatten/papers, `schatten recipes --json`, the family campaign's results.

tools/refresh_recipes.py            # after `schatten campaign examples/family.toml` its results are taken over, too
tools/refresh_recipes.py --parity   # also docs/parity.md: runs the parity tests (on $SCHATTEN_GOLDEN, too, where set)
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pathlib
import re
import subprocess
import tempfile
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLI = pathlib.Path(os.environ.get("SCHATTEN_CLI", ROOT / "build" / "schatten"))
DOCS = ROOT / "docs"
RESULTS = DOCS / "recipes" / "family.json"  # what the pages are made from; taken over from the campaign's results
CAMPAIGN = ROOT / "runs" / "family" / "results.json"


PARITY_INTRO = """<!-- made by tools/refresh_recipes.py --parity -->
# Parity with the authors' own numbers

Each case is a recorded run of the authors' code in float64 (or of the paper's equations where no code is public), replayed by our recipe.
The error is relative to the displacement of the weights so far, the largest over all recorded steps, beside what the case allows.
Recordings as shipped (bfloat16 inside) are compared in their own precision.

| case | optimizer | source | float64 | float32 | bfloat16 |
|---|---|---|---|---|---|"""


def recipes() -> list[dict[str, Any]]:
    printed = subprocess.run([CLI, "recipes", "--json"], text=True, capture_output=True, check=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def doc_blocks() -> dict[str, str]:
    """The `///` lines above each `inline Recipe NAME(`, without the slashes."""
    blocks = {}
    for header in sorted((ROOT / "schatten" / "papers").glob("*.h")):
        for block, name in re.findall(r"((?:^///.*\n)+)inline Recipe (\w+)\(", header.read_text(), re.MULTILINE):
            blocks[name] = "\n".join(line[3:].removeprefix(" ") for line in block.splitlines())
    return blocks


def take_over() -> None:
    """Of the campaign's results only what the pages show."""
    if CAMPAIGN.exists():
        results = json.loads(CAMPAIGN.read_text())
        kept: dict[str, Any] = {key: results[key] for key in ("name", "steps", "corpus", "metric")}
        kept["recipes"] = {}
        for optimizer in results["optimizers"]:
            final = optimizer.get("final") or {}
            kept["recipes"][optimizer["name"]] = {
                "lr": (optimizer.get("best") or {}).get("optimizer.matrix.lr"),
                "rates": sorted(point["point"]["optimizer.matrix.lr"] for point in optimizer["points"]),
                "edge": bool(optimizer.get("edge")),
                "test": final.get("mean"),
                "sd": final.get("sd"),
                "n": final.get("n", 0),
                "diverged": sum(run["status"] != "ok" for point in optimizer["points"] for run in point["runs"]),
                "seconds_per_step": final.get("seconds_per_step"),
            }
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


def number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def in_the_campaign(name: str, family: dict[str, Any]) -> str:
    row = family["recipes"].get(name)
    if row is None:
        return ""
    sgd = family["recipes"]["sgd"]["test"]
    text = f"## In the campaign\n\n{family['steps']} steps of the small LLaMA ([all of them](../recipes.md)): "
    if row["test"] is None:
        return text + "no run at the chosen rate ended finite.\n"
    text += f"test loss {row['test']:.4f} at lr {row['lr']:g} (tried: {', '.join(f'{r:g}' for r in row['rates'])})"
    text += f"; plain SGD ended at {sgd:.4f}." if name != "sgd" else "."
    if row["edge"]:
        text += " The chosen rate lies at the edge of its grid."
    return text + "\n"


def page(recipe: dict[str, Any], block: str, family: dict[str, Any]) -> str:
    options = "\n".join(f"| `{o['name']}` | `{o['default']}` | {o['help'].replace('|', chr(92) + '|')} |" for o in recipe["options"])
    parity = ""
    if recipe["published"]:
        listed = ", ".join(recipe["published"])
        parity = f"\n## Proven against\n\nRecorded runs of: {listed}. Errors: [parity](../parity.md).\n"
    campaign = in_the_campaign(recipe["name"], family)
    return (
        f"""<!-- made by tools/refresh_recipes.py -->
# {recipe["name"]}

{recipe["summary"][0].upper() + recipe["summary"][1:]}. Group: {recipe["group"]}. State per m x n matrix: {recipe["state"]}.
Tune: {recipe["tune"]}.

```text
{block}
```

## Options

| option | default | |
|---|---|---|
{options}

In a config: `optimizer.matrix = {{ recipe = "{recipe["name"]}", lr = ... }}`. `schatten recipes {recipe["name"]}` prints it as a chain.
{parity}
{campaign}""".rstrip()
        + "\n"
    )


def overview(all_recipes: list[dict[str, Any]], family: dict[str, Any]) -> str:
    intro = (DOCS / "recipes" / "intro.md").read_text()
    measured = family["recipes"]
    sgd = measured.get("sgd", {}).get("test")
    lines = [intro.rstrip(), ""]
    for group in dict.fromkeys(r["group"] for r in all_recipes):
        lines += [f"### {group}", "", "| recipe | what it is | state | lr | test loss | to SGD |", "|---|---|---|---|---|---|"]
        for r in (r for r in all_recipes if r["group"] == group):
            row = measured.get(r["name"], {})
            test, rate = row.get("test"), row.get("lr")
            cells = [f"[{r['name']}](recipes/{r['name']}.md)", r["summary"], r["state"], "-" if rate is None else f"{rate:g}", number(test),
                     "-" if test is None or sgd is None else f"{test - sgd:+.4f}"]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "<!-- made by tools/refresh_recipes.py from docs/recipes/intro.md -->\n" + "\n".join(lines).rstrip() + "\n"


def pages() -> dict[pathlib.Path, str]:
    """Every page and its text; the tests compare them with what is committed."""
    family = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"recipes": {}}
    blocks, everything = doc_blocks(), recipes()
    missing = [r["name"] for r in everything if r["name"] not in blocks]
    if missing:
        raise SystemExit(f"[recipes] expected a doc block above `inline Recipe NAME(`, got none for {', '.join(missing)}")
    made = {DOCS / "recipes" / f"{r['name']}.md": page(r, blocks[r["name"]], family) for r in everything}
    made[DOCS / "recipes.md"] = overview(everything, family)
    return made


def parity() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        table = pathlib.Path(scratch) / "table.jsonl"
        folders = [str(ROOT / "tests" / "golden"), *filter(None, [os.environ.get("SCHATTEN_GOLDEN")])]
        for folder, area in itertools.product(folders, ("parity", "parameters")):
            environment = {**os.environ, "SCHATTEN_PARITY_TABLE": str(table), "SCHATTEN_GOLDEN": folder}
            program = ROOT / "build" / "tests" / f"test_{area}"
            subprocess.run([program, "--gtest_brief=1"], env=environment, check=True, capture_output=True)
        rows = [json.loads(line) for line in table.read_text().splitlines()]
    cases: dict[str, dict[str, Any]] = {}
    for row in rows:
        case = cases.setdefault(row["case"], {"optimizer": row["optimizer"], "source": row["source"]})
        case[row["dtype"]] = f"{row['error']:.1e} of {row['allowed']:.0e}"
    lines = [PARITY_INTRO]
    for name in sorted(cases):
        c = cases[name]
        lines.append(
            f"| `{name}` | {c['optimizer']} | {c['source']} | {c.get('float64', '')} | {c.get('float32', '')} | {c.get('bfloat16', '')} |"
        )
    (DOCS / "parity.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parity", action="store_true", help="also run the parity tests and write docs/parity.md")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page is not what would be written")
    options = parser.parse_args()
    if options.check:
        stale = [str(path.relative_to(ROOT)) for path, text in pages().items() if not path.exists() or path.read_text() != text]
        if stale:
            raise SystemExit(f"[recipes] not current: {', '.join(stale)}\n  make recipes")
        return
    if options.parity:
        parity()
    take_over()
    made = pages()
    for path, text in made.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    for left in set((DOCS / "recipes").glob("*.md")) - set(made) - {DOCS / "recipes" / "intro.md"}:
        left.unlink()


if __name__ == "__main__":
    main()
