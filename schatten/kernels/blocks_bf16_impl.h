// bfloat16 blocks of the avx512_bf16 and amx_bf16 files. Instructions take two entries along K at once, so the right
// factor is packed as [16 pairs along K][32] of two entries each, for every part of an entry.
#pragma once
#include <schatten/kernels/blocks_avx512_impl.h>

#include <cstdint>

namespace schatten {
namespace {

constexpr int kEntries = kBlock * kBlock;

constexpr int kPart = kEntries * 2;  // bytes of one part of a block
constexpr int kRow = kBlock * 2;     // bytes of one stored row

template <int Parts>
void write(const float* c, std::byte* to) {
  for (int r = 0; r < kBlock; ++r) {
    __m512 low = _mm512_load_ps(c + r * kBlock), high = _mm512_load_ps(c + r * kBlock + 16);
#pragma GCC unroll 3
    for (int part = 0; part < Parts; ++part) {
      const auto row = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
      _mm512_store_si512(to + part * kPart + r * kRow, row);
      low = _mm512_sub_ps(low, widened(_mm512_castsi512_si256(row)));
      high = _mm512_sub_ps(high, widened(_mm512_extracti64x4_epi64(row, 1)));
    }
  }
}

template <int Parts>
void scale_add(float* c, float alpha, float beta, const std::byte* s) {
  const __m512 va = _mm512_set1_ps(alpha), vb = _mm512_set1_ps(beta);
  for (int r = 0; r < kBlock; ++r)
    for (int half = 0; half < 2; ++half) {
      __m512 sum = _mm512_setzero_ps();
      for (int part = Parts; s && part-- > 0;)  // the small parts first
        sum = _mm512_add_ps(
            sum, widened(_mm256_load_si256(reinterpret_cast<const __m256i*>(s + part * kPart + r * kRow + half * 32))));
      float* const at = c + r * kBlock + 16 * half;
      _mm512_store_ps(at, _mm512_fmadd_ps(vb, sum, _mm512_mul_ps(va, _mm512_load_ps(at))));
    }
}

/// Rows 2 p and 2 p + 1, entry beside entry.
template <int Parts>
void pack_pairs(const std::byte* block, std::byte* to) {
  alignas(64) static constexpr uint16_t kLow[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                                    8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i low = _mm512_load_si512(kLow), high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
  for (int p = 0; p < Parts * kBlock / 2; ++p) {
    const __m512i even = _mm512_load_si512(block + 2 * p * kRow), odd = _mm512_load_si512(block + (2 * p + 1) * kRow);
    _mm512_store_si512(to + 2 * p * kRow, _mm512_permutex2var_epi16(even, low, odd));
    _mm512_store_si512(to + (2 * p + 1) * kRow, _mm512_permutex2var_epi16(even, high, odd));
  }
}

/// The same of the transposed block: a pair is one number of 32 bits, so it turns as such.
template <int Parts>
void pack_transposed(const std::byte* block, std::byte* to) {
  for (int part = 0; part < Parts; ++part)
    for (int half = 0; half < 2; ++half)
      transpose16(reinterpret_cast<const float*>(block + part * kPart + half * kPart / 2), kBlock / 2,
                  reinterpret_cast<float*>(to + part * kPart) + half * 16, kBlock);
}

}  // namespace
}  // namespace schatten
