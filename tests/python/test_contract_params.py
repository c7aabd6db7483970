"""What `params` may be, what is refused in torch's words, and groups that come later."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from contract import CLASSES, Class, given_gradients, loss_of, same, small, step, train, values, weight
from torch import Tensor, nn

import schatten

pytestmark = pytest.mark.filterwarnings("ignore:parameters without names")


def test_every_class_is_a_torch_optimizer(cls: Class) -> None:
    assert issubclass(cls, torch.optim.Optimizer)
    optimizer = cls(small())
    assert optimizer == optimizer and optimizer != cls(small())
    assert isinstance(optimizer.param_groups, list) and isinstance(optimizer.defaults, dict)
    assert inspect.ismethod(optimizer.step) and hasattr(optimizer.step, "__func__")  # what LRScheduler rebinds


def test_a_subclass_of_ones_own() -> None:
    class Doubled(schatten.Muon):
        def __init__(self, params: Any, lr: float = 0.01) -> None:
            super().__init__(params, lr=lr, momentum=0.9)

        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            super().step()
            return super().step(closure)

    model, plain = small(), small()
    optimizer, reference = Doubled(model), schatten.Muon(plain, lr=0.01, momentum=0.9)
    loss_of(model).backward()
    loss_of(plain).backward()
    optimizer.step()
    reference.step()
    reference.step()
    assert same(model.parameters(), plain.parameters())


# --- forms of params --------------------------------------------------------------------------------------------------

FORMS: dict[str, Callable[[nn.Module], Any]] = {
    "module": lambda m: m,
    "tensors": lambda m: list(m.parameters()),
    "generator": lambda m: m.parameters(),
    "named": lambda m: m.named_parameters(),
    "list_of_pairs": lambda m: list(m.named_parameters()),
    "dict_items": lambda m: dict(m.named_parameters()).items(),
    "dict_values": lambda m: dict(m.named_parameters()).values(),
    "group": lambda m: [{"params": m.parameters()}],
    "named_group": lambda m: [{"params": m.named_parameters()}],
    "two_groups": lambda m: [{"params": list(m.parameters())[:2]}, {"params": list(m.parameters())[2:], "lr": 0.5}],
    "single_tensors": lambda m: [{"params": p} for p in m.parameters()],
    "iterator_of_groups": lambda m: iter([{"params": list(m.parameters())}]),
    "set": lambda m: set(m.parameters()),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_params(form: str) -> None:
    for name in ("Adam", "Muon", "SOAP"):
        model = small()
        optimizer = CLASSES[name](FORMS[form](model))
        before = values(model.parameters())
        train(optimizer, model, 2)  # SOAP's first step makes its bases
        assert {p for g in optimizer.param_groups for p in g["params"]} == set(model.parameters())
        assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)), name


def test_names_go_to_the_groups(cls: Class) -> None:
    for form in ("module", "named", "named_group"):
        model = small()
        optimizer = cls(FORMS[form](model))
        tensors = dict(model.named_parameters())
        found = {n: p for g in optimizer.param_groups for n, p in zip(g["param_names"], g["params"], strict=True)}
        assert found.keys() == tensors.keys() and all(found[n] is tensors[n] for n in tensors)
    assert not any("param_names" in g for g in cls(small().parameters()).param_groups)


def test_embeddings_vectors_and_heads_go_to_the_auxiliary_recipe(routed: Class) -> None:
    optimizer = routed(small(), auxiliary={"algorithm": "lion", "lr": 0.25})
    matrices, others = optimizer.param_groups
    assert matrices["param_names"] == ["1.weight", "4.weight"]
    assert others["algorithm"] == "lion" and others["lr"] == 0.25 and others["betas"] == (0.9, 0.99)
    assert len(others["params"]) == 5 and "momentum" not in others


def test_groups_say_by_hand_what_is_a_matrix(routed: Class) -> None:
    model = small()
    matrices, others = [p for p in model.parameters() if p.ndim > 1], [p for p in model.parameters() if p.ndim < 2]
    kinds: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"use_muon": True}, {"use_muon": False}),
        ({"algorithm": CLASSES[routed.__name__](small()).defaults["algorithm"]}, {"algorithm": "adamw"}),
        ({}, {}),
    ]
    for yes, no in kinds:
        optimizer = routed([{"params": matrices, "lr": 0.25, **yes}, {"params": others, "lr": 0.5, **no}])
        assert [g["lr"] for g in optimizer.param_groups] == [0.25, 0.5]
        assert [len(g["params"]) for g in optimizer.param_groups] == [3, 4]
        assert optimizer.param_groups[1]["algorithm"] == "adamw"


def test_tensors_without_names_are_warned_about_once_and_where_the_user_is() -> None:
    with pytest.warns(UserWarning, match="parameters without names") as caught:
        schatten.Muon(small().parameters())
    assert [w.filename for w in caught] == [__file__]


@pytest.mark.filterwarnings("error")
def test_a_module_is_warned_of_nothing(cls: Class) -> None:
    train(cls(model := small()), model, 1)


@pytest.mark.filterwarnings("error")
def test_elementwise_classes_need_no_names(elementwise: Class) -> None:
    elementwise(small().parameters())


def test_shared_frozen_and_repeatedly_named_parameters(cls: Class) -> None:
    model = small()
    model[4].weight = nn.Parameter(model[1].weight.detach().clone().T.contiguous()[:5, :4].clone())
    model.append(model[4])  # shared: one parameter under two names
    model[1].weight.requires_grad_(False)
    frozen = model[1].weight.detach().clone()
    optimizer = cls(model)
    assert sum(len(g["params"]) for g in optimizer.param_groups) == 7
    sum(p.square().sum() for p in model.parameters() if p.requires_grad).backward()
    step(optimizer)
    assert torch.equal(model[1].weight, frozen) and not optimizer.state[model[1].weight]
    a, b = small(), small(seed=1)
    both = cls([*a.named_parameters(), *b.named_parameters()])
    before = values([*a.parameters(), *b.parameters()])
    given_gradients(both, [*a.parameters(), *b.parameters()], 2)
    assert all(not torch.equal(x, y) for x, y in zip(before, [*a.parameters(), *b.parameters()], strict=True))


# --- what is refused, in torch's words --------------------------------------------------------------------------------


def lazy() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(2))


W, V = weight(3, 4), weight(3)
REFUSED: dict[str, tuple[Callable[[Class], Any], type[Exception], str]] = {
    "bare_tensor": (lambda c: c(W), TypeError, "params argument given to the optimizer should be an iterable of Tensors or dicts"),
    "empty": (lambda c: c([]), ValueError, "optimizer got an empty parameter list"),
    "module_without_parameters": (lambda c: c(nn.ReLU()), ValueError, "optimizer got an empty parameter list"),
    "set_in_a_group": (lambda c: c([{"params": {W}}]), TypeError, "need to be organized in ordered collections"),
    "two_groups": (lambda c: c([{"params": [W]}, {"params": [W]}]), ValueError, "some parameters appear in more than one parameter group"),
    "non_leaf": (lambda c: c([W * 2]), ValueError, "can't optimize a non-leaf Tensor"),
    "some_names_missing": (lambda c: c([("w", W), V]), ValueError, "should be with/without names. Some param names are missing"),
    "some_names_missing_first": (lambda c: c([V, ("w", W)]), ValueError, "should be with/without names. Some param names are missing"),
    "a_group_without_names": (lambda c: c([{"params": [("w", W)]}, {"params": [V]}]), ValueError, "cannot add param group without names"),
    "no_tensor": (lambda c: c([W, 3]), TypeError, "optimizer can only optimize Tensors, but one of the params is int"),
    "text": (lambda c: c("weight"), TypeError, "optimizer can only optimize Tensors, but one of the params is str"),
    "no_iterable": (lambda c: c(3), TypeError, "'int' object is not iterable"),
    "no_params": (lambda c: c([{"lr": 0.1}]), KeyError, "params"),
    "tensor_lr_of_two": (lambda c: c([W], lr=torch.tensor([0.1, 0.2])), ValueError, "Tensor lr must be 1-element"),
    "lr_is_text": (lambda c: c([W], lr="high"), TypeError, "not supported between"),
    "unknown_option": (lambda c: c([W], no_such_option=1), TypeError, "unexpected keyword argument 'no_such_option'"),
    "unknown_algorithm": (lambda c: c([{"params": W, "algorithm": "nope"}]), ValueError, r"unknown algorithm 'nope'\n  Known: adagrad, "),
    "unknown_dotted_option": (lambda c: c([W], options={"no.such": 1}), ValueError, "unknown key"),
    "lazy": (lambda c: c(lazy()), ValueError, "parameter '1.weight' has no shape yet"),
    "foreach_and_fused": (lambda c: c([W], foreach=True, fused=True), RuntimeError, "`fused` and `foreach` cannot be `True` together."),
    "differentiable": (lambda c: c([W], differentiable=True), ValueError, "steps in place: expected differentiable=False, got True"),
    "capturable": (lambda c: c([W], capturable=True), ValueError, "is on the CPU: expected parameters on an accelerator"),
    "a_group_that_is_a_list": (lambda c: c([W]).add_param_group([V]), TypeError, "param_group must be a dict, but got <class 'list'>"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(what: str) -> None:
    make, kind, words = REFUSED[what]
    for cls in CLASSES.values():
        with pytest.raises(kind, match=words):
            make(cls)


@pytest.mark.parametrize("what", ["bare_tensor", "empty", "set_in_a_group", "two_groups", "non_leaf", "some_names_missing", "no_tensor",
                                  "a_group_without_names", "text", "no_params", "tensor_lr_of_two", "foreach_and_fused"])  # fmt: skip
def test_torch_says_the_same(what: str) -> None:
    make, kind, words = REFUSED[what]
    with pytest.raises(kind, match=words):
        make(torch.optim.Adam)


def numbers(cls: Class) -> Iterator[tuple[str, Any, str]]:
    """Wrong values, and the words of torch's Adam or Muon for them."""
    defaults = cls([W]).defaults
    muon = cls.__name__ not in ("COSMOS", "MARS", "SOAP", "SignMuon") and len(cls(small()).param_groups) > 1
    for value in (-1.0, float("nan")):
        yield "lr", value, f"Learning rate should be >= 0 but is: {value}" if muon else f"Invalid learning rate: {value}"
    if "weight_decay" in defaults:
        yield "weight_decay", -1, "weight decay should be >= 0 but is: -1" if muon else "Invalid weight_decay value: -1"
    if "momentum" in defaults:
        yield "momentum", -1, "momentum should be >= 0 but is: -1" if muon else "Invalid momentum value: -1"
    for i in range(len(defaults.get("betas", ()))):
        for value in (1.0, -0.5):
            betas = tuple(value if j == i else 0.5 for j in range(len(defaults["betas"])))
            yield "betas", betas, f"Invalid beta parameter at index {i}: {value}"
    if "adjust_lr_fn" in defaults:
        yield "adjust_lr_fn", "arbitrary", "Adjust learning rate function arbitrary is not supported"


