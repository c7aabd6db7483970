// Element-wise steps by AVX-512.
#include <schatten/kernels/elementwise_impl.h>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include <immintrin.h>

namespace schatten {
namespace {

struct Lanes {
  __m512 x;
};

inline Lanes all(float x) { return {_mm512_set1_ps(x)}; }
inline Lanes operator+(Lanes a, Lanes b) { return {_mm512_add_ps(a.x, b.x)}; }
inline Lanes operator-(Lanes a, Lanes b) { return {_mm512_sub_ps(a.x, b.x)}; }
inline Lanes operator*(Lanes a, Lanes b) { return {_mm512_mul_ps(a.x, b.x)}; }
inline Lanes operator/(Lanes a, Lanes b) { return {_mm512_div_ps(a.x, b.x)}; }
inline Lanes multiply_add(Lanes a, Lanes b, Lanes c) { return {_mm512_fmadd_ps(a.x, b.x, c.x)}; }
inline Lanes root(Lanes a) { return {_mm512_sqrt_ps(a.x)}; }

/// NaN stays.
inline Lanes sign(Lanes a) {
  const __m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1);
  __m512 s = _mm512_mask_mov_ps(a.x, _mm512_cmp_ps_mask(a.x, zero, _CMP_EQ_OQ), zero);
  s = _mm512_mask_mov_ps(s, _mm512_cmp_ps_mask(a.x, zero, _CMP_GT_OQ), one);
  return {_mm512_mask_mov_ps(s, _mm512_cmp_ps_mask(a.x, zero, _CMP_LT_OQ), _mm512_set1_ps(-1))};
}
inline Lanes one_where_not_negative(Lanes a) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a.x, _mm512_setzero_ps(), _CMP_GE_OQ), _mm512_set1_ps(1))};
}

/// The upper halves; ties to even, NaN to 0x7fc0.
inline __m512i bfloat16_bits(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_mask_mov_epi32(_mm512_srli_epi32(up, 16), nan, _mm512_set1_epi32(0x7fc0));
}
inline Lanes round_to_bfloat16(Lanes a) { return {_mm512_castsi512_ps(_mm512_slli_epi32(bfloat16_bits(a.x), 16))}; }

inline __mmask16 mask(All) { return 0xffff; }
inline __mmask16 mask(Only only) { return static_cast<__mmask16>((1u << only.lanes) - 1); }

template <class Which>
inline Lanes load(const float* p, Which which) {
  return {_mm512_maskz_loadu_ps(mask(which), p)};
}
template <class Which>
inline Lanes load(const uint16_t* p, Which which) {
  const __m512i bits = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask(which), p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(bits, 16))};
}
inline void fetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
template <class Which>
inline void store(float* p, Lanes a, Which which) {
  _mm512_mask_storeu_ps(p, mask(which), a.x);
}
template <class Which>
inline void store(uint16_t* p, Lanes a, Which which) {
  _mm256_mask_storeu_epi16(p, mask(which), _mm512_cvtepi32_epi16(bfloat16_bits(a.x)));
}

inline void store_past_caches(float* p, Lanes a, All) { _mm512_stream_ps(p, a.x); }
inline void store_past_caches(uint16_t* p, Lanes a, All) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(bfloat16_bits(a.x)));
}
template <class Number>
inline void store_past_caches(Number* p, Lanes a, Only only) {
  store(p, a, only);
}
inline void end_of_stores_past_caches() { _mm_sfence(); }

struct Sums {
  __m512d low, high;
};
inline Sums no_sums() { return {_mm512_setzero_pd(), _mm512_setzero_pd()}; }
inline void add_squares(Sums& s, Lanes a) {
  const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(a.x));
  const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(a.x, 1));
  s.low = _mm512_fmadd_pd(low, low, s.low);
  s.high = _mm512_fmadd_pd(high, high, s.high);
}
inline void spread(const Sums& s, double* to) {
  _mm512_storeu_pd(to, s.low);
  _mm512_storeu_pd(to + 8, s.high);
}

}  // namespace
}  // namespace schatten

#include <schatten/kernels/elementwise_body_impl.h>

namespace schatten {
const ElementwiseKernels* elementwise_avx512() { return &kKernels; }
}  // namespace schatten
#else
namespace schatten {
const ElementwiseKernels* elementwise_avx512() { return nullptr; }
}  // namespace schatten
#endif
