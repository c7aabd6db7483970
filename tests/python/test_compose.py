"""Optimizers from stages are the classes, bit for bit, and behave as any optimizer does."""

from __future__ import annotations

import copy
import inspect
import io
import json
import os
import pathlib
import subprocess
from typing import Any

import pytest
import torch
from contract import given_gradients, same, small, train, values
from torch import nn

import schatten
from schatten import stages as s

CLI = pathlib.Path(os.environ["SCHATTEN_CLI"])


def printed(what: str) -> list[dict[str, Any]]:
    lines = subprocess.run([CLI, "recipes", what], check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in lines.splitlines()]


def pair(shape: tuple[int, ...] = (12, 8)) -> tuple[list[tuple[str, nn.Parameter]], list[tuple[str, nn.Parameter]]]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = [
            ("layers.0.wide.weight", nn.Parameter(torch.randn(*shape))),
            ("layers.1.tall.weight", nn.Parameter(torch.randn(shape[::-1]))),
        ]
    return first, copy.deepcopy(first)


def equal_after_steps(one: schatten.Optimizer, other: schatten.Optimizer, steps: int = 4) -> bool:
    params = [[p for group in o.param_groups for p in group["params"]] for o in (one, other)]
    before = values(params[0])
    for optimizer, own in zip((one, other), params, strict=True):
        for t in range(steps):
            optimizer.observe("largest_logits", 0, torch.tensor([1.0, 200.0]))  # for muonclip
            given_gradients(optimizer, own, 1, t)
    assert not same(before, params[0]), "nothing has moved"
    return same(*params)


NEWTON_SCHULZ = {"coefficients": [(3.4445, -4.775, 2.0315)] * 5, "eps_mode": "clamp"}
COMPOSED: dict[str, tuple[schatten.recipe.Recipe, type[schatten.Optimizer], dict[str, Any]]] = {
    "muon": (
        schatten.compose(s.ema(0.95, nesterov=True), s.orthogonalize(**NEWTON_SCHULZ), s.scale_by_shape("jordan")),
        schatten.Muon,
        {"weight_decay": 0.1},
    ),
    "htmuon": (
        schatten.compose(s.ema(0.95, nesterov=True), s.spectral_power(0.125), s.scale_by_shape("jordan")),
        schatten.HTMuon,
        {"weight_decay": 0.1},
    ),
    "adamw": (schatten.compose(s.scale_by_adam(0.9, 0.999)), schatten.AdamW, {"weight_decay": 0.01}),
    "galore": (
        schatten.compose(
            s.in_subspace(4, refresh_every=2, scale=0.25, inner=s.scale_by_adam(eps=1e-6, form="uncorrected_eps")), decay="after"
        ),
        lambda p, **o: schatten.GaLore(p, rank=4, refresh_every=2, **o),
        {"weight_decay": 0.1},
    ),
    "galore_muon": (
        schatten.compose(s.in_subspace(0.5, inner=[s.ema(0.95, True), s.orthogonalize()]), s.scale_by_shape()),
        lambda p, **o: schatten.GaLore(
            p, inner="muon", rank=0.5, betas=(0.95, 0.999), scale=1.0, adjust_lr_fn="jordan", options={"decay": "decoupled"}, **o
        ),
        {"weight_decay": 0.0},
    ),
    "soap": (
        schatten.compose(s.in_eigenbasis(0.95, 10, inner=s.scale_by_adam(0.95, 0.95, form="uncorrected_eps")), decay="after"),
        lambda p, **o: schatten.SOAP(p, **o),
        {"weight_decay": 0.01},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPOSED)
def test_composed_is_the_class(name: str) -> None:
    recipe, cls, options = COMPOSED[name]
    mine, theirs = pair()
    assert equal_after_steps(schatten.Optimizer(mine, recipe, lr=0.02, **options), cls(theirs, lr=0.02, **options))


@pytest.mark.parametrize("row", [r for r in printed("--json") if r["name"] != "muon"], ids=lambda r: r["name"])  # Python's muon is torch's
def test_every_recipe_composed_from_what_it_prints(row: dict[str, Any]) -> None:
    recipe, (mine, theirs) = row["recipe"], pair()
    parts = recipe["direction"].get("chain", [recipe["direction"]])
    composed = schatten.compose(
        *parts, decay=recipe["decay"]["form"], retract=recipe.get("retract"), controllers=recipe.get("controllers", [])
    )
    options = {"lr": 0.01, "weight_decay": recipe["decay"]["weight_decay"]}
    assert equal_after_steps(schatten.Optimizer(mine, composed, **options), schatten.Optimizer(theirs, row["name"], **options))


def test_every_stage_has_a_typed_function() -> None:
    for row in printed("--stages"):
        signature = inspect.signature(getattr(s, row["name"]))
        assert [*signature.parameters] == [*(o["name"] for o in row["options"]), "named"]
        assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())
        made = getattr(s, row["name"])()
        for option in row["options"]:
            if option["name"] in made and made[option["name"]] != []:
                assert made[option["name"]] == json.loads(option["default"])
        assert json.loads(json.dumps(made)) == made
        schatten.compose(made)  # the library takes it
    assert {row["name"] for row in printed("--stages")} == set(s.__all__)


