"""A step whose parameters are DTensors (FSDP2 and its like): what is stepped where it lies, and what must come together first.

An element-wise recipe steps each shard where it lies. Every other needs whole matrices. A matrix has one owner among the processes that
hold its shards: it receives the shards of weight, gradient and state, steps, and sends the results back. Owners are worked out from names
and shapes, so that all processes agree without asking. State lies as its parameter does; a slot of another shape lies by rows.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Placement

    from .optimizer import Optimizer

Shape = tuple[int, ...]
GRADIENT = 1  # its place among a job's tensors: parameter, gradient, state
Operator = Callable[[list[Tensor], list[Tensor], list[Tensor], list[str], list[Any]], None]


def is_sharded(t: Any) -> TypeGuard[DTensor]:
    """Whether it is a DTensor. There is none as long as nobody has imported its module."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(t, module.DTensor)


def here(t: Tensor) -> Tensor:
    """What this process holds of it."""
    return t.to_local() if is_sharded(t) else t


# --- how state lies -------------------------------------------------------------------------------------------------------


def _axes(t: Tensor) -> list[int]:
    """The dimensions of its mesh along which processes hold different parts."""
    if not is_sharded(t):
        return []
    return [i for i, placement in enumerate(t.placements) if t.device_mesh.size(i) > 1 and not placement.is_replicate()]


def _placements(parameter: DTensor, shape: Shape) -> list[Placement]:
    from torch.distributed.tensor import Replicate, Shard

    if shape == tuple(parameter.shape):
        return list(parameter.placements)
    by_rows: list[Placement] = [Replicate() for _ in parameter.placements]
    for axis in _axes(parameter)[:1]:
        by_rows[axis] = Shard(0)
    return by_rows


def zeros(parameter: DTensor, shape: Shape, dtype: torch.dtype) -> Tensor:
    """A slot of the state of a parameter."""
    from torch.distributed import tensor

    if shape == tuple(parameter.shape):
        return torch.zeros_like(parameter, dtype=dtype, requires_grad=False, memory_format=torch.contiguous_format)
    return tensor.zeros(shape, dtype=dtype, device_mesh=parameter.device_mesh, placements=_placements(parameter, shape))


def lie(name: str, key: str, present: Tensor, parameter: Tensor) -> Tensor:
    """State as it must lie: a whole tensor, the same in all processes, is cut; a shard without a sharded parameter is refused."""
    if present.dim() == 0 or is_sharded(present) == is_sharded(parameter):
        return present
    if not is_sharded(parameter):
        raise ValueError(
            f"state '{key}' of parameter '{name}': expected a tensor like its parameter, got a shard\n  "
            "torch.distributed.checkpoint.state_dict.set_optimizer_state_dict gathers it."
        )
    from torch.distributed.tensor import distribute_tensor

    placements = _placements(parameter, tuple(present.shape))
    return distribute_tensor(present, parameter.device_mesh, placements, src_data_rank=None)


# --- what is known before the tensors are looked at -----------------------------------------------------------------------


@dataclass
class _Job:
    """One parameter that takes part in a step."""

    group: int  # in param_groups
    info: dict[str, Any]  # as the operator's string has it
    keys: tuple[str, ...]  # of its state
    axes: list[int]  # of its mesh: none, where everything it needs lies here
    team: ProcessGroup | None = None  # that its one owner belongs to
    owner: int = -1

    @property
    def name(self) -> str:
        return str(self.info["name"])

    @property
    def flops(self) -> int:
        rows, *rest = [1, *self.info["shape"]][-max(2, len(self.info["shape"])) :]
        cols = math.prod(rest)
        return int(rows * cols * min(rows, cols))


@dataclass
class _Call:
    """Jobs that one call of the operator does."""

    jobs: list[int]
    groups: list[int]
    texts: list[str]

    @staticmethod
    def of(chosen: list[int], jobs: list[_Job], texts: dict[int, str]) -> _Call:
        call = _Call(chosen, [], [])
        for group, text in texts.items():
            if parameters := [jobs[i].info for i in chosen if jobs[i].group == group]:
                call.groups.append(group)
                call.texts.append(json.dumps({**json.loads(text), "parameters": parameters}))
        return call


