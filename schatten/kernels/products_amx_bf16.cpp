// bfloat16 blocks by AMX tiles: the left factor is taken as it is stored.
#include <schatten/kernels/products_impl.h>

#ifdef __AMX_BF16__
#include <schatten/kernels/blocks_bf16_impl.h>

namespace schatten {
namespace {

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr TileConfig kTiles;

void begin() { _tile_loadconfig(&kTiles); }
void end() { _tile_release(); }

constexpr int kHalf = kPart / 2;  // 16 stored rows

/// The four 16 x 16 quarters of c (tiles 0 to 3) += one part of the left factor times one part of the right. Loads stand
/// between products: the tile unit works on while they arrive.
inline void add_product(const std::byte* a, const std::byte* b) {
  _tile_loadd(4, a, 64);
  _tile_loadd(6, b, 128);
  _tile_dpbf16ps(0, 4, 6);
  _tile_loadd(7, b + 64, 128);
  _tile_dpbf16ps(1, 4, 7);
  _tile_loadd(5, a + kHalf, 64);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

template <int Parts>
void multiply(const std::byte* a, int64_t a_step, const std::byte* b, int64_t b_step, int64_t blocks, float* c,
              bool add) {
  constexpr int kSums = kBlock * 4;  // bytes of one row of c
  if (add) {
    _tile_loadd(0, c, kSums);
    _tile_loadd(1, c + 16, kSums);
    _tile_loadd(2, c + 16 * kBlock, kSums);
    _tile_loadd(3, c + 16 * kBlock + 16, kSums);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t k = 0; k < blocks; ++k, a += a_step, b += b_step) {
    if constexpr (Parts == 3) {  // small products first
      add_product(a + 2 * kPart, b);
      add_product(a + kPart, b + kPart);
      add_product(a, b + 2 * kPart);
    }
    if constexpr (Parts >= 2) {
      add_product(a + kPart, b);
      add_product(a, b + kPart);
    }
    add_product(a, b);
  }
  _tile_stored(0, c, kSums);
  _tile_stored(1, c + 16, kSums);
  _tile_stored(2, c + 16 * kBlock, kSums);
  _tile_stored(3, c + 16 * kBlock + 16, kSums);
}

template <int Parts>
constexpr BlockKernels kKernels{Parts * kPart, 8 / Parts,         begin,
                                end,           multiply<Parts>,   nullptr,
                                false,         pack_pairs<Parts>, pack_transposed<Parts>,
                                write<Parts>,  scale_add<Parts>,  transpose,
                                load_f32,      load_bf16,         store_f32,
                                store_bf16};

}  // namespace

const BlockKernels* bfloat16_amx(int parts) {
  return parts == 1 ? &kKernels<1> : parts == 2 ? &kKernels<2> : &kKernels<3>;
}

}  // namespace schatten
#else
namespace schatten {
const BlockKernels* bfloat16_amx(int) { return nullptr; }
}  // namespace schatten
#endif
