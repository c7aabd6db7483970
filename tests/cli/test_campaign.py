"""Campaigns: what they write, how they go on after a stop or a kill, and what they say when a run goes wrong."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest
from conftest import CLI, TINY, Run, records

Json = dict[str, object]
OPTIMIZERS = {"adamw": ("1e-3", "1e-2"), "muon": ("0.01", "0.05"), "htmuon": ("0.01", "0.05")}
RUNS = 3 * 2 + 3 * 2  # every rate once, then two fresh seeds at the best ones
WALL = {"seconds", "cpu_seconds", "seconds_per_step"}


def campaign_text(optimizers: str = "", **base: object) -> str:
    settings = {**TINY, "data.source": "text:text.txt", "data.eval_batches": 1, "train.steps": 12,
                "train.eval_every": 6, "train.log_every": 1, "train.checkpoint_every": 3,
                "train.sample_length": 4}  # fmt: skip
    settings.update({key.replace("__", "."): value for key, value in base.items()})
    quoted = {k: v if re.fullmatch(r"[\d.e-]+", str(v)) else json.dumps(v) for k, v in settings.items()}
    text = 'name = "tiny"\ndirectory = "out"\ntuning_seeds = [1]\nfinal_seeds = [11, 12]\n\n[base]\n'
    text += "".join(f"{key} = {value}\n" for key, value in quoted.items())
    return text + (optimizers or "".join(optimizer(name, name, *rates) for name, rates in OPTIMIZERS.items()))


def optimizer(name: str, recipe: str, *rates: str, more: str = "") -> str:
    rows = [f'set.optimizer.matrix = {{ recipe = "{recipe}" }}', f'grid."optimizer.matrix.lr" = [{", ".join(rates)}]']
    return f'\n[[optimizer]]\nname = "{name}"\n' + "\n".join(rows) + f"\n{more}\n"


def without_wall(value: object) -> object:
    if isinstance(value, dict):
        return {k: without_wall(v) for k, v in value.items() if k not in WALL}
    return [without_wall(v) for v in value] if isinstance(value, list) else value


def results(folder: pathlib.Path) -> Json:
    return json.loads((folder / "out" / "results.json").read_text())


def logs(folder: pathlib.Path) -> dict[str, tuple[int, bytes]]:
    """Every metrics.jsonl with its time of change."""
    found = sorted((folder / "out" / "runs").glob("*/*/metrics.jsonl"))
    return {str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes()) for p in found}


def training(folder: pathlib.Path) -> dict[str, list[tuple[object, object]]]:
    return {name: [(r["step"], r["loss"]) for r in records((folder / name).parent) if r["event"] == "train"]
            for name in logs(folder)}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, subprocess.CompletedProcess[str]]:
    """One undisturbed campaign: others are compared with it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "text.txt").write_text("".join(f"line {i}: the quick brown fox number {i * i}\n" for i in range(2000)))
    (folder / "tiny.toml").write_text(campaign_text())
    words = [CLI, "campaign", "tiny.toml", "--json"]
    return folder, subprocess.run(words, text=True, capture_output=True, cwd=folder, check=False, timeout=300)


@pytest.fixture
def campaign(corpus: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "tiny.toml").write_text(campaign_text())
    return tmp_path


def test_writes_plan_results_and_report(finished):
    folder, done = finished
    assert done.returncode == 0, done.stderr
    out = folder / "out"
    plan = json.loads((out / "plan.json").read_text())["runs"]
    assert [r["phase"] for r in plan] == ["tune"] * 6 + ["final"] * 6
    assert len({r["dir"] for r in plan}) == RUNS
    for planned in plan:
        end = records(out / planned["dir"])[-1]
        assert end["status"] == "ok" and end["step"] == 12
        assert (end["test"] is not None) == (planned["phase"] == "final")
    found = results(folder)
    assert [o["name"] for o in found["optimizers"]] == list(OPTIMIZERS) and found["baseline"] == "adamw"
    for o in found["optimizers"]:
        best = min(o["points"], key=lambda p: p["val_mean"])
        assert o["best"] == best["point"] and o["final"]["n"] == 2
        tests = [r["test"] for p in o["points"] for r in p["runs"] if r["phase"] == "final"]
        if tests:
            assert abs(sum(tests) / 2 - o["final"]["mean"]) < 1e-12
    assert {c["optimizer"] for c in found["comparisons"]} == {"muon", "htmuon"}
    assert len(found["verdict"]) == 2
    markdown = (out / "report.md").read_text()
    assert all(name in markdown for name in OPTIMIZERS)


