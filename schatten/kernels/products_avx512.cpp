// float32 blocks by AVX-512: a packed block is [32 along K][32].
#include <schatten/kernels/products_impl.h>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include <schatten/kernels/blocks_avx512_impl.h>

namespace schatten {
namespace {

/// c[8][32] += left[k][8]^T right[k][32]: 16 accumulators, each entry of the left factor broadcast from memory.
void multiply(const std::byte* left, int64_t left_step, const std::byte* right, int64_t right_step, int64_t blocks,
              float* c, bool add) {
  for (int i = 0; i < kBlock; i += 8) {
    float* const to = c + i * kBlock;
    __m512 sum[8][2];
    for (int r = 0; r < 8; ++r)
      for (int h = 0; h < 2; ++h) sum[r][h] = add ? _mm512_load_ps(to + r * kBlock + 16 * h) : _mm512_setzero_ps();
    for (int64_t block = 0; block < blocks; ++block) {
      const float* a = reinterpret_cast<const float*>(left + block * left_step) + i;
      const auto* b = reinterpret_cast<const float*>(right + block * right_step);
      for (int k = 0; k < kBlock; ++k, a += kBlock, b += kBlock) {
        const __m512 b0 = _mm512_load_ps(b), b1 = _mm512_load_ps(b + 16);
#pragma GCC unroll 8
        for (int r = 0; r < 8; ++r) {
          const __m512 x = _mm512_set1_ps(a[r]);
          sum[r][0] = _mm512_fmadd_ps(x, b0, sum[r][0]);
          sum[r][1] = _mm512_fmadd_ps(x, b1, sum[r][1]);
        }
      }
    }
    for (int r = 0; r < 8; ++r)
      for (int h = 0; h < 2; ++h) _mm512_store_ps(to + r * kBlock + 16 * h, sum[r][h]);
  }
}

void write(const float* c, std::byte* to) {
  auto* const out = reinterpret_cast<float*>(to);
  for (int x = 0; x < kBlock * kBlock; x += 16) _mm512_store_ps(out + x, _mm512_load_ps(c + x));
}

void write_rounded(const float* c, std::byte* to) {
  auto* const out = reinterpret_cast<float*>(to);
  for (int x = 0; x < kBlock * kBlock; x += 16)
    _mm512_store_ps(out + x, _mm512_castsi512_ps(rounded_to_bf16(_mm512_load_ps(c + x))));
}

void scale_add(float* c, float alpha, float beta, const std::byte* right) {
  const auto* const s = reinterpret_cast<const float*>(right);
  const __m512 va = _mm512_set1_ps(alpha), vb = _mm512_set1_ps(beta);
  for (int x = 0; x < kBlock * kBlock; x += 16) {
    const __m512 scaled = _mm512_mul_ps(va, _mm512_load_ps(c + x));
    _mm512_store_ps(c + x, s ? _mm512_fmadd_ps(vb, _mm512_load_ps(s + x), scaled) : scaled);
  }
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

const BlockKernels* float32_avx512() { return &kFloat32; }
const BlockKernels* rounded_avx512() { return &kRounded; }

}  // namespace schatten
#else
namespace schatten {
const BlockKernels* float32_avx512() { return nullptr; }
const BlockKernels* rounded_avx512() { return nullptr; }
}  // namespace schatten
#endif
