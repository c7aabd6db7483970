// What one instruction set brings to products.cpp: the work on one block. Only plain functions and pointers.
#pragma once
#include <cstddef>
#include <cstdint>

namespace schatten {

/// c and t are [32][32] float32, row after row, aligned to 64 bytes; so are stored blocks, see Tiled. For a product blocks
/// are packed as the instructions want them; where a packer is null, a stored block is that already.
struct BlockKernels {
  int64_t block_bytes;  // of a stored block and of a packed one
  int64_t chunk;        // blocks along K that are packed together: they stay near
  void (*begin)();
  void (*end)();
  /// c <- (add: c +) the sum over `blocks` of left right. Steps are bytes from one block to the next.
  void (*multiply)(const std::byte* left, int64_t left_step, const std::byte* right, int64_t right_step, int64_t blocks,
                   float* c, bool add);
  void (*pack_left)(const std::byte* block, std::byte* to);     // of A
  bool left_is_transposed;                                      // a packed left block is the stored one of A^T
  void (*pack_right)(const std::byte* block, std::byte* to);    // of B
  void (*pack_right_t)(const std::byte* block, std::byte* to);  // of B^T, from a block of B
  void (*write)(const float* c, std::byte* to);
  void (*scale_add)(float* c, float alpha, float beta, const std::byte* s);  // c <- alpha c + beta S; s may be null
  void (*transpose)(const float* c, float* t);
  // Whole blocks of memory as others have it, `stride` entries from one row to the next; bfloat16 by its bits, rounded to
  // nearest even.
  void (*load_f32)(const float* from, int64_t stride, float scale, float* c);
  void (*load_bf16)(const uint16_t* from, int64_t stride, float scale, float* c);
  void (*store_f32)(const float* c, float* to, int64_t stride);
  void (*store_bf16)(const float* c, uint16_t* to, int64_t stride);
};

/// Null where the file was compiled without its instructions.
const BlockKernels* float32_avx2();
const BlockKernels* rounded_avx2();
const BlockKernels* float32_avx512();
const BlockKernels* rounded_avx512();
const BlockKernels* bfloat16_avx512_bf16();
const BlockKernels* bfloat16_amx(int parts);

}  // namespace schatten
