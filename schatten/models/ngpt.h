// nGPT: every vector of length `width` is a unit vector, and blocks move the residual stream on the sphere.
#pragma once
#include <schatten/models/language_model.h>

#include <memory>
#include <vector>

namespace schatten {

/// Kinds "ngpt" and "ngpt_gated"; N(x) = x / |x| over the last axis, and per block
///   h <- N(h + r_A (N(W_o attention(h)) - h)),   h <- N(h + r_M (N(W_down (u silu(g))) - h))
/// with q, k = s_qk N(rotary(W h)) per head, softmax scale sqrt(head_dim), [u; g] = sqrt(width) s_uv (W_fc h), and
/// logits = s_z (W_head h). r = |alpha|; "ngpt_gated": |alpha| sigmoid(gate).
/// "ngpt" takes N of the embedding once more where the first move starts, as its authors' code does: only the
/// embedding's gradient knows.
/// Vectors are stored as p with effective value p * init / scale and start at p = scale; gates start at 0:
///   alpha 0.05 (gated: 0.30), width^-1/2;   s_qk, s_z 1, width^-1/2;   s_uv 1, 1.
/// Matrices start with unit rows, W_o and W_down with unit columns (unit_axis); keeping them so is the optimizer's part.
/// Shapes   W_fc [2 ffn, width], its first half u; s_qk [width], head by head; s_uv [2 ffn].
/// Source   arXiv:2410.01131, NVIDIA/ngpt@ed19eb23 with a rotation in place of its rotary embedding. The gate is this
///          project's own: no paper defines it.
/// Checked  models/ngpt_golden_test (that code's numbers; gated: an independent reference), models/ngpt_test.
std::vector<ParameterInfo> ngpt_parameters(const Architecture& architecture);
std::unique_ptr<LanguageModel> make_ngpt(const Architecture& architecture, at::ScalarType dtype, const Rng& rng);
/// Ours: transformers does not have nGPT.
Value ngpt_config(const Architecture& architecture);

/// Kind "ngpt_gated_plan", the other gated model: learned positions, no rotary, no norm of q and k,
///   x <- N(x + sigmoid(gate) a F(x)),   logits = 15 N(x) . N(row of W_head)
/// with F attention or a GELU layer, not normalised, a one learned number (0.15 at first), N(x) = x / sqrt(|x|^2 + 1e-8).
/// Every matrix has unit rows.
/// Source   dnhkng/nGPT-muon@5a9ab2e2, train_architectural.py.   Checked  models/ngpt_golden_test.
std::vector<ParameterInfo> ngpt_plan_parameters(const Architecture& architecture);
std::unique_ptr<LanguageModel> make_ngpt_plan(const Architecture& architecture, at::ScalarType dtype, const Rng& rng);
Value ngpt_plan_config(const Architecture& architecture);

}  // namespace schatten
