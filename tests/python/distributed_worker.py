"""What two processes do for test_distributed.py: `python distributed_worker.py RANK WORLD FOLDER` runs every check and writes what it saw.

A check returns numbers and texts; the tests judge them. An exception is a result, too.
"""

# mypy: disable-error-code="attr-defined"
# (names that torch.distributed has and does not list)

from __future__ import annotations

import copy
import datetime
import faulthandler
import json
import math
import pathlib
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import contract
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

import schatten

NAMES: list[str] = list(contract.CLASSES)
CHECKS: dict[str, Callable[[], Any]] = {}
ALPHA: dict[str, Any] = {"alpha.every": 2, "alpha.fit.minimum": 2, "alpha.assign.minimum_eigenvalues": 3}
ALPHA |= {"alpha.assign.skip_first": False, "alpha.assign.skip_last": False}
# Bases and subspaces are to change within a few steps, too.
OPTIONS: dict[str, dict[str, Any]] = {
    "APOLLO": {"refresh_every": 2},
    "AlphaDecay": {"weight_decay": 0.1, "options": ALPHA},
    "Fira": {"refresh_every": 2},
    "GaLore": {"refresh_every": 2},
    "GUM": {"period": 2},
    "LionMuon": {"every": 2},
    "Shampoo": {"every": 2},
    "SGD": {"momentum": 0.9},  # torch cannot gather a state without tensors
    "SOAP": {"every": 2},
}


def check(function: Callable[[], Any]) -> Callable[[], Any]:
    CHECKS[function.__name__] = function
    return function


