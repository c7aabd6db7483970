"""The documentation site: what is written for it, and that the pages it is made of hold together. `make docs` builds it."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

SOURCE = pathlib.Path(os.environ["SCHATTEN_SOURCE_DIR"])
sys.path.insert(0, str(SOURCE / "tools"))

import build_docs  # noqa: E402
import doxygen_filter  # noqa: E402
import setup  # noqa: E402

PAGES = [SOURCE / "README.md", SOURCE / "CONTRIBUTING.md", SOURCE / "CHANGELOG.md", *sorted((SOURCE / "docs").rglob("*.md"))]


def heading_anchors(text: str) -> set[str]:
    """As a forge makes them."""
    heads = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(SOURCE)))
def test_links_lead_somewhere(page: pathlib.Path) -> None:
    base = SOURCE / "docs" if page.name == "intro.md" else page.parent  # the head of docs/recipes.md
    for _, label, target, anchor in build_docs.LINK.findall(page.read_text()):
        if ":" not in target:
            assert (base / target).exists(), f"[{label}]({target})"
        if anchor and target.endswith(".md"):
            assert anchor[1:] in heading_anchors((base / target).read_text()), f"[{label}]({target}{anchor})"


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = {page for _, page in build_docs.ENTRY.findall((SOURCE / "docs" / "index.md").read_text())}
    here = {str(path.relative_to(SOURCE / "docs"))[:-3] for path in (SOURCE / "docs").rglob("*.md")} - {"index", "recipes/intro"}
    assert {page for page in here if not page.startswith(("recipes/", "python/"))} <= listed
    assert {"recipes", "python/index"} <= listed, "whose pages hang below them"


HEADER = """\
namespace schatten {

/// How it is done: A@b < 1.
///   M <- mu M        [m, n]
/// Source    X 2024.
///
/// And `a<b>` goes on.
enum class Way { one, two };
constexpr auto enum_names(Way) {
  return 0;
}

struct Options {
  double rate = 1, decay = 0;  // both
  Inner inner{.eps = 1e-8};
  int64_t text() const;  // what it says
  void fields(auto&& visit) {
    visit("rate", rate, "eta; "
          "above 0");
    visit("inner", inner, "the inner one");
  }
};

inline int f() {
  Options o{.rate = 2};  // a comment within
  return 0;
}
}  // namespace schatten
"""
FILTERED = """\

/// How it is done: A\\@b \\< 1.
/// \\verbatim
///   M <- mu M        [m, n]
/// Source    X 2024.
/// \\endverbatim
/// And `a<b>` goes on.
enum class Way { one, two };

struct Options {
  double rate = 1;  ///< eta; above 0
  double decay = 0;  ///< both
  Inner inner;  ///< the inner one (eps = 1e-8)
  int64_t text() const;  ///< what it says
};

inline int f() {
  Options o{.rate = 2};  // a comment within
  return 0;
}
"""


def test_headers_as_doxygen_sees_them() -> None:
    assert doxygen_filter.filtered(HEADER) == FILTERED


def test_every_header_keeps_its_formulas() -> None:
    for path in (SOURCE / "schatten").rglob("*.h"):
        text = doxygen_filter.filtered(path.read_text())
        assert text.count("\\verbatim") == text.count("\\endverbatim"), path
        kept = [line.strip() for line in path.read_text().splitlines() if re.match(r" *///  +\S", line)]
        assert [line for line in kept if line not in {known.strip() for known in text.splitlines()}] == [], path


def test_links_of_the_repository_become_links_of_the_site(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_docs, "PAGES", tmp_path)
    text = "[a](../CONTRIBUTING.md#x) [b](kernels.md) [c](../examples/family.toml) [d](../examples/cpp) [e](https://a.org/b)"
    turned = build_docs.with_site_links(text, "docs/page.md", "page.md")
    assert turned == "[a](contributing.md#x) [b](kernels.md) [c](files/examples/family.toml) d [e](https://a.org/b)"
    assert (tmp_path / "files" / "examples" / "family.toml").is_file()
    assert build_docs.with_site_links("[r](docs/recipes.md)", "README.md", "first-steps.md") == "[r](recipes.md)"
    assert build_docs.with_site_links("[r](../README.md)", "examples/quickstart.ipynb", "a/q.md") == "[r](../first-steps.md)"


def test_dead_links_of_the_site_are_found(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "index.html").write_text(
        '<h1 id="top">x</h1><a href="a/b.html#here">b</a><a href="#top">t</a><a href="https://a.org">o</a>'
    )
    (tmp_path / "a" / "b.html").write_text('<p id="here"><a href="../index.html#nowhere">i</a><img src="../none.png"></p>')
    assert build_docs.dead_links(tmp_path) == ["a/b.html: ../index.html#nowhere", "a/b.html: ../none.png"]


def test_without_doxygen_and_rights_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setattr(setup, "docs_environment", lambda: tmp_path)
    monkeypatch.setattr(setup, "privileged", lambda: None)
    monkeypatch.setattr(setup, "must", lambda *_, **__: pytest.fail("nothing is to be built"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(setup.Trouble, match=r"expected doxygen.*got none, and no rights(.|\n)*sudo apt install doxygen"):
        setup.docs()
    done = subprocess.run([sys.executable, SOURCE / "tools" / "build_docs.py"], text=True, capture_output=True, check=False)
    assert done.returncode == 1 and "[docs] expected doxygen, got none" in done.stderr
