"""SAM, the cautious mask, Sophia's Hessian and MuonClip's observations: what goes around the classes."""

from __future__ import annotations

import copy
import io
import json
import math
import os
import pathlib
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from contract import given_gradients, loss_of, noise, same, small, train, values, weight
from safetensors import safe_open
from torch import Tensor, nn

import schatten

GOLDEN = pathlib.Path(os.environ["SCHATTEN_SOURCE_DIR"]) / "tests" / "golden" / "optimizers"


class Recording:
    """One recording of an author's code: gradients that were given, weights that came out."""

    def __init__(self, name: str) -> None:
        with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
            self.meta = file.metadata()
            self.tensors = {key: file.get_tensor(key).double() for key in file.keys()}  # narrower where that loses nothing
        self.hyper = json.loads(self.meta["hyper"])
        self.names = list(json.loads(self.meta["params"]))
        self.steps = int(self.meta["steps"])
        self.params = [(name, nn.Parameter(self.tensors[f"{name}/param.init"].clone())) for name in self.names]

    def give(self, what: str, t: int) -> None:
        for name, p in self.params:
            p.grad = self.tensors[f"{name}/{what}.{t:03d}"].clone()

    def expect(self, what: str, t: int) -> None:
        for name, p in self.params:
            torch.testing.assert_close(p.detach(), self.tensors[f"{name}/{what}.{t:03d}"], rtol=1e-11, atol=1e-13)


# --- SAM --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [schatten.SGD, torch.optim.SGD])
@pytest.mark.parametrize("name", ["sam_sgd", "sam_adaptive_sgd"])
def test_sam_is_the_authors(name: str, base: type[torch.optim.Optimizer]) -> None:
    recorded = Recording(name)
    h = recorded.hyper
    optimizer = schatten.SAM(recorded.params, base, rho=h["rho"], adaptive=h["adaptive"], lr=1.0, momentum=h["momentum"],
                             weight_decay=h["weight_decay"])  # fmt: skip
    for t in range(recorded.steps):
        optimizer.param_groups[0]["lr"] = float(recorded.tensors["lr"][t])
        recorded.give("grad", t)
        optimizer.first_step(zero_grad=True)
        recorded.expect("perturbed", t)
        recorded.give("grad2", t)
        optimizer.second_step(zero_grad=True)
        recorded.expect("param", t)
        assert all(p.grad is None for _, p in recorded.params)


def closure_of(model: nn.Module, t: int = 0) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        loss = loss_of(model, t)
        loss.backward()
        return loss

    return closure


def sam(model: nn.Module, **options: Any) -> schatten.SAM:
    return schatten.SAM(model, schatten.Muon, **{"lr": 0.05, "rho": 0.1, **options})


def test_a_closure_does_both_steps_and_its_first_loss_comes_back() -> None:
    one, other = small(), small()
    with_closure, by_hand = sam(one), sam(other)
    for t in range(3):
        expected = loss_of(other, t)
        expected.backward()
        by_hand.first_step(zero_grad=True)
        loss_of(other, t).backward()
        by_hand.second_step(zero_grad=True)
        assert torch.equal(with_closure.step(closure_of(one, t)), expected)
    assert same(one.parameters(), other.parameters())
    plain = small()
    train(schatten.Muon(plain, lr=0.05), plain)
    assert not same(one.parameters(), plain.parameters())


def test_gradients_that_are_there_do_not_count() -> None:
    models = [small(), small()]
    for model, before in zip(models, (True, False), strict=True):
        if before:  # as users of davda54/sam write it, here with those of another batch
            loss_of(model, 5).backward()
        schatten.SAM(model, schatten.SGD, rho=0.1, lr=0.05).step(closure_of(model))
    assert same(models[0].parameters(), models[1].parameters())


