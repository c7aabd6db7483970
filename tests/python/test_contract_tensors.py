"""Kinds of parameters and gradients: dtypes, strides, shapes, complex, sparse, empty; and what the words of groups do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from contract import CLASSES, Class, distance, given_gradients, noise, same, step, weight
from torch import Tensor, nn

pytestmark = pytest.mark.filterwarnings("ignore:parameters without names", "ignore:Sophia")


def moved(cls: Class, parameter: Tensor, gradients: list[Tensor], **options: object) -> Tensor:
    optimizer = cls([("layer.weight", parameter)], **options)
    for g in gradients:
        parameter.grad = g
        step(optimizer)
    return parameter.detach()


# --- strides ----------------------------------------------------------------------------------------------------------


def test_strides_of_parameter_and_gradient_do_not_matter(cls: Class) -> None:
    gradients = [noise(6, 4, seed=t + 1) for t in range(3)]
    wanted = moved(cls, weight(6, 4), gradients)
    turned = nn.Parameter(weight(6, 4).detach().T.contiguous().T)
    assert not turned.is_contiguous()
    assert torch.equal(moved(cls, turned, [g.T.contiguous().T for g in gradients]), wanted)
    assert torch.equal(moved(cls, weight(6, 4), [g.T.contiguous().T for g in gradients]), wanted)
    wide = torch.zeros(6, 8)
    wide[:, ::2] = weight(6, 4).detach()
    assert torch.equal(moved(cls, wide[:, ::2].requires_grad_(), gradients), wanted) and not wide[:, 1::2].any()
    rows = [g[:1].expand(6, 4) for g in gradients]  # what sum().backward() makes
    assert torch.equal(moved(cls, weight(6, 4), rows), moved(cls, weight(6, 4), [r.contiguous() for r in rows]))


def test_channels_last_convolutions(cls: Class) -> None:
    gradients = [noise(4, 3, 2, 2, seed=t + 1) for t in range(3)]
    wanted = moved(cls, weight(4, 3, 2, 2), gradients)
    last = [g.to(memory_format=torch.channels_last) for g in gradients]
    parameter = nn.Parameter(weight(4, 3, 2, 2).detach().to(memory_format=torch.channels_last))
    assert torch.equal(moved(cls, parameter, last), wanted) and parameter.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved(cls, weight(4, 3, 2, 2), last), wanted)


def test_a_convolution_is_the_matrix_of_its_filters(matrix: Class) -> None:
    if matrix.__name__ in ("SOAP", "Shampoo", "AdamMini", "MARS"):
        pytest.skip("has its own reading of more than two dimensions")
    gradients = [noise(4, 12, seed=t + 1) for t in range(3)]
    flat = moved(matrix, weight(4, 12), gradients)
    conv = moved(matrix, nn.Parameter(weight(4, 12).detach().reshape(4, 3, 2, 2)), [g.reshape(4, 3, 2, 2) for g in gradients])
    assert torch.equal(conv.reshape(4, 12), flat)


# --- shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 3)])
def test_parameters_of_no_entries_are_skipped(cls: Class, shape: tuple[int, ...]) -> None:
    empty, w = nn.Parameter(torch.zeros(shape)), weight(3, 4)
    optimizer = cls([("empty.weight", empty), ("w.weight", w)])
    given_gradients(optimizer, [empty, w], 2)
    assert not torch.equal(w, weight(3, 4)) and not optimizer.state[empty] and optimizer.state_bytes() > 0
    optimizer.load_state_dict(optimizer.state_dict())
    given_gradients(optimizer, [empty, w], 1)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (1, 1), (1, 6), (6, 1), (2, 3, 4), (2, 1, 3, 2, 2)])
def test_every_number_of_dimensions(cls: Class, shape: tuple[int, ...]) -> None:
    w = weight(*shape)
    optimizer = cls([("layer.weight", w)])
    moved = False
    for t in range(3):  # signs may cancel each other
        given_gradients(optimizer, [w], 1, first=t)
        moved |= not torch.equal(w, weight(*shape))
    assert moved and w.shape == torch.Size(shape) and torch.isfinite(w).all()
    saved = optimizer.state_dict()["state"][0]
    assert all(isinstance(t, Tensor) for t in saved.values())


# --- dtypes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_state_is_as_wide_as_it_has_to_be(cls: Class, dtype: torch.dtype) -> None:
    w = weight(6, 4, dtype=dtype)
    optimizer = cls([("layer.weight", w)], lr=0.01)
    given_gradients(optimizer, [w], 3)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    kinds = {key: t.dtype for key, t in optimizer.state[w].items() if key not in ("step", "weight_decay", "seed")}
    assert w.dtype == dtype and set(kinds.values()) <= {wide}, kinds
    assert optimizer.state[w]["step"].dtype == torch.float32 and optimizer.state[w]["step"].device.type == "cpu"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_parameters_take_the_float32_step_rounded(elementwise: Class, dtype: torch.dtype) -> None:
    w, wide = weight(6, 4, dtype=dtype), nn.Parameter(weight(6, 4, dtype=dtype).detach().float())
    gradient = noise(6, 4, dtype=dtype, seed=1)
    half = moved(elementwise, w, [gradient], lr=0.01)
    full = moved(elementwise, wide, [gradient.float()], lr=0.01)
    torch.testing.assert_close(half, full.to(dtype), rtol=0, atol=2 * torch.finfo(dtype).eps)


def test_state_dtype_of_ones_choice(cls: Class) -> None:
    for dtype in (torch.bfloat16, torch.float64):
        w = weight(6, 4)
        optimizer = cls([("layer.weight", w)], state_dtype=dtype)
        given_gradients(optimizer, [w], 3)
        kinds = {t.dtype for key, t in optimizer.state[w].items() if key not in ("step", "weight_decay", "seed")}
        assert kinds <= ({torch.bfloat16, torch.float32} if dtype == torch.bfloat16 else {torch.float64}), (dtype, kinds)


def test_a_model_made_wider_before_the_first_step(cls: Class) -> None:
    module = nn.Linear(4, 6)
    optimizer = cls(module)
    module.double()
    given_gradients(optimizer, module.parameters(), 2)
    assert all(t.dtype == torch.float64 for k, t in optimizer.state[module.weight].items() if k not in ("step", "seed"))


# --- complex and sparse -----------------------------------------------------------------------------------------------

TWINS = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW, "Adagrad": torch.optim.Adagrad,
         "RMSprop": torch.optim.RMSprop}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_elementwise_classes_take_complex_parameters(elementwise: Class, dtype: torch.dtype) -> None:
    """As two real numbers each, as torch's."""
    gradients = [noise(3, 4, dtype=dtype, seed=t + 1) for t in range(3)]
    z = moved(elementwise, weight(3, 4, dtype=dtype), gradients)
    pair = nn.Parameter(torch.view_as_real(weight(3, 4, dtype=dtype).detach()).clone())
    assert torch.equal(torch.view_as_real(z), moved(elementwise, pair, [torch.view_as_real(g) for g in gradients]))
    if twin := TWINS.get(elementwise.__name__):
        w = weight(3, 4, dtype=dtype)
        theirs = twin([w])
        for g in gradients:
            w.grad = g
            theirs.step()
        tight = 1e-12 if dtype == torch.complex128 else 1e-5
        torch.testing.assert_close(z, w.detach(), rtol=tight, atol=tight)


