"""What is refused, in torch's words where torch has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from .recipe import SHAPE_SCALES, Recipe

MUON_WORDS = {
    "lr": "Learning rate should be >= 0 but is: {}",
    "momentum": "momentum should be >= 0 but is: {}",
    "weight_decay": "weight decay should be >= 0 but is: {}",
}
ADAM_WORDS = {
    "lr": "Invalid learning rate: {}",
    "momentum": "Invalid momentum value: {}",
    "weight_decay": "Invalid weight_decay value: {}",
    "eps": "Invalid epsilon value: {}",
    "lr_decay": "Invalid lr_decay value: {}",
    "initial_accumulator_value": "Invalid initial_accumulator_value value: {}",
    "alpha": "Invalid alpha value: {}",
}


def check_options(recipe: Recipe, group: Mapping[str, Any]) -> None:
    """Ranges, and what only one value makes sense for."""
    lr = group["lr"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    words = MUON_WORDS if recipe.matrices else ADAM_WORDS
    for name, text in words.items():
        if name in group and not group[name] >= 0.0:  # not a number is refused, too
            raise ValueError(text.format(group[name]))
    for i, beta in enumerate(group.get("betas", ())):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {i}: {beta}")
    if "adjust_lr_fn" in recipe.paths and group["adjust_lr_fn"] not in SHAPE_SCALES:
        known = ", ".join(map(repr, SHAPE_SCALES))
        raise ValueError(f"Adjust learning rate function {group['adjust_lr_fn']} is not supported\n  Known: {known}")
    if group.get("nesterov") and "dampening" in recipe.refused and not group["momentum"]:
        raise ValueError("Nesterov momentum requires a momentum and zero dampening")
    for name, only in recipe.refused.items():
        if group.get(name, only) != only:
            raise ValueError(f"schatten's {recipe.name} has no {name}: expected {only!r}, got {group[name]!r}\n  torch.optim has it.")
    if group.get("foreach") and group.get("fused"):
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
    if group.get("differentiable"):
        raise ValueError(
            f"schatten's {recipe.name} steps in place: expected differentiable=False, got True\n  "
            "A step that autograd follows needs torch.optim's element-wise optimizers."
        )


def check_parameter(name: str, parameter: Tensor, group: Mapping[str, Any]) -> None:
    if is_lazy(parameter):
        raise ValueError(
            f"parameter '{name}' has no shape yet: expected initialized parameters, got a lazy one\n  "
            "Run one batch through the module before making the optimizer."
        )
    if group.get("capturable") and parameter.device.type == "cpu":
        raise ValueError(
            f"parameter '{name}' is on the CPU: expected parameters on an accelerator with capturable=True\n  Leave capturable out."
        )


def check_gradient(who: str, name: str, grad: Tensor, elementwise: bool) -> None:
    if grad.is_sparse:
        way_out = ", please consider SparseAdam instead" if who in ("Adam", "AdamW") else ""
        raise RuntimeError(f"{who} does not support sparse gradients{way_out} (parameter '{name}', shape {tuple(grad.shape)})")
    if torch.is_complex(grad) and not elementwise:
        raise RuntimeError(f"{who} does not support complex parameters (parameter '{name}', shape {tuple(grad.shape)})")
