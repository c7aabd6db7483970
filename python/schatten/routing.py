"""Which parameter goes to which recipe: by the module that owns it, by its name, by its shape."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

MATRICES = ("hidden_matrix", "conv")
Group = dict[str, Any]


def infer(names: list[str], shapes: list[tuple[int, ...]]) -> list[dict[str, Any]]:
    """Name, index, role, shape and block of each, as the library works them out."""
    described = [{"name": name, "shape": list(shape)} for name, shape in zip(names, shapes, strict=True)]
    inferred: list[dict[str, Any]] = json.loads(torch.ops.schatten.infer(json.dumps(described)))
    return inferred


def named_groups(params: Any) -> Any:
    """A module as its named parameters, split by what its submodules say; everything else as it is."""
    if not isinstance(params, nn.Module):
        return params
    named = list(params.named_parameters())
    if not named:
        raise ValueError("optimizer got an empty parameter list")
    return [{"params": named, "roles": roles_of(params)}]


def roles_of(module: nn.Module) -> dict[str, str]:
    """Roles that module types settle, by parameter name."""
    roles: dict[str, str] = {}
    for prefix, owner in module.named_modules():
        role = "embedding" if isinstance(owner, nn.Embedding | nn.EmbeddingBag) else None
        if role is None and isinstance(owner, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm):
            role = "gain"
        for name, _ in owner.named_parameters(recurse=False):
            if role:
                roles[f"{prefix}.{name}" if prefix else name] = role
    return roles


def split(names: Iterable[str], params: Iterable[Tensor], named: bool, roles: Mapping[str, str]) -> tuple[list[int], list[int]]:
    """Positions of the matrices, and of all the others."""
    names, params = list(names), list(params)
    inferred = infer(names, [tuple(p.shape) for p in params])
    is_matrix = [(roles.get(n) or i["role"]) in MATRICES if named else len(i["shape"]) > 1 for n, i in zip(names, inferred, strict=True)]
    if not named and any(is_matrix):
        warnings.warn(
            "parameters without names: every tensor of two or more dimensions goes to the matrix recipe, embeddings and heads, too; "
            "pass the module or model.named_parameters() to have them told apart "
            "(in transformers' Trainer: optimizer_cls_and_kwargs=(lambda: schatten.Muon, {...}); in timm: docs/python/timm.md)",
            stacklevel=_levels_to_the_user(),
        )
    matrices = [i for i, yes in enumerate(is_matrix) if yes]
    return matrices, [i for i, yes in enumerate(is_matrix) if not yes]


def _levels_to_the_user() -> int:
    """For a warning: how far above the one who warns the code is that is neither torch's nor ours."""
    ours = tuple(os.path.dirname(module.__file__ or "") + os.sep for module in (torch, sys.modules[__package__ or __name__]))
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(ours):
        frame, level = frame.f_back, level + 1
    return level