def test_matrix_classes_refuse_complex_parameters_by_name(routed: Class) -> None:
    w = weight(3, 4, dtype=torch.complex64)
    optimizer = routed([("layer.weight", w)])
    w.grad = noise(3, 4, dtype=torch.complex64)
    with pytest.raises(RuntimeError, match=r"does not support complex parameters \(parameter 'layer.weight', shape \(3, 4\)\)"):
        step(optimizer)
    assert torch.equal(w, weight(3, 4, dtype=torch.complex64)) and not optimizer.state[w]


def test_sparse_gradients_are_refused_by_name_and_lose_nothing(cls: Class) -> None:
    def sparse() -> Tensor:
        return torch.eye(3, 4).to_sparse()

    w = weight(3, 4)
    optimizer = cls([("layer.weight", w)])
    w.grad = sparse()
    with pytest.raises(RuntimeError, match=rf"{cls.__name__} does not support sparse gradients.*'layer.weight'"):
        step(optimizer)
    assert torch.equal(w, weight(3, 4))
    given_gradients(optimizer, [w], 2)
    before, state = w.detach().clone(), {k: t.clone() for k, t in optimizer.state[w].items()}
    w.grad = sparse()
    with pytest.raises((RuntimeError, ValueError), match=r"sparse.*'layer.weight'"):
        step(optimizer)
    assert torch.equal(w, before) and same(state.values(), optimizer.state[w].values())


