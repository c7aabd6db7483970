"""Training that began with another package goes on here: groups, state, and the program's own checkpoints."""

from __future__ import annotations

import importlib
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from contract import distance, noise, same, small, train, values
from torch import Tensor, nn

import schatten

sys.path.append(str(pathlib.Path(os.environ["SCHATTEN_SOURCE_DIR"]) / "bench"))
peers = importlib.import_module("peers")


def peer(name: str) -> Any:
    """A package of the bench, or a skip."""
    peers.find_packages()
    peers.stand_ins()
    return pytest.importorskip(name, reason=f"{name} is not installed: `make bench` puts it under build/bench/peers")


def weights() -> list[nn.Parameter]:
    return [nn.Parameter(noise(*shape, seed=i)) for i, shape in enumerate([(12, 8), (8, 12), (10, 10), (5,)])]


def give(params: list[nn.Parameter], t: int) -> None:
    """Gradients whose leading directions are clear."""
    for i, p in enumerate(params):
        p.grad = noise(*p.shape, seed=100 * t + i)


def go(optimizer: torch.optim.Optimizer, params: list[nn.Parameter], steps: range) -> None:
    for t in steps:
        give(params, t)
        optimizer.step()


Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def goes_on(theirs: Make, ours: Make, source: str, tolerance: float, first: int = 5, second: int = 5) -> None:
    """Five steps with theirs; then five more with either: the same weights. Without the state they would be others."""
    params = weights()
    before = theirs(params)
    go(before, params, range(first))
    mine, fresh = ([nn.Parameter(p.detach().clone()) for p in params] for _ in range(2))
    after, without = ours(mine), ours(fresh)
    assert isinstance(after, schatten.Optimizer)
    after.load_state_dict(schatten.convert_state(before.state_dict(), source, after))
    start = values(params)
    for optimizer, own in ((before, params), (after, mine), (without, fresh)):
        go(optimizer, own, range(first, first + second))

    def apart(own: list[nn.Parameter]) -> float:
        return distance([p - s for p, s in zip(own, start, strict=True)], [p - s for p, s in zip(params, start, strict=True)])

    assert apart(mine) < tolerance, apart(mine)
    assert apart(fresh) > 10 * max(tolerance, apart(mine)), apart(fresh)


ADAM = {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.1}
MUON = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}
EXACT = {"polar.compute": "float32"}


@pytest.mark.parametrize("name", ["AdamW", "Adam"])
def test_from_torch_adam(name: str) -> None:
    goes_on(lambda p: getattr(torch.optim, name)(p, **ADAM), lambda p: getattr(schatten, name)(p, **ADAM), f"torch.optim.{name}", 1e-5)


@pytest.mark.parametrize("nesterov", [False, True])
def test_from_torch_sgd(nesterov: bool) -> None:
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": nesterov}
    goes_on(lambda p: torch.optim.SGD(p, **options), lambda p: schatten.SGD(p, **options), "torch.optim.SGD", 1e-5)


def test_from_torch_adagrad_and_rmsprop() -> None:
    goes_on(lambda p: torch.optim.Adagrad(p, 0.1), lambda p: schatten.Adagrad(p, 0.1), "torch.optim.Adagrad", 1e-5)
    options = {"lr": 0.01, "momentum": 0.5}
    goes_on(lambda p: torch.optim.RMSprop(p, **options), lambda p: schatten.RMSprop(p, **options), "torch.optim.RMSprop", 1e-5)


def test_from_torch_muon() -> None:
    """torch iterates in bfloat16; so does ours here."""
    bf16 = {"polar.compute": "bfloat16"}
    goes_on(lambda p: torch.optim.Muon(p[:3], **MUON), lambda p: schatten.Muon(p[:3], **MUON, options=bf16), "torch.optim.Muon", 0.02)


