// bfloat16 blocks by AVX-512 with BF16; the left factor is packed as the right one.
#include <schatten/kernels/products_impl.h>

#ifdef __AVX512BF16__
#include <schatten/kernels/blocks_bf16_impl.h>

namespace schatten {
namespace {

/// c[8][32] += left[pair][8]^T right[pair][32].
void multiply(const std::byte* left, int64_t left_step, const std::byte* right, int64_t right_step, int64_t blocks,
              float* c, bool add) {
  for (int i = 0; i < kBlock; i += 8) {
    float* const to = c + i * kBlock;
    __m512 sum[8][2];
    for (int r = 0; r < 8; ++r)
      for (int h = 0; h < 2; ++h) sum[r][h] = add ? _mm512_load_ps(to + r * kBlock + 16 * h) : _mm512_setzero_ps();
    for (int64_t block = 0; block < blocks; ++block) {
      const auto* a = reinterpret_cast<const int*>(left + block * left_step) + i;
      const auto* b = reinterpret_cast<const int*>(right + block * right_step);
      for (int k = 0; k < kBlock / 2; ++k, a += kBlock, b += kBlock) {
        const auto b0 = reinterpret_cast<__m512bh>(_mm512_load_si512(b));
        const auto b1 = reinterpret_cast<__m512bh>(_mm512_load_si512(b + 16));
#pragma GCC unroll 8
        for (int r = 0; r < 8; ++r) {
          const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(a[r]));
          sum[r][0] = _mm512_dpbf16_ps(sum[r][0], x, b0);
          sum[r][1] = _mm512_dpbf16_ps(sum[r][1], x, b1);
        }
      }
    }
    for (int r = 0; r < 8; ++r)
      for (int h = 0; h < 2; ++h) _mm512_store_ps(to + r * kBlock + 16 * h, sum[r][h]);
  }
}

constexpr BlockKernels kBfloat16{kPart,
                                 4,
                                 nothing,
                                 nothing,
                                 multiply,
                                 pack_transposed<1>,
                                 false,
                                 pack_pairs<1>,
                                 pack_transposed<1>,
                                 write<1>,
                                 scale_add<1>,
                                 transpose,
                                 load_f32,
                                 load_bf16,
                                 store_f32,
                                 store_bf16};

}  // namespace

const BlockKernels* bfloat16_avx512_bf16() { return &kBfloat16; }

}  // namespace schatten
#else
namespace schatten {
const BlockKernels* bfloat16_avx512_bf16() { return nullptr; }
}  // namespace schatten
#endif