def test_adam_names_torchs_way_out_of_sparse_gradients() -> None:
    for name in ("Adam", "AdamW"):
        w = weight(3, 4)
        w.grad = torch.eye(3, 4).to_sparse()
        with pytest.raises(RuntimeError, match="does not support sparse gradients, please consider SparseAdam instead"):
            CLASSES[name]([w]).step()


# --- words of the group -----------------------------------------------------------------------------------------------


def test_maximize_is_minimizing_the_negative(cls: Class) -> None:
    gradients = [noise(6, 4, seed=t + 1) for t in range(3)]
    up = moved(cls, weight(6, 4), gradients, maximize=True)
    assert torch.equal(up, moved(cls, weight(6, 4), [-g for g in gradients]))
    assert not torch.equal(up, moved(cls, weight(6, 4), gradients))


def test_foreach_and_fused_are_understood_and_change_nothing(cls: Class) -> None:
    gradients = [noise(6, 4, seed=t + 1) for t in range(3)]
    wanted = moved(cls, weight(6, 4), gradients)
    for words in ({"foreach": True}, {"foreach": False}, {"fused": True}, {"capturable": False}, {"differentiable": False}):
        assert torch.equal(moved(cls, weight(6, 4), gradients, **words), wanted), words


def test_a_tensor_learning_rate_is_the_float(cls: Class) -> None:
    gradients = [noise(6, 4, seed=t + 1) for t in range(3)]
    wanted = moved(cls, weight(6, 4), gradients, lr=0.125)
    for lr in (torch.tensor(0.125), torch.tensor([0.125]), torch.tensor(0.125, dtype=torch.float64)):
        assert torch.equal(moved(cls, weight(6, 4), gradients, lr=lr), wanted)
        assert float(lr) == 0.125


def test_a_tensor_learning_rate_may_be_moved_in_place(cls: Class) -> None:
    w, v, lr = weight(6, 4), weight(6, 4), torch.tensor(0.5)
    by_tensor, by_float = cls([("layer.weight", w)], lr=lr), cls([("layer.weight", v)], lr=0.5)
    for rate in (0.25, 0.125):
        lr.fill_(rate)
        by_float.param_groups[0]["lr"] = rate
        given_gradients(by_tensor, [w], 2)
        given_gradients(by_float, [v], 2)
        assert torch.equal(w, v)


def test_the_learning_rate_of_a_group_is_read_at_every_step(cls: Class) -> None:
    w = weight(6, 4)
    optimizer = cls([("layer.weight", w)])
    given_gradients(optimizer, [w], 2)
    before = w.detach().clone()
    optimizer.param_groups[0]["lr"] = 0.0
    given_gradients(optimizer, [w], 1)
    after = w.detach().clone()
    optimizer.param_groups[0]["lr"] = 1.0
    given_gradients(optimizer, [w], 1)
    assert torch.equal(after, before) and distance([w], [before]) > 1e-3


def test_hyper_parameters_are_read_at_every_step(cls: Class) -> None:
    """Those that schedulers move and others: what is set midway acts as what was set from the start."""
    defaults = cls([weight(6, 4)]).defaults
    later: dict[str, Any] = {
        name: value for name, value in (("momentum", 0.5), ("weight_decay", 0.25), ("eps", 1.0), ("power", 0.5)) if name in defaults
    }
    if "betas" in defaults:
        later["betas"] = tuple(b / 2 for b in defaults["betas"])
    for name, value in later.items():
        w, v, plain = weight(6, 4), weight(6, 4), weight(6, 4)
        midway, before = cls([("layer.weight", w)], lr=0.01), cls([("layer.weight", plain)], lr=0.01)
        for optimizer, parameter in ((midway, w), (before, plain)):
            given_gradients(optimizer, [parameter], 2)
        midway.param_groups[0][name] = value
        from_start = cls([("layer.weight", v)], lr=0.01, **{name: value})
        saved = copy.deepcopy(midway.state_dict())
        saved["param_groups"][0][name] = value
        from_start.load_state_dict(saved)
        with torch.no_grad():
            v.copy_(w)
        for optimizer, parameter in ((midway, w), (from_start, v), (before, plain)):
            given_gradients(optimizer, [parameter], 2, first=2)
        assert torch.equal(w, v), name
        assert not torch.equal(w, plain) or name == "eps", name
