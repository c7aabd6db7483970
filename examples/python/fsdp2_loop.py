"""FSDP2 and torch.distributed.checkpoint: trains in two processes, saves, goes on, and does the second half again from the checkpoint.

torchrun --nproc-per-node 2 examples/python/fsdp2_loop.py
"""

# mypy: disable-error-code="attr-defined,no-untyped-call"
# (names that torch.distributed has and does not list)

from __future__ import annotations

import pathlib
import tempfile

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import schatten

STEPS, BATCH, WIDTH = 20, 16, 45


def model_of() -> nn.Module:
    torch.manual_seed(0)  # the same weights in all processes, which fully_shard then cuts
    model = nn.Sequential(
        nn.Embedding(64, WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH), nn.Linear(WIDTH, 64)
    )
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def batch(step: int) -> Tensor:
    """This process's part of a batch that follows from the step's number."""
    whole = torch.randint(64, (BATCH,), generator=torch.Generator().manual_seed(step))
    return whole.chunk(dist.get_world_size())[dist.get_rank()]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> list[float]:
    losses = []
    for step in range(first, last):
        tokens = batch(step)
        loss = nn.functional.cross_entropy(model(tokens), (tokens + 1) % 64)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def optimizer_of(model: nn.Module) -> schatten.Optimizer:
    optimizer = schatten.Muon(model, lr=0.02, auxiliary={"lr": 3e-3})
    return optimizer


def save(model: nn.Module, optimizer: torch.optim.Optimizer, folder: str) -> None:
    weights, state = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": state}, checkpoint_id=folder)


def load(model: nn.Module, optimizer: torch.optim.Optimizer, folder: str) -> None:
    weights, state = get_state_dict(model, optimizer)
    dcp.load({"model": weights, "optimizer": state}, checkpoint_id=folder)
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=state)


def local(model: nn.Module) -> list[Tensor]:
    return [p.to_local() if isinstance(p, DTensor) else p for p in model.parameters()]


def main() -> None:
    dist.init_process_group("gloo")
    folder = [tempfile.mkdtemp() if dist.get_rank() == 0 else ""]
    dist.broadcast_object_list(folder)
    path = str(pathlib.Path(folder[0]) / "half")

    model = model_of()
    optimizer = optimizer_of(model)
    losses = train(model, optimizer, 0, STEPS // 2)
    save(model, optimizer, path)
    losses += train(model, optimizer, STEPS // 2, STEPS)

    resumed = model_of()
    again = optimizer_of(resumed)
    load(resumed, again, path)
    train(resumed, again, STEPS // 2, STEPS)
    same = all(torch.equal(a, b) for a, b in zip(local(model), local(resumed), strict=True))
    print(f"rank {dist.get_rank()}: loss {losses[0]:.2f} -> {losses[-1]:.2f}; resumed: {'the same weights' if same else 'OTHER WEIGHTS'}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