@dataclass
class _Plan:
    """Who does what in a step. It follows from the groups' strings alone."""

    texts: dict[int, str]
    jobs: list[_Job]
    teams: dict[ProcessGroup, list[int]]  # jobs with one owner
    whole: _Call  # of matrices that came together
    here: _Call  # where it lies
    signatures: list[str]  # for each mesh: what its processes must have in common
    controlled: bool


def _settle_owners(jobs: Iterable[_Job], world: int) -> None:
    """The most expensive first, each to whoever has least to do."""
    load = [0] * world
    for job in sorted(jobs, key=lambda job: (-job.flops, job.name, job.group)):
        job.owner = load.index(min(load))
        load[job.owner] += job.flops


def _by_entries(locality: str, group: dict[str, Any]) -> bool:
    """Whether a shard can be stepped as if it were all. A scale by shape is computed entry by entry, too, but not from a shard."""
    return locality == "elementwise" and "adjust_lr_fn" not in group and "direction" not in (group.get("options") or {})


# --- sending --------------------------------------------------------------------------------------------------------------


class _Move(NamedTuple):
    """A piece of a tensor and its way; where the piece begins or ends in another process, there is no tensor here."""

    source: int
    piece: Tensor | None
    target: int
    room: Tensor | None


def _sizes(size: int, world: int) -> list[int]:
    """How DTensor cuts a dimension."""
    chunk = -(-size // world)
    return [max(0, min(size - rank * chunk, chunk)) for rank in range(world)]


def _check_cut(name: str, parameter: DTensor, axis: int) -> None:
    placement: Any = parameter.placements[axis]
    mesh, dim = parameter.device_mesh, placement.dim
    expected = _sizes(parameter.shape[dim], mesh.size(axis))[mesh.get_local_rank(axis)]
    if parameter.to_local().shape[dim] != expected:
        raise ValueError(
            f"parameter '{name}' of shape {tuple(parameter.shape)}: expected {expected} of dimension {dim} here, as DTensor cuts, "
            f"got a shard of shape {tuple(parameter.to_local().shape)}\n  Make it by distribute_tensor or fully_shard."
        )


def _carry_out(moves: list[_Move], team: ProcessGroup) -> None:
    """All at once. Pieces travel from where they lie to where they belong, without a copy where both lie in one piece."""
    me = torch.distributed.get_rank(team)
    letters: list[torch.distributed.P2POp] = []
    arrivals: list[tuple[Tensor, Tensor]] = []
    for source, piece, target, room in moves:
        if me == source == target and piece is not None and room is not None:
            room.copy_(piece)
        elif me == source and piece is not None and piece.numel():
            letters.append(torch.distributed.P2POp(torch.distributed.isend, piece.contiguous(), group=team, group_peer=target))
        elif me == target and room is not None and room.numel():
            arrivals.append((room, room if room.is_contiguous() else torch.empty_like(room, memory_format=torch.contiguous_format)))
            letters.append(torch.distributed.P2POp(torch.distributed.irecv, arrivals[-1][1], group=team, group_peer=source))
    for handle in torch.distributed.batch_isend_irecv(letters) if letters else []:
        handle.wait()
    for room, arrived in arrivals:
        if arrived is not room:
            room.copy_(arrived)


def _whole(t: Tensor) -> Tensor:
    return t.full_tensor() if is_sharded(t) else t


def _put_everywhere(result: Tensor, t: DTensor) -> None:
    """Every process has the whole result and keeps its part."""
    from torch.distributed.tensor import DTensor, Replicate

    replicated = DTensor.from_local(result, t.device_mesh, [Replicate() for _ in t.placements], run_check=False)
    t.to_local().copy_(replicated.redistribute(t.device_mesh, t.placements).to_local())


def _groups_of(mesh: DeviceMesh) -> list[ProcessGroup]:
    return [mesh.get_group(i) for i in range(mesh.ndim) if mesh.size(i) > 1]


# --- the step -----------------------------------------------------------------------------------------------------------------


class Shards:
    """The meshes that an optimizer's parameters lie on, and how they are stepped there."""

    def __init__(self, meshes: list[DeviceMesh]) -> None:
        self.meshes = meshes
        self.plan: _Plan | None = None

    @staticmethod
    def among(parameters: Iterable[Tensor]) -> Shards | None:
        """None where all parameters are plain tensors."""
        meshes: list[DeviceMesh] = []
        for p in parameters:
            if is_sharded(p) and p.device_mesh not in meshes:
                meshes.append(p.device_mesh)
        return Shards(meshes) if meshes else None

    @_disable_dynamo
    def step(self, optimizer: Optimizer) -> None:
        """One update."""
        if work := self._taken(optimizer, optimizer._run_step):
            work.count()
            optimizer._observed.clear()

    @_disable_dynamo
    def probe(self, optimizer: Optimizer) -> None:
        """The gradients are a probe's: only state changes."""
        self._taken(optimizer, optimizer._run_probe)

    def _taken(self, optimizer: Optimizer, operator: Operator) -> _Work | None:
        """An error in one process is an error in all, before any weight on the meshes has changed."""
        error: Exception | None = None
        work: _Work | None = None
        try:
            work = _Work(self, optimizer)
        except Exception as caught:
            error = caught
        words = [] if work is None else work.words()
        active = self._agree(words, error, 1 if work is None else int(not work.rehearsal))
        if work is None or not active:
            return None
        error = None
        try:
            work.come_together()
            work.run(operator, work.plan.whole)
        except Exception as caught:
            error = caught
        if self._agree([], error, len(work.resized())):
            work.resize(self._tell(work.resized()))
        work.give_back()
        work.run(operator, work.plan.here)
        return work

    def _agree(self, words: list[str], error: Exception | None, flag: int) -> int:
        """The largest flag. Raises in every process, if there is an error in one, or their words differ."""
        trouble = int(error is not None)
        rounds = self.meshes * min(2, len(self.meshes))  # what one mesh learns last another has to hear
        for i, mesh in enumerate(rounds):
            word = words[i] if i < len(words) else ""
            digest = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=7).digest(), "little")
            seen = torch.tensor([trouble, flag, digest, -digest], dtype=torch.int64, device=mesh.device_type)
            for team in _groups_of(mesh):
                torch.distributed.all_reduce(seen, torch.distributed.ReduceOp.MAX, group=team)
            trouble, flag, most, least = seen.tolist()
            trouble = int(trouble or most != -least)
        if trouble:
            self._explain(error, words)
        return flag

    def _explain(self, error: Exception | None, words: list[str]) -> None:
        said = self._tell((error and f"{type(error).__name__}: {error}", words))
        if error is not None:
            raise error
        me = torch.distributed.get_rank()
        for rank, (text, _) in said.items():
            if text:
                raise RuntimeError(f"step() of rank {me} stopped, because rank {rank} reports:\n{text}")
        for rank, (_, theirs) in said.items():
            differing = sorted({*"\n".join(words).splitlines()} ^ {*"\n".join(theirs).splitlines()})
            if differing:
                raise RuntimeError(
                    f"step() of rank {me}: expected the same parameters with gradients and the same numbers in all processes, "
                    f"got differences from rank {rank}:\n  " + "\n  ".join(differing[:8])
                )
        raise RuntimeError(f"step() of rank {me} stopped: another process has an error")

    def _tell(self, value: Any) -> dict[int, Any]:
        """What every process says, by rank."""
        said = {torch.distributed.get_rank(): value}
        for mesh in self.meshes * min(2, len(self.meshes)):
            for team in _groups_of(mesh):
                heard: list[Any] = [None] * torch.distributed.get_world_size(team)
                torch.distributed.all_gather_object(heard, said, group=team)
                for one in heard:
                    said.update(one)
        return dict(sorted(said.items()))