class Model(nn.Module):
    """Rows that two processes cannot share evenly, one that only the first can have, a convolution, vectors."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embedding = nn.Embedding(5, 6)
            self.conv = nn.Conv2d(1, 3, 2)
            self.up = nn.Linear(6, 9)
            self.down = nn.Linear(9, 4)
            self.norm = nn.LayerNorm(4)
            self.last = nn.Linear(4, 1)
        self.to(dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        x = x + self.conv(x[:, None, None, :].expand(-1, 1, 2, -1)).mean((1, 2)).pow(2).sum(-1, keepdim=True)
        out: Tensor = self.last(torch.tanh(self.norm(self.down(torch.tanh(self.up(x))))))
        return out


def sharded(dtype: torch.dtype = torch.float64) -> Model:
    model = Model(dtype)
    fully_shard(model, mesh=mesh())
    return model


_mesh: list[Any] = []


def mesh() -> Any:
    if not _mesh:
        _mesh.append(init_device_mesh("cpu", (dist.get_world_size(),)))
    return _mesh[0]


def whole(t: Any) -> Tensor:
    result: Tensor = t.full_tensor() if isinstance(t, DTensor) else t
    return result.detach()


def spread(value: Tensor, like: Tensor) -> Tensor:
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def steps(optimizer: torch.optim.Optimizer, model: nn.Module, count: int, first: int = 0, without: tuple[str, ...] = ()) -> None:
    """The same gradients, however the parameters lie."""
    for t in range(first, first + count):
        for i, (name, p) in enumerate(model.named_parameters()):
            p.grad = None if name in without else spread(contract.noise(*p.shape, dtype=p.dtype, seed=1000 * t + i), p)
        contract.step(optimizer)


def difference(one: Any, other: Any) -> float:
    """The largest, of weights; shapes and dtypes have to be equal."""
    one, other = whole(one), whole(other)
    assert one.shape == other.shape and one.dtype == other.dtype, (one.shape, other.shape, one.dtype, other.dtype)
    worst = float((one - other).abs().max()) if one.numel() else 0.0
    return worst if math.isfinite(worst) else math.inf


def state_difference(a: schatten.Optimizer, b: schatten.Optimizer) -> float:
    worst = 0.0
    for group_a, group_b in zip(a.param_groups, b.param_groups, strict=True):
        for p, q in zip(group_a["params"], group_b["params"], strict=True):
            assert a.state[p].keys() == b.state[q].keys(), (a.state[p].keys(), b.state[q].keys())
            for key, value in a.state[p].items():
                if key != "weight_decay" or not bool(torch.isnan(value)):
                    worst = max(worst, difference(value, b.state[q][key]))
    return worst


def weights_difference(a: nn.Module, b: nn.Module) -> float:
    return max(difference(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def made(name: str, model: nn.Module, **more: Any) -> schatten.Optimizer:
    made: schatten.Optimizer = contract.CLASSES[name](model, **{"lr": 0.01, **OPTIONS.get(name, {}), **more})
    return made


# --- FSDP2 ------------------------------------------------------------------------------------------------------------


def each_class(function: Callable[[str], Any], names: list[str] = NAMES) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name in names:
        try:
            results[name] = function(name)
        except BaseException:  # which CheckpointException is
            results[name] = traceback.format_exc()
    return results


@check
def equal_to_one_process() -> Any:
    def compare(name: str) -> dict[str, float]:
        seen = {}
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            alone, together = Model(dtype), sharded(dtype)
            a, b = made(name, alone), made(name, together)
            for optimizer, model in ((a, alone), (b, together)):
                steps(optimizer, model, 2)
                steps(optimizer, model, 1, 2, without=("up.weight", "norm.bias"))
            seen[str(dtype)] = max(weights_difference(alone, together), state_difference(a, b))
            moved = weights_difference(alone, Model(dtype))
            assert moved > 0, "nothing has moved"
        return seen

    return each_class(compare)


TOKENS = torch.arange(8) % 5


def my_tokens() -> Tensor:
    return TOKENS.chunk(dist.get_world_size())[dist.get_rank()]


def trained(model: nn.Module, optimizer: schatten.Optimizer, batch: Tensor, rounding: float = 0.0) -> None:
    for t in range(4):
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        for p in model.parameters() if rounding else []:
            assert p.grad is not None
            p.grad.mul_(1 + rounding * contract.noise(*p.shape, dtype=p.dtype, seed=t))
        contract.step(optimizer)


def sensitivity(name: str, exact: nn.Module) -> float:
    """How far the same training ends from itself in one process, if each gradient is rounded otherwise."""
    rounded = Model()
    trained(rounded, made(name, rounded), TOKENS, 2.0**-52)
    return weights_difference(rounded, exact)


@check
def training() -> Any:
    """Forward and backward by FSDP2 on half a batch each, against one process with all of it."""

    def compare(name: str) -> list[float]:
        alone, together = Model(), sharded()
        trained(alone, made(name, alone), TOKENS)
        trained(together, made(name, together), my_tokens())
        return [weights_difference(alone, together), sensitivity(name, alone)]

    return each_class(compare)


@check
def layouts() -> Any:
    """How state lies, and what a process holds of it."""
    wrong = []
    for name in NAMES:
        model = sharded()
        optimizer = made(name, model)
        optimizer.materialize_state()
        for state in optimizer.state.values():
            for key, value in state.items():
                by_rows = isinstance(value, DTensor) and tuple(value.placements) == (Shard(0),)
                if value.dim() > 0 and not (by_rows and value.device_mesh == mesh()):
                    wrong.append(f"{name} {key} {value.shape}")
    return wrong


def cut(model: nn.Module, placements: list[Any], on: Any) -> nn.Module:
    """Every parameter as a DTensor that lies so, where it has the dimensions."""
    for module in model.modules():
        for name, p in list(module.named_parameters(recurse=False)):
            lies = [Replicate() if isinstance(one, Shard) and one.dim >= p.dim() else one for one in placements]
            module.register_parameter(name, nn.Parameter(distribute_tensor(p.detach(), on, lies, src_data_rank=None)))
    return model


SOME = ["Muon", "NorMuon", "HTMuon", "AdamW", "SOAP", "GaLore", "GUM", "APOLLO", "Dion", "MuonClip", "AlphaDecay"]


@check
def other_placements() -> Any:
    """Columns, copies, and meshes of two dimensions."""
    world = dist.get_world_size()
    one, two = mesh(), init_device_mesh("cpu", (world, 1), mesh_dim_names=("replicate", "shard"))
    across = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("rows", "columns"))
    lie: dict[str, tuple[list[Any], Any]] = {
        "columns": ([Shard(1)], one),
        "copies": ([Replicate()], one),
        "hybrid": ([Replicate(), Shard(0)], across),
        "hybrid of one": ([Replicate(), Shard(0)], two),
        "rows and columns": ([Shard(0), Shard(1)], across),
        "rows twice": ([Shard(0), Shard(0)], across),
    }

    def compare(name: str) -> dict[str, float]:
        alone = Model()
        a = made(name, alone)
        steps(a, alone, 4)
        seen = {}
        for label, (placements, on) in lie.items():
            together = cut(Model(), placements, on)
            b = made(name, together)
            steps(b, together, 4)
            seen[label] = max(weights_difference(alone, together), state_difference(a, b))
        return seen

    return {name: compare(name) for name in SOME}


@check
def owners() -> Any:
    """What this process steps of a Muon model, by name, and how heavy it is."""
    model = sharded()
    optimizer = made("Muon", model)
    steps(optimizer, model, 1)
    assert optimizer._shards is not None and optimizer._shards.plan is not None
    plan = optimizer._shards.plan
    flops = {job.name: job.flops for job in plan.jobs}
    return {"mine": {plan.jobs[i].name: flops[plan.jobs[i].name] for i in plan.whole.jobs}, "all": [
        job.name for job in plan.jobs if job.axes], "here": [plan.jobs[i].name for i in plan.here.jobs]}  # fmt: skip


@check
def scale_by_shape_sees_the_whole_shape() -> Any:
    recipe = schatten.compose(schatten.stages.ema(0.9), schatten.stages.scale_by_shape("moonlight"))
    alone, together = Model(), sharded()
    for model in (alone, together):
        steps(schatten.Optimizer(model, recipe, lr=0.1), model, 2)
    return weights_difference(alone, together)


@check
def plain_parameters_beside_shards() -> Any:
    def both(model: nn.Module) -> Any:
        extra = nn.Module()
        extra.model, extra.head = model, nn.Linear(4, 3, dtype=torch.float64)
        nn.init.constant_(extra.head.weight, 0.1)
        nn.init.constant_(extra.head.bias, 0.1)
        return extra

    alone, together = both(Model()), both(sharded())
    for model in (alone, together):
        steps(made("Muon", model), model, 3)
        steps(made("AlphaDecay", model), model, 3)
    return weights_difference(alone, together)


@check
def complex_and_maximize() -> Any:
    values = contract.noise(5, 3, dtype=torch.complex128)
    alone = nn.Module()
    alone.w = nn.Parameter(values.clone())
    together = nn.Module()
    together.w = nn.Parameter(distribute_tensor(values, mesh(), [Shard(0)], src_data_rank=None))
    for model in (alone, together):
        steps(schatten.AdamW(model, maximize=True), model, 3)
    real, other = Model(), sharded()
    for each in (real, other):
        steps(made("Muon", each, maximize=True), each, 3)
    return [difference(torch.view_as_real(alone.w.detach()), torch.view_as_real(whole(together.w))), weights_difference(real, other)]


def attention() -> nn.Module:
    model = nn.Module()
    for i, name in enumerate(("query", "key")):
        linear = nn.Linear(6, 6, dtype=torch.float64)
        linear.weight.data = contract.noise(6, 6, dtype=torch.float64, seed=i)
        linear.bias.data = contract.noise(6, dtype=torch.float64, seed=10 + i)
        model.add_module(name, linear)
    return model


@check
def qk_clip_sees_queries_keys_and_all_batches() -> Any:
    """Each process has seen other logits: what counts is the largest, and a bias belongs to its matrix."""

    def optimizer(model: nn.Module) -> schatten.Optimizer:
        groups: list[dict[str, Any]] = []
        for name in ("query", "key"):
            layout = {"projection": name, "block": 0, "heads": 2, "kv_heads": 2}
            linear: Any = getattr(model, name)
            groups.append({"params": [(f"{name}.weight", linear.weight)], "layout": layout})
            groups.append({"params": [(f"{name}.bias", linear.bias)], "layout": layout, "algorithm": "adamw"})
        return schatten.MuonClip(groups, lr=0.01, tau=2.0)

    alone, together, unclipped = attention(), cut(attention(), [Shard(0)], mesh()), attention()
    a, b, c = optimizer(alone), optimizer(together), optimizer(unclipped)
    for t in range(2):
        for model in (alone, together, unclipped):
            for i, p in enumerate(model.parameters()):
                p.grad = spread(contract.noise(*p.shape, dtype=p.dtype, seed=100 * t + i), p)
        a.observe("largest_logits", 0, torch.tensor([3.0, 9.0]))
        b.observe("largest_logits", 0, torch.tensor([1.0, 9.0] if dist.get_rank() == 0 else [3.0, 1.0]))
        c.observe("largest_logits", 0, torch.tensor([1.0, 1.0]))
        for each in (a, b, c):
            each.step()
    return [weights_difference(alone, together), weights_difference(alone, unclipped)]


@check
def hessian_probes() -> Any:
    alone, together = Model(), sharded()
    a, b = made("Sophia", alone), made("Sophia", together)
    for model, optimizer in ((alone, a), (together, b)):
        steps(optimizer, model, 1)
        optimizer.update_hessian()
        steps(optimizer, model, 2, 1)
    assert all(whole(state["hessian"]).any() for state in a.state.values())
    return max(weights_difference(alone, together), state_difference(a, b))


# --- errors ---------------------------------------------------------------------------------------------------------------


def refused(optimizer: schatten.Optimizer, model: nn.Module) -> list[Any]:
    """What a step says, and how far the weights have moved."""
    before = copy.deepcopy([whole(p) for p in model.parameters()])
    try:
        optimizer.step()
        said = "nothing"
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    moved = max(difference(p, q) for p, q in zip(model.parameters(), before, strict=True))
    return [said, moved]


@check
def errors() -> Any:
    seen = {}
    last = dist.get_rank() == dist.get_world_size() - 1
    for label in ("gradient", "rate", "option", "owner"):
        model = sharded()
        optimizer = made("Muon", model)
        steps(optimizer, model, 1)
        if label == "gradient" and last:
            model.up.weight.grad = None
        if label == "rate" and last:
            optimizer.param_groups[0]["lr"] = 0.5
        if label == "option" and last:
            optimizer.param_groups[0]["adjust_lr_fn"] = "nonsense"
        if label == "owner":  # only the owner, who calls the operator, can see this
            optimizer.state[model.up.weight]["momentum_buffer"] = torch.zeros_like(model.down.weight)
        seen[label] = refused(optimizer, model)
        if label == "gradient":  # and then it goes on
            steps(optimizer, model, 1)
    return seen


# --- checkpoints ------------------------------------------------------------------------------------------------------------


@check
def rehearsals() -> Any:
    """torch.distributed.checkpoint makes state by a step with zero gradients at rate 0: what does it leave behind?"""

    def compare(name: str) -> list[float]:
        seen = []
        for build in (Model, sharded):
            fresh, rehearsed = build(), build()
            a, b = made(name, fresh), made(name, rehearsed)
            state: dict[str, Any] = get_optimizer_state_dict(rehearsed, b)["state"]  # type: ignore[assignment]
            assert len(state) == len(list(rehearsed.parameters())), state.keys()
            counted = max(float(each["step"]) for each in state.values())
            moved = weights_difference(rehearsed, fresh)
            steps(a, fresh, 2)
            steps(b, rehearsed, 2)
            seen += [counted, moved, weights_difference(fresh, rehearsed), state_difference(a, b)]
        return seen

    return each_class(compare)


@check
def a_first_step_at_rate_zero_counts() -> Any:
    """A warm-up may begin at 0: with gradients it is a step like any other."""
    counted = []
    for build in (Model, sharded):
        model = build()
        optimizer = made("Muon", model, lr=0.0, auxiliary={"lr": 0.0})
        steps(optimizer, model, 1)
        counted += [float(state["step"]) for state in optimizer.state.values()]
    return [min(counted), max(counted)]


FIXED = [name for name in NAMES if name != "GUM"]  # state that keeps its shape
# One or more of each form that state has.
FORMS = [
    "AdamW",
    "Muon",
    "NorMuon",
    "AdaMuon",
    "Dion",
    "Shampoo",
    "SOAP",
    "COSMOS",
    "GaLore",
    "Fira",
    "APOLLO",
    "AdamMini",
    "MARS",
    "AlphaDecay",
    "MuonClip",
]
Pairs = dict[str, tuple[nn.Module, schatten.Optimizer]]


def pairs(build: Callable[[], nn.Module]) -> Pairs:
    models = {name: build() for name in FORMS}
    return {name: (model, made(name, model)) for name, model in models.items()}


def saved(all_of_them: Pairs, folder: pathlib.Path, **how: Any) -> None:
    states = {name: get_state_dict(*pair) for name, pair in all_of_them.items()}
    dcp.save({name: {"model": weights, "optimizer": state} for name, (weights, state) in states.items()}, checkpoint_id=str(folder), **how)


def restored(all_of_them: Pairs, folder: pathlib.Path, **how: Any) -> None:
    states = {name: get_state_dict(*pair) for name, pair in all_of_them.items()}
    dcp.load({name: {"model": weights, "optimizer": state} for name, (weights, state) in states.items()}, checkpoint_id=str(folder), **how)
    for name, (weights, state) in states.items():
        set_state_dict(*all_of_them[name], model_state_dict=weights, optim_state_dict=state)


@check
def resharding() -> Any:
    """Three steps, saved by both; one process loads, steps, saves; both load that and step: as if nothing had happened."""
    together, straight, alone, again = pairs(sharded), pairs(Model), pairs(Model), pairs(sharded)

    def move(all_of_them: Pairs, count: int, first: int) -> None:
        for model, optimizer in all_of_them.values():
            steps(optimizer, model, count, first)

    def compare(others: Pairs) -> dict[str, float]:
        return {name: max(weights_difference(model, straight[name][0]), state_difference(optimizer, straight[name][1]))
                for name, (model, optimizer) in others.items()}  # fmt: skip

    move(together, 3, 0)
    move(straight, 3, 0)
    saved(together, FOLDER / "two")
    dist.barrier()
    restored(alone, FOLDER / "two", no_dist=True)
    seen = [compare(alone)]
    move(alone, 1, 3)
    move(straight, 1, 3)
    if dist.get_rank() == 0:
        saved(alone, FOLDER / "one", no_dist=True)
    dist.barrier()
    restored(again, FOLDER / "one")
    seen.append(compare(again))
    move(again, 2, 4)
    move(straight, 2, 4)
    seen.append(compare(again))
    return {name: [each[name] for each in seen] for name in FORMS}


@check
def state_that_changes_its_shape() -> Any:
    """GUM's buffers are now small, now whole. torch.distributed.checkpoint wants fixed shapes; a gathered state_dict does not."""
    together, straight, again = sharded(), Model(), sharded()
    a, b, c = made("GUM", together), made("GUM", straight), made("GUM", again)
    steps(a, together, 3)
    steps(b, straight, 3)
    full = get_optimizer_state_dict(together, a, options=StateDictOptions(full_state_dict=True))
    for p, q in zip(again.parameters(), straight.parameters(), strict=True):
        p.data.copy_(spread(q.detach(), p))
    c.load_state_dict(full)
    steps(b, straight, 3, 3)
    steps(c, again, 3, 3)
    shapes = {tuple(state["momentum_buffer"].shape) for state in b.state.values() if "momentum_buffer" in state}
    return [weights_difference(again, straight), state_difference(b, c), float(len(shapes))]