def test_json_is_one_object_per_line_and_nothing_else(finished):
    folder, done = finished
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(isinstance(line, dict) for line in lines) and done.stderr == ""
    assert [line["event"] for line in lines[:-1]] == ["run"] * RUNS
    assert not any(line["skipped"] for line in lines[:-1])
    assert lines[-1] == results(folder)


def test_paired_runs_start_from_the_same_weights_and_data(finished):
    folder, _ = finished
    first = {name: losses[0] for name, losses in training(folder).items()}
    for seed in (11, 12):
        starts = {loss for name, (_, loss) in first.items() if name.endswith(f"-seed{seed}/metrics.jsonl")}
        assert len(starts) == 1, starts
    assert len(set(first.values())) == 3  # one for each seed
    ends = [losses[-1] for name, losses in training(folder).items() if "-seed11/" in name]
    assert len(set(ends)) == 3  # and then each goes its own way


def test_the_report_needs_nothing_but_itself(finished):
    page = (finished[0] / "out" / "report.html").read_text()
    assert "<script" not in page and "@import" not in page
    targets = re.findall(r"""(?:src|href|srcset|action)\s*=\s*["']?([^"'\s>]*)""", page)
    targets += re.findall(r"url\(([^)]*)\)", page)
    assert [t for t in targets if not t.startswith(("#", "data:"))] == []
    assert re.findall(r"https?://(?!www\.w3\.org/)[^\s\"'<]*", page) == []
    figures = re.findall(r"<svg\b.*?</svg>", page, re.DOTALL)
    assert len(figures) >= 2
    for figure in figures:
        assert re.search(r"<title\b[^>]*>[^<]+</title>", figure), figure[:200]
    assert "prefers-color-scheme" in page


