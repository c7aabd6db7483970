"""The optimizers that Schatten is timed against, by the names that the tables show.

torch's own are always there; the rest comes from `requirements.txt` and may be missing. Settings are each package's
defaults, but where the work of both sides would differ (ranks, how often something is renewed).
"""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import importlib.util
import pathlib
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "build" / "bench" / "peers"
PACKAGES = ["torch", "heavyball", "pytorch_optimizer", "galore-torch", "apollo-torch"]
RATE = 1e-3
Options = dict[str, Any]
Tensors = list[Tensor]
Optimizer = torch.optim.Optimizer


def find_packages() -> None:
    """Makes the installed peers importable, behind everything of this Python's own."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))


def versions() -> dict[str, str]:
    find_packages()
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def stand_in(name: str, **names: object) -> None:
    """An empty module in the place of one that a peer imports and that our rows never call."""
    root = name.split(".", 1)[0]
    if root not in sys.modules and importlib.util.find_spec(root):
        return
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        dotted = ".".join(parts[:depth])
        if dotted not in sys.modules:
            module = types.ModuleType(dotted)
            module.__spec__ = importlib.machinery.ModuleSpec(dotted, None)
            sys.modules[dotted] = module
            if depth > 1:
                setattr(sys.modules[".".join(parts[: depth - 1])], parts[depth - 1], module)
    vars(sys.modules[name]).update(names)


def stand_ins() -> None:
    stand_in("bitsandbytes.functional")
    stand_in("bitsandbytes.optim.optimizer", Optimizer2State=object)
    stand_in("transformers.utils.versions", require_version=lambda _: None)


# --- written here: what has no package --------------------------------------------------------------------------------

QUINTIC = (3.4445, -4.7750, 2.0315)


class FromMomentum(Optimizer):
    """W <- W - lr c(m, n) map(X), X Nesterov's average of gradients: Muon's frame around any map of matrices."""

    def __init__(self, matrices: Tensors, mapping: Callable[[Tensor], Tensor], momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": RATE, "momentum": momentum})
        self.mapping = mapping

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for matrix in group["params"]:
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                average = state["momentum_buffer"].lerp_(matrix.grad, 1 - group["momentum"])
                update = self.mapping(matrix.grad.lerp(average, group["momentum"]))
                size = max(1, matrix.shape[0] / matrix.shape[1]) ** 0.5
                matrix.add_(update, alpha=-group["lr"] * size)


def quintic_float32(x: Tensor) -> Tensor:
    """The textbook's five steps, as Muon's page writes them, but in float32."""
    a, b, c = QUINTIC
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def power_by_svd(x: Tensor, power: float) -> Tensor:
    """U S^p V^T as HTMuon's exact form is released: one SVD per matrix."""
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    result: Tensor = (u * s.pow(power)) @ vh
    return result


# --- packages ---------------------------------------------------------------------------------------------------------


def heavyball(name: str, **settings: object) -> Callable[[Tensors, Options], Optimizer]:
    def make(matrices: Tensors, _: Options) -> Optimizer:
        import heavyball

        heavyball.utils.compile_mode = None  # its default compiles for minutes before the first step
        made: Optimizer = getattr(heavyball, name)(matrices, lr=RATE, **settings)
        return made

    return make


def pytorch_optimizer(name: str, **settings: object) -> Callable[[Tensors, Options], Optimizer]:
    def make(matrices: Tensors, _: Options) -> Optimizer:
        import pytorch_optimizer

        group = {"params": matrices, **({"use_muon": True} if name == "Muon" else {})}
        made: Optimizer = getattr(pytorch_optimizer, name)([group], lr=RATE, **settings)
        return made

    return make


def galore(matrices: Tensors, options: Options) -> Optimizer:
    stand_ins()
    from galore_torch import GaLoreAdamW

    group = {"params": matrices, "rank": options["rank"], "update_proj_gap": options["every"], "scale": 0.25,
             "proj_type": "std"}
    made: Optimizer = GaLoreAdamW([group], lr=RATE, no_deprecation_warning=True)
    return made


def apollo(matrices: Tensors, options: Options) -> Optimizer:
    stand_ins()
    from apollo_torch import APOLLOAdamW

    mini = options["rank"] == 1
    group = {"params": matrices, "rank": options["rank"], "update_proj_gap": options["every"], "proj": "random",
             "proj_type": "std", "scale": 128 if mini else 1, "scale_type": "tensor" if mini else "channel"}
    made: Optimizer = APOLLOAdamW([group], lr=RATE)
    return made


def keller(matrices: Tensors, _: Options) -> Optimizer:
    """Its repository's package, `pip install git+https://github.com/KellerJordan/Muon`."""
    from muon import SingleDeviceMuon

    made: Optimizer = SingleDeviceMuon(matrices, lr=RATE)
    return made


SOAP = {"precondition_frequency": 10, "merge_dims": False}
MAKE: dict[str, Callable[[Tensors, Options], Optimizer]] = {
    "torch.optim.Muon": lambda matrices, _: torch.optim.Muon(matrices, lr=RATE),
    "torch.optim.AdamW": lambda tensors, _: torch.optim.AdamW(tensors, lr=RATE),
    "torch.optim.AdamW(foreach=True)": lambda tensors, _: torch.optim.AdamW(tensors, lr=RATE, foreach=True),
    "KellerJordan/Muon": keller,
    "torch.optim.AdamW(fused=True)": lambda tensors, _: torch.optim.AdamW(tensors, lr=RATE, fused=True),
    "textbook, float32": lambda matrices, _: FromMomentum(matrices, quintic_float32),
    "released HTMuon (SVD)": lambda matrices, o: FromMomentum(matrices, lambda x: power_by_svd(x, o["power"])),
    "heavyball.Muon": heavyball("Muon"),
    "heavyball.SOAP": heavyball("SOAP", **SOAP, max_precond_dim=10000, use_precond_schedule=False),
    "heavyball.KLShampoo": heavyball("KLShampoo", **SOAP, max_precond_dim=10000, use_precond_schedule=False),
    "pytorch_optimizer.Muon": pytorch_optimizer("Muon"),
    "pytorch_optimizer.SOAP": pytorch_optimizer("SOAP", **SOAP),
    # No momentum: with 0.9, and roots every 10 steps, it diverges.
    "pytorch_optimizer.Shampoo": pytorch_optimizer("Shampoo", preconditioning_compute_steps=10),
    "galore_torch.GaLoreAdamW": galore,
    "apollo_torch.APOLLOAdamW": apollo,
}


# They work in the gradients: every step needs new ones.
SPOILS_GRADIENTS = {"pytorch_optimizer.Muon", "pytorch_optimizer.Shampoo"}


def make_peer(name: str, tensors: Tensors, options: Options) -> Optimizer:
    """ImportError where its package is missing."""
    find_packages()
    return MAKE[name](tensors, options)


def state_bytes(optimizer: Optimizer) -> int:
    """Bytes of all tensors that its state reaches, each storage once."""
    storages: dict[int, int] = {}
    seen: set[int] = set()

    def visit(value: object) -> None:
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, Tensor):
            storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        elif isinstance(value, dict):
            for item in value.values():
                visit(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                visit(item)
        elif type(value).__name__.endswith("Projector"):  # GaLore's and APOLLO's
            visit(vars(value))

    visit(dict(optimizer.state))
    return sum(storages.values())
