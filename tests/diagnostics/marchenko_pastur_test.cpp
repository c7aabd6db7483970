// Columns, and what stands out of a random matrix.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/core/rng.h>
#include <schatten/diagnostics/columns.h>
#include <schatten/diagnostics/marchenko_pastur.h>

#include <cmath>

namespace schatten::testing {
namespace {

Tensor gaussian(int64_t rows, int64_t cols) { return Rng(31).of("bulk").normal({rows, cols}, at::kDouble); }

MarchenkoPastur bulk_of(const Tensor& matrix) { return marchenko_pastur(matrix, singular_values(matrix)); }

TEST(MarchenkoPastur, EdgesHoldAGaussianMatrix) {
  const Tensor w = gaussian(400, 100) * 0.3;
  const MarchenkoPastur bulk = bulk_of(w);
  EXPECT_NEAR(bulk.upper, 0.09 * 400 * 2.25, 0.02 * bulk.upper);
  EXPECT_NEAR(bulk.lower, 0.09 * 400 * 0.25, 0.02 * bulk.lower);
  EXPECT_EQ(bulk.spikes, 0);
  EXPECT_NEAR(bulk.soft_rank, 1, 0.1);
}

TEST(MarchenkoPastur, CountsWhatStandsOut) {
  const Tensor u = std::get<0>(at::linalg_qr(gaussian(400, 3)));
  const Tensor v = std::get<0>(at::linalg_qr(gaussian(100, 3)));
  const Tensor spikes = u.mul(at::tensor({60.0, 50.0, 40.0}, at::kDouble)).mm(v.t());
  EXPECT_EQ(bulk_of(gaussian(400, 100) + spikes).spikes, 3);
  EXPECT_EQ(bulk_of((gaussian(400, 100) + spikes).t()).spikes, 3) << "a matrix and its transpose";
  EXPECT_LT(bulk_of(gaussian(400, 100) + spikes).soft_rank, 0.5);
}

TEST(MarchenkoPastur, ScalesWithTheMatrix) {
  const Tensor w = gaussian(60, 40);
  EXPECT_NEAR(bulk_of(w * 1e-4).upper, 1e-8 * bulk_of(w).upper, 1e-12 * bulk_of(w).upper);
  EXPECT_EQ(bulk_of(w * 1e-4).spikes, bulk_of(w).spikes);
}

TEST(Columns, NamesAndNumbersGoTogether) {
  const auto infos = column_infos();
  const Row row = row_of(gaussian(80, 60));
  const auto numbers = numbers_of(row.columns);
  ASSERT_EQ(infos.size(), numbers.size());
  for (size_t i = 0; i < infos.size(); ++i) {
    EXPECT_FALSE(infos[i].help.empty()) << infos[i].name;
    EXPECT_TRUE(!infos[i].whole || numbers[i] == std::floor(numbers[i])) << infos[i].name;
    EXPECT_TRUE(infos[i].name != "sigma_max" || numbers[i] == row.singular_values.front());
  }
}

TEST(Columns, ScaleFree) {
  const Tensor w = gaussian(80, 60);
  const Columns a = row_of(w).columns, b = row_of(w * 1e-5).columns;
  EXPECT_NEAR(a.alpha, b.alpha, 1e-9);
  EXPECT_EQ(a.num_pl_spikes, b.num_pl_spikes);
  EXPECT_NEAR(a.entropy, b.entropy, 1e-12);
  EXPECT_LT(row_of(w, {.above = 1.2 * a.xmin}).columns.num_pl_spikes, a.num_pl_spikes) << "a fixed threshold is not";
}

TEST(Columns, OfWhatHasNoFit) {
  const Columns few = row_of(gaussian(40, 30)).columns;
  EXPECT_TRUE(std::isnan(few.alpha) && std::isnan(few.sigma) && std::isnan(few.alpha_weighted));
  EXPECT_EQ(few.num_evals, 30);
  EXPECT_GT(few.stable_rank, 1);
  const Columns zero = row_of(at::zeros({80, 60}, at::kDouble)).columns;
  EXPECT_EQ(zero.sigma_max, 0);
  EXPECT_TRUE(std::isnan(zero.alpha) && std::isnan(zero.lambda_max) && zero.num_spikes == 0);
  const Row bad = row_of(gaussian(80, 60).log());
  EXPECT_TRUE(std::isnan(bad.columns.sigma_max) && bad.singular_values.empty());
  EXPECT_EQ(bad.columns.M, 60);
}

TEST(Columns, ShuffledOnlyWhenAskedFor) {
  EXPECT_TRUE(std::isnan(row_of(gaussian(80, 60)).columns.alpha_shuffled));
  const Tensor spiked = gaussian(80, 1).mm(gaussian(1, 60)) * 3 + gaussian(80, 60);
  const Columns c = row_of(spiked, {.fit = TailStart::median, .shuffled_seed = 1}).columns;
  EXPECT_GT(c.alpha_shuffled, 1);
  EXPECT_EQ(c.alpha_shuffled, row_of(spiked, {.fit = TailStart::median, .shuffled_seed = 1}).columns.alpha_shuffled);
  EXPECT_NE(c.alpha_shuffled, c.alpha);
}

}  // namespace
}  // namespace schatten::testing