@check
def full_state() -> Any:
    """Gathered, written by torch.save, read by one process, and handed out again."""

    def compare(name: str) -> list[float]:
        together, straight, alone = sharded(), Model(), Model()
        a, b, c = made(name, together), made(name, straight), made(name, alone)
        steps(a, together, 3)
        steps(b, straight, 3)
        full: Any = get_optimizer_state_dict(together, a, options=StateDictOptions(full_state_dict=True))
        plain = not any(isinstance(value, DTensor) for state in full["state"].values() for value in state.values())
        path = FOLDER / f"{name}.{dist.get_rank()}.pt"
        torch.save(full, path)
        set_optimizer_state_dict(alone, c, torch.load(path))
        alone.load_state_dict(straight.state_dict())
        others = []
        both = [StateDictOptions(full_state_dict=True), StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)]
        for options in both if name in SOME else both[:1]:
            other = sharded()
            for p, q in zip(other.parameters(), straight.parameters(), strict=True):
                p.data.copy_(spread(q.detach(), p))
            d = made(name, other)
            sent = full if dist.get_rank() == 0 or not options.broadcast_from_rank0 else {}
            set_optimizer_state_dict(other, d, copy.deepcopy(sent), options=options)
            others.append((other, d))
        worst = [float(not plain), state_difference(b, c), *(state_difference(b, d) for _, d in others)]
        for model, optimizer in ((alone, c), (straight, b), *others):
            steps(optimizer, model, 2, 3)
        return [*worst, weights_difference(alone, straight), *(weights_difference(other, straight) for other, _ in others)]

    return each_class(compare, FIXED)


