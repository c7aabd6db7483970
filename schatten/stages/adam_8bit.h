// Adam whose moments are kept as 8-bit codes.
#pragma once
#include <schatten/stages/stage.h>

namespace schatten {

/// Adam's direction from moments that are stored in blocks of 256 entries: one byte each and one float32, the block's
/// largest magnitude. The moments of this step are used before they are rounded.
///   m, v  as Adam's;   U = sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + eps sqrt(1 - beta2^t))       [.., m, n]
///   code  nearest of 256 values in [-1, 1] (v: in [0, 1]) to m / max|m| of the block: in decade 10^(i-6), i = 0..6,
///         the midpoints of 2^i (v: 2^(i+1)) equal parts of [0.1, 1] with either sign, and 0 and 1
/// Matrices of fewer than 4096 entries keep their moments as Adam does.
/// State     exp_avg_code, exp_avg_sq_code [m, n] bytes, exp_avg_max, exp_avg_sq_max [blocks] float32; small: exp_avg,
///           exp_avg_sq [m, n].
/// Locality  matrix (blocks run through it row by row).
/// Source    Dettmers et al. 2021, arXiv:2110.02861, bitsandbytes@95f9af30; as in jiaweizzhao/GaLore@2cc66f8.
/// Checked   identity/adam_8bit_*, law/*.
struct ScaleByAdam8bit {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  int64_t smallest = 4096;
  void fields(auto&& visit) {
    visit("beta1", beta1, "decay of the first moment, in [0, 1)");
    visit("beta2", beta2, "decay of the second moment, in [0, 1)");
    visit("eps", eps, "added to the corrected root");
    visit("smallest", smallest, "matrices of fewer entries keep full moments");
  }
  std::string name() const { return "scale_by_adam_8bit"; }
  Traits traits() const { return {.locality = Locality::matrix}; }
  StateSpec state(const Bucket& b) const;
  Tensor apply(const Tensor& u, State& s, const Step& step) const;
  Value to_value() const { return stage_value(name(), *this); }
};
Stage scale_by_adam_8bit(const ScaleByAdam8bit& options);

/// The 256 values, ascending; with both signs or without.
std::vector<float> dynamic_map_8bit(bool with_sign);

}  // namespace schatten
