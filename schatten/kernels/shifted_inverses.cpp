#include <schatten/kernels/products_impl.h>
#include <schatten/kernels/shifted_inverses.h>
#include <schatten/kernels/shifted_inverses_impl.h>

#include <algorithm>
#include <cstring>

namespace schatten {

namespace {

constexpr int64_t kEntries = kBlock * kBlock;
constexpr double kFine = 0x1p-12;
constexpr int64_t kNear = 1 << 19;  // bytes of one factor that are read again and again: within an L2 cache

/// One call of sum_shifted_inverses. Block (i, j) of a matrix lies at i * side + j, so that the sums run along memory.
class Work {
 public:
  Work(Isa isa, const InverseKernels& kernels, int64_t n)
      : kernels_(kernels), factor_(isa >= Isa::avx512 ? factor_avx512() : factor_avx2()), n_(n), side_(blocks_of(n)) {
    const int64_t bytes = std::max(kernels.fine->block_bytes, kernels.coarse->block_bytes);
    group_ = std::clamp<int64_t>(kNear / (side_ * bytes), 1, 8);
    const int64_t triangle = side_ * (side_ + 1) / 2;
    gram_ = scratch_.take<float>(triangle * kEntries);
    sum_ = scratch_.take<float>(triangle * kEntries);
    const int64_t square = side_ * side_ * bytes;
    left_ = scratch_.take<std::byte>(square);
    right_ = one_form(*kernels.fine) && one_form(*kernels.coarse) ? left_ : scratch_.take<std::byte>(square);
    diagonal_ = scratch_.take<std::byte>(side_ * bytes);
    factor_right_ = scratch_.take<std::byte>(bytes);
    stored_ = scratch_.take<std::byte>(bytes);
    c_ = scratch_.take<float>(kEntries);
    t_ = scratch_.take<float>(kEntries);
  }

  InverseOutcome run(const float* r, double scale, const ShiftedInverses& q, int attempts) {
    InverseOutcome outcome;
    read(r, static_cast<float>(-scale));
    std::memset(sum_, 0, static_cast<size_t>(side_ * (side_ + 1) / 2 * kEntries) * sizeof(float));
    double before = 0;
    for (size_t i = 0; i < q.shifts.size(); ++i) {
      // The sum is kept in units of the weight of its newest term.
      const double unit = i == 0 ? 0 : q.weights[i - 1] / q.weights[i];
      double shift = q.shifts[i];
      int attempt = 1;
      for (; !add_inverse(shift, static_cast<float>(unit)); shift *= 4, ++attempt, ++outcome.raises)
        if (attempt == attempts) return {.done = false, .raises = outcome.raises};
      const double trace = traced();
      outcome.below.push_back(shift * (trace - unit * before));
      before = trace;
    }
    return outcome;
  }

  /// Q from the sum, in both halves.
  void write(double weight, double constant, float* q) {
    for (int64_t j = 0; j < side_; ++j)
      for (int64_t i = 0; i <= j; ++i) {
        float* const c = block(sum_, i, j);
        k_->scale_add(c, static_cast<float>(weight), 0, nullptr);
        for (int64_t x = 0; i == j && x < kBlock; ++x) c[x * kBlock + x] += static_cast<float>(constant);
        k_->transpose(c, t_);
        if (i == j) mirror(c);
        store(c, i, j, q);
        if (i != j) store(t_, j, i, q);
      }
  }

 private:
  bool add_inverse(double shift, float unit) {
    k_ = shift < kFine ? kernels_.fine : kernels_.coarse;
    k_->begin();
    const bool done = factorise(static_cast<float>(shift));
    if (done) {
      invert();
      add_squares(unit);
    }
    k_->end();
    return done;
  }

  /// Block (i, j), i <= j, of a symmetric matrix.
  static float* block(float* triangle, int64_t i, int64_t j) { return triangle + (j * (j + 1) / 2 + i) * kEntries; }
  /// Block (i, j) of M as the left factor, and of M^T as the right one, where `factors` holds M.
  std::byte* left(int64_t i, int64_t j) const { return left_ + (i * side_ + j) * k_->block_bytes; }
  std::byte* right_t(int64_t i, int64_t j) const { return right_ + (i * side_ + j) * k_->block_bytes; }
  static bool one_form(const BlockKernels& k) { return k.left_is_transposed && !k.pack_right; }

  void write_right(const float* c, std::byte* to) const {
    if (!k_->pack_right) return k_->write(c, to);
    k_->write(c, stored_);
    k_->pack_right(stored_, to);
  }
  /// A block c with its transpose t as the left factor.
  void write_left(const float* c, const float* t, std::byte* to) const {
    if (k_->left_is_transposed) return k_->write(t, to);
    if (!k_->pack_left) return k_->write(c, to);
    k_->write(c, stored_);
    k_->pack_left(stored_, to);
  }
  /// M_ij = c with its transpose t.
  void set_factor(int64_t i, int64_t j, const float* c, const float* t) const {
    write_right(t, right_t(i, j));
    if (left_ != right_) write_left(c, t, left(i, j));
  }

  /// c <- c + M_i,from.. (N_j,from..)^T over `count` blocks, as many at a time as stay in the nearest cache.
  void add_products(const std::byte* left, const std::byte* right, int64_t count, float* c, bool add = true) const {
    for (int64_t done = 0; done < count; done += k_->chunk, add = true)
      k_->multiply(left + done * k_->block_bytes, k_->block_bytes, right + done * k_->block_bytes, k_->block_bytes,
                   std::min(k_->chunk, count - done), c, add);
  }
  /// t <- D_i c
  void multiply_by_diagonal(int64_t i, const float* c, float* t) const {
    write_right(c, factor_right_);
    k_->multiply(diagonal_ + i * k_->block_bytes, 0, factor_right_, 0, 1, t, false);
  }