@pytest.mark.parametrize("fails_at", [1, 2])
def test_an_exception_in_the_closure_loses_nothing(fails_at: int) -> None:
    model, calls = small(), 0
    optimizer = sam(model)
    optimizer.step(closure_of(model))
    before, state = values(model.parameters()), copy.deepcopy(optimizer.state_dict()["state"])

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError("the data ran out")
        return closure_of(model, 1)()

    with pytest.raises(OSError, match="ran out"):
        optimizer.step(closure)
    assert calls == fails_at and same(before, model.parameters())
    now = optimizer.state_dict()["state"]
    assert all(torch.equal(state[i][k], now[i][k]) for i in state for k in state[i])
    optimizer.step(closure_of(model, 1))


def test_a_missing_second_gradient_is_said_with_the_weights_at_home() -> None:
    model = small()
    optimizer, before = sam(model), values(model.parameters())
    loss_of(model).backward()
    optimizer.first_step(zero_grad=True)
    assert not same(before, model.parameters())
    with pytest.raises(RuntimeError, match="expected gradients at W \\+ e, got none"):
        optimizer.second_step()
    assert same(before, model.parameters()) and not optimizer.state


def test_steps_out_of_order_are_said() -> None:
    model = small()
    optimizer = sam(model)
    with pytest.raises(RuntimeError, match="expected gradients, got none"):
        optimizer.first_step()
    with pytest.raises(RuntimeError, match="got them at home"):
        optimizer.second_step()
    with pytest.raises(RuntimeError, match="expected a closure"):
        optimizer.step()
    loss_of(model).backward()
    optimizer.first_step()
    with pytest.raises(RuntimeError, match="got them at W"):
        optimizer.first_step()


def test_sam_refuses_what_is_no_radius_and_no_optimizer() -> None:
    for rho in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="expected rho finite"):
            sam(small(), rho=rho)
    with pytest.raises(TypeError, match="expected base to be an optimizer class"):
        schatten.SAM(small(), "muon", lr=0.1)  # type: ignore[arg-type]


def test_every_group_may_have_its_radius_and_schedulers_reach_the_base() -> None:
    still, moving = weight(4, 4, seed=1), weight(4, 4, seed=2)
    optimizer = schatten.SAM(
        [{"params": [still], "rho": 0.0}, {"params": [moving], "adaptive": True}], torch.optim.SGD, rho=2.0, lr=0.5, momentum=0.9
    )
    assert [(g["rho"], g["adaptive"]) for g in optimizer.param_groups] == [(0.0, False), (2.0, True)]
    still.grad, moving.grad = noise(4, 4, seed=3), noise(4, 4, seed=4)
    before = values([still, moving])
    optimizer.first_step()
    assert same(before[:1], [still]) and not same(before[1:], [moving])
    optimizer.restore()
    assert same(before, [still, moving])
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=10)
    assert optimizer.base.param_groups is optimizer.param_groups
    assert optimizer.base.param_groups[0]["lr"] == scheduler.get_last_lr()[0] != 0.5
    optimizer.add_param_group({"params": [weight(2, 2)]})
    assert len(optimizer.base.param_groups) == 3 and optimizer.param_groups[2]["rho"] == 2.0


@pytest.mark.parametrize("how", ["state_dict", "pickle", "deepcopy"])
def test_sam_goes_on_from_what_was_saved(how: str) -> None:
    model = small()
    optimizer = sam(model)
    for t in range(2):
        optimizer.step(closure_of(model, t))
    if how == "state_dict":
        saved = io.BytesIO()
        torch.save((model.state_dict(), optimizer.state_dict()), saved)
        saved.seek(0)
        weights, state = torch.load(saved, weights_only=True)
        other = small(seed=5)
        other.load_state_dict(weights)
        again = sam(other, lr=9.0, rho=9.0)
        again.load_state_dict(state)
    elif how == "pickle":
        saved = io.BytesIO()
        torch.save((model, optimizer), saved)
        saved.seek(0)
        other, again = torch.load(saved, weights_only=False)
    else:
        other, again = copy.deepcopy((model, optimizer))
    assert again.param_groups is again.base.param_groups and again.state is again.base.state
    for o, m in ((optimizer, model), (again, other)):
        for t in range(2, 4):
            o.step(closure_of(m, t))
    assert same(model.parameters(), other.parameters())


