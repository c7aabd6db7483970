// bfloat16 by its bits. Not for files with flags of their own: see products_impl.h.
#pragma once
#include <bit>
#include <cstdint>

namespace schatten {

inline float widened(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

/// The nearest one, ties to even; NaN is 0x7fc0.
inline uint16_t bfloat16_bits(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return x != x ? 0x7fc0 : static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace schatten
