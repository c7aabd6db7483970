// Products of matrices kept in 32 x 32 blocks, in the order in which the instructions read them. Symmetric results cost
// half: one triangle of blocks is computed and mirrored. Raw memory, no allocation; linalg/ is the usual caller.
#pragma once
#include <schatten/kernels/isa.h>
#include <schatten/kernels/scratch.h>

#include <cstddef>
#include <cstdint>

namespace schatten {

/// What an entry is inside a product; sums are always float32.
///   float32      as it is                                                             24 bits
///   bfloat16     rounded to nearest, ties to even                                      8 bits
///   bfloat16x2   x = hi + lo, both bfloat16; hi hi + hi lo + lo hi                    16 bits, three products
///   bfloat16x3   x = hi + mid + lo; the six products down to 2^-16 of the first       24 bits, six products
/// The last two pay where bfloat16 is more than three (six) times as fast as float32: with AMX.
enum class Arithmetic { float32, bfloat16, bfloat16x2, bfloat16x3 };
constexpr auto enum_names(Arithmetic) {
  return std::to_array<std::string_view>({"float32", "bfloat16", "bfloat16x2", "bfloat16x3"});
}

constexpr int64_t kBlock = 32;
constexpr int64_t blocks_of(int64_t n) { return (n + kBlock - 1) / kBlock; }

struct BlockKernels;  // products_impl.h
/// The kernels of these instructions; null where there are none: portable knows none (linalg goes by ATen there),
/// bfloat16x2 and x3 exist with AMX only. bfloat16 without the instructions is float32 arithmetic on rounded entries.
const BlockKernels* block_kernels(Isa isa, Arithmetic arithmetic);

/// M [rows, cols] in blocks of 32 x 32, each row after row, zeros beyond the edges; blocks row after row, too. An entry of
/// several parts has one block per part, the largest part first.
struct Tiled {
  int64_t rows = 0, cols = 0;
  std::byte* data = nullptr;
  bool symmetric = false;
};
/// Memory for it; nothing is written.
Tiled take_tiled(Scratch& scratch, const BlockKernels& kernels, int64_t rows, int64_t cols);
Tiled take_symmetric(Scratch& scratch, const BlockKernels& kernels, int64_t n);

/// Memory as others have it: entry (i, j) at data[i * row_stride + j * col_stride], one of the strides 1 where it should
/// be fast. Exactly one of the pointers is set; float16 and float64 have no kernel.
struct Plain {
  float* f32 = nullptr;
  uint16_t* bf16 = nullptr;
  int64_t row_stride = 0, col_stride = 1;
};

/// to <- scale * from.
void import_matrix(const BlockKernels& kernels, const Plain& from, float scale, const Tiled& to);
/// to <- scale * from.
void export_matrix(const BlockKernels& kernels, const Tiled& from, float scale, const Plain& to);

/// to <- S + gamma I, S symmetric; `to` is not S.
void add_identity(const BlockKernels& kernels, const Tiled& s, float gamma, const Tiled& to);

/// C <- alpha A B + beta S + gamma I, with B^T in place of B where `transposed`. `symmetric` says that C will be: B = A^T,
/// or A and B symmetric and commuting, and S symmetric.
/// C goes to `tiled` and to `plain`, whichever is given. C may be S, where S is neither A nor B; else nothing overlaps.
struct Product {
  const Tiled& a;
  const Tiled& b;
  bool transposed = false, symmetric = false;
  float alpha = 1, beta = 0, gamma = 0;
  const Tiled* s = nullptr;
  const Tiled* tiled = nullptr;
  const Plain* plain = nullptr;
};
/// Share `part` of `parts` of the blocks of C. Every block is summed by one call in one order, so the result does not
/// depend on `parts`.
void multiply(const BlockKernels& kernels, const Product& product, int part = 0, int parts = 1);

}  // namespace schatten