def test_hooks_of_sam_and_of_the_base_are_called() -> None:
    model, called = small(), []
    optimizer = sam(model)
    optimizer.register_step_pre_hook(lambda *_: called.append("before"))
    optimizer.base.register_step_post_hook(lambda *_: called.append("base"))
    optimizer.register_step_post_hook(lambda *_: called.append("after"))
    optimizer.register_load_state_dict_post_hook(lambda _: called.append("loaded"))
    optimizer.step(closure_of(model))
    saved = optimizer.state_dict()
    optimizer.register_load_state_dict_pre_hook(
        lambda _, given: {**given, "param_groups": [{**g, "lr": 7.0} for g in given["param_groups"]]}
    )
    optimizer.load_state_dict(saved)
    assert called == ["before", "base", "after", "loaded"] and optimizer.base.param_groups[0]["lr"] == 7.0


# --- the cautious mask ------------------------------------------------------------------------------------------------


def test_cautious_adamw_is_the_published_one() -> None:
    one, other = small(), small()
    masked = schatten.Cautious(one, schatten.AdamW, lr=0.01, eps=1e-6, weight_decay=0.0)
    assert type(masked) is schatten.AdamW
    train(masked, one)
    train(schatten.CAdamW(other, lr=0.01, eps=1e-6), other)
    assert same(one.parameters(), other.parameters())


@pytest.mark.parametrize("base", [schatten.HTMuon, schatten.SOAP, schatten.Lion])
def test_the_mask_lets_no_entry_go_uphill(base: type[schatten.Optimizer]) -> None:
    model, plain, uphill = small(), small(), 0
    no_decay: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.0}
    if base is schatten.HTMuon:
        no_decay["auxiliary"] = {"weight_decay": 0.0}
    optimizer, without = schatten.Cautious(model, base, **no_decay), base(plain, **no_decay)
    for t in range(6):
        before = values(model.parameters())
        given_gradients(optimizer, model.parameters(), 1, t)
        for p, was in zip(model.parameters(), before, strict=True):
            assert p.grad is not None and not ((p.detach() - was) * p.grad > 0).any()
        before = values(plain.parameters())
        given_gradients(without, plain.parameters(), 1, t)
        uphill += sum(int(((p.detach() - b) * p.grad > 0).sum()) for p, b in zip(plain.parameters(), before, strict=True))
    assert uphill > 0  # the mask had something to do


def test_the_mask_comes_beside_other_options() -> None:
    optimizer = schatten.Cautious(small(), schatten.Muon, lr=0.1, options={"decay": "after"}, auxiliary={"lr": 0.5})
    assert optimizer.param_groups[0]["options"] == {"decay": "after", "cautious": True}
    assert optimizer.param_groups[1]["options"] == {"cautious": True} and optimizer.param_groups[1]["lr"] == 0.5
    with pytest.raises(TypeError, match="expected base to be a class of schatten"):
        schatten.Cautious(small(), torch.optim.SGD)  # type: ignore[type-var]


# --- Sophia -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sophia_hessian", "sophia_hessian_const"])
def test_sophia_is_the_authors(name: str) -> None:
    recorded = Recording(name)
    h = recorded.hyper
    optimizer = schatten.Sophia(
        recorded.params, lr=1.0, betas=tuple(h["betas"]), rho=h["rho"], bs=float(h["bs"]), weight_decay=h["weight_decay"]
    )
    for t in range(recorded.steps):
        optimizer.param_groups[0]["lr"] = float(recorded.tensors["lr"][t])
        recorded.give("grad", t)
        optimizer.step()
        recorded.expect("param", t)
        if t % h["hessian_every"] == 0:
            before = values(p for _, p in recorded.params)
            recorded.give("hess_grad", t)
            optimizer.update_hessian()
            assert same(before, [p for _, p in recorded.params])
    for _, p in recorded.params:
        assert float(optimizer.state[p]["step"]) == recorded.steps


