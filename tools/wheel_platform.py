#!/usr/bin/env python3
"""Which Linux a wheel runs on, read from the libraries in it: `wheel_platform.py FILE.whl` prints its platform tag and why.

A tag manylinux_2_N promises glibc 2.N and the libstdc++ of the distributions that came with it (PEP 600), so both are looked at.
"""

from __future__ import annotations

import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import zipfile

# What distributions with this glibc have at least, by the published manylinux policies; 2.28 is torch's own floor.
FLOORS = {
    28: {"GLIBCXX": "3.4.24", "CXXABI": "1.3.11", "GCC": "7.0.0"},
    31: {"GLIBCXX": "3.4.28", "CXXABI": "1.3.12", "GCC": "7.0.0"},
    34: {"GLIBCXX": "3.4.29", "CXXABI": "1.3.13", "GCC": "7.0.0"},
    35: {"GLIBCXX": "3.4.30", "CXXABI": "1.3.13", "GCC": "12.0.0"},
    39: {"GLIBCXX": "3.4.33", "CXXABI": "1.3.15", "GCC": "14.0.0"},
}
FROM_TORCH = {"libtorch_cpu.so", "libc10.so", "libgomp.so.1"}
FROM_SYSTEM = {"libstdc++.so.6", "libm.so.6", "libgcc_s.so.1", "libc.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2"}
SYMBOL_VERSION = re.compile(r"Name: (GLIBC|GLIBCXX|CXXABI|GCC)_([0-9.]+)")


def number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def glibc_needed(versions: dict[str, str]) -> int:
    """The N of manylinux_2_N, for the newest symbol version of each kind."""
    beside = {kind: version for kind, version in versions.items() if kind != "GLIBC"}
    for glibc, has in FLOORS.items():
        if all(number(version) <= number(has[kind]) for kind, version in beside.items()):
            return max(glibc, number(versions.get("GLIBC", "2.0"))[1])
    raise ValueError(f"no manylinux policy covers {beside}: build with an older g++")


def readelf(library: pathlib.Path, *words: str) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(["readelf", "-W", *words, str(library)], text=True, capture_output=True, check=True, env=environment).stdout


def newest_symbol_versions(library: pathlib.Path) -> dict[str, str]:
    newest: dict[str, str] = {}
    for kind, version in SYMBOL_VERSION.findall(readelf(library, "-V")):
        newest[kind] = max(version, newest.get(kind, "0"), key=number)
    return newest


def foreign_libraries(library: pathlib.Path) -> set[str]:
    """What neither torch nor the system brings."""
    return set(re.findall(r"\(NEEDED\)\s+Shared library: \[(.*)\]", readelf(library, "-d"))) - FROM_TORCH - FROM_SYSTEM


def platform_tag(wheel: pathlib.Path) -> tuple[str, str]:
    """The tag, and the reason in words."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        libraries = [pathlib.Path(archive.extract(name, folder)) for name in archive.namelist() if name.endswith(".so")]
        if not libraries:
            raise ValueError(f"{wheel.name} has no library in it")
        if foreign := set().union(*map(foreign_libraries, libraries)):
            raise ValueError(f"{wheel.name} needs {', '.join(sorted(foreign))}, which neither torch nor every Linux brings")
        newest: dict[str, str] = {}
        for library in libraries:
            for kind, version in newest_symbol_versions(library).items():
                newest[kind] = max(version, newest.get(kind, "0"), key=number)
    reason = ", ".join(f"{kind}_{version}" for kind, version in sorted(newest.items()))
    return f"manylinux_2_{glibc_needed(newest)}_{platform.machine()}", reason


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: wheel_platform.py FILE.whl", file=sys.stderr)
        return 2
    try:
        tag, reason = platform_tag(pathlib.Path(sys.argv[1]))
    except ValueError as error:
        print(f"[wheel] {error}", file=sys.stderr)
        return 1
    print(f"{tag}   (the newest symbols that it asks for: {reason})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
