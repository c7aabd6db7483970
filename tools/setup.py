#!/usr/bin/env python3
"""Sets up, builds, tests and shows Schatten. The Makefile calls this; it needs nothing but the standard library.

Every step first looks whether it is done, so a second call starts in seconds.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from typing import Any

from wheel_platform import platform_tag

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BUILD = ROOT / "build"
TORCH_SERIES = "2.13"
DEBIAN_PACKAGES = [
    "libgtest-dev",
    "libcli11-dev",
    "libtomlplusplus-dev",
    "nlohmann-json3-dev",
]
ASK_TORCH = "import torch; print(torch.__version__)"


class Trouble(Exception):
    """Who expected what, what was there instead, and the way out."""

    def __init__(self, who: str, expected: str, got: str, way_out: str) -> None:
        super().__init__(f"[{who}] expected {expected}, got {got}\n  {way_out}")


def say(text: str) -> None:
    print(f"setup: {text}", flush=True)


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, text=True, check=False, **options)


def output_of(command: list[str]) -> str | None:
    try:
        done = run(command, capture_output=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def must(who: str, command: list[str], way_out: str, **options: Any) -> None:
    code = run(command, **options).returncode
    if code != 0:
        raise Trouble(who, "success", f"exit code {code} from: {' '.join(command[:6])}", way_out)


def privileged() -> list[str] | None:
    """The prefix that gives root's rights, or None."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and run(["sudo", "-n", "true"], capture_output=True).returncode == 0:
        return ["sudo", "-n"]
    return None


def apt_install(packages: list[str]) -> bool:
    rights = privileged()
    if rights is None or not shutil.which("apt-get"):
        return False
    say(f"installing {' '.join(packages)} with apt")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = [*rights, "apt-get", "install", "-y", "--no-install-recommends", *packages]
    if run(install, env=environment, **quiet).returncode == 0:
        return True
    run([*rights, "apt-get", "update"], env=environment, **quiet)  # an empty package list: the usual reason
    return run(install, env=environment, **quiet).returncode == 0


# --- the compiler -----------------------------------------------------------------------------------------------------


def check_compiler() -> None:
    compiler = os.environ.get("CXX") or next((c for c in ("g++", "clang++") if shutil.which(c)), None)
    if not compiler:
        raise Trouble("compiler", "a C++20 compiler", "none", "Install one: sudo apt install g++ (12 or newer).")
    program = "#include <concepts>\n#include <span>\nint main() { return std::span<int>{}.size() == 0 ? 0 : 1; }\n"
    check = run([compiler, "-std=c++20", "-fsyntax-only", "-x", "c++", "-"], input=program, capture_output=True)
    if check.returncode != 0:
        version = (output_of([compiler, "--version"]) or compiler).splitlines()[0]
        raise Trouble("compiler", "a C++20 compiler", version, "Install g++ 12 or newer, or set CXX to one.")


# --- Python and torch -------------------------------------------------------------------------------------------------


def torch_version(python: str) -> str | None:
    return output_of([python, "-c", ASK_TORCH])


def check_torch_series(version: str, where: str) -> None:
    if version.startswith(TORCH_SERIES + ".") or os.environ.get("SCHATTEN_ANY_TORCH") == "1":
        return
    raise Trouble(
        "torch", f"torch {TORCH_SERIES}", f"torch {version} in {where}",
        f"Install torch=={TORCH_SERIES}.0 there, remove .venv, or set SCHATTEN_ANY_TORCH=1 at your own risk.",
    )


def make_venv() -> pathlib.Path:
    python = VENV / "bin" / "python"
    if python.exists() and output_of([str(python), "-m", "pip", "--version"]):
        return python
    # A torch that is already here saves a large download: such a Python lends its packages.
    lends = (torch_version(sys.executable) or "").startswith(TORCH_SERIES + ".")
    say("creating .venv" + (" (with the torch that this Python has)" if lends else ""))
    shutil.rmtree(VENV, ignore_errors=True)
    command = [sys.executable, "-m", "venv", *(["--system-site-packages"] if lends else []), str(VENV)]
    if run(command, capture_output=True).returncode != 0:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        shutil.rmtree(VENV, ignore_errors=True)
        if not (apt_install([package]) or apt_install(["python3-venv"])) or run(command, capture_output=True).returncode:
            shutil.rmtree(VENV, ignore_errors=True)
            raise Trouble("python", "the venv module", "a Python without it", f"sudo apt install {package}")
    return python