def test_wrong_numbers(cls: Class) -> None:
    good = cls([W])
    for name, value, words in numbers(cls):
        with pytest.raises(ValueError, match=re.escape(words)):
            cls([W], **{name: value})
        with pytest.raises(ValueError, match=re.escape(words)):
            cls([{"params": W, name: value}])
        with pytest.raises(ValueError, match=re.escape(words)):
            good.add_param_group({"params": weight(2, 2), name: value})
    assert len(good.param_groups) == 1


def test_duplicates_are_warned_about(cls: Class) -> None:
    with pytest.warns(UserWarning, match="optimizer contains a parameter group with duplicate parameters"):
        cls([W, W])


def test_what_torch_has_and_ours_lacks_is_refused_by_name() -> None:
    for cls, option, value in (
        ("Adam", "amsgrad", True),
        ("AdamW", "amsgrad", True),
        ("SGD", "dampening", 0.1),
        ("RMSprop", "centered", True),
    ):
        with pytest.raises(ValueError, match=f"has no {option}: expected .*, got {value}"):
            CLASSES[cls]([W], **{option: value})


def test_the_general_class_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"unknown algorithm 'mion'\n  Known: .*muon"):
        schatten.Optimizer([W], "mion")
    with pytest.raises(TypeError, match=r"muon has no option betas\n  Options: lr, "):
        schatten.Optimizer([W], "muon", betas=(0.9, 0.9))


