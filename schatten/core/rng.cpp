#include <ATen/ATen.h>
#include <schatten/core/rng.h>

#include <cmath>
#include <numbers>

namespace schatten {

uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t z = a + 0x9e3779b97f4a7c15u * (b + 1);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

uint64_t fnv1a(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

__extension__ using Wide = unsigned __int128;

int64_t Rng::below(int64_t bound, uint64_t counter) const {
  return static_cast<int64_t>((static_cast<Wide>(bits(counter)) * static_cast<uint64_t>(bound)) >> 64);
}

Tensor Rng::normal(const std::vector<int64_t>& shape, at::ScalarType dtype) const {
  const Tensor draws = at::empty(shape, at::kDouble);
  double* out = draws.data_ptr<double>();
  const int64_t n = draws.numel();
  for (int64_t i = 0; i < n; i += 2) {
    const double radius = std::sqrt(-2 * std::log(1 - uniform(static_cast<uint64_t>(i))));
    const double angle = 2 * std::numbers::pi * uniform(static_cast<uint64_t>(i) + 1);
    out[i] = radius * std::cos(angle);
    if (i + 1 < n) out[i + 1] = radius * std::sin(angle);
  }
  return draws.to(dtype);
}

}  // namespace schatten
