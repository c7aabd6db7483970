#include <ATen/ATen.h>
#include <schatten/models/rotary_impl.h>

#include <utility>
#include <vector>

namespace schatten {
namespace {

/// position * frequency, [T, head_dim / 2] in float64
Tensor angles(const Architecture& a) {
  const int64_t head_dim = a.width / a.heads;
  const Tensor exponent = at::arange(0, head_dim, 2, at::kDouble) / static_cast<double>(head_dim);
  const Tensor frequency = at::pow(at::scalar_tensor(a.rope_base, at::kDouble), -exponent);
  return at::outer(at::arange(a.context, at::kDouble), frequency);
}

/// NVIDIA/ngpt lays out sine, cosine, sine, ... of the frequencies in turn and then takes the halves of that row for
/// sine and cosine.
std::vector<Tensor> official_tables(const Tensor& angle) {
  return at::stack({angle.sin(), angle.cos()}, -1).flatten(-2).chunk(2, -1);
}

Tensor turn_halves(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const auto halves = x.chunk(2, -1);
  const Tensor &a = halves[0], &b = halves[1];
  return at::cat({a * cos - b * sin, b * cos + a * sin}, -1);
}

Tensor turn_neighbours(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const auto pairs = x.unflatten(-1, {x.size(-1) / 2, 2}).unbind(-1);
  const Tensor &a = pairs[0], &b = pairs[1];
  return at::stack({a * cos - b * sin, b * cos + a * sin}, -1).flatten(-2);
}

/// The published code multiplies the crossed pair where a rotation adds it to the straight one.
Tensor cross_neighbours(const Tensor& x, const Tensor& first, const Tensor& second) {
  const auto pairs = x.unflatten(-1, {x.size(-1) / 2, 2}).unbind(-1);
  return at::stack({-pairs[1] * second, pairs[0] * first}, -1).flatten(-2);
}

}  // namespace

Rotary::Rotary(RotaryForm form, Tensor cos, Tensor sin) : form_(form), cos_(std::move(cos)), sin_(std::move(sin)) {}

Rotary::Rotary(const Architecture& architecture, at::ScalarType dtype) : form_(architecture.rotary) {
  const Tensor angle = angles(architecture);
  const std::vector<Tensor> tables =
      form_ == RotaryForm::official ? official_tables(angle) : std::vector<Tensor>{angle.cos(), angle.sin()};
  cos_ = tables[0].unsqueeze(1).to(dtype);
  sin_ = tables[1].unsqueeze(1).to(dtype);
}

Rotary Rotary::first(int64_t length) const { return {form_, cos_.narrow(0, 0, length), sin_.narrow(0, 0, length)}; }

Tensor Rotary::turn(const Tensor& x) const {
  switch (form_) {
    case RotaryForm::half: return turn_halves(x, cos_, sin_);
    case RotaryForm::interleaved: return turn_neighbours(x, cos_, sin_);
    case RotaryForm::official: break;
  }
  return cross_neighbours(x, cos_, sin_);
}

}  // namespace schatten
