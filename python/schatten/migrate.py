"""From other packages, and back to the library's own files: groups, state, checkpoints.

Everything that is known of the other packages stands in the tables below.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .optimizer import Optimizer

Group = dict[str, Any]
State = dict[Any, Any]

# --- groups: keys that are written for other packages ------------------------------------------------------------------

# their key: ours (a dotted one goes into `options`), and what becomes of values; None: left out.
RENAMED: dict[str, tuple[str, Mapping[Any, Any]]] = {
    "update_proj_gap": ("refresh_every", {}),  # galore-torch, apollo-torch, pytorch-optimizer
    "proj_type": ("options.type", {}),  # galore-torch, apollo-torch
    "projection_type": ("options.type", {}),  # pytorch-optimizer
    "proj": ("projection", {}),  # apollo-torch
    "use_adjusted_lr": ("adjust_lr_fn", {True: "match_rms_adamw", False: "original"}),  # pytorch-optimizer
    "ns_coeffs": ("ns_coefficients", {}),
    "weight_decouple": ("options.decay", {True: None, False: "coupled"}),
    "caution": ("options.cautious", {False: None}),  # heavyball
    "cautious": ("options.cautious", {False: None}),
    "cautious_weight_decay": ("options.decay", {True: "cautious", False: None}),
    "precondition_frequency": ("every", {}),  # SOAP in heavyball and elsewhere
}
# What only one value has an equal for.
ONLY = {"correct_bias": True, "fixed_decay": False, "warmup_steps": 0, "mars": False, "ns_method": "newton_schulz"}
AUXILIARY = {"adamw_lr": "lr", "adamw_betas": "betas", "adamw_eps": "eps", "adamw_wd": "weight_decay"}


def translated(group: Mapping[str, Any]) -> Group:
    """A group with other packages' keys under our names."""
    ours: Group = {}
    options: dict[str, Any] = {}
    for key, value in group.items():
        if key in AUXILIARY:
            raise ValueError(
                f"group key '{key}': expected options of the vectors' AdamW beside the groups, got them in one\n"
                f"  schatten.Muon(model, auxiliary=dict({AUXILIARY[key]}={value!r})), or a group with use_muon=False."
            )
        if key in ONLY and value != ONLY[key]:
            raise ValueError(f"group key '{key}': expected {ONLY[key]!r}, got {value!r}\n  schatten has no equal for it.")
        name, words = RENAMED.get(key, (key, {}))
        put = words[value] if isinstance(value, bool) and value in words else value
        if key in ONLY or (put is None and words):
            continue
        if name.startswith("options."):
            options[name.removeprefix("options.")] = put
        else:
            ours[name] = put
    return {**ours, "options": {**options, **(ours.get("options") or {})}} if options else ours


def with_plain_groups(params: Any, defaults: Mapping[str, Any]) -> Any:
    """galore-torch's and apollo-torch's groups: those without a rank are on their AdamW, at the constructor's numbers."""
    if not isinstance(params, list) or not any(isinstance(group, dict) and "update_proj_gap" in group for group in params):
        return params
    own = {key: defaults[key] for key in ("lr", "betas", "eps", "weight_decay") if key in defaults}
    plain = {"algorithm": "adamw", **own, "options": {"form": "uncorrected_eps", "decay": "after"}}
    return [group if "rank" in group else {**plain, **group} for group in params]


# --- state --------------------------------------------------------------------------------------------------------------


class Source(NamedTuple):
    """How a package keeps its state."""

    slots: Mapping[str, str]  # their name: ours
    momentum: str = "ema"  # what a momentum buffer is: "ema" or "sum"
    read: Callable[[State, Group], State] = lambda state, group: state  # to flat names
    no_equal: tuple[str, ...] = ()


ADAM = {"exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq", "step": "step"}
MUON = {"momentum_buffer": "momentum_buffer"}


def _read_heavyball(state: State, group: Group) -> State:
    """``{0: {"update_by_adam_exp_avg_0": ...}}``, with bias-corrected averages."""
    if sorted(k for k in state if isinstance(k, int)) not in ([], [0]):
        raise ValueError("heavyball: expected one view per parameter, got several (merged or split dimensions)")
    step = int(_number(group.get("step_count"), 0))
    flat: State = {"step": step}
    for key, value in state.get(0, state).items():
        match = re.fullmatch(r"(?:(.*)_)?(exp_avg_sq|exp_avg|momentum)_\d+", str(key))
        if match and match[2] == "momentum":
            flat["momentum_sum" if match[1] in ("nesterov_momentum", "heavyball_momentum") else "momentum_buffer"] = value
        elif match:
            beta = group["betas"][1 if match[2] == "exp_avg_sq" else 0]
            flat[match[2]] = value * (1 - beta**step)
        elif key not in ("step", "is_initialized"):
            flat[str(key)] = value
    return flat


