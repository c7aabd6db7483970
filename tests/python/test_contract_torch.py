"""Where torch.optim has the class, ours takes the same steps, from the same words, and reads the other's checkpoints."""

from __future__ import annotations

import copy
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from contract import CLASSES, distance, given_gradients, loss_of, noise, small, train, values, weight
from torch import Tensor

import schatten

TWINS: dict[str, Any] = {name: getattr(torch.optim, name) for name in ("SGD", "Adagrad", "RMSprop", "Adam", "AdamW")}
VALUES: dict[str, dict[str, list[Any]]] = {
    "SGD": {"lr": [0.1], "momentum": [0.0, 0.9], "weight_decay": [0.0, 0.1], "nesterov": [False, True], "maximize": [False, True]},
    "Adagrad": {"lr": [0.1], "lr_decay": [0.0, 0.5], "weight_decay": [0.0, 0.1], "initial_accumulator_value": [0.0, 0.1],
                "eps": [1e-10, 0.1], "maximize": [False, True]},
    "RMSprop": {"lr": [0.1], "alpha": [0.99, 0.5], "weight_decay": [0.0, 0.1], "momentum": [0.0, 0.9], "eps": [1e-8, 0.1],
                "maximize": [False, True]},
    "Adam": {"lr": [0.1], "betas": [(0.9, 0.999), (0.5, 0.0)], "weight_decay": [0.0, 0.1], "eps": [1e-8, 0.1], "maximize": [False, True]},
    "AdamW": {"lr": [0.1], "betas": [(0.9, 0.999), (0.0, 0.9)], "weight_decay": [0.0, 0.1], "eps": [1e-8, 0.1], "maximize": [False, True]},
}  # fmt: skip


def combinations(name: str) -> Iterator[dict[str, Any]]:
    options = VALUES[name]
    for chosen in itertools.product(*options.values()):
        words = dict(zip(options, chosen, strict=True))
        if not words.get("nesterov") or words["momentum"]:  # torch refuses Nesterov without momentum
            yield words


def pairs(dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], list[Tensor]]:
    """A matrix, a vector, a scalar and a convolution, twice."""
    shapes = ((6, 4), (5,), (), (3, 2, 2, 2))
    return tuple([weight(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes)] for _ in range(2))  # type: ignore[return-value]


def said(words: dict[str, Any]) -> Callable[[str], str]:
    return lambda text: f"{words}: {text}"


@pytest.mark.parametrize("name", TWINS)
def test_elementwise_classes_equal_torchs_in_float64(name: str) -> None:
    for words in combinations(name):
        ours, theirs = pairs()
        given_gradients(CLASSES[name](ours, **words), ours, 6)
        given_gradients(TWINS[name](theirs, foreach=False, **words), theirs, 6)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12, msg=said(words))


@pytest.mark.parametrize("name", TWINS)
def test_elementwise_classes_equal_torchs_in_float32(name: str) -> None:
    for words in combinations(name):
        ours, theirs = pairs(torch.float32)
        given_gradients(CLASSES[name](ours, **words), ours, 6)
        given_gradients(TWINS[name](theirs, foreach=False, **words), theirs, 6)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=said(words))


@pytest.mark.parametrize("name", TWINS)
def test_groups_of_other_numbers_equal_torchs(name: str) -> None:
    ours, theirs = pairs()
    groups = [[{"params": p[:2], "lr": 0.01}, {"params": p[2:], "weight_decay": 0.25}] for p in (ours, theirs)]
    given_gradients(CLASSES[name](groups[0], lr=0.1), ours, 4)
    given_gradients(TWINS[name](groups[1], lr=0.1), theirs, 4)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", TWINS)
def test_some_gradients_missing_equals_torchs(name: str) -> None:
    ours, theirs = pairs()
    optimizers = (CLASSES[name](ours), ours), (TWINS[name](theirs), theirs)
    for t in range(6):
        for optimizer, parameters in optimizers:
            for i, p in enumerate(parameters):
                p.grad = None if (t + i) % 3 == 0 else noise(*p.shape, dtype=p.dtype, seed=10 * t + i)
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_nesterov_without_momentum_is_refused_in_torchs_words() -> None:
    for cls in (torch.optim.SGD, schatten.SGD):
        with pytest.raises(ValueError, match="Nesterov momentum requires a momentum and zero dampening"):
            cls([weight(2, 2)], nesterov=True)


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*TWINS, "Muon"])
def test_torchs_arguments_come_first_with_torchs_defaults(name: str) -> None:
    theirs = inspect.signature(getattr(torch.optim, name)).parameters
    ours = inspect.signature(CLASSES[name]).parameters
    positional = [p for p in theirs.values() if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in _SWITCHES]
    assert [p.name for p in positional] == list(ours)[: len(positional)]
    assert {p.name: p.default for p in positional} == {p.name: ours[p.name].default for p in positional}
    assert {p for p in theirs if p not in ("decoupled_weight_decay",)} <= ours.keys()  # AdamW is the class for that


