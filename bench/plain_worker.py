"""The Python side of run.py, in a process of its own: the protocol of bench_driver.cpp, plain PyTorch behind it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from plain_llama import PlainLlama, Shape
from safetensors.torch import load_file
from torch import Tensor

Record = dict[str, Any]


def is_hidden_matrix(name: str, tensor: Tensor) -> bool:
    return tensor.dim() == 2 and "embed_tokens" not in name and "lm_head" not in name


def make_optimizers(recipe: str, matrices: list[Tensor], rest: list[Tensor]) -> list[torch.optim.Optimizer]:
    if recipe == "Muon":
        made: list[torch.optim.Optimizer] = [torch.optim.Muon(matrices, lr=1e-3)]
        return made + ([torch.optim.AdamW(rest, lr=1e-3)] if rest else [])
    return [torch.optim.AdamW(matrices + rest, lr=1e-3, fused=True if recipe == "AdamW fused" else None)]


class Worker:
    model: PlainLlama
    tokens: Tensor
    targets: Tensor
    optimizers: list[torch.optim.Optimizer]

    def setup(self, command: Record) -> Record:
        torch.set_num_threads(command["threads"])
        self.model = PlainLlama(Shape(**command["shape"]))
        self.model.load_state_dict(load_file(command["weights"]))
        return {"parameters": sum(p.numel() for p in self.model.parameters())}

    def batch(self, command: Record) -> Record:
        self.tokens, self.targets = (load_file(command["file"])[name] for name in ("tokens", "targets"))
        return {"shape": list(self.tokens.shape)}

    def one_pass(self) -> float:
        self.model.zero_grad()
        loss = self.model(self.tokens, self.targets)
        loss.backward()
        return float(loss.item())

    def loss(self, _: Record) -> Record:
        loss = self.one_pass()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        return {"loss": loss, "gradient_norm": float(torch.nn.utils.get_total_norm(gradients))}

    def passes(self, command: Record) -> Record:
        return self.timed(self.one_pass, command["count"])

    def optimizer(self, command: Record) -> Record:
        torch.set_num_threads(command["threads"])
        gradients = load_file(command["gradients"])
        matrices: list[Tensor] = []
        rest: list[Tensor] = []
        for name, parameter in self.model.named_parameters():
            hidden = is_hidden_matrix(name, parameter)
            parameter.grad = gradients[name] if hidden or "auxiliary" in command else None
            if parameter.grad is not None:
                (matrices if hidden else rest).append(parameter)
        self.optimizers = make_optimizers(command["recipe"], matrices, rest)
        return {"tensors": len(matrices) + len(rest)}

    def steps(self, command: Record) -> Record:
        return self.timed(lambda: [o.step() for o in self.optimizers], command["count"])

    def timed(self, work: Callable[[], object], count: int) -> Record:
        began = time.perf_counter()
        for _ in range(count):
            work()
        return {"seconds": (time.perf_counter() - began) / count}


def main() -> None:
    worker = Worker()
    commands = {name: getattr(worker, name) for name in ("setup", "batch", "loss", "passes", "optimizer", "steps")}
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = commands[command["do"]](command)
        except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