# --- groups that come later -------------------------------------------------------------------------------------------


def test_a_group_after_training_began(cls: Class) -> None:
    model = small()
    optimizer = cls(list(model.named_parameters()))
    train(optimizer, model)
    steps = [float(optimizer.state[p]["step"]) for p in model.parameters()]
    late = weight(3, 4), weight(4)
    optimizer.add_param_group({"params": [("late.weight", late[0]), ("late.bias", late[1])], "lr": 0.125})
    before = values(late)
    given_gradients(optimizer, [*model.parameters(), *late], 2)
    assert all(not torch.equal(a, b) for a, b in zip(before, late, strict=True))
    assert [float(optimizer.state[p]["step"]) for p in model.parameters()] == [s + 2 for s in steps]
    assert all(float(optimizer.state[p]["step"]) == 2 for p in late)
    assert optimizer.param_groups[-1 if len(optimizer.param_groups) == 2 else -2]["lr"] == 0.125


BAD_GROUPS: dict[str, dict[str, Any]] = {
    "used_before": {"params": [W]},
    "unknown_algorithm": {"params": weight(2, 2), "algorithm": "nope"},
    "unknown_option": {"params": weight(2, 2), "options": {"nope": 1}},
    "negative_lr": {"params": weight(2, 2), "lr": -1},
    "second_half": {"params": [weight(2, 2), W]},
    "non_leaf": {"params": [V * 2]},
    "with_names": {"params": [("v", V)]},
}