def test_vectors_go_where_they_can() -> None:
    matrices = schatten.Optimizer(small(), schatten.compose(s.ema(), s.orthogonalize()), lr=0.1)
    assert [g["algorithm"] for g in matrices.param_groups] == ["composed", "adamw"]
    assert "options" not in matrices.param_groups[1]
    everything = schatten.Optimizer(small(), schatten.compose(s.ema(), s.sign()), lr=0.1)
    assert [g["algorithm"] for g in everything.param_groups] == ["composed"]


def test_a_group_and_an_auxiliary_may_be_composed() -> None:
    model = small()
    lion = schatten.compose(s.lion_momentum(), s.sign())
    optimizer = schatten.Muon(model, lr=0.02, auxiliary={"algorithm": lion, "lr": 1e-3})
    assert [g["algorithm"] for g in optimizer.param_groups] == ["muon", "composed"]
    before = values(model.parameters())
    train(optimizer, model)
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    extra = nn.Parameter(torch.ones(3, 3))
    optimizer.add_param_group({"params": [("extra", extra)], "algorithm": lion, "lr": 0.5})
    extra.grad = torch.ones(3, 3)
    optimizer.step()
    assert torch.equal(extra.detach(), torch.full((3, 3), 0.5))


def test_schedulers_move_rate_and_decay() -> None:
    (mine, theirs), recipe = pair(), COMPOSED["muon"][0]
    one = schatten.Optimizer(mine, recipe, lr=0.1, weight_decay=0.5)
    other = schatten.Muon(theirs, lr=0.1, weight_decay=0.5)
    schedulers = [torch.optim.lr_scheduler.ExponentialLR(o, 0.5) for o in (one, other)]
    start = values(p for _, p in mine)
    for t in range(3):
        for optimizer, named, scheduler in zip((one, other), (mine, theirs), schedulers, strict=True):
            given_gradients(optimizer, [p for _, p in named], 1, t)
            scheduler.step()
            optimizer.param_groups[0]["weight_decay"] *= 0.0 if t == 1 else 0.5
    assert one.param_groups[0]["lr"] == 0.0125 and one.param_groups[0]["weight_decay"] == 0.0
    assert same((p for _, p in mine), (p for _, p in theirs)) and not same(start, (p for _, p in mine))


def test_state_dict_pickle_and_deepcopy_need_nothing_else() -> None:
    model = small()
    optimizer = schatten.Optimizer(model, schatten.compose(s.ema(0.9), s.spectral_power(0.25), name="mine"), lr=0.05, weight_decay=0.1)
    train(optimizer, model, 2)
    saved = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, saved)
    saved.seek(0)
    loaded, others = torch.load(saved, weights_only=True), [small(seed=1), copy.deepcopy(model)]
    others[0].load_state_dict(loaded["model"])
    resumed = schatten.Optimizer(others[0], schatten.compose(s.ema(0.1), s.orthogonalize()), lr=1.0)  # the file knows better
    resumed.load_state_dict(loaded["optimizer"])
    others[1], copied = copy.deepcopy((model, optimizer))
    copied.add_param_group({"params": [("late.weight", nn.Parameter(torch.ones(2, 2))), ("late.bias", nn.Parameter(torch.ones(2)))]})
    assert [g["algorithm"] for g in copied.param_groups[2:]] == ["composed", "adamw"]
    for o, m in ((optimizer, model), (resumed, others[0]), (copied, others[1])):
        train(o, m, 2, first=2)
    assert same(model.parameters(), others[0].parameters()) and same(model.parameters(), others[1].parameters())


def test_options_go_beside_the_stages() -> None:
    recipe = schatten.compose(s.ema(0.9, nesterov=False), s.scale(0.5))
    (mine, theirs) = pair()
    masked = schatten.Optimizer(mine, recipe, lr=0.1, options={"cautious": True})
    chained = schatten.Optimizer(theirs, schatten.compose(s.ema(0.9), s.scale(0.5), s.cautious()), lr=0.1)
    assert equal_after_steps(masked, chained)


def test_two_stages_of_a_kind_keep_their_state_apart() -> None:
    (mine, _) = pair()
    recipe = schatten.compose(s.ema(0.9, named="fast"), s.ema(0.5, named="slow"))
    optimizer = schatten.Optimizer(mine, recipe, lr=0.1)
    given_gradients(optimizer, [p for _, p in mine], 2)
    assert set(optimizer.state[mine[0][1]]) == {"fast/momentum_buffer", "slow/momentum_buffer", "step"}


@pytest.mark.parametrize(
    "wrong, error, words",
    [
        (lambda: schatten.compose(), ValueError, "expected a stage or more"),
        (lambda: schatten.compose(s.ema), TypeError, "Call it"),
        (lambda: schatten.compose({"stage": "emma"}), ValueError, "ema"),
        (lambda: schatten.compose(s.ema(1.5)), ValueError, "[ema] expected beta in [0, 1), got 1.5"),
        (lambda: schatten.compose(s.ema(), decay="decuopled"), ValueError, "decoupled"),
        (lambda: schatten.compose(s.ema(), retract={"form": "projekt"}), ValueError, "project"),
        (lambda: schatten.compose(s.ema(), controllers=[{"controller": "qk_clap"}]), ValueError, "qk_clip"),
        (lambda: schatten.Optimizer(small(), schatten.compose(s.ema()), momentum=0.9), TypeError, "composed has no option momentum"),
        (lambda: schatten.Optimizer(small(), schatten.compose(s.ema()), lr=-1.0), ValueError, "Invalid learning rate: -1.0"),
    ],
)
def test_what_makes_no_sense_is_said(wrong: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        wrong()
    assert words in str(caught.value)
