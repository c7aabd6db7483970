// Element-wise steps by AVX2: two registers stand for 16 entries.
#include <schatten/kernels/elementwise_impl.h>

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

namespace schatten {
namespace {

struct Lanes {
  __m256 low, high;
};

inline Lanes all(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Lanes operator+(Lanes a, Lanes b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
inline Lanes operator-(Lanes a, Lanes b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
inline Lanes operator*(Lanes a, Lanes b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
inline Lanes operator/(Lanes a, Lanes b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
inline Lanes multiply_add(Lanes a, Lanes b, Lanes c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
inline Lanes root(Lanes a) { return {_mm256_sqrt_ps(a.low), _mm256_sqrt_ps(a.high)}; }

/// NaN stays.
inline __m256 sign(__m256 a) {
  const __m256 zero = _mm256_setzero_ps(), one = _mm256_set1_ps(1);
  __m256 s = _mm256_blendv_ps(a, zero, _mm256_cmp_ps(a, zero, _CMP_EQ_OQ));
  s = _mm256_blendv_ps(s, one, _mm256_cmp_ps(a, zero, _CMP_GT_OQ));
  return _mm256_blendv_ps(s, _mm256_set1_ps(-1), _mm256_cmp_ps(a, zero, _CMP_LT_OQ));
}
inline Lanes sign(Lanes a) { return {sign(a.low), sign(a.high)}; }
inline __m256 one_where_not_negative(__m256 a) {
  return _mm256_and_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_GE_OQ), _mm256_set1_ps(1));
}
inline Lanes one_where_not_negative(Lanes a) { return {one_where_not_negative(a.low), one_where_not_negative(a.high)}; }

/// The upper halves; ties to even, NaN to 0x7fc0.
inline __m256i bfloat16_bits(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(_mm256_srli_epi32(up, 16), _mm256_set1_epi32(0x7fc0), nan);
}
inline __m256 widened(__m256i bits) { return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16)); }
inline Lanes round_to_bfloat16(Lanes a) { return {widened(bfloat16_bits(a.low)), widened(bfloat16_bits(a.high))}; }

inline Lanes load(const float* p, All) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline Lanes load(const uint16_t* p, All) {
  const auto* const q = reinterpret_cast<const __m128i*>(p);
  return {widened(_mm256_cvtepu16_epi32(_mm_loadu_si128(q))), widened(_mm256_cvtepu16_epi32(_mm_loadu_si128(q + 1)))};
}
inline void fetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
inline void store(float* p, Lanes a, All) {
  _mm256_storeu_ps(p, a.low);
  _mm256_storeu_ps(p + 8, a.high);
}
inline __m256i packed(Lanes a) {
  const __m256i mixed = _mm256_packus_epi32(bfloat16_bits(a.low), bfloat16_bits(a.high));  // quarters 0 2 1 3
  return _mm256_permute4x64_epi64(mixed, 0xd8);
}
inline void store(uint16_t* p, Lanes a, All) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), packed(a)); }
template <class Number>
inline Lanes load(const Number* p, Only only) {
  Number padded[16] = {};
  for (int k = 0; k < only.lanes; ++k) padded[k] = p[k];
  return load(padded, All{});
}
template <class Number>
inline void store(Number* p, Lanes a, Only only) {
  Number padded[16];
  store(padded, a, All{});
  for (int k = 0; k < only.lanes; ++k) p[k] = padded[k];
}

inline void store_past_caches(float* p, Lanes a, All) {
  _mm256_stream_ps(p, a.low);
  _mm256_stream_ps(p + 8, a.high);
}
inline void store_past_caches(uint16_t* p, Lanes a, All) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), packed(a));
}
template <class Number>
inline void store_past_caches(Number* p, Lanes a, Only only) {
  store(p, a, only);
}
inline void end_of_stores_past_caches() { _mm_sfence(); }

struct Sums {
  __m256d quarter[4];
};
inline Sums no_sums() {
  const __m256d zero = _mm256_setzero_pd();
  return {{zero, zero, zero, zero}};
}
inline void add_square(__m256d& sum, __m128 a) {
  const __m256d x = _mm256_cvtps_pd(a);
  sum = _mm256_fmadd_pd(x, x, sum);
}
inline void add_squares(Sums& s, Lanes a) {
  add_square(s.quarter[0], _mm256_castps256_ps128(a.low));
  add_square(s.quarter[1], _mm256_extractf128_ps(a.low, 1));
  add_square(s.quarter[2], _mm256_castps256_ps128(a.high));
  add_square(s.quarter[3], _mm256_extractf128_ps(a.high, 1));
}
inline void spread(const Sums& s, double* to) {
  for (int q = 0; q < 4; ++q) _mm256_storeu_pd(to + 4 * q, s.quarter[q]);
}

}  // namespace
}  // namespace schatten

#include <schatten/kernels/elementwise_body_impl.h>

namespace schatten {
const ElementwiseKernels* elementwise_avx2() { return &kKernels; }
}  // namespace schatten
#else
namespace schatten {
const ElementwiseKernels* elementwise_avx2() { return nullptr; }
}  // namespace schatten
#endif
