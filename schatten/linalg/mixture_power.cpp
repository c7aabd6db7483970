#include <ATen/ATen.h>
#include <schatten/core/error.h>
#include <schatten/linalg/mixture_power.h>

#include <algorithm>
#include <cmath>

namespace schatten {

double MixturePower::operator()(double sigma) const {
  double f = sigma, sum = weights[0] * f;
  for (size_t t = 0; t < steps.size(); ++t) {
    const auto& [a, b, c] = steps[t];
    const double square = f * f;
    f *= a + square * (b + square * c);
    sum += weights[t + 1] * f;
  }
  return sum;
}

namespace {

const std::vector<MixturePower>& tables() {
  static const std::vector<MixturePower> all = {
      {.power = 0.125,
       .interval = 1e-3,
       .steps = {{4.172266, -8.808975, 5.557821},
                 {3.591866, -5.242686, 2.289125},
                 {3.531154, -4.951608, 2.080359},
                 {3.51112, -4.914702, 1.99825},
                 {3.272673, -4.475017, 1.937403},
                 {3.569016, -4.966976, 1.720456}},
       .weights = {.2595455, .1290138, .1035255, .09439812, .06202422, .3763014, .1422926}},
      {.power = 0.125,
       .interval = 1e-2,
       .steps = {{2.545734, -3.501565, 1.539459},
                 {2.837002, -4.663223, 2.42989},
                 {2.797041, -4.555525, 2.345069},
                 {2.721826, -4.221726, 2.147691},
                 {2.800198, -5.115534, 3.414376},
                 {4.593683, -5.082435, 1.874667}},
       .weights = {.2126858, .1346427, .1156861, .09324428, .04435496, .2240896, .1972238}},
      {.power = 0.25,
       .interval = 1e-2,
       .steps = {{2.445538, -3.556714, 1.616263},
                 {3.322964, -7.073623, 4.591315},
                 {2.951196, -5.211047, 2.769509},
                 {3.005629, -5.005571, 2.69637},
                 {4.395054, -4.743453, 2.083413}},
       .weights = {.4046148, .2335521, .1576147, .1058591, .08112152, .1198851}},
      {.power = 0.5,
       .interval = 1e-2,
       .steps = {{2.538438, -3.747868, 1.697183},
                 {3.004758, -5.672746, 3.275626},
                 {3.259582, -5.565063, 2.914797},
                 {2.678763, -3.580401, 1.502954},
                 {4.40075, -4.78828, 2.075691}},
       .weights = {.691545, .2111733, .1126882, .05764124, .03070749, .02598101}}};
  return all;
}

double scanned_error(const MixturePower& f) {
  constexpr int kPoints = 4000;
  double worst = 0;
  for (int i = 0; i <= kPoints; ++i) {
    const double sigma = std::pow(f.interval, 1 - static_cast<double>(i) / kPoints);
    worst = std::max(worst, std::abs(f(sigma) / std::pow(sigma, f.power) - 1));
  }
  return worst;
}

}  // namespace

bool has_mixture(double power) {
  return std::any_of(tables().begin(), tables().end(), [=](const MixturePower& t) { return t.power == power; });
}

MixturePower mixture_power(double power, double interval) {
  const MixturePower* found = nullptr;
  for (const MixturePower& t : tables())  // the widest interval first: the last that is short enough
    if (t.power == power && (!found || t.interval <= interval)) found = &t;
  if (!found)
    fail_usage({"mixture", "power 1/8, 1/4 or 1/2: the ones with a table", std::to_string(power),
                "method = \"rational\" takes any power; power = 0 is the stage orthogonalize."});
  MixturePower table = *found;
  table.error = scanned_error(table);
  return table;
}

Tensor spectral_power_mixture(const Tensor& x, const MixturePower& power) {
  TORCH_CHECK(x.dim() >= 2, "[spectral map] expects [.., m, n], got ", x.sizes(), ". Route vectors to adamw.");
  if (x.numel() == 0) return x.clone();
  const bool half = x.scalar_type() != at::kDouble && x.scalar_type() != at::kFloat;
  const Tensor full = half ? x.to(at::kFloat) : x, y = x.size(-2) > x.size(-1) ? full.mT() : full;
  const std::array<int64_t, 2> whole{-2, -1};
  // Fourth powers of tiny or huge gradients would leave the range of float32: largest entry first.
  const Tensor largest = at::linalg_vector_norm(y, INFINITY, whole, true), entry = largest.masked_fill(largest == 0, 1);
  Tensor work = y / entry, r = at::matmul(work, work.mT()), r2 = at::matmul(r, r);
  const Tensor norm = at::linalg_vector_norm(r2, 2, whole, true), fourth = norm.masked_fill(norm == 0, 1);
  const Tensor square = fourth.sqrt();  // of the bound
  r = r / square;
  r2 = r2 / fourth;
  Tensor q, sum = at::zeros_like(r);
  sum.diagonal(0, -2, -1).fill_(power.weights[0]);
  for (size_t t = 0; t < power.steps.size(); ++t) {
    const auto& [a, b, c] = power.steps[t];
    if (t > 0) r2 = at::matmul(r, r);
    Tensor z = r * b + r2 * c;
    z.diagonal(0, -2, -1).add_(a);
    q = q.defined() ? at::matmul(q, z) : z;
    sum.add_(q, power.weights[t + 1]);
    if (t + 1 < power.steps.size()) r = at::matmul(z, at::matmul(r, z));
  }
  const Tensor scale = entry.pow(power.power) * square.pow((power.power - 1) / 2);
  const Tensor out = at::matmul(sum, work) * scale;
  return (x.size(-2) > x.size(-1) ? out.mT() : out).contiguous().to(x.scalar_type());
}

}  // namespace schatten
