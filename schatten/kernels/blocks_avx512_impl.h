// What the AVX-512 files share; every function has internal linkage, so that each file keeps its own copy.
#pragma once
#include <immintrin.h>
#include <schatten/kernels/products_impl.h>

#include <cstdint>

namespace schatten {
namespace {

constexpr int kBlock = 32;

inline void nothing() {}

/// 16 x 16 numbers of 32 bits, rows `from_row` and `to_row` numbers apart.
inline void transpose16(const float* from, int from_row, float* to, int to_row) {
  __m512 r[16], u[16];
  for (int i = 0; i < 16; ++i) r[i] = _mm512_load_ps(from + i * from_row);
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    u[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    u[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_shuffle_ps(u[i], u[i + 2], 0x44);
    r[i + 1] = _mm512_shuffle_ps(u[i], u[i + 2], 0xee);
    r[i + 2] = _mm512_shuffle_ps(u[i + 1], u[i + 3], 0x44);
    r[i + 3] = _mm512_shuffle_ps(u[i + 1], u[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // r[4 g + i] holds columns i, 4 + i, 8 + i, 12 + i of rows 4 g .. 4 g + 3
    u[i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0x88);
    u[4 + i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0xdd);
    u[8 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0x88);
    u[12 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    _mm512_store_ps(to + i * to_row, _mm512_shuffle_f32x4(u[i], u[8 + i], 0x88));
    _mm512_store_ps(to + (8 + i) * to_row, _mm512_shuffle_f32x4(u[i], u[8 + i], 0xdd));
    _mm512_store_ps(to + (4 + i) * to_row, _mm512_shuffle_f32x4(u[4 + i], u[12 + i], 0x88));
    _mm512_store_ps(to + (12 + i) * to_row, _mm512_shuffle_f32x4(u[4 + i], u[12 + i], 0xdd));
  }
}

inline void transpose(const float* c, float* t) {
  for (int i = 0; i < kBlock; i += 16)
    for (int j = 0; j < kBlock; j += 16) transpose16(c + i * kBlock + j, kBlock, t + j * kBlock + i, kBlock);
}

inline void load_f32(const float* from, int64_t stride, float scale, float* c) {
  const __m512 by = _mm512_set1_ps(scale);
  for (int r = 0; r < kBlock; ++r, from += stride, c += kBlock) {
    _mm512_store_ps(c, _mm512_mul_ps(by, _mm512_loadu_ps(from)));
    _mm512_store_ps(c + 16, _mm512_mul_ps(by, _mm512_loadu_ps(from + 16)));
  }
}

inline __m512 widened(__m256i half) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16)); }

inline void load_bf16(const uint16_t* from, int64_t stride, float scale, float* c) {
  const __m512 by = _mm512_set1_ps(scale);
  for (int r = 0; r < kBlock; ++r, from += stride, c += kBlock)
    for (int h = 0; h < 32; h += 16)
      _mm512_store_ps(c + h,
                      _mm512_mul_ps(by, widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + h)))));
}

inline void store_f32(const float* c, float* to, int64_t stride) {
  for (int r = 0; r < kBlock; ++r, c += kBlock, to += stride) {
    _mm512_storeu_ps(to, _mm512_load_ps(c));
    _mm512_storeu_ps(to + 16, _mm512_load_ps(c + 16));
  }
}

/// The bits of the nearest bfloat16 numbers, ties to even, in the upper halves; NaN stays NaN.
inline __m512i rounded_to_bf16(__m512 v) {
  const __m512i bits = _mm512_castps_si512(v),
                odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i cut = _mm512_and_si512(up, _mm512_set1_epi32(static_cast<int>(0xffff0000)));
  return _mm512_mask_or_epi32(cut, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), bits, _mm512_set1_epi32(0x400000));
}

inline void store_bf16(const float* c, uint16_t* to, int64_t stride) {
  for (int r = 0; r < kBlock; ++r, c += kBlock, to += stride)
    for (int h = 0; h < 32; h += 16)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + h),
                          _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded_to_bf16(_mm512_load_ps(c + h)), 16)));
}

}  // namespace
}  // namespace schatten
