"""What Python knows of a recipe: its options under torch's names, and how they become the library's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Table = dict[str, Any]

# torch's words for a scale by shape, then ours; the library's are the authors'.
SHAPE_SCALES = {
    None: "jordan",
    "original": "jordan",
    "match_rms_adamw": "moonlight",
    "spectral_unclamped": "bernstein",
    "none": "none",
    "jordan": "jordan",
    "jordan_released": "jordan_released",
    "moonlight": "moonlight",
    "bernstein": "bernstein",
}
# What schedulers move: these numbers go to the operator in a tensor, all others in its string.
SCHEDULED = ("momentum", "betas", "weight_decay")


@dataclass(frozen=True)
class Recipe:
    """One optimizer of the registry, seen from Python.

    ``defaults`` holds ``lr`` and the options under torch's names, ``paths`` where each goes in the library (``betas`` to two numbers,
    ``ns_coefficients`` and ``ns_steps`` to the stage that iterates), ``fixed`` what Python always says, ``refused`` torch's options that
    the library lacks, with the one value that they may have.
    """

    name: str
    defaults: Mapping[str, Any]
    paths: Mapping[str, str | tuple[str, ...]]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, Any] = field(default_factory=dict)
    matrices: bool = False  # vectors, embeddings and heads go to an auxiliary recipe
    state: Mapping[str, str] = field(default_factory=dict)  # torch's names for slots that the library names otherwise
    scheduled: list[tuple[str, tuple[str, ...], bool]] = field(init=False, repr=False)  # name, places, whether the value is a tuple
    unscheduled: list[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        scheduled = [(name, _as_tuple(self.paths[name]), isinstance(self.paths[name], tuple)) for name in SCHEDULED if name in self.paths]
        object.__setattr__(self, "scheduled", scheduled)
        object.__setattr__(self, "unscheduled", [name for name in self.paths if name not in SCHEDULED])

    def numbers(self, group: Mapping[str, Any]) -> tuple[list[str], list[float]]:
        """Places and values of the scheduled numbers that are not zero. A zero may mean: no such stage."""
        places: list[str] = []
        values: list[float] = []
        for name, path, several in self.scheduled:
            for place, value in zip(path, group[name] if several else (group[name],), strict=True):
                if value:
                    places.append(place)
                    values.append(float(value))
        return places, values

    def static(self, group: Mapping[str, Any]) -> list[Any]:
        """Everything else that the operator's string depends on."""
        return [*[group[name] for name in self.unscheduled], group.get("options"), group.get("layout")]

    def table(self, group: Mapping[str, Any]) -> Table:
        """The library's form of a group's options, without the scheduled numbers."""
        table: Table = {}
        options = dict(group.get("options") or {})
        if "direction" not in options:
            put(table, "recipe", self.name)
        for name, value in self.fixed.items():
            put(table, name, value)
        for name, path in self.paths.items():
            if name == "ns_coefficients":
                _put_schedule(table, str(path), group[name], group["ns_steps"])
            elif name == "adjust_lr_fn":
                put(table, str(path), SHAPE_SCALES[group[name]])
            elif name in SCHEDULED:
                pass
            elif name != "ns_steps" or "ns_coefficients" not in self.paths:
                put(table, str(path), group[name])
        nonzero, _ = self.numbers(group)
        for place in (place for _, path, _ in self.scheduled for place in path if place not in nonzero):
            put(table, place, 0.0)
        for name, value in options.items():
            put(table, name, value)
        return table


def _as_tuple(path: str | tuple[str, ...]) -> tuple[str, ...]:
    return path if isinstance(path, tuple) else (path,)


# What `schatten.compose` fills in: the stages stand in the group's options.
COMPOSED = Recipe("composed", defaults={"lr": 1e-3, "weight_decay": 0.0}, paths={"weight_decay": "decay.weight_decay"})


def put(table: Table, path: str, value: Any) -> None:
    """``put(table, "polar.steps", 5)``"""
    *parents, last = path.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
    table[last] = value


def _put_schedule(table: Table, path: str, coefficients: str | Sequence[Any], steps: int) -> None:
    """A preset's name, one (a, b, c) for all steps, or a triple for each."""
    if isinstance(coefficients, str):
        put(table, f"{path}.schedule", coefficients)
        put(table, f"{path}.steps", steps)
    elif coefficients and not isinstance(coefficients[0], Sequence):
        put(table, f"{path}.coefficients", [[float(c) for c in coefficients]] * steps)
    else:
        put(table, f"{path}.coefficients", [[float(c) for c in triple] for triple in coefficients])