  /// -scale R, zeros past its end.
  void read(const float* r, float scale) {
    for (int64_t j = 0; j < side_; ++j)
      for (int64_t i = 0; i <= j; ++i) {
        float* const c = block(gram_, i, j);
        const int64_t rows = std::min(kBlock, n_ - i * kBlock), cols = std::min(kBlock, n_ - j * kBlock);
        if (rows < kBlock || cols < kBlock) std::memset(c, 0, kEntries * sizeof(float));
        for (int64_t x = 0; x < rows; ++x)
          for (int64_t y = 0; y < cols; ++y) c[x * kBlock + y] = scale * r[(i * kBlock + x) * n_ + j * kBlock + y];
      }
  }

  /// Below the diagonal of the factors: -L. On it: W_jj^T, W_jj = L_jj^-1, which is kept apart, too.
  /// A group of columns at a time, row by row: what the sums read again lies in the L2 cache.
  bool factorise(float shift) {
    for (int64_t from = 0; from < side_; from += group_)
      for (int64_t i = from; i < side_; ++i)
        for (int64_t j = from; j <= std::min(i, from + group_ - 1); ++j)
          if (!factorise_block(i, j, shift)) return false;
    return true;
  }
  bool factorise_block(int64_t i, int64_t j, float shift) {
    std::memcpy(c_, block(gram_, j, i), kEntries * sizeof(float));
    add_products(left(j, 0), right_t(i, 0), j, c_);  // shift I - R_ji + sum L_jk L_ik^T
    if (i != j) {
      multiply_by_diagonal(j, c_, t_);  // -L_ij^T
      k_->transpose(t_, c_);
      set_factor(i, j, c_, t_);
      return true;
    }
    if (!factor_(c_, shift, t_)) return false;
    k_->transpose(t_, c_);
    write_left(t_, c_, diagonal_ + j * k_->block_bytes);
    set_factor(j, j, c_, t_);
    return true;
  }

  /// Above the diagonal of the factors: W^T, W_ij = -D_i sum_k L_ik W_kj. A group of rows of W at a time.
  void invert() {
    for (int64_t from = 0; from < side_; from += group_) {
      const int64_t to = std::min(side_, from + group_);
      for (int64_t j = 0; j + 1 < to; ++j)
        for (int64_t i = std::max(from, j + 1); i < to; ++i) {
          add_products(left(i, j), right_t(j, j), i - j, c_, false);
          multiply_by_diagonal(i, c_, t_);
          k_->transpose(t_, c_);
          set_factor(j, i, c_, t_);
        }
    }
  }

  /// sum <- unit sum + W^T W
  void add_squares(float unit) {
    for (int64_t from = 0; from < side_; from += group_) {
      const int64_t to = std::min(side_, from + group_);
      for (int64_t i = 0; i < to; ++i)
        for (int64_t j = std::max(from, i); j < to; ++j) {
          float* const c = block(sum_, i, j);
          if (unit != 0) k_->scale_add(c, unit, 0, nullptr);
          add_products(left(i, j), right_t(j, j), side_ - j, c);
        }
    }
  }

  /// Products of halves are not symmetric to the last bit.
  static void mirror(float* c) {
    for (int64_t x = 1; x < kBlock; ++x)
      for (int64_t y = 0; y < x; ++y) c[x * kBlock + y] = c[y * kBlock + x];
  }
  void store(const float* c, int64_t i, int64_t j, float* q) const {
    const int64_t rows = std::min(kBlock, n_ - i * kBlock), cols = std::min(kBlock, n_ - j * kBlock);
    for (int64_t x = 0; x < rows; ++x)
      std::memcpy(q + (i * kBlock + x) * n_ + j * kBlock, c + x * kBlock, static_cast<size_t>(cols) * sizeof(float));
  }

  double traced() {
    double trace = 0;
    for (int64_t x = 0; x < n_; ++x) {
      const int64_t i = x / kBlock, d = x % kBlock;
      trace += static_cast<double>(block(sum_, i, i)[d * kBlock + d]);
    }
    return trace;
  }

  InverseKernels kernels_;
  const BlockKernels* k_ = nullptr;  // of the term in hand
  FactorBlock factor_;
  int64_t n_, side_, group_ = 1;
  Scratch scratch_;
  float *gram_ = nullptr, *sum_ = nullptr, *c_ = nullptr, *t_ = nullptr;
  std::byte *left_ = nullptr, *right_ = nullptr, *diagonal_ = nullptr, *factor_right_ = nullptr, *stored_ = nullptr;
};

}  // namespace

InverseKernels inverse_kernels(Isa isa, bool split) {
  const BlockKernels* const fine = block_kernels(isa, Arithmetic::float32);
  const BlockKernels* const halves = split ? block_kernels(isa, Arithmetic::bfloat16x2) : nullptr;
  return {fine, halves ? halves : fine};
}

InverseOutcome sum_shifted_inverses(Isa isa, const InverseKernels& kernels, const float* r, int64_t n, double scale,
                                    const ShiftedInverses& f, float* q, int attempts) {
  Work work(isa, kernels, n);
  InverseOutcome outcome = work.run(r, scale, f, attempts);
  if (outcome.done) work.write(f.weights.empty() ? 0 : f.weights.back(), f.constant, q);
  return outcome;
}

}  // namespace schatten
