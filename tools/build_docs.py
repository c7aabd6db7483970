#!/usr/bin/env python3
"""Builds the documentation site: build/docs/html. Any warning, and any link within the site that leads nowhere, is an error.

The pages of docs/ are taken as they are. Written here from their sources: the tables of contents (from the lists of docs/index.md), the
Python classes, the C++ headers, the command line, the keys of a config, and the page of the notebook.
`--links` asks every address outside the site whether it is there.
"""

from __future__ import annotations

import base64
import html.parser
import inspect
import json
import os
import pathlib
import pkgutil
import re
import shutil
import subprocess
import sys
import urllib.parse
from collections import defaultdict
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import refresh_python

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "docs"
PAGES = OUT / "source"
CLI = ROOT / "build" / "schatten"
# Pages from outside docs/, and their names on the site.
GUESTS = {
    "README.md": "first-steps.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "examples/quickstart.ipynb": "quickstart.md",
}
GENERATED = ["reference/python", "reference/cpp", "reference/command-line", "reference/config"]  # in the list of references
ENTRY = re.compile(r"^- \[([^\]]+)\]\(([^)]+)\.md\)", re.MULTILINE)
LINK = re.compile(r"(!?)\[([^\]\n]+)\]\(([^)\s#]+)(#[^)\s]*)?\)")
SLASHES = re.compile(r"(?:^ *|(?<=<verbatim>))///(?: |$)|\n */// *(?=</verbatim>)", re.MULTILINE)
DOXYGEN = {
    "INPUT": "schatten",
    "FILE_PATTERNS": "*.h",
    "EXCLUDE_PATTERNS": "*_impl.h",
    "RECURSIVE": "YES",
    "EXCLUDE_SYMBOLS": "*_detail replay_* *_info",  # what only the tests of parity and the registry call
    "EXTRACT_ALL": "YES",
    "WARN_IF_UNDOCUMENTED": "NO",
    "WARN_AS_ERROR": "FAIL_ON_WARNINGS",
    "QUIET": "YES",
    "AUTOLINK_SUPPORT": "NO",
    "STRIP_FROM_PATH": ".",
    "GENERATE_HTML": "NO",
    "GENERATE_LATEX": "NO",
    "GENERATE_XML": "YES",
    "XML_PROGRAMLISTING": "NO",
    "OUTPUT_DIRECTORY": str(OUT / "doxygen"),
    "INPUT_FILTER": f'"\\"{sys.executable}\\" tools/doxygen_filter.py"',
}


def put(name: str, text: str) -> None:
    path = PAGES / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def printed(*words: str) -> str:
    return subprocess.run([CLI, *words], env={**os.environ, "COLUMNS": "100"}, text=True, capture_output=True, check=True).stdout


# --- the pages as they are --------------------------------------------------------------------------------------------


def on_the_site(path: str) -> str:
    """Where a file of the repository is found from the root of the site."""
    return GUESTS.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path}")


def with_site_links(text: str, source: str, name: str) -> str:
    """Links between files of the repository become links between pages; what is no page is taken along, a folder is named only."""

    def turned(found: re.Match[str]) -> str:
        mark, label, target, anchor = found.groups("")
        path = os.path.normpath(os.path.join(os.path.dirname(source), target))
        if ":" in target or path.startswith(".."):
            return found[0]
        if (ROOT / path).is_dir():
            return label
        place = on_the_site(path)
        if place.startswith("files/") and (ROOT / path).is_file():
            (PAGES / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, PAGES / place)
        return f"{mark}[{label}]({os.path.relpath(place, os.path.dirname(name) or '.')}{anchor})"

    return LINK.sub(turned, text)


def notebook_page(path: pathlib.Path) -> str:
    """The notebook with the outputs that are stored in it, as Markdown."""
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if picture := data.get("image/png"):
                name = f"{path.stem}-{len(parts)}.png"
                place = PAGES / on_the_site(str(path.relative_to(ROOT).with_name(name)))
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(base64.b64decode(picture))
                parts.append(f"![what this cell draws]({name})")
            else:
                shown = "".join(output.get("text") or data["text/plain"]).rstrip()
                parts.append(f"```text\n{shown}\n```")
    return "\n\n".join(parts) + "\n"


def copy_pages() -> None:
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES, ignore=shutil.ignore_patterns("__pycache__", "*.json"))
    sources = {f"docs/{path.relative_to(PAGES)}": str(path.relative_to(PAGES)) for path in PAGES.rglob("*.md")} | GUESTS
    for source, name in sources.items():
        path = ROOT / source
        text = path.read_text() if path.suffix == ".md" else notebook_page(path)
        put(name, with_site_links(text, source, name))


def toctree(entries: Iterable[str], caption: str = "") -> str:
    head = f":caption: {caption}\n" if caption else ""
    return f"\n```{{toctree}}\n:hidden:\n:glob:\n{head}\n" + "\n".join(entries) + "\n```\n"