@check
def torchs_own_state_dict() -> Any:
    """state_dict() of shards into shards; a whole one, too, is cut when it is first used."""
    together, straight = sharded(), Model()
    a, b = made("SOAP", together), made("SOAP", straight)
    steps(a, together, 3)
    steps(b, straight, 3)
    c, d = made("SOAP", together), made("SOAP", together)
    c.load_state_dict(copy.deepcopy(a.state_dict()))
    worst = [state_difference(b, c)]
    d.load_state_dict(copy.deepcopy(b.state_dict()))
    for optimizer, model in ((d, together), (b, straight)):
        steps(optimizer, model, 2, 3)
    worst += [state_difference(b, d), weights_difference(together, straight)]
    e = made("SOAP", straight)
    e.load_state_dict(copy.deepcopy(d.state_dict()))
    said = "nothing"
    try:
        steps(e, straight, 1)
    except ValueError as error:
        said = str(error)
    return [worst, said]


# --- DDP and ZeRO --------------------------------------------------------------------------------------------------------------


def zero_groups(model: nn.Module, name: str) -> list[dict[str, Any]]:
    """ZeRO deals tensors out and keeps no names: a group per parameter says which it is, and to which recipe it goes."""
    whole_optimizer = made(name, model)
    named = {id(p): (i, n) for i, (n, p) in enumerate((n, p) for g in whole_optimizer.param_groups for n, p in zip(
        g["param_names"], g["params"], strict=True))}  # fmt: skip
    groups = []
    for group in whole_optimizer.param_groups:
        for p in group["params"]:
            index, own = named[id(p)]
            groups.append({"params": [p], "algorithm": group["algorithm"], "lr": group["lr"],
                           "layout": {"name": own, "index": index, "role": whole_optimizer._info(p)["role"]}})  # fmt: skip
    return groups


