"""torch.compile around the step, fake and meta tensors, and the operators under torch.library.opcheck."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from contract import CLASSES, Class, given_gradients, noise, same, small, train, weight
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils._python_dispatch import TorchDispatchMode

import schatten

pytestmark = pytest.mark.filterwarnings("ignore:parameters without names")


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def model_of(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 5, bias=False))


def batch(t: int) -> Tensor:
    return noise(8, 6, seed=100 + t)


WHOLE = {"Muon": "aot_eager", "HTMuon": "eager", "AdamW": "aot_eager", "SOAP": "eager", "GaLore": "eager", "APOLLO": "eager"}


@pytest.mark.parametrize("name", WHOLE)
def test_a_compiled_training_step_equals_eager(name: str) -> None:
    """Forward, backward and step; a scheduler that moves a tensor learning rate compiles nothing anew."""
    compiled, eager = model_of(), model_of()
    made = [CLASSES[name](m, lr=torch.tensor(0.1)) for m in (compiled, eager)]
    schedulers = [ExponentialLR(optimizer, 0.5) for optimizer in made]

    def training(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> Any:
        optimizer.zero_grad()
        loss: Any = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    fast = torch.compile(lambda x: training(compiled, made[0], x), backend=WHOLE[name])
    for t in range(6):
        with torch._dynamo.config.patch(error_on_recompile=t >= 3):
            assert torch.equal(fast(batch(t)), training(eager, made[1], batch(t))), t
            assert same(compiled.parameters(), eager.parameters()), t
        for scheduler in schedulers:
            scheduler.step()


def test_a_compiled_step_of_every_class_equals_eager() -> None:
    """The step alone, traced without a break: the operator is one node of the graph."""
    for name, cls in CLASSES.items():
        if name == "MuonClip":  # is told something between steps
            continue
        torch._dynamo.reset()
        w, v = weight(6, 4), weight(6, 4)
        first, second = cls([("w.weight", w)], lr=torch.tensor(0.1)), cls([("w.weight", v)], lr=torch.tensor(0.1))
        graphs: list[torch.fx.GraphModule] = []

        def backend(graph: torch.fx.GraphModule, _: Any, graphs: list[torch.fx.GraphModule] = graphs) -> Any:
            graphs.append(graph)
            return graph.forward

        stepped: Any = torch.compile(first.step, backend=backend)
        for t in range(4):
            w.grad, v.grad = noise(6, 4, seed=t), noise(6, 4, seed=t)
            with torch._dynamo.config.patch(error_on_recompile=t >= 2):
                stepped()
            second.step()
            first.param_groups[0]["lr"].mul_(0.5)
            second.param_groups[0]["lr"].mul_(0.5)
            assert torch.equal(w, v), (name, t)
        assert any(torch.ops.schatten.step.default in {n.target for n in g.graph.nodes} for g in graphs), name


def test_a_compiled_program_saves_loads_and_adds_groups() -> None:
    """These are run as they are, outside of any graph."""
    for name in ("Muon", "AdamW"):
        model, late = small(), weight(3, 4)
        optimizer = CLASSES[name](model)
        train(optimizer, model, 1)

        def program(optimizer: schatten.Optimizer = optimizer, late: Tensor = late) -> Any:
            saved = optimizer.state_dict()
            optimizer.load_state_dict(saved)
            optimizer.zero_grad()
            optimizer.add_param_group({"params": [("late.weight", late)]})
            return saved["state"][0]["step"] + 1

        assert float(torch.compile(program, backend="eager")()) == 2
        assert optimizer.param_groups[-1]["params"] == [late] and model[1].weight.grad is None


# --- without memory ---------------------------------------------------------------------------------------------------


def shapes(optimizer: torch.optim.Optimizer, w: Tensor) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {key: (tuple(t.shape), t.dtype) for key, t in optimizer.state[w].items()}


def test_fake_tensors_step_and_have_the_real_ones_state(cls: Class) -> None:
    real = weight(6, 4)
    optimizer = cls([("w.weight", real)])
    given_gradients(optimizer, [real], 1)
    with FakeTensorMode():
        w = nn.Parameter(torch.empty(6, 4))
        fake = cls([("w.weight", w)])
        for _ in range(2):
            w.grad = torch.empty(6, 4)
            if cls.__name__ == "MuonClip":
                fake.observe("largest_logits", 0, torch.zeros(2))
            fake.step()
    assert shapes(fake, w) == shapes(optimizer, real)
    assert all(type(t).__name__ == "FakeTensor" for t in fake.state[w].values())


def test_meta_tensors_step_and_have_the_real_ones_state(cls: Class) -> None:
    real, w = weight(6, 4), nn.Parameter(torch.empty(6, 4, device="meta"))
    optimizer, meta = cls([("w.weight", real)]), cls([("w.weight", w)])
    given_gradients(optimizer, [real], 1)
    for _ in range(2):
        w.grad = torch.empty(6, 4, device="meta")
        if cls.__name__ == "MuonClip":
            meta.observe("largest_logits", 0, torch.zeros(2))
        meta.step()
    assert shapes(meta, w) == shapes(optimizer, real)
    assert all(t.device.type == "meta" for key, t in meta.state[w].items() if key not in ("step", "weight_decay"))


def test_state_bytes_allocate_nothing(cls: Class) -> None:
    """A forecast from declarations alone."""
    w = nn.Parameter(torch.empty(10000, 10000, device="meta"))
    optimizer = cls([("w.weight", w)])
    assert optimizer.state_bytes() >= 4 and not optimizer.state and "w.weight" in optimizer.routing_table()


# --- operators --------------------------------------------------------------------------------------------------------


class Caught(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The arguments of schatten::step, which is not called."""

    arguments: tuple[Any, ...] = ()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func is not torch.ops.schatten.step.default:
            return func(*args, **(kwargs or {}))
        self.arguments = tuple([t.detach().clone() for t in a] if isinstance(a, list) else a for a in args)
        return None


