#!/usr/bin/env python3
"""Writes python/schatten/_registry.py and _classes.py from `schatten recipes --json`: a class with a typed signature per recipe;
and stages.py from `schatten recipes --stages`: a function per stage.

What the registry cannot know stands here: class names, the default learning rate of the authors' code, torch's words for options.
`--check` writes nothing and fails where the files differ.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import textwrap
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "python" / "schatten"

# recipe: class, learning rate. torch's classes have torch's default, all others their authors' code's or paper's.
CLASSES: dict[str, tuple[str, float]] = {
    "sgd": ("SGD", 1e-3),
    "adagrad": ("Adagrad", 1e-2),
    "rmsprop": ("RMSprop", 1e-2),
    "adam": ("Adam", 1e-3),
    "adamw": ("AdamW", 1e-3),
    "sign_muon": ("SignMuon", 1e-4),
    "lion": ("Lion", 1e-4),
    "sophia": ("Sophia", 1e-4),
    "adam_mini": ("AdamMini", 1e-3),
    "ademamix": ("AdEMAMix", 1e-3),
    "mars": ("MARS", 3e-3),
    "c_adamw": ("CAdamW", 1e-3),
    "c_lion": ("CLion", 1e-4),
    "muon": ("Muon", 1e-3),
    "muonclip": ("MuonClip", 1e-3),
    "c_muon": ("CMuon", 2e-2),
    "normuon": ("NorMuon", 1e-3),
    "adamuon": ("AdaMuon", 1e-3),
    "lion_muon": ("LionMuon", 2e-3),
    "rmnp": ("RMNP", 2e-2),
    "dion": ("Dion", 1e-2),
    "dion2": ("Dion2", 1e-2),
    "simple_muon": ("SimpleMuon", 1e-2),
    "htmuon": ("HTMuon", 2e-2),
    "htnormuon": ("HTNorMuon", 2e-2),
    "htadamuon": ("HTAdaMuon", 1e-3),
    "schatten_descent": ("SchattenDescent", 2e-2),
    "shampoo": ("Shampoo", 1e-2),
    "soap": ("SOAP", 3e-3),
    "cosmos": ("COSMOS", 1e-3),
    "galore": ("GaLore", 1e-2),
    "fira": ("Fira", 1e-2),
    "apollo": ("APOLLO", 1e-2),
    "apollo_mini": ("APOLLOMini", 1e-2),
    "gum": ("GUM", 1e-3),
    "alpha_decay": ("AlphaDecay", 1e-3),
}
# Element-wise recipes and those whose own stages look after vectors get every parameter.
MATRIX_GROUPS = {"orthogonalising", "spectral power", "second-order", "low-rank"}
EVERY_PARAMETER = {"soap", "cosmos", "sign_muon"}

# torch's names for the library's options, under any recipe that has them.
RENAMED = {
    "shape": "adjust_lr_fn",
    "polar.steps": "ns_steps",
    "mu": "momentum",
    "neurons.beta2": "beta2",
    "clip.tau": "tau",
    "polar.eps": "eps",
    "rows.eps": "eps",
}
# Reached by `options={"decay": "cautious"}`: forms of the same thing, and what no one tunes.
BY_OPTIONS = {
    "decay", "form", "momentum_form", "products", "compute", "released", "released_conv", "conv_released", "limiter_released",
    "residual_released", "scale_front", "root_steps", "root_eps", "ns_steps", "branches", "trigger", "power_iterations", "beta1_1d",
    "beta2_1d", "rate_1d", "merge_dims", "max_rows", "accumulation", "sides", "type", "keep_projection", "normalize", "transpose",
    "refresh", "seed", "interval", "poles", "deflate", "probability",
}  # fmt: skip
FORMS = {"mars": {"form": "form"}}
FIXED = {"muon": {"variant": "torch"}}
DEFAULTS: dict[str, dict[str, Any]] = {
    "muon": {"weight_decay": 0.1, "adjust_lr_fn": None},
    "sgd": {"momentum": 0.0},
}
# torch's order where torch has the class; elsewhere lr comes first, then the registry's order.
ORDER = {
    "muon": ["lr", "weight_decay", "momentum", "nesterov", "ns_coefficients", "eps", "ns_steps", "adjust_lr_fn", "split"],
    "adamw": ["lr", "betas", "eps", "weight_decay", "amsgrad"],
    "adam": ["lr", "betas", "eps", "weight_decay", "amsgrad"],
    "sgd": ["lr", "momentum", "dampening", "weight_decay", "nesterov"],
    "adagrad": ["lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"],
    "rmsprop": ["lr", "alpha", "eps", "weight_decay", "momentum", "centered"],
}
STATE = {"rmsprop": {"exp_avg_sq": "square_avg"}}
REFUSED: dict[str, dict[str, Any]] = {
    "adamw": {"amsgrad": False},
    "adam": {"amsgrad": False},
    "sgd": {"dampening": 0.0},
    "rmsprop": {"centered": False},
}
QUINTIC = (3.4445, -4.775, 2.0315)
TYPES = {
    "lr": "float | Tensor",
    "betas": "tuple[float, ...]",
    "ns_coefficients": "str | Sequence[Any]",
    "adjust_lr_fn": "str | None",
}
ARGUMENTS = {
    "lr": "learning rate; a one-element tensor where torch.compile should not see its changes",
    "betas": "decays of the moments",
    "ns_coefficients": "one (a, b, c) for all steps, a triple for each, or a schedule's name",
    "ns_steps": "iterations",
    "adjust_lr_fn": "original, match_rms_adamw, spectral_unclamped, none, jordan, moonlight, bernstein",
    "amsgrad": "False: not to be had here",
    "dampening": "0: not to be had here",
    "centered": "False: not to be had here",
}


def registry(what: str = "--json") -> list[dict[str, Any]]:
    lines = subprocess.run([ROOT / "build" / "schatten", "recipes", what], check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in lines.splitlines()]


class Signature:
    """The options of one recipe as Python shows them."""

    def __init__(self, recipe: dict[str, Any]) -> None:
        name = recipe["name"]
        options = {o["name"]: json.loads(o["default"]) for o in recipe["options"]}
        self.help = {o["name"]: o["help"] for o in recipe["options"]}
        self.paths: dict[str, str | tuple[str, ...]] = {}
        values: dict[str, Any] = {"lr": CLASSES[name][1]}
        betas = tuple(b for b in ("beta1", "beta2", "beta3") if b in options)
        if len(betas) > 1:
            self.paths["betas"], values["betas"] = betas, tuple(options[b] for b in betas)
        own = FORMS.get(name, {})
        for option, default in options.items():
            shown = own.get(option) or RENAMED.get(option, option)
            hidden = option in BY_OPTIONS and option not in own
            if hidden or "." in shown or (option in betas and len(betas) > 1) or option in FIXED.get(name, {}) or shown in self.paths:
                continue
            if option == "polar.eps" and "eps" in options:
                continue
            self.paths[shown], values[shown] = option, default
        if "polar.steps" in options:
            schedule, steps = options["polar.schedule"], options["polar.steps"]
            self.paths["ns_coefficients"] = "polar"
            values["ns_coefficients"] = QUINTIC if name == "muon" else schedule
            values["ns_steps"] = 5 if name == "muon" else steps
        values |= DEFAULTS.get(name, {}) | REFUSED.get(name, {})
        if betas and "momentum" in values and len(betas) > 1:
            raise SystemExit(f"{name}: betas and momentum in one signature; schedulers take either")
        order = ORDER.get(name) or ["lr", *[k for k in values if k != "lr"]]
        assert set(order) == set(values), (name, set(order) ^ set(values))
        self.values = {k: values[k] for k in order}

    def annotated(self) -> list[str]:
        return [f"{k}: {TYPES.get(k) or type(v).__name__} = {v!r}" for k, v in self.values.items()]

    def explained(self) -> list[str]:
        lines = []
        for k in self.values:
            path = self.paths.get(k)
            text = ARGUMENTS.get(k) or (self.help.get(path, "") if isinstance(path, str) else "")
            lines.append(f"    {k}: {text}")
        return lines


def wrapped(text: str, indent: str = "    ") -> str:
    return "\n".join(textwrap.wrap(text, 130, initial_indent=indent, subsequent_indent=indent, break_long_words=False))


def is_for_matrices(recipe: dict[str, Any]) -> bool:
    return recipe["group"] in MATRIX_GROUPS and recipe["name"] not in EVERY_PARAMETER


def class_text(recipe: dict[str, Any], signature: Signature) -> str:
    name = CLASSES[recipe["name"]][0]
    auxiliary = ["auxiliary: Mapping[str, Any] | None = None"] if is_for_matrices(recipe) else []
    arguments = ["self", "params: Params", *signature.annotated(), "*", *auxiliary, *EVERYWHERE]
    passed = [f"{k}={k}" for k in [*signature.values, *(["auxiliary"] if auxiliary else []), *EVERYWHERE_NAMES]]
    formula = "\n".join(f"        {line.strip()}" for line in recipe["formula"].split(";"))
    aux = ['    auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)'] if auxiliary else []
    return f'''
class {name}(Optimizer):
    """{recipe["summary"][0].upper() + recipe["summary"][1:]}.

    ::

