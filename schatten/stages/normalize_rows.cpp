#include <ATen/ATen.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/normalize_rows.h>

namespace schatten {

Stage normalize_rows(const NormalizeRows& o) {
  check_positive("normalize_rows", "eps", o.eps);
  return o;
}

Tensor NormalizeRows::apply(const Tensor& u, State&, const Step&) const {
  const Tensor length = at::linalg_vector_norm(u, 2, -1, true);
  return u.div(eps_mode == EpsMode::add ? length.add(eps) : length.clamp_min(eps));
}

}  // namespace schatten
