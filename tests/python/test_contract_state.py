"""What is saved, copied and loaded: bit-identical continuation, dtypes kept, plain Python values only."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from contract import CLASSES, Class, given_gradients, same, small, step, train, values, weight
from torch import Tensor, nn

pytestmark = pytest.mark.filterwarnings("ignore:parameters without names", "ignore:Sophia")


def through_a_file(content: Any) -> Any:
    """As a checkpoint goes: torch.load is weights_only by default."""
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    return torch.load(file)


def tensors_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [t for group in optimizer.param_groups for p in group["params"] for t in optimizer.state[p].values()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saved_and_loaded_it_goes_on_bit_for_bit(cls: Class, dtype: torch.dtype) -> None:
    straight = small(dtype)
    reference = cls(straight)
    train(reference, straight, 6)
    first = small(dtype)
    optimizer = cls(first)
    train(optimizer, first, 3)
    saved = through_a_file({"model": first.state_dict(), "optimizer": optimizer.state_dict()})
    second = small(dtype, seed=5)
    resumed = cls(second)
    second.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    assert same(tensors_of(resumed), tensors_of(optimizer))
    train(resumed, second, 3, first=3)
    assert same(second.parameters(), straight.parameters()) and same(tensors_of(resumed), tensors_of(reference))


def test_it_goes_on_bit_for_bit_across_a_refresh_of_every_period() -> None:
    """Bases, projections and draws that are made anew every few steps, loaded between two of them."""
    for name, words in (("GaLore", {"refresh_every": 2}), ("Fira", {"refresh_every": 2}), ("APOLLO", {"refresh_every": 2}),
                        ("GUM", {"period": 2}), ("SOAP", {"every": 2}), ("Shampoo", {"every": 2}), ("LionMuon", {"every": 2}),
                        ("HTMuon", {"every": 3}), ("Sophia", {"probe_every": 2})):  # fmt: skip
        w, v = weight(8, 6), weight(8, 6)
        reference, optimizer = CLASSES[name]([("w.weight", w)], **words), CLASSES[name]([("w.weight", v)], **words)
        given_gradients(reference, [w], 8)
        for t in range(8):
            given_gradients(optimizer, [v], 1, first=t)
            saved = through_a_file(optimizer.state_dict())
            optimizer = CLASSES[name]([("w.weight", v)], **words)
            optimizer.load_state_dict(saved)
        assert torch.equal(w, v), name


def test_a_state_dict_is_torchs(cls: Class) -> None:
    model = small()
    optimizer = cls(model)
    train(optimizer, model, 2)
    saved = optimizer.state_dict()
    assert set(saved) == {"state", "param_groups"} and list(saved["state"]) == list(range(7))
    assert sorted(i for g in saved["param_groups"] for i in g["params"]) == list(range(7))
    assert all(isinstance(t, Tensor) and "/" not in key for s in saved["state"].values() for key, t in s.items())
    assert all(s["step"].shape == () and float(s["step"]) == 2 for s in saved["state"].values())
    plain = (bool, int, float, str, type(None))
    for group in saved["param_groups"]:
        for key, value in group.items():
            assert all(isinstance(each, plain) for each in (value if isinstance(value, (list, tuple)) else [value])), key
    assert saved["param_groups"][0]["param_names"]


def test_the_order_of_a_state_dict_is_fixed(cls: Class) -> None:
    model = small()
    optimizer = cls(model)
    train(optimizer, model, 1)
    again = small()
    other = cls(again)
    train(other, again, 2)
    assert [list(s) for s in optimizer.state_dict()["state"].values()] == [list(s) for s in other.state_dict()["state"].values()]


def test_values_of_the_checkpoint_override_the_constructors(cls: Class) -> None:
    model = small()
    saved = cls(model, lr=0.25).state_dict()
    other = cls(model, lr=0.5)
    other.load_state_dict(saved)
    assert other.param_groups[0]["lr"] == 0.25 and all(g["params"] for g in other.param_groups)
    assert all(isinstance(p, nn.Parameter) for g in other.param_groups for p in g["params"])


def test_older_checkpoints_lack_newer_keys(cls: Class) -> None:
    """What they lack is as the constructor said."""
    model = small()
    optimizer = cls(model, lr=0.25, maximize=True)
    train(optimizer, model, 2)
    for removed in (("maximize",), ("algorithm",), ("weight_decay", "eps", "fused"), ("split", "options", "every")):
        saved = copy.deepcopy(optimizer.state_dict())
        for group in saved["param_groups"]:
            for key in removed:
                group.pop(key, None)
        again = copy.deepcopy(model)
        other = cls(again, lr=0.5, maximize=True)
        other.load_state_dict(saved)
        ours, theirs = ([{k: v for k, v in g.items() if k != "params"} for g in o.param_groups] for o in (other, optimizer))
        assert ours == theirs


def test_step_may_be_a_number_in_old_checkpoints(cls: Class) -> None:
    model, again = small(), small()
    optimizer, other = cls(model), cls(again)
    train(optimizer, model, 2)
    saved = copy.deepcopy(optimizer.state_dict())
    for state in saved["state"].values():
        state["step"] = int(state["step"])
    other.load_state_dict(saved)
    again.load_state_dict(model.state_dict())
    train(optimizer, model, 2, first=2)
    train(other, again, 2, first=2)
    assert same(model.parameters(), again.parameters()) and same(tensors_of(optimizer), tensors_of(other))


def test_keys_of_ones_own_in_the_state_are_kept(cls: Class) -> None:
    w = weight(3, 4)
    optimizer = cls([w])
    given_gradients(optimizer, [w], 1)
    optimizer.state[w]["note"] = {"history": [1, 2, 3], "codes": torch.arange(3, dtype=torch.uint8)}
    given_gradients(optimizer, [w], 1, first=1)
    saved = through_a_file(optimizer.state_dict())
    other = cls([w])
    other.load_state_dict(saved)
    assert other.state[w]["note"]["history"] == [1, 2, 3] and other.state[w]["note"]["codes"].dtype == torch.uint8


def test_bytes_and_integers_stay_what_they_are(tmp_path: Path) -> None:
    """Of a bfloat16 parameter: float32 moments, uint8 codes, int64 seeds."""
    eight_bit = {"inner": "adam_8bit", "rank": 64}
    for name, words, wanted in (("APOLLO", {}, {torch.int64, torch.float32}), ("GaLore", eight_bit, {torch.uint8, torch.float32})):
        w = weight(96, 80, dtype=torch.bfloat16)
        optimizer = CLASSES[name]([("w.weight", w)], **words)
        given_gradients(optimizer, [w], 2)
        assert {t.dtype for t in optimizer.state[w].values()} == wanted, name
        torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
        v = nn.Parameter(w.detach().clone())
        other = CLASSES[name]([("w.weight", v)], **words)
        other.load_state_dict(torch.load(tmp_path / "optimizer.pt"))
        assert same(other.state[v].values(), optimizer.state[w].values())
        given_gradients(optimizer, [w], 2, first=2)
        given_gradients(other, [v], 2, first=2)
        assert torch.equal(w, v), name


def test_what_does_not_fit_is_refused_in_torchs_words(cls: Class) -> None:
    optimizer = cls([{"params": [weight(3, 4)]}, {"params": [weight(3, 4)]}])
    with pytest.raises(ValueError, match="loaded state dict has a different number of parameter groups"):
        cls([weight(3, 4)]).load_state_dict(optimizer.state_dict())
    with pytest.raises(ValueError, match="contains a parameter group that doesn't match the size of optimizer's group"):
        cls([{"params": [weight(3, 4), weight(3, 4)]}, {"params": [weight(3, 4)]}]).load_state_dict(optimizer.state_dict())


def test_state_of_another_shape_is_refused_before_anything_is_written() -> None:
    for name in ("AdamW", "Muon", "SOAP"):
        w, v = weight(3, 4), weight(6, 5)
        optimizer, other = CLASSES[name]([("w.weight", w)]), CLASSES[name]([("v.weight", v)])
        given_gradients(optimizer, [w], 2)
        other.load_state_dict(optimizer.state_dict())
        before = v.detach().clone()
        with pytest.raises(ValueError, match=r"expected state '.*' of 'w.weight' as \[.*\], got \["):
            given_gradients(other, [v], 1)
        assert torch.equal(v, before)


# --- hooks ------------------------------------------------------------------------------------------------------------


def test_state_dict_and_load_hooks_run_in_torchs_order(cls: Class) -> None:
    w = weight(3, 4)
    optimizer = cls([w])
    given_gradients(optimizer, [w], 1)
    seen: list[str] = []

    def post(_: Any, state_dict: dict[str, Any]) -> dict[str, Any]:
        seen.append("save post")
        return {**state_dict, "extra": 7}

    def pre_load(_: Any, state_dict: dict[str, Any]) -> dict[str, Any]:
        seen.append("load pre")
        assert all(isinstance(t, Tensor) for t in state_dict["state"][0].values())
        return {**state_dict, "param_groups": [{**g, "lr": 0.125} for g in state_dict["param_groups"]]}

    optimizer.register_state_dict_pre_hook(lambda _: seen.append("save pre"))
    optimizer.register_state_dict_post_hook(post)
    optimizer.register_load_state_dict_pre_hook(pre_load)
    optimizer.register_load_state_dict_pre_hook(lambda *_: seen.append("load first"), prepend=True)
    optimizer.register_load_state_dict_post_hook(lambda _: seen.append("load post"))
    saved = optimizer.state_dict()
    assert saved["extra"] == 7
    optimizer.load_state_dict(saved)
    assert seen == ["save pre", "save post", "load first", "load pre", "load post"] and optimizer.param_groups[0]["lr"] == 0.125
    given_gradients(optimizer, [w], 1)


# --- copies -----------------------------------------------------------------------------------------------------------


def goes_on_alike(optimizer: torch.optim.Optimizer, other: torch.optim.Optimizer) -> None:
    ours, theirs = ([p for g in o.param_groups for p in g["params"]] for o in (optimizer, other))
    assert not {p.data_ptr() for p in ours} & {p.data_ptr() for p in theirs}
    given_gradients(optimizer, ours, 2, first=7)
    middle = values(theirs)
    given_gradients(other, theirs, 2, first=7)
    assert not same(middle, theirs) and same(ours, theirs) and same(tensors_of(optimizer), tensors_of(other))


def test_a_deep_copy_stands_alone(cls: Class) -> None:
    model = small()
    optimizer = cls(model)
    train(optimizer, model, 2)
    other = copy.deepcopy(optimizer)
    assert type(other) is cls and repr(other) == repr(optimizer)
    goes_on_alike(optimizer, other)
    both, optimizer_of_both = copy.deepcopy((model, optimizer))
    assert {p for g in optimizer_of_both.param_groups for p in g["params"]} == set(both.parameters())
    train(optimizer_of_both, both, 1)


def test_a_pickle_stands_alone(cls: Class) -> None:
    model = small()
    optimizer = cls(model, lr=0.01)
    train(optimizer, model, 2)
    other = pickle.loads(pickle.dumps(optimizer))
    assert type(other) is cls and repr(other) == repr(optimizer)
    goes_on_alike(optimizer, other)
    late = weight(4, 4)
    other.add_param_group({"params": [("late.weight", late)]})
    given_gradients(other, [late], 1)
    step(other)
    assert not torch.equal(late, weight(4, 4))


def test_copies_before_the_first_step(cls: Class) -> None:
    optimizer = cls(small())
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        goes_on_alike(copy.deepcopy(optimizer), other)


def test_state_is_made_at_the_first_step_or_when_asked(cls: Class) -> None:
    model = small()
    optimizer, asked = cls(model), cls(model)
    assert not optimizer.state
    size = optimizer.state_bytes()
    asked.materialize_state()
    train(optimizer, model, 1)
    tensors, made = tensors_of(optimizer), tensors_of(asked)
    assert [(t.shape, t.dtype) for t in tensors] == [(t.shape, t.dtype) for t in made]
    assert sum(t.numel() * t.itemsize for t in tensors) == size