class Theirs(torch.optim.Optimizer):
    """Muon in float32 with the momentum of Moonlight (a sum) or of Jordan (an average), and state under their names."""

    def __init__(self, params: Any, sums: bool, lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})
        self.sums = sums

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            mu = group["momentum"]
            for p in group["params"]:
                state = self.state[p]
                buffer = state.setdefault("momentum_buffer", torch.zeros_like(p))
                if self.sums:
                    buffer.mul_(mu).add_(p.grad)
                    update = peers.quintic_float32(p.grad + mu * buffer)
                else:
                    buffer.lerp_(p.grad, 1 - mu)
                    update = peers.quintic_float32(p.grad.lerp(buffer, mu))
                p.add_(update, alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)


@pytest.mark.parametrize("form", ["ema", "heavy_ball"])
@pytest.mark.parametrize("source", ["KellerJordan/Muon", "MoonshotAI/Moonlight"])
def test_momentum_is_an_average_or_a_sum(source: str, form: str) -> None:
    options = {"lr": 0.05, "momentum": 0.9}
    ours = {"momentum_form": form, **EXACT}
    goes_on(
        lambda p: Theirs(p[:3], source.startswith("Moon"), **options),
        lambda p: schatten.Muon(p[:3], **options, weight_decay=0.0, options=ours),
        source,
        1e-4,
    )


LOW_RANK = {"rank": 3, "update_proj_gap": 4, "scale": 0.25, "proj_type": "std"}


def low_rank(params: list[nn.Parameter], **keys: Any) -> list[dict[str, Any]]:
    return [{"params": params[:3], **LOW_RANK, **keys}, {"params": params[3:]}]


@pytest.mark.parametrize("kind", ["std", "reverse_std", "left", "right", "full"])
def test_from_galore(kind: str) -> None:
    galore = peer("galore_torch.adamw")
    keys = {"proj_type": kind, "update_proj_gap": 200}
    options = {"lr": 0.05, "weight_decay": 0.1, "betas": (0.8, 0.9)}
    goes_on(
        lambda p: galore.AdamW(low_rank(p, **keys), **options, no_deprecation_warning=True),
        lambda p: schatten.GaLore(low_rank(p, **keys), **options),
        "galore-torch",
        1e-4,
    )


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("projection, scale_type", [("random", "channel"), ("random", "tensor"), ("svd", "channel")])
def test_from_apollo(projection: str, scale_type: str, kept: bool) -> None:
    """Random projections are the same draws here, also those of later steps: there is a new one at the 9th."""
    apollo = peer("apollo_torch.apollo")
    keys = {"proj": projection, "scale_type": scale_type, "scale": 2.0, "update_proj_gap": 4 if projection == "random" else 200}
    options = {"lr": 0.05, "weight_decay": 0.1, "betas": (0.8, 0.9)}
    goes_on(
        lambda p: apollo.AdamW(low_rank(p, **keys), **options),
        lambda p: schatten.APOLLO(
            [{**g, **({"options": {"keep_projection": kept}} if "rank" in g else {})} for g in low_rank(p, **keys)], **options
        ),
        "apollo-torch",
        2e-4,
    )


def test_from_heavyball() -> None:
    """Its averages are bias-corrected."""
    heavyball = peer("heavyball")
    options = {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.1}
    goes_on(lambda p: heavyball.AdamW(p, **options), lambda p: schatten.AdamW(p, **options), "heavyball", 1e-4)


