"""Two processes step as one does: DTensors and FSDP2, torch.distributed.checkpoint, ZeRO, DDP.

distributed_worker.py runs once in two processes for the whole file, and the tests judge what it saw.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

HERE = pathlib.Path(__file__).resolve().parent
WORLD = 2
EXACT = 0.0
Seen = list[dict[str, Any]]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What each process saw, by check."""
    folder = tmp_path_factory.mktemp("distributed")
    path = os.pathsep.join([str(HERE.parents[1] / "python"), str(HERE), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "GOMP_SPINCOUNT": "1000"}
    children = []
    for rank in range(WORLD):
        with (folder / f"{rank}.log").open("w") as log:
            words = [sys.executable, str(HERE / "distributed_worker.py"), str(rank), str(WORLD), str(folder)]
            children.append(subprocess.Popen(words, env=environment, stdout=log, stderr=log))
    try:
        codes = [child.wait(timeout=300) for child in children]
    finally:
        for child in children:
            child.kill()
    logs = "\n".join((folder / f"{rank}.log").read_text()[-3000:] for rank in range(WORLD))
    assert codes == [0] * WORLD, logs
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(WORLD)]


def of(seen: Seen, check: str) -> list[Any]:
    results = [each[check] for each in seen]
    for result in results:
        assert not isinstance(result, str), result  # a traceback
    return results


def by_class(seen: Seen, check: str) -> list[tuple[str, Any]]:
    """Name and result of each class, in each process."""
    results = [(name, result) for each in of(seen, check) for name, result in each.items()]
    failed = [f"{name}: {result}" for name, result in results if isinstance(result, str)]
    assert results and not failed, "\n".join(failed)
    return results


def test_two_processes_are_one(seen: Seen) -> None:
    """FSDP2 parameters, uneven and empty shards, some without a gradient: weights and state, bit for bit."""
    for name, difference in by_class(seen, "equal_to_one_process"):
        assert difference["torch.float64"] == EXACT, name
        assert difference["torch.float32"] == EXACT, name
        # torch's own element-wise kernels round the last few entries of a bfloat16 tensor otherwise than the others
        assert difference["torch.bfloat16"] <= 2.0**-8, name


def test_training_with_fsdp2(seen: Seen) -> None:
    """Gradients differ in the last bit here, so a recipe may move as far as it does in one process for that."""
    results = by_class(seen, "training")
    assert len(results) > 60
    for name, (difference, sensitivity) in results:
        assert difference <= max(1e-12, 100 * sensitivity), name
    for name, (_, sensitivity) in results:
        assert name in ("SOAP", "GUM", "Shampoo") or sensitivity < 1e-12, f"{name} hides behind its sensitivity"


def test_state_lies_as_its_parameter(seen: Seen) -> None:
    assert of(seen, "layouts") == [[], []]


def test_other_placements(seen: Seen) -> None:
    for name, differences in by_class(seen, "other_placements"):
        for label, difference in differences.items():
            assert difference == EXACT, (name, label)


def test_each_matrix_has_one_owner(seen: Seen) -> None:
    results = of(seen, "owners")
    owned = [set(each["mine"]) for each in results]
    assert sorted(name for mine in owned for name in mine) == sorted(results[0]["all"]) == sorted(results[1]["all"])
    work = [sum(each["mine"].values()) for each in results]
    heaviest = max(flops for each in results for flops in each["mine"].values())
    assert max(work) - min(work) <= heaviest
    # element-wise recipes stay; a shard without an entry has nothing to do
    assert "last.bias" in results[0]["here"] and "last.bias" not in results[1]["here"]


def test_what_goes_by_the_whole_shape_sees_it(seen: Seen) -> None:
    assert of(seen, "scale_by_shape_sees_the_whole_shape") == [EXACT, EXACT]


def test_plain_parameters_beside_shards(seen: Seen) -> None:
    assert of(seen, "plain_parameters_beside_shards") == [EXACT, EXACT]


