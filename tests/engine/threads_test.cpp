// Fewer matrices than threads: each gets all threads inside, and where the kernels are the project's own not a bit
// depends on it.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/engine/optimizer.h>
#include <schatten/papers/registry.h>
#include <support/threads.h>

#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace schatten {
namespace {

using testing::Threads;

constexpr int64_t kSteps = 3;

/// The weights after some steps, `count` matrices of this shape and one vector.
std::vector<Tensor> stepped(const std::string& toml, int threads, Isa isa, int64_t count, int64_t rows, int64_t cols,
                            at::ScalarType dtype = at::kFloat) {
  const Threads scope(threads);
  std::vector<Parameter> parameters;
  for (int64_t i = 0; i <= count; ++i) {
    const std::vector<int64_t> shape = i < count ? std::vector<int64_t>{rows, cols} : std::vector<int64_t>{rows};
    const Tensor w = Rng(3).at(i).normal(shape, dtype).requires_grad_(true);
    parameters.push_back({infer_parameter("p" + std::to_string(i), w, i), w});
  }
  Optimizer optimizer(
      parameters,
      {{"gain", make_recipe(parse_toml("recipe = 'adamw'")), 0.01}, {"any", make_recipe(parse_toml(toml)), 0.02}},
      {.isa = isa});
  for (int64_t t = 0; t < kSteps; ++t) {
    for (const Parameter& p : parameters)
      p.tensor.mutable_grad() = Rng(5).at(t).at(p.info.index).normal(p.info.shape, dtype);
    optimizer.step();
  }
  std::vector<Tensor> weights;
  for (const Parameter& p : parameters) weights.push_back(p.tensor.detach());
  return weights;
}

bool same_bits(const std::vector<Tensor>& x, const std::vector<Tensor>& y) {
  bool same = x.size() == y.size();
  for (size_t i = 0; same && i < x.size(); ++i) same = at::equal(x[i], y[i]);
  return same;
}

TEST(ThreadsInside, OwnKernelsGiveTheSameBits) {
  for (const Isa isa : available_isas()) {
    if (isa == Isa::portable) continue;  // ATen's products
    for (const char* toml :
         {"recipe = 'muon'\npolar = { compute = 'float32' }", "recipe = 'muon'\npolar = { compute = 'bfloat16' }",
          "recipe = 'muon'\npolar = { compute = 'bfloat16', iteration = 'gram' }"})
      for (const int64_t count : {1, 3}) {
        const auto one = stepped(toml, 1, isa, count, 300, 700);
        for (const int threads : {2, 9})
          EXPECT_TRUE(same_bits(stepped(toml, threads, isa, count, 300, 700), one))
              << toml << ", " << enum_name(isa) << ", " << count << " matrices, " << threads << " threads";
      }
  }
}

/// LAPACK chooses its algorithm by the threads that it might have, even where it gets one: the last digits differ.
/// (SOAP is left out: the basis of an empty space turns with them.)
TEST(ThreadsInside, ATensGiveTheSameToRounding) {
  for (const char* toml : {"recipe = 'muon'", "recipe = 'normuon'", "recipe = 'htmuon'\nmethod = 'svd'",
                           "recipe = 'htmuon'\nmethod = 'eigh'", "recipe = 'shampoo'"}) {
    const auto one = stepped(toml, 1, Isa::portable, 1, 90, 130, at::kDouble);
    for (const int threads : {2, 4}) {
      const auto more = stepped(toml, threads, Isa::portable, 1, 90, 130, at::kDouble);
      for (size_t i = 0; i < one.size(); ++i)
        EXPECT_LE((one[i] - more[i]).abs().max().item<double>(), 1e-10) << toml << ", " << threads << " threads";
    }
  }
}

/// With as many matrices as threads nothing but LAPACK goes by their number.
TEST(ThreadsInside, OneMatrixPerThreadGivesTheSameBits) {
  for (const char* toml : {"recipe = 'muon'", "recipe = 'normuon'", "recipe = 'htmuon'\nmethod = 'mixture'"})
    for (const Isa isa : {Isa::portable, this_isa()})
      EXPECT_TRUE(same_bits(stepped(toml, 2, isa, 2, 300, 200), stepped(toml, 1, isa, 2, 300, 200))) << toml;
}

}  // namespace
}  // namespace schatten
