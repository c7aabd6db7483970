"""The authors' own numbers: what their code recorded (tests/golden), replayed through the Python classes in float64."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any, NamedTuple

import pytest
import torch
from contract import CLASSES
from safetensors import safe_open
from torch import Tensor, nn

import schatten

FOLDER = pathlib.Path(os.environ.get("SCHATTEN_GOLDEN") or pathlib.Path(__file__).parent.parent / "golden") / "optimizers"


class Case(NamedTuple):
    """A class, and what to say besides the recorded hyper-parameters that it knows by the same name."""

    cls: str
    words: dict[str, Any] = {}  # noqa: RUF012
    renamed: dict[str, str] = {}  # noqa: RUF012  # theirs to ours
    before: tuple[str, ...] = ()  # state that is an input of step t: recorded as projector.P.t
    after: tuple[str, ...] = ()  # state that is an input behind the first step: signs of eigenvectors are LAPACK's


POLAR: dict[str, Any] = {"options": {"polar.compute": "float64"}}
KELLER = {"adjust_lr_fn": "jordan_released", "options": {"polar.compute": "float64", "variant": "jordan"}}
NORMUON = {"variant": "repository", "adjust_lr_fn": "jordan_released",
           "options": {"polar.compute": "float64", "neurons.released_conv": True}}  # fmt: skip
HTMUON = {"method": "svd", "adjust_lr_fn": "jordan_released", "options": {"compute": "float64"}}
LOW_RANK = {"update_proj_gap": "refresh_every"}
CASES = {
    "torch_adam_sched_wd": Case("Adam"),
    "torch_adamw_const": Case("AdamW"),
    "torch_adamw_sched_wd": Case("AdamW"),
    "torch_adagrad_sched_wd": Case("Adagrad"),
    "torch_rmsprop": Case("RMSprop"),
    "torch_muon_tall_original": Case("Muon", POLAR),
    "torch_muon_wide_match_rms": Case("Muon", POLAR),
    "torch_muon_wide_nonesterov": Case("Muon", POLAR),
    "keller_muon_multi": Case("Muon", KELLER),
    "moonlight_muon_tall": Case("Muon", {"adjust_lr_fn": "match_rms_adamw", "options": {**POLAR["options"], "variant": "moonlight"}}),
    "htmuon_svd_multi": Case("HTMuon", HTMUON),
    "htnormuon_swide": Case("HTNorMuon", {**HTMUON, "update_norm": "none"}),
    "normuon_multi": Case("NorMuon", NORMUON),
    "adamuon_conv": Case("AdaMuon", {"beta2": 0.95, "options": {"polar.compute": "float64", "released_conv": True}}),
    "adamuon_square_zeros": Case("AdaMuon", {"beta2": 0.95, **POLAR}),
    "lion_const": Case("Lion"),
    "lion_sched_wd": Case("Lion"),
    "c_lion_sched_wd": Case("CLion"),
    "ademamix_warmups": Case("AdEMAMix"),
    "rmnp_tall": Case("RMNP", {"adjust_lr_fn": "jordan_released"}),
    "soap_conv_multi": Case("SOAP", {}, {"precondition_frequency": "every", "max_precond_dim": "max_dim"},
                            after=tuple(f"Q{i}" for i in range(4))),
    "soap_swide_twosided": Case("SOAP", {}, {"precondition_frequency": "every", "max_precond_dim": "max_dim"}, after=("Q0", "Q1")),
    "galore_swide_right": Case("GaLore", {"options": {"type": "right", "refresh": "svd"}}, LOW_RANK, before=("P",)),
    "galore_stall_left": Case("GaLore", {"options": {"type": "left", "refresh": "svd"}}, LOW_RANK, before=("P",)),
    "apollo_swide_tensor": Case("APOLLO", {"limit": 1.01, "options": {"limiter_released": True}}, LOW_RANK),
    "apollo_swide_channel_nolimit": Case("APOLLO", {"limit": 0.0, "options": {"limiter_released": True}}, LOW_RANK),
}  # fmt: skip
# Names of state in the recordings and of ours; what is not listed has one name.
STATE = {"m": ("exp_avg", "momentum_buffer"), "v": ("exp_avg_sq", "square_avg", "sum"), "momentum": ("momentum_buffer",)}


def _wide(t: Tensor) -> Tensor:
    """Inputs are stored in the smallest dtype that holds them."""
    return t.double() if t.is_floating_point() else t


class Recording:
    def __init__(self, name: str) -> None:
        with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
            self.metadata: dict[str, str] = file.metadata()
            self.tensors: dict[str, Tensor] = {key: _wide(file.get_tensor(key)) for key in file.keys()}
        alone = "param.init" in self.tensors
        self.prefixes = {"param": ""} if alone else {name: f"{name}/" for name in json.loads(self.metadata["params"])}
        self.hyper: dict[str, Any] = json.loads(self.metadata["hyper"])
        self.tolerance = float(self.metadata["rtol_f64"])
        self.parameters = {name: nn.Parameter(self[prefix + "param.init"].clone()) for name, prefix in self.prefixes.items()}

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]

    def at(self, name: str, kind: str, t: int) -> Tensor | None:
        return self.tensors.get(f"{self.prefixes[name]}{kind}.{t:03}")


def made(case: Case, recording: Recording) -> schatten.Optimizer:
    cls, hyper = CLASSES[case.cls], recording.hyper
    known = cls([("w.weight", nn.Parameter(torch.zeros(2, 2)))]).defaults
    words = {case.renamed.get(k, k): tuple(v) if isinstance(v, list) else v for k, v in hyper.items() if case.renamed.get(k, k) in known}
    if "aux_betas" in hyper:
        words["auxiliary"] = {"betas": tuple(hyper["aux_betas"]), "eps": hyper["aux_eps"], "weight_decay": hyper["weight_decay"]}
    optimizer: schatten.Optimizer = cls(list(recording.parameters.items()), **{**words, **case.words})
    return optimizer


def write(optimizer: schatten.Optimizer, recording: Recording, slots: tuple[str, ...], kind: str, t: int) -> None:
    for name, parameter in recording.parameters.items():
        for slot in slots:
            given = recording.at(name, f"{kind}.{slot}", t)
            if given is not None and given.numel() and slot in optimizer.state[parameter]:
                into = optimizer.state[parameter][slot]
                into.copy_(given if given.shape == into.shape else given.T)


@pytest.mark.parametrize("name", CASES)
def test_the_authors_numbers(name: str) -> None:
    case, recording = CASES[name], Recording(name)
    optimizer = made(case, recording)
    optimizer.materialize_state()
    compared = 0
    for t, lr in enumerate(recording["lr"].tolist()):
        for i, group in enumerate(optimizer.param_groups):
            group["lr"] = lr * (recording.hyper["aux_lr_factor"] if i else 1.0)
        for key, parameter in recording.parameters.items():
            parameter.grad = recording.at(key, "grad", t)
        write(optimizer, recording, case.before, "projector", t)
        optimizer.step()
        if t == 0:
            write(optimizer, recording, case.after, "state", t)
        for key, parameter in recording.parameters.items():
            compared += _compare(recording, key, parameter, t) + _compare_state(recording, key, optimizer.state[parameter], t)
    assert compared >= 5


def _compare(recording: Recording, name: str, parameter: Tensor, t: int) -> int:
    expected, start = recording.at(name, "param", t), recording[recording.prefixes[name] + "param.init"]
    if expected is None:
        return 0
    moved = float((expected - start).norm())
    assert float((parameter - expected).norm()) <= (recording.tolerance * moved if moved else 1e-14 * float(start.norm())), (name, t)
    return 1


def _compare_state(recording: Recording, name: str, state: dict[str, Tensor], t: int) -> int:
    compared = 0
    for theirs, ours in STATE.items():
        expected = recording.at(name, f"state.{theirs}", t)
        mine = next((state[key] for key in ours if key in state), None)
        if expected is None or mine is None or expected.numel() != mine.numel():
            continue
        assert float((mine - expected.reshape(mine.shape)).norm()) <= recording.tolerance * float(expected.norm()), (name, theirs, t)
        compared += 1
    return compared
