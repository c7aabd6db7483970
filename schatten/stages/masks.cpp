#include <ATen/ATen.h>
#include <schatten/stages/checks.h>
#include <schatten/stages/masks.h>

namespace schatten {

Stage cautious(const Cautious& o) {
  if (!(o.nesterov > 0 && o.nesterov <= 1))
    fail_usage({"cautious", "nesterov in (0, 1]", to_json(Value(o.nesterov)), "1: no mixing before the mask."});
  return o;
}

Tensor Cautious::apply(const Tensor& u, State&, const Step& step) const {
  const Tensor& g = step.grad;
  const Tensor m = nesterov == 1 ? u : u.sub(g, 1 - nesterov);  // mu M, where U was mixed
  // Signs: products of tiny entries would underflow.
  const Tensor passed = m.sign().mul_(g.sign()).gt(0).to(u.scalar_type());
  constexpr std::array<int64_t, 2> matrix{-2, -1};
  if (scale == MaskScale::lion) {
    const auto entries = static_cast<double>(u.size(-2) * u.size(-1));
    return u.mul(passed).mul_(entries).div_(passed.sum(matrix, true) + 1);
  }
  return u.mul(passed).div_(passed.mean(matrix, true).clamp_min(1e-3));
}

Stage sign() { return Sign{}; }
Tensor Sign::apply(const Tensor& u, State&, const Step&) const {
  return at::where(u.isnan(), u, u.sign());  // sign(NaN) is 0: a bad gradient would vanish in here
}

Stage scale(double factor) {
  check_non_negative("scale", "factor", factor);
  return Scale{factor};
}
Tensor Scale::apply(const Tensor& u, State&, const Step&) const { return u.mul(factor); }
Tensor Scale::apply_in_place(const Tensor& u, State&, const Step&) const { return factor == 1 ? u : u.mul_(factor); }

}  // namespace schatten