_SWITCHES = ("foreach", "fused", "maximize", "capturable", "differentiable")


@pytest.mark.parametrize("name", [*TWINS, "Muon"])
def test_state_has_torchs_keys_shapes_and_dtypes(name: str) -> None:
    words = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
    made = []
    for cls in (getattr(torch.optim, name), CLASSES[name]):
        w = weight(6, 4)
        optimizer = cls([("w.weight", w)], **words)
        given_gradients(optimizer, [w], 2)
        made.append({key: (t.shape, t.dtype) for key, t in optimizer.state_dict()["state"][0].items()})
    theirs, ours = made
    assert theirs.items() <= ours.items() and ours.keys() - theirs.keys() <= {"step"}  # SGD and Muon need none


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_checkpoint_of_torchs_class_goes_on_in_ours(name: str, momentum: float) -> None:
    words = {"momentum": momentum} if "momentum" in VALUES[name] else {}
    theirs, ours = pairs()
    before = TWINS[name](theirs, lr=0.02, **words)
    given_gradients(before, theirs, 4)
    after = CLASSES[name](ours)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    assert after.param_groups[0]["lr"] == 0.02
    with torch.no_grad():
        for a, b in zip(ours, theirs, strict=True):
            a.copy_(b)
    given_gradients(before, theirs, 4, first=4)
    given_gradients(after, ours, 4, first=4)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", TWINS)
def test_a_checkpoint_of_ours_goes_on_in_torchs_class(name: str) -> None:
    theirs, ours = pairs()
    before = CLASSES[name](ours, lr=0.02)
    given_gradients(before, ours, 4)
    after = TWINS[name](theirs)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    with torch.no_grad():
        for a, b in zip(theirs, ours, strict=True):
            a.copy_(b)
    given_gradients(before, ours, 4, first=4)
    given_gradients(after, theirs, 4, first=4)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


# --- Muon -------------------------------------------------------------------------------------------------------------

MUON: dict[str, list[Any]] = {
    "weight_decay": [0.0, 0.1], "momentum": [0.95, 0.0], "nesterov": [True, False], "adjust_lr_fn": [None, "original", "match_rms_adamw"],
}  # fmt: skip


def muon_pair(dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    return tuple([weight(*s, dtype=dtype) for s in ((12, 8), (8, 12), (6, 6))] for _ in range(2))  # type: ignore[return-value]


@pytest.mark.filterwarnings("ignore:parameters without names")
def test_muon_equals_torchs_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch iterates in bfloat16; where it is kept from rounding, the numbers are ours."""
    monkeypatch.setattr(Tensor, "bfloat16", lambda self: self.clone())
    for chosen in itertools.product(*MUON.values()):
        words = dict(zip(MUON, chosen, strict=True))
        ours, theirs = muon_pair(torch.float64)
        given_gradients(schatten.Muon(ours, lr=0.1, options={"polar.compute": "float64"}, **words), ours, 4)
        given_gradients(torch.optim.Muon(theirs, lr=0.1, **words), theirs, 4)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, msg=said(words))


@pytest.mark.filterwarnings("ignore:parameters without names")
def test_muon_equals_torchs_up_to_the_rounding_of_bfloat16() -> None:
    for chosen in itertools.product(*MUON.values()):
        words = dict(zip(MUON, chosen, strict=True))
        ours, theirs = muon_pair(torch.float32)
        given_gradients(schatten.Muon(ours, **words), ours, 4)
        given_gradients(torch.optim.Muon(theirs, **words), theirs, 4)
        assert distance(ours, theirs) < 1e-4, words


@pytest.mark.filterwarnings("ignore:parameters without names")
def test_muon_takes_torchs_arguments_by_position_and_by_name() -> None:
    words = {"lr": 0.02, "weight_decay": 0.05, "momentum": 0.9, "nesterov": False, "ns_coefficients": (2.0, -1.5, 0.5), "eps": 1e-6,
             "ns_steps": 4, "adjust_lr_fn": "match_rms_adamw"}  # fmt: skip
    results = []
    for cls in (torch.optim.Muon, schatten.Muon):
        for by_name in (False, True):
            w = weight(12, 8)
            optimizer = cls([w], **words) if by_name else cls([w], *words.values())  # type: ignore[arg-type]
            assert words.items() <= optimizer.param_groups[0].items()
            given_gradients(optimizer, [w], 3)
            results.append(values([w]))
    assert distance(results[2], results[3]) == 0 and distance(results[2], results[0]) < 1e-3


def test_muon_takes_what_torchs_refuses() -> None:
    """Convolutions as matrices of their filters, and whole models: vectors go to AdamW."""
    with pytest.raises(ValueError, match="Muon only supports 2D parameters"):
        torch.optim.Muon([weight(4, 3, 2, 2)])
    model = small()
    optimizer = schatten.Muon(model, lr=0.02)
    start = float(loss_of(model))
    train(optimizer, model, 10)
    assert float(loss_of(model)) < start