def _read_group_step(state: State, group: Group) -> State:
    return {"step": int(_number(group.get("step"), 0)), **_read_projected(state, group)}


def _read_projected(state: State, group: Group) -> State:
    """A projector's matrices by their names here, each with its columns orthonormal."""
    flat = {key: value for key, value in state.items() if key not in ("projector", "seed", "scaled_grad")}
    if (projector := state.get("projector")) is None:
        return flat
    matrix = projector.ortho_matrix
    if isinstance(matrix, list | tuple):
        flat["P_left"], flat["P_right"] = matrix[0], matrix[1].mT
    else:
        moments = state["exp_avg"]
        # right singular vectors are kept as rows, [r, n]
        flat["P"] = matrix.mT if _is_right(projector, matrix, moments) else matrix
    if "scaled_grad" in state:
        flat["norm"] = state["scaled_grad"]
    if "seed" in state:
        refreshes = 1 + (max(int(state["step"]), 1) - 1) // projector.update_proj_gap
        flat["seed"] = torch.tensor([_seed_after(int(state["seed"]), refreshes - 1)])
    return flat


def _is_right(projector: Any, matrix: Tensor, moments: Tensor) -> bool:
    """Whether the matrix [r, n] multiplied from the right to [m, r] moments; else it was [m, r] and they are [r, n]."""
    kind = getattr(projector, "proj_type", None) or projector.projection_type
    if kind in ("left", "right"):
        return bool(kind == "right")
    tall = moments.shape[0] >= matrix.shape[1]
    return matrix.shape[0] == moments.shape[1] and tall == (kind != "reverse_std")


def _seed_after(seed: int, refreshes: int) -> int:
    """apollo-torch draws the next seed from the last one."""
    for _ in range(refreshes):
        draws = torch.randint(0, torch.iinfo(torch.int64).max, (15,), generator=torch.Generator().manual_seed(seed))
        seed = int(draws[-1])
    return seed


SOURCES: dict[str, Source] = {
    "torch.optim.Muon": Source(MUON),
    "torch.optim.AdamW": Source(ADAM, no_equal=("max_exp_avg_sq",)),
    "torch.optim.Adam": Source(ADAM, no_equal=("max_exp_avg_sq",)),
    "torch.optim.SGD": Source(MUON, "sum"),
    "torch.optim.Adagrad": Source({"sum": "sum", "step": "step"}),
    "torch.optim.RMSprop": Source({"square_avg": "square_avg", "step": "step", **MUON}, "sum", no_equal=("grad_avg",)),
    "KellerJordan/Muon": Source({**MUON, **ADAM}),
    "MoonshotAI/Moonlight": Source({**MUON, "moment1": "exp_avg", "moment2": "exp_avg_sq", "step": "step"}, "sum"),
    "galore-torch": Source({**ADAM, "P": "P", "P_left": "P_left", "P_right": "P_right"}, read=_read_projected),
    "apollo-torch": Source({**ADAM, "P": "P", "seed": "seed", "norm": "norm"}, read=_read_projected),
    "heavyball": Source({**ADAM, **MUON, "momentum_sum": "momentum_sum"}, read=_read_heavyball),
    "pytorch-optimizer": Source({**ADAM, **MUON, "P": "P", "P_left": "P_left", "P_right": "P_right"}, read=_read_group_step),
}
# Of ours, what another package need not have: the limiter's norm, which starts anew.
MAY_BE_MISSING = ("norm",)


