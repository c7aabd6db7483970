"""The wheel as a stranger gets it: in an empty environment that has torch, away from the source. `make wheel` runs this."""

from __future__ import annotations

import email
import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import zipfile

import pytest

SOURCE = pathlib.Path(os.environ["SCHATTEN_SOURCE_DIR"])
WHEEL = pathlib.Path(os.environ["SCHATTEN_WHEEL"])
sys.path.insert(0, str(SOURCE / "tools"))
import wheel_platform  # noqa: E402

VERSION = re.findall(r'__version__ = "(.+)"', (SOURCE / "python" / "schatten" / "_version.py").read_text())[0]
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("SCHATTEN_", "PYTHON", "GOMP_", "OMP_"))}


def site_packages(venv: pathlib.Path) -> pathlib.Path:
    return next((venv / "lib").glob("python*/site-packages"))


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("wheel") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    torch = importlib.util.find_spec("torch")
    assert torch and torch.origin
    (site_packages(folder) / "torch.pth").write_text(str(pathlib.Path(torch.origin).parents[1]))
    subprocess.run([folder / "bin" / "pip", "install", "-q", "--no-index", "--no-deps", WHEEL], env=CLEAN, check=True)
    return folder


def run(*words: object, folder: pathlib.Path, **variables: str) -> str:
    done = subprocess.run([str(w) for w in words], text=True, capture_output=True, cwd=folder, env={**CLEAN, **variables}, check=False,
                          timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_names_and_numbers_agree() -> None:
    with zipfile.ZipFile(WHEEL) as wheel:
        inside = f"schatten-{VERSION}.dist-info"
        metadata = email.message_from_bytes(wheel.read(f"{inside}/METADATA"))
        tags = email.message_from_bytes(wheel.read(f"{inside}/WHEEL"))
        library = wheel.read("schatten/lib/libschatten.so")
        names = wheel.namelist()
    assert metadata["Version"] == VERSION and metadata["Requires-Python"] == ">=3.10"
    assert f"schatten {VERSION} for torch 2.13".encode() in library
    tag, _ = wheel_platform.platform_tag(WHEEL)
    assert tags["Tag"] == f"py3-none-{tag}" and WHEEL.name == f"schatten-{VERSION}-py3-none-{tag}.whl"
    # torch is neither in it nor asked for, and nothing says where it was built
    assert [n for n in names if n.endswith(".so")] == ["schatten/lib/libschatten.so"]
    assert all("extra ==" in need for need in metadata.get_all("Requires-Dist", []))
    assert str(SOURCE).encode() not in library and str(pathlib.Path(sys.prefix)).encode() not in library
    assert {"schatten/py.typed", "schatten/__init__.py", "schatten/__main__.py"} <= set(names)


def test_a_newer_symbol_or_a_foreign_library_raises_the_floor(tmp_path: pathlib.Path) -> None:
    assert wheel_platform.glibc_needed({"GLIBC": "2.17", "GLIBCXX": "3.4.19"}) == 28
    assert wheel_platform.glibc_needed({"GLIBC": "2.17", "GLIBCXX": "3.4.30"}) == 35
    assert wheel_platform.glibc_needed({"GLIBC": "2.38", "GLIBCXX": "3.4.29", "GCC": "3.0"}) == 38
    with pytest.raises(ValueError, match="no manylinux policy"):
        wheel_platform.glibc_needed({"GLIBC": "2.17", "GLIBCXX": "3.4.99"})
    (tmp_path / "a.cpp").write_text("int f() { return 0; }\n")
    compiler = os.environ.get("CXX", "g++")
    subprocess.run([compiler, "-shared", "-fPIC", "a.cpp", "-o", "libforeign.so"], cwd=tmp_path, check=True)
    (tmp_path / "b.cpp").write_text("int f();\nint g() { return f(); }\n")
    subprocess.run([compiler, "-shared", "-fPIC", "b.cpp", "-o", "b.so", "-L.", "-lforeign"], cwd=tmp_path, check=True)
    with zipfile.ZipFile(tmp_path / "b.whl", "w") as archive:
        archive.write(tmp_path / "b.so", "b.so")
    with pytest.raises(ValueError, match=r"libforeign\.so"):
        wheel_platform.platform_tag(tmp_path / "b.whl")


def test_an_optimizer_steps(venv: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "schatten").mkdir()  # as in a checkout: no package, and must not hide ours
    code = ("import torch, schatten; torch.manual_seed(0); model = torch.nn.Linear(8, 8); before = model.weight.detach().clone()\n"
            "optimizer = schatten.Muon(model, lr=0.1); model(torch.ones(2, 8)).sum().backward(); optimizer.step()\n"
            "print(bool((model.weight != before).all()), schatten.__file__)")  # fmt: skip
    moved, file = run(venv / "bin" / "python", "-c", code, folder=tmp_path).split()
    assert moved == "True" and pathlib.Path(file) == site_packages(venv) / "schatten" / "__init__.py"


def test_the_script_and_the_module_are_the_command_line(venv: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for words in ([venv / "bin" / "schatten"], [venv / "bin" / "python", "-m", "schatten"]):
        assert run(*words, "--version", folder=tmp_path).strip() == VERSION
        facts = json.loads(run(*words, "doctor", "--json", folder=tmp_path))
        assert facts["torch"].startswith("2.13.") and len(facts["openmp"]) == 1 and "/torch/lib/" in facts["openmp"][0]
    done = subprocess.run([venv / "bin" / "schatten", "train", "--nonsense"], cwd=tmp_path, env=CLEAN, capture_output=True, check=False)
    assert done.returncode == 2


def test_it_trains_on_the_torch_that_runs_and_can_be_interrupted(venv: pathlib.Path, tmp_path: pathlib.Path) -> None:
    small = {"model.preset": "llama-tiny", "data.batch": 2, "data.eval_batches": 1, "train.steps": 100000, "train.log_every": 1,
             "train.threads": 1, "data.source": "python-source"}  # fmt: skip
    words = [str(venv / "bin" / "schatten"), "train", "--run-dir", "out", "--json"]
    words += [word for key, value in small.items() for word in ("--set", f"{key}={value}")]
    child = subprocess.Popen(words, cwd=tmp_path, env=CLEAN, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    for line in child.stdout:
        if '"train"' in line:
            break
    child.send_signal(signal.SIGINT)
    try:
        child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130
    command = json.loads((tmp_path / "out" / "environment.json").read_text())["command"]
    assert command[0].startswith(str(venv / "bin" / "python")) and command[1:4] == ["-m", "schatten", "train"]