@check
def zero() -> Any:
    def compare(name: str) -> list[float]:
        straight, dealt = Model(), Model()
        a = made(name, straight)
        b = ZeroRedundancyOptimizer(zero_groups(dealt, name), contract.CLASSES[name], lr=0.01, **OPTIONS.get(name, {}))
        held = sum(len(g["params"]) for g in b.optim.param_groups)
        for t in range(3):
            for optimizer, model in ((a, straight), (b, dealt)):
                for i, p in enumerate(model.parameters()):
                    p.grad = contract.noise(*p.shape, dtype=p.dtype, seed=1000 * t + i)
                contract.step(a) if optimizer is a else zero_step(b)
        b.consolidate_state_dict(to=0)
        worst = [float(held), weights_difference(straight, dealt)]
        if dist.get_rank() == 0:
            state, wanted = b.state_dict()["state"], a.state_dict()["state"]
            assert state.keys() == wanted.keys()
            worst += [max(difference(state[i][k], wanted[i][k]) for i in wanted for k in wanted[i] if k != "weight_decay")]
        return worst

    # AlphaDecay compares the matrices of a model with each other, and here each process has a part of them.
    return each_class(compare, [name for name in NAMES if name != "AlphaDecay"])


def zero_step(optimizer: Any) -> None:
    for group in optimizer.optim.param_groups:
        if group["algorithm"] == "muonclip":
            optimizer.optim.observe("largest_logits", 0, torch.tensor([1.0, 2.0]))
            break
    optimizer.step()


