#include <ATen/ATen.h>
#include <schatten/core/parameter_info.h>
#include <schatten/core/rng.h>

#include "support.h"

namespace schatten {
namespace {

// The published sequences of splitmix64 for the seeds 0 and 1234567.
TEST(Rng, MixIsSplitmix64) {
  EXPECT_EQ(mix(0, 0), 0xe220a8397b1dcdafu);
  EXPECT_EQ(mix(1234567, 0), 6457827717110365317u);
  EXPECT_EQ(mix(1234567, 1), 3203168211198807973u);
}

TEST(Rng, HashIsFnv1a) {
  EXPECT_EQ(fnv1a(""), 0xcbf29ce484222325u);
  EXPECT_EQ(fnv1a("foobar"), 0x85944171f73967e8u);
}

// Worked out by an independent program: runs of old must stay repeatable.
TEST(Rng, DrawsNeverChange) {
  const Rng rng = Rng(7).of("init").at(3);
  EXPECT_EQ(rng.key(), 0x00f74c6485884ccfu);
  EXPECT_EQ(rng.bits(0), 0x5dd2cfeaac360fb0u);
  EXPECT_EQ(rng.uniform(0), 0.36649798850358917);
}

TEST(Rng, DrawsArePure) {
  const Rng rng(1);
  const at::Tensor first = rng.of("init").normal({5, 3}, at::kFloat);
  EXPECT_TRUE(at::equal(first, rng.of("init").normal({5, 3}, at::kFloat)));
  EXPECT_FALSE(at::equal(first, rng.of("data").normal({5, 3}, at::kFloat)));
  EXPECT_FALSE(at::equal(first, rng.of("init").at(0).normal({5, 3}, at::kFloat)));
  EXPECT_FALSE(at::equal(first, Rng(2).of("init").normal({5, 3}, at::kFloat)));
}

TEST(Rng, NormalHasItsMoments) {
  const at::Tensor x = Rng(3).normal({200001}, at::kDouble);
  EXPECT_NEAR(x.mean().item<double>(), 0, 0.01);
  EXPECT_NEAR(x.var().item<double>(), 1, 0.02);
  EXPECT_NEAR(x.pow(3).mean().item<double>(), 0, 0.04);
  EXPECT_NEAR(x.pow(4).mean().item<double>(), 3, 0.1);
  EXPECT_LT(x.abs().max().item<double>(), 7);
  const at::Tensor neighbours = (x.slice(0, 0, -1) * x.slice(0, 1)).mean();
  EXPECT_NEAR(neighbours.item<double>(), 0, 0.01);
}

TEST(Rng, NormalHonoursShapeAndType) {
  const at::Tensor x = Rng(3).normal({2, 0, 3}, at::kBFloat16);
  EXPECT_EQ(x.sizes(), (at::IntArrayRef{2, 0, 3}));
  EXPECT_EQ(x.scalar_type(), at::kBFloat16);
  EXPECT_EQ(Rng(3).normal({}, at::kFloat).dim(), 0);
}

TEST(Rng, BelowIsEven) {
  std::array<int, 6> counts{};
  const Rng rng(5);
  for (uint64_t i = 0; i < 60000; ++i) ++counts.at(static_cast<size_t>(rng.below(6, i)));
  for (const int count : counts) EXPECT_NEAR(count, 10000, 400);
  EXPECT_EQ(rng.below(1, 9), 0);
}

TEST(Rng, UniformStaysBelowOne) {
  double sum = 0;
  for (uint64_t i = 0; i < 10000; ++i) {
    const double u = Rng(9).uniform(i);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    sum += u;
  }
  EXPECT_NEAR(sum / 10000, 0.5, 0.02);
}

TEST(ParameterInfo, ViewsTensorsAsMatrices) {
  ParameterInfo info;
  info.shape = {4, 3, 2, 2};
  EXPECT_EQ(info.rows(), 4);
  EXPECT_EQ(info.cols(), 12);
  EXPECT_EQ(info.numel(), 48);
  info.shape = {5};
  EXPECT_EQ(info.rows(), 1);
  EXPECT_EQ(info.cols(), 5);
  info.shape = {};
  EXPECT_EQ(info.rows(), 1);
  EXPECT_EQ(info.cols(), 1);
  EXPECT_EQ(info.numel(), 1);
}

TEST(ParameterInfo, RolesHaveNames) {
  EXPECT_EQ(to_string(Role::hidden_matrix), "hidden_matrix");
  EXPECT_EQ(to_string(Role::conv), "conv");
}

}  // namespace
}  // namespace schatten