def test_a_refused_group_leaves_nothing_behind(cls: Class) -> None:
    optimizer = cls([W, V])
    before = [g["params"] for g in optimizer.param_groups]
    for group in BAD_GROUPS.values():
        with pytest.raises((ValueError, TypeError)):
            optimizer.add_param_group(dict(group))
        assert all(a is b for a, b in zip(before, [g["params"] for g in optimizer.param_groups], strict=True))
    given_gradients(optimizer, [W, V], 1)


def test_groups_have_their_own_numbers(cls: Class) -> None:
    def moved(groups: list[dict[str, Any]], first: Tensor, second: Tensor) -> list[Tensor]:
        optimizer = cls(groups)
        given_gradients(optimizer, [first, second], 2)
        return [first.detach(), second.detach()]

    a, b = weight(4, 4), weight(4, 4, seed=1)
    together = moved([{"params": [a], "lr": 0.5}, {"params": [b], "lr": 0.0}], a, b)
    assert not torch.equal(together[0], weight(4, 4)) and torch.equal(together[1], weight(4, 4, seed=1))


def test_keys_of_ones_own_stay_in_the_group(cls: Class) -> None:
    optimizer = cls([{"params": [W], "lr_scale": 0.5, "name": "encoder"}])
    assert optimizer.param_groups[0]["lr_scale"] == 0.5 and optimizer.param_groups[0]["name"] == "encoder"


def test_repr_is_torchs(cls: Class) -> None:
    lines = repr(cls(small())).splitlines()
    assert lines[0] == f"{cls.__name__} (" and lines[1] == "Parameter Group 0" and lines[-1] == ")"
    first = [line.split(":")[0] for line in lines[2:-1] if ":" in line]
    second = first.index("    algorithm", first.index("    algorithm") + 1) if "Parameter Group 1" in lines else len(first)
    assert all(line.startswith("    ") for line in first) and "    lr" in first
    keys = first[:second]
    cut = next((i for i in range(1, len(keys)) if keys[i] < keys[i - 1]), len(keys))
    assert keys[:cut] == sorted(keys[:cut])
