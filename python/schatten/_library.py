"""Finds libschatten.so, makes sure that it fits this package and this torch, and loads it once.

The library holds the operators (``torch.ops.schatten``) and the command line. It says in its own bytes which version it is and which
torch it was built for, so a library that does not fit is refused before it can do harm.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import pathlib
import re
import sys
import threading
from typing import NamedTuple

from ._version import __version__

NAME = "libschatten.so"
VARIABLE = "SCHATTEN_LIBRARY"
TORCH_WAY_OUT = """\
pip install 'torch=={series}.*'        (on Linux a CUDA build of some gigabytes)
  pip install 'torch=={series}.*' --index-url https://download.pytorch.org/whl/cpu        (200 MB, for the CPU alone)"""

_PACKAGE = pathlib.Path(__file__).resolve().parent
_BUILT = re.compile(rb"schatten (\d[\w.+]*) for torch (\d[\w.+]*)\0")
_lock = threading.Lock()


class Built(NamedTuple):
    """What a library says of itself."""

    version: str
    torch: str


def trouble(expected: str, got: str, way_out: str) -> ImportError:
    return ImportError(f"[schatten] expected {expected}, got {got}\n  {way_out}", name="schatten")


def series(version: str) -> str:
    """Of "2.13.0+cpu" it is "2.13": what one build of the library serves."""
    return ".".join(version.split(".")[:2])


def find() -> pathlib.Path:
    """Where SCHATTEN_LIBRARY says, else in the wheel, else in the build folder of the source tree that this package lies in."""
    if said := os.environ.get(VARIABLE):
        path = pathlib.Path(said)
        if not path.is_file():
            raise trouble(f"{NAME} where the environment variable {VARIABLE} says", f"no file {path}", f"Correct {VARIABLE}, or unset it.")
        return path
    wheel, tree = _PACKAGE / "lib" / NAME, _PACKAGE.parent.parent
    if wheel.is_file():
        return wheel
    if not (tree / "schatten" / "ops").is_dir():
        raise trouble(str(wheel), "no such file", f"Install schatten again, or name the library in {VARIABLE}.")
    built = tree / "build" / NAME
    if not built.is_file():
        raise trouble(str(built), "no such file", f"Build it: make -C {tree} build; or name the library in {VARIABLE}")
    return built


def built(path: pathlib.Path) -> Built:
    """Reads what the library says of itself, without loading it."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = _BUILT.search(content)
            if found:
                return Built(found[1].decode(), found[2].decode())
    except ValueError:  # an empty file cannot be mapped
        pass
    raise trouble(f"a {NAME} of schatten {__version__}", f"{path}, which is none", "Build or install it again.")


def check_version(found: str, where: str) -> None:
    if found != __version__:
        raise trouble(
            f"the library of schatten {__version__}, as the package in {_PACKAGE}", f"that of {found} in {where}",
            f"Build or install both together; {VARIABLE} is {os.environ.get(VARIABLE, 'not set')}.",
        )  # fmt: skip


def check_torch(wanted: str, where: pathlib.Path) -> str:
    """Imports torch, whose libraries ours is bound to by the import, and returns its version."""
    way_out = TORCH_WAY_OUT.format(series=series(wanted))
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise trouble(f"torch {series(wanted)}", f"no torch in {sys.executable}", way_out) from None
    if series(torch.__version__) != series(wanted):
        raise trouble(f"torch {series(wanted)}, which {where} was built for", f"torch {torch.__version__}", way_out)
    return torch.__version__


def registered() -> str | None:
    """The version of the library that this process has already, however it came in."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch.ops.schatten, "version"):
        return None
    return str(torch.ops.schatten.version())


def open_library(path: pathlib.Path, torch_version: str) -> ctypes.CDLL:
    """Its symbols stay its own: other extensions cannot meet them."""
    try:
        return ctypes.CDLL(str(path.resolve()), mode=os.RTLD_NOW | os.RTLD_LOCAL)
    except OSError as error:
        raise trouble(
            f"{path} to load beside torch {torch_version}", str(error),
            "Torch is not what its version says, or the system is older than the library. Install torch again, or build schatten here:\n"
            "  pip install --no-build-isolation .        (in its source)",
        ) from None  # fmt: skip


def already_there() -> ctypes.CDLL:
    """The library that another has loaded, or that the program is linked with."""
    for line in pathlib.Path("/proc/self/maps").read_text().splitlines():
        if line.endswith("/" + NAME):
            return ctypes.CDLL(line[line.index("/") :])
    return ctypes.CDLL(None)


@functools.cache
def _load() -> ctypes.CDLL:
    if version := registered():
        check_version(version, "this process")
        return already_there()
    path = find()
    library = built(path)
    check_version(library.version, str(path))
    return open_library(path, check_torch(library.torch, path))


def load() -> ctypes.CDLL:
    """Registers ``torch.ops.schatten``, once in a process: a second registration would abort it."""
    with _lock:
        return _load()
