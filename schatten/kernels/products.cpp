#include <schatten/kernels/bfloat16_impl.h>
#include <schatten/kernels/products.h>
#include <schatten/kernels/products_impl.h>

#include <algorithm>
#include <cstring>

namespace schatten {

const BlockKernels* block_kernels(Isa isa, Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::float32:
      return isa >= Isa::avx512 ? float32_avx512() : isa == Isa::avx2 ? float32_avx2() : nullptr;
    case Arithmetic::bfloat16:
      if (isa == Isa::amx_bf16) return bfloat16_amx(1);
      if (isa == Isa::avx512_bf16) return bfloat16_avx512_bf16();
      return isa == Isa::avx512 ? rounded_avx512() : isa == Isa::avx2 ? rounded_avx2() : nullptr;
    case Arithmetic::bfloat16x2: return isa == Isa::amx_bf16 ? bfloat16_amx(2) : nullptr;
    case Arithmetic::bfloat16x3: return isa == Isa::amx_bf16 ? bfloat16_amx(3) : nullptr;
  }
  return nullptr;
}

namespace {

constexpr int64_t kEntries = kBlock * kBlock;

// Blocks of C that are worked on together, down and across: what they need stays in the L2 cache.
constexpr int64_t kDown = 16, kAcross = 8;

}  // namespace

Tiled take_tiled(Scratch& scratch, const BlockKernels& k, int64_t rows, int64_t cols) {
  return {rows, cols, scratch.take<std::byte>(blocks_of(rows) * blocks_of(cols) * k.block_bytes)};
}

Tiled take_symmetric(Scratch& scratch, const BlockKernels& k, int64_t n) {
  Tiled t = take_tiled(scratch, k, n, n);
  t.symmetric = true;
  return t;
}

namespace {

std::byte* block_at(const BlockKernels& k, const Tiled& m, int64_t i, int64_t j) {
  return m.data + (i * blocks_of(m.cols) + j) * k.block_bytes;
}

/// A whole or cut block of memory, with columns next to each other (or, transposed, rows).
template <class Entry>
void load_block(const BlockKernels& k, const Entry* from, int64_t rows, int64_t cols, int64_t row_stride,
                int64_t col_stride, float scale, float* c) {
  if (rows == kBlock && cols == kBlock && col_stride == 1) {
    if constexpr (sizeof(Entry) == 2) return k.load_bf16(from, row_stride, scale, c);
    else return k.load_f32(from, row_stride, scale, c);
  }
  std::memset(c, 0, kEntries * sizeof(float));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t s = 0; s < cols; ++s) {
      const Entry entry = from[r * row_stride + s * col_stride];
      if constexpr (sizeof(Entry) == 2) c[r * kBlock + s] = scale * widened(entry);
      else c[r * kBlock + s] = scale * entry;
    }
}

template <class Entry>
void store_block(const BlockKernels& k, const float* c, Entry* to, int64_t rows, int64_t cols, int64_t row_stride,
                 int64_t col_stride) {
  if (rows == kBlock && cols == kBlock && col_stride == 1) {
    if constexpr (sizeof(Entry) == 2) return k.store_bf16(c, to, row_stride);
    else return k.store_f32(c, to, row_stride);
  }
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t s = 0; s < cols; ++s) {
      if constexpr (sizeof(Entry) == 2) to[r * row_stride + s * col_stride] = bfloat16_bits(c[r * kBlock + s]);
      else to[r * row_stride + s * col_stride] = c[r * kBlock + s];
    }
}

/// Block (i, j) of a plain matrix into c.
void read_plain(const BlockKernels& k, const Plain& from, const Tiled& shape, int64_t i, int64_t j, float scale,
                float* c, float* t) {
  const int64_t rows = std::min(kBlock, shape.rows - i * kBlock), cols = std::min(kBlock, shape.cols - j * kBlock);
  const int64_t at = i * kBlock * from.row_stride + j * kBlock * from.col_stride;
  const auto load = [&](const auto* data) {
    if (from.row_stride != 1 || from.col_stride == 1)
      return load_block(k, data + at, rows, cols, from.row_stride, from.col_stride, scale, c);
    load_block(k, data + at, cols, rows, from.col_stride, 1, scale, t);
    k.transpose(t, c);
  };
  if (from.f32) load(from.f32);
  else load(from.bf16);
}

