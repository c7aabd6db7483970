"""The one class behind all optimizers: torch.optim's contract around the operators of libschatten."""

from __future__ import annotations

import copy
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from typing_extensions import override

from . import routing
from ._registry import RECIPES
from .checks import check_gradient, check_options, check_parameter
from .recipe import Recipe

Params: TypeAlias = nn.Module | Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
EVERYWHERE = {"maximize": False, "foreach": None, "capturable": False, "differentiable": False, "fused": None}


class _Prepared(NamedTuple):
    """What one group's operator string is made from, and what it says."""

    key: list[Any]
    text: str
    slots: list[tuple[str, ...]]  # of each parameter that takes part
    complex: bool


class _Kept:
    """State that torch's load_state_dict must not cast to its parameter's dtype."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state


def recipe_named(name: Any) -> Recipe:
    if name in RECIPES:
        return RECIPES[name]
    raise ValueError(f"unknown algorithm {name!r}\n  Known: {', '.join(sorted(RECIPES))}")


class Optimizer(torch.optim.Optimizer):
    """Any recipe of the registry: ``schatten.Optimizer(model, "htmuon", lr=0.02)``.

    ``params`` is a module, ``named_parameters()``, tensors, or groups of these. A recipe for matrices gets the hidden matrices and
    convolutions; vectors, embeddings and heads go to groups of the ``auxiliary`` recipe (AdamW), whose options are its own. In groups,
    ``algorithm="adamw"`` or ``use_muon=False`` says the same by hand.
    """

    def __init__(
        self,
        params: Params,
        recipe: str | Recipe,
        lr: float | Tensor | None = None,
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        **named: Any,
    ) -> None:
        chosen = recipe if isinstance(recipe, Recipe) else recipe_named(recipe)
        unknown = sorted(set(named) - set(chosen.defaults) - set(EVERYWHERE) - set(chosen.refused))
        if unknown:
            raise TypeError(f"{chosen.name} has no option {', '.join(unknown)}\n  Options: {', '.join(chosen.defaults)}")
        defaults = {**chosen.defaults, **EVERYWHERE, **chosen.refused, **named, "algorithm": chosen.name}
        if lr is not None:
            defaults["lr"] = lr
        if options:
            defaults["options"] = dict(options)
        self._auxiliary = {"algorithm": "adamw", **(auxiliary or {})}
        self._state_dtype = str(state_dtype).removeprefix("torch.") if state_dtype else "auto"
        self._options = json.dumps({"seed": seed, "state_dtype": self._state_dtype})
        self._roles: dict[str, str] = {}  # that module types settle
        self._observed: list[tuple[str, int, Tensor]] = []
        self._forget()
        super().__init__(routing.named_groups(params), defaults)

    # --- groups -------------------------------------------------------------------------------------------------------

    @override
    @_disable_dynamo
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's; a group for matrices is split in two where it holds other parameters."""
        if not isinstance(param_group, dict) or isinstance(param_group["params"], set):
            super().add_param_group(param_group)  # raises
        for part in self._parts(dict(param_group)):
            recipe = self._completed(part)
            super().add_param_group(part)
            mine = {*recipe.defaults, *EVERYWHERE, *recipe.refused, "params", "param_names", "algorithm", "options", *param_group}
            for key in self.defaults.keys() - mine:
                self.param_groups[-1].pop(key)
        self._forget()
        self._declared(self.param_groups[-1], self.param_groups[-1]["params"])

    def _parts(self, group: dict[str, Any]) -> list[dict[str, Any]]:
        self._roles |= (roles := group.pop("roles", {}))
        muon = group.pop("use_muon", None)
        if "algorithm" in group or muon is not None or not recipe_named(self.defaults["algorithm"]).matrices:
            group.setdefault("algorithm", self._auxiliary["algorithm"] if muon is False else self.defaults["algorithm"])
            return [group]
        params = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        tensors = [p[1] if isinstance(p, tuple) else p for p in params]
        if not all(isinstance(t, Tensor) for t in tensors):
            return [{**group, "params": params}]  # torch says what is wrong with it
        named = bool(params) and isinstance(params[0], tuple)
        names = [p[0] if isinstance(p, tuple) else str(i) for i, p in enumerate(params)]
        for name, tensor in zip(names, tensors, strict=True):
            check_parameter(name, tensor, group)
        matrices, others = routing.split(names, tensors, named, roles)
        parts = [{**group, "params": [params[i] for i in matrices], "algorithm": self.defaults["algorithm"]}]
        own = recipe_named(self.defaults["algorithm"]).defaults
        common = {key: value for key, value in group.items() if key not in own}
        parts += [{**common, **self._auxiliary, "params": [params[i] for i in others]}]
        return [part for part in parts if part["params"]] or parts[:1]

    def _completed(self, group: dict[str, Any]) -> Recipe:
        """Fills in the defaults of the group's own algorithm, and checks."""
        recipe = recipe_named(group["algorithm"])
        if recipe.name != self.defaults["algorithm"]:
            for key, value in {**recipe.defaults, **recipe.refused}.items():
                group.setdefault(key, value)
        if isinstance(self.defaults["lr"], Tensor) and not isinstance(group.get("lr", self.defaults["lr"]), Tensor):
            group["lr"] = torch.tensor(group["lr"])  # one float among tensors would have torch.compile see every change
        check_options(recipe, {**self.defaults, **group})
        return recipe

    # --- what torch saves, copies and loads ---------------------------------------------------------------------------

    def _forget(self) -> None:
        """What follows from groups and state is found again when it is wanted."""
        self._prepared: dict[int, _Prepared] = {}
        self._infos: dict[int, dict[str, Any]] = {}

    @override
    def __getstate__(self) -> dict[str, Any]:
        own = {name: self.__dict__[name] for name in ("_auxiliary", "_state_dtype", "_options", "_roles")}
        return {**super().__getstate__(), **own, "_observed": []}

    @override
    def __setstate__(self, state: dict[str, Any]) -> None:
        kept: defaultdict[Any, Any] = defaultdict(dict)
        kept.update({key: _placed(key, value) for key, value in state["state"].items()})
        self._forget()
        super().__setstate__({**state, "state": kept})

    @override
    @_disable_dynamo
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, but state keeps the dtypes that it was saved with: float32 moments of bfloat16 parameters, counters, indices."""
        handle = self.register_load_state_dict_pre_hook(_keep)
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()

    # --- the step -----------------------------------------------------------------------------------------------------

    def _info(self, parameter: Tensor) -> dict[str, Any]:
        if id(parameter) not in self._infos:
            tensors = [p for group in self.param_groups for p in group["params"]]
            names = [name for group in self.param_groups for name in group.get("param_names") or [None] * len(group["params"])]
            known = [name or str(i) for i, name in enumerate(names)]
            shapes = [_real_shape(p) for p in tensors]
            for each, info in zip(tensors, routing.infer(known, shapes), strict=True):
                self._infos[id(each)] = {**info, "role": self._roles.get(info["name"], info["role"])}
        return self._infos[id(parameter)]

    def _request(self, texts: list[str]) -> str:
        observed = ",".join(f'{{"what":"{what}","block":{block}}}' for what, block, _ in self._observed)
        return f'{{"options":{self._options},"observed":[{observed}],"groups":[{",".join(texts)}]}}'

    def _declared(self, group: dict[str, Any], taking_part: Iterable[Tensor]) -> tuple[str, str, list[list[dict[str, Any]]]]:
        """The group's part of the operator's string, how much of a matrix it needs, and what state each parameter wants."""
        recipe = recipe_named(group["algorithm"])
        places, values = recipe.numbers(group)
        parameters = [{**self._info(p), **group.get("layout", {})} for p in taking_part]
        text = json.dumps({"recipe": recipe.table(group), "hyper": places, "parameters": parameters})
        hyper = [float(group["lr"]), *values]
        (answer,) = json.loads(torch.ops.schatten.declare(self._request([text]), hyper))
        extra_slots = [{"key": "step", "shape": [], "like_parameter": False, "dtype": "step"}]
        if answer["controlled"]:
            extra_slots.append({"key": "weight_decay", "shape": [], "like_parameter": False, "dtype": "controlled"})
        return text, answer["locality"], [slots + extra_slots for slots in answer["parameters"]]

    def _fill_state(self, parameter: Tensor, slots: list[dict[str, Any]]) -> None:
        state = self.state[parameter]
        for slot in slots:
            key, present = slot["key"], state.get(slot["key"])
            if present is None:
                state[key] = self._new(parameter, slot)
            elif slot["dtype"] not in ("step", "controlled") and present.dtype != self._dtype(parameter, slot):
                state[key] = present.to(self._dtype(parameter, slot))

    def _dtype(self, parameter: Tensor, slot: dict[str, Any]) -> torch.dtype:
        if slot["dtype"]:
            dtype: torch.dtype = getattr(torch, slot["dtype"])
            return dtype
        wide = parameter.dtype in (torch.float64, torch.complex128)
        dtype = DTYPES.get(self._state_dtype, torch.float64 if wide else torch.float32)
        return dtype.to_complex() if parameter.is_complex() and slot["like_parameter"] else dtype

    def _new(self, parameter: Tensor, slot: dict[str, Any]) -> Tensor:
        if slot["dtype"] == "step":
            return torch.zeros((), dtype=torch.float32)
        if slot["dtype"] == "controlled":
            return torch.full((), float("nan"), dtype=torch.float64)
        shape = parameter.shape if slot["like_parameter"] else slot["shape"]
        return torch.zeros(shape, dtype=self._dtype(parameter, slot), device=parameter.device)

    def _init_group(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], state: list[Tensor], numbers: list[float]
    ) -> str:
        """Collects what one group hands to the operator, and makes state where there is none yet. dynamo runs it eagerly."""
        recipe = recipe_named(group["algorithm"])
        taking_part = [p for p in group["params"] if p.grad is not None and p.numel() > 0]
        if not taking_part:
            return ""
        places, values = recipe.numbers(group)
        key = [recipe.static(group), places, [id(p) for p in taking_part]]
        prepared = self._prepared.get(id(group))
        if prepared is None or prepared.key != key:
            prepared = self._prepare(group, key, taking_part)
        for parameter, keys in zip(taking_part, prepared.slots, strict=True):
            own = self.state[parameter]
            params.append(parameter)
            grads.append(parameter.grad)
            for name in keys:
                state.append(own[name])
        if prepared.complex:
            params[:], grads[:], state[:] = map(_real, params), map(_real, grads), map(_real, state)
        numbers.extend(values)
        return prepared.text

    def _prepare(self, group: dict[str, Any], key: list[Any], taking_part: list[Tensor]) -> _Prepared:
        text, locality, declared = self._declared(group, taking_part)
        for parameter, slots in zip(taking_part, declared, strict=True):
            grad = parameter.grad
            assert grad is not None
            check_gradient(type(self).__name__, self._info(parameter)["name"], grad, locality == "elementwise")
            self._fill_state(parameter, slots)
        slots_of = [tuple(slot["key"] for slot in slots) for slots in declared]
        prepared = _Prepared(copy.deepcopy(key), text, slots_of, any(p.is_complex() for p in taking_part))
        self._prepared[id(group)] = prepared
        return prepared

    @override
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient; ``closure`` is evaluated first, and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        params: list[Tensor] = []
        grads: list[Tensor] = []
        state: list[Tensor] = []
        hyper: list[Any] = []
        texts: list[str] = []
        for group in self.param_groups:
            own_params: list[Tensor] = []
            own_grads: list[Tensor] = []
            own_state: list[Tensor] = []
            numbers: list[float] = []
            text = self._init_group(group, own_params, own_grads, own_state, numbers)
            if not text:
                continue
            if group["maximize"]:
                own_grads = list(torch._foreach_neg(own_grads))
            params.extend(own_params)
            grads.extend(own_grads)
            state.extend(own_state)
            texts.append(text)
            hyper.append(group["lr"])
            hyper.extend(numbers)
        if params:
            observed = [values for _, _, values in self._observed]
            torch.ops.schatten.step(params, grads, state, self._request(texts), _as_tensor(hyper), observed)
            self._observed.clear()
        return loss

    def observe(self, what: str, block: int, values: Tensor) -> None:
        """Tells the next step what a controller goes by: MuonClip's ``"largest_logits"``, one number per head, of each block."""
        self._observed.append((what, block, values.detach()))

    # --- what it says of itself ---------------------------------------------------------------------------------------

    @override
    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            shown = {**group, "params": self._counted(group)}
            shown.pop("param_names", None)
            lines += [f"Parameter Group {i}", *(f"    {key}: {shown[key]}" for key in sorted(shown))]
        return "\n".join([*lines, ")"])

    def _counted(self, group: dict[str, Any]) -> str:
        """ "2 hidden_matrix, 1 embedding (1024 entries)\""""
        roles = Counter(self._info(p)["role"] for p in group["params"])
        entries = sum(p.numel() for p in group["params"])
        return f"{', '.join(f'{count} {role}' for role, count in roles.items())} ({entries} entries)"

    def routing_table(self) -> str:
        """Which parameter goes to which recipe, at what rate, and what its state takes: one line each."""
        rows = [("parameter", "shape", "role", "algorithm", "lr", "state")]
        for group in self.param_groups:
            _, _, declared = self._declared(group, group["params"])
            for parameter, slots in zip(group["params"], declared, strict=True):
                info, size = self._info(parameter), sum(self._bytes(parameter, slot) for slot in slots)
                shape = "x".join(map(str, parameter.shape)) or "scalar"
                rows.append((info["name"], shape, info["role"], group["algorithm"], f"{float(group['lr']):g}", f"{size} B"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)

    def _bytes(self, parameter: Tensor, slot: dict[str, Any]) -> int:
        if slot["dtype"] in ("step", "controlled"):
            return 4 if slot["dtype"] == "step" else 8
        entries = parameter.numel() if slot["like_parameter"] else math.prod(slot["shape"])
        return entries * self._dtype(parameter, slot).itemsize

    def state_bytes(self) -> int:
        """What the state of all parameters takes, from declarations alone: nothing is allocated."""
        total = 0
        for group in self.param_groups:
            _, _, declared = self._declared(group, group["params"])
            total += sum(self._bytes(p, slot) for p, slots in zip(group["params"], declared, strict=True) for slot in slots)
        return total

    def materialize_state(self) -> None:
        """Makes the state of every parameter now, as the first step would."""
        for group in self.param_groups:
            everyone = [p for p in group["params"] if p.numel() > 0]
            if everyone:
                _, _, declared = self._declared(group, everyone)
                for parameter, slots in zip(everyone, declared, strict=True):
                    self._fill_state(parameter, slots)


def _as_tensor(numbers: list[Any]) -> Tensor:
    if any(isinstance(n, Tensor) for n in numbers):
        return torch.stack([torch.as_tensor(n, dtype=torch.float64, device="cpu").reshape(()) for n in numbers])
    return torch.tensor(numbers, dtype=torch.float64)


def _real(t: Tensor) -> Tensor:
    return torch.view_as_real(t) if t.is_complex() else t


def _real_shape(parameter: Tensor) -> tuple[int, ...]:
    return (*parameter.shape, 2) if parameter.is_complex() else tuple(parameter.shape)


def _keep(_: torch.optim.Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    return {**state_dict, "state": {k: _Kept(v) if isinstance(v, dict) else v for k, v in state_dict["state"].items()}}


def _placed(parameter: Any, value: Any) -> Any:
    if not isinstance(value, _Kept):
        return value
    moves = isinstance(parameter, Tensor)
    return {k: v.to(parameter.device) if moves and isinstance(v, Tensor) and k != "step" else v for k, v in value.state.items()}
