#!/usr/bin/env python3
"""Records a trajectory of an optimizer's own code in float64: what `tests/parity` replays. See CONTRIBUTING.md.

    tools/record_golden.py tests/golden/optimizers/torch_rmsprop.safetensors torch.optim.RMSprop \\
        --lr 0.01 --hyper '{"alpha": 0.99, "eps": 1e-8, "weight_decay": 0.1}' --states '{"square_avg": "v"}'

CLASS is any importable subclass of torch.optim.Optimizer. Weights start as float32 and gradients are float16, so both are exact in every
precision. The tolerance for float32 is ten times what the code itself loses there.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import pathlib
from typing import Any

import torch
from safetensors.torch import save_file

SHAPES = {"w": (12, 16), "v": (16,), "c": (4, 3, 3, 3)}
SCHEDULE = [0, 0.25, 0.5, 0.75, 1, 1, 0.9, 0.75, 0.55, 0.35, 0.2, 0.1]  # of the peak


def inputs(seed: int, shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes.items():
        made[f"{name}/param.init"] = torch.randn(shape, generator=generator)
        for t in range(len(SCHEDULE)):
            made[f"{name}/grad.{t:03d}"] = torch.randn(shape, generator=generator).half()
    return made


def run(given: dict[str, torch.Tensor], make: Any, hyper: dict[str, Any], peak: float, states: dict[str, str], dtype: torch.dtype,
        shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:  # fmt: skip
    weights = {name: given[f"{name}/param.init"].to(dtype).clone().requires_grad_() for name in shapes}
    optimizer = make(list(weights.values()), lr=peak, **hyper)
    recorded = {}
    for t, share in enumerate(SCHEDULE):
        for group in optimizer.param_groups:
            group["lr"] = peak * share
        for name, weight in weights.items():
            weight.grad = given[f"{name}/grad.{t:03d}"].to(dtype).clone()
        optimizer.step()
        for name, weight in weights.items():
            recorded[f"{name}/param.{t:03d}"] = weight.detach().clone()
            for theirs, ours in states.items():
                recorded[f"{name}/state.{ours}.{t:03d}"] = optimizer.state[weight][theirs].detach().clone()
    return recorded


def float32_error(exact: dict[str, torch.Tensor], rough: dict[str, torch.Tensor], given: dict[str, torch.Tensor]) -> float:
    worst = 0.0
    for key, value in exact.items():
        if "/param." in key:
            start = given[key.split("/")[0] + "/param.init"].double()
            moved = (value - start).norm().item()
            if moved > 0:
                worst = max(worst, (rough[key].double() - value).norm().item() / moved)
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("optimizer", metavar="CLASS")
    parser.add_argument("--lr", type=float, required=True, help="peak of the schedule, which starts at 0")
    parser.add_argument("--hyper", type=json.loads, default={}, help="JSON: the constructor's other arguments, stored as `hyper`")
    parser.add_argument("--states", type=json.loads, default={}, help="JSON: names in optimizer.state -> names in the file")
    parser.add_argument("--source", help="owner/name@commit file (default: this torch's own file)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    module, _, name = options.optimizer.rpartition(".")
    make = getattr(importlib.import_module(module), name)
    given = inputs(options.seed, SHAPES)
    arguments = (make, options.hyper, options.lr, options.states)
    exact = run(given, *arguments, torch.float64, SHAPES)
    error = float32_error(exact, run(given, *arguments, torch.float32, SHAPES), given)
    source = options.source or f"pytorch/pytorch@v{torch.__version__.split('+')[0]} {make.__module__.replace('.', '/')}.py"
    metadata = {"optimizer": options.optimizer, "source": source, "hyper": json.dumps(options.hyper), "patches": "none", "dtype": "float64",
                "params": json.dumps({n: list(s) for n, s in SHAPES.items()}), "lr_kind": f"schedule from 0, peak {options.lr:g}",
                "steps": str(len(SCHEDULE)), "rtol_f64": "1e-12", "rtol_f32": f"{10 ** math.ceil(math.log10(10 * error)):g}",
                "err_f32_measured": f"{error:.2e}", "torch": torch.__version__, "format": "1", "notes": "",
                "grad_scale": "1.0"}  # fmt: skip
    lr = torch.tensor([options.lr * share for share in SCHEDULE], dtype=torch.float64)
    save_file({**given, **exact, "lr": lr}, options.file, metadata=metadata)
    print(f"{options.file}: float32 loses {error:.1e}, allowed {metadata['rtol_f32']}")


if __name__ == "__main__":
    main()