def convert_state(state_dict: Mapping[str, Any], source: str, to: Optimizer, *, order: Iterable[Tensor] | None = None) -> dict[str, Any]:
    """The state of another package's optimizer as one that ``to.load_state_dict`` takes::

        optimizer = schatten.Muon(model, lr=0.02)
        optimizer.load_state_dict(schatten.convert_state(saved, "torch.optim.Muon", optimizer, order=model.parameters()))

    Moments, momentum (an average or a sum, as ``to`` keeps it), directions and counts of steps come over; rates and other options are
    those of ``to``. State that has no equal is an error that names it.

    Args:
        state_dict: what the other optimizer's state_dict() gave
        source: one of SOURCES: "torch.optim.Muon", "KellerJordan/Muon", "galore-torch", ...
        to: the optimizer of this package that is to go on
        order: the parameters in the other optimizer's order; needed where either knows them by name and the other does not
    """
    if source not in SOURCES:
        raise ValueError(f"convert_state: expected a known source, got {source!r}\n  Known: {', '.join(SOURCES)}")
    ours = {id(p): (i, p, group) for i, (p, group) in enumerate((p, g) for g in to.param_groups for p in g["params"])}
    theirs = _their_order(state_dict, to, order)
    groups = {i: group for group in state_dict["param_groups"] for i in group["params"]}
    state: dict[int, State] = {}
    for i, parameter in theirs.items():
        if i not in state_dict["state"] or not state_dict["state"][i]:
            continue
        if id(parameter) not in ours:
            raise ValueError(f"convert_state: expected the parameters of `to` in `order`, got another at position {i}")
        position, _, group = ours[id(parameter)]
        state[position] = _converted(state_dict["state"][i], groups[i], source, to, parameter, group)
    return {"state": state, "param_groups": to.state_dict()["param_groups"]}


def _their_order(state_dict: Mapping[str, Any], to: Optimizer, order: Iterable[Tensor] | None) -> dict[int, Tensor]:
    keys = [i for group in state_dict["param_groups"] for i in group["params"]]
    tensors = [p for group in to.param_groups for p in group["params"]]
    if order is None:
        names = [name for group in to.param_groups for name in group.get("param_names", [])]
        their_names = [name for group in state_dict["param_groups"] for name in group.get("param_names", [])]
        if bool(names) != bool(their_names):
            raise ValueError(
                "convert_state: expected names in both optimizers or in none, got them in one\n"
                "  Say the other optimizer's order: order=model.parameters()."
            )
        if names and set(names) != set(their_names):
            missing = sorted(set(names) ^ set(their_names))
            raise ValueError(f"convert_state: expected the same names in both, got others: {', '.join(missing)}")
        sizes = [[len(group["params"]) for group in groups] for groups in (state_dict["param_groups"], to.param_groups)]
        if not names and len(tensors) == len(keys) and sizes[0] != sizes[1]:
            raise ValueError(
                f"convert_state: expected groups of the same sizes in both, got {sizes[0]} and {sizes[1]}\n"
                "  Matrices and others were told apart: say the other optimizer's order, order=..."
            )
        order = [tensors[names.index(name)] for name in their_names] if names else tensors
    order = list(order)
    if len(order) != len(keys):
        raise ValueError(f"convert_state: expected {len(keys)} parameters, as the other optimizer has, got {len(order)}")
    return dict(zip(keys, order, strict=True))


def _converted(raw: State, their_group: Group, source: str, to: Optimizer, parameter: Tensor, group: Group) -> State:
    kind = SOURCES[source]
    name = to._info(parameter)["name"]
    flat = {key: value for key, value in kind.read(raw, their_group).items() if value is not None}
    strangers = [key for key, value in flat.items() if key not in kind.slots and (isinstance(value, Tensor) or key in kind.no_equal)]
    if strangers:
        raise ValueError(f"convert_state: '{name}' has state of {source} without an equal here: {', '.join(strangers)}")
    given = {kind.slots[key]: value for key, value in flat.items() if key in kind.slots}
    if kind.momentum == "sum" and "momentum_buffer" in given:
        given["momentum_sum"] = given.pop("momentum_buffer")
    _, ((*slots,),), _ = to._declared(group, [parameter])
    made: State = {}
    for slot in slots:
        made[slot["key"]] = _slot(slot, given, their_group, group, to, parameter, name, source)
    left = sorted(given.keys() - {"step", "momentum_sum", "P", "seed", "norm"} - {slot["key"] for slot in slots})
    if left:
        raise ValueError(f"convert_state: '{name}' of {group['algorithm']} keeps no {', '.join(left)}, which {source} has")
    return made


