"""The set-up's own decisions; what it installs and builds is seen by every run of it."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

SOURCE = pathlib.Path(os.environ["SCHATTEN_SOURCE_DIR"])
sys.path.insert(0, str(SOURCE / "tools"))
import setup  # noqa: E402


def test_another_torch_is_refused_with_both_versions_named(monkeypatch: pytest.MonkeyPatch) -> None:
    setup.check_torch_series("2.13.0+cpu", "here")
    with pytest.raises(setup.Trouble, match=r"expected torch 2\.13, got torch 2\.12\.1 in here"):
        setup.check_torch_series("2.12.1", "here")
    with pytest.raises(setup.Trouble):
        setup.check_torch_series("2.130.0", "here")
    monkeypatch.setenv("SCHATTEN_ANY_TORCH", "1")
    setup.check_torch_series("2.12.1", "here")


def test_a_compiler_without_cpp20_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    setup.check_compiler()
    old = tmp_path / "old++"
    old.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo 'old++ 4.2' && exit 0\nexit 1\n")
    old.chmod(0o755)
    monkeypatch.setenv("CXX", str(old))
    with pytest.raises(setup.Trouble, match=r"C\+\+20 compiler, got old\+\+ 4\.2"):
        setup.check_compiler()
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(setup.Trouble, match="got none"):
        setup.check_compiler()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("99% tests passed, 2 tests failed out of 405", (2, 405)),
        ("100% tests passed, 0 tests failed out of 9", (0, 9)),
        ("100% tests passed out of 608", (0, 608)),
        ("Total Test time (real) =  61.06 sec", None),
    ],
)
def test_the_last_line_of_ctest(line: str, expected: tuple[int, int] | None) -> None:
    assert setup.failed_of_total(line) == expected


def test_cmake_refuses_another_torch(tmp_path: pathlib.Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nprintf '2.12.1\\n/nowhere\\n1\\n'\n")
    python.chmod(0o755)
    cmake = pathlib.Path(sys.executable).parent / "cmake"
    done = subprocess.run([cmake, "-S", SOURCE, "-B", tmp_path / "out", f"-DSCHATTEN_PYTHON={python}"], text=True,
                          capture_output=True, check=False)  # fmt: skip
    assert done.returncode != 0
    assert "expected torch 2.13, got torch" in done.stderr and "2.12.1" in done.stderr


def test_peers_that_cannot_be_had_stop_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "requirements.txt").write_text("# peers\nthere==1\ngone==2\n")
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\ncase "$*" in *gone*) exit 1;; esac\necho asked >> "$(dirname "$0")/asked"\n')
    python.chmod(0o755)
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "BUILD", tmp_path / "build")
    setup.install_peers(python)
    assert "not to be had: gone==2" in capsys.readouterr().out
    (tmp_path / "bench" / "requirements.txt").write_text("there==1\n")
    setup.install_peers(python)  # asks again, finds all
    setup.install_peers(python)  # asks no more
    assert (tmp_path / "asked").read_text() == "asked\nasked\n"
