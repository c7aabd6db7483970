"""torch's schedulers, weight averaging, gradient scaling and autocast around every class."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from contract import CLASSES, Class, given_gradients, loss_of, noise, same, small, step, train, weight
from torch import nn
from torch.optim import lr_scheduler as S
from torch.optim.swa_utils import SWALR, AveragedModel

import schatten

pytestmark = pytest.mark.filterwarnings("ignore:parameters without names")

Scheduler = Callable[[torch.optim.Optimizer], Any]
SCHEDULERS: dict[str, Scheduler] = {
    "LambdaLR": lambda o: S.LambdaLR(o, lambda t: 1 / (t + 1)),
    "MultiplicativeLR": lambda o: S.MultiplicativeLR(o, lambda _: 0.5),
    "StepLR": lambda o: S.StepLR(o, 2, 0.5),
    "MultiStepLR": lambda o: S.MultiStepLR(o, [1, 3], 0.5),
    "ConstantLR": lambda o: S.ConstantLR(o, 0.5, 2),
    "LinearLR": lambda o: S.LinearLR(o, 0.25, 1.0, 4),
    "ExponentialLR": lambda o: S.ExponentialLR(o, 0.5),
    "PolynomialLR": lambda o: S.PolynomialLR(o, 6, 2.0),
    "CosineAnnealingLR": lambda o: S.CosineAnnealingLR(o, 6),
    "CosineAnnealingWarmRestarts": lambda o: S.CosineAnnealingWarmRestarts(o, 2),
    "CyclicLR": lambda o: S.CyclicLR(o, 0.01, 0.1, 2, cycle_momentum=False),
    "OneCycleLR": lambda o: S.OneCycleLR(o, 0.1, total_steps=8, cycle_momentum=False),
    "SequentialLR": lambda o: S.SequentialLR(o, [S.ConstantLR(o, 0.1), S.ExponentialLR(o, 0.5)], [2]),
    "ChainedScheduler": lambda o: S.ChainedScheduler([S.ConstantLR(o, 0.1), S.ExponentialLR(o, 0.5)], optimizer=o),
    "SWALR": lambda o: SWALR(o, 0.25, anneal_epochs=3),
}


def rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("tensor", [False, True], ids=["float", "tensor"])
def test_every_scheduler_moves_every_class_as_torchs(name: str, tensor: bool) -> None:
    """The rates are those of torch's SGD, and each step is taken with the rate of the moment."""
    lr: Any = torch.tensor(0.5) if tensor else 0.5
    for cls in CLASSES.values():
        w, v, u = weight(3, 4), weight(3, 4), weight(3, 4)
        optimizer, by_hand = cls([w], lr=lr.clone() if tensor else lr), cls([v], lr=0.5)
        torchs = torch.optim.SGD([u], lr=lr.clone() if tensor else lr, momentum=0.9)
        scheduler, reference = SCHEDULERS[name](optimizer), SCHEDULERS[name](torchs)
        for t in range(5):
            assert rates(optimizer) == rates(torchs), cls
            by_hand.param_groups[0]["lr"] = float(optimizer.param_groups[0]["lr"])
            given_gradients(optimizer, [w], 1, first=t)
            given_gradients(by_hand, [v], 1, first=t)
            given_gradients(torchs, [u], 1, first=t)
            scheduler.step()
            reference.step()
        assert torch.equal(w, v), cls
        assert isinstance(optimizer.param_groups[0]["lr"], torch.Tensor) == tensor


def test_every_group_is_scheduled(routed: Class) -> None:
    model = small()
    optimizer = routed(model, lr=0.5, auxiliary={"lr": 0.25})
    scheduler = S.ExponentialLR(optimizer, 0.5)
    train(optimizer, model, 1)
    scheduler.step()
    assert rates(optimizer) == [0.25, 0.125] and [g["initial_lr"] for g in optimizer.param_groups] == [0.5, 0.25]


def test_reduce_on_plateau(cls: Class) -> None:
    model = small()
    optimizer = cls(model, lr=0.5)
    scheduler = S.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    for _ in range(3):
        train(optimizer, model, 1)
        scheduler.step(1.0)
    assert optimizer.param_groups[0]["lr"] == 0.125


@pytest.mark.parametrize("kind", ["OneCycleLR", "CyclicLR"])
def test_cycled_momentum_is_the_momentum_of_the_step(cls: Class, kind: str) -> None:
    """Written to `momentum` or `betas`, whichever the class has: never both."""
    w, v = weight(3, 4), weight(3, 4)
    optimizer, by_hand = cls([w], lr=0.1), cls([v], lr=0.1)
    keys = {"momentum", "betas"} & optimizer.defaults.keys()
    assert len(keys) <= 1
    make: Scheduler = (lambda o: S.OneCycleLR(o, 0.1, total_steps=8)) if kind == "OneCycleLR" else (lambda o: S.CyclicLR(o, 0.01, 0.1, 2))
    if not keys:
        with pytest.raises(ValueError, match="optimizer must support momentum or beta1"):
            make(optimizer)
        return
    (key,) = keys
    scheduler, seen = make(optimizer), set()
    for t in range(4):
        group = optimizer.param_groups[0]
        by_hand.param_groups[0].update({"lr": group["lr"], key: group[key]})
        seen.add(group[key] if key == "momentum" else group[key][0])
        given_gradients(optimizer, [w], 1, first=t)
        given_gradients(by_hand, [v], 1, first=t)
        scheduler.step()
    assert len(seen) > 1 and torch.equal(w, v)


