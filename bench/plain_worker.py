"""The Python side of run.py, in a process of its own: the protocol of bench_driver.cpp, PyTorch and peers behind it."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import peers
import torch
from plain_llama import PlainLlama, Shape
from safetensors.torch import load_file, save_file
from torch import Tensor

Record = dict[str, Any]


def is_hidden_matrix(name: str, tensor: Tensor) -> bool:
    return tensor.dim() == 2 and "embed_tokens" not in name and "lm_head" not in name


class Worker:
    model: PlainLlama
    tokens: Tensor
    targets: Tensor
    matrices: dict[str, Tensor]  # what a matrix recipe steps
    rest: dict[str, Tensor]
    gradients: dict[str, Tensor]
    optimizers: list[torch.optim.Optimizer]
    fresh_gradients: bool

    def describe(self, _: Record) -> Record:
        return {"versions": peers.versions()}

    def setup(self, command: Record) -> Record:
        torch.set_num_threads(command["threads"])
        self.model = PlainLlama(Shape(**command["shape"]))
        self.model.load_state_dict(load_file(command["weights"]))
        named = dict(self.model.named_parameters())
        self.matrices = {name: p for name, p in named.items() if is_hidden_matrix(name, p)}
        self.rest = {name: p for name, p in named.items() if name not in self.matrices}
        return {"parameters": sum(p.numel() for p in named.values())}

    def tensors(self, command: Record) -> Record:
        loaded = load_file(command["weights"])
        self.matrices = {name: torch.nn.Parameter(weight) for name, weight in loaded.items()}
        self.rest = {}
        return {"parameters": sum(p.numel() for p in self.matrices.values())}

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
        """With `auxiliary` the rest is stepped, too: by the recipe where it takes vectors, else by fused AdamW."""
        torch.set_num_threads(command["threads"])
        name, options = command["recipe"], command.get("options", {})
        self.gradients = load_file(command["gradients"])
        for key, parameter in {**self.matrices, **self.rest}.items():
            parameter.grad = self.gradients[key]
        matrices, rest = list(self.matrices.values()), list(self.rest.values()) if "auxiliary" in command else []
        self.fresh_gradients = name in peers.SPOILS_GRADIENTS
        try:
            if "AdamW" in name and rest:
                self.optimizers = [peers.make_peer(name, matrices + rest, options)]
            else:
                self.optimizers = [peers.make_peer(name, matrices, options)]
                if rest:
                    self.optimizers.append(peers.make_peer("torch.optim.AdamW(fused=True)", rest, {}))
        except ImportError as error:
            return {"missing": f"not installed: {error.name}"}
        return {"tensors": len(matrices) + len(rest)}

    def give_gradients(self) -> None:
        for name, parameter in {**self.matrices, **self.rest}.items():
            if parameter.grad is None:  # some peers drop gradients that they have used
                parameter.grad = self.gradients[name]
            elif self.fresh_gradients:
                parameter.grad = self.gradients[name].clone()

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def steps(self, command: Record) -> Record:
        return self.timed(self.step, command["count"], before=self.give_gradients)

    def update(self, command: Record) -> Record:
        """What one step does to the weights, as a file."""
        before = {name: matrix.detach().clone() for name, matrix in self.matrices.items()}
        self.give_gradients()
        self.step()
        save_file({name: (before[name] - m.detach()).contiguous() for name, m in self.matrices.items()}, command["file"])
        return {}

    def state_bytes(self, _: Record) -> Record:
        return {"bytes": sum(peers.state_bytes(optimizer) for optimizer in self.optimizers)}

    def timed(self, work: Callable[[], object], count: int, before: Callable[[], object] = lambda: None) -> Record:
        """Mean seconds of `work`; what is done `before` each is not counted."""
        seconds = 0.0
        for _ in range(count):
            before()
            began = time.perf_counter()
            work()
            seconds += time.perf_counter() - began
        return {"seconds": seconds / count}


COMMANDS = ("describe", "setup", "tensors", "batch", "loss", "passes", "optimizer", "steps", "update", "state_bytes")


def main() -> None:
    warnings.filterwarnings("ignore")  # of the peers, about each other
    worker = Worker()
    commands = {name: getattr(worker, name) for name in COMMANDS}
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = commands[command["do"]](command)
        except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