def _slot(
    slot: Mapping[str, Any], given: State, their_group: Group, group: Group, to: Optimizer, parameter: Tensor, name: str, source: str
) -> Tensor:
    key = slot["key"]
    if key == "step":
        return torch.tensor(float(_number(given.get("step"), 0)))
    fresh = to._new(parameter, dict(slot))
    if slot["dtype"] == "controlled":
        return fresh
    value = _momentum(slot, given, their_group, group) if key == "momentum_buffer" else given.get(key)
    if value is None and key in MAY_BE_MISSING:
        return fresh
    if value is None:
        raise ValueError(
            f"convert_state: '{name}' of {group['algorithm']} wants '{slot['path']}', {source} has {', '.join(sorted(given)) or 'none'}\n"
            "  The recipes differ: start with fresh state, or choose the options that the other optimizer had."
        )
    value = torch.as_tensor(value)
    if value.numel() != fresh.numel() or (value.dim() == fresh.dim() > 0 and value.shape != fresh.shape):
        raise ValueError(
            f"convert_state: state '{slot['path']}' of '{name}': expected shape {tuple(fresh.shape)}, got {tuple(value.shape)}\n"
            "  Rank or type of the subspace differ, or `order` is not the other optimizer's."
        )
    return value.detach().reshape(fresh.shape).to(dtype=fresh.dtype, device=fresh.device, copy=True)


def _momentum(slot: Mapping[str, Any], given: State, their_group: Group, group: Group) -> Tensor | None:
    """Average and sum differ by 1 - mu."""
    sums, average, total = "heavy_ball" in slot["path"], given.get("momentum_buffer"), given.get("momentum_sum")
    if sums:
        return total if average is None else average / (1 - _decay(their_group, group))
    return average if total is None else total * (1 - _decay(their_group, group))


def _decay(*groups: Group) -> float:
    for group in groups:
        if "momentum" in group or "betas" in group:
            return float(group["momentum"] if "momentum" in group else group["betas"][0])
    raise ValueError("convert_state: expected a momentum in either group, got none")


def _number(value: Any, default: float) -> float:
    return default if value is None else float(value)


# --- the library's own files --------------------------------------------------------------------------------------------


def export_state(optimizer: Optimizer, names: Mapping[str, str] | None = None) -> dict[str, Tensor]:
    """All state as the library's files name it, ``<parameter>/<stage>/<slot>``: see `Optimizer.export_state`."""
    tensors: dict[str, Tensor] = {}
    for name, parameter, slots in _named_slots(optimizer, names):
        state = optimizer.state.get(parameter) or {slot["key"]: optimizer._new(parameter, slot) for slot in slots}
        for slot in slots:
            path, value = f"{name}/{slot.get('path', slot['key'])}", state[slot["key"]]
            if slot["dtype"] == "step":
                tensors[path] = value.to(torch.int64)
            elif slot["dtype"] != "controlled" or not value.isnan():
                tensors[path] = value.detach().to("cpu", copy=True)
    return tensors


def import_state(optimizer: Optimizer, tensors: Mapping[str, Tensor], names: Mapping[str, str] | None = None) -> None:
    """The reverse: see `Optimizer.import_state`. Nothing is written until everything fits."""
    found: dict[Tensor, State] = {}
    taken: set[str] = set()
    for name, parameter, slots in _named_slots(optimizer, names):
        found[parameter] = {}
        for slot in slots:
            path, fresh = f"{name}/{slot.get('path', slot['key'])}", optimizer._new(parameter, slot)
            value = tensors.get(path)
            if value is None and slot["dtype"] != "controlled":
                raise ValueError(f"import_state: expected '{path}', got none among {len(tensors)} tensors\n  {OTHER_MODEL}")
            if value is not None and (value.dim() != fresh.dim() or (value.shape != fresh.shape and not slot.get("resizes"))):
                raise ValueError(f"import_state: expected '{path}' as {tuple(fresh.shape)}, got {tuple(value.shape)}\n  {OTHER_MODEL}")
            found[parameter][slot["key"]] = fresh if value is None else value.to(dtype=fresh.dtype, device=fresh.device, copy=True)
            taken |= {path} if value is not None else set()
    if strangers := sorted(tensors.keys() - taken):
        raise ValueError(f"import_state: expected {len(taken)} tensors, got {len(tensors)}, among them '{strangers[0]}'\n  {OTHER_MODEL}")
    optimizer.state.update(found)
    optimizer._forget()


OTHER_MODEL = "The file belongs to another model or recipe; where only names differ: names={ours: the file's}."


def _named_slots(optimizer: Optimizer, names: Mapping[str, str] | None) -> Iterable[tuple[str, Tensor, list[dict[str, Any]]]]:
    for group in optimizer.param_groups:
        if not group.get("param_names"):
            raise ValueError(
                "schatten: expected parameters with names, got some without\n  Make the optimizer from model.named_parameters()."
            )
        _, declared, _ = optimizer._declared(group, group["params"])
        for parameter, name, slots in zip(group["params"], group["param_names"], declared, strict=True):
            yield (names or {}).get(name, name), parameter, slots