def pip(python: pathlib.Path, arguments: list[str], what: str) -> None:
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-q", *arguments]
    must("pip", command, f"{what} could not be installed: is a package index reachable?")


def download_size(python: pathlib.Path, requirement: str) -> str:
    """What pip would fetch, as far as the index tells."""
    report = output_of([str(python), "-m", "pip", "install", "--dry-run", "-q", "--report", "-", requirement])
    try:
        items = json.loads(report or "")["install"]
    except (ValueError, KeyError):
        return "size unknown"
    names = [item["metadata"]["name"] for item in items]
    cuda = any(name.startswith("nvidia") for name in names)
    return f"{len(names)} packages; " + ("a CUDA build, about 2.5 GB" if cuda else "a CPU build, about 200 MB")


def install_torch(python: pathlib.Path) -> None:
    version = torch_version(str(python))
    if version is None:
        requirement = f"torch=={TORCH_SERIES}.0"
        say(f"installing {requirement} ({download_size(python, requirement)})")
        pip(python, [requirement], "torch")
        version = torch_version(str(python))
        if version is None:
            raise Trouble("torch", f"torch {TORCH_SERIES} to import", "a failure", f"Try: {python} -c 'import torch'")
    check_torch_series(version, str(VENV))


def stamped(name: str, content: str) -> bool:
    """True when the stamp of this name already says `content`."""
    path = VENV / f".stamp-{name}"
    return path.exists() and path.read_text() == content


def stamp(name: str, content: str) -> None:
    (VENV / f".stamp-{name}").write_text(content)


def python_environment(tests: bool) -> pathlib.Path:
    python = make_venv()
    marker = hashlib.sha256(f"{TORCH_SERIES} {os.environ.get('SCHATTEN_ANY_TORCH')}".encode()).hexdigest()
    if not stamped("torch", marker):
        install_torch(python)
        stamp("torch", marker)
    files = ["tools/requirements-build.txt", *(["tools/requirements-test.txt"] if tests else [])]
    for file in files:
        text = (ROOT / file).read_text()
        name = pathlib.Path(file).stem
        if not stamped(name, text):
            say(f"installing {' '.join(text.split())}")
            pip(python, ["-r", str(ROOT / file)], file)
            stamp(name, text)
    return python


# --- C++ --------------------------------------------------------------------------------------------------------------