def test_sophia_trains_on_sampled_labels() -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    x, y = torch.randn(64, 6), torch.randint(3, (64,))
    optimizer = schatten.Sophia(model, lr=0.01, bs=64.0, weight_decay=0.0)
    losses = []
    for t in range(40):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if t % 10 == 0:
            logits = model(x)
            F.cross_entropy(logits, schatten.sample_labels(logits)).backward()
            optimizer.update_hessian()
            optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]
    assert all((s["hessian"] >= 0).all() and s["hessian"].any() for s in optimizer.state.values())


def test_sampled_labels_follow_the_models_probabilities() -> None:
    logits = torch.tensor([0.0, math.log(3.0), -math.inf]).expand(2, 4000, 3).requires_grad_()
    labels = schatten.sample_labels(logits, torch.Generator().manual_seed(1))
    assert labels.shape == (2, 4000) and labels.dtype == torch.long and not labels.requires_grad
    assert abs(float((labels == 1).double().mean()) - 0.75) < 0.02 and not (labels == 2).any()
    assert torch.equal(labels, schatten.sample_labels(logits, torch.Generator().manual_seed(1)))
    with pytest.raises(ValueError, match="floating-point logits"):
        schatten.sample_labels(torch.zeros(2, 3, dtype=torch.long))


