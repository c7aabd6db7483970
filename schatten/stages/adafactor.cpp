#include <ATen/ATen.h>
#include <schatten/stages/adafactor.h>
#include <schatten/stages/checks.h>

#include <cmath>

namespace schatten {

Stage scale_by_adafactor(const ScaleByAdafactor& o) {
  check_share("scale_by_adafactor", "beta1", o.beta1);
  check_positive("scale_by_adafactor", "eps", o.eps);
  check_positive("scale_by_adafactor", "clip", o.clip);
  check_positive("scale_by_adafactor", "-decay_rate", -o.decay_rate);
  return o;
}

StateSpec ScaleByAdafactor::state(const Bucket& b) const {
  StateSpec spec{.name = name(),
                 .slots = {{.name = "exp_avg_sq_row", .shape = {b.rows, 1}, .follows = Follows::permutation},
                           {.name = "exp_avg_sq_col", .shape = {1, b.cols}, .follows = Follows::permutation}}};
  if (beta1 > 0) spec.slots.push_back({"exp_avg"});
  return spec;
}

Tensor ScaleByAdafactor::apply(const Tensor& u, State& s, const Step& step) const {
  Tensor& row = s["exp_avg_sq_row"];
  Tensor& col = s["exp_avg_sq_col"];
  const double share = std::pow(static_cast<double>(step.step), decay_rate);  // 1 - b_t
  const Tensor squares = u.square().add_(eps);
  row.lerp_(squares.mean(-1, true), share);
  col.lerp_(squares.mean(-2, true), share);
  Tensor x = u.mul(row.div(row.mean(-2, true)).rsqrt_()).mul_(col.rsqrt());
  const Tensor rms = x.square().mean({-2, -1}, true).sqrt_();
  x.div_(rms.div_(clip).clamp_min_(1));
  if (beta1 == 0) return x;
  Tensor& m = s["exp_avg"];
  m.lerp_(x.mul(step.lr), 1 - beta1);
  return step.lr == 0 ? x.mul_(0) : m.div(step.lr);
}

}  // namespace schatten
