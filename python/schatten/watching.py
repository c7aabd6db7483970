"""Watches an optimizer's matrices while it trains: what the gradient, the update and the weights look like every so many steps."""

from __future__ import annotations

import fnmatch
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from . import sharded
from .diagnostics import sides
from .tables import plain

if TYPE_CHECKING:
    from .optimizer import Optimizer

Record = dict[str, Any]
Names = str | Iterable[str] | None
MOMENTA = ("momentum_buffer", "exp_avg")


class _Watched(NamedTuple):
    parameter: Tensor
    group: dict[str, Any]
    info: dict[str, Any]


class Watch:
    """What `Optimizer.watch` returns: ``remove()`` ends it. It is no state of the optimizer: neither saved nor copied."""

    def __init__(
        self, optimizer: Optimizer, every: int, callback: Callable[[Record], Any] | None, jsonl: str | os.PathLike[str] | None,
        writer: Any, names: Names,
    ) -> None:  # fmt: skip
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"watch: expected every to be a whole number from 1, got {every!r}")
        if callback is None and jsonl is None and writer is None:
            raise ValueError("watch: expected somewhere to put the records, got none of callback, jsonl and writer")
        if callback is not None and not callable(callback):
            raise TypeError(f"watch: expected a function of one record as callback, got {type(callback).__name__}")
        if writer is not None and not hasattr(writer, "add_scalar"):
            raise TypeError(f"watch: expected a writer with add_scalar, as TensorBoard's SummaryWriter, got {type(writer).__name__}")
        self.every, self.callback, self.jsonl, self.writer = every, callback, jsonl, writer
        self.patterns = [names] if isinstance(names, str) else None if names is None else list(names)
        self._check(optimizer)
        self._before: tuple[int, list[Tensor]] = 0, []  # steps done, and the weights
        self._find_next(optimizer)
        self._hooks = [
            optimizer.register_step_pre_hook(self._on_pre_step),
            optimizer.register_step_post_hook(self._on_post_step),
            optimizer.register_load_state_dict_post_hook(self._find_next),  # type: ignore[arg-type]
        ]

    def remove(self) -> None:
        """No more records."""
        for hook in self._hooks:
            hook.remove()

    # --- when ---------------------------------------------------------------------------------------------------------

    # torch.compile traces these two: on all but the watched steps they count, and no more.

    def _on_pre_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self.left -= 1
        if self.left <= 0:
            self._look(optimizer)

    def _on_post_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self.left <= 0:
            self._tell(optimizer)

    def _find_next(self, optimizer: Optimizer) -> None:
        """The optimizer's own count decides, so that a resumed run is watched at the same steps."""
        self.left = self.every - _steps_done(self._watched(optimizer), optimizer) % self.every

    @_disable_dynamo
    @torch.no_grad()
    def _look(self, optimizer: Optimizer) -> None:
        watched = list(self._watched(optimizer))
        self._before = _steps_done(watched, optimizer), [_whole(w.parameter).clone() for w in watched]

    @_disable_dynamo
    @torch.no_grad()
    def _tell(self, optimizer: Optimizer) -> None:
        (steps, before), self._before = self._before, (0, [])
        watched = list(self._watched(optimizer))
        self._find_next(optimizer)
        step = _steps_done(watched, optimizer)
        if step == steps or step % self.every:  # nobody had a gradient, in this step or in one since the last record
            return
        pairs = [(w, old) for w, old in zip(watched, before, strict=True) if w.parameter.grad is not None]
        seen = [_seen(w, old, optimizer) for w, old in pairs]
        if seen and _first_process():  # the others have helped to bring shards together
            self._put(_records(step, seen))

    # --- what ---------------------------------------------------------------------------------------------------------

    def _watched(self, optimizer: Optimizer) -> Iterator[_Watched]:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                info = optimizer._info(parameter)
                if parameter.is_complex() or min(sides(tuple(parameter.shape))) < 2:
                    continue
                chosen = [info["role"] in ("hidden_matrix", "conv")]
                if self.patterns is not None:
                    chosen = [fnmatch.fnmatchcase(info["name"], pattern) for pattern in self.patterns]
                if any(chosen):
                    yield _Watched(parameter, group, info)

    def _check(self, optimizer: Optimizer) -> None:
        if next(self._watched(optimizer), None) is not None:
            return
        all_names = [optimizer._info(p)["name"] for group in optimizer.param_groups for p in group["params"]]
        wanted = f"matrices named {' or '.join(map(repr, self.patterns))}" if self.patterns is not None else "hidden matrices"
        raise ValueError(f"watch: expected {wanted}, got none\n  Parameters: {', '.join(all_names[:6])}{', ...' * (len(all_names) > 6)}")

    # --- whom ---------------------------------------------------------------------------------------------------------

    def _put(self, records: list[Record]) -> None:
        if self.jsonl is not None:
            with open(self.jsonl, "a", encoding="utf-8") as file:
                file.write("".join(json.dumps(record, allow_nan=False) + "\n" for record in records))
        for record in records:
            if self.writer is not None:
                for tag, value in scalars(record).items():
                    self.writer.add_scalar(f"spectra/{record['name']}/{tag}", value, record["step"])
            if self.callback is not None:
                self.callback(record)


class _Seen(NamedTuple):
    about: dict[str, Any]
    weight: Tensor
    momentum: Tensor
    update: Tensor
    more: dict[str, float]


def _seen(watched: _Watched, before: Tensor, optimizer: Optimizer) -> _Seen:
    parameter, info = watched.parameter, watched.info
    assert parameter.grad is not None
    weight, grad = _matrix(_whole(parameter)), _whole(parameter.grad)
    state = optimizer.state[parameter]
    slot = next((state[name] for name in MOMENTA if name in state), None)
    momentum = weight.new_empty(0) if slot is None else _matrix(_whole(slot))
    about = {"name": info["name"], "index": info["index"], "block": info.get("block", -1)}
    more = {"lr": float(watched.group["lr"]), "grad_norm": float(torch.linalg.vector_norm(grad.float()))}
    return _Seen(about, weight, momentum, _matrix(before) - weight, more)


def _records(step: int, seen: list[_Seen]) -> list[Record]:
    about = json.dumps({"step": step, "parameters": [s.about for s in seen]})
    text = torch.ops.schatten.spectra_records([s.weight for s in seen], [s.momentum for s in seen], [s.update for s in seen], about)
    return [{**record, **plain(s.more)} for record, s in zip(json.loads(text), seen, strict=True)]


def scalars(record: Record) -> dict[str, float]:
    """One record as curves: ``alpha``, ``update_ratio``, ``weight_stable_rank``, ... What is no number is left out."""
    found = {name: record[name] for name in ("lr", "grad_norm", "update_ratio")}
    found |= {name: record[name]["alpha"] for name in ("alpha", "alpha_shuffled")}
    for what in ("weight", "momentum", "update"):
        for name in ("sigma_max", "stable_rank", "effective_rank", "rms"):
            found[f"{what}_{name}"] = record.get(what, {}).get(name)
    return {name: value for name, value in found.items() if value is not None}


def _steps_done(watched: Iterable[_Watched], optimizer: Optimizer) -> int:
    states = (optimizer.state.get(w.parameter, {}) for w in watched if w.parameter.requires_grad)
    return max((int(state["step"]) for state in states if "step" in state), default=0)


def _matrix(tensor: Tensor) -> Tensor:
    return tensor.reshape(sides(tuple(tensor.shape)))


def _whole(tensor: Tensor) -> Tensor:
    whole: Tensor = tensor.full_tensor() if sharded.is_sharded(tensor) else tensor
    return whole.detach()


def _first_process() -> bool:
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return True
    return bool(distributed.get_rank() == 0)