def test_a_scheduled_run_resumes(cls: Class) -> None:
    def made(model: nn.Module) -> tuple[schatten.Optimizer, Any]:
        optimizer = cls(model, lr=0.1)
        return optimizer, S.CosineAnnealingLR(optimizer, 6)

    def run(model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: Any, first: int, last: int) -> None:
        for t in range(first, last):
            train(optimizer, model, 1, first=t)
            scheduler.step()

    straight, model = small(), small()
    run(straight, *made(straight), 0, 5)
    optimizer, scheduler = made(model)
    run(model, optimizer, scheduler, 0, 3)
    again, other_scheduler = made(model)
    again.load_state_dict(optimizer.state_dict())
    other_scheduler.load_state_dict(scheduler.state_dict())
    run(model, again, other_scheduler, 3, 5)
    assert same(straight.parameters(), model.parameters())


def test_the_right_order_is_watched(cls: Class) -> None:
    """torch warns of a scheduler that steps before the optimizer, by what it put in place of `step`."""
    model = small()
    optimizer = cls(model)
    scheduler = S.ExponentialLR(optimizer, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(optimizer, model, 1)
        scheduler.step()
    other = S.ExponentialLR(cls(model), 0.5)
    with pytest.warns(UserWarning, match=r"lr_scheduler.step\(\)` before `optimizer.step\(\)"):
        other.step()


def test_averaged_weights(cls: Class) -> None:
    model = small()
    optimizer, averaged = cls(model), AveragedModel(model)
    seen = []
    for t in range(3):
        train(optimizer, model, 1, first=t)
        averaged.update_parameters(model)
        seen.append(model[1].weight.detach().clone())
    torch.testing.assert_close(next(averaged.get_submodule("module.1").parameters()).detach(), torch.stack(seen).mean(0))


# --- scaled gradients -------------------------------------------------------------------------------------------------


def scaler() -> Any:
    return torch.amp.GradScaler("cpu", init_scale=1024.0)


def test_a_grad_scaler_unscales_and_steps(cls: Class) -> None:
    model, plain = small(), small()
    optimizer, reference, scale = cls(model), cls(plain), scaler()
    for t in range(3):
        optimizer.zero_grad()
        scale.scale(loss_of(model, t)).backward()
        if cls.__name__ == "MuonClip":
            optimizer.observe("largest_logits", 0, torch.tensor([1.0, 2.0]))
        scale.step(optimizer)
        scale.update()
    train(reference, plain, 3)
    assert same(model.parameters(), plain.parameters())  # a power of two is no rounding
    assert not hasattr(optimizer, "grad_scale") and not hasattr(optimizer, "found_inf")


def test_a_grad_scaler_skips_what_is_not_finite(cls: Class) -> None:
    model = small()
    optimizer, scale = cls(model), scaler()
    train(optimizer, model, 2)
    before, steps = [p.detach().clone() for p in model.parameters()], float(optimizer.state[model[1].weight]["step"])
    scale.scale(loss_of(model)).backward()
    model[1].weight.grad.fill_(float("inf"))
    scale.unscale_(optimizer)
    scale.step(optimizer)
    scale.update()
    assert same(before, model.parameters()) and float(optimizer.state[model[1].weight]["step"]) == steps
    assert scale.get_scale() == 512.0


def test_a_grad_scaler_refuses_closures_and_half_gradients(cls: Class) -> None:
    w = weight(3, 4, dtype=torch.float16)
    optimizer, scale = cls([w]), scaler()
    scale.scale(w.sum()).backward()
    with pytest.raises(ValueError, match="Attempting to unscale FP16 gradients"):
        scale.step(optimizer)
    with pytest.raises(RuntimeError, match="Closure use is not currently supported if GradScaler is enabled"):
        scale.step(optimizer, closure=lambda: None)


def test_autocast_does_not_reach_the_step(cls: Class) -> None:
    inside, outside = weight(6, 4), weight(6, 4)
    first, second = cls([("w.weight", inside)]), cls([("w.weight", outside)])
    for t in range(3):
        inside.grad, outside.grad = noise(6, 4, seed=t), noise(6, 4, seed=t)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            step(first)
        step(second)
    assert torch.equal(inside, outside)
    model = small()
    optimizer = cls(model)
    for t in range(2):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, t)
        loss.backward()
        step(optimizer)
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in model.parameters())