/// c, block (i, j), into a plain matrix; t is its transpose where columns are not next to each other.
void write_plain(const BlockKernels& k, const Plain& to, int64_t all_rows, int64_t all_cols, int64_t i, int64_t j,
                 const float* c, const float* t) {
  const int64_t rows = std::min(kBlock, all_rows - i * kBlock), cols = std::min(kBlock, all_cols - j * kBlock);
  const int64_t at = i * kBlock * to.row_stride + j * kBlock * to.col_stride;
  const auto store = [&](auto* data) {
    if (to.col_stride == 1) store_block(k, c, data + at, rows, cols, to.row_stride, 1);
    else store_block(k, t, data + at, cols, rows, to.col_stride, to.row_stride);
  };
  if (to.f32) store(to.f32);
  else store(to.bf16);
}

/// On the first `inside` rows: the edge of a padded block stays zero.
void add_diagonal(float* c, float gamma, int64_t inside) {
  for (int64_t d = 0; d < std::min(kBlock, inside); ++d) c[d * kBlock + d] += gamma;
}

/// Blocks of one factor along K, from the first of a chunk on, for several rows or columns of blocks.
struct Panels {
  const std::byte* data = nullptr;
  int64_t step = 0;    // from one block along K to the next
  int64_t stride = 0;  // from one panel to the next
};

/// One multiplication under way.
class Work {
 public:
  Work(const BlockKernels& kernels, const Product& product) : k_(kernels), p_(product) {
    rows_ = blocks_of(p_.a.rows);
    cols_ = blocks_of(columns());
    depth_ = blocks_of(p_.a.cols);
    const bool spread = depth_ > k_.chunk;
    c_ = scratch_.take<float>((spread ? kDown * kAcross : 1) * kEntries);
    c_step_ = spread ? kEntries : 0;
    t_ = scratch_.take<float>(kEntries);
    const int64_t panel = std::min(k_.chunk, depth_) * k_.block_bytes;
    left_ = scratch_.take<std::byte>(kDown * panel);
    right_ = scratch_.take<std::byte>(kAcross * panel);
  }

  void run(int part, int parts) {
    int64_t turn = 0;
    for (int64_t j = 0; j < cols_; j += kAcross)
      for (int64_t i = 0; i < (p_.symmetric ? std::min(rows_, j + kAcross) : rows_); i += kDown)
        if (turn++ % parts == part) rectangle(i, j);
  }

 private:
  int64_t columns() const { return p_.transposed ? p_.b.rows : p_.b.cols; }

  /// Blocks [i0, i1) x [from, from + count) of A.
  Panels left(int64_t i0, int64_t i1, int64_t from, int64_t count) {
    const int64_t down = blocks_of(p_.a.cols) * k_.block_bytes;
    if (!k_.pack_left) return {block_at(k_, p_.a, i0, from), k_.block_bytes, down};
    if (k_.left_is_transposed && p_.a.symmetric) return {block_at(k_, p_.a, from, i0), down, k_.block_bytes};
    std::byte* to = left_;
    for (int64_t i = i0; i < i1; ++i)
      for (int64_t k = from; k < from + count; ++k, to += k_.block_bytes) k_.pack_left(block_at(k_, p_.a, i, k), to);
    return {left_, k_.block_bytes, count * k_.block_bytes};
  }
  /// Blocks [from, from + count) x [j0, j1) of B or B^T.
  Panels right(int64_t j0, int64_t j1, int64_t from, int64_t count) {
    const int64_t down = blocks_of(p_.b.cols) * k_.block_bytes;
    if (!p_.transposed && !k_.pack_right) return {block_at(k_, p_.b, from, j0), down, k_.block_bytes};
    std::byte* to = right_;
    for (int64_t j = j0; j < j1; ++j)
      for (int64_t k = from; k < from + count; ++k, to += k_.block_bytes) {
        if (p_.transposed) k_.pack_right_t(block_at(k_, p_.b, j, k), to);
        else k_.pack_right(block_at(k_, p_.b, k, j), to);
      }
    return {right_, k_.block_bytes, count * k_.block_bytes};
  }

