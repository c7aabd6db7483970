// Randomness without state: every draw is a pure function of (seed, parameter, step, purpose).
#pragma once
#include <schatten/core/tensor.h>

#include <cstdint>
#include <string_view>
#include <vector>

namespace schatten {

/// Mixes 64-bit words into one (splitmix64 finaliser chained); the base of every draw.
uint64_t mix(uint64_t a, uint64_t b);
/// FNV-1a, 64 bit.
uint64_t fnv1a(std::string_view text);

/// A value: copying it copies nothing that changes. `rng.at(step).of("init")` gives sub-streams.
class Rng {
 public:
  explicit Rng(uint64_t seed = 0) : key_(mix(seed, 0x5c4a77e4u)) {}
  Rng of(std::string_view purpose) const { return Rng(mix(key_, fnv1a(purpose)), Raw{}); }
  Rng at(int64_t number) const { return Rng(mix(key_, static_cast<uint64_t>(number) + 1), Raw{}); }
  uint64_t key() const { return key_; }

  uint64_t bits(uint64_t counter) const { return mix(key_, counter); }
  double uniform(uint64_t counter) const { return static_cast<double>(bits(counter) >> 11) * 0x1.0p-53; }
  int64_t below(int64_t bound, uint64_t counter) const;  // unbiased to 2^-32 for bound < 2^32
  /// Standard normal tensor drawn in float64 (Box-Muller on the counter) and cast: same bits everywhere up to libm.
  Tensor normal(const std::vector<int64_t>& shape, at::ScalarType dtype) const;

 private:
  struct Raw {};
  Rng(uint64_t key, Raw) : key_(key) {}
  uint64_t key_;
};

}  // namespace schatten
