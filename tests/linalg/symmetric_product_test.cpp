// Products of which one triangle is computed against the full ones.
#include <ATen/core/grad_mode.h>
#include <schatten/core/rng.h>
#include <schatten/linalg/symmetric_product_impl.h>

#include "linalg/support.h"

namespace schatten::testing {
namespace {

// Two, three and four block rows, of equal and of other lengths, and too small for any.
constexpr std::pair<int64_t, int64_t> kSizes[] = {{384, 384}, {385, 200}, {577, 400}, {799, 192}, {96, 400}};

double tolerance(at::ScalarType dtype) { return dtype == at::kDouble ? 1e-14 : dtype == at::kFloat ? 1e-6 : 1e-2; }

TEST(SymmetricProduct, OfAMatrixAndItsTransposeIsTheFullOne) {
  for (const auto& [n, depth] : kSizes)
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16})
      for (const bool turned : {false, true}) {
        const Tensor x = turned ? gaussian({depth, n}, 1, dtype).mT() : gaussian({n, depth}, 1, dtype);
        const Tensor d = x.to(at::kDouble), c = symmetric_product(x, x.mT());
        EXPECT_LT(relative_error(c, at::mm(d, d.mT())), tolerance(dtype)) << n << " " << depth << " " << dtype;
        EXPECT_EQ(c.scalar_type(), dtype);
        EXPECT_TRUE(c.is_contiguous());
        if (dtype != at::kBFloat16) {
          EXPECT_LT(relative_error(c, c.mT()), tolerance(dtype));
        }
      }
}

TEST(SymmetricProduct, OfCommutingMatricesAddsAMultipleOfAThird) {
  for (const auto& [n, depth] : kSizes)
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
      const Tensor g = gaussian({n, depth}, 2), a = at::mm(g, g.mT()) / static_cast<double>(depth), a2 = at::mm(a, a);
      const Tensor c = symmetric_product(a.to(dtype), a2.to(dtype), a.to(dtype), -0.75, 1.5);
      EXPECT_LT(relative_error(c, 1.5 * at::mm(a, a2) - 0.75 * a), tolerance(dtype)) << n << " " << dtype;
    }
}

TEST(SymmetricProduct, OfABatchGoesMatrixByMatrix) {
  const Tensor x = gaussian({3, 200, 210}, 3), c = symmetric_product(x, x.mT());
  const Tensor s = symmetric_product(c, c, c, 2, -1);
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_LT(relative_error(c[i], at::mm(x[i], x[i].mT())), 1e-14);
    EXPECT_LT(relative_error(s[i], 2 * c[i] - at::mm(c[i], c[i])), 1e-14);
  }
}

TEST(SymmetricProduct, NaNAndInfinitySurface) {
  for (const double bad : {static_cast<double>(NAN), static_cast<double>(INFINITY)})
    for (const int64_t row : {3, 350}) {
      Tensor x = gaussian({400, 200}, 4, at::kFloat);
      x[row][7] = bad;
      const Tensor c = symmetric_product(x, x.mT());
      EXPECT_FALSE(c[row].isfinite().any().item<bool>());
      EXPECT_FALSE(c.select(1, row).isfinite().any().item<bool>());
      EXPECT_TRUE(c[10][20].isfinite().item<bool>());
    }
}

/// One matrix per thread, or one after another on a single thread.
TEST(SymmetricProduct, HasTheSameBitsInsideAParallelRegion) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble})
    for (const int64_t n : {400, 600, 800}) {
      const Tensor x = gaussian({n, n + 50}, 5, dtype), a = at::mm(x, x.mT()) / static_cast<double>(n);
      const auto both = [&] { return std::pair{symmetric_product(x, x.mT()), symmetric_product(a, a, a, -0.7, 0.3)}; };
      const auto alone = both();
      at::set_num_threads(2);
      at::parallel_for(0, 2, 1, [&](int64_t, int64_t) {
        const at::NoGradGuard no_grad;
        const auto inside = both();
        EXPECT_TRUE(at::equal(inside.first, alone.first)) << n;
        EXPECT_TRUE(at::equal(inside.second, alone.second)) << n;
      });
      at::set_num_threads(1);
    }
}

TEST(SymmetricProduct, CostsLessWhereOneTriangleIsComputed) {
  EXPECT_LT(symmetric_share(512, 512, at::kFloat), 1);
  EXPECT_LT(symmetric_share(512, 512, at::kDouble), 1);
  EXPECT_EQ(symmetric_share(512, 512, at::kBFloat16), 1);
  EXPECT_EQ(symmetric_share(512, 64, at::kFloat), 1);
  EXPECT_EQ(symmetric_share(64, 512, at::kFloat), 1);
}

}  // namespace
}  // namespace schatten::testing