def test_complex_and_maximize(seen: Seen) -> None:
    assert of(seen, "complex_and_maximize") == [[EXACT, EXACT]] * 2


def test_qk_clip_sees_queries_keys_and_all_batches(seen: Seen) -> None:
    for difference, clipped in of(seen, "qk_clip_sees_queries_keys_and_all_batches"):
        assert difference == EXACT and clipped > 0.1


def test_hessian_probes(seen: Seen) -> None:
    assert of(seen, "hessian_probes") == [EXACT, EXACT]


# --- errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("gradient", [["gradient of 'up.weight'", "differences from rank 1"], ["gradient of 'up.weight'", "differences from rank 0"]]),
        ("rate", [["lr and others [0.01", "lr and others [0.5"]] * 2),
        ("option", [["because rank 1 reports", "'nonsense'"], ["'nonsense'"]]),
        ("owner", [["momentum_buffer", "[9, 6]", "[4, 9]"]] * 2),
    ],
)
def test_an_error_in_one_process_is_an_error_in_all(seen: Seen, label: str, words: list[list[str]]) -> None:
    for result, expected in zip(of(seen, "errors"), words, strict=True):
        said, moved = result[label]
        assert all(word in said for word in expected), said
        assert moved == EXACT


# --- checkpoints ----------------------------------------------------------------------------------------------------------


def test_a_rehearsal_leaves_no_trace(seen: Seen) -> None:
    """Counter, weights, and then weights and state after two real steps; first with plain parameters, then with FSDP2."""
    for name, differences in by_class(seen, "rehearsals"):
        assert differences == [EXACT] * 8, name


def test_a_first_step_at_rate_zero_counts(seen: Seen) -> None:
    assert of(seen, "a_first_step_at_rate_zero_counts") == [[1.0, 1.0]] * 2


def test_resharding(seen: Seen) -> None:
    """From two processes to one and back: equal after each load, and two steps later."""
    for name, differences in by_class(seen, "resharding"):
        assert differences == [EXACT] * 3, name


def test_state_that_changes_its_shape(seen: Seen) -> None:
    for weights, state, shapes in of(seen, "state_that_changes_its_shape"):
        assert weights == state == EXACT and shapes > 1


def test_full_state(seen: Seen) -> None:
    for name, differences in by_class(seen, "full_state"):
        assert set(differences) == {EXACT}, (name, differences)


def test_torchs_own_state_dict(seen: Seen) -> None:
    for differences, said in of(seen, "torchs_own_state_dict"):
        assert differences == [EXACT] * 3
        assert "set_optimizer_state_dict" in said and "got a shard" in said


# --- ZeRO and DDP ----------------------------------------------------------------------------------------------------------


def test_zero(seen: Seen) -> None:
    """Each process holds a part of the parameters; weights, and on rank 0 the gathered state, bit for bit."""
    held = [{name: result[0] for name, result in each.items()} for each in of(seen, "zero")]
    assert all(0 < held[0][name] < held[0][name] + held[1][name] == 11 for name in held[0])
    for name, (_, *differences) in by_class(seen, "zero"):
        assert set(differences) == {EXACT}, (name, differences)


def test_zero_with_two_groups(seen: Seen) -> None:
    assert of(seen, "zero_with_two_groups") == [EXACT, EXACT]


def test_data_parallel(seen: Seen) -> None:
    for name, (difference, sensitivity) in by_class(seen, "data_parallel"):
        assert math.isfinite(difference) and difference <= max(1e-12, 100 * sensitivity), name


# --- the page's program ----------------------------------------------------------------------------------------------------


def test_the_example_runs_under_torchrun(tmp_path: pathlib.Path) -> None:
    program = HERE.parents[1] / "examples" / "python" / "fsdp2_loop.py"
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
    path = os.pathsep.join([str(HERE.parents[1] / "python"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(words, cwd=tmp_path, text=True, capture_output=True, check=False, timeout=300,
                          env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("the same weights") == 2 and "OTHER WEIGHTS" not in done.stdout, done.stdout
