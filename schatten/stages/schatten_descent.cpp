#include <ATen/ATen.h>
#include <schatten/core/text.h>
#include <schatten/linalg/svd_impl.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/schatten_descent.h>

#include <cmath>

namespace schatten {

namespace {

/// The factor beside `powers` = S^p where S was divided by its largest value.
double length(const Tensor& s, const Tensor& powers, double largest, double p, DescentNorm norm) {
  const double dual = at::linalg_vector_norm(s, 1 + p).item<double>();  // >= 1
  switch (norm) {
    case DescentNorm::lmo: return 1 / std::pow(dual, p);
    case DescentNorm::steepest: return largest * std::pow(dual, 1 - p);
    case DescentNorm::rms:
      return std::sqrt(static_cast<double>(s.numel())) / at::linalg_vector_norm(powers).item<double>();
    case DescentNorm::spec: return 1;
    case DescentNorm::none: break;
  }
  return std::pow(largest, p);
}

Tensor direction(const Tensor& x, double p, DescentNorm norm) {
  auto [u, s, vh] = at::linalg_svd(x, false);
  const double largest = s.numel() > 0 ? s[0].item<double>() : 0;
  if (largest == 0) return at::zeros_like(x);
  s = s / largest;
  const Tensor kept = s.gt(rank_floor(x.scalar_type(), x.size(0), x.size(1))).to(s.scalar_type());
  const Tensor powers = s.pow(p) * kept;  // 0^0 is 1: what is no singular value has no direction
  return at::mm(u * powers, vh) * length(s * kept, powers, largest, p, norm);
}

}  // namespace

Tensor SchattenDescent::apply(const Tensor& u, State&, const Step&) const {
  const double p = 1 / (q - 1);
  return with_each_matrix(u, [&](const Tensor& x) { return direction(x, p, norm); });
}

std::string SchattenDescent::decided(const Bucket& b, Isa) const {
  std::string text = "power ";
  append_real(text, 1 / (q - 1));
  return text + " by SVD in " + dtype_name(b.dtype);
}

Stage schatten_descent(const SchattenDescent& o) {
  std::string got;
  append_real(got, o.q);
  if (!(o.q >= 2))
    fail_usage({"schatten_descent", "q in [2, inf]", got, "inf is Muon, 2 normalised gradient descent."});
  return o;
}

}  // namespace schatten