def tables_of_contents() -> None:
    """What docs/index.md lists, section by section; the pages of a folder hang below the page that speaks for it."""
    index = (PAGES / "index.md").read_text()
    trees = []
    for section in index.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        entries = [f"{label} </{page}>" for label, page in ENTRY.findall(text)]
        trees.append(toctree(entries + (GENERATED if title == "Reference" else []), title))
    put("index.md", index + "".join(trees))
    for page, folder in (("recipes.md", "recipes/*"), ("python/index.md", "*")):
        put(page, (PAGES / page).read_text() + toctree([folder]))


# --- Python -----------------------------------------------------------------------------------------------------------


def titled(title: str, *paragraphs: str) -> str:
    """The beginning of a page in reStructuredText."""
    return "\n\n".join([f"{title}\n{'=' * len(title)}", *paragraphs]) + "\n"


def class_entry(recipe: dict[str, Any]) -> str:
    name = refresh_python.CLASSES[recipe["name"]][0]
    return f"\n.. autoclass:: schatten.{name}\n\n   Every option, and what it is proven against: :doc:`/recipes/{recipe['name']}`.\n"


def public_modules(package: ModuleType) -> list[str]:
    """Those that say what they offer (``__all__``), and those that the package offers itself."""
    found = []
    for module in pkgutil.iter_modules(package.__path__):
        path = pathlib.Path(package.__path__[0]) / f"{module.name}.py"
        says = path.exists() and re.search(r"^__all__\b", path.read_text(), re.MULTILINE)
        if not module.name.startswith("_") and (says or module.name in package.__all__):
            found.append(module.name)
    return found


def python_reference() -> None:
    import schatten

    groups = defaultdict(list)
    for recipe in refresh_python.registry():
        groups[recipe["group"]].append(recipe)
    names = {group: group.replace(" ", "-") for group in groups}
    for group, recipes in groups.items():
        put(f"reference/python/{names[group]}.rst", titled(f"{group[0].upper()}{group[1:]} optimizers", *map(class_entry, recipes)))
    classes = {name for name, _ in refresh_python.CLASSES.values()}
    rest = [n for n in schatten.__all__ if n not in classes and not n.startswith("_") and not inspect.ismodule(getattr(schatten, n))]
    kinds = {name: "autoclass" if inspect.isclass(getattr(schatten, name)) else "autofunction" for name in rest}
    entries = [f".. {kind}:: schatten.{name}\n" + ("   :members:\n" if kind == "autoclass" else "") for name, kind in sorted(kinds.items())]
    put("reference/python/schatten.rst", titled("schatten", "What every optimizer has, and the functions beside them.", *entries))
    modules = [m for m in public_modules(schatten) if m not in rest]
    for module in modules:
        put(f"reference/python/{module}.rst", titled(f"schatten.{module}", f".. automodule:: schatten.{module}\n   :members:"))
    pages = ["schatten", *names.values(), *modules]
    tree = ".. toctree::\n   :maxdepth: 1\n\n" + "\n".join(f"   python/{page}" for page in pages)
    about = "A class per recipe, by the groups of ``schatten recipes``. Each is a ``torch.optim.Optimizer``."
    put("reference/python.rst", titled("Python", about, tree))


# --- C++ --------------------------------------------------------------------------------------------------------------


def run_doxygen() -> None:
    shutil.rmtree(OUT / "doxygen", ignore_errors=True)
    (OUT / "doxygen").mkdir(parents=True)
    settings = "\n".join(f"{key} = {value}" for key, value in DOXYGEN.items())
    done = subprocess.run(["doxygen", "-"], cwd=ROOT, input=settings, text=True, stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise SystemExit("[docs] expected doxygen to find nothing wrong, got the lines above")
    xml = OUT / "doxygen" / "xml"
    name_files_in_full(xml)
    for path in xml.glob("*.xml"):  # Doxygen leaves the comment's slashes in what it keeps as it stands
        path.write_text(re.sub(r"<verbatim>.*?</verbatim>", lambda found: SLASHES.sub("", found[0]), path.read_text(), flags=re.DOTALL))


def name_files_in_full(xml: pathlib.Path) -> None:
    """In Doxygen's list of files stages/adagrad.h and papers/adagrad.h are both "adagrad.h": breathe could not tell them apart."""

    def full(found: re.Match[str]) -> str:
        (location,) = re.findall(r'<location file="([^"]+)"/>\s*</compounddef>', (xml / f"{found[1]}.xml").read_text())
        return f'<compound refid="{found[1]}" kind="file"><name>{location}</name>'

    index = xml / "index.xml"
    index.write_text(re.sub(r'<compound refid="([^"]+)" kind="file"><name>[^<]*</name>', full, index.read_text()))


def header_entry(path: pathlib.Path) -> str:
    name = str(path.relative_to(ROOT))
    opening = re.match(r"(?://.*\n)*", path.read_text())
    said = [line[2:].removeprefix(" ") for line in opening[0].splitlines()] if opening else []
    verbatim = any(line.startswith(" ") for line in said)
    text = "::\n\n" + "\n".join(f"   {line}" for line in said) if verbatim else " ".join(said).replace("*", r"\*").replace("`", "``")
    (space,) = set(re.findall(r"^namespace (schatten\S*) \{", path.read_text(), re.MULTILINE)) or {"schatten"}
    include = f"#include <{name}>" + (f"  // namespace {space}" if space != "schatten" else "")
    return f"{path.name}\n{'-' * len(path.name)}\n\n{text}\n\n.. code-block:: cpp\n\n   {include}\n\n.. doxygenfile:: {name}\n"


def layers() -> dict[str, str]:
    """Folder and description, in the order of docs/architecture.md; what it does not name comes last."""
    table = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE))
    return table | {path.name: table.get(path.name, "") for path in sorted((ROOT / "schatten").iterdir()) if path.is_dir()}


