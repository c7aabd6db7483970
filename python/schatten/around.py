"""What goes around an optimizer: SAM, the cautious mask, labels for Sophia's Hessian, largest logits for MuonClip."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.utils.hooks import RemovableHandle
from typing_extensions import override

from .optimizer import Optimizer, Params

Base = TypeVar("Base", bound=Optimizer)


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimization: the gradient at the worst point nearby, with any optimizer (``base``).

    ::

        e = rho / (|g| + 1e-12) g                        g at W, one norm over all parameters
        e = rho / (| |W| g | + 1e-12) W^2 g              adaptive: rho in units of |W|
        W <- base(W, gradient at W + e)

    With a closure that computes the loss and its gradients, ``step(closure)`` calls it twice and returns the loss at W::

        optimizer = schatten.SAM(model, schatten.Muon, rho=0.05, lr=0.02)

        def closure():
            loss = criterion(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)

    Without one, ``first_step(zero_grad=True)`` climbs by the gradients that are there, and ``second_step()`` comes back and steps by
    those of a second backward. Weights come back bit for bit, also when the closure raises. Layers with running statistics (batch norm)
    see both passes: freeze them in the second.

    Args:
        base: a class of schatten or torch.optim; what else is given goes to it
        rho: radius (adaptive: about 2); like every option it stands in the groups, where it can be scheduled
        adaptive: measure the radius in units of the weights

    Groups, state, state_dict are the base's, ``optimizer.base``; every group has ``rho`` and ``adaptive`` besides.

    Source: Foret et al. 2021, arXiv:2010.01412; Kwon et al. 2021, arXiv:2102.11600 (davda54/sam)
    """

    def __init__(
        self, params: Params, base: type[torch.optim.Optimizer], *, rho: float = 0.05, adaptive: bool = False, **base_options: Any
    ) -> None:
        if not (isinstance(base, type) and issubclass(base, torch.optim.Optimizer)):
            raise TypeError(f"SAM: expected base to be an optimizer class, got {base!r}\n  SAM(model, schatten.Muon, lr=0.02)")
        _check_rho(rho)
        given: Any = params
        if isinstance(params, nn.Module) and not issubclass(base, Optimizer):
            given = params.named_parameters()
        self.base = base(given, **base_options)
        self._own = {"rho": rho, "adaptive": adaptive}
        self._home: list[tuple[Tensor, Tensor]] = []  # parameters that are away, and where they belong
        super().__init__(self.base.param_groups, {**self.base.defaults, **self._own})
        self._share()

    def _share(self) -> None:
        self.param_groups = self.base.param_groups
        self.state = self.base.state

    @override
    @_disable_dynamo
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check_rho(param_group.get("rho", self._own["rho"]))
        if not any(param_group is group for group in self.base.param_groups):
            self.base.add_param_group(param_group)
        for group in self.base.param_groups:
            for key, value in self._own.items():
                group.setdefault(key, value)

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> None:
        """Climbs to W + e, by the gradients at W."""
        if self._home:
            raise RuntimeError("SAM.first_step: expected weights at home, got them at W + e\n  Call second_step() first.")
        climbing = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not climbing:
            raise RuntimeError("SAM.first_step: expected gradients, got none\n  Call backward() before, or step(closure).")
        params = [p for p, _ in climbing]
        grads = [p.grad for p in params]
        radii = [float(group["rho"]) for _, group in climbing]
        steps = torch.ops.schatten.sharpness_ascent(params, grads, radii, [bool(group["adaptive"]) for _, group in climbing])
        self._home = [(p, p.clone()) for p in params]
        for p, e in zip(params, steps, strict=True):
            p.add_(e)
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def restore(self) -> None:
        """Puts the weights back where first_step found them; nothing else happens."""
        for p, home in self._home:
            p.copy_(home)
        self._home = []

    @torch.no_grad()
    def second_step(self, zero_grad: bool = False) -> None:
        """Comes back to W, and steps there by the gradients at W + e."""
        if not self._home:
            raise RuntimeError("SAM.second_step: expected weights at W + e, got them at home\n  Call first_step(zero_grad=True) first.")
        self.restore()
        if all(p.grad is None for group in self.param_groups for p in group["params"]):
            raise RuntimeError("SAM.second_step: expected gradients at W + e, got none; weights are back at W\n  Call backward() between.")
        self.base.step()
        if zero_grad:
            self.zero_grad()

    @override
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Gradients that are there before are dropped: ``closure`` computes both, and its loss at W is returned."""
        if closure is None:
            raise RuntimeError(
                "SAM.step: expected a closure that computes loss and gradients, got none\n  Or call first_step(zero_grad=True), the model, "
                "backward() and second_step()."
            )
        self.zero_grad()
        with torch.enable_grad():
            loss = closure()
        self.first_step(zero_grad=True)
        try:
            with torch.enable_grad():
                closure()
            self.second_step()
        finally:
            self.restore()
        return loss

    # --- torch's contract: what is saved and loaded is the base's -----------------------------------------------------

    @override
    @_disable_dynamo
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """As the base's; hooks of both are called."""
        given = dict(state_dict)
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            given = before(self, given) or given
        self.base.load_state_dict(given)
        for group in self.base.param_groups:
            for key, value in self._own.items():
                group.setdefault(key, value)  # the file may be the base's own
        self._share()
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    @override
    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "base": self.base, "_own": self._own, "_home": self._home}

    @override
    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "state": state["base"].state, "param_groups": state["base"].param_groups})


