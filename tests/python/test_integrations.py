"""In the trainers that people use: the examples run, and loss, schedules, checkpoints and resumed runs are as those trainers promise.

A package that is not installed skips its tests. tools/requirements-test.txt brings all but timm: its torchvision from PyPI is built for
CUDA's torch and cannot be imported beside the CPU's.
"""

from __future__ import annotations

import copy
import importlib.util
import itertools
import os
import pathlib
import pickle
import re
import subprocess
import sys
import types
import warnings
from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import schatten

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples" / "python"
NEEDS = {"transformers_trainer": "transformers", "lightning_module": "lightning", "accelerate_loop": "accelerate", "torchtune_recipe": None,
         "timm_loop": None}  # fmt: skip


def package(name: str) -> Any:
    if os.environ.get("CI"):  # has what the requirements list: nothing is skipped there
        return importlib.import_module(name)
    return pytest.importorskip(name, reason=f"{name} is not installed (tools/requirements-test.txt)")


def example(name: str) -> types.ModuleType:
    if needed := NEEDS[name]:
        package(needed)
    if needed == "transformers":
        package("accelerate")  # its Trainer wants it
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fell(losses: Sequence[float], to: float) -> None:
    assert sum(losses[-4:]) / 4 < to * losses[0], losses


def equal(a: Any, b: Any) -> bool:
    """Bit for bit, in whatever they are nested."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


def same_training(a: nn.Module, b: nn.Module, a_optimizer: Any, b_optimizer: Any) -> None:
    """Weights and the optimizer's whole state."""
    assert equal(dict(a.named_parameters()), dict(b.named_parameters()))
    state, other = a_optimizer.state_dict(), b_optimizer.state_dict()
    assert state["state"] and equal(state["state"], other["state"])
    assert equal(state["param_groups"], other["param_groups"])


def loads_again(saved: dict[str, Any], fresh: schatten.Optimizer) -> None:
    assert not fresh.state
    fresh.load_state_dict(saved)
    assert equal(saved["state"], fresh.state_dict()["state"])
    assert all(state["step"] > 0 for state in fresh.state.values())


def follow_the_schedule(rates: Sequence[Sequence[float]], matrix: float, auxiliary: float, moved: float = 5.0) -> None:
    """Both groups keep their own rate, times the same factor."""
    factors = [rate[0] / matrix for rate in rates]
    assert max(factors) <= 1.0 + 1e-9 and max(factors) > moved * min(factors), factors
    for factor, rate in zip(factors, rates, strict=True):
        assert rate[1:] == pytest.approx([factor * auxiliary] * (len(rate) - 1), rel=1e-6)


def algorithms(optimizer: torch.optim.Optimizer) -> dict[str, str]:
    return {name: group["algorithm"] for group in optimizer.param_groups for name in group["param_names"]}