  /// Up to kDown x kAcross blocks of C from block (i0, j0) on.
  void rectangle(int64_t i0, int64_t j0) {
    const int64_t j1 = std::min(cols_, j0 + kAcross);
    const int64_t i1 = std::min({rows_, i0 + kDown, p_.symmetric ? j1 : rows_});
    for (int64_t from = 0; from < depth_; from += k_.chunk) {
      const int64_t count = std::min(k_.chunk, depth_ - from);
      const bool last = from + count == depth_;
      const Panels a = left(i0, i1, from, count), b = right(j0, j1, from, count);
      for (int64_t j = j0; j < j1; ++j)
        for (int64_t i = i0; i < (p_.symmetric ? std::min(i1, j + 1) : i1); ++i) {
          float* const c = c_ + ((j - j0) * kDown + (i - i0)) * c_step_;
          k_.multiply(a.data + (i - i0) * a.stride, a.step, b.data + (j - j0) * b.stride, b.step, count, c, from > 0);
          if (last) finish(i, j, c);
        }
    }
  }

  void finish(int64_t i, int64_t j, float* c) {
    if (p_.alpha != 1 || p_.beta != 0)
      k_.scale_add(c, p_.alpha, p_.beta, p_.beta != 0 ? block_at(k_, *p_.s, i, j) : nullptr);
    if (p_.gamma != 0 && i == j) add_diagonal(c, p_.gamma, p_.a.rows - i * kBlock);
    const bool mirrored = p_.symmetric && i != j;
    if (mirrored || (p_.plain && p_.plain->col_stride != 1)) k_.transpose(c, t_);
    if (p_.tiled) {
      k_.write(c, block_at(k_, *p_.tiled, i, j));
      if (mirrored) k_.write(t_, block_at(k_, *p_.tiled, j, i));
    }
    if (p_.plain) {
      write_plain(k_, *p_.plain, p_.a.rows, columns(), i, j, c, t_);
      if (mirrored) write_plain(k_, *p_.plain, p_.a.rows, columns(), j, i, t_, c);
    }
  }

  const BlockKernels& k_;
  const Product& p_;
  Scratch scratch_;
  int64_t rows_ = 0, cols_ = 0, depth_ = 0, c_step_ = 0;
  float* c_ = nullptr;
  float* t_ = nullptr;
  std::byte* left_ = nullptr;
  std::byte* right_ = nullptr;
};

}  // namespace

void multiply(const BlockKernels& kernels, const Product& product, int part, int parts) {
  kernels.begin();
  Work(kernels, product).run(part, parts);
  kernels.end();
}

void add_identity(const BlockKernels& k, const Tiled& s, float gamma, const Tiled& to) {
  Scratch scratch;
  float* const c = scratch.take<float>(kEntries);
  for (int64_t i = 0; i < blocks_of(s.rows); ++i)
    for (int64_t j = 0; j < blocks_of(s.cols); ++j) {
      if (i != j) {
        std::memcpy(block_at(k, to, i, j), block_at(k, s, i, j), static_cast<size_t>(k.block_bytes));
        continue;
      }
      std::memset(c, 0, kEntries * sizeof(float));
      k.scale_add(c, 0, 1, block_at(k, s, i, i));
      add_diagonal(c, gamma, s.rows - i * kBlock);
      k.write(c, block_at(k, to, i, i));
    }
}

void import_matrix(const BlockKernels& k, const Plain& from, float scale, const Tiled& to) {
  Scratch scratch;
  float* const c = scratch.take<float>(kEntries);
  float* const t = scratch.take<float>(kEntries);
  for (int64_t i = 0; i < blocks_of(to.rows); ++i)
    for (int64_t j = 0; j < blocks_of(to.cols); ++j) {
      read_plain(k, from, to, i, j, scale, c, t);
      k.write(c, block_at(k, to, i, j));
    }
}

void export_matrix(const BlockKernels& k, const Tiled& from, float scale, const Plain& to) {
  Scratch scratch;
  float* const c = scratch.take<float>(kEntries);
  float* const t = scratch.take<float>(kEntries);
  for (int64_t i = 0; i < blocks_of(from.rows); ++i)
    for (int64_t j = 0; j < blocks_of(from.cols); ++j) {
      std::memset(c, 0, kEntries * sizeof(float));
      k.scale_add(c, 0, scale, block_at(k, from, i, j));
      if (to.col_stride != 1) k.transpose(c, t);
      write_plain(k, to, from.rows, from.cols, i, j, c, t);
    }
}

}  // namespace schatten
