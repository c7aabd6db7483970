"""Written by tools/refresh_python.py from the registry of recipes. Do not edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .optimizer import Optimizer, Params

__all__ = [
    "APOLLO",
    "COSMOS",
    "GUM",
    "MARS",
    "RMNP",
    "SGD",
    "SOAP",
    "APOLLOMini",
    "AdEMAMix",
    "AdaMuon",
    "Adagrad",
    "Adam",
    "AdamMini",
    "AdamW",
    "AlphaDecay",
    "CAdamW",
    "CLion",
    "CMuon",
    "Dion",
    "Dion2",
    "Fira",
    "GaLore",
    "HTAdaMuon",
    "HTMuon",
    "HTNorMuon",
    "Lion",
    "LionMuon",
    "Muon",
    "MuonClip",
    "NorMuon",
    "RMSprop",
    "SchattenDescent",
    "Shampoo",
    "SignMuon",
    "SimpleMuon",
    "Sophia",
]


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    ::

        M <- mu M + G + lambda W
        W <- W - lr M

    State of an m x n matrix, m <= n: mn (0 without momentum) entries.
    Worth tuning: lr (0.01 to 1), momentum.

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        momentum: mu in [0, 1)
        dampening: 0: not to be had here
        weight_decay: lambda
        nesterov: look one step ahead
        options: any other option of the recipe by its dotted name: `schatten recipes sgd`

    Source: torch.optim.SGD
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "sgd",
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class Adagrad(Optimizer):
    """Entries over the root of the sum of their squares.

    ::

        S <- S + G^2
        W <- W - lr G / (sqrt(S) + eps)

    State of an m x n matrix, m <= n: mn entries.
    Worth tuning: lr (0.003 to 0.1).

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        lr_decay: the t-th update is divided by 1 + (t - 1) lr_decay
        weight_decay: lambda
        initial_accumulator_value: what the sum of squares starts from
        eps: added to the root
        options: any other option of the recipe by its dotted name: `schatten recipes adagrad`

    Source: Duchi, Hazan and Singer 2011; torch.optim.Adagrad
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.01,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "adagrad",
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class RMSprop(Optimizer):
    """The gradient over the root of its running mean square.

    ::

        v <- a v + (1 - a) G^2
        U = G / (sqrt(v) + eps)

    State of an m x n matrix, m <= n: mn (2mn with momentum) entries.
    Worth tuning: lr (3e-4 to 1e-2).

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        alpha: decay of the mean square, in [0, 1)
        eps: added to the root
        weight_decay: lambda
        momentum: mu in [0, 1), of the scaled gradients
        centered: False: not to be had here
        options: any other option of the recipe by its dotted name: `schatten recipes rmsprop`

    Source: Tieleman and Hinton 2012, lecture 6.5; torch.optim.RMSprop
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.01,
        alpha: float = 0.99,
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "rmsprop",
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class Adam(Optimizer):
    """Adam, with decay in the gradient (L2).

    ::

        U = m^ / (sqrt(v^) + eps)

    State of an m x n matrix, m <= n: 2mn entries.
    Worth tuning: lr (3e-4 to 1e-2).

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        betas: decays of the moments
        eps: added to the root
        weight_decay: lambda
        amsgrad: False: not to be had here
        options: any other option of the recipe by its dotted name: `schatten recipes adam`

    Source: Kingma and Ba 2014, arXiv:1412.6980; torch.optim.Adam
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        betas: tuple[float, ...] = (0.9, 0.999),
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "adam",
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class AdamW(Optimizer):
    """Adam with decoupled weight decay.

    ::

        W <- (1 - lr lambda) W - lr m^ / (sqrt(v^) + eps)

    State of an m x n matrix, m <= n: 2mn entries.
    Worth tuning: lr (3e-4 to 1e-2), weight_decay.

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        betas: decays of the moments
        eps: added to the root
        weight_decay: lambda
        amsgrad: False: not to be had here
        options: any other option of the recipe by its dotted name: `schatten recipes adamw`

    Source: Loshchilov and Hutter 2017, arXiv:1711.05101; torch.optim.AdamW
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        betas: tuple[float, ...] = (0.9, 0.999),
        eps: float = 1e-08,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        *,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "adamw",
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class SignMuon(Optimizer):
    """Sign of momentum (signSGD with momentum).

    ::

        M <- mu M + G
        U = sign(G + mu M)
        W <- (1 - lr lambda) W - lr U

    State of an m x n matrix, m <= n: mn entries.
    Worth tuning: lr (a tenth of AdamW's), momentum, weight_decay.

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        momentum: mu in [0, 1); 0: signSGD
        nesterov: look one step ahead
        weight_decay: lambda
        options: any other option of the recipe by its dotted name: `schatten recipes sign_muon`

    Source: Bernstein et al. 2018, arXiv:1802.04434; brain-lab-research/lion-muon (sign_muon.py)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.0001,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        *,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "sign_muon",
            lr=lr,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class Lion(Optimizer):
    """Sign of a mixture of momentum and gradient.

    ::

        U = sign(b1 M + (1 - b1) G)
        M <- b2 M + (1 - b2) G
        W <- (1 - lr lambda) W - lr U

    State of an m x n matrix, m <= n: mn entries.
    Worth tuning: lr (a third to a tenth of AdamW's), weight_decay.

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        betas: decays of the moments
        weight_decay: lambda (three to ten times AdamW's)
        options: any other option of the recipe by its dotted name: `schatten recipes lion`

    Source: Chen et al. 2023, arXiv:2302.06675; lucidrains/lion-pytorch
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.0001,
        betas: tuple[float, ...] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "lion",
            lr=lr,
            betas=betas,
            weight_decay=weight_decay,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class Sophia(Optimizer):
    """Momentum over a diagonal of the Hessian, clipped.

    ::

        U = clip(M / (rho bs h + 1e-15), 1)
        h <- b2 h + (1 - b2) g^2 on sampled labels, now and then

    State of an m x n matrix, m <= n: 2mn entries.
    Worth tuning: lr (a little below AdamW's), rho (0.01 to 0.1), bs (tokens per probe).

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        betas: decays of the moments
        rho: what the Hessian is multiplied by: smaller means more entries at 1
        bs: gauss_newton: tokens per probe (batch size times length)
        estimator: gauss_newton (gradient on sampled labels), hutchinson (u * (H u))
        probe_every: steps between two probes
        weight_decay: lambda
        options: any other option of the recipe by its dotted name: `schatten recipes sophia`

    Source: Liu et al. 2023, arXiv:2305.14342 (Liuhong99/Sophia)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.0001,
        betas: tuple[float, ...] = (0.965, 0.99),
        rho: float = 0.04,
        bs: float = 5120.0,
        estimator: str = "gauss_newton",
        probe_every: int = 10,
        weight_decay: float = 0.1,
        *,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "sophia",
            lr=lr,
            betas=betas,
            rho=rho,
            bs=bs,
            estimator=estimator,
            probe_every=probe_every,
            weight_decay=weight_decay,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class AdamMini(Optimizer):
    """AdamW with one second moment per head or row.

    ::

        v_B <- b2 v_B + (1 - b2) mean_B(G^2)
        W <- (1 - lr lambda) W - lr m^ / (sqrt(v_B^) + eps)

    State of an m x n matrix, m <= n: mn + m (query, key: mn + heads) entries.
    Worth tuning: lr (AdamW's), weight_decay.

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        betas: decays of the moments
        eps: added to the root
        weight_decay: lambda
        options: any other option of the recipe by its dotted name: `schatten recipes adam_mini`

    Source: Zhang et al. 2024, arXiv:2406.16793 (zyushun/Adam-mini)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        betas: tuple[float, ...] = (0.9, 0.999),
        eps: float = 1e-08,
        weight_decay: float = 0.0,
        *,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "adam_mini",
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class AdEMAMix(Optimizer):
    """AdamW with a second, much slower average.

    ::

        U = (m1^ + alpha m2) / (sqrt(v^) + eps)
        W <- (1 - lr lambda) W - lr U

    State of an m x n matrix, m <= n: 3mn entries.
    Worth tuning: lr (AdamW's), alpha (2 to 8), beta3, warm-ups as long as the run.

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        betas: decays of the moments
        alpha: weight of the slow average
        eps: added to the root
        alpha_warmup: steps in which alpha grows from 0 (the paper: all of the run); 0: none
        beta3_warmup: steps in which beta3 grows from beta1 (the paper: all of the run); 0: none
        weight_decay: lambda
        options: any other option of the recipe by its dotted name: `schatten recipes ademamix`

    Source: Pagliardini, Ablin and Grangier 2024, arXiv:2409.03137 (apple/ml-ademamix)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        betas: tuple[float, ...] = (0.9, 0.999, 0.9999),
        alpha: float = 2.0,
        eps: float = 1e-08,
        alpha_warmup: int = 0,
        beta3_warmup: int = 0,
        weight_decay: float = 0.0,
        *,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "ademamix",
            lr=lr,
            betas=betas,
            alpha=alpha,
            eps=eps,
            alpha_warmup=alpha_warmup,
            beta3_warmup=beta3_warmup,
            weight_decay=weight_decay,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class MARS(Optimizer):
    """Variance-reduced gradient in AdamW, Lion or Muon.

    ::

        C = clip(G + gamma b1 / (1 - b1) (G - G_prev))
        U = AdamW, sign or NS5 of the average of C

    State of an m x n matrix, m <= n: 3mn (lion, shampoo: 2mn) entries.
    Worth tuning: lr (adamw 1e-3 to 6e-3, lion a third of that, shampoo 0.02), gamma (0.005 to 0.05).

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        betas: decays of the moments
        form: adamw, lion, shampoo: what the corrected gradient goes through
        eps: added to the root (adamw)
        gamma: strength of the correction
        max_norm: largest Frobenius norm of the corrected gradient; 0: any
        ns_steps: iterations
        adjust_lr_fn: original, match_rms_adamw, spectral_unclamped, none, jordan, moonlight, bernstein
        optimize_1d: vectors, too; otherwise they are on AdamW
        weight_decay: lambda
        ns_coefficients: one (a, b, c) for all steps, a triple for each, or a schedule's name
        options: any other option of the recipe by its dotted name: `schatten recipes mars`

    Source: Yuan et al. 2024, arXiv:2411.10438 (AGI-Arena/MARS)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.003,
        betas: tuple[float, ...] = (0.95, 0.99),
        form: str = "adamw",
        eps: float = 1e-08,
        gamma: float = 0.025,
        max_norm: float = 1.0,
        ns_steps: int = 0,
        adjust_lr_fn: str | None = "jordan",
        optimize_1d: bool = False,
        weight_decay: float = 0.0,
        ns_coefficients: str | Sequence[Any] = "quintic",
        *,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "mars",
            lr=lr,
            betas=betas,
            form=form,
            eps=eps,
            gamma=gamma,
            max_norm=max_norm,
            ns_steps=ns_steps,
            adjust_lr_fn=adjust_lr_fn,
            optimize_1d=optimize_1d,
            weight_decay=weight_decay,
            ns_coefficients=ns_coefficients,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class CAdamW(Optimizer):
    """AdamW where it agrees with the gradient.

    ::

        mask = [m G > 0]
        U = m^ / (sqrt(v^) + eps) mask / max(mean(mask), 1e-3)

    State of an m x n matrix, m <= n: 2mn entries.
    Worth tuning: lr (AdamW's), weight_decay.

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        betas: decays of the moments
        eps: added to the root
        weight_decay: lambda
        options: any other option of the recipe by its dotted name: `schatten recipes c_adamw`

    Source: Liang et al. 2024, arXiv:2411.16085 (kyleliang919/C-Optim)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        betas: tuple[float, ...] = (0.9, 0.999),
        eps: float = 1e-06,
        weight_decay: float = 0.0,
        *,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "c_adamw",
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class CLion(Optimizer):
    """Lion where it agrees with the gradient.

    ::

        U = sign(b1 M + (1 - b1) G)
        mask = [U G > 0]
        U <- U mask mn / (sum(mask) + 1)

    State of an m x n matrix, m <= n: mn entries.
    Worth tuning: lr (Lion's), weight_decay.

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        betas: decays of the moments
        weight_decay: lambda
        options: any other option of the recipe by its dotted name: `schatten recipes c_lion`

    Source: Liang et al. 2024, arXiv:2411.16085 (kyleliang919/C-Optim)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.0001,
        betas: tuple[float, ...] = (0.95, 0.98),
        weight_decay: float = 0.0,
        *,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "c_lion",
            lr=lr,
            betas=betas,
            weight_decay=weight_decay,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class Muon(Optimizer):
    """Momentum, orthogonalised by Newton-Schulz.

    ::

        M <- mu M + (1 - mu) G
        U = c(m, n) NS5((1 - mu) G + mu M)
        W <- (1 - lr lambda) W - lr U

    State of an m x n matrix, m <= n: mn entries.
    Worth tuning: lr (0.005 to 0.05), the rate of the vectors' AdamW.

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        weight_decay: lambda
        momentum: mu in [0, 1)
        nesterov: look one step ahead
        ns_coefficients: one (a, b, c) for all steps, a triple for each, or a schedule's name
        eps: guards the division by the Frobenius norm
        ns_steps: iterations
        adjust_lr_fn: original, match_rms_adamw, spectral_unclamped, none, jordan, moonlight, bernstein
        split: none; heads: each attention head by itself; fused: fused q, k, v each by itself
        auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)
        options: any other option of the recipe by its dotted name: `schatten recipes muon`

    Source: Jordan et al. 2024 (KellerJordan/Muon); torch.optim.Muon; Moonlight, arXiv:2502.16982
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: str | Sequence[Any] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-07,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        split: str = "none",
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "muon",
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            nesterov=nesterov,
            ns_coefficients=ns_coefficients,
            eps=eps,
            ns_steps=ns_steps,
            adjust_lr_fn=adjust_lr_fn,
            split=split,
            auxiliary=auxiliary,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class MuonClip(Optimizer):
    """Muon, and query and key heads shrunk where attention logits exceed tau.

    ::

        M <- mu M + G
        U = 0.2 sqrt(max(m, n)) NS5(M)
        W_q^h, W_k^h *= sqrt(tau / S_h) where S_h > tau

    State of an m x n matrix, m <= n: mn entries.
    Worth tuning: lr (AdamW's), weight_decay; clip.tau (100; 30 in small models).

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        variant: jordan, torch, moonlight, k2, dion, gram: what the keys below default to
        momentum: mu in [0, 1)
        nesterov: look one step ahead
        ns_steps: iterations
        eps: guards the division by the Frobenius norm
        adjust_lr_fn: original, match_rms_adamw, spectral_unclamped, none, jordan, moonlight, bernstein
        split: none; heads: each attention head by itself; fused: fused q, k, v each by itself
        weight_decay: lambda
        tau: largest attention logit allowed, > 0
        ns_coefficients: one (a, b, c) for all steps, a triple for each, or a schedule's name
        auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)
        options: any other option of the recipe by its dotted name: `schatten recipes muonclip`

    Source: Kimi K2, arXiv:2507.20534
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        variant: str = "k2",
        momentum: float = 0.95,
        nesterov: bool = False,
        ns_steps: int = 0,
        eps: float = 1e-07,
        adjust_lr_fn: str | None = "moonlight",
        split: str = "none",
        weight_decay: float = 0.1,
        tau: float = 100.0,
        ns_coefficients: str | Sequence[Any] = "quintic",
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "muonclip",
            lr=lr,
            variant=variant,
            momentum=momentum,
            nesterov=nesterov,
            ns_steps=ns_steps,
            eps=eps,
            adjust_lr_fn=adjust_lr_fn,
            split=split,
            weight_decay=weight_decay,
            tau=tau,
            ns_coefficients=ns_coefficients,
            auxiliary=auxiliary,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class CMuon(Optimizer):
    """Muon on momentum where it agrees with the gradient.

    ::

        mask = [M G > 0]
        U = c(m, n) NS5(((1 - mu) G + mu M) mask)

    State of an m x n matrix, m <= n: mn entries.
    Worth tuning: lr (Muon's), the rate of the vectors' c_adamw.

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        momentum: mu in [0, 1)
        nesterov: look one step ahead
        ns_steps: iterations
        eps: guards the division by the Frobenius norm
        adjust_lr_fn: original, match_rms_adamw, spectral_unclamped, none, jordan, moonlight, bernstein
        weight_decay: lambda
        ns_coefficients: one (a, b, c) for all steps, a triple for each, or a schedule's name
        auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)
        options: any other option of the recipe by its dotted name: `schatten recipes c_muon`

    Source: Liang et al. 2024, arXiv:2411.16085 (kyleliang919/C-Optim)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 0,
        eps: float = 1e-07,
        adjust_lr_fn: str | None = "jordan",
        weight_decay: float = 0.0,
        ns_coefficients: str | Sequence[Any] = "quintic",
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "c_muon",
            lr=lr,
            momentum=momentum,
            nesterov=nesterov,
            ns_steps=ns_steps,
            eps=eps,
            adjust_lr_fn=adjust_lr_fn,
            weight_decay=weight_decay,
            ns_coefficients=ns_coefficients,
            auxiliary=auxiliary,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class NorMuon(Optimizer):
    """Muon whose neurons are brought to one size by their running mean squares.

    ::

        O = NS5(M)
        v <- b2 v + (1 - b2) mean_j O^2
        Y = O / (sqrt(v) + eps)
        U = 0.2 sqrt(mn) Y / |Y|_F

    State of an m x n matrix, m <= n: mn + m entries.
    Worth tuning: lr (AdamW's; variants other than paper: Muon's), weight_decay.

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        variant: paper, repository, modded, dion, htmuon_repository: what the keys below default to
        momentum: mu in [0, 1)
        nesterov: look one step ahead
        ns_steps: iterations
        eps: guards the division by the Frobenius norm
        beta2: decay of the mean squares, in [0, 1)
        adjust_lr_fn: original, match_rms_adamw, spectral_unclamped, none, jordan, moonlight, bernstein
        weight_decay: lambda
        ns_coefficients: one (a, b, c) for all steps, a triple for each, or a schedule's name
        auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)
        options: any other option of the recipe by its dotted name: `schatten recipes normuon`

    Source: NorMuon, arXiv:2510.05491 (zichongli5/NorMuon, modded-nanogpt, microsoft/dion)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        variant: str = "paper",
        momentum: float = 0.95,
        nesterov: bool = False,
        ns_steps: int = 0,
        eps: float = 1e-07,
        beta2: float = 0.95,
        adjust_lr_fn: str | None = "none",
        weight_decay: float = 0.1,
        ns_coefficients: str | Sequence[Any] = "quintic",
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "normuon",
            lr=lr,
            variant=variant,
            momentum=momentum,
            nesterov=nesterov,
            ns_steps=ns_steps,
            eps=eps,
            beta2=beta2,
            adjust_lr_fn=adjust_lr_fn,
            weight_decay=weight_decay,
            ns_coefficients=ns_coefficients,
            auxiliary=auxiliary,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class AdaMuon(Optimizer):
    """Adam's second moment on Muon's update of the momentum's signs.

    ::

        O = NS5(sign(M))
        V <- mu V + (1 - mu) O^2
        Y = O / (sqrt(V) + eps)
        U = 0.2 sqrt(mn) Y / |Y|_F

    State of an m x n matrix, m <= n: 2mn entries.
    Worth tuning: lr (AdamW's: 3e-4 to 3e-3), weight_decay.

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        momentum: mu in [0, 1)
        nesterov: look one step ahead
        sign: orthogonalise the signs (the paper from version 2 on); false: the momentum itself
        ns_steps: iterations
        beta2: decay of the second moment, in [0, 1); the authors': mu
        eps: added to its root and to the norm
        rms: root mean square of the update's entries
        weight_decay: lambda
        ns_coefficients: one (a, b, c) for all steps, a triple for each, or a schedule's name
        auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)
        options: any other option of the recipe by its dotted name: `schatten recipes adamuon`

    Source: AdaMuon, arXiv:2507.11005 (Chongjie-Si/AdaMuon)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        momentum: float = 0.95,
        nesterov: bool = True,
        sign: bool = True,
        ns_steps: int = 0,
        beta2: float = 0.95,
        eps: float = 1e-08,
        rms: float = 0.2,
        weight_decay: float = 0.1,
        ns_coefficients: str | Sequence[Any] = "quintic",
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "adamuon",
            lr=lr,
            momentum=momentum,
            nesterov=nesterov,
            sign=sign,
            ns_steps=ns_steps,
            beta2=beta2,
            eps=eps,
            rms=rms,
            weight_decay=weight_decay,
            ns_coefficients=ns_coefficients,
            auxiliary=auxiliary,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class LionMuon(Optimizer):
    """A Muon step every P-th time, Lion's sign steps between.

    ::

        D = b1 M + (1 - b1) G
        U = 0.2 sqrt(max(m, n)) NS5(D) or sign(D) at lion_lr_ratio lr
        M <- b2 M + (1 - b2) G

    State of an m x n matrix, m <= n: mn entries.
    Worth tuning: lr (7e-4 to 5e-3, the larger the rarer), every (2 to 20), lion_lr_ratio with lr lion_lr_ratio near 5e-5.

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        betas: decays of the moments
        every: period P of the spectral steps; 1: only those
        lion_lr_ratio: rate of the sign steps as a share of lr
        ns_steps: iterations
        eps: guards the division by the Frobenius norm
        adjust_lr_fn: original, match_rms_adamw, spectral_unclamped, none, jordan, moonlight, bernstein
        weight_decay: lambda
        ns_coefficients: one (a, b, c) for all steps, a triple for each, or a schedule's name
        auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)
        options: any other option of the recipe by its dotted name: `schatten recipes lion_muon`

    Source: LionMuon (brain-lab-research/lion-muon)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.002,
        betas: tuple[float, ...] = (0.9, 0.99),
        every: int = 5,
        lion_lr_ratio: float = 0.025,
        ns_steps: int = 0,
        eps: float = 1e-07,
        adjust_lr_fn: str | None = "moonlight",
        weight_decay: float = 0.1,
        ns_coefficients: str | Sequence[Any] = "quintic",
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "lion_muon",
            lr=lr,
            betas=betas,
            every=every,
            lion_lr_ratio=lion_lr_ratio,
            ns_steps=ns_steps,
            eps=eps,
            adjust_lr_fn=adjust_lr_fn,
            weight_decay=weight_decay,
            ns_coefficients=ns_coefficients,
            auxiliary=auxiliary,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class RMNP(Optimizer):
    """Momentum with rows of unit length: Muon without the iteration.

    ::

        M <- mu M + G
        N = G + mu M
        U_i = sqrt(max(1, m/n)) N_i / |N_i|
        W <- (1 - lr lambda) W - lr U

    State of an m x n matrix, m <= n: mn entries.
    Worth tuning: lr (0.005 to 0.03), the rate of the vectors' AdamW.

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        variant: package, llama, rnnp: what the keys below default to
        momentum: mu in [0, 1)
        nesterov: look one step ahead
        eps: guards the division by the length, > 0
        adjust_lr_fn: original, match_rms_adamw, spectral_unclamped, none, jordan, moonlight, bernstein
        weight_decay: lambda
        auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)
        options: any other option of the recipe by its dotted name: `schatten recipes rmnp`

    Source: RMNP (Dominator-Index/RMNP); RNNP of TDCSZ327/HTmuon
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.02,
        variant: str = "package",
        momentum: float = 0.95,
        nesterov: bool = True,
        eps: float = 1e-12,
        adjust_lr_fn: str | None = "jordan",
        weight_decay: float = 0.0,
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "rmnp",
            lr=lr,
            variant=variant,
            momentum=momentum,
            nesterov=nesterov,
            eps=eps,
            adjust_lr_fn=adjust_lr_fn,
            weight_decay=weight_decay,
            auxiliary=auxiliary,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class Dion(Optimizer):
    """Orthogonal updates of low rank by one power iteration, with error feedback.

    ::

        M <- M + G
        P = qr(M Q)
        R = M^T P
        M <- M - (1 - mu) P R^T
        Q = R / |R_j|
        U = sqrt(m/n) P Q^T

    State of an m x n matrix, m <= n: mn + mr entries.
    Worth tuning: lr (0.005 to 0.02), rank (1/16 to 1/2).

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        rank: directions: a share of the smaller side in (0, 1), that many from 1 on, all for 0
        momentum: share of the taken directions that stays in the momentum, in [0, 1)
        eps: guards the columns' lengths, > 0
        adjust_lr_fn: original, match_rms_adamw, spectral_unclamped, none, jordan, moonlight, bernstein
        weight_decay: lambda
        auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)
        options: any other option of the recipe by its dotted name: `schatten recipes dion`

    Source: Dion, arXiv:2504.05295 (microsoft/dion)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.01,
        rank: float = 0.25,
        momentum: float = 0.95,
        eps: float = 1e-08,
        adjust_lr_fn: str | None = "bernstein",
        weight_decay: float = 0.01,
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "dion",
            lr=lr,
            rank=rank,
            momentum=momentum,
            eps=eps,
            adjust_lr_fn=adjust_lr_fn,
            weight_decay=weight_decay,
            auxiliary=auxiliary,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class Dion2(Optimizer):
    """Orthogonalises the largest rows of the momentum only.

    ::

        M <- M + G
        I = rows of largest L1 norm
        U_I = sqrt(m/n) polar(M_I)
        M_I <- ef_decay M_I

    State of an m x n matrix, m <= n: mn entries.
    Worth tuning: lr (0.005 to 0.02), fraction (0.25 to 0.5).

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        fraction: share of the rows (or columns) per step, in (0, 1]
        ef_decay: what stays of a chosen row's momentum, in [0, 1)
        ns_steps: iterations
        eps: guards the division by the Frobenius norm
        adjust_lr_fn: original, match_rms_adamw, spectral_unclamped, none, jordan, moonlight, bernstein
        weight_decay: lambda
        ns_coefficients: one (a, b, c) for all steps, a triple for each, or a schedule's name
        auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)
        options: any other option of the recipe by its dotted name: `schatten recipes dion2`

    Source: Dion2, arXiv:2512.16928 (microsoft/dion)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.01,
        fraction: float = 0.25,
        ef_decay: float = 0.95,
        ns_steps: int = 0,
        eps: float = 1e-08,
        adjust_lr_fn: str | None = "bernstein",
        weight_decay: float = 0.01,
        ns_coefficients: str | Sequence[Any] = "modded",
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "dion2",
            lr=lr,
            fraction=fraction,
            ef_decay=ef_decay,
            ns_steps=ns_steps,
            eps=eps,
            adjust_lr_fn=adjust_lr_fn,
            weight_decay=weight_decay,
            ns_coefficients=ns_coefficients,
            auxiliary=auxiliary,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class SimpleMuon(Optimizer):
    """Five cubic steps: nearer to normalised momentum SGD than to Muon (for the nGPT-Muon plan only).

    ::

        M <- mu M + (1 - mu) G
        X = M / (1.1 |M|_F)
        five times X <- 1.5 X - 0.5 X X^T X
        W <- W - lr X

    State of an m x n matrix, m <= n: mn entries.
    Worth tuning: lr (0.003 to 0.02).

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        momentum: mu in [0, 1)
        nesterov: look one step ahead
        ns_steps: iterations
        eps: guards the division by the Frobenius norm
        adjust_lr_fn: original, match_rms_adamw, spectral_unclamped, none, jordan, moonlight, bernstein
        weight_decay: lambda
        ns_coefficients: one (a, b, c) for all steps, a triple for each, or a schedule's name
        auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)
        options: any other option of the recipe by its dotted name: `schatten recipes simple_muon`

    Source: dnhkng/nGPT-muon; no paper
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.01,
        momentum: float = 0.95,
        nesterov: bool = False,
        ns_steps: int = 5,
        eps: float = 1e-07,
        adjust_lr_fn: str | None = "none",
        weight_decay: float = 0.0,
        ns_coefficients: str | Sequence[Any] = "cubic",
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "simple_muon",
            lr=lr,
            momentum=momentum,
            nesterov=nesterov,
            ns_steps=ns_steps,
            eps=eps,
            adjust_lr_fn=adjust_lr_fn,
            weight_decay=weight_decay,
            ns_coefficients=ns_coefficients,
            auxiliary=auxiliary,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class HTMuon(Optimizer):
    """Muon with singular values to the power p.

    ::

        M <- mu M + (1 - mu) G
        U = c(m, n) L S^p R^T of (1 - mu) G + mu M
        W <- (1 - lr lambda) W - lr U

    State of an m x n matrix, m <= n: mn + 16m (rational, the default: V) entries.
    Worth tuning: lr (2 to 4 times Muon's), power (0.03 to 0.25), every (1, 5).

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        power: p in [0, 1]: 0 is the exact polar factor, 1 plain momentum
        method: auto, svd, eigh, rational, mixture; as released: released, rank, streaming
        every: k: HTMuon's update on every k-th step, Muon's on the others
        momentum: mu in [0, 1)
        nesterov: look one step ahead
        update_norm: none (the paper's); rms: as large as Muon's update
        adjust_lr_fn: original, match_rms_adamw, spectral_unclamped, none, jordan, moonlight, bernstein
        weight_decay: lambda
        auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)
        options: any other option of the recipe by its dotted name: `schatten recipes htmuon`

    Source: HTMuon, arXiv:2603.10067 (TDCSZ327/HTmuon); rational method: this project
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.02,
        power: float = 0.125,
        method: str = "auto",
        every: int = 1,
        momentum: float = 0.95,
        nesterov: bool = True,
        update_norm: str = "none",
        adjust_lr_fn: str | None = "jordan",
        weight_decay: float = 0.0,
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "htmuon",
            lr=lr,
            power=power,
            method=method,
            every=every,
            momentum=momentum,
            nesterov=nesterov,
            update_norm=update_norm,
            adjust_lr_fn=adjust_lr_fn,
            weight_decay=weight_decay,
            auxiliary=auxiliary,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class HTNorMuon(Optimizer):
    """NorMuon with singular values to the power p.

    ::

        O = L S^p R^T
        v <- b2 v + (1 - b2) mean_j O^2
        Y = O / sqrt(v + eps)
        U = c(m, n) |O|_F Y / |Y|_F

    State of an m x n matrix, m <= n: mn + m + 16m (rational, the default: V) entries.
    Worth tuning: lr (2 to 4 times Muon's), power (0.03 to 0.25), every (1, 5).

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        power: exponent p in [0, 1]
        method: auto, svd, eigh, rational, mixture; as released: released, rank, streaming
        every: k: HTMuon's map on every k-th step, NorMuon's on the others
        momentum: mu in [0, 1)
        nesterov: look one step ahead
        update_norm: none (the released code's); rms: as large as Muon's update
        beta2: decay of the mean squares, in [0, 1)
        adjust_lr_fn: original, match_rms_adamw, spectral_unclamped, none, jordan, moonlight, bernstein
        weight_decay: lambda
        auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)
        options: any other option of the recipe by its dotted name: `schatten recipes htnormuon`

    Source: HTMuon, arXiv:2603.10067 (TDCSZ327/HTmuon, normuon.py)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.02,
        power: float = 0.125,
        method: str = "auto",
        every: int = 1,
        momentum: float = 0.95,
        nesterov: bool = True,
        update_norm: str = "none",
        beta2: float = 0.95,
        adjust_lr_fn: str | None = "jordan",
        weight_decay: float = 0.0,
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "htnormuon",
            lr=lr,
            power=power,
            method=method,
            every=every,
            momentum=momentum,
            nesterov=nesterov,
            update_norm=update_norm,
            beta2=beta2,
            adjust_lr_fn=adjust_lr_fn,
            weight_decay=weight_decay,
            auxiliary=auxiliary,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class HTAdaMuon(Optimizer):
    """AdaMuon with singular values to the power p (this project's combination).

    ::

        O = L S^p R^T of sign(M)
        V <- b2 V + (1 - b2) O^2
        Y = O / (sqrt(V) + eps)
        U = 0.2 sqrt(mn) Y / |Y|_F

    State of an m x n matrix, m <= n: 2mn + 16m (rational, the default: V) entries.
    Worth tuning: lr (AdamW's: 3e-4 to 3e-3), power (0.03 to 0.25).

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        power: exponent p in [0, 1]
        method: auto, svd, eigh, rational, mixture; as released: released, rank, streaming
        every: k: the spectral power on every k-th step, AdaMuon's Newton-Schulz on the others
        momentum: mu in [0, 1)
        nesterov: look one step ahead
        sign: take the power of the momentum's signs, as AdaMuon; false: of the momentum itself
        beta2: decay of the second moment, in [0, 1)
        eps: added to its root and to the norm
        rms: root mean square of the update's entries
        weight_decay: lambda
        auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)
        options: any other option of the recipe by its dotted name: `schatten recipes htadamuon`

    Source: after HTMuon, arXiv:2603.10067, and AdaMuon, arXiv:2507.11005; no published numbers
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        power: float = 0.125,
        method: str = "auto",
        every: int = 1,
        momentum: float = 0.95,
        nesterov: bool = True,
        sign: bool = True,
        beta2: float = 0.95,
        eps: float = 1e-08,
        rms: float = 0.2,
        weight_decay: float = 0.1,
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "htadamuon",
            lr=lr,
            power=power,
            method=method,
            every=every,
            momentum=momentum,
            nesterov=nesterov,
            sign=sign,
            beta2=beta2,
            eps=eps,
            rms=rms,
            weight_decay=weight_decay,
            auxiliary=auxiliary,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class SchattenDescent(Optimizer):
    """Steepest descent under a Schatten-q norm: q = inf is Muon, q = 2 normalised descent.

    ::

        U = c(m, n) L S^p R^T / |S|_(1+p)^p of (1 - mu) G + mu M,  p = 1 / (q - 1)

    State of an m x n matrix, m <= n: mn entries.
    Worth tuning: lr (as Muon's for q = inf, larger for small q), q (5 to 33).

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        q: in [2, inf]: inf is Muon with an exact polar factor, 2 normalised momentum
        norm: lmo (unit Schatten-q norm), steepest, rms (as large as Muon's), spec, none
        momentum: mu in [0, 1)
        nesterov: look one step ahead
        adjust_lr_fn: original, match_rms_adamw, spectral_unclamped, none, jordan, moonlight, bernstein
        weight_decay: lambda
        auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)
        options: any other option of the recipe by its dotted name: `schatten recipes schatten_descent`

    Source: the form that HTMuon, arXiv:2603.10067, refers to; this project
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.02,
        q: float = 9.0,
        norm: str = "lmo",
        momentum: float = 0.95,
        nesterov: bool = True,
        adjust_lr_fn: str | None = "jordan",
        weight_decay: float = 0.0,
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "schatten_descent",
            lr=lr,
            q=q,
            norm=norm,
            momentum=momentum,
            nesterov=nesterov,
            adjust_lr_fn=adjust_lr_fn,
            weight_decay=weight_decay,
            auxiliary=auxiliary,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class Shampoo(Optimizer):
    """Gradients whitened by second moments of rows and columns.

    ::

        L, R: averages of G G^T, G^T G
        X = L^(-1/4) G R^(-1/4)
        M <- mu M + (1 - mu) X
        U = M

    State of an m x n matrix, m <= n: mn + 2m^2 + 2n^2 entries.
    Worth tuning: lr (0.005 to 0.05), beta2, every.

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        beta2: ema: decay of the statistics, in [0, 1)
        eps: added to the eigenvalues of the statistics
        every: steps between two renewals of the roots
        max_dim: longer sides are left alone
        momentum: average over preconditioned gradients, in [0, 1)
        adjust_lr_fn: original, match_rms_adamw, spectral_unclamped, none, jordan, moonlight, bernstein
        weight_decay: lambda
        auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)
        options: any other option of the recipe by its dotted name: `schatten recipes shampoo`

    Source: Gupta et al. 2018, arXiv:1802.09568
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.01,
        beta2: float = 0.95,
        eps: float = 1e-12,
        every: int = 10,
        max_dim: int = 10000,
        momentum: float = 0.9,
        adjust_lr_fn: str | None = "none",
        weight_decay: float = 0.0,
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "shampoo",
            lr=lr,
            beta2=beta2,
            eps=eps,
            every=every,
            max_dim=max_dim,
            momentum=momentum,
            adjust_lr_fn=adjust_lr_fn,
            weight_decay=weight_decay,
            auxiliary=auxiliary,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class SOAP(Optimizer):
    """Adam in the eigenbasis of Shampoo's statistics.

    ::

        G' = Q_0^T G Q_1
        U = Q_0 Adam(G') Q_1^T
        Q_i: eigenvectors of the averages of G G^T, G^T G

    State of an m x n matrix, m <= n: 2mn + 2m^2 + 2n^2 entries.
    Worth tuning: lr (1e-3 to 1e-2), every (1 to 100).

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        betas: decays of the moments
        eps: added to the root
        shampoo_beta: decay of the statistics; negative: beta2
        every: steps between two turns of the basis
        max_dim: dimensions longer than this keep their axes
        precondition_1d: vectors, too
        weight_decay: lambda
        options: any other option of the recipe by its dotted name: `schatten recipes soap`

    Source: Vyas et al. 2024, arXiv:2409.11321 (nikhilvyas/SOAP)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.003,
        betas: tuple[float, ...] = (0.95, 0.95),
        eps: float = 1e-08,
        shampoo_beta: float = -1.0,
        every: int = 10,
        max_dim: int = 10000,
        precondition_1d: bool = False,
        weight_decay: float = 0.01,
        *,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "soap",
            lr=lr,
            betas=betas,
            eps=eps,
            shampoo_beta=shampoo_beta,
            every=every,
            max_dim=max_dim,
            precondition_1d=precondition_1d,
            weight_decay=weight_decay,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class COSMOS(Optimizer):
    """Adam in the gradients' leading subspace, Muon in the rest.

    ::

        A = (Gh P / (sqrt(V^) + eps)) P^T + gamma sqrt(mn) B / |B|_F,  B = NS5(Gh - Gh P P^T)
        U = lr_ratio sqrt(mn) A / |A|_F

    State of an m x n matrix, m <= n: mn + mr + nr + r^2 entries.
    Worth tuning: lr (1e-3 to 5e-3), rank, lr_ratio (0.1 to 0.25).

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        betas: decays of the moments
        eps: guards the divisions
        rank: of the subspace: a number (the paper's 64), or a share of the smaller side where below 1
        lr_ratio: RMS of an update at lr 1
        gamma: weight of what is outside the subspace
        nesterov: look one step ahead
        ns_steps: iterations
        weight_decay: lambda
        ns_coefficients: one (a, b, c) for all steps, a triple for each, or a schedule's name
        options: any other option of the recipe by its dotted name: `schatten recipes cosmos`

    Source: Liu et al. 2025, arXiv:2502.17410 (lliu606/COSMOS)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        betas: tuple[float, ...] = (0.95, 0.95),
        eps: float = 1e-08,
        rank: float = 0.1,
        lr_ratio: float = 0.2,
        gamma: float = 0.2,
        nesterov: bool = True,
        ns_steps: int = 0,
        weight_decay: float = 0.1,
        ns_coefficients: str | Sequence[Any] = "quintic",
        *,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "cosmos",
            lr=lr,
            betas=betas,
            eps=eps,
            rank=rank,
            lr_ratio=lr_ratio,
            gamma=gamma,
            nesterov=nesterov,
            ns_steps=ns_steps,
            weight_decay=weight_decay,
            ns_coefficients=ns_coefficients,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class GaLore(Optimizer):
    """AdamW, Adafactor, 8-bit Adam, Muon or any stage on the gradient's leading directions.

    ::

        every T steps P = r leading singular vectors of G
        W <- W - lr alpha P inner(P^T G)

    State of an m x n matrix, m <= n: mr + 2rn (adamw), mr + rn (muon) entries.
    Worth tuning: lr (0.005 to 0.02), rank (1/4 of the side), scale (0.25; 4 for fine-tuning), refresh_every (200).

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        betas: decays of the moments
        inner: adamw, adafactor, adam_8bit, muon (sets the keys below); or a stage or chain
        rank: directions: >= 1 that many, below 1 that share of the smaller side
        refresh_every: T: steps between two searches for directions
        scale: alpha
        moments: at a refresh: keep (GaLore), transport, reset
        eps: adamw: added to the uncorrected root; adam_8bit: to the corrected one
        adjust_lr_fn: original, match_rms_adamw, spectral_unclamped, none, jordan, moonlight, bernstein
        weight_decay: lambda
        auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)
        options: any other option of the recipe by its dotted name: `schatten recipes galore`

    Source: Zhao et al. 2024, arXiv:2403.03507 (jiaweizzhao/GaLore)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.01,
        betas: tuple[float, ...] = (0.9, 0.999),
        inner: str = "adamw",
        rank: float = 0.25,
        refresh_every: int = 200,
        scale: float = 0.25,
        moments: str = "keep",
        eps: float = 1e-06,
        adjust_lr_fn: str | None = "none",
        weight_decay: float = 0.0,
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "galore",
            lr=lr,
            betas=betas,
            inner=inner,
            rank=rank,
            refresh_every=refresh_every,
            scale=scale,
            moments=moments,
            eps=eps,
            adjust_lr_fn=adjust_lr_fn,
            weight_decay=weight_decay,
            auxiliary=auxiliary,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class Fira(Optimizer):
    """GaLore's AdamW plus the rest of the gradient, scaled alike.

    ::

        U = alpha P N + (G - P P^T G) |N_j| / |R_j|,  N = Adam(R),  R = P^T G

    State of an m x n matrix, m <= n: mr + 2rn + 1 entries.
    Worth tuning: lr (0.01), rank (1/4 of the side), scale (0.25; 0.0625 for 1B and more).

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        betas: decays of the moments
        rank: directions: >= 1 that many, below 1 that share of the smaller side
        refresh_every: steps between two searches for directions
        scale: alpha, of the update inside
        scale_type: of the residual: channel, tensor
        limit: largest growth of the residual's norm per step
        eps: added to the uncorrected root
        weight_decay: lambda
        auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)
        options: any other option of the recipe by its dotted name: `schatten recipes fira`

    Source: Fira, arXiv:2410.01623 (xichen-fy/Fira)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.01,
        betas: tuple[float, ...] = (0.9, 0.999),
        rank: float = 0.25,
        refresh_every: int = 200,
        scale: float = 0.25,
        scale_type: str = "channel",
        limit: float = 1.01,
        eps: float = 1e-06,
        weight_decay: float = 0.0,
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "fira",
            lr=lr,
            betas=betas,
            rank=rank,
            refresh_every=refresh_every,
            scale=scale,
            scale_type=scale_type,
            limit=limit,
            eps=eps,
            weight_decay=weight_decay,
            auxiliary=auxiliary,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class APOLLO(Optimizer):
    """The gradient, each channel as large as Adam on a random projection would make it.

    ::

        N = Adam(P^T G)
        U = G |N_j| / |P^T G|_j per channel, growing by at most 1 % a step

    State of an m x n matrix, m <= n: 2rn + 2 entries.
    Worth tuning: lr (0.01), rank (1/4 of the side), scale (1).

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        betas: decays of the moments
        rank: directions: >= 1 that many, below 1 that share of the smaller side
        refresh_every: T: steps between two projections
        projection: random (redrawn from a seed), svd
        scale_type: channel (a factor per row or column), tensor (one)
        scale: alpha: the update is multiplied by its root
        limit: largest growth of the update's norm per step; 0: none
        eps: added to the uncorrected root
        weight_decay: lambda
        auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)
        options: any other option of the recipe by its dotted name: `schatten recipes apollo`

    Source: APOLLO, arXiv:2412.05270 (zhuhanqing/APOLLO)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.01,
        betas: tuple[float, ...] = (0.9, 0.999),
        rank: float = 0.25,
        refresh_every: int = 200,
        projection: str = "random",
        scale_type: str = "channel",
        scale: float = 1.0,
        limit: float = 1.01,
        eps: float = 1e-06,
        weight_decay: float = 0.0,
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "apollo",
            lr=lr,
            betas=betas,
            rank=rank,
            refresh_every=refresh_every,
            projection=projection,
            scale_type=scale_type,
            scale=scale,
            limit=limit,
            eps=eps,
            weight_decay=weight_decay,
            auxiliary=auxiliary,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class APOLLOMini(Optimizer):
    """The gradient, as large as Adam on one random direction would make it.

    ::

        N = Adam(p^T G)
        U = sqrt(128) G |N| / |p^T G|, growing by at most 1 % a step

    State of an m x n matrix, m <= n: 2n + 2 entries.
    Worth tuning: lr (0.01), scale (128).

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        betas: decays of the moments
        rank: directions: >= 1 that many, below 1 that share of the smaller side
        refresh_every: T: steps between two projections
        projection: random (redrawn from a seed), svd
        scale_type: channel (a factor per row or column), tensor (one)
        scale: alpha: the update is multiplied by its root
        limit: largest growth of the update's norm per step; 0: none
        eps: added to the uncorrected root
        weight_decay: lambda
        auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)
        options: any other option of the recipe by its dotted name: `schatten recipes apollo_mini`

    Source: APOLLO-Mini, arXiv:2412.05270 (zhuhanqing/APOLLO)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.01,
        betas: tuple[float, ...] = (0.9, 0.999),
        rank: float = 1.0,
        refresh_every: int = 200,
        projection: str = "random",
        scale_type: str = "tensor",
        scale: float = 128.0,
        limit: float = 1.01,
        eps: float = 1e-06,
        weight_decay: float = 0.0,
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "apollo_mini",
            lr=lr,
            betas=betas,
            rank=rank,
            refresh_every=refresh_every,
            projection=projection,
            scale_type=scale_type,
            scale=scale,
            limit=limit,
            eps=eps,
            weight_decay=weight_decay,
            auxiliary=auxiliary,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class GUM(Optimizer):
    """Muon in a subspace, and in a few blocks at a time on what the subspace leaves out.

    ::

        U = P NS5(R), R <- mu R + P^T G
        with probability q: NS5(R), R <- mu R + G - P P^T G

    State of an m x n matrix, m <= n: mr + (1 - q) rn + q mn (complement: mr + rn) entries.
    Worth tuning: lr (anew for each rank and q), rank, full_blocks, period (200), variant.

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        variant: sampled (the paper's), complement (both branches in every step, one without state)
        rank: directions: >= 1 that many, below 1 that share of the smaller side
        period: K: steps with one subspace and one branch
        full_blocks: blocks at full rank: >= 1 that many, below 1 that share; 0: each parameter alone
        weights: by inverse probability: pre (the paper's; NS undoes it), post (unbiased), none
        moments: at a new period: reset, transport, keep
        momentum: mu in [0, 1)
        ns_steps: iterations
        eps: guards the division by the Frobenius norm
        adjust_lr_fn: original, match_rms_adamw, spectral_unclamped, none, jordan, moonlight, bernstein
        weight_decay: lambda
        ns_coefficients: one (a, b, c) for all steps, a triple for each, or a schedule's name
        auxiliary: options of the groups for vectors, embeddings and heads: dict(algorithm="adamw", lr=3e-3)
        options: any other option of the recipe by its dotted name: `schatten recipes gum`

    Source: GUM, arXiv:2510.17802 (equations; no public code); complement: this project
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        variant: str = "sampled",
        rank: float = 0.25,
        period: int = 200,
        full_blocks: float = 0.25,
        weights: str = "pre",
        moments: str = "reset",
        momentum: float = 0.95,
        ns_steps: int = 0,
        eps: float = 1e-07,
        adjust_lr_fn: str | None = "moonlight",
        weight_decay: float = 0.0,
        ns_coefficients: str | Sequence[Any] = "quintic",
        *,
        auxiliary: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "gum",
            lr=lr,
            variant=variant,
            rank=rank,
            period=period,
            full_blocks=full_blocks,
            weights=weights,
            moments=moments,
            momentum=momentum,
            ns_steps=ns_steps,
            eps=eps,
            adjust_lr_fn=adjust_lr_fn,
            weight_decay=weight_decay,
            ns_coefficients=ns_coefficients,
            auxiliary=auxiliary,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )


class AlphaDecay(Optimizer):
    """AdamW with a decay of its own per matrix, from its spectrum's power law.

    ::

        lambda_i = linear map of alpha_i to [low, high] lambda
        W <- (1 - lr lambda_i) W - lr U

    State of an m x n matrix, m <= n: 2mn (+ 1) entries.
    Worth tuning: lr, weight_decay as AdamW's; low and high 2/3 to 3 (5 for AdamW in the paper).

    Args:
        lr: learning rate; a one-element tensor where torch.compile should not see its changes
        betas: decays of the moments
        eps: added to the root
        weight_decay: lambda that the assignment starts from, > 0
        options: any other option of the recipe by its dotted name: `schatten recipes alpha_decay`

    Source: AlphaDecay, arXiv:2506.14562 (hed-ucas/AlphaDecay)
    """

    def __init__(
        self,
        params: Params,
        lr: float | Tensor = 0.001,
        betas: tuple[float, ...] = (0.9, 0.999),
        eps: float = 1e-08,
        weight_decay: float = 0.1,
        *,
        options: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            "alpha_decay",
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            options=options,
            state_dtype=state_dtype,
            seed=seed,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )
