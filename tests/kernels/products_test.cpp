// Products of every instruction set and arithmetic against float64 sums over the same entries.
#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>
#include <schatten/core/fields.h>
#include <schatten/core/rng.h>
#include <schatten/kernels/products.h>

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace schatten {
namespace {

using Matrix = std::vector<double>;

struct Case {
  Isa isa;
  Arithmetic arithmetic;
  const BlockKernels& kernels;
  std::string name() const { return std::string(enum_name(isa)) + ", " + std::string(enum_name(arithmetic)); }
  /// Of one entry, relative.
  double rounding() const {
    switch (arithmetic) {
      case Arithmetic::float32: return 0x1p-24;
      case Arithmetic::bfloat16: return 0x1p-8;
      case Arithmetic::bfloat16x2: return 0x1p-16;
      case Arithmetic::bfloat16x3: return 0x1p-24;
    }
    return 0;
  }
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Isa isa : available_isas())
    for (const Arithmetic a :
         {Arithmetic::float32, Arithmetic::bfloat16, Arithmetic::bfloat16x2, Arithmetic::bfloat16x3})
      if (const BlockKernels* k = block_kernels(isa, a)) all.push_back({isa, a, *k});
  return all;
}

std::vector<float> entries(int64_t count, uint64_t seed) {
  const Tensor t = Rng(seed).of("entries").normal({count}, at::kFloat);
  return {t.data_ptr<float>(), t.data_ptr<float>() + count};
}

/// What a tiled matrix holds, as float32.
std::vector<float> read_back(const BlockKernels& kernels, const Tiled& m) {
  std::vector<float> out(static_cast<size_t>(m.rows * m.cols), NAN);
  export_matrix(kernels, m, 1, {.f32 = out.data(), .row_stride = m.cols});
  return out;
}

Matrix doubles(const std::vector<float>& x) { return {x.begin(), x.end()}; }

Matrix product(const Matrix& a, const Matrix& b, int64_t n, int64_t depth, int64_t m, bool transposed) {
  Matrix c(static_cast<size_t>(n * m), 0);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < m; ++j)
      for (int64_t k = 0; k < depth; ++k)
        c[static_cast<size_t>(i * m + j)] +=
            a[static_cast<size_t>(i * depth + k)] * b[static_cast<size_t>(transposed ? j * depth + k : k * m + j)];
  return c;
}

double relative_error(const std::vector<float>& got, const Matrix& expected) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += (got[i] - expected[i]) * (got[i] - expected[i]);
    size += expected[i] * expected[i];
  }
  return std::sqrt(difference / size);
}

Tiled imported(Scratch& scratch, const BlockKernels& kernels, std::vector<float>& x, int64_t rows, int64_t cols) {
  const Tiled t = take_tiled(scratch, kernels, rows, cols);
  import_matrix(kernels, {.f32 = x.data(), .row_stride = cols}, 1, t);
  return t;
}

struct Size {
  int64_t n, depth, m;
};
// Whole blocks, cut blocks, one row, one column, more than one chunk and more than one rectangle of blocks.
const Size kSizes[] = {{32, 32, 32}, {5, 7, 3}, {1, 40, 9}, {40, 9, 1}, {33, 300, 65}, {290, 64, 530}};

TEST(Products, EqualTheSumsToTheRoundingOfTheirEntries) {
  for (const Case& c : cases())
    for (const auto& [n, depth, m] : kSizes) {
      SCOPED_TRACE(c.name() + " " + std::to_string(n) + " " + std::to_string(depth) + " " + std::to_string(m));
      Scratch scratch;
      std::vector<float> a = entries(n * depth, 1), b = entries(depth * m, 2), bt = entries(m * depth, 3);
      const Tiled ta = imported(scratch, c.kernels, a, n, depth), tb = imported(scratch, c.kernels, b, depth, m),
                  tt = imported(scratch, c.kernels, bt, m, depth);
      std::vector<float> out(static_cast<size_t>(n * m), NAN);
      const Plain plain{.f32 = out.data(), .row_stride = m};
      const double allowed = 4 * c.rounding() + 1e-7 * std::sqrt(static_cast<double>(depth));
      multiply(c.kernels, {.a = ta, .b = tb, .plain = &plain});
      EXPECT_LT(relative_error(out, product(doubles(a), doubles(b), n, depth, m, false)), allowed);
      multiply(c.kernels, {.a = ta, .b = tt, .transposed = true, .plain = &plain});
      EXPECT_LT(relative_error(out, product(doubles(a), doubles(bt), n, depth, m, true)), allowed);
    }
}

/// Bit for bit where an entry has one part; with several, hi lo + lo hi is summed the other way round below the diagonal.
TEST(Products, SymmetricOnesAreTheFullOnes) {
  for (const Case& c : cases())
    for (const int64_t n : {1, 31, 64, 100, 300}) {
      SCOPED_TRACE(c.name() + " " + std::to_string(n));
      Scratch scratch;
      const int64_t m = n + 45;
      std::vector<float> x = entries(n * m, 4);
      const Tiled tx = imported(scratch, c.kernels, x, n, m);
      const Tiled full = take_tiled(scratch, c.kernels, n, n), half = take_symmetric(scratch, c.kernels, n);
      multiply(c.kernels, {.a = tx, .b = tx, .transposed = true, .tiled = &full});
      multiply(c.kernels, {.a = tx, .b = tx, .transposed = true, .symmetric = true, .tiled = &half});
      const bool one_part = c.arithmetic <= Arithmetic::bfloat16;
      if (one_part) {
        EXPECT_EQ(read_back(c.kernels, full), read_back(c.kernels, half));
      }
      EXPECT_LT(relative_error(read_back(c.kernels, half), doubles(read_back(c.kernels, full))), c.rounding());
      const Tiled square = take_symmetric(scratch, c.kernels, n), other = take_tiled(scratch, c.kernels, n, n);
      multiply(c.kernels, {.a = half,
                           .b = half,
                           .symmetric = true,
                           .alpha = 0.5f,
                           .beta = -2,
                           .gamma = 3,
                           .s = &half,
                           .tiled = &square});
      multiply(c.kernels, {.a = full, .b = full, .alpha = 0.5f, .beta = -2, .gamma = 3, .s = &full, .tiled = &other});
      const std::vector<float> a = read_back(c.kernels, square), b = read_back(c.kernels, other);
      EXPECT_LT(relative_error(a, doubles(b)), 4 * c.rounding());
      for (int64_t i = 0; one_part && i < n; ++i)
        for (int64_t j = 0; j < i; ++j)
          ASSERT_EQ(a[static_cast<size_t>(i * n + j)], a[static_cast<size_t>(j * n + i)]) << i << " " << j;
    }
}

TEST(Products, AddAMultipleOfAMatrixAndOfTheIdentityOnce) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name());
    Scratch scratch;
    const int64_t n = 70, m = 41;
    std::vector<float> a = entries(n * n, 5), b = entries(n * m, 6), s = entries(n * m, 7);
    const Tiled ta = imported(scratch, c.kernels, a, n, n), tb = imported(scratch, c.kernels, b, n, m),
                ts = imported(scratch, c.kernels, s, n, m);
    Matrix expected = product(doubles(a), doubles(b), n, n, m, false);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < m; ++j) {
        const auto at = static_cast<size_t>(i * m + j);
        expected[at] = 0.25 * expected[at] - 1.5 * s[at] + (i == j ? 10 : 0);
      }
    std::vector<float> out(static_cast<size_t>(n * m)), turned(out.size());
    const Plain rows{.f32 = out.data(), .row_stride = m},
        columns{.f32 = turned.data(), .row_stride = 1, .col_stride = n};
    const Product sum{.a = ta, .b = tb, .alpha = 0.25f, .beta = -1.5f, .gamma = 10, .s = &ts, .plain = &rows};
    multiply(c.kernels, sum);
    EXPECT_LT(relative_error(out, expected), 4 * c.rounding() + 1e-6);
    Product other = sum;
    other.plain = &columns;
    multiply(c.kernels, other);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < m; ++j)
        ASSERT_EQ(out[static_cast<size_t>(i * m + j)], turned[static_cast<size_t>(j * n + i)]);
  }
}

/// With a scale or the identity alone, too.
TEST(Products, SymmetricOnesGoToRowsAndColumns) {
  const int64_t n = 70, m = 90;
  for (const Case& c : cases())
    for (const auto& [alpha, gamma] : {std::pair{0.5f, 0.f}, {1.f, 3.f}}) {
      SCOPED_TRACE(c.name() + " " + std::to_string(alpha));
      Scratch scratch;
      std::vector<float> x = entries(n * m, 12), rows(static_cast<size_t>(n * n)), columns(rows.size());
      const Tiled tx = imported(scratch, c.kernels, x, n, m);
      Matrix expected = product(doubles(x), doubles(x), n, m, n, true);
      for (int64_t i = 0; i < n * n; ++i)
        expected[static_cast<size_t>(i)] = alpha * expected[static_cast<size_t>(i)] + (i % (n + 1) == 0 ? gamma : 0);
      for (const Plain& to :
           {Plain{.f32 = rows.data(), .row_stride = n}, Plain{.f32 = columns.data(), .row_stride = 1, .col_stride = n}})
        multiply(
            c.kernels,
            {.a = tx, .b = tx, .transposed = true, .symmetric = true, .alpha = alpha, .gamma = gamma, .plain = &to});
      EXPECT_LT(relative_error(rows, expected), 4 * c.rounding() + 1e-6);
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < n; ++j)
          ASSERT_EQ(rows[static_cast<size_t>(i * n + j)], columns[static_cast<size_t>(j * n + i)]) << i << " " << j;
    }
}

/// What lies beyond the edges of a matrix, seen as a larger one.
TEST(Products, PaddingStaysZero) {
  const int64_t n = 70, whole = blocks_of(n) * kBlock;
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name());
    Scratch scratch;
    std::vector<float> x = entries(n * n, 13);
    const Tiled tx = imported(scratch, c.kernels, x, n, n), sum = take_symmetric(scratch, c.kernels, n),
                more = take_symmetric(scratch, c.kernels, n);
    multiply(c.kernels, {.a = tx, .b = tx, .transposed = true, .symmetric = true, .gamma = 3, .tiled = &sum});
    add_identity(c.kernels, sum, 2, more);
    const std::vector<float> before = read_back(c.kernels, sum), after = read_back(c.kernels, more);
    EXPECT_NEAR(after[0] - before[0], 2, 2 * c.rounding() * after[0]);
    EXPECT_EQ(after[1], before[1]);
    for (const Tiled& t : {tx, sum, more}) {
      const std::vector<float> all = read_back(c.kernels, {whole, whole, t.data});
      for (int64_t i = 0; i < whole; ++i)
        for (int64_t j = 0; j < whole; ++j)
          if (i >= n || j >= n) {
            ASSERT_EQ(all[static_cast<size_t>(i * whole + j)], 0) << i << " " << j;
          }
    }
  }
}

TEST(Products, ResultsDoNotDependOnTheNumberOfParts) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name());
    Scratch scratch;
    const int64_t n = 700, m = 600;
    std::vector<float> x = entries(n * m, 8);
    const Tiled tx = imported(scratch, c.kernels, x, n, m), whole = take_symmetric(scratch, c.kernels, n),
                parts = take_symmetric(scratch, c.kernels, n);
    multiply(c.kernels, {.a = tx, .b = tx, .transposed = true, .symmetric = true, .tiled = &whole});
    const Product shared{.a = tx, .b = tx, .transposed = true, .symmetric = true, .tiled = &parts};
    for (const int part : {2, 0, 1}) multiply(c.kernels, shared, part, 3);
    EXPECT_EQ(read_back(c.kernels, whole), read_back(c.kernels, parts));
  }
}

TEST(Products, EveryLayoutOfMemoryIsReadAndWritten) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name());
    Scratch scratch;
    const int64_t n = 37, m = 50;
    std::vector<float> x = entries(n * m * 6, 9);
    for (const auto& [row, col] : {std::pair<int64_t, int64_t>{m, 1}, {1, n}, {3 * m, 3}, {m + 7, 1}}) {
      const Plain layout{.f32 = x.data(), .row_stride = row, .col_stride = col};
      const Tiled t = take_tiled(scratch, c.kernels, n, m);
      import_matrix(c.kernels, layout, 2, t);
      const std::vector<float> got = read_back(c.kernels, t);
      std::vector<float> again(x.size(), -7);
      export_matrix(c.kernels, t, 4, {.f32 = again.data(), .row_stride = row, .col_stride = col});
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < m; ++j) {
          const float expected = 2 * x[static_cast<size_t>(i * row + j * col)];
          ASSERT_NEAR(got[static_cast<size_t>(i * m + j)], expected, std::abs(expected) * c.rounding());
          ASSERT_EQ(again[static_cast<size_t>(i * row + j * col)], 4 * got[static_cast<size_t>(i * m + j)]);
        }
    }
  }
}

TEST(Products, Bfloat16MemoryIsReadScaledAndWrittenInEveryLayout) {
  const int64_t n = 37, m = 50;
  for (const Case& c : cases())
    for (const auto& [row, col] : {std::pair<int64_t, int64_t>{m, 1}, {1, n}, {3 * m, 3}, {m + 7, 1}}) {
      SCOPED_TRACE(c.name() + " " + std::to_string(row));
      Scratch scratch;
      std::vector<uint16_t> x;
      for (const float v : entries(n * m * 6, 14)) x.push_back(static_cast<uint16_t>(std::bit_cast<uint32_t>(v) >> 16));
      const Tiled t = take_tiled(scratch, c.kernels, n, m);
      import_matrix(c.kernels, {.bf16 = x.data(), .row_stride = row, .col_stride = col}, 2, t);
      std::vector<uint16_t> again(x.size());
      export_matrix(c.kernels, t, 1, {.bf16 = again.data(), .row_stride = row, .col_stride = col});
      const std::vector<float> got = read_back(c.kernels, t);
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < m; ++j) {
          const auto at = static_cast<size_t>(i * row + j * col);
          const float value = std::bit_cast<float>(static_cast<uint32_t>(x[at]) << 16);
          ASSERT_EQ(got[static_cast<size_t>(i * m + j)], 2 * value) << i << " " << j;
          ASSERT_EQ(std::bit_cast<float>(static_cast<uint32_t>(again[at]) << 16), 2 * value) << i << " " << j;
        }
    }
}

TEST(Products, Bfloat16MemoryIsRoundedToNearestEven) {
  const float inputs[] = {1.00390625f, 1.01171875f, -1.00390625f, 3e38f, 3.4e38f, 1e-40f, 0.f};  // two ties, overflow
  for (const Case& c : cases()) {
    if (c.arithmetic == Arithmetic::bfloat16) continue;  // rounded on the way in already
    SCOPED_TRACE(c.name());
    Scratch scratch;
    std::vector<float> x(std::begin(inputs), std::end(inputs));
    const auto count = static_cast<int64_t>(x.size());
    const Tiled t = imported(scratch, c.kernels, x, 1, count);
    std::vector<uint16_t> out(x.size());
    export_matrix(c.kernels, t, 1, {.bf16 = out.data(), .row_stride = count});
    for (size_t i = 0; i < x.size(); ++i) {
      const float expected = static_cast<float>(at::BFloat16(x[i]));
      const float got = std::bit_cast<float>(static_cast<uint32_t>(out[i]) << 16);
      if (std::abs(x[i]) < 1e-37f) {
        EXPECT_LT(std::abs(got), 1e-37f);  // tiles know no denormal numbers
      } else if (c.arithmetic == Arithmetic::float32) {
        EXPECT_EQ(got, expected) << x[i];
      } else if (std::isfinite(expected)) {
        EXPECT_NEAR(got, expected, std::abs(expected) * 0x1p-8) << x[i];
      }
    }
  }
}

TEST(Products, NaNAndInfinitySurface) {
  for (const Case& c : cases())
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      SCOPED_TRACE(c.name());
      Scratch scratch;
      const int64_t n = 40;
      std::vector<float> x = entries(n * n, 10), out(x.size(), 0);
      x[3 * n + 5] = bad;
      const Tiled t = imported(scratch, c.kernels, x, n, n);
      const Plain plain{.f32 = out.data(), .row_stride = n};
      multiply(c.kernels, {.a = t, .b = t, .transposed = true, .symmetric = true, .plain = &plain});
      for (int64_t j = 0; j < n; ++j) {
        EXPECT_FALSE(std::isfinite(out[static_cast<size_t>(3 * n + j)])) << j;
        EXPECT_FALSE(std::isfinite(out[static_cast<size_t>(j * n + 3)])) << j;
      }
      EXPECT_TRUE(std::isfinite(out[0]));
    }
}

TEST(Products, AWarmArenaDoesNotGrow) {
  if (cases().empty()) GTEST_SKIP() << "no kernels for this CPU";
  const Case c = cases().front();
  const auto work = [&] {
    Scratch scratch;
    std::vector<float> x = entries(200 * 300, 11);
    const Tiled tx = imported(scratch, c.kernels, x, 200, 300), r = take_symmetric(scratch, c.kernels, 200);
    multiply(c.kernels, {.a = tx, .b = tx, .transposed = true, .symmetric = true, .tiled = &r});
  };
  work();
  const size_t held = scratch_bytes();
  for (int i = 0; i < 3; ++i) work();
  EXPECT_EQ(scratch_bytes(), held);
}

}  // namespace
}  // namespace schatten
