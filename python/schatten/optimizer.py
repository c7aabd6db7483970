"""The one class behind all optimizers: torch.optim's contract around the operators of libschatten."""

from __future__ import annotations

import copy
import json
import math
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from typing_extensions import override

from . import migrate, routing, sharded
from ._registry import RECIPES
from .checks import check_gradient, check_options, check_parameter
from .recipe import COMPOSED, Recipe
from .watching import Watch

Params: TypeAlias = nn.Module | Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
EVERYWHERE = {"maximize": False, "foreach": None, "capturable": False, "differentiable": False, "fused": None}


class _Prepared(NamedTuple):
    """What one group's operator string is made from, and what it says."""

    key: list[Any]
    text: str
    slots: list[tuple[str, ...]]  # of each parameter that takes part
    complex: bool
    answer: dict[str, Any]  # the library's, of the recipe


class _Kept:
    """State that torch's load_state_dict must not cast to its parameter's dtype."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state


def recipe_named(name: Any) -> Recipe:
    if name in RECIPES:
        return RECIPES[name]
    if name == COMPOSED.name:
        return COMPOSED
    raise ValueError(f"unknown algorithm {name!r}\n  Known: {', '.join(sorted(RECIPES))}")


class Optimizer(torch.optim.Optimizer):
    """Any recipe of the registry: ``schatten.Optimizer(model, "htmuon", lr=0.02)``.

    ``params`` is a module, ``named_parameters()``, tensors, or groups of these. A recipe for matrices gets the hidden matrices and
    convolutions; vectors, embeddings and heads go to groups of the ``auxiliary`` recipe (AdamW), whose options are its own. In groups,
    ``algorithm="adamw"`` or ``use_muon=False`` says the same by hand. A group's own values are for its matrices, and ``weight_decay`` for
    all of it unless ``auxiliary`` has its own; a group without matrices, as one of biases, keeps all that it says.
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
            defaults["options"] = {**chosen.defaults.get("options", {}), **options}
        self._auxiliary = _spelled({"algorithm": "adamw", **(auxiliary or {})})
        self._for_matrices = chosen.matrices
        self._state_dtype = str(state_dtype).removeprefix("torch.") if state_dtype else "auto"
        self._options = json.dumps({"seed": seed, "state_dtype": self._state_dtype})
        self._roles: dict[str, str] = {}  # that module types settle
        self._observed: list[tuple[str, int, Tensor]] = []
        self._forget()
        super().__init__(migrate.with_plain_groups(routing.named_groups(params), defaults), defaults)

    # --- groups -------------------------------------------------------------------------------------------------------

    @override
    @_disable_dynamo
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's; a group for matrices is split in two where it holds other parameters."""
        if not isinstance(param_group, dict) or isinstance(param_group["params"], set):
            super().add_param_group(param_group)  # raises
        before = len(self.param_groups)
        try:
            for part in self._parts(_spelled(migrate.translated(param_group))):
                self._add(part)
        except Exception:
            del self.param_groups[before:]
            raise
        finally:
            self._forget()

    def _add(self, group: dict[str, Any]) -> None:
        recipe = self._completed(group)
        mine = {*recipe.defaults, *EVERYWHERE, *recipe.refused, "params", "param_names", "algorithm", *group}
        if recipe.name == self.defaults["algorithm"]:
            mine.add("options")
        super().add_param_group(group)
        for key in self.defaults.keys() - mine:
            group.pop(key)
        for name, parameter in zip(group.get("param_names") or map(str, range(len(group["params"]))), group["params"], strict=True):
            check_parameter(name, parameter, group)
        self._forget()
        self._declared(group, group["params"])

    def _parts(self, group: dict[str, Any]) -> list[dict[str, Any]]:
        self._roles |= (roles := group.pop("roles", {}))
        muon = False if group.pop("use_fallback", False) else group.pop("use_muon", None)  # timm's word, and Jordan's
        if muon is False:
            group = {**self._auxiliary, **group}
        if "algorithm" in group or muon is not None or not self._for_matrices:
            group.setdefault("algorithm", self.defaults["algorithm"])
            return [group]
        params = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        tensors = [p[1] if isinstance(p, tuple) else p for p in params]
        named = bool(params) and isinstance(params[0], tuple)
        if not all(isinstance(t, Tensor) for t in tensors) or any(isinstance(p, tuple) != named for p in params):
            return [{**group, "params": params, "algorithm": self.defaults["algorithm"]}]  # torch says what is wrong with it
        names = [p[0] if isinstance(p, tuple) else str(i) for i, p in enumerate(params)]
        for name, tensor in zip(names, tensors, strict=True):
            check_parameter(name, tensor, group)
        matrices, others = routing.split(names, tensors, named, roles)
        if others and not matrices:  # what the group says is said of these
            return [{**self._auxiliary, **group, "params": params}]
        parts = [{**group, "params": [params[i] for i in matrices], "algorithm": self.defaults["algorithm"]}]
        parts += [{**self._of_others(group), "params": [params[i] for i in others]}]
        return [part for part in parts if part["params"]] or parts[:1]

    def _of_others(self, group: dict[str, Any]) -> dict[str, Any]:
        """What a group's values mean for the vectors, embeddings and heads in it: they are the matrices', but for the decay, which means
        the same to both."""
        of_matrices = {*recipe_named(self.defaults["algorithm"]).defaults, "options"}
        known = recipe_named(self._auxiliary["algorithm"]).defaults
        common = {key: value for key, value in group.items() if key not in of_matrices}
        decay = {"weight_decay": group["weight_decay"]} if "weight_decay" in group and "weight_decay" in known else {}
        return {**common, **decay, **self._auxiliary}

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
        self._last_numbers: list[float] = []
        self._infos: dict[int, dict[str, Any]] = {}
        self._shards = sharded.Shards.among(p for group in self.__dict__.get("param_groups", ()) for p in group["params"])

    @override
    def __getstate__(self) -> dict[str, Any]:
        own = {name: self.__dict__[name] for name in ("_auxiliary", "_for_matrices", "_state_dtype", "_options", "_roles")}
        return {**super().__getstate__(), **own, "_observed": []}

    @override
    def __setstate__(self, state: dict[str, Any]) -> None:
        kept: defaultdict[Any, Any] = defaultdict(dict)
        kept.update({key: _placed(key, value) for key, value in state["state"].items()})
        groups = [self._with_newer_keys(i, group) for i, group in enumerate(state["param_groups"])]
        super().__setstate__({**state, "state": kept, "param_groups": groups})
        self._forget()

    def _with_newer_keys(self, i: int, group: dict[str, Any]) -> dict[str, Any]:
        """A group as saved; what it lacks (it is older, or torch's own) is as it was here."""
        here = self.__dict__["param_groups"][i] if "param_groups" in self.__dict__ else {}
        recipe = recipe_named(group.get("algorithm", here.get("algorithm")))
        return {**EVERYWHERE, **recipe.defaults, **recipe.refused, **here, **group}

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

    def _request(self, texts: list[str], observed: Iterable[tuple[str, int, Tensor]] = ()) -> str:
        names = ",".join(f'{{"what":"{what}","block":{block}}}' for what, block, _ in observed)
        return f'{{"options":{self._options},"observed":[{names}],"groups":[{",".join(texts)}]}}'

    def _declared(self, group: dict[str, Any], taking_part: Iterable[Tensor]) -> tuple[str, list[list[dict[str, Any]]], dict[str, Any]]:
        """The group's part of the operator's string, what state each parameter wants, and what the library says of the recipe."""
        recipe = recipe_named(group["algorithm"])
        places, values = recipe.numbers(group)
        parameters = [
            {**self._info(p), "dtype": _working_dtype(p), "device": p.device.type, **group.get("layout", {})} for p in taking_part
        ]
        text = json.dumps({"recipe": recipe.table(group), "hyper": places, "parameters": parameters})
        hyper = [float(group["lr"]), *values]
        (answer,) = json.loads(torch.ops.schatten.declare(self._request([text]), hyper))
        extra_slots = [{"key": "step", "shape": [], "like_parameter": False, "dtype": "step"}]
        if answer["controlled"]:
            extra_slots.append({"key": "weight_decay", "shape": [], "like_parameter": False, "dtype": "controlled"})
        for slot in (slot for slots in answer["parameters"] for slot in slots):
            slot["key"] = recipe.state.get(slot["key"], slot["key"])
        return text, [slots + extra_slots for slots in answer["parameters"]], answer

    def _fill_state(self, parameter: Tensor, slots: list[dict[str, Any]]) -> None:
        state = self.state[parameter]
        for slot in slots:
            key, present = slot["key"], state.get(slot["key"])
            if present is None:
                state[key] = self._new(parameter, slot)
                continue
            if slot["dtype"] == "step" and not isinstance(present, Tensor):  # an old checkpoint's
                state[key] = torch.tensor(float(present))
                continue
            if sharded.is_sharded(present) != sharded.is_sharded(parameter):
                present = state[key] = sharded.lie(self._info(parameter)["name"], key, present, parameter)
            if slot["dtype"] not in ("step", "controlled") and present.dtype != self._dtype(parameter, slot):
                state[key] = present.to(self._dtype(parameter, slot))

    def _dtype(self, parameter: Tensor, slot: dict[str, Any]) -> torch.dtype:
        if slot["dtype"]:
            dtype: torch.dtype = getattr(torch, slot["dtype"])
            return dtype
        dtype = DTYPES[_working_dtype(parameter) if self._state_dtype == "auto" else self._state_dtype]
        return dtype.to_complex() if parameter.is_complex() and slot["like_parameter"] else dtype

    def _new(self, parameter: Tensor, slot: dict[str, Any]) -> Tensor:
        if slot["dtype"] == "step":
            return torch.zeros((), dtype=torch.float32)
        if slot["dtype"] == "controlled":
            return torch.full((), float("nan"), dtype=torch.float64)
        shape = parameter.shape if slot["like_parameter"] else slot["shape"]
        if sharded.is_sharded(parameter):
            return sharded.zeros(parameter, tuple(shape), self._dtype(parameter, slot))
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
        states: list[Any] = [self.state.get(p) for p in taking_part]  # none where someone threw it away
        if prepared is None or prepared.key != key or not all(states):
            prepared = self._prepare(group, key, taking_part)
            states = [self.state[p] for p in taking_part]
        if not prepared.text:
            return ""
        if prepared.answer["probe_every"]:
            self._remind_of_the_hessian(taking_part[0], prepared.answer["probe_every"])
        for parameter, own, keys in zip(taking_part, states, prepared.slots, strict=True):
            params.append(parameter)
            grads.append(parameter.grad)
            for name in keys:
                state.append(own[name])
        if prepared.complex:
            params[:], grads[:], state[:] = map(_real, params), map(_real, grads), map(_real, state)
        numbers.extend(values)
        return prepared.text

    def _prepare(self, group: dict[str, Any], key: list[Any], taking_part: list[Tensor]) -> _Prepared:
        text, declared, answer = self._declared(group, taking_part)
        for parameter in taking_part:
            grad = parameter.grad
            assert grad is not None
            check_gradient(type(self).__name__, self._info(parameter)["name"], grad, answer["locality"] == "elementwise")
        rehearsal = self._shards is None and self._is_rehearsal(group, taking_part)
        for parameter, slots in zip(taking_part, declared, strict=True):
            self._fill_state(parameter, slots)
        slots_of = [tuple(slot["key"] for slot in slots) for slots in declared]
        prepared = _Prepared(copy.deepcopy(key), text, slots_of, any(p.is_complex() for p in taking_part), answer)
        if rehearsal:
            return prepared._replace(text="")
        self._prepared[id(group)] = prepared
        return prepared

    def _is_rehearsal(self, group: dict[str, Any], taking_part: list[Tensor]) -> bool:
        """A first step at rate 0 with zero gradients makes state and is none: so torch.distributed.checkpoint has state made."""
        if float(group["lr"]) != 0 or any(p in self.state for p in taking_part):
            return False
        return not any(bool(sharded.here(p.grad).any()) for p in taking_part if p.grad is not None)

    @override
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient; ``closure`` is evaluated first, and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._shards is not None:
            self._shards.step(self)
            return loss
        params, grads, state, texts, hyper = self._collected()
        if params:
            self._run_step(params, grads, state, texts, hyper)
            self._observed.clear()
        return loss

    def _run_step(self, params: list[Tensor], grads: list[Tensor], state: list[Tensor], texts: list[str], hyper: list[Any]) -> None:
        request = self._request(texts, self._observed)
        observed = [values for _, _, values in self._observed]
        torch.ops.schatten.step.default(params, grads, state, request, self._as_tensor(hyper), observed)

    def _run_probe(self, params: list[Tensor], grads: list[Tensor], state: list[Tensor], texts: list[str], hyper: list[Any]) -> None:
        torch.ops.schatten.probe.default(params, grads, state, self._request(texts), self._as_tensor(hyper))

    def _collected(self) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[str], list[Any]]:
        """What all groups hand to the operator."""
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
        return params, grads, state, texts, hyper

    @torch.no_grad()
    def update_hessian(self) -> None:
        """Sophia's: hands over the gradients that are there, of a loss on sampled labels (`sample_labels`). No weight moves."""
        if all(self._declared(group, [])[2]["probe"] == "none" for group in self.param_groups):
            raise RuntimeError(f"{type(self).__name__}.update_hessian: expected a group with a Hessian (Sophia), got none")
        if self._shards is not None:
            self._shards.probe(self)
            return
        params, grads, state, texts, hyper = self._collected()
        if not params:
            raise RuntimeError("update_hessian: expected gradients of a loss on sampled labels, got none\n  Call backward() before.")
        self._run_probe(params, grads, state, texts, hyper)

    def _remind_of_the_hessian(self, parameter: Tensor, every: int) -> None:
        state = self.state[parameter]
        if type(state["step"]) is not Tensor:  # a fake one has no value
            return
        if float(state["step"]) == 2 * every and not any(t.any() for name, t in state.items() if name.endswith("hessian")):
            warnings.warn(
                f"{type(self).__name__}: {2 * every} steps and no Hessian: without update_hessian() every {every} steps or so "
                "the update is the sign of the momentum",
                stacklevel=5,
            )

    def _as_tensor(self, numbers: list[Any]) -> Tensor:
        """The last one again where no number has moved. What a tensor holds may have: it is read anew each time."""
        if any(isinstance(n, Tensor) for n in numbers):
            return torch.stack([torch.as_tensor(n, dtype=torch.float64, device="cpu").reshape(()) for n in numbers])
        if torch.compiler.is_compiling():
            return torch.tensor(numbers, dtype=torch.float64)
        if numbers != self._last_numbers:
            self._last_numbers, self._last_tensor = numbers, torch.tensor(numbers, dtype=torch.float64)
        return self._last_tensor

    def observe(self, what: str, block: int, values: Tensor) -> None:
        """Tells the next step what a controller goes by: MuonClip's ``"largest_logits"``, one number per head, of each block.

        Several before one step, of accumulated forwards, count together: the largest of each.
        """
        values = values.detach()
        for i, (name, number, before) in enumerate(self._observed):
            if (name, number) == (what, block):
                self._observed[i] = (what, block, torch.maximum(before, values))
                return
        self._observed.append((what, block, values))

    def watch(
        self,
        every: int = 100,
        callback: Callable[[dict[str, Any]], Any] | None = None,
        jsonl: str | os.PathLike[str] | None = None,
        writer: Any = None,
        *,
        names: str | Iterable[str] | None = None,
    ) -> Watch:
        """Looks at the matrices every so many steps, and puts a record of each where it is told to; ``remove()`` of the result ends it.

        A record holds step, lr, norm of the gradient, and singular values and ranks of weight, momentum and update, with alpha: a line of
        the program's ``spectra.jsonl`` and more. ``callback`` gets it as a dict, ``jsonl`` is a file that it is appended to, ``writer`` a
        TensorBoard SummaryWriter. ``names`` are patterns as ``"*.attention.*"``; by default all hidden matrices and convolutions.
        """
        return Watch(self, every, callback, jsonl, writer, names)

    def export_state(self, names: Mapping[str, str] | None = None) -> dict[str, Tensor]:
        """All state as the program's checkpoints name it, to be saved as ``optimizer.safetensors``: <parameter>/<stage>/<slot>.

        ``names`` translates parameter names: {ours: the file's}.
        """
        return migrate.export_state(self, names)

    def import_state(self, tensors: Mapping[str, Tensor], names: Mapping[str, str] | None = None) -> None:
        """Goes on from a checkpoint of the program: the tensors of its ``optimizer.safetensors``. All of it fits, or nothing is written."""
        migrate.import_state(self, tensors, names)

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
        for group, parameter, slots in self._wanted():
            info, size = self._info(parameter), sum(self._bytes(parameter, slot) for slot in slots)
            shape = "x".join(map(str, parameter.shape)) or "scalar"
            rows.append((info["name"], shape, info["role"], group["algorithm"], f"{float(group['lr']):g}", f"{size} B"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)

    def _wanted(self) -> Iterator[tuple[dict[str, Any], Tensor, list[dict[str, Any]]]]:
        """Every parameter with its group and the state that the library wants for it."""
        for group in self.param_groups:
            _, declared, _ = self._declared(group, group["params"])
            for parameter, slots in zip(group["params"], declared, strict=True):
                yield group, parameter, slots

    def _bytes(self, parameter: Tensor, slot: dict[str, Any]) -> int:
        if slot["dtype"] in ("step", "controlled"):
            return 4 if slot["dtype"] == "step" else 8
        entries = parameter.numel() if slot["like_parameter"] else math.prod(slot["shape"])
        return entries * self._dtype(parameter, slot).itemsize

    def state_bytes(self) -> int:
        """What the state of all parameters takes, from declarations alone: nothing is allocated."""
        return sum(self._bytes(parameter, slot) for _, parameter, slots in self._wanted() for slot in slots)

    def materialize_state(self) -> None:
        """Makes the state of every parameter now, as the first step would."""
        for _, parameter, slots in self._wanted():
            if parameter.numel() > 0:
                self._fill_state(parameter, slots)


def _spelled(group: Mapping[str, Any]) -> dict[str, Any]:
    """``algorithm=compose(...)`` as the plain data that a group holds."""
    recipe = group.get("algorithm")
    return {**recipe.defaults, **group, "algorithm": recipe.name} if isinstance(recipe, Recipe) else dict(group)


def _working_dtype(parameter: Tensor) -> str:
    return "float64" if parameter.dtype in (torch.float64, torch.complex128) else "float32"


def _real(t: Tensor) -> Tensor:
    return torch.view_as_real(t) if t.is_complex() else t


def _real_shape(parameter: Tensor) -> tuple[int, ...]:
    return (*parameter.shape, 2) if parameter.is_complex() else tuple(parameter.shape)


def _keep(_: torch.optim.Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    return {**state_dict, "state": {k: _Kept(v) if isinstance(v, dict) else v for k, v in state_dict["state"].items()}}


def _placed(parameter: Any, value: Any) -> Any:
    if not isinstance(value, _Kept):
        return value
    if not isinstance(parameter, Tensor):
        return dict(value.state)
    where = {"step": torch.device("cpu")}  # the counter stays where it is read
    return {k: v.to(where.get(k, parameter.device)) if isinstance(v, Tensor) else v for k, v in value.state.items()}