def muon_groups(params: list[nn.Parameter], **keys: Any) -> list[dict[str, Any]]:
    return [{"params": params[:3], "use_muon": True, **keys},
            {"params": params[3:], "use_muon": False, "lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-8, "weight_decay": 0.0}]  # fmt: skip


@pytest.mark.parametrize("adjusted", [False, True])
def test_from_pytorch_optimizer(adjusted: bool) -> None:
    theirs = peer("pytorch_optimizer")
    keys = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1, "use_adjusted_lr": adjusted, "weight_decouple": True}
    goes_on(
        lambda p: theirs.Muon(muon_groups(p, **keys)),
        lambda p: schatten.Muon(
            [{**g, **({"options": {"polar.compute": "bfloat16"}} if g["use_muon"] else {})} for g in muon_groups(p, **keys)]
        ),
        "pytorch-optimizer",
        0.03,
    )


def test_from_pytorch_optimizers_galore() -> None:
    theirs = peer("pytorch_optimizer")

    def groups(p: list[nn.Parameter]) -> list[dict[str, Any]]:
        return [{"params": p[:3], "rank": 3, "update_proj_gap": 200, "scale": 0.25, "projection_type": "std"}, {"params": p[3:]}]

    options = {"lr": 0.05, "weight_decay": 0.1, "betas": (0.8, 0.9)}
    goes_on(lambda p: theirs.GaLore(groups(p), **options), lambda p: schatten.GaLore(groups(p), **options), "pytorch-optimizer", 1e-4)


# --- what is refused --------------------------------------------------------------------------------------------------


def saved(make: Make) -> dict[str, Any]:
    params = weights()[:3]
    optimizer = make(params)
    go(optimizer, params, range(2))
    return optimizer.state_dict()


@pytest.mark.parametrize(
    "make, source, to, words",
    [
        (lambda p: torch.optim.AdamW(p), "torch.optim.Adamw", lambda p: schatten.AdamW(p), "Known: torch.optim.Muon, torch.optim.AdamW"),
        (lambda p: torch.optim.AdamW(p, amsgrad=True), "torch.optim.AdamW", lambda p: schatten.AdamW(p), "equal here: max_exp_avg_sq"),
        (lambda p: torch.optim.AdamW(p), "torch.optim.AdamW", lambda p: schatten.Muon(p), "wants 'ema/momentum_buffer'"),
        (lambda p: torch.optim.AdamW(p), "torch.optim.AdamW", lambda p: schatten.Lion(p), "keeps no exp_avg_sq"),
        (lambda p: torch.optim.SGD(p, 0.1), "torch.optim.SGD", lambda p: schatten.AdamW(p[:2]), "expected 3 parameters"),
        (lambda p: torch.optim.AdamW(p), "torch.optim.AdamW", lambda p: schatten.AdamW(p[::-1]), "expected shape (10, 10), got (12, 8)"),
    ],
)  # fmt: skip
def test_what_has_no_equal_is_said(make: Make, source: str, to: Make, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        schatten.convert_state(saved(make), source, to(weights()[:3]))  # type: ignore[arg-type]
    assert words in str(caught.value)


def test_the_order_comes_from_names_or_must_be_said() -> None:
    model, other = small(), small()
    before = torch.optim.AdamW(model.parameters())
    train(before, model, 2)
    after = schatten.AdamW(list(other.named_parameters())[::-1])
    with pytest.raises(ValueError, match=r"order=model\.parameters"):
        schatten.convert_state(before.state_dict(), "torch.optim.AdamW", after)
    with_order = schatten.convert_state(before.state_dict(), "torch.optim.AdamW", after, order=other.parameters())
    named = torch.optim.AdamW(model.named_parameters())
    named.load_state_dict({**before.state_dict(), "param_groups": named.state_dict()["param_groups"]})
    by_names = schatten.convert_state(named.state_dict(), "torch.optim.AdamW", after)
    for i, state in with_order["state"].items():
        assert all(torch.equal(value, by_names["state"][i][key]) for key, value in state.items())
        parameter = list(model.parameters())[len(with_order["state"]) - 1 - i]
        assert torch.equal(state["exp_avg"], before.state[parameter]["exp_avg"])


def test_groups_that_were_split_need_the_order() -> None:
    params = weights()
    before = torch.optim.AdamW(params[::-1], **ADAM)
    go(before, params, range(2))
    after = schatten.Optimizer(params[::-1], schatten.compose(schatten.stages.scale_by_adam(0.8, 0.9), schatten.stages.scale_by_shape()))
    assert schatten.convert_state(before.state_dict(), "torch.optim.AdamW", after)["state"].keys() == {0, 1, 2, 3}
    with pytest.warns(UserWarning, match="without names"):
        split = schatten.Muon(params[::-1], auxiliary={"betas": (0.8, 0.9)})
    muon = Theirs(params[::-1], sums=False, lr=0.1, momentum=0.9)
    for p in params[:3]:
        muon.state[p]["momentum_buffer"] = noise(*p.shape, seed=7)
    with pytest.raises(ValueError, match=r"got \[4\] and \[3, 1\]"):
        schatten.convert_state(muon.state_dict(), "KellerJordan/Muon", split)
    split.load_state_dict(schatten.convert_state(muon.state_dict(), "KellerJordan/Muon", split, order=params[::-1]))
    assert all(torch.equal(split.state[p]["momentum_buffer"], muon.state[p]["momentum_buffer"]) for p in params[:3])


@pytest.mark.parametrize(
    "group, words",
    [
        ({"correct_bias": False}, "expected True, got False"),
        ({"adamw_lr": 3e-4}, "auxiliary=dict(lr=0.0003)"),
        ({"warmup_steps": 10}, "no equal"),
    ],
)
def test_a_group_key_without_an_equal_is_said(group: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        schatten.Muon([{"params": weights()[:1], **group}])
    assert words in str(caught.value)


def test_groups_for_other_packages_are_understood() -> None:
    galore, plain = schatten.GaLore(low_rank(weights()), lr=0.3, betas=(0.5, 0.6)).param_groups
    assert (galore["rank"], galore["refresh_every"], galore["scale"], galore["options"]) == (3, 4, 0.25, {"type": "std"})
    assert (plain["algorithm"], plain["lr"], plain["betas"], plain["eps"]) == ("adamw", 0.3, (0.5, 0.6), 1e-6)
    assert plain["options"] == {"form": "uncorrected_eps", "decay": "after"}
    muon, adam = schatten.Muon(muon_groups(weights(), use_adjusted_lr=True, weight_decouple=False)).param_groups
    assert muon["adjust_lr_fn"] == "match_rms_adamw" and muon["options"] == {"decay": "coupled"}
    assert adam["algorithm"] == "adamw" and adam["betas"] == (0.8, 0.9)
    (masked,) = schatten.AdamW([{"params": weights(), "caution": True, "cautious_weight_decay": True, "warmup_steps": 0}]).param_groups
    assert masked["options"] == {"cautious": True, "decay": "cautious"}


# --- the library's own files ------------------------------------------------------------------------------------------


def test_exported_state_comes_back(cls: type[schatten.Optimizer]) -> None:
    model, other = small(), small(seed=3)
    optimizer, again = cls(model, lr=0.01), cls(other, lr=0.01)  # type: ignore[call-arg]  # conftest: every class
    train(optimizer, model, 3)
    exported = optimizer.export_state()
    assert exported["1.weight/step"].dtype == torch.int64 and int(exported["1.weight/step"]) == 3
    again.import_state(exported)
    other.load_state_dict(model.state_dict())
    assert set(again.export_state()) == set(exported)
    for o, m in ((optimizer, model), (again, other)):
        train(o, m, 3, first=3)
    assert same(model.parameters(), other.parameters())


def test_a_file_that_does_not_fit_changes_nothing() -> None:
    model = small()
    optimizer = schatten.Muon(model, lr=0.01)
    train(optimizer, model, 2)
    whole = optimizer.export_state()
    before = {key: value.clone() for key, value in whole.items()}
    wrong: list[tuple[dict[str, Tensor], str]] = [
        ({k: v for k, v in whole.items() if k != "4.bias/step"}, "expected '4.bias/step', got none"),
        ({**whole, "5.weight/step": torch.tensor(1)}, "among them '5.weight/step'"),
        ({**whole, "1.weight/ema/momentum_buffer": torch.zeros(3, 3)}, "got (3, 3)"),
    ]
    for tensors, words in wrong:
        with pytest.raises(ValueError) as caught:
            optimizer.import_state({k: v + 1 for k, v in tensors.items()})
        assert words in str(caught.value)
        assert all(torch.equal(v, before[k]) for k, v in optimizer.export_state().items())
    with pytest.raises(ValueError, match="expected parameters with names"), pytest.warns(UserWarning):
        schatten.Muon(weights()).export_state()
