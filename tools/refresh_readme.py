#!/usr/bin/env python3
"""Brings the README up to date: recipe table, C++ program, and (after `make demo`) the output of the demo and the picture of its report."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLI = str(ROOT / "build" / "schatten")
REPORT = ROOT / "runs" / "first_look" / "report.html"


def printed(*words: str) -> str:
    environment = {**os.environ, "COLUMNS": "120"}
    return subprocess.run([CLI, *words], cwd=ROOT, env=environment, text=True, capture_output=True, check=True).stdout


def put(page: str, name: str, text: str) -> str:
    before, rest = page.split(f"<!-- {name} -->\n", 1)
    after = rest.split(f"<!-- /{name} -->", 1)[1]
    return f"{before}<!-- {name} -->\n```\n{text}```\n<!-- /{name} -->{after}"


def picture() -> None:
    browser = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)
    if browser is None:
        raise SystemExit("[readme] expected Chromium for the report's picture, got none\n  sudo apt install chromium")
    subprocess.run([browser, "--headless", "--no-sandbox", "--hide-scrollbars", "--force-device-scale-factor=1",
                    "--window-size=1160,1290", f"--screenshot={ROOT / 'docs' / 'first_look.png'}", REPORT.as_uri()],
                   check=True, capture_output=True)  # fmt: skip


def main() -> None:
    readme = ROOT / "README.md"
    page = put(readme.read_text(), "recipes", printed("recipes"))
    program = (ROOT / "examples" / "cpp" / "main.cpp").read_text()
    page = re.sub(r"```cpp\n.*?```", lambda _: f"```cpp\n{program}```", page, flags=re.DOTALL)
    if REPORT.exists():  # finished runs are skipped: this prints the results again
        words = ["campaign", "examples/first_look.toml", "--jobs", str(os.cpu_count() or 1)]
        lines = printed(*words).splitlines()
        page = put(page, "demo", "\n".join(line for line in lines if "(already there)" not in line).strip() + "\n")
        picture()
    readme.write_text(page)


if __name__ == "__main__":
    main()