@check
def zero_with_two_groups() -> Any:
    """As people write it: matrices and others, no names."""
    straight, dealt = Model(), Model()

    def groups(model: nn.Module) -> list[dict[str, Any]]:
        parameters = list(model.parameters())
        return [{"params": [p for p in parameters if p.dim() > 1], "algorithm": "muon"},
                {"params": [p for p in parameters if p.dim() < 2], "algorithm": "adamw", "lr": 1e-3}]  # fmt: skip

    a = schatten.Muon(groups(straight), lr=0.01)
    b = ZeroRedundancyOptimizer(groups(dealt), schatten.Muon, lr=0.01)
    steps(a, straight, 2)
    steps(b, dealt, 2)
    b.consolidate_state_dict(to=0)
    c = ZeroRedundancyOptimizer(groups(dealt), schatten.Muon, lr=0.01)
    state: list[Any] = [b.state_dict() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(state)
    c.load_state_dict(state[0])
    steps(a, straight, 2, 2)
    steps(c, dealt, 2, 2)
    return weights_difference(straight, dealt)


@check
def data_parallel() -> Any:
    """DDP with half a batch each, against one process with all of it."""

    def compare(name: str) -> list[float]:
        alone, copied = Model(), Model()
        trained(alone, made(name, alone), TOKENS)
        trained(nn.parallel.DistributedDataParallel(copied), made(name, copied), my_tokens())
        return [weights_difference(alone, copied), sensitivity(name, alone)]

    return each_class(compare, SOME)


FOLDER = pathlib.Path()


def main(rank: int, world: int, folder: pathlib.Path, wanted: list[str]) -> None:
    global FOLDER
    faulthandler.enable()
    FOLDER = folder
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    store = dist.FileStore(str(folder / "store"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=datetime.timedelta(seconds=60))
    results = {}
    for name, function in CHECKS.items():
        if not wanted or name in wanted:
            start = datetime.datetime.now()
            try:
                results[name] = function()
            except Exception:
                results[name] = traceback.format_exc()
            print(name, datetime.datetime.now() - start, file=sys.stderr)
    (folder / f"{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3]), sys.argv[4:])
