// Products by every instruction set against float64.
#include <schatten/core/error.h>
#include <schatten/core/fields.h>
#include <schatten/linalg/multiply.h>

#include <iostream>

#include "linalg/support.h"

namespace schatten::testing {
namespace {

constexpr Products kAll[] = {Products::automatic, Products::float32, Products::bfloat16x2, Products::bfloat16};
/// Twice what multiply.h prints.
double allowed(Products how) { return how == Products::bfloat16 ? 4e-3 : how == Products::float32 ? 1e-6 : 1e-5; }

TEST(Multiply, IsTheProductToItsAccuracyOnEveryInstructionSet) {
  double worst[4] = {};
  for (const auto& [m, k, n] : {std::tuple{96, 160, 64}, {70, 65, 129}, {512, 300, 64}, {5, 7, 3}, {1, 96, 1}}) {
    const Tensor a = gaussian({m, k}, 1), b = gaussian({k, n}, 2), expected = at::mm(a, b);
    const Tensor x = a.to(at::kFloat), y = b.to(at::kFloat), xt = a.mT().contiguous().to(at::kFloat).mT(),
                 yt = b.mT().contiguous().to(at::kFloat).mT();
    for (const Isa isa : available_isas())
      for (const Products how : kAll)
        for (const Tensor& product : {multiply(x, y, how, isa), multiply(xt, y, how, isa), multiply(x, yt, how, isa)}) {
          const double error = relative_error(product, expected);
          worst[static_cast<size_t>(how)] = std::max(worst[static_cast<size_t>(how)], error);
          EXPECT_LT(error, allowed(how)) << enum_name(how) << " " << enum_name(isa) << " " << m << " " << k << " " << n;
        }
  }
  for (const Products how : kAll)
    std::cout << "    " << enum_name(how) << ": largest error " << worst[static_cast<size_t>(how)] << " of "
              << allowed(how) << " allowed\n";
}

TEST(Multiply, ThreeFactorsAreTwoProducts) {
  for (const auto& [m, k, n, p] : {std::tuple{96, 160, 64, 70}, {5, 7, 3, 9}, {128, 64, 96, 8}}) {
    const Tensor a = gaussian({m, k}, 1), x = gaussian({k, n}, 2), b = gaussian({n, p}, 3);
    const Tensor expected = at::mm(at::mm(a, x), b);
    for (const Isa isa : available_isas())
      for (const Products how : kAll) {
        const auto given = [](const Tensor& t) { return t.to(at::kFloat); };
        EXPECT_LT(relative_error(multiply(given(a), given(x), given(b), how, isa), expected), 2 * allowed(how))
            << enum_name(how) << enum_name(isa);
      }
  }
}

TEST(Multiply, GramMatricesAreSymmetric) {
  for (const auto& [m, n] : {std::pair{96, 160}, {160, 96}, {97, 65}, {8, 200}, {200, 8}})
    for (const Isa isa : available_isas())
      for (const Products how : kAll)
        for (const bool turned : {false, true}) {
          const Tensor x = turned ? gaussian({n, m}, 3, at::kFloat).mT() : gaussian({m, n}, 3, at::kFloat);
          const Tensor d = x.to(at::kDouble), gram = gram_of_rows(x, how, isa);
          EXPECT_LT(relative_error(gram, at::mm(d, d.mT())), allowed(how)) << enum_name(how) << enum_name(isa);
          EXPECT_LT(relative_error(gram, gram.mT()), 1e-7) << enum_name(how) << enum_name(isa);
        }
}

TEST(Multiply, OfFloat64IsFloat64) {
  const Tensor a = gaussian({96, 96}, 4), b = gaussian({96, 96}, 5);
  for (const Isa isa : available_isas())
    for (const Products how : kAll) {
      EXPECT_TRUE(at::equal(multiply(a, b, how, isa), at::mm(a, b)));
      EXPECT_TRUE(at::equal(gram_of_rows(a, how, isa), at::mm(a, a.mT())));
      EXPECT_EQ(decided_products(how, at::kDouble, isa), "");
      EXPECT_NE(decided_products(how, at::kFloat, isa), "");
    }
}

TEST(Multiply, NaNAndInfinitySurface) {
  for (const double bad : {static_cast<double>(NAN), static_cast<double>(INFINITY)})
    for (const Isa isa : available_isas())
      for (const Products how : kAll) {
        Tensor x = gaussian({96, 96}, 6, at::kFloat);
        const Tensor y = gaussian({96, 96}, 7, at::kFloat);
        x[3][90] = bad;
        EXPECT_FALSE(multiply(x, y, how, isa)[3].isfinite().any().item<bool>());
        EXPECT_FALSE(gram_of_rows(x, how, isa)[3].isfinite().any().item<bool>());
      }
}

TEST(Multiply, RefusesWhatCannotBe) {
  const Tensor a = gaussian({4, 6}, 8);
  EXPECT_THROW(multiply(a, a, Products::float32, Isa::portable), UsageError);
  EXPECT_THROW(multiply(a, a.mT().to(at::kFloat), Products::float32, Isa::portable), UsageError);
  EXPECT_THROW(gram_of_rows(gaussian({2, 4, 6}, 8), Products::float32, Isa::portable), UsageError);
}

}  // namespace
}  // namespace schatten::testing