def cpp_reference() -> None:
    run_doxygen()
    pages = []
    for layer in layers():
        headers = [path for path in sorted((ROOT / "schatten" / layer).glob("*.h")) if not path.name.endswith("_impl.h")]
        if headers:
            pages.append(layer)
            put(f"reference/cpp/{layer}.rst", titled(layer, *map(header_entry, headers)))
    tree = ".. toctree::\n   :maxdepth: 1\n\n" + "\n".join(f"   cpp/{page}" for page in pages)
    about = (
        "The public headers (those not ending in ``_impl.h``), layer by layer, each built on those above it. Names are in the namespace "
        "``schatten`` where nothing else is said; :doc:`/architecture` says what the layers are for."
    )
    put("reference/cpp.rst", titled("C++", about, tree))


# --- the program ------------------------------------------------------------------------------------------------------


def command_line() -> None:
    top = printed("--help")
    commands = re.findall(r"^  (\w+) ", top.split("Subcommands:")[1].split("\n\n")[0], re.MULTILINE)
    parts = ["# The command line", "`schatten`, or `python -m schatten`: the same program.", f"```text\n{top}```"]
    for command in commands:
        parts += [f"## schatten {command}", f"```text\n{printed(command, '--help')}```"]
    put("reference/command-line.md", "\n\n".join(parts) + "\n")


def escaped(text: str) -> str:
    """For a cell of a Markdown table."""
    return re.sub(r"([|\[\]*_])", r"\\\1", text)


def config_keys() -> None:
    decoder, sections = json.JSONDecoder(), defaultdict(list)
    for line in printed("train", "--keys").splitlines():
        name, rest = line.split(None, 1)
        _, end = decoder.raw_decode(rest)
        sections[name.split(".")[0] if "." in name else "The run"].append((name, rest[:end], rest[end:].strip()))
    parts = [
        "# Config keys",
        "Every key of a run, its default and its meaning, as `schatten train --keys` lists them. They stand in a TOML file or after "
        "`--set`. The options of a recipe go beside its name: see [its page](../recipes.md).",
    ]
    for section, keys in sections.items():
        rows = [f"| `{name}` | `{default}` | {escaped(meaning)} |" for name, default, meaning in keys]
        parts += [f"## {section}", "\n".join(["| key | default | |", "|---|---|---|", *rows])]
    put("reference/config.md", "\n\n".join(parts) + "\n")


# --- the site ---------------------------------------------------------------------------------------------------------


class _Page(html.parser.HTMLParser):
    """The anchors of one page and where it leads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.targets: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := said.get(key))}
        self.targets += [value for key in ("href", "src") if (value := said.get(key))]


def dead_links(folder: pathlib.Path) -> list[str]:
    """Links within a folder of HTML pages whose file or anchor is not there."""
    pages = {path.resolve(): _Page(path.read_text()) for path in folder.rglob("*.html")}
    dead = []
    for path, page in pages.items():
        for target in page.targets:
            url = urllib.parse.urlsplit(target)
            if url.scheme or url.netloc:
                continue
            file = (path.parent / urllib.parse.unquote(url.path)).resolve() if url.path else path
            file = file / "index.html" if file.is_dir() else file
            anchor = urllib.parse.unquote(url.fragment)
            if not file.exists() or (anchor and file in pages and anchor not in pages[file].anchors):
                dead.append(f"{path.relative_to(folder.resolve())}: {target}")
    return dead


def sphinx(builder: str, *options: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    command = [sys.executable, "-m", "sphinx", "-q", "-j", "auto", "-b", builder, *options, str(PAGES), str(OUT / builder)]
    if subprocess.run(command, env=environment, check=False).returncode != 0:
        raise SystemExit("[docs] expected Sphinx to find nothing wrong, got the lines above")


def main() -> None:
    if not shutil.which("doxygen"):
        raise SystemExit("[docs] expected doxygen, got none\n  sudo apt install doxygen")
    sys.path.insert(0, str(ROOT / "python"))
    copy_pages()
    python_reference()
    cpp_reference()
    command_line()
    config_keys()
    tables_of_contents()
    if "--links" in sys.argv:
        sphinx("linkcheck")
        return
    shutil.rmtree(OUT / "html", ignore_errors=True)
    sphinx("html", "-W", "--keep-going")
    if dead := dead_links(OUT / "html"):
        raise SystemExit("[docs] expected every link to lead somewhere, got\n  " + "\n  ".join(dead))
    print(f"{OUT / 'html' / 'index.html'}")


if __name__ == "__main__":
    main()
