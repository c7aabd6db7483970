"""One step: closures, hooks, what is skipped, what it leaves alone, and what it must not hide."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
import torch
from contract import CLASSES, Class, given_gradients, loss_of, noise, same, small, step, train, values, weight
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

import schatten

pytestmark = pytest.mark.filterwarnings("ignore:parameters without names")

# --- closures and hooks -----------------------------------------------------------------------------------------------


def test_a_closure_runs_once_with_gradients_on_and_its_loss_comes_back(cls: Class) -> None:
    model, other = small(), small()
    optimizer, reference = cls(model), cls(other)
    losses: list[Any] = []

    def closure() -> Any:
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        losses.append(loss_of(model))
        losses[-1].backward()
        return losses[-1]

    with torch.no_grad():
        assert step(optimizer, closure) is losses[0] and len(losses) == 1
    train(reference, other, 1)
    assert same(model.parameters(), other.parameters())
    assert step(optimizer) is None
    assert not any(p.grad_fn for p in model.parameters())


def test_step_hooks_run_in_torchs_order(cls: Class) -> None:
    model = small()
    optimizer = cls(model)
    train(optimizer, model, 1)
    seen: list[str] = []
    handles = [
        register_optimizer_step_pre_hook(lambda *_: seen.append("global pre")),
        register_optimizer_step_post_hook(lambda *_: seen.append("global post")),
        optimizer.register_step_pre_hook(lambda *_: seen.append(f"pre {_moved()}")),
        optimizer.register_step_post_hook(lambda *_: seen.append(f"post {_moved()}")),
    ]
    before = values(model.parameters())

    def _moved() -> bool:
        return not same(before, model.parameters())

    train(optimizer, model, 1)
    assert seen == ["global pre", "pre False", "post True", "global post"]
    for handle in handles:
        handle.remove()
    train(optimizer, model, 1)
    assert len(seen) == 4


def test_a_pre_hook_replaces_the_arguments(cls: Class) -> None:
    optimizer = cls(weight_list := [weight(3, 4)])
    weight_list[0].grad = noise(3, 4)

    def hook(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        assert self is optimizer and args == (optimizer,) and kwargs == {}
        return (*args, lambda: "from the hook"), kwargs

    optimizer.register_step_pre_hook(hook)
    assert step(optimizer) == "from the hook"


def test_state_that_a_pre_hook_makes_is_used() -> None:
    w = weight(3, 4)
    optimizer = schatten.AdamW([w])

    def hook(self: torch.optim.Optimizer, *_: Any) -> None:
        if not self.state[w]:
            self.state[w] = {"step": torch.tensor(7.0), "exp_avg": torch.ones(3, 4, dtype=torch.bfloat16), "exp_avg_sq": torch.ones(3, 4)}

    optimizer.register_step_pre_hook(hook)
    w.grad = torch.zeros(3, 4)
    optimizer.step()
    assert float(optimizer.state[w]["step"]) == 8
    torch.testing.assert_close(optimizer.state[w]["exp_avg"], torch.full((3, 4), 0.9))


def test_the_profiler_shows_the_step(cls: Class) -> None:
    model = small()
    optimizer = cls(model)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        train(optimizer, model, 1)
    names = {event.name for event in profile.events() or ()}
    assert f"Optimizer.step#{cls.__name__}.step" in names and "schatten::step" in names
    assert f"Optimizer.zero_grad#{cls.__name__}.zero_grad" in names


# --- what is skipped --------------------------------------------------------------------------------------------------


def test_zero_grad_forgets_or_clears(cls: Class) -> None:
    model = small()
    optimizer = cls(model)
    loss_of(model).backward()
    optimizer.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_no_gradient_means_skipped_and_a_zero_one_does_not(cls: Class) -> None:
    skipped, decayed = weight(3, 4), weight(3, 4)
    options = {"weight_decay": 0.5} if "weight_decay" in cls([skipped]).defaults else {}
    optimizer = cls([("skipped", skipped), ("decayed", decayed)], lr=0.5, **options)
    for _ in range(2):
        decayed.grad = torch.zeros(3, 4)
        step(optimizer)
    assert torch.equal(skipped, weight(3, 4)) and skipped not in optimizer.state
    assert not options or not torch.equal(decayed, weight(3, 4))
    assert float(optimizer.state[decayed]["step"]) == 2
    decayed.grad, skipped.grad = None, noise(3, 4)
    kept = decayed.detach().clone()
    step(optimizer)
    assert torch.equal(decayed, kept) and float(optimizer.state[skipped]["step"]) == 1


def test_zero_gradients_without_decay_change_nothing(cls: Class) -> None:
    w, v = weight(3, 4), weight(4)
    auxiliary = {"auxiliary": {"weight_decay": 0.0}} if len(cls(small()).param_groups) > 1 else {}
    options = {"weight_decay": 1e-30 if cls.__name__ == "AlphaDecay" else 0.0}  # whose decay has to be positive
    optimizer = cls([("w.weight", w), ("w.bias", v)], lr=0.5, **options, **auxiliary)
    for _ in range(3):
        w.grad, v.grad = torch.zeros(3, 4), torch.zeros(4)
        step(optimizer)
    assert torch.equal(w, weight(3, 4)) and torch.equal(v, weight(4))


def test_a_step_without_any_gradient_is_none(cls: Class) -> None:
    model = small()
    before = values(model.parameters())
    optimizer = cls(model)
    assert optimizer.step() is None and same(before, model.parameters()) and not optimizer.state


# --- what it must not hide --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_surfaces(cls: Class, bad: float) -> None:
    """In the weights, or as an error. A step that quietly did nothing would hide a broken run."""
    w = weight(6, 5)
    optimizer = cls([("w.weight", w)])
    given_gradients(optimizer, [w], 3)
    before = w.detach().clone()
    w.grad = noise(6, 5)
    w.grad[2, 3] = bad
    try:
        step(optimizer)
        moved = not torch.equal(w, before)
        given_gradients(optimizer, [w], 1, first=5)  # what gets into the state shows a step later
    except (RuntimeError, ValueError) as error:
        assert "finite" in str(error) or "nan" in str(error).lower(), error
    else:  # an infinite entry has a sign, so optimizers that go by signs make a step of it
        by_sign = bad == float("inf") and cls.__name__ in ("Lion", "CLion", "SignMuon", "Sophia")
        assert not torch.isfinite(w).all() or (by_sign and moved)


def test_backward_through_weights_that_were_stepped_is_refused(cls: Class) -> None:
    w, v = weight(3, 4), weight(4)
    optimizer = cls([("w.weight", w), ("w.bias", v)])
    given_gradients(optimizer, [w, v], 2)
    state = [t for p in (w, v) for t in optimizer.state[p].values() if t.numel()]
    versions = [t._version for t in (w, v, *state)]
    losses: list[Any] = [w.square().sum(), v.square().sum()]
    given_gradients(optimizer, [w, v], 1, first=2)
    assert all(t._version > before for t, before in zip((w, v, *state), versions, strict=True))
    for loss in losses:
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


# --- what it leaves alone ---------------------------------------------------------------------------------------------


def test_torchs_random_numbers_are_left_alone(cls: Class) -> None:
    model = small()
    optimizer = cls(model)
    before = torch.get_rng_state()
    train(optimizer, model, 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_gradients_are_left_alone(cls: Class) -> None:
    for maximize in (False, True):
        model = small()
        optimizer = cls(model, maximize=maximize)
        train(optimizer, model, 2)
        before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        step(optimizer)
        assert same(before, [p.grad for p in model.parameters() if p.grad is not None])


def test_grad_mode_and_threads_are_left_alone(cls: Class) -> None:
    threads = torch.get_num_threads()
    model = small()
    train(cls(model), model, 1)
    assert torch.is_grad_enabled() and torch.get_num_threads() == threads


def live_tensors() -> int:
    gc.collect()
    return sum(1 for each in gc.get_objects() if type(each) in (Tensor, nn.Parameter))


@pytest.mark.filterwarnings("ignore:Sophia")
def test_nothing_grows_over_200_steps() -> None:
    pairs = [[weight(3, 4), weight(4)] for _ in CLASSES]
    optimizers = [cls([("w.weight", w), ("w.bias", v)]) for cls, (w, v) in zip(CLASSES.values(), pairs, strict=True)]
    for optimizer, parameters in zip(optimizers, pairs, strict=True):
        given_gradients(optimizer, parameters, 3)
    before = live_tensors()
    for optimizer, parameters in zip(optimizers, pairs, strict=True):
        given_gradients(optimizer, parameters, 200, first=3)
    assert live_tensors() == before
    for optimizer in optimizers:
        assert len(optimizer._prepared) == len(optimizer.param_groups) and len(optimizer._infos) == 2 and not optimizer._observed


def test_everything_goes_with_the_optimizer() -> None:
    """No cache, neither Python's nor the library's, keeps a tensor."""
    gone: list[tuple[str, weakref.ref[Any]]] = []
    for name, cls in CLASSES.items():
        model = small()
        optimizer = cls(model)
        train(optimizer, model, 2)
        tensors: list[Tensor] = [*model.parameters(), *(t for s in optimizer.state.values() for t in s.values())]
        gone += [(name, weakref.ref(each)) for each in (*tensors, optimizer)]
        del model, optimizer, tensors
    gc.collect()
    assert {name for name, ref in gone if ref() is not None} == set()


# --- more than one ----------------------------------------------------------------------------------------------------


def test_a_module_used_by_two_optimizers(cls: Class) -> None:
    """They share the weights and nothing else: the result is that of taking turns, from either's own state."""
    model = small()
    named = list(model.named_parameters())
    optimizers = cls(named), schatten.AdamW(named, lr=1e-3)
    for t in range(3):
        for optimizer in optimizers:
            train(optimizer, model, 1, first=t)
    assert all(float(o.state[p]["step"]) == 3 for o in optimizers for p in model.parameters())
    first, second = (optimizers[i].state[model[1].weight] for i in (0, 1))
    assert not {t.data_ptr() for t in first.values()} & {t.data_ptr() for t in second.values()}


