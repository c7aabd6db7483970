// The global gradient norm and clipping: torch's rule, the same bits at any number of threads.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/engine/optimizer.h>
#include <schatten/train/trainer.h>
#include <support/threads.h>
#include <torch/nn/utils/clip_grad.h>

#include <cmath>

namespace schatten {
namespace {

using testing::Threads;

const std::vector<std::vector<int64_t>> kShapes{{12, 20}, {16}, {8, 4, 3, 3}, {1, 9}, {300, 1001}};

std::vector<Parameter> parameters(at::ScalarType dtype, const std::vector<std::vector<int64_t>>& shapes = kShapes) {
  std::vector<Parameter> all;
  for (const auto& shape : shapes) {
    const auto i = static_cast<int64_t>(all.size());
    const Tensor w = at::zeros(shape, dtype).requires_grad_(true);
    w.mutable_grad() = Rng(3).at(i).normal(shape, dtype);
    all.push_back({infer_parameter("p" + std::to_string(i), w, i), w});
  }
  return all;
}

double oracle(const std::vector<Parameter>& all) {
  double squares = 0;
  for (const Parameter& p : all)
    if (p.tensor.grad().defined()) squares += p.tensor.grad().to(at::kDouble).square().sum().item<double>();
  return std::sqrt(squares);
}

TEST(GradientNorm, EqualsTheFloat64Oracle) {
  for (const auto& [dtype, rtol] : {std::pair{at::kDouble, 1e-14}, {at::kFloat, 1e-5}, {at::kBFloat16, 1e-5}}) {
    const auto all = parameters(dtype);
    EXPECT_NEAR(global_gradient_norm(all), oracle(all), rtol * oracle(all)) << dtype;
  }
}

TEST(GradientNorm, IsExactWhereTheNumbersAre) {
  auto all = parameters(at::kFloat, {{3, 3}, {4, 4}});
  all[0].tensor.mutable_grad() = at::full({3, 3}, 1.0);  // 3
  all[1].tensor.mutable_grad() = at::full({4, 4}, 1.0);  // 4
  EXPECT_EQ(global_gradient_norm(all), 5);
}

TEST(GradientNorm, LeavesOutWhatHasNoGradient) {
  auto all = parameters(at::kDouble);
  const double whole = global_gradient_norm(all);
  all[4].tensor.mutable_grad().reset();
  EXPECT_LT(global_gradient_norm(all), whole);
  EXPECT_NEAR(global_gradient_norm(all), oracle(all), 1e-12);
  for (const Parameter& p : all) p.tensor.mutable_grad().reset();
  EXPECT_EQ(global_gradient_norm(all), 0);
  EXPECT_EQ(global_gradient_norm({}), 0);
}

TEST(GradientNorm, SameBitsWithOneAndTwoThreads) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble})
    for (const auto& shapes : {kShapes, {{1000, 1001}}}) {  // one large tensor alone: nothing to share out
      const auto all = parameters(dtype, shapes);
      const Threads one(1);
      const double expected = global_gradient_norm(all);
      const Threads two(2);
      EXPECT_EQ(global_gradient_norm(all), expected) << dtype << ", " << shapes.size() << " tensors";
    }
}

TEST(GradientNorm, NonFiniteEntriesSurface) {
  for (const double bad : {NAN, INFINITY}) {
    const auto all = parameters(at::kFloat);
    all[4].tensor.grad()[299][1000] = bad;
    EXPECT_FALSE(std::isfinite(global_gradient_norm(all))) << bad;
  }
}

TEST(ClipGradients, EqualsTorch) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat})
    for (const double max_norm : {1e-3, 1.0, 100.0, 1e6}) {
      const auto ours = parameters(dtype), theirs = parameters(dtype);
      std::vector<Tensor> tensors;
      for (const Parameter& p : theirs) tensors.push_back(p.tensor);
      const double norm = global_gradient_norm(ours);
      const double torch_norm = torch::nn::utils::clip_grad_norm_(tensors, max_norm);
      const double rtol = dtype == at::kDouble ? 1e-14 : 1e-6;
      EXPECT_NEAR(norm, torch_norm, rtol * torch_norm);
      clip_gradients(ours, norm, max_norm);
      for (size_t i = 0; i < ours.size(); ++i)
        EXPECT_TRUE(at::allclose(ours[i].tensor.grad(), theirs[i].tensor.grad(), rtol, 0))
            << dtype << " " << max_norm << " " << i;
      EXPECT_NEAR(global_gradient_norm(ours), std::min(norm, max_norm), 1e-5 * max_norm + 2e-6);
    }
}

TEST(ClipGradients, ShortGradientsKeepTheirBits) {
  const auto all = parameters(at::kFloat), before = parameters(at::kFloat);
  clip_gradients(all, global_gradient_norm(all), 1e6);
  for (size_t i = 0; i < all.size(); ++i) EXPECT_TRUE(at::equal(all[i].tensor.grad(), before[i].tensor.grad())) << i;
}

TEST(ClipGradients, ANormThatIsNotANumberChangesNothing) {
  const auto all = parameters(at::kFloat), before = parameters(at::kFloat);
  clip_gradients(all, NAN, 1.0);
  for (size_t i = 0; i < all.size(); ++i) EXPECT_TRUE(at::equal(all[i].tensor.grad(), before[i].tensor.grad())) << i;
}

TEST(ClipGradients, LeavesOutWhatHasNoGradient) {
  auto all = parameters(at::kFloat);
  all[1].tensor.mutable_grad().reset();
  clip_gradients(all, global_gradient_norm(all), 0.5);
  EXPECT_FALSE(all[1].tensor.grad().defined());
  EXPECT_NEAR(oracle(all), 0.5, 1e-5);
}

}  // namespace
}  // namespace schatten