def test_a_hessian_that_never_comes_is_said_once() -> None:
    model = small()
    optimizer = schatten.Sophia(model, lr=1e-3, probe_every=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(optimizer, model, 4)
    with pytest.warns(UserWarning, match="4 steps and no Hessian"):
        train(optimizer, model, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(optimizer, model, 3)
        other = small()
        probed = schatten.Sophia(other, lr=1e-3, probe_every=2)
        train(probed, other, 3)
        probed.update_hessian()
        train(probed, other, 3)


def test_update_hessian_says_what_it_misses() -> None:
    model = small()
    with pytest.raises(RuntimeError, match=r"Muon.update_hessian: expected a group with a Hessian \(Sophia\)"):
        schatten.Muon(model).update_hessian()
    with pytest.raises(RuntimeError, match="expected gradients of a loss on sampled labels"):
        schatten.Sophia(model).update_hessian()


def test_a_composed_hessian_is_updated_too() -> None:
    model = small()
    optimizer = schatten.Optimizer(model, schatten.compose(schatten.stages.scale_by_sophia()), lr=1e-3)
    train(optimizer, model, 1)
    optimizer.update_hessian()
    assert all(s["hessian"].any() for s in optimizer.state.values())


# --- MuonClip ---------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, size = heads, kv_heads, width // heads
        self.q_proj, self.k_proj = nn.Linear(width, width, bias=False), nn.Linear(width, kv_heads * size, bias=False)
        self.v_proj, self.o_proj = nn.Linear(width, kv_heads * size, bias=False), nn.Linear(width, width, bias=False)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(p(x).unflatten(-1, (-1, self.q_proj.weight.shape[0] // self.heads)).transpose(-3, -2)
                     for p in (self.q_proj, self.k_proj, self.v_proj))  # type: ignore[return-value]  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        out: Tensor = self.o_proj(mixed.transpose(-3, -2).flatten(-2))
        return out


def measure(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Tensor:
    assert isinstance(module, Attention)
    q, k, _ = module.split(args[0])
    return schatten.largest_logits(q, k, causal=True)


def attention_model(scale: float) -> nn.ModuleList:
    torch.manual_seed(0)
    layers = nn.ModuleList(Attention(16, 4, 4) for _ in range(2))
    with torch.no_grad():
        for layer in layers:
            layer.q_proj.weight.mul_(scale)
            layer.q_proj.weight[:4].div_(scale)  # the first head's are small
    return layers


def muonclip(layers: nn.ModuleList, **options: Any) -> schatten.MuonClip:
    def group(*suffixes: str, **layout: Any) -> dict[str, Any]:
        named = [(f"layers.{name}", p) for name, p in layers.named_parameters() if name.split(".")[-2] in suffixes]
        return {"params": named, **({"layout": layout} if layout else {})}

    attention = {"heads": 4, "kv_heads": 4}
    groups = [group("q_proj", projection="query", **attention), group("k_proj", projection="key", **attention), group("v_proj", "o_proj")]
    return schatten.MuonClip(groups, **options)


def forward(layers: nn.ModuleList, x: Tensor) -> Tensor:
    for layer in layers:
        x = x + layer(x)
    return x


def test_the_whole_cycle_of_muonclip() -> None:
    """Hooks observe, the step clips: query and key rows of each head by the root of tau over its logit, as the report has it."""
    tau, x = 5.0, noise(2, 6, 16, seed=9)
    layers, unclipped = attention_model(25.0), attention_model(25.0)
    optimizer = muonclip(layers, lr=0.01, tau=tau)
    plain = muonclip(unclipped, lr=0.01, tau=1e9)
    hooks = [schatten.watch_logits(o, dict(enumerate(m)), measure) for o, m in ((optimizer, layers), (plain, unclipped))]
    seen: list[Tensor] = []
    for layers_of, own in ((layers, optimizer), (unclipped, plain)):
        h = x
        for layer in layers_of:
            if layers_of is unclipped:
                seen.append(measure(layer, (h,), {}, None))
            h = h + layer(h)
        h.square().mean().backward()
        own.step()
    assert any((s > tau).any() for s in seen) and any((s < tau).any() for s in seen)
    for layer, other, largest in zip(layers, unclipped, seen, strict=True):
        gamma = (tau / largest).where(largest > tau, torch.ones(())).sqrt().repeat_interleave(4)[:, None]
        for name in ("q_proj", "k_proj"):
            torch.testing.assert_close(getattr(layer, name).weight, getattr(other, name).weight * gamma, rtol=1e-5, atol=1e-6)
        assert torch.equal(layer.v_proj.weight, other.v_proj.weight) and torch.equal(layer.o_proj.weight, other.o_proj.weight)
    for hook in hooks[0]:
        hook.remove()
    with pytest.raises(RuntimeError, match="largest_logits"):
        forward(layers, x).sum().backward()
        optimizer.step()


def test_accumulated_forwards_count_together_and_evaluation_does_not() -> None:
    layers = attention_model(1.0)
    optimizer = muonclip(layers)
    schatten.watch_logits(optimizer, dict(enumerate(layers)), measure)
    first, second, other = noise(2, 6, 16, seed=1), noise(2, 6, 16, seed=2), 100 * noise(2, 6, 16, seed=3)
    forward(layers, first), forward(layers, second)
    layers.eval()
    forward(layers, other)
    both = torch.maximum(measure(layers[0], (first,), {}, None), measure(layers[0], (second,), {}, None))
    assert [(what, block) for what, block, _ in optimizer._observed] == [("largest_logits", 0), ("largest_logits", 1)]
    assert torch.equal(optimizer._observed[0][2], both)


def test_largest_logits_are_those_of_attention() -> None:
    q, k = noise(3, 4, 5, 8, seed=1), noise(3, 2, 7, 8, seed=2)
    logits = torch.einsum("bhqd,bhkd->bhqk", q, k.repeat_interleave(2, 1)) / math.sqrt(8)
    torch.testing.assert_close(schatten.largest_logits(q, k), logits.amax((0, 2, 3)))
    torch.testing.assert_close(schatten.largest_logits(q, k, scale=1.0), logits.amax((0, 2, 3)) * math.sqrt(8))
    seen = torch.rand(5, 7, generator=torch.Generator().manual_seed(3)) > 0.5
    torch.testing.assert_close(schatten.largest_logits(q, k, mask=seen), logits.masked_fill(~seen, -math.inf).amax((0, 2, 3)))
    added = torch.zeros(5, 7).masked_fill(~seen, -1e9)
    torch.testing.assert_close(schatten.largest_logits(q, k, mask=added), logits.masked_fill(~seen, -math.inf).amax((0, 2, 3)))
    square = logits[..., :5].masked_fill(~torch.ones(5, 5, dtype=torch.bool).tril(), -math.inf)
    torch.testing.assert_close(schatten.largest_logits(q, k[:, :, :5], causal=True), square.amax((0, 2, 3)))
    with pytest.raises(ValueError, match="a multiple of kv_heads"):
        schatten.largest_logits(noise(3, 4, 5, 8), noise(3, 3, 5, 8))