@pytest.mark.parametrize("name", NEEDS)
def test_example_runs(name: str, tmp_path: pathlib.Path) -> None:
    example(name)
    done = subprocess.run([sys.executable, EXAMPLES / f"{name}.py"], cwd=tmp_path, text=True, capture_output=True, check=False,
                          timeout=300, env={**os.environ, "PYTHONPATH": str(ROOT / "python"), "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the same weights" in done.stdout and "OTHER WEIGHTS" not in done.stdout, done.stdout
    assert list(tmp_path.iterdir()) == []  # nothing left behind


@pytest.mark.parametrize("name", NEEDS)
def test_page_shows_the_example(name: str) -> None:
    """The line before and the line after, as they stand in the file that is run."""
    page = (ROOT / "docs" / "python" / f"{name.split('_')[0]}.md").read_text()
    code = (EXAMPLES / f"{name}.py").read_text().splitlines()
    changes = [(old, new) for old, new in itertools.pairwise(code) if old.strip().startswith("#") and "schatten" in new]
    assert changes
    stripped = re.sub(r"^ +", "", page, flags=re.MULTILINE)
    for old, new in changes:
        assert f"{old.strip()}\n{new.strip()}" in stripped, (old, new)
    known = {line.partition("  # fmt")[0].strip() for line in (*code, *pathlib.Path(__file__).read_text().splitlines())}
    for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        assert {line.strip() for line in block.splitlines()} <= known, block  # each line is one that runs, there or here
    assert f"examples/python/{name}.py" in page
    assert f"({name.split('_')[0]}.md)" in (ROOT / "docs" / "python" / "index.md").read_text()


# --- Hugging Face's Trainer -------------------------------------------------------------------------------------------


def recorder(rates: list[list[float]]) -> Any:
    from transformers import TrainerCallback

    class Recorder(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            optimizer = more["optimizer"]
            rates.append([group["lr"] for group in optimizer.param_groups])

    return Recorder()


@pytest.mark.parametrize("way", ["with_optimizer", "with_class_and_kwargs"])
def test_trainer(way: str, tmp_path: pathlib.Path) -> None:
    module = example("transformers_trainer")
    rates: list[list[float]] = []
    whole = getattr(module, way)(tmp_path)
    whole.add_callback(recorder(rates))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # no parameter without a name
        whole.train()
    fell(module.losses(whole), 0.8)
    follow_the_schedule(rates, 0.02, 3e-3)
    went = algorithms(whole.optimizer)
    assert {name for name, algorithm in went.items() if algorithm == "adamw"} == {
        name for name in went if "norm" in name or name in ("model.embed_tokens.weight", "lm_head.weight")
    }

    resumed = getattr(module, way)(tmp_path)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{module.STEPS // 2}"))
    same_training(whole.model, resumed.model, whole.optimizer, resumed.optimizer)
    saved = torch.load(tmp_path / f"checkpoint-{module.STEPS}" / "optimizer.pt", weights_only=True)
    loads_again(saved, schatten.Muon(module.small_llama(), lr=0.02))


def test_trainer_says_the_way_out_where_it_hands_over_bare_tensors(tmp_path: pathlib.Path) -> None:
    module = example("transformers_trainer")
    trainer = module.trainer(tmp_path, module.small_llama(), optimizer_cls_and_kwargs=(schatten.Muon, {"lr": 0.02}))
    with pytest.warns(UserWarning, match=r"optimizer_cls_and_kwargs=\(lambda: schatten.Muon, ") as caught:
        trainer.create_optimizer()
    assert pathlib.Path(caught[0].filename).parts[-2:] == ("transformers", "trainer.py")  # not torch, not us
    assert [group["algorithm"] for group in trainer.optimizer.param_groups] == ["muon", "adamw"]
    # the Trainer's second group is the one without decay
    assert trainer.optimizer.param_groups[1]["weight_decay"] == 0.0


def test_trainer_with_model_init(tmp_path: pathlib.Path) -> None:
    """Each train() makes another model, and a lambda keeps up with it."""
    module = example("transformers_trainer")
    from transformers import Trainer, TrainingArguments

    args = TrainingArguments(str(tmp_path), max_steps=2, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True)
    how: Any = (lambda: schatten.Muon, {"lr": 0.02})
    trainer: Any = Trainer(args=args, model_init=module.small_llama, train_dataset=module.Counting(), optimizer_cls_and_kwargs=how)
    for _ in range(2):
        trainer.train()
        assert set(map(id, trainer.model.parameters())) == {id(p) for g in trainer.optimizer.param_groups for p in g["params"]}
        assert algorithms(trainer.optimizer)["lm_head.weight"] == "adamw"


def test_trainers_own_decay_names(tmp_path: pathlib.Path) -> None:
    module = example("transformers_trainer")
    model = module.small_llama()
    trainer = module.trainer(tmp_path, model)
    decayed = set(trainer.get_decay_parameter_names(model))
    named = list(model.named_parameters())
    groups = [{"params": [(n, p) for n, p in named if n in decayed], "weight_decay": 0.1},
              {"params": [(n, p) for n, p in named if n not in decayed], "weight_decay": 0.0}]  # fmt: skip
    optimizer = schatten.Muon(groups, lr=0.02, auxiliary={"lr": 3e-3})
    decay = {name: group["weight_decay"] for group in optimizer.param_groups for name in group["param_names"]}
    assert decay == {name: 0.1 if name in decayed else 0.0 for name, _ in named}
    assert algorithms(optimizer) == algorithms(schatten.Muon(model, lr=0.02))


def test_trainer_with_a_compiled_model(tmp_path: pathlib.Path) -> None:
    module = example("transformers_trainer")
    from transformers import Trainer, TrainingArguments

    args = TrainingArguments(str(tmp_path), max_steps=3, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
                             torch_compile=True, torch_compile_backend="eager")  # fmt: skip
    model = module.small_llama()
    before = copy.deepcopy(model.state_dict())
    trainer: Any = Trainer(model, args, train_dataset=module.Counting(), optimizers=(schatten.Muon(model, lr=0.02), None))
    trainer.train()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == set(before)
    assert algorithms(schatten.Muon(cast(nn.Module, torch.compile(model)), lr=0.02)) == {
        f"_orig_mod.{name}": algorithm for name, algorithm in algorithms(trainer.optimizer).items()
    }


# --- Lightning --------------------------------------------------------------------------------------------------------


def test_lightning(tmp_path: pathlib.Path) -> None:
    module = example("lightning_module")
    whole = module.fit(tmp_path)
    fell(whole.losses, 0.5)
    follow_the_schedule(whole.rates, 0.02, 3e-3)
    resumed = module.fit(tmp_path, resume=str(tmp_path / "epoch=1.ckpt"))
    assert resumed.losses == whole.losses[len(whole.losses) // 2 :]
    same_training(whole, resumed, whole.optimizers().optimizer, resumed.optimizers().optimizer)
    saved = torch.load(tmp_path / f"epoch={module.EPOCHS - 1}.ckpt", weights_only=True)
    loads_again(saved["optimizer_states"][0], schatten.Muon(module.Classifier(), lr=0.02))


def test_lightning_accumulates_in_bfloat16(tmp_path: pathlib.Path) -> None:
    module = example("lightning_module")
    trained = module.fit(tmp_path, accumulate_grad_batches=2, precision="bf16-true")
    wrapper = trained.optimizers()  # imitates the class that it wraps
    assert isinstance(wrapper, schatten.Muon) and "muon" in repr(wrapper) and "embedding.weight" in wrapper.routing_table()
    states = list(wrapper.state.values())
    assert {p.dtype for p in trained.parameters()} == {torch.bfloat16}
    assert {t.dtype for state in states for t in state.values()} == {torch.float32}
    assert {float(state["step"]) for state in states} == {module.EPOCHS * module.BATCHES / 2}


def test_lightning_by_hand(tmp_path: pathlib.Path) -> None:
    module = example("lightning_module")

    class ByHand(module.Classifier):  # type: ignore[misc, name-defined]
        automatic_optimization = False

        def training_step(self, batch: tuple[Tensor, Tensor], i: int) -> None:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, i))
            self.clip_gradients(optimizer, gradient_clip_val=1.0)
            optimizer.step()
            self.lr_schedulers().step()

    import lightning

    by_hand = ByHand()
    trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
                                enable_checkpointing=False)  # fmt: skip
    trainer.fit(by_hand, module.batches())
    fell(by_hand.losses, 0.8)
    follow_the_schedule(by_hand.rates, 0.02, 3e-3, moved=1.5)


# --- Accelerate -------------------------------------------------------------------------------------------------------


def test_accelerate(tmp_path: pathlib.Path) -> None:
    module = example("accelerate_loop")
    whole = module.train(tmp_path)
    fell(whole.losses, 0.8)
    follow_the_schedule(whole.rates, 0.02, 3e-3)
    steps = module.EPOCHS * module.BATCHES // module.ACCUMULATE
    assert len(whole.rates) == steps
    assert {float(state["step"]) for state in whole.optimizer.state.values()} == {steps}
    resumed = module.train(tmp_path, resume_after=1)
    assert resumed.losses == whole.losses[len(whole.losses) // 2 :]
    same_training(whole.model, resumed.model, whole.optimizer, resumed.optimizer)
    saved = torch.load(tmp_path / f"epoch-{module.EPOCHS - 1}" / "optimizer.bin", weights_only=True)
    loads_again(saved, schatten.Muon(module.small_model(), lr=0.02))


def test_accelerate_scaler() -> None:
    """It puts another `step` in place for each update under a scaler, and tells by it whether the update happened."""
    package("accelerate")
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

    Accelerator(cpu=True)
    torch.manual_seed(0)
    model = nn.Linear(8, 8)
    plain = copy.deepcopy(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    inner = schatten.Muon(model, lr=0.02)
    schedule = torch.optim.lr_scheduler.StepLR(inner, 1, 0.5)
    optimizer = AcceleratedOptimizer(inner, scaler=scaler)
    reference = schatten.Muon(plain, lr=0.02)
    x = torch.randn(4, 8)
    scaler.scale(model(x).square().mean()).backward()
    plain(x).square().mean().backward()
    optimizer.step()
    reference.step()
    assert not optimizer.step_was_skipped
    schedule.step()
    torch.testing.assert_close(model.weight, plain.weight, rtol=1e-5, atol=1e-6)

    before = copy.deepcopy(model.state_dict())
    model.weight.grad.fill_(float("inf"))  # type: ignore[union-attr]
    optimizer.step()
    assert optimizer.step_was_skipped and equal(before, model.state_dict())
    assert float(optimizer.state[model.weight]["step"]) == 1
    with pytest.raises(RuntimeError, match=r"[Cc]losure"):
        scaler.step(inner, closure=lambda: 0.0)


# --- loops of one's own -----------------------------------------------------------------------------------------------


def test_torchtune_recipe(tmp_path: pathlib.Path) -> None:
    module = example("torchtune_recipe")
    whole = module.Recipe(module.CONFIG, tmp_path)
    whole.train()
    fell(whole.losses, 0.8)
    follow_the_schedule(whole.rates, 0.02, 3e-3)
    went = algorithms(whole.optimizer)
    assert {name for name in went if name.startswith("layers.") and not re.search("norm|bias", name)} == {
        name for name, algorithm in went.items() if algorithm == "muon"
    }
    resumed = module.Recipe(module.CONFIG, tmp_path, resume_from=module.CONFIG["max_steps"] // 2)
    resumed.train()
    assert resumed.losses == whole.losses[len(whole.losses) // 2 :]
    same_training(whole.model, resumed.model, whole.optimizer, resumed.optimizer)


def test_torchtune_recipe_with_the_old_line(tmp_path: pathlib.Path) -> None:
    """One line was changed and no other: with torch's optimizer the recipe runs, too."""
    module = example("torchtune_recipe")
    recipe = module.Recipe({**module.CONFIG, "max_steps": 20, "optimizer": {"_component_": "torch.optim.AdamW", "lr": 3e-3}}, tmp_path)
    recipe.train()
    assert type(recipe.optimizer) is torch.optim.AdamW and recipe.losses[-1] < recipe.losses[0]


def test_timm_loop(tmp_path: pathlib.Path) -> None:
    module = example("timm_loop")
    whole = module.Run()
    whole.train(until=2)
    whole.save(tmp_path / "last.pth")
    whole.train()
    fell(whole.losses, 0.5)
    assert [group["algorithm"] for group in whole.optimizer.param_groups] == ["adamw", "muon", "adamw"]
    follow_the_schedule([(matrix, vectors, head) for vectors, matrix, head in whole.rates], 0.02, 3e-3)
    resumed = module.Run()
    resumed.load(tmp_path / "last.pth")
    resumed.train()
    assert resumed.losses == whole.losses[2 * module.BATCHES :]
    same_training(whole.model, resumed.model, whole.optimizer, resumed.optimizer)


def test_timm_loops_groups() -> None:
    module = example("timm_loop")
    model = module.VisionTransformer()
    groups = module.param_groups_weight_decay(model, weight_decay=0.05)
    ours = schatten.Muon(copy.copy(groups), lr=0.02, auxiliary={"lr": 3e-3})
    theirs = torch.optim.AdamW(groups, lr=3e-3)

    def decays(optimizer: torch.optim.Optimizer) -> dict[str, float]:
        return {name: group["weight_decay"] for group in optimizer.param_groups for name in group["param_names"]}

    assert decays(ours) == decays(theirs)
    assert set(decays(ours).values()) == {0.0, 0.05}
    matrices = {name for name, algorithm in algorithms(ours).items() if algorithm == "muon"}
    of_blocks = {f"blocks.{i}.{w}.weight" for i in range(2) for w in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}
    assert matrices == {"patch_embed.proj.weight", *of_blocks}


def test_timm_itself() -> None:
    try:
        timm: Any = importlib.import_module("timm")
        factory: Any = importlib.import_module("timm.optim._optim_factory")
        scheduler: Any = importlib.import_module("timm.scheduler")
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"timm cannot be imported here (it wants a torchvision that was built for this torch): {error}")
    create_optimizer_v2, default_registry, OptimInfo = factory.create_optimizer_v2, factory.default_registry, factory.OptimInfo
    model = timm.create_model("vit_tiny_patch16_224", img_size=16, patch_size=4, embed_dim=32, depth=2, num_heads=2, num_classes=4)
    default_registry.register(OptimInfo("schattenmuon", schatten.Muon, has_momentum=True))
    named = create_optimizer_v2(model, "schattenmuon", lr=0.02, weight_decay=0.05, momentum=0.95, auxiliary={"lr": 3e-3},
                                param_group_fn=lambda model: model.named_parameters())  # fmt: skip
    assert algorithms(named) == algorithms(schatten.Muon(model)) and algorithms(named)["head.weight"] == "adamw"
    rates = []
    schedule = scheduler.CosineLRScheduler(named, t_initial=10)
    for epoch in range(10):
        schedule.step(epoch)
        rates.append([group["lr"] for group in named.param_groups])
    follow_the_schedule(rates, 0.02, 3e-3)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # timm's own groups have no names: it is told by hand what is no matrix
        bare = create_optimizer_v2(model, "schattenmuon", lr=0.02, weight_decay=0.05, fallback_list=["head.*", "pos_embed", "cls_token"])
    went = {id(p): (group["algorithm"], group["weight_decay"]) for group in bare.param_groups for p in group["params"]}
    assert went[id(model.head.weight)] == ("adamw", 0.05)
    assert went[id(model.pos_embed)] == went[id(model.norm.weight)] == ("adamw", 0.0)
    assert went[id(model.blocks[0].attn.qkv.weight)] == ("muon", 0.05)


# --- what trainers do to groups and to the object ---------------------------------------------------------------------


def shapes(optimizer: torch.optim.Optimizer) -> list[tuple[str, float, float]]:
    return [(group["algorithm"], group["lr"], group["weight_decay"]) for group in optimizer.param_groups]


def test_a_groups_numbers_are_for_its_matrices_and_stay_where_there_are_none() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6))
    matrix, vectors = [("0.weight", model[0].weight)], [("0.bias", model[0].bias), *model[1].named_parameters()]
    own = {"lr": 3e-3, "weight_decay": 0.02}

    def made(*groups: dict[str, Any], auxiliary: dict[str, Any] = own) -> list[tuple[str, float, float]]:
        return shapes(schatten.Muon(list(groups), lr=0.02, weight_decay=0.1, auxiliary=auxiliary))

    together = {"params": matrix + vectors}
    assert made(together) == [("muon", 0.02, 0.1), ("adamw", 3e-3, 0.02)]
    assert made({**together, "lr": 0.5, "weight_decay": 0.3}) == [("muon", 0.5, 0.3), ("adamw", 3e-3, 0.02)]
    assert made({**together, "weight_decay": 0.3}, auxiliary={"lr": 3e-3}) == [("muon", 0.02, 0.3), ("adamw", 3e-3, 0.3)]
    apart = made({"params": matrix, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0, "lr": 1e-4, "momentum": 0.5})
    assert apart == [("muon", 0.02, 0.3), ("adamw", 1e-4, 0.0)]
    bare = made({"params": [p for _, p in vectors], "weight_decay": 0.0})
    assert bare == [("adamw", 3e-3, 0.0)]


@pytest.mark.parametrize("word", [{"use_muon": False}, {"use_fallback": True}])
def test_groups_told_apart_by_hand(word: dict[str, bool]) -> None:
    head = nn.Linear(4, 6)
    auxiliary = {"lr": 3e-3, "betas": (0.8, 0.9)}
    optimizer = schatten.Muon([{"params": [head.weight], **word}], lr=0.02, auxiliary=auxiliary)
    (group,) = optimizer.param_groups
    assert (group["algorithm"], group["lr"], group["betas"]) == ("adamw", 3e-3, (0.8, 0.9))
    optimizer = schatten.Muon([{"params": [head.weight], "lr": 1e-4, **word}], lr=0.02, auxiliary=auxiliary)
    assert optimizer.param_groups[0]["lr"] == 1e-4


def one_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.linspace(-1, 1, 8).reshape(2, 4)).square().sum().backward()
    optimizer.step()


def test_a_scheduler_that_rebinds_step_leaves_copies_and_pickles_alone() -> None:
    model = nn.Linear(4, 6)
    optimizer = schatten.Muon(model, lr=0.02)
    for _ in range(2):  # the second one finds a step that is bound already
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    one_step(model, optimizer)
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        (weight,) = (p for group in other.param_groups for p in group["params"] if p.dim() == 2)
        weight.grad = torch.ones_like(weight)
        before = weight.detach().clone()
        other.step()
        assert not torch.equal(before, weight)
        assert float(other.state[weight]["step"]) == 2
    assert float(optimizer.state[model.weight]["step"]) == 1


def test_a_scheduler_that_says_zero_stops_both_groups() -> None:
    model = nn.Linear(4, 6)
    optimizer = schatten.Muon(model, lr=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(step == 0))
    one_step(model, optimizer)
    schedule.step()
    before = copy.deepcopy(model.state_dict())
    one_step(model, optimizer)
    assert equal(before, model.state_dict())


def test_state_that_someone_threw_away_is_made_again() -> None:
    model = nn.Linear(4, 6)
    optimizer = schatten.Muon(model, lr=0.02)
    one_step(model, optimizer)
    optimizer.state.clear()
    one_step(model, optimizer)
    assert {float(state["step"]) for state in optimizer.state.values()} == {1.0}