def test_a_second_call_touches_nothing_and_says_the_same(finished, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(finished[0], folder)
    before, found = logs(folder), results(folder)
    done = subprocess.run([CLI, "campaign", "tiny.toml"], text=True, capture_output=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(already there)") == RUNS
    assert logs(folder) == before and results(folder) == found
    assert "\033" not in done.stdout and "\r" not in done.stdout


def test_another_config_in_the_same_folder_is_refused(finished, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(finished[0], folder)
    before = logs(folder)
    words = [CLI, "campaign", "tiny.toml", "--set", "base.train.clip=0.5"]
    done = subprocess.run(words, text=True, capture_output=True, cwd=folder, check=False)
    assert done.returncode == 2 and "another config" in done.stderr
    assert logs(folder) == before


def test_two_jobs_give_the_losses_of_one(run: Run, campaign, finished):
    done = run("campaign", "tiny.toml", "--jobs", 2)
    assert done.returncode == 0, done.stderr
    assert training(campaign) == training(finished[0])
    ours, theirs = results(campaign), results(finished[0])
    assert ours["concurrent"] is True and theirs["concurrent"] is False
    ours["concurrent"] = False
    assert without_wall(ours) == without_wall(theirs)


def stopped(folder: pathlib.Path, number: int, after: int) -> int:
    """Begins a campaign and signals it once `after` of its runs are done; its exit code."""
    words = [CLI, "campaign", "tiny.toml", "--json"]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(after):
            assert '"run"' in child.stdout.readline()
        child.send_signal(number)
        return child.wait(timeout=60)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_stopped_campaign_goes_on_as_if_never_stopped(run: Run, campaign, finished, number, code):
    for after in (1, 7):  # while tuning, and among the final runs
        assert stopped(campaign, number, after) == code
        ends = [records((campaign / name).parent) for name in logs(campaign)]
        whole = sum(bool(r) and r[-1].get("status") == "ok" for r in ends)
        assert after <= whole < RUNS
    done = run("campaign", "tiny.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("(already there)") >= 7
    assert training(campaign) == training(finished[0])
    assert without_wall(results(campaign)) == without_wall(results(finished[0]))


def test_a_killed_campaign_leaves_no_run_behind(run: Run, corpus, tmp_path):
    text = campaign_text(optimizer("muon", "muon", "0.01"), train__steps=200, train__eval_every=100)
    (tmp_path / "tiny.toml").write_text(text.replace("final_seeds = [11, 12]", "final_seeds = [11]"))
    log = tmp_path / "out" / "runs" / "muon" / "matrix.lr=0.01-seed1" / "metrics.jsonl"
    with subprocess.Popen([CLI, "campaign", "tiny.toml"], cwd=tmp_path, stdout=subprocess.DEVNULL) as child:
        while not log.exists() or log.read_text().count('"train"') < 20:
            assert child.poll() is None
            time.sleep(0.01)
        child.kill()
    done = run("campaign", "tiny.toml")  # at once: two writers in one run directory would show
    assert done.returncode == 0, done.stdout + done.stderr
    assert [r["step"] for r in records(log.parent) if r["event"] == "train"] == list(range(1, 201))
    assert [r.get("resumed_from", 0) > 0 for r in records(log.parent) if r["event"] == "start"] == [False, True]


def test_a_diverging_rate_is_marked_and_another_chosen(run: Run, corpus, tmp_path):
    more = 'set.optimizer.auxiliary = { recipe = "sgd", lr = 0.1 }'
    text = campaign_text(optimizer("sgd", "sgd", "1e30", "0.1", more=more), train__clip=0)
    (tmp_path / "tiny.toml").write_text(text)
    done = run("campaign", "tiny.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "diverged" in done.stdout
    sgd = results(tmp_path)["optimizers"][0]
    assert {p["point"]["optimizer.matrix.lr"]: p["diverged"] for p in sgd["points"]} == {1e30: 1, 0.1: 0}
    assert sgd["best"] == {"optimizer.matrix.lr": 0.1} and sgd["final"]["n"] == 2
    assert "(already there)" in run("campaign", "tiny.toml").stdout  # diverged is an answer: not tried again


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_run_that_fails_is_reported_and_the_others_go_on(run: Run, corpus, tmp_path, words):
    text = campaign_text(optimizer("good", "muon", "0.01") + optimizer("bad", "adamw", "0.01", more=(
        'set.data.source = "text:nowhere.txt"')))  # fmt: skip
    (tmp_path / "tiny.toml").write_text(text.replace("final_seeds = [11, 12]", "final_seeds = [11]"))
    done = run("campaign", "tiny.toml", *words)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "nowhere.txt" in (done.stderr if words else done.stdout + done.stderr)  # the end of the run's log
    assert "exit code 1" in done.stdout + done.stderr
    good, bad = results(tmp_path)["optimizers"]
    assert good["final"]["n"] == 1 and not bad.get("best")
    if words:
        assert all(isinstance(json.loads(line), dict) for line in done.stdout.splitlines())
    shutil.copy(corpus, tmp_path / "nowhere.txt")  # what was missing: the same command goes on
    assert run("campaign", "tiny.toml").returncode == 0
    assert results(tmp_path)["optimizers"][1]["final"]["n"] == 1


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("tuning_seeds", "tuning_seed", ["tiny.toml:3:1", "tuning_seed", "Did you mean 'tuning_seeds'"]),
        ("train.clip = 1", "train.clipp = 1", ["tiny.toml:8:", "train.clipp", "Did you mean 'clip'"]),
        ('baseline = "muon"', 'baseline = "muno"', ["baseline", "'muno'", "Did you mean 'muon'"]),
        ("[11, 12]", "[1, 12]", ["1 twice"]),
        ("[11, 12]", "[]", ["at least one seed"]),
        ("[0.01, 0.05]", "0.01", ["tiny.toml:13:", "list of values", "0.01"]),
        ("[0.01, 0.05]", "[0.01, -0.05]", ["lr finite and >= 0", "-0.05"]),
        ('recipe = "muon"', 'recipe = "muno"', ["tiny.toml:12:", "Did you mean 'muon'"]),
        ('"optimizer.matrix.lr"', '"optimizer.matrx.lr"', ["matrx", "Did you mean 'matrix'"]),
    ],
)
def test_bad_campaign_files(run: Run, tmp_path, before, after, words):
    text = ('name = "tiny"\ndirectory = "out"\ntuning_seeds = [1]\nfinal_seeds = [11, 12]\nbaseline = "muon"\n\n'
            "[base]\ntrain.clip = 1\n") + optimizer("muon", "muon", "0.01", "0.05")  # fmt: skip
    assert text.count(before) == 1
    (tmp_path / "tiny.toml").write_text(text.replace(before, after))
    done = run("campaign", "tiny.toml")
    assert done.returncode == 2 and done.stdout == "", done.stdout
    for word in words:
        assert word in done.stderr, (word, done.stderr)
    assert len(done.stderr.strip().splitlines()) <= 4
    assert not (tmp_path / "out").exists()


def test_a_campaign_needs_an_optimizer_and_a_file(run: Run, tmp_path):
    (tmp_path / "tiny.toml").write_text('name = "tiny"\n')
    done = run("campaign", "tiny.toml")
    assert done.returncode == 2 and "[[optimizer]]" in done.stderr
    done = run("campaign", "nowhere.toml")
    assert done.returncode != 0 and "nowhere.toml" in done.stderr
