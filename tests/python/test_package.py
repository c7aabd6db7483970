"""The package finds its library, refuses what does not fit, and `python -m schatten` is the program."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

SOURCE = pathlib.Path(os.environ["SCHATTEN_SOURCE_DIR"])
CLI = pathlib.Path(os.environ["SCHATTEN_CLI"])
LIBRARY = CLI.parent / "libschatten.so"
PACKAGE = SOURCE / "python" / "schatten"
VERSION = re.findall(r'__version__ = "(.+)"', (PACKAGE / "_version.py").read_text())[0]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE / "python"), "SCHATTEN_LIBRARY": str(LIBRARY), "GOMP_SPINCOUNT": "1000"}
TINY = {"model.preset": "llama-tiny", "model.layers": 1, "model.width": 32, "model.heads": 2, "model.kv_heads": 2, "model.ffn": 64,
        "model.context": 32, "data.source": "text:text.txt", "data.batch": 4, "data.eval_batches": 1, "train.steps": 6,
        "train.eval_every": 3, "train.log_every": 1, "train.sample_length": 4, "train.threads": 1}  # fmt: skip
Done = subprocess.CompletedProcess[str]
Python = Callable[..., Done]


@pytest.fixture
def python(tmp_path: pathlib.Path) -> Python:
    """Runs Python in an empty folder; keywords set environment variables, None unsets one."""

    def call(*words: str, **variables: object) -> Done:
        environment = {k: str(v) for k, v in {**ENVIRONMENT, **variables}.items() if v is not None}
        return subprocess.run([sys.executable, *words], text=True, capture_output=True, cwd=tmp_path, env=environment, check=False,
                              timeout=300)  # fmt: skip

    return call


def library(folder: pathlib.Path, content: str) -> pathlib.Path:
    """A file that says what it was built for, and is no library."""
    path = folder / "libschatten.so"
    path.write_bytes(b"\x7fELF..." + content.encode() + b"\0...")
    return path


def refused(done: Done, *words: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    assert "ImportError: [schatten] expected" in done.stderr, done.stderr
    for word in words:
        assert word in done.stderr, (word, done.stderr)


LOAD = "from schatten import _library; _library.load()"


# --- which library ----------------------------------------------------------------------------------------------------


def test_the_operators_are_there_after_the_import(python: Python) -> None:
    done = python("-c", "import schatten, torch; print(torch.ops.schatten.version(), schatten.__version__)")
    assert done.stdout.split() == [VERSION, VERSION], done.stderr


def test_one_version_everywhere(python: Python) -> None:
    said = subprocess.run([CLI, "--version"], text=True, capture_output=True, check=True).stdout.strip()
    assert said == VERSION == python("-m", "schatten", "--version").stdout.strip()
    assert f"schatten {VERSION} for torch 2.13".encode() in LIBRARY.read_bytes()


def test_a_library_of_another_version_is_refused(python: Python, tmp_path: pathlib.Path) -> None:
    path = library(tmp_path, "schatten 9.8.7 for torch 2.13.0")
    refused(python("-c", LOAD, SCHATTEN_LIBRARY=path), f"schatten {VERSION}", "got that of 9.8.7", str(path), "together")


def test_a_library_for_another_torch_is_refused(python: Python, tmp_path: pathlib.Path) -> None:
    path = library(tmp_path, f"schatten {VERSION} for torch 2.99.1+cpu")
    refused(python("-c", LOAD, SCHATTEN_LIBRARY=path), "expected torch 2.99", "got torch 2.13", "pip install 'torch==2.99.*'")


def test_another_torch_is_refused_before_the_library_meets_it(python: Python, tmp_path: pathlib.Path) -> None:
    (tmp_path / "torch.py").write_text('__version__ = "2.12.1+cu126"\n')
    code = f"import sys; sys.path.insert(0, '.')\ntry:\n    {LOAD.replace('; ', chr(10) + '    ')}\nexcept ImportError:\n    "
    code += "print('libschatten' in open('/proc/self/maps').read())\n    raise"
    done = python("-c", code)
    assert done.stdout == "False\n"
    refused(done, "expected torch 2.13", "got torch 2.12.1+cu126", "pip install 'torch==2.13.*'", "whl/cpu")


def test_without_torch_it_says_what_to_type(python: Python) -> None:
    refused(python("-S", "-c", LOAD), "expected torch 2.13", f"got no torch in {sys.executable}", "pip install 'torch==2.13.*'")


def test_a_missing_library_is_named(python: Python, tmp_path: pathlib.Path) -> None:
    refused(python("-c", LOAD, SCHATTEN_LIBRARY=tmp_path / "none.so"), "SCHATTEN_LIBRARY", "none.so")
    shutil.copytree(PACKAGE, tmp_path / "site" / "schatten", ignore=shutil.ignore_patterns("lib", "__pycache__"))
    done = python("-c", LOAD, SCHATTEN_LIBRARY=None, PYTHONPATH=tmp_path / "site")
    refused(done, "site/schatten/lib/libschatten.so", "no such file", "Install schatten again")
    (tmp_path / "tree" / "schatten" / "ops").mkdir(parents=True)
    shutil.copytree(PACKAGE, tmp_path / "tree" / "python" / "schatten", ignore=shutil.ignore_patterns("lib", "__pycache__"))
    done = python("-c", LOAD, SCHATTEN_LIBRARY=None, PYTHONPATH=tmp_path / "tree" / "python")
    refused(done, "tree/build/libschatten.so", "no such file", "make -C")


def test_a_source_tree_has_its_library_in_build(python: Python, tmp_path: pathlib.Path) -> None:
    (tmp_path / "tree" / "schatten" / "ops").mkdir(parents=True)
    (tmp_path / "tree" / "python").mkdir()
    (tmp_path / "tree" / "build").symlink_to(CLI.parent)
    shutil.copytree(PACKAGE, tmp_path / "tree" / "python" / "schatten", ignore=shutil.ignore_patterns("lib", "__pycache__"))
    done = python("-c", LOAD + "; import torch; print(torch.ops.schatten.version())", SCHATTEN_LIBRARY=None,
                  PYTHONPATH=tmp_path / "tree" / "python")  # fmt: skip
    assert done.stdout.strip() == VERSION, done.stderr


def test_a_file_that_is_no_library_is_refused(python: Python, tmp_path: pathlib.Path) -> None:
    for content in (b"", b"text"):
        (tmp_path / "libschatten.so").write_bytes(content)
        refused(python("-c", LOAD, SCHATTEN_LIBRARY=tmp_path / "libschatten.so"), "which is none")
    refused(python("-c", LOAD, SCHATTEN_LIBRARY=library(tmp_path, f"schatten {VERSION} for torch 2.13.0")), "to load beside torch 2.13")


def test_an_undefined_symbol_is_explained(python: Python, tmp_path: pathlib.Path) -> None:
    source, path = tmp_path / "a.cpp", tmp_path / "libschatten.so"
    says = f'extern "C" const char schatten_built[] = "schatten {VERSION} for torch 2.13.0";\n'
    source.write_text(says + "void no_such_function();\nvoid call() { no_such_function(); }\n")
    subprocess.run([os.environ.get("CXX", "g++"), "-shared", "-fPIC", source, "-o", path], check=True)
    refused(python("-c", LOAD, SCHATTEN_LIBRARY=path), "no_such_function", "Install torch again", "--no-build-isolation")


def test_a_second_library_is_not_loaded(python: Python, tmp_path: pathlib.Path) -> None:
    """Registering the operators twice would abort the process."""
    shutil.copy(LIBRARY, tmp_path / "libschatten.so")
    first = "import torch; torch.ops.load_library('./libschatten.so'); "
    done = python("-c", first + LOAD + "; from schatten import __main__; print(__main__.run(['--version']))")
    assert done.stdout.split() == [VERSION, "0"], done.stderr
    older = "; _library.__version__ = '9.8.7'; _library._load.cache_clear(); _library.load()"
    refused(python("-c", LOAD + older), "9.8.7", f"that of {VERSION} in this process")
    again = "_library._load.cache_clear(); _library.load(); _library.load(); print('alive')"
    assert python("-c", f"{LOAD}; {again}").stdout.strip() == "alive"


# --- python -m schatten -----------------------------------------------------------------------------------------------


def test_the_command_line_is_the_programs(python: Python) -> None:
    for words in (["recipes"], ["recipes", "htmuon"], ["--help"], ["train", "--keys"]):
        program = subprocess.run([CLI, *words], text=True, capture_output=True, env=ENVIRONMENT, check=True)
        done = python("-m", "schatten", *words)
        assert (done.returncode, done.stdout, done.stderr) == (0, program.stdout, program.stderr)


def test_exit_codes_pass(python: Python) -> None:
    assert python("-m", "schatten", "no-such-command").returncode == 2
    done = python("-m", "schatten", "train", "--set", "train.clipp=1")
    assert done.returncode == 2 and "Did you mean" in done.stderr and "Traceback" not in done.stderr
    done = python("-m", "schatten", "train", "--set", "data.source=text:nowhere")
    assert done.returncode == 1 and "nowhere" in done.stderr and "Traceback" not in done.stderr


def test_output_keeps_its_order_and_python_its_signals(python: Python) -> None:
    code = ("import signal; from schatten.__main__ import run\n"
            "print('first'); code = run(['recipes']); print('last', code)\n"
            "try: signal.raise_signal(signal.SIGINT)\nexcept KeyboardInterrupt: print('python')")  # fmt: skip
    lines = python("-c", code, PYTHONUNBUFFERED=None).stdout.splitlines()
    assert lines[0] == "first" and lines[-2:] == ["last 0", "python"] and "muon" in "".join(lines[1:-2])


def test_threads_are_patient(python: Python) -> None:
    shown = {"OMP_DISPLAY_ENV": "verbose", "GOMP_SPINCOUNT": None, "OMP_WAIT_POLICY": None}  # libgomp says what it has read

    def spins(*words: str, **variables: object) -> str:
        return str(re.findall(r"GOMP_SPINCOUNT = '(\w+)'", python(*words, **{**shown, **variables}).stderr)[-1])

    assert spins("-m", "schatten", "doctor") == "5000"
    assert spins("-m", "schatten", "doctor", GOMP_SPINCOUNT=77) == "77"
    assert spins("-m", "schatten", "doctor", OMP_WAIT_POLICY="passive") == "0"
    # a function in somebody's program starts nothing again
    assert spins("-c", "import schatten.__main__ as m; m.run(['doctor'])") not in ("5000", "0")


def settings(**overrides: object) -> list[str]:
    values = {**TINY, **{key.replace("__", "."): value for key, value in overrides.items()}}
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def text(folder: pathlib.Path) -> None:
    (folder / "text.txt").write_text("".join(f"line {i}: the quick brown fox number {i * i}\n" for i in range(2000)))


def records(path: pathlib.Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_interrupt_saves_and_exits_130(tmp_path: pathlib.Path) -> None:
    text(tmp_path)
    words = [sys.executable, "-m", "schatten", "train", *settings(train__steps=100000), "--run-dir", "out", "--json"]
    child = subprocess.Popen(words, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout and child.stderr
    for line in child.stdout:
        if '"train"' in line:
            break
    child.send_signal(signal.SIGINT)
    try:
        _, errors = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130 and "Traceback" not in errors, errors
    end = records(tmp_path / "out" / "metrics.jsonl")[-1]
    assert end["status"] == "interrupted"
    assert (tmp_path / "out" / "checkpoints" / f"step-{end['step']}" / "state.json").exists()


def test_a_campaigns_runs_start_as_it_did(python: Python, tmp_path: pathlib.Path) -> None:
    text(tmp_path)
    base = "\n".join(f"{key} = {json.dumps(value)}" for key, value in TINY.items())
    (tmp_path / "two.toml").write_text(
        f'name = "two"\ndirectory = "out"\ntuning_seeds = [1]\nfinal_seeds = [11]\n\n[base]\n{base}\n\n[[optimizer]]\nname = "muon"\n'
        'set.optimizer.matrix = { recipe = "muon" }\ngrid."optimizer.matrix.lr" = [0.02]\n'
    )
    done = python("-m", "schatten", "campaign", "two.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    runs = sorted((tmp_path / "out" / "runs").glob("*/*/environment.json"))
    assert len(runs) == 2
    for run in runs:
        assert json.loads(run.read_text())["command"][:4] == [sys.executable, "-m", "schatten", "train"]
        assert records(run.parent / "metrics.jsonl")[-1]["status"] == "ok"
