"""New optimizers from stages: ``compose(stages.ema(0.95), stages.spectral_power(power=0.125), stages.scale_by_shape("moonlight"))``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import torch

from .recipe import COMPOSED, Recipe

Stage: TypeAlias = dict[str, Any]
Inner: TypeAlias = Stage | Iterable[Stage]


def made(name: str, named: str | None, **options: Any) -> Stage:
    """A stage as the library reads it: what is None is left out, and stages one after another are a chain."""
    given = {key: _chained_or_plain(value) for key, value in options.items() if value is not None}
    return {"stage": name, **given, **({"named": named} if named else {})}


def _chained_or_plain(value: Any) -> Any:
    plain = _plain(value)
    return chained(plain) if isinstance(plain, list) and plain and all(isinstance(each, dict) for each in plain) else plain


def _plain(value: Any) -> Any:
    """Dicts, lists, numbers and text alone."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return value if isinstance(value, str | bool | int | float) else [_plain(each) for each in value]


def chained(stages: Iterable[Stage]) -> Stage:
    all_of_them = list(stages)
    return all_of_them[0] if len(all_of_them) == 1 else {"chain": all_of_them}


def compose(
    *stages: Stage,
    decay: str = "decoupled",
    name: str = "composed",
    retract: Mapping[str, Any] | None = None,
    controllers: Iterable[Mapping[str, Any]] = (),
) -> Recipe:
    """A recipe of one's own: ``schatten.Optimizer(model, compose(...), lr=0.02, weight_decay=0.1)``.

    The stages work on the gradient one after another: W <- retract(decay(W) - lr * stages(G)). Learning rate and weight decay are the
    optimizer's options, for schedulers to move. Everything else goes as plain data into the group, so that a state_dict or a pickle
    needs no code of yours. A recipe that makes no sense for vectors gets the matrices, and the others go to the auxiliary one.

    Args:
        stages: from ``schatten.stages``, or tables such as ``{"stage": "ema", "beta": 0.95}``
        decay: decoupled, after, coupled, cautious, cautious_squared: what weight_decay does
        name: a label for error messages
        retract: ``{"form": "project"}``: unit rows or columns after the step
        controllers: ``[{"controller": "qk_clip", "tau": 100}]``
    """
    if not stages:
        raise ValueError("schatten.compose: expected a stage or more, got none\n  For example compose(stages.ema(0.95)).")
    for stage in stages:
        if not isinstance(stage, Mapping):
            raise TypeError(f"schatten.compose: expected stages, got {type(stage).__name__} {stage!r}\n  Call it: stages.ema(0.95).")
    options: dict[str, Any] = {"name": name, "direction": chained(_plain(s) for s in stages), "decay.form": decay}
    if retract is not None:
        options["retract"] = _plain(retract)
    if controllers := [_plain(c) for c in controllers]:
        options["controllers"] = controllers
    recipe = dataclasses.replace(COMPOSED, defaults={**COMPOSED.defaults, "options": options})
    return dataclasses.replace(recipe, matrices=not _takes_vectors(recipe))


def _takes_vectors(recipe: Recipe) -> bool:
    """Asks the library, which refuses what cannot be combined."""
    group = {"recipe": recipe.table({**recipe.defaults, "weight_decay": 1.0}), "hyper": ["decay.weight_decay"], "parameters": []}
    (answer,) = json.loads(torch.ops.schatten.declare(json.dumps({"groups": [group]}), [1.0, 1.0]))
    return bool(answer["takes_vectors"])