def test_halves_of_a_module_go_to_two_optimizers_of_one_class(cls: Class) -> None:
    """As if each were alone: no draw or cache of one depends on the other."""
    model, alone = small(), small()
    for m in (model, alone):
        for p in m.parameters():
            p.grad = noise(*p.shape)
    first, second = cls(model[1].named_parameters()), cls(model[4].named_parameters())
    reference = cls(alone[1].named_parameters())
    for _ in range(3):
        step(first)
        step(second)
        step(reference)
    assert same(model[1].parameters(), alone[1].parameters())


def test_optimizers_in_threads_do_not_meet(cls: Class) -> None:
    def run(model: nn.Module) -> None:
        torch.set_num_threads(1)
        train(cls(model), model, 5)

    alone, together = [[small(seed=seed) for seed in range(2)] for _ in range(2)]
    for model in alone:
        run(model)
    threads = [threading.Thread(target=run, args=(model,)) for model in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(together, alone, strict=True):
        assert same(a.parameters(), b.parameters())


def test_accumulated_gradients_are_those_of_a_large_batch() -> None:
    """In float64: the same sum in another order, so the same step to rounding. (Not SOAP's, which divides rounding by rounding in
    directions that have no gradient.)"""
    for name in ("SGD", "AdamW", "Muon", "HTMuon", "GaLore"):
        models = small(torch.float64), small(torch.float64)
        optimizers = [CLASSES[name](m) for m in models]
        for t in range(3):
            batch: Any = torch.randint(7, (8,), generator=torch.Generator().manual_seed(t))
            for optimizer in optimizers:
                optimizer.zero_grad()
            models[0](batch).square().mean().backward()
            for part in batch.split(2):
                (models[1](part).square().mean() / 4).backward()
            for optimizer in optimizers:
                optimizer.step()
        for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9, msg=name)