def arguments(cls: Class) -> tuple[Any, ...]:
    """What the class hands to the operator."""
    w, v = weight(6, 4), weight(4)
    optimizer = cls([("w.weight", w), ("w.bias", v)])
    given_gradients(optimizer, [w, v], 2)
    caught: Any = Caught()  # type: ignore[no-untyped-call]
    with caught:
        given_gradients(optimizer, [w, v], 1, first=2)
    found: tuple[Any, ...] = caught.arguments
    return found


CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor")


def test_the_step_operator_passes_opcheck(cls: Class) -> None:
    """What it writes is declared, nothing else is written, and it runs on fake tensors."""
    torch.library.opcheck(torch.ops.schatten.step.default, arguments(cls), test_utils=CHECKS)


def test_the_step_operator_passes_opcheck_under_aot_dispatch() -> None:
    for name in ("AdamW", "Muon", "GaLore"):
        torch.library.opcheck(torch.ops.schatten.step.default, arguments(CLASSES[name]), test_utils="test_aot_dispatch_dynamic")


def test_the_probe_operator_passes_opcheck() -> None:
    torch.library.opcheck(torch.ops.schatten.probe.default, arguments(schatten.Sophia)[:5], test_utils=CHECKS)


def test_what_takes_and_gives_text_says_so() -> None:
    """`declare` and `infer` have no tensors, so that opcheck has nothing to trace: their schemas are checked by hand."""
    assert str(torch.ops.schatten.declare.default._schema) == "schatten::declare(str recipe, float[] hyper) -> str"
    assert str(torch.ops.schatten.infer.default._schema) == "schatten::infer(str parameters) -> str"
    for op, given in ((torch.ops.schatten.infer, ("[]",)), (torch.ops.schatten.declare, ('{"groups":[]}', []))):
        assert json.loads(op(*given)) == []
        with FakeTensorMode():
            assert json.loads(op(*given)) == []
        with pytest.raises((ValueError, RuntimeError), match="expected valid JSON"):
            op("{", *given[1:])


def test_bad_arguments_of_the_operator_are_refused_before_anything_is_written() -> None:
    good = arguments(schatten.Muon)
    before = [t.clone() for part in good[:3] for t in part]
    params, grads, state, request, hyper, observed = good
    for bad in (
        (params[:1], grads, state, request, hyper, observed),
        (params, grads[:1], state, request, hyper, observed),
        (params, grads, state[:-1], request, hyper, observed),
        (params, grads, [*state, torch.zeros(1)], request, hyper, observed),
        (params, grads, state, request, hyper[:-1], observed),
        (params, grads, state, request, hyper.float(), observed),
        (params, grads, state, request, hyper, [torch.zeros(1)]),
        (params, grads, [state[0][:2], *state[1:]], request, hyper, observed),
        (params, [grads[0][:2], *grads[1:]], state, request, hyper, observed),
        ([params[0].T, *params[1:]], grads, state, request, hyper, observed),
        (params, grads, state, "{}", hyper, observed),
        (params, grads, state, request.replace('"muon"', '"mion"'), hyper, observed),
    ):
        with pytest.raises((ValueError, RuntimeError), match="expected"):
            torch.ops.schatten.step(*bad)
    assert same(before, [t for part in good[:3] for t in part])
