"""The stages that optimizers are made of; `schatten.compose` puts them together.

Written by tools/refresh_python.py from the registry of stages. Do not edit.

A stage is a plain dict. Where a stage takes another (``inner``), a list of stages is a chain; None is the stage that stands in the
text. ``named`` keeps the stage's state under another name, which two stages of one kind in one chain need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .compose import Inner, Stage, made

__all__ = [
    "adam_correction",
    "alternate",
    "cautious",
    "cosmos_direction",
    "ema",
    "heavy_ball",
    "identity",
    "in_blocks",
    "in_eigenbasis",
    "in_random_subspace",
    "in_subspace",
    "limit_norm_growth",
    "lion_momentum",
    "low_rank_polar",
    "normalize_rows",
    "normalize_update",
    "normalize_variance",
    "orthogonalize",
    "orthogonalize_largest",
    "scale",
    "scale_by_adafactor",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_adam_8bit",
    "scale_by_adam_mini",
    "scale_by_ademamix",
    "scale_by_shape",
    "scale_by_sophia",
    "scale_channels_like",
    "schatten_descent",
    "shampoo_precondition",
    "sign",
    "sign_between",
    "spectral_power",
    "subspace_and_residual",
    "variance_reduction",
    "vectors_apart",
]


def identity(*, named: str | None = None) -> Stage:
    """U = G."""
    return made("identity", named)


def ema(beta: float = 0.95, nesterov: bool = False, *, named: str | None = None) -> Stage:
    """Exponential moving average of the gradient.

    Args:
        beta: decay of the average, in [0, 1)
        nesterov: mix the current gradient in once more
    """
    return made("ema", named, beta=beta, nesterov=nesterov)


def heavy_ball(momentum: float = 0.9, nesterov: bool = False, *, named: str | None = None) -> Stage:
    """Momentum as a sum.

    Args:
        momentum: decay of the sum, in [0, 1)
        nesterov: look one step ahead
    """
    return made("heavy_ball", named, momentum=momentum, nesterov=nesterov)


def scale_by_adam(beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-08, form: str = "torch", *, named: str | None = None) -> Stage:
    """First moment over root of second.

    Args:
        beta1: decay of the first moment, in [0, 1)
        beta2: decay of the second moment, in [0, 1)
        eps: added to the root
        form: torch: eps on the corrected root; uncorrected_eps: on the raw one; uncorrected: none
    """
    return made("scale_by_adam", named, beta1=beta1, beta2=beta2, eps=eps, form=form)


def scale_by_adagrad(
    eps: float = 1e-10, initial_accumulator_value: float = 0.0, lr_decay: float = 0.0, *, named: str | None = None
) -> Stage:
    """Over the root of the sum of squares.

    Args:
        eps: added to the root
        initial_accumulator_value: what the sum starts from
        lr_decay: the t-th update is divided by 1 + (t - 1) lr_decay
    """
    return made("scale_by_adagrad", named, eps=eps, initial_accumulator_value=initial_accumulator_value, lr_decay=lr_decay)


def scale_by_adam_mini(beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-08, *, named: str | None = None) -> Stage:
    """Adam with a second moment per block.

    Args:
        beta1: decay of the first moment, in [0, 1)
        beta2: decay of the second moment, in [0, 1)
        eps: added to the root
    """
    return made("scale_by_adam_mini", named, beta1=beta1, beta2=beta2, eps=eps)


def scale_by_ademamix(
    beta1: float = 0.9,
    beta2: float = 0.999,
    beta3: float = 0.9999,
    alpha: float = 2.0,
    eps: float = 1e-08,
    alpha_warmup: int = 0,
    beta3_warmup: int = 0,
    *,
    named: str | None = None,
) -> Stage:
    """Adam with a second, slower average.

    Args:
        beta1: decay of the fast average, in [0, 1)
        beta2: decay of the second moment, in [0, 1)
        beta3: decay of the slow average, in [0, 1)
        alpha: weight of the slow average
        eps: added to the root
        alpha_warmup: steps in which alpha grows from 0; 0: none
        beta3_warmup: steps in which beta3 grows from beta1; 0: none
    """
    return made(
        "scale_by_ademamix",
        named,
        beta1=beta1,
        beta2=beta2,
        beta3=beta3,
        alpha=alpha,
        eps=eps,
        alpha_warmup=alpha_warmup,
        beta3_warmup=beta3_warmup,
    )


def scale_by_sophia(
    beta1: float = 0.965,
    beta2: float = 0.99,
    rho: float = 0.04,
    bs: float = 5120.0,
    estimator: str = "gauss_newton",
    probe_every: int = 10,
    *,
    named: str | None = None,
) -> Stage:
    """Momentum over a diagonal of the Hessian.

    Args:
        beta1: decay of the momentum, in [0, 1)
        beta2: decay of the Hessian's average, in [0, 1)
        rho: what the Hessian is multiplied by: smaller means more entries at 1
        bs: gauss_newton: tokens per probe (batch size times length)
        estimator: gauss_newton (gradient on sampled labels), hutchinson (u * (H u))
        probe_every: steps between two probes
    """
    return made("scale_by_sophia", named, beta1=beta1, beta2=beta2, rho=rho, bs=bs, estimator=estimator, probe_every=probe_every)


def lion_momentum(beta1: float = 0.9, beta2: float = 0.99, *, named: str | None = None) -> Stage:
    """One buffer mixed at two rates.

    Args:
        beta1: share of the buffer in the direction, in [0, 1)
        beta2: decay of the buffer, in [0, 1)
    """
    return made("lion_momentum", named, beta1=beta1, beta2=beta2)


def variance_reduction(beta1: float = 0.95, gamma: float = 0.025, max_norm: float = 1.0, *, named: str | None = None) -> Stage:
    """The gradient and its change, clipped.

    Args:
        beta1: decay of the average that follows, in [0, 1)
        gamma: strength of the correction; 0: none
        max_norm: largest Frobenius norm of the result; 0: any
    """
    return made("variance_reduction", named, beta1=beta1, gamma=gamma, max_norm=max_norm)


def vectors_apart(
    vectors: Inner | None = None, rate: float = 1.0, conv: bool = False, inner: Inner | None = None, *, named: str | None = None
) -> Stage:
    """Vectors take a stage of their own.

    Args:
        vectors: the stage or chain of the vectors
        rate: their rate as a share of lr
        conv: convolution filters go with the vectors
        inner: the stage or chain inside; scale_by_adam where None
    """
    return made("vectors_apart", named, vectors=vectors, rate=rate, conv=conv, inner=inner)


def orthogonalize(
    schedule: str = "quintic",
    steps: int = 0,
    eps: float = 1e-07,
    eps_mode: str = "add",
    rounding: str = "fused",
    compute: str = "auto",
    iteration: str = "auto",
    restarts: Sequence[Any] = (),
    coefficients: Sequence[Any] = (),
    norm_margin: float = 0.0,
    *,
    named: str | None = None,
) -> Stage:
    """Singular values towards 1 (Newton-Schulz).

    Args:
        schedule: quintic, cubic, you, modded, polar_express, gram105, aol_a, aol_b, ...; or exact (SVD)
        steps: iterations; 0: as many as the schedule was published with (quintic: 5)
        eps: guards the division by the Frobenius norm
        eps_mode: add: |X|_F + eps; clamp: max(|X|_F, eps)
        rounding: textbook: scaled_before (Jordan), scaled_after (dion), fused (torch)
        compute: auto, bfloat16, bfloat16x2, float32, float64
        iteration: auto (the cheapest for the shape), textbook, triangle, gram
        restarts: gram: steps, from 0, before which X X^T is formed anew; []: as the dtype needs, [0]: never
        coefficients: [[a, b, c], ...] in place of a schedule and its steps
        norm_margin: X is divided by this times |X|_F; 0: the schedule's own
    """
    return made(
        "orthogonalize",
        named,
        schedule=schedule,
        steps=steps,
        eps=eps,
        eps_mode=eps_mode,
        rounding=rounding,
        compute=compute,
        iteration=iteration,
        restarts=restarts,
        coefficients=coefficients,
        norm_margin=norm_margin,
    )


def orthogonalize_largest(
    fraction: float = 0.25, decay: float = 0.95, polar: Mapping[str, Any] | None = None, *, named: str | None = None
) -> Stage:
    """The largest rows only, the rest waits.

    Args:
        fraction: share of the rows (or columns) per step, in (0, 1]
        decay: what stays of a chosen row's momentum, in [0, 1)
        polar: the iteration: schedule, steps, eps, ...
    """
    return made("orthogonalize_largest", named, fraction=fraction, decay=decay, polar=polar)


def low_rank_polar(rank: float = 0.25, mu: float = 0.95, eps: float = 1e-08, transpose: bool = True, *, named: str | None = None) -> Stage:
    """An orthogonal update of low rank, with error feedback.

    Args:
        rank: directions: a share of the smaller side in (0, 1), that many from 1 on, all for 0
        mu: share of the taken directions that stays in the momentum, in [0, 1)
        eps: guards the columns' lengths, > 0
        transpose: wide matrices transposed: Q follows the smaller side
    """
    return made("low_rank_polar", named, rank=rank, mu=mu, eps=eps, transpose=transpose)


def normalize_variance(
    of: str = "rows",
    beta2: float = 0.95,
    eps: float = 1e-10,
    eps_form: str = "root",
    size: str = "keep",
    rms: float = 0.2,
    size_eps: float = 1e-10,
    size_eps_mode: str = "add",
    released_conv: bool = False,
    *,
    named: str | None = None,
) -> Stage:
    """Rows or entries by their running mean squares.

    Args:
        of: rows, longer (rows or columns, whichever are more), entries
        beta2: decay of the mean squares, in [0, 1)
        eps: guards the division by their root
        eps_form: root: sqrt(v) + eps; inside: sqrt(v + eps); floor: sqrt(max(v, eps))
        size: keep: the norm that came in; rms: a given root mean square
        rms: that root mean square
        size_eps: guards the division by the norm
        size_eps_mode: add, clamp
        released_conv: conv filters as in the released codes
    """
    return made(
        "normalize_variance",
        named,
        of=of,
        beta2=beta2,
        eps=eps,
        eps_form=eps_form,
        size=size,
        rms=rms,
        size_eps=size_eps,
        size_eps_mode=size_eps_mode,
        released_conv=released_conv,
    )


def normalize_rows(eps: float = 1e-12, eps_mode: str = "clamp", *, named: str | None = None) -> Stage:
    """Rows of unit length.

    Args:
        eps: guards the division by the length, > 0
        eps_mode: add, clamp
    """
    return made("normalize_rows", named, eps=eps, eps_mode=eps_mode)


def sign_between(
    every: int = 5,
    rate: float = 0.025,
    trigger: float = 0.0,
    power_iterations: int = 3,
    inner: Inner | None = None,
    *,
    named: str | None = None,
) -> Stage:
    """A stage every P-th step, signs between.

    Args:
        every: period P of the inner stage; 1: always
        rate: rate of the sign steps as a share of lr
        trigger: a > 0: the inner stage where |X|_F^2 <= a min(m, n) sigma_1^2, whatever the period
        power_iterations: for sigma_1 of the trigger
        inner: the stage or chain inside; scale_by_adam where None
    """
    return made("sign_between", named, every=every, rate=rate, trigger=trigger, power_iterations=power_iterations, inner=inner)


def in_blocks(by: str = "heads", inner: Inner | None = None, *, named: str | None = None) -> Stage:
    """A stage on each head or fused part.

    Args:
        by: heads, fused (whole q, k, v of a fused projection)
        inner: the stage or chain inside; scale_by_adam where None
    """
    return made("in_blocks", named, by=by, inner=inner)


def spectral_power(
    power: float = 0.125,
    method: str = "auto",
    interval: float = 0.005,
    poles: int = 4,
    deflate: int = 12,
    ns_steps: int = 5,
    root_steps: int = 5,
    root_eps: float = 1e-06,
    compute: str = "auto",
    *,
    named: str | None = None,
) -> Stage:
    """Singular values to the power p.

    Args:
        power: exponent p in [0, 1]
        method: auto, svd, eigh, rational, mixture; as released: released, rank, streaming
        interval: rational: accurate above this share of the largest singular value
        poles: rational: Cholesky inverses per step
        deflate: rational: leading directions mapped apart where many values lie below; 0: never
        ns_steps: released: iterations of the polar factor
        root_steps: released: iterations of every square root
        root_eps: released: added to the Gram matrix, whatever its size
        compute: auto (float64 for float64 weights, else bfloat16x2 with AMX where it does no harm, and float32), bfloat16x2,
            float32, float64; released: bfloat16, too
    """
    return made(
        "spectral_power",
        named,
        power=power,
        method=method,
        interval=interval,
        poles=poles,
        deflate=deflate,
        ns_steps=ns_steps,
        root_steps=root_steps,
        root_eps=root_eps,
        compute=compute,
    )


def schatten_descent(q: float = 9.0, norm: str = "lmo", *, named: str | None = None) -> Stage:
    """Steepest descent under a Schatten norm.

    Args:
        q: norm in [2, inf]: inf is Muon's, 2 Frobenius'
        norm: lmo (unit Schatten-q norm), steepest, rms (as large as Muon's), spec, none
    """
    return made("schatten_descent", named, q=q, norm=norm)


def alternate(every: int = 5, phase: int = 0, on: Inner | None = None, between: Inner | None = None, *, named: str | None = None) -> Stage:
    """One direction every k steps, another between.

    Args:
        every: period k >= 1
        phase: which of k steps: 0 is the last one
        on: the stage or chain of every k-th step; spectral_power where None
        between: the stage or chain of the others; orthogonalize where None
    """
    return made("alternate", named, every=every, phase=phase, on=on, between=between)


def shampoo_precondition(
    sides: str = "both",
    accumulation: str = "ema",
    beta: float = 0.95,
    eps: float = 1e-12,
    every: int = 10,
    max_dim: int = 10000,
    compute: str = "auto",
    products: str = "auto",
    *,
    named: str | None = None,
) -> Stage:
    """Roots of second moments of rows and columns.

    Args:
        sides: both, smaller (one-sided)
        accumulation: sum (Gupta et al.), ema
        beta: ema: decay of the statistics, in [0, 1)
        eps: added to their eigenvalues
        every: steps between two renewals of the roots
        max_dim: longer sides are left alone
        compute: of the eigenvalues: auto (the statistics' own dtype), float32, float64
        products: accuracy of matrix products: auto (bfloat16x2 with AMX, else float32), float32, bfloat16x2 (5e-6), bfloat16
            (2e-3)
    """
    return made(
        "shampoo_precondition",
        named,
        sides=sides,
        accumulation=accumulation,
        beta=beta,
        eps=eps,
        every=every,
        max_dim=max_dim,
        compute=compute,
        products=products,
    )


def in_eigenbasis(
    beta: float = 0.95,
    every: int = 10,
    max_dim: int = 10000,
    merge_dims: bool = False,
    precondition_1d: bool = False,
    products: str = "auto",
    inner: Inner | None = None,
    *,
    named: str | None = None,
) -> Stage:
    """A stage in the eigenbasis of Shampoo's statistics.

    Args:
        beta: decay of the statistics, in [0, 1)
        every: steps between two turns of the basis
        max_dim: dimensions longer than this keep their axes
        merge_dims: take dimensions of filters together as long as they stay within max_dim
        precondition_1d: vectors, too
        products: accuracy of matrix products: auto (bfloat16x2 with AMX, else float32), float32, bfloat16x2 (5e-6), bfloat16
            (2e-3)
        inner: the stage or chain inside; scale_by_adam where None
    """
    return made(
        "in_eigenbasis",
        named,
        beta=beta,
        every=every,
        max_dim=max_dim,
        merge_dims=merge_dims,
        precondition_1d=precondition_1d,
        products=products,
        inner=inner,
    )


def adam_correction(beta1: float = 0.9, beta2: float = 0.999, *, named: str | None = None) -> Stage:
    """Adam's bias corrections alone.

    Args:
        beta1: decay of the first moment, in [0, 1)
        beta2: decay of the second moment, in [0, 1)
    """
    return made("adam_correction", named, beta1=beta1, beta2=beta2)


def cosmos_direction(
    beta1: float = 0.95,
    beta2: float = 0.95,
    eps: float = 1e-08,
    rank: float = 0.1,
    lr_ratio: float = 0.2,
    gamma: float = 0.2,
    nesterov: bool = True,
    polar: Mapping[str, Any] | None = None,
    max_rows: int = 10000,
    released: bool = False,
    *,
    named: str | None = None,
) -> Stage:
    """Adam in a leading subspace, Muon outside it.

    Args:
        beta1: decay of the momentum, in [0, 1)
        beta2: decay of second moments and subspace, in [0, 1)
        eps: guards the divisions
        rank: of the subspace: a number, or a share of the smaller side where below 1
        lr_ratio: RMS of an update at lr 1
        gamma: weight of what is outside the subspace
        nesterov: look one step ahead
        polar: the iteration: schedule, steps, eps, eps_mode, rounding, compute
        max_rows: matrices with more rows are on Adam (embeddings, heads)
        released: as the authors' code: see Differs
    """
    return made(
        "cosmos_direction",
        named,
        beta1=beta1,
        beta2=beta2,
        eps=eps,
        rank=rank,
        lr_ratio=lr_ratio,
        gamma=gamma,
        nesterov=nesterov,
        polar=polar,
        max_rows=max_rows,
        released=released,
    )


def scale_by_shape(shape: str = "jordan", *, named: str | None = None) -> Stage:
    """A factor of the matrix shape.

    Args:
        shape: none, jordan, jordan_released, moonlight, bernstein
    """
    return made("scale_by_shape", named, shape=shape)


def scale(factor: float = 1.0, *, named: str | None = None) -> Stage:
    """A constant factor.

    Args:
        factor: what to multiply by
    """
    return made("scale", named, factor=factor)


def cautious(scale: str = "share", nesterov: float = 1.0, *, named: str | None = None) -> Stage:
    """Only entries that go where the gradient goes.

    Args:
        scale: share (of entries that pass), lion
        nesterov: mu where U was mixed with G by Nesterov's rule before; 1 otherwise
    """
    return made("cautious", named, scale=scale, nesterov=nesterov)


def sign(*, named: str | None = None) -> Stage:
    """Signs of the entries."""
    return made("sign", named)


def normalize_update(*, named: str | None = None) -> Stage:
    """Frobenius norm of an orthogonal update."""
    return made("normalize_update", named)


def scale_by_adafactor(
    beta1: float = 0.0, decay_rate: float = -0.8, eps: float = 1e-30, clip: float = 1.0, *, named: str | None = None
) -> Stage:
    """A second moment per row and per column.

    Args:
        beta1: decay of the average of steps, in [0, 1); 0: none
        decay_rate: < 0: b_t = 1 - t^decay_rate
        eps: added to squared gradients
        clip: largest RMS of a direction
    """
    return made("scale_by_adafactor", named, beta1=beta1, decay_rate=decay_rate, eps=eps, clip=clip)


def scale_by_adam_8bit(
    beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-08, smallest: int = 4096, *, named: str | None = None
) -> Stage:
    """Adam with moments in 8-bit codes.

    Args:
        beta1: decay of the first moment, in [0, 1)
        beta2: decay of the second moment, in [0, 1)
        eps: added to the corrected root
        smallest: matrices of fewer entries keep full moments
    """
    return made("scale_by_adam_8bit", named, beta1=beta1, beta2=beta2, eps=eps, smallest=smallest)


def in_subspace(
    rank: float = 0.25,
    refresh_every: int = 200,
    refresh: str = "gram",
    type: str = "std",
    scale: float = 1.0,
    moments: str = "keep",
    products: str = "auto",
    complement: Inner | str = "none",
    inner: Inner | None = None,
    *,
    named: str | None = None,
) -> Stage:
    """A stage on the leading singular directions.

    Args:
        rank: directions: >= 1 that many, below 1 that share of the smaller side
        refresh_every: steps between two searches for directions
        refresh: how directions are found: gram (the SVD's energy, faster), svd, randomized (fastest, a little less energy)
        type: std (the smaller side), reverse_std, left, right, full
        scale: alpha, on the way back
        moments: at a refresh: keep, transport, reset
        products: accuracy of matrix products: auto (bfloat16x2 with AMX, else float32), float32, bfloat16x2 (5e-6), bfloat16
            (2e-3)
        complement: a stage or chain for what the subspace leaves out, or none
        inner: the stage or chain inside; scale_by_adam where None
    """
    return made(
        "in_subspace",
        named,
        rank=rank,
        refresh_every=refresh_every,
        refresh=refresh,
        type=type,
        scale=scale,
        moments=moments,
        products=products,
        complement=complement,
        inner=inner,
    )


def subspace_and_residual(
    rank: float = 0.25,
    refresh_every: int = 200,
    refresh: str = "gram",
    type: str = "std",
    scale: float = 0.25,
    scale_type: str = "channel",
    limit: float = 1.01,
    residual_released: bool = False,
    limiter_released: bool = False,
    products: str = "auto",
    inner: Inner | None = None,
    *,
    named: str | None = None,
) -> Stage:
    """A stage in a subspace, the scaled gradient outside.

    Args:
        rank: directions: >= 1 that many, below 1 that share of the smaller side
        refresh_every: steps between two searches for directions
        refresh: how directions are found: gram (the SVD's energy, faster), svd, randomized (fastest, a little less energy)
        type: std (the smaller side), reverse_std, left, right
        scale: alpha, of the update inside
        scale_type: of the residual: channel, tensor
        limit: largest growth of the residual's norm per step
        residual_released: subtract alpha P P^T G only, as the released code does
        limiter_released: a zero first residual freezes it, as in the released code
        products: accuracy of matrix products: auto (bfloat16x2 with AMX, else float32), float32, bfloat16x2 (5e-6), bfloat16
            (2e-3)
        inner: the stage or chain inside; scale_by_adam where None
    """
    return made(
        "subspace_and_residual",
        named,
        rank=rank,
        refresh_every=refresh_every,
        refresh=refresh,
        type=type,
        scale=scale,
        scale_type=scale_type,
        limit=limit,
        residual_released=residual_released,
        limiter_released=limiter_released,
        products=products,
        inner=inner,
    )


def in_random_subspace(
    rank: float = 0.25,
    period: int = 200,
    refresh: str = "gram",
    full_blocks: float = 0.25,
    probability: float = 0.25,
    branches: Sequence[Any] = (),
    weights: str = "pre",
    moments: str = "reset",
    inner: Inner | None = None,
    *,
    named: str | None = None,
) -> Stage:
    """A stage in a subspace or, at times, outside of it.

    Args:
        rank: directions: >= 1 that many, below 1 that share of the smaller side
        period: K: steps with one subspace and one branch
        refresh: how directions are found: gram (the SVD's energy, faster), svd, randomized (fastest, a little less energy)
        full_blocks: blocks at full rank: >= 1 that many, below 1 that share; 0: each parameter alone
        probability: q in (0, 1) of parameters outside blocks, or drawn alone
        branches: the first periods' branches, 1 for full rank, in place of draws
        weights: by inverse probability: pre, post (unbiased), none
        moments: at a new period: reset, transport, keep (the latter two: as long as the branch stays)
        inner: the stage or chain inside; scale_by_adam where None
    """
    return made(
        "in_random_subspace",
        named,
        rank=rank,
        period=period,
        refresh=refresh,
        full_blocks=full_blocks,
        probability=probability,
        branches=branches,
        weights=weights,
        moments=moments,
        inner=inner,
    )


def scale_channels_like(
    rank: float = 0.25,
    refresh_every: int = 200,
    refresh: str = "gram",
    projection: str = "random",
    type: str = "std",
    scale_type: str = "channel",
    seed: int = 0,
    keep_projection: bool = False,
    products: str = "auto",
    inner: Inner | None = None,
    *,
    named: str | None = None,
) -> Stage:
    """G with the channel sizes of a small stage's update.

    Args:
        rank: directions: >= 1 that many, below 1 that share of the smaller side
        refresh_every: steps between two projections
        refresh: how directions are found: gram (the SVD's energy, faster), svd, randomized (fastest, a little less energy)
        projection: random (redrawn from a seed), svd
        type: std (the smaller side is projected), reverse_std, left, right
        scale_type: channel, tensor
        seed: of the first random projection; 0: the parameter's position, counted from 1
        keep_projection: random: P stays in the state (as in the code), no draw in each step
        products: accuracy of matrix products: auto (bfloat16x2 with AMX, else float32), float32, bfloat16x2 (5e-6), bfloat16
            (2e-3)
        inner: the stage or chain inside; scale_by_adam where None
    """
    return made(
        "scale_channels_like",
        named,
        rank=rank,
        refresh_every=refresh_every,
        refresh=refresh,
        projection=projection,
        type=type,
        scale_type=scale_type,
        seed=seed,
        keep_projection=keep_projection,
        products=products,
        inner=inner,
    )


def limit_norm_growth(limit: float = 1.01, released: bool = False, *, named: str | None = None) -> Stage:
    """At most 1 % more norm than the step before.

    Args:
        limit: gamma > 1: growth of the norm per step
        released: a zero first gradient freezes the matrix, as in the released codes
    """
    return made("limit_norm_growth", named, limit=limit, released=released)