{formula}

    State of an m x n matrix, m <= n: {recipe["state"]} entries.
{wrapped("Worth tuning: " + recipe["tune"] + ".")}

    Args:
{textwrap.indent(chr(10).join(signature.explained() + aux), "    ")}
        options: any other option of the recipe by its dotted name: `schatten recipes {recipe["name"]}`

{wrapped("Source: " + recipe["paper"])}
    """

    def __init__(
        {f",{chr(10)}        ".join(arguments)},
    ) -> None:
        super().__init__(
            params,
            "{recipe["name"]}",
            {f",{chr(10)}            ".join(passed)},
        )
'''


EVERYWHERE = [
    "options: Mapping[str, Any] | None = None",
    "state_dtype: torch.dtype | None = None",
    "seed: int = 0",
    "maximize: bool = False",
    "foreach: bool | None = None",
    "capturable: bool = False",
    "differentiable: bool = False",
    "fused: bool | None = None",
]
EVERYWHERE_NAMES = [e.split(":")[0] for e in EVERYWHERE]
HEAD = '"""Written by tools/refresh_python.py from the registry of recipes. Do not edit."""\n\nfrom __future__ import annotations\n\n'


def registry_file(recipes: list[dict[str, Any]], signatures: list[Signature]) -> str:
    rows = []
    for recipe, signature in zip(recipes, signatures, strict=True):
        rows.append(
            f'    "{recipe["name"]}": Recipe(\n        "{recipe["name"]}",\n'
            f"        defaults={ {k: v for k, v in signature.values.items() if k not in REFUSED.get(recipe['name'], {})}!r},\n"
            f"        paths={signature.paths!r},\n        fixed={FIXED.get(recipe['name'], {})!r},\n"
            f"        refused={REFUSED.get(recipe['name'], {})!r},\n        matrices={is_for_matrices(recipe)},\n"
            f"        state={STATE.get(recipe['name'], {})!r},\n    ),\n"
        )
    return HEAD + "from .recipe import Recipe\n\nRECIPES: dict[str, Recipe] = {\n" + "".join(rows) + "}\n"


def classes_file(recipes: list[dict[str, Any]], signatures: list[Signature]) -> str:
    imports = (
        "from collections.abc import Mapping, Sequence\nfrom typing import Any\n\nimport torch\nfrom torch import Tensor\n\n"
        "from .optimizer import Optimizer, Params\n\n"
    )
    names = sorted(CLASSES[r["name"]][0] for r in recipes)
    return HEAD + imports + f"__all__ = {names!r}\n" + "\n".join(map(class_text, recipes, signatures))


STAGES_HEAD = '''"""The stages that optimizers are made of; `schatten.compose` puts them together.

Written by tools/refresh_python.py from the registry of stages. Do not edit.

A stage is a plain dict. Where a stage takes another (``inner``), a list of stages is a chain; None is the stage that stands in the
text. ``named`` keeps the stage's state under another name, which two stages of one kind in one chain need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .compose import Inner, Stage, made

'''


def stage_argument(option: dict[str, Any]) -> tuple[str, str, str]:
    """Its type, its default, and what it is."""
    try:
        default = json.loads(option["default"])
    except json.JSONDecodeError:  # a stage's name, or a table
        nested = option["default"] == "{...}" and "stage" not in option["help"]
        of_its_own = "" if option["default"] == "{...}" else f"; {option['default']} where None"
        return ("Mapping[str, Any]" if nested else "Inner") + " | None", "None", option["help"] + of_its_own
    if isinstance(default, list):
        return "Sequence[Any]", "()", option["help"]
    if isinstance(default, str) and "a stage or chain" in option["help"]:
        return "Inner | str", repr(default), option["help"]
    return type(default).__name__, repr(default), option["help"]


def stage_text(stage: dict[str, Any]) -> str:
    options = {o["name"]: stage_argument(o) for o in stage["options"]}
    arguments = [*(f"{name}: {kind} = {default}" for name, (kind, default, _) in options.items()), "*", "named: str | None = None"]
    passed = [f'"{stage["name"]}"', "named", *(f"{name}={name}" for name in options)]
    lines = (textwrap.wrap(f"{name}: {text}", 120, subsequent_indent="    ") for name, (_, _, text) in options.items())
    explained = "".join(f"        {line}\n" for each in lines for line in each)
    body = f"\n\n    Args:\n{explained}    " if options else ""
    return f'''
def {stage["name"]}({", ".join(arguments)}) -> Stage:
    """{stage["summary"][0].upper() + stage["summary"][1:]}.{body}"""
    return made({", ".join(passed)})

'''


def stages_file(stages: list[dict[str, Any]]) -> str:
    names = sorted(s["name"] for s in stages)
    return STAGES_HEAD + f"__all__ = {names!r}\n\n" + "".join(map(stage_text, stages))


def formatted(text: str) -> str:
    ruff = str(pathlib.Path(sys.executable).parent / "ruff")
    for command in (["check", "--fix", "--quiet", "--select", "RUF022"], ["format"]):
        full = [ruff, *command, "--stdin-filename", str(PACKAGE / "_written.py"), "-"]
        text = subprocess.run(full, input=text, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout
    return text


def main() -> int:
    recipes = registry()
    signatures = [Signature(r) for r in recipes]
    files = {"_registry.py": registry_file(recipes, signatures), "_classes.py": classes_file(recipes, signatures)}
    files["stages.py"] = stages_file(registry("--stages"))
    stale = []
    for name, text in files.items():
        path, new = PACKAGE / name, formatted(text)
        if path.exists() and path.read_text() == new:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            path.write_text(new)
    if "--check" in sys.argv and stale:
        print(f"stale: {', '.join(stale)}; run tools/refresh_python.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
