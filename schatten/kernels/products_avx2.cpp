// float32 blocks by AVX2: a packed block is [32 along K][32].
#include <schatten/kernels/products_impl.h>

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

namespace schatten {
namespace {

constexpr int kBlock = 32;

void nothing() {}

/// c[4][16] += left[k][4]^T right[k][16]: 8 accumulators hide the latency of two multiply-adds a cycle.
void multiply(const std::byte* left, int64_t left_step, const std::byte* right, int64_t right_step, int64_t blocks,
              float* c, bool add) {
  for (int j = 0; j < kBlock; j += 16)
    for (int i = 0; i < kBlock; i += 4) {
      __m256 sum[4][2];
      for (int r = 0; r < 4; ++r)
        for (int h = 0; h < 2; ++h)
          sum[r][h] = add ? _mm256_load_ps(c + (i + r) * kBlock + j + 8 * h) : _mm256_setzero_ps();
      for (int64_t block = 0; block < blocks; ++block) {
        const float* a = reinterpret_cast<const float*>(left + block * left_step) + i;
        const float* b = reinterpret_cast<const float*>(right + block * right_step) + j;
        for (int k = 0; k < kBlock; ++k, a += kBlock, b += kBlock) {
          const __m256 b0 = _mm256_load_ps(b), b1 = _mm256_load_ps(b + 8);
#pragma GCC unroll 4
          for (int r = 0; r < 4; ++r) {
            const __m256 x = _mm256_broadcast_ss(a + r);
            sum[r][0] = _mm256_fmadd_ps(x, b0, sum[r][0]);
            sum[r][1] = _mm256_fmadd_ps(x, b1, sum[r][1]);
          }
        }
      }
      for (int r = 0; r < 4; ++r)
        for (int h = 0; h < 2; ++h) _mm256_store_ps(c + (i + r) * kBlock + j + 8 * h, sum[r][h]);
    }
}

void write(const float* c, std::byte* to) {
  auto* const out = reinterpret_cast<float*>(to);
  for (int x = 0; x < kBlock * kBlock; x += 8) _mm256_store_ps(out + x, _mm256_load_ps(c + x));
}

/// The bits of the nearest bfloat16 numbers, ties to even, in the upper halves; NaN stays NaN.
__m256i rounded_to_bf16(__m256 v) {
  const __m256i bits = _mm256_castps_si256(v),
                odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256 rounded = _mm256_castsi256_ps(_mm256_and_si256(up, _mm256_set1_epi32(static_cast<int>(0xffff0000))));
  const __m256 quiet = _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_set1_epi32(0x400000)));
  return _mm256_castps_si256(_mm256_blendv_ps(rounded, quiet, _mm256_cmp_ps(v, v, _CMP_UNORD_Q)));
}

void write_rounded(const float* c, std::byte* to) {
  auto* const out = reinterpret_cast<float*>(to);
  for (int x = 0; x < kBlock * kBlock; x += 8)
    _mm256_store_ps(out + x, _mm256_castsi256_ps(rounded_to_bf16(_mm256_load_ps(c + x))));
}

void load_f32(const float* from, int64_t stride, float scale, float* c) {
  const __m256 by = _mm256_set1_ps(scale);
  for (int r = 0; r < kBlock; ++r, from += stride, c += kBlock)
    for (int h = 0; h < kBlock; h += 8) _mm256_store_ps(c + h, _mm256_mul_ps(by, _mm256_loadu_ps(from + h)));
}

void load_bf16(const uint16_t* from, int64_t stride, float scale, float* c) {
  const __m256 by = _mm256_set1_ps(scale);
  for (int r = 0; r < kBlock; ++r, from += stride, c += kBlock)
    for (int h = 0; h < kBlock; h += 8) {
      const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + h)));
      _mm256_store_ps(c + h, _mm256_mul_ps(by, _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16))));
    }
}

void store_f32(const float* c, float* to, int64_t stride) {
  for (int r = 0; r < kBlock; ++r, c += kBlock, to += stride)
    for (int h = 0; h < kBlock; h += 8) _mm256_storeu_ps(to + h, _mm256_load_ps(c + h));
}

void store_bf16(const float* c, uint16_t* to, int64_t stride) {
  for (int r = 0; r < kBlock; ++r, c += kBlock, to += stride)
    for (int h = 0; h < kBlock; h += 16) {
      const __m256i low = _mm256_srli_epi32(rounded_to_bf16(_mm256_load_ps(c + h)), 16);
      const __m256i high = _mm256_srli_epi32(rounded_to_bf16(_mm256_load_ps(c + h + 8)), 16);
      const __m256i both = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + h), both);
    }
}

void scale_add(float* c, float alpha, float beta, const std::byte* right) {
  const auto* const s = reinterpret_cast<const float*>(right);
  const __m256 va = _mm256_set1_ps(alpha), vb = _mm256_set1_ps(beta);
  for (int x = 0; x < kBlock * kBlock; x += 8) {
    const __m256 scaled = _mm256_mul_ps(va, _mm256_load_ps(c + x));
    _mm256_store_ps(c + x, s ? _mm256_fmadd_ps(vb, _mm256_load_ps(s + x), scaled) : scaled);
  }
}

void transpose8(const float* from, float* to) {
  __m256 r[8], u[8];
  for (int i = 0; i < 8; ++i) r[i] = _mm256_load_ps(from + i * kBlock);
  for (int i = 0; i < 8; i += 2) {
    u[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    u[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(u[i], u[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(u[i], u[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(u[i + 1], u[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(u[i + 1], u[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_store_ps(to + i * kBlock, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_store_ps(to + (i + 4) * kBlock, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}

void transpose(const float* c, float* t) {
  for (int i = 0; i < kBlock; i += 8)
    for (int j = 0; j < kBlock; j += 8) transpose8(c + i * kBlock + j, t + j * kBlock + i);
}

void pack_transposed(const std::byte* block, std::byte* to) {
  transpose(reinterpret_cast<const float*>(block), reinterpret_cast<float*>(to));
}

constexpr BlockKernels kernels_writing(void (*write_block)(const float*, std::byte*)) {
  return {4096,        2,         nothing,   nothing,  multiply,  pack_transposed, true,      nullptr, pack_transposed,
          write_block, scale_add, transpose, load_f32, load_bf16, store_f32,       store_bf16};
}
constexpr BlockKernels kFloat32 = kernels_writing(write), kRounded = kernels_writing(write_rounded);

}  // namespace

const BlockKernels* float32_avx2() { return &kFloat32; }
const BlockKernels* rounded_avx2() { return &kRounded; }

}  // namespace schatten
#else
namespace schatten {
const BlockKernels* float32_avx2() { return nullptr; }
const BlockKernels* rounded_avx2() { return nullptr; }
}  // namespace schatten
#endif
