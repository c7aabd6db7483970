#include <ATen/ATen.h>
#include <schatten/stages/adam_8bit.h>
#include <schatten/stages/checks.h>

#include <algorithm>
#include <cmath>

namespace schatten {

namespace {

constexpr int64_t kBlock = 256;
constexpr int kDecades = 7;

int64_t blocks_of(int64_t entries) { return (entries + kBlock - 1) / kBlock; }

/// One of the two maps with the midpoints that rounding to the nearest value goes by.
struct Map {
  Tensor values, midpoints;
};

Map make_map(bool with_sign) {
  const std::vector<float> values = dynamic_map_8bit(with_sign);
  const Tensor all = at::tensor(values);
  const auto last = static_cast<int64_t>(values.size()) - 1;
  return {all, all.narrow(0, 0, last).add(all.narrow(0, 1, last)).div_(2)};
}

const Map& map_of(bool with_sign) {
  static const Map both = make_map(true), positive = make_map(false);
  return with_sign ? both : positive;
}

/// [.., m, n] as [.., blocks, 256], the last block filled up with zeros.
Tensor in_blocks(const Tensor& x) {
  const Tensor flat = x.flatten(-2, -1);
  const int64_t blocks = blocks_of(flat.size(-1));
  return at::constant_pad_nd(flat, {0, blocks * kBlock - flat.size(-1)}).unflatten(-1, {blocks, kBlock});
}
Tensor out_of_blocks(const Tensor& blocks, const Tensor& like) {
  return blocks.flatten(-2, -1).narrow(-1, 0, like.size(-2) * like.size(-1)).reshape(like.sizes());
}

/// The stored moment, in float32.
Tensor decoded(const Tensor& code, const Tensor& largest, const Map& map) {
  const Tensor values = map.values.to(code.device()).index_select(0, code.flatten().to(at::kInt)).view(code.sizes());
  return out_of_blocks(in_blocks(values).mul_(largest.unsqueeze(-1)), code);
}

void encode(const Tensor& moment, Tensor& code, Tensor& largest, const Map& map) {
  const Tensor blocks = in_blocks(moment);
  largest.copy_(blocks.abs().amax(-1));
  const Tensor relative = blocks.div(largest.unsqueeze(-1)).nan_to_num_(0, 0, 0);  // 0 / 0: a block of zeros
  code.copy_(out_of_blocks(at::bucketize(relative, map.midpoints.to(moment.device()), true), code));
}

}  // namespace

std::vector<float> dynamic_map_8bit(bool with_sign) {
  std::vector<float> values{0, 1};
  for (int i = 0; i < kDecades; ++i) {
    const int parts = 1 << (with_sign ? i : i + 1);
    const double decade = std::pow(10.0, i - (kDecades - 1));
    for (int k = 0; k < parts; ++k) {
      const auto value = static_cast<float>(decade * (0.1 + 0.9 * (k + 0.5) / parts));
      values.push_back(value);
      if (with_sign) values.push_back(-value);
    }
  }
  std::sort(values.begin(), values.end());
  return values;
}

Stage scale_by_adam_8bit(const ScaleByAdam8bit& o) {
  check_share("scale_by_adam_8bit", "beta1", o.beta1);
  check_share("scale_by_adam_8bit", "beta2", o.beta2);
  check_non_negative("scale_by_adam_8bit", "eps", o.eps);
  if (o.smallest < 0) fail_usage({"scale_by_adam_8bit", "smallest >= 0", std::to_string(o.smallest), ""});
  return o;
}

StateSpec ScaleByAdam8bit::state(const Bucket& b) const {
  const auto second = Follows::permutation;
  if (b.rows * b.cols < smallest)
    return {.name = name(), .slots = {{"exp_avg"}, {.name = "exp_avg_sq", .follows = second}}};
  const std::vector<int64_t> blocks{blocks_of(b.rows * b.cols)};
  return {.name = name(),
          .slots = {{.name = "exp_avg_code", .dtype = at::kByte},
                    {.name = "exp_avg_max", .shape = blocks, .dtype = at::kFloat},
                    {.name = "exp_avg_sq_code", .dtype = at::kByte, .follows = second},
                    {.name = "exp_avg_sq_max", .shape = blocks, .dtype = at::kFloat, .follows = second}}};
}

Tensor ScaleByAdam8bit::apply(const Tensor& u, State& s, const Step& step) const {
  const auto t = static_cast<double>(step.step);
  const double correction1 = 1 - std::pow(beta1, t), root_correction2 = std::sqrt(1 - std::pow(beta2, t));
  const auto advance_and_divide = [&](Tensor& m, Tensor& v, const Tensor& g) {
    m.lerp_(g, 1 - beta1);
    v.mul_(beta2).addcmul_(g, g, 1 - beta2);
    return m.div(v.sqrt().add_(eps * root_correction2)).mul_(root_correction2 / correction1);
  };
  if (u.size(-2) * u.size(-1) < smallest) return advance_and_divide(s["exp_avg"], s["exp_avg_sq"], u);
  Tensor m = decoded(s["exp_avg_code"], s["exp_avg_max"], map_of(true));
  Tensor v = decoded(s["exp_avg_sq_code"], s["exp_avg_sq_max"], map_of(false));
  const Tensor update = advance_and_divide(m, v, u.to(at::kFloat));
  encode(m, s["exp_avg_code"], s["exp_avg_max"], map_of(true));
  encode(v, s["exp_avg_sq_code"], s["exp_avg_sq_max"], map_of(false));
  return update.to(u.scalar_type(), false, true);
}

}  // namespace schatten