def _check_rho(rho: float) -> None:
    if not (rho >= 0 and math.isfinite(rho)):
        raise ValueError(f"SAM: expected rho finite and >= 0, got {rho}\n  Published: 0.05, adaptive 2.")


def Cautious(params: Params, base: type[Base], **options: Any) -> Base:
    """Any optimizer of schatten whose update passes only where it agrees with the gradient: ``Cautious(model, schatten.HTMuon, lr=0.02)``.

    ::

        U <- U mask / max(mean(mask), 1e-3),   mask = [U G > 0]

    It is the optimizer ``base`` with the option ``cautious``, in its groups for vectors, too. The published ones (CAdamW, CLion, CMuon)
    have classes of their own, and CMuon's mask comes before its orthogonalization.

    Source: Liang et al. 2024, arXiv:2411.16085
    """
    if not (isinstance(base, type) and issubclass(base, Optimizer)):
        raise TypeError(f"Cautious: expected base to be a class of schatten, got {base!r}\n  torch.optim knows no mask: schatten.CAdamW.")
    masked = _masked(options)
    if "auxiliary" in inspect.signature(base).parameters:
        masked["auxiliary"] = _masked(options.get("auxiliary") or {})
    return base(params, **masked)


def _masked(group: Mapping[str, Any]) -> dict[str, Any]:
    return {**group, "options": {**(group.get("options") or {}), "cautious": True}}


def sample_labels(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Labels drawn from the model itself, of shape ``logits.shape[:-1]``: what Sophia's Hessian goes by.

    Every 10th step or so::

        logits = model(x)
        loss = F.cross_entropy(logits.flatten(0, -2), schatten.sample_labels(logits).flatten())
        loss.backward()
        optimizer.update_hessian()
        optimizer.zero_grad()
    """
    if logits.dim() < 1 or not logits.is_floating_point():
        raise ValueError(f"sample_labels: expected floating-point logits [.., classes], got {logits.dtype} {tuple(logits.shape)}")
    probabilities = torch.softmax(logits.detach().to(torch.float32).reshape(-1, logits.shape[-1]), dim=-1)
    return torch.multinomial(probabilities, 1, replacement=True, generator=generator).view(logits.shape[:-1])


@torch.no_grad()
def largest_logits(query: Tensor, key: Tensor, *, scale: float | None = None, causal: bool = False, mask: Tensor | None = None) -> Tensor:
    """The largest softmax input of each query head, [heads]: what MuonClip goes by.

    Args:
        query: [.., heads, queries, size], after position encoding
        key: [.., kv_heads, keys, size]
        scale: of the products; 1 / sqrt(size) where None
        causal: a query sees keys up to its own position only
        mask: as scaled_dot_product_attention's: boolean (True: seen), or added to the products
    """
    heads, kv_heads = query.shape[-3], key.shape[-3]
    if heads % kv_heads or query.shape[-1] != key.shape[-1]:
        raise ValueError(
            "largest_logits: expected query [.., heads, queries, size] and key [.., kv_heads, keys, size], heads a multiple of kv_heads, "
            f"got {tuple(query.shape)} and {tuple(key.shape)}"
        )
    key = key.repeat_interleave(heads // kv_heads, dim=-3)
    logits = (query @ key.mT).float() * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if causal:
        seen = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril(logits.shape[-1] - logits.shape[-2])
        logits = logits.masked_fill(~seen, -math.inf)
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask
    return logits.amax(dim=(-2, -1)).reshape(-1, heads).amax(dim=0)


def watch_logits(
    optimizer: Optimizer, modules: Mapping[int, nn.Module], measure: Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], Tensor]
) -> list[RemovableHandle]:
    """Tells ``optimizer`` the largest logits of attention modules in training mode, by forward hooks.

    Args:
        optimizer: a MuonClip, or any with the controller qk_clip
        modules: the attention module of each transformer block, by the block's number
        measure: (module, args, kwargs, output) -> [heads], such as `largest_logits` of what that module made of its input

    Several forwards before a step (accumulation) count together. Returns the hooks, to ``remove()``.
    """

    def watching(block: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if module.training:
                optimizer.observe("largest_logits", block, measure(module, args, kwargs, output))

        return hook

    return [module.register_forward_hook(watching(block), with_kwargs=True) for block, module in modules.items()]