def debian_packages() -> None:
    if not shutil.which("dpkg-query"):
        return
    state = output_of(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *DEBIAN_PACKAGES])
    if state is None:  # dpkg-query fails when any is unknown: ask one by one
        asked = [output_of(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", p]) for p in DEBIAN_PACKAGES]
        state = "\n".join(a for a in asked if a)
    missing = [p for p in DEBIAN_PACKAGES if f"{p} installed" not in state.splitlines()]
    if missing and not apt_install(missing):
        say(f"no rights to install {' '.join(missing)}: CMake fetches their sources instead")


def configure(python: pathlib.Path, folder: pathlib.Path, options: list[str]) -> None:
    cmake = str(VENV / "bin" / "cmake")
    facts = "\n".join([str(ROOT), str(python), *options, os.environ.get("CXX", "")])
    marker = folder / ".configured"
    if marker.exists() and marker.read_text() == facts and (folder / "build.ninja").exists():
        return
    say("configuring")
    command = [cmake, "-S", str(ROOT), "-B", str(folder), "-G", "Ninja",
               f"-DCMAKE_MAKE_PROGRAM={VENV / 'bin' / 'ninja'}", f"-DSCHATTEN_PYTHON={python}", *options]
    if os.environ.get("SCHATTEN_ANY_TORCH") == "1":
        command.append("-DSCHATTEN_ANY_TORCH=ON")
    must("cmake", command, "The lines above say what is missing.", stdout=subprocess.DEVNULL)
    marker.write_text(facts)


def compile_targets(folder: pathlib.Path, targets: list[str]) -> None:
    began = time.monotonic()
    must("build", [str(VENV / "bin" / "ninja"), "-C", str(folder), *targets], "The first error above is the one to read.")
    say(f"built in {time.monotonic() - began:.0f} s")


def prepare(tests: bool, targets: list[str], folder: pathlib.Path = BUILD, options: list[str] | None = None) -> pathlib.Path:
    check_compiler()
    python = python_environment(tests)
    debian_packages()
    configure(python, folder, options or [])
    compile_targets(folder, targets)
    return python


# --- what the Makefile calls ------------------------------------------------------------------------------------------


def failed_of_total(line: str) -> tuple[int, int] | None:
    """From "99% tests passed, 1 tests failed out of 9"; where all passed, some versions of ctest leave the middle out."""
    match = re.search(r"tests passed(?:, (\d+) tests? failed)? out of (\d+)", line)
    return (int(match[1] or 0), int(match[2])) if match else None


def run_ctest(folder: pathlib.Path, extra: list[str]) -> None:
    command = [str(VENV / "bin" / "ctest"), "--test-dir", str(folder), "--output-on-failure", "-j", "2", *extra]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    total = failed = 0
    assert process.stdout is not None
    for line in process.stdout:
        if not re.match(r"\s*\d+/\d+ Test .* Passed|\s*Start ", line):
            print(line, end="", flush=True)
        if found := failed_of_total(line):
            failed, total = found
    code = process.wait()
    print(f"{total - failed} passed, {failed} failed", flush=True)
    if code != 0 or total == 0:
        raise Trouble("tests", "all to pass", f"{failed} failures of {total}", "Their output stands above.")


def test() -> None:
    prepare(tests=True, targets=["all"])
    run_ctest(BUILD, [])


def unit() -> None:
    """The C++ tests alone, each area in one go: half a minute."""
    prepare(tests=True, targets=["all"])
    os.environ["GOMP_SPINCOUNT"] = "1000"
    for program in sorted((BUILD / "tests").glob("test_*")):
        if program.is_file() and os.access(program, os.X_OK):
            must("unit", [str(program), "--gtest_brief=1"], "The failures stand above.")


def demo() -> None:
    prepare(tests=False, targets=["schatten"])
    jobs = str(os.cpu_count() or 1)  # one thread each: small models share badly, and nothing waits for a busy neighbour
    code = run([str(BUILD / "schatten"), "campaign", "examples/first_look.toml", "--jobs", jobs], cwd=ROOT).returncode
    sys.exit(code)


def build() -> None:
    prepare(tests=False, targets=["all"])


def sanitize() -> None:
    folder, way_out = ROOT / "build-sanitize", "The report above names the place."
    areas = ["kernels", "linalg", "law", "identity", "parameters", "core", "data", "engine", "train"]
    targets = ["schatten", *(f"test_{area}" for area in areas)]
    python = prepare(tests=True, targets=targets, folder=folder, options=["-DSCHATTEN_SANITIZE=ON"])
    # torch's own start-up allocations are not ours to judge: leaks off, everything else on.
    os.environ["ASAN_OPTIONS"] = "detect_leaks=0:alloc_dealloc_mismatch=0"
    os.environ["UBSAN_OPTIONS"] = "print_stacktrace=1"
    for area in areas:
        must("sanitize", [str(folder / "tests" / f"test_{area}"), "--gtest_brief=1"], way_out)
    environment = {**os.environ, "SCHATTEN_CLI": str(folder / "schatten"), "SCHATTEN_SOURCE_DIR": str(ROOT)}
    must("sanitize", [str(python), "-m", "pytest", "-q", str(ROOT / "tests/cli/test_bad_input.py")], way_out, env=environment)


def install_peers(python: pathlib.Path) -> None:
    """Optimizers to be timed against, in a folder of their own: nothing that they depend on touches .venv."""
    folder, text = BUILD / "bench" / "peers", (ROOT / "bench" / "requirements.txt").read_text()
    marker = folder / ".installed"
    if marker.exists() and marker.read_text() == text:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    wanted = [line for line in text.splitlines() if line and not line.startswith("#")]
    say(f"installing {', '.join(wanted)} into {folder.relative_to(ROOT)}")
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-q", "--no-deps", "--target", str(folder)]
    missing = [peer for peer in wanted if run([*command, peer], capture_output=True).returncode != 0]
    if missing:
        say(f"not to be had: {', '.join(missing)}; their rows will say so")
    else:
        marker.write_text(text)


def bench() -> None:
    python = prepare(tests=True, targets=["schatten", "schatten_bench"])
    install_peers(python)
    must("bench", [str(python), "bench/run.py"], "See above.", cwd=ROOT)
    python_page = ["--only", "package", "package_grid", "--out", "docs/python/benchmarks.md"]
    must("bench", [str(python), "bench/run.py", *python_page], "See above.", cwd=ROOT)


def wheel() -> None:
    """dist/schatten-VERSION-py3-none-manylinux_2_N_ARCH.whl, built against .venv's torch and tried out in an empty environment."""
    check_compiler()
    python = python_environment(tests=True)
    debian_packages()
    pip(python, ["-r", str(ROOT / "tools" / "requirements-wheel.txt")], "scikit-build-core")
    dist, fresh = ROOT / "dist", BUILD / "dist"
    shutil.rmtree(fresh, ignore_errors=True)
    say("building the wheel")
    path = f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}"  # .venv's cmake and ninja
    command = [str(python), "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", str(fresh), str(ROOT)]
    must("wheel", command, "The first error above is the one to read.", env={**os.environ, "PATH": path})
    built = next(fresh.glob("*.whl"))
    try:
        tag, reason = platform_tag(built)
    except ValueError as error:
        raise Trouble("wheel", "libraries that other machines have", str(error), "See tools/wheel_platform.py.") from None
    must("wheel", [str(python), "-m", "wheel", "tags", "--remove", "--platform-tag", tag, str(built)], "See above.",
         stdout=subprocess.DEVNULL)  # fmt: skip
    built = next(fresh.glob("*.whl"))
    dist.mkdir(exist_ok=True)
    for old in dist.glob("schatten-*.whl"):
        old.unlink()
    kept = built.rename(dist / built.name)
    say(f"{tag}: the newest symbols that it asks for are {reason}")
    environment = {**os.environ, "SCHATTEN_WHEEL": str(kept), "SCHATTEN_SOURCE_DIR": str(ROOT)}
    must("wheel", [str(python), "-m", "pytest", "-q", str(ROOT / "tests" / "wheel")], "See above.", env=environment)
    say(f"{kept} ({kept.stat().st_size / 1e6:.1f} MB)")


def docs_environment() -> pathlib.Path:
    python = prepare(tests=False, targets=["schatten", "schatten_shared"])
    requirements = ROOT / "tools" / "requirements-docs.txt"
    if not stamped("docs", requirements.read_text()):
        say("installing Sphinx and what it needs")
        pip(python, ["-r", str(requirements)], requirements.name)
        stamp("docs", requirements.read_text())
    return python


def docs(*options: str) -> None:
    """build/docs/html; `make docs-links` asks every address outside of it whether it is there, which needs the network."""
    python = docs_environment()
    if not shutil.which("doxygen") and not apt_install(["doxygen"]):
        raise Trouble("docs", "doxygen, for the C++ headers", "none, and no rights to install it", "sudo apt install doxygen")
    must("docs", [str(python), str(ROOT / "tools" / "build_docs.py"), *options], "The lines above name page and line.")


def notebook() -> None:
    must("notebook", [str(docs_environment()), str(ROOT / "tools" / "refresh_notebook.py")], "See above.")


def format_sources() -> None:
    must("format", [str(python_environment(tests=True)), str(ROOT / "tools" / "check_style"), "--format"], "See above.")


def lint() -> None:
    python = prepare(tests=True, targets=["all"])
    must("lint", [str(python), str(ROOT / "tools" / "check_style")], "`make format` repairs what clang-format finds.")
    pip(python, ["-r", str(ROOT / "tools" / "requirements-lint.txt")], "clang-tidy")
    commands = json.loads((BUILD / "compile_commands.json").read_text())
    for entry in commands:  # clang reads no precompiled header of g++'s, has no omp.h, and wants ivalue.h first
        plain = re.sub(r"-fopenmp|-Winvalid-pch|-include \S*cmake_pch\.hxx", "", entry["command"])
        entry["command"] = plain + " -include ATen/core/ivalue.h -Wno-unknown-warning-option"
    folder = BUILD / "lint"
    folder.mkdir(exist_ok=True)
    (folder / "compile_commands.json").write_text(json.dumps(commands))
    sources = [str(f) for folder in ("schatten", "cli") for f in sorted((ROOT / folder).rglob("*.cpp"))]
    say(f"clang-tidy over {len(sources)} files: ten seconds each")
    tidy = [str(VENV / "bin" / "clang-tidy"), "-p", str(folder), "--quiet"]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for source, done in zip(sources, pool.map(lambda s: run([*tidy, s], capture_output=True), sources), strict=True):
            if done.returncode != 0:
                raise Trouble("lint", f"nothing to be found in {source}", "\n" + done.stdout, "See above.")


def main() -> int:
    commands = {"test": test, "unit": unit, "demo": demo, "build": build, "sanitize": sanitize, "bench": bench,
                "wheel": wheel, "format": format_sources, "lint": lint, "docs": docs, "docs-links": lambda: docs("--links"),
                "notebook": notebook}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        print(f"usage: setup.py {{{','.join(commands)}}}", file=sys.stderr)
        return 2
    try:
        commands[sys.argv[1]]()
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
