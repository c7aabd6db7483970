"""Every snippet of the pages is true: commands run, configs are accepted, C++ is a file that is built and run here."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

SOURCE = pathlib.Path(os.environ["SCHATTEN_SOURCE_DIR"])
CLI = pathlib.Path(os.environ["SCHATTEN_CLI"])
PAGES = [SOURCE / "README.md", SOURCE / "CONTRIBUTING.md", *sorted((SOURCE / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def snippets(page: pathlib.Path) -> list[tuple[str, str]]:
    return FENCE.findall(page.read_text())


def shell(line: str, folder: pathlib.Path) -> None:
    done = subprocess.run(["bash", "-c", line], cwd=folder, text=True, capture_output=True, check=False)
    assert done.returncode == 0, (line, done.stdout[-2000:], done.stderr[-2000:])


@pytest.fixture
def checkout(tmp_path: pathlib.Path) -> pathlib.Path:
    """What a reader's shell sees after `make build`."""
    for name, target in (("build", CLI.parent), ("examples", SOURCE / "examples"), (".venv", SOURCE / ".venv")):
        (tmp_path / name).symlink_to(target)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_page(page: pathlib.Path, checkout: pathlib.Path) -> None:
    for language, text in snippets(page):
        if language == "toml":  # its first line names it, and a command after it uses it
            name = re.match(r"# ([\w.-]+\.toml)", text)
            assert name, f"{page.name}: a TOML snippet without a name in its first line"
            (checkout / name[1]).write_text(text)
        elif language == "sh":
            for line in text.splitlines():
                # make would set up and test all over again: its target must exist, and that is all
                shell(f"make -n -C '{SOURCE}' {line[5:]}" if line.startswith("make ") else line, checkout)
        elif language == "cpp":
            assert any(text.strip() in f.read_text() for f in (SOURCE / "examples").rglob("*.cpp")), text
        elif language != "python":  # test_python_snippets.py runs those
            raise AssertionError(f"{page.name}: a snippet in '{language}' is not executed by anything")


def test_the_recipe_table_is_current() -> None:
    wide = {**os.environ, "COLUMNS": "120"}  # as tools/refresh_readme.py prints it
    printed = subprocess.run([CLI, "recipes"], env=wide, text=True, capture_output=True, check=True).stdout
    block = re.search(r"<!-- recipes -->\n```\n(.*?)```\n<!-- /recipes -->", (SOURCE / "README.md").read_text(), re.DOTALL)
    assert block and block[1] == printed, "make readme brings the README up to date"


def test_the_recipe_pages_are_current() -> None:
    done = subprocess.run([sys.executable, SOURCE / "tools" / "refresh_recipes.py", "--check"], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_recording_stands_in_the_parity_table() -> None:
    listed = set(re.findall(r"^\| `(\w+)`", (SOURCE / "docs" / "parity.md").read_text(), re.MULTILINE))
    recorded = {path.stem for path in (SOURCE / "tests" / "golden" / "optimizers").glob("*.safetensors")}
    assert recorded - listed == set(), "make parity"


def test_the_cpp_example_builds_against_an_installed_copy(tmp_path: pathlib.Path) -> None:
    cmake = pathlib.Path(sys.executable).parent / "cmake"
    shell(f"'{cmake}' --install '{CLI.parent}' --prefix '{tmp_path / 'a prefix'}'", tmp_path)
    shell(f"'{cmake}' -G Ninja -S '{SOURCE / 'examples/cpp'}' -B out -DCMAKE_PREFIX_PATH='{tmp_path / 'a prefix'}'"
          f" -DCMAKE_MAKE_PROGRAM='{cmake.parent / 'ninja'}' && '{cmake}' --build out", tmp_path)  # fmt: skip
    printed = subprocess.run([tmp_path / "out" / "tiny"], text=True, capture_output=True, check=True).stdout
    losses = [float(line.split()[-1]) for line in printed.splitlines() if line.startswith("step")]
    assert len(losses) == 3 and losses[-1] < 0.8 * losses[0], printed