class _Work:
    """One step: the tensors of each job, first as they lie here, then whole where that is needed."""

    def __init__(self, shards: Shards, optimizer: Optimizer) -> None:
        self.shards, self.optimizer = shards, optimizer
        self.tensors: list[list[Tensor]] = []  # parameter, gradient, state
        self.numbers: dict[int, list[Any]] = {}
        parts = [(group, [p for p in group["params"] if p.grad is not None and p.numel() > 0]) for group in optimizer.param_groups]
        self.parameters = [p for _, params in parts for p in params]
        self.rehearsal = all(optimizer._is_rehearsal(group, params) for group, params in parts)
        texts: dict[int, str] = {}
        for i, group in enumerate(optimizer.param_groups):
            params: list[Tensor] = []
            grads: list[Tensor] = []
            state: list[Tensor] = []
            values: list[float] = []
            text = optimizer._init_group(group, params, grads, state, values)
            if not text:
                continue
            texts[i], self.numbers[i] = text, [group["lr"], *values]
            prepared = optimizer._prepared[id(group)]
            rest = iter(state)
            for p, g, keys in zip(params, grads, prepared.slots, strict=True):
                if is_sharded(p) and not is_sharded(g):
                    raise ValueError(f"expected the gradient of a DTensor to be one, got a plain tensor of shape {tuple(g.shape)}")
                self.tensors.append([p, g, *islice(rest, len(keys))])
        if shards.plan is None or shards.plan.texts != texts:
            shards.plan = self._planned(texts)
        self.plan = shards.plan
        self.results: dict[int, list[Tensor]] = {}

    def _planned(self, texts: dict[int, str]) -> _Plan:
        groups = self.optimizer.param_groups
        jobs: list[_Job] = []
        kept = {i: self.optimizer._prepared[id(groups[i])] for i in texts}
        controlled = any(p.answer["controlled"] for p in kept.values())
        for i, text in texts.items():
            for info, keys in zip(json.loads(text)["parameters"], kept[i].slots, strict=True):
                t = self.tensors[len(jobs)][0]
                lies_here = _by_entries(kept[i].answer["locality"], groups[i]) and not controlled
                jobs.append(_Job(i, info, keys, [] if lies_here else _axes(t)))
                if lies_here and is_sharded(t):
                    jobs[-1].info = {**info, "shape": list(t.to_local().shape)}
        everyone = range(len(jobs))
        teams = {} if controlled else self._owned(jobs)
        mine = [i for i in everyone if jobs[i].axes and jobs[i].team is None]
        mine += [i for team, owned in teams.items() for i in owned if jobs[i].owner == torch.distributed.get_rank(team)]
        here = [i for i in everyone if not jobs[i].axes and 0 not in jobs[i].info["shape"]]
        if controlled:
            mine, here = mine + here, []
        signatures = [self._signature(jobs, texts, mesh) for mesh in self.shards.meshes]
        calls = _Call.of(sorted(mine), jobs, texts), _Call.of(here, jobs, texts)
        return _Plan(texts, jobs, teams, *calls, signatures, controlled)

    def _owned(self, jobs: list[_Job]) -> dict[ProcessGroup, list[int]]:
        from torch.distributed.tensor import Shard

        teams: defaultdict[ProcessGroup, list[int]] = defaultdict(list)
        for i, job in enumerate(jobs):
            t = self.tensors[i][0]
            if len(job.axes) == 1 and is_sharded(t) and type(t.placements[job.axes[0]]) is Shard:
                job.team = t.device_mesh.get_group(job.axes[0])
                teams[job.team].append(i)
                _check_cut(job.name, t, job.axes[0])
        for team, owned in teams.items():
            _settle_owners([jobs[i] for i in owned], torch.distributed.get_world_size(team))
        return dict(teams)

    def _signature(self, jobs: list[_Job], texts: dict[int, str], mesh: DeviceMesh) -> str:
        lies = [is_sharded(t[0]) and t[0].device_mesh == mesh for t in self.tensors]
        lines = []
        for group, text in texts.items():
            names = [job.name for job, on in zip(jobs, lies, strict=True) if on and job.group == group]
            recipe = {**json.loads(text), "parameters": []}
            lines += [f"group {group}: {json.dumps(recipe)}", *(f"gradient of '{name}'" for name in names)] if names else []
        return "\n".join(lines)

    def words(self) -> list[str]:
        """For each mesh: what must be equal in its processes."""
        numbers = "\n".join(f"group {i}: lr and others {[float(n) for n in own]}" for i, own in self.numbers.items())
        observed = [(what, block) for what, block, _ in self.optimizer._observed]
        return [f"{signature}\n{numbers}\nobserved {observed}" for signature in self.plan.signatures]

    # --- coming together ---

    def come_together(self) -> None:
        """Afterwards `results` has whole tensors for every job of the call `whole`."""
        for own in self.tensors:
            parameter, grad = own[0], own[GRADIENT]
            if is_sharded(parameter) and is_sharded(grad) and grad.placements != parameter.placements:
                own[GRADIENT] = grad.redistribute(parameter.device_mesh, parameter.placements)
        for team, owned in self.plan.teams.items():
            self._gather(team, owned)
        for i in self.plan.whole.jobs:
            if i not in self.results:
                self.results[i] = [_whole(t) for t in self.tensors[i]]
        if self.plan.controlled:
            self.optimizer._observed = [(what, block, self._largest(values)) for what, block, values in self.optimizer._observed]

    def _largest(self, observed: Tensor) -> Tensor:
        """Each process has seen its own part of the batch."""
        largest = observed.clone()
        for mesh in self.shards.meshes:
            for team in _groups_of(mesh):
                torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX, group=team)
        return largest

    def _gather(self, team: ProcessGroup, owned: list[int]) -> None:
        for i in owned:
            if self.plan.jobs[i].owner == torch.distributed.get_rank(team):
                self.results[i] = [here(t).new_empty(tuple(t.shape)) if is_sharded(t) else t for t in self.tensors[i]]
        _carry_out([_Move(rank, shard, owner, part) for _, owner, rank, shard, part in self._ways(team, owned)], team)

    def _scatter(self, team: ProcessGroup, owned: list[int]) -> None:
        ways = self._ways(team, owned)
        _carry_out([_Move(owner, part, rank, shard) for k, owner, rank, shard, part in ways if k != GRADIENT], team)

    def _ways(self, team: ProcessGroup, owned: list[int]) -> Iterable[tuple[int, int, int, Tensor | None, Tensor | None]]:
        """Which tensor of a job, its owner, a process; its shard, if that lies here, and this part of the whole, if we own it."""
        world, me = torch.distributed.get_world_size(team), torch.distributed.get_rank(team)
        for i in owned:
            job = self.plan.jobs[i]
            for k, t in enumerate(self.tensors[i]):
                if not is_sharded(t):
                    continue
                placement: Any = t.placements[job.axes[0]]
                sizes = _sizes(t.shape[placement.dim], world)
                parts = torch.split(self.results[i][k], sizes, placement.dim) if job.owner == me else [None] * world
                for rank, part in enumerate(parts):
                    yield k, job.owner, rank, t.to_local() if rank == me else None, part

    # --- and back ---

    def resized(self) -> dict[tuple[int, str, int], Shape]:
        """State that took another shape in the step: a buffer that is now in a subspace, and now is not."""
        shapes = {}
        for i, own in self.results.items():
            for k, result in enumerate(own):
                if is_sharded(self.tensors[i][k]) and result.shape != self.tensors[i][k].shape:
                    shapes[self.plan.jobs[i].group, self.plan.jobs[i].name, k] = tuple(result.shape)
        return shapes

    def resize(self, said: dict[int, dict[tuple[int, str, int], Shape]]) -> None:
        numbered = {(job.group, job.name): i for i, job in enumerate(self.plan.jobs)}
        for (group, name, k), shape in {key: shape for shapes in said.values() for key, shape in shapes.items()}.items():
            i = numbered.get((group, name))
            if i is None:
                continue
            parameter = self.parameters[i]
            assert is_sharded(parameter)
            new = zeros(parameter, shape, self.tensors[i][k].dtype)
            self.optimizer.state[parameter][self.plan.jobs[i].keys[k - 2]] = self.tensors[i][k] = new

    def give_back(self) -> None:
        for team, owned in self.plan.teams.items():
            self._scatter(team, owned)
        for i in self.plan.whole.jobs:
            if self.plan.jobs[i].team is None:
                for k, t in enumerate(self.tensors[i]):
                    if k != GRADIENT and is_sharded(t):
                        _put_everywhere(self.results[i][k], t)

    # --- the operator ---

    def run(self, operator: Operator, call: _Call) -> None:
        if not call.jobs:
            return
        params: list[Tensor] = []
        grads: list[Tensor] = []
        state: list[Tensor] = []
        for i in call.jobs:
            own = self.results.get(i) or [here(t) for t in self.tensors[i]]
            maximize = self.optimizer.param_groups[self.plan.jobs[i].group]["maximize"]
            params.append(own[0])
            grads.append(-own[GRADIENT] if maximize else own[GRADIENT])
            state.extend(own[2:])
        hyper = [number for group in call.groups for number in self.numbers[group]]
        operator(params, grads, state, call.texts, hyper)

    def count(self) -> None:
        """Counters of what was stepped elsewhere, or has no entry here, go on as well."""
        done = {*self.plan.whole.jobs, *self.plan.here.jobs}
        for i, job in enumerate(self.plan.jobs):
            if i not in done:
                self.tensors[i][2 + job.keys.index("step")].add_(1)
