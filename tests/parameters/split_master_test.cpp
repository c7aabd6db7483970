// Two halves of a float32: bits of the authors' own update, and of every kind of number.
#include <schatten/core/rng.h>
#include <schatten/parameters/split_master.h>

#include <limits>

#include "parameters/support.h"

namespace schatten::testing {
namespace {

bool same_bits(const Tensor& a, const Tensor& b) {
  const auto bits = [](const Tensor& t) {
    return t.view(c10::elementSize(t.scalar_type()) == 4 ? at::kInt : at::kShort);
  };
  return at::equal(bits(a), bits(b));
}

constexpr const char* kOptimizer = "cautious decay + update on bf16 weight with 16-bit mantissa";

/// W <- W - W [U W >= 0] wd lr - U lr, in float32, old W on the right.
Tensor cautious_step(const Tensor& w, const Tensor& update, const Tensor& wd, const Tensor& lr) {
  const Tensor u = update.to(at::kFloat), mask = u.mul(w).ge(0).to(at::kFloat);
  return w - w * mask * wd * lr - u * lr;
}

TEST(GoldenSplitMaster, ReproducesTheAuthorsBits) {
  const auto files = files_of(kOptimizer);
  ASSERT_FALSE(files.empty()) << "no cases in " << golden_folder();
  for (const auto& path : files) {
    const TensorFile f = load_safetensors(path);
    SplitMaster parts{f.at("param.init").clone(), f.at("mantissa.init").clone()};
    EXPECT_TRUE(same_bits(join_master(parts), f.at("master.init")));
    const Tensor lr = f.at("lr"), wd = f.at("wd");
    for (int64_t t = 0; t < lr.numel(); ++t) {
      const std::string now = ".00" + std::to_string(t);
      const Tensor master = cautious_step(join_master(parts), f.at("update" + now), wd[t], lr[t]);
      parts = split_master(master, at::kUInt16);
      EXPECT_TRUE(same_bits(master, f.at("master" + now))) << now;
      EXPECT_TRUE(same_bits(parts.weight, f.at("param" + now))) << now;
      EXPECT_TRUE(same_bits(parts.mantissa, f.at("mantissa" + now))) << now;
    }
    report_parity(path, f, at::kBFloat16, ::testing::Test::HasFailure() ? 1 : 0, 0);  // bits
  }
}

Tensor numbers_of_every_kind() {
  using Limits = std::numeric_limits<float>;
  const Tensor special =
      at::tensor({0.0f, -0.0f, 1.0f, -1.0f, Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN(), Limits::max(),
                  Limits::lowest(), Limits::min(), Limits::denorm_min(), 1.0f + Limits::epsilon(), 1.99999988f});
  return at::cat({special, Rng(3).of("split").normal({987}, at::kFloat)});
}

TEST(SplitMaster, JoinsToTheSameBits) {
  const Tensor master = numbers_of_every_kind();
  for (const at::ScalarType dtype : {at::kShort, at::kUInt16}) {
    const SplitMaster parts = split_master(master, dtype);
    EXPECT_EQ(parts.weight.scalar_type(), at::kBFloat16);
    EXPECT_EQ(parts.mantissa.scalar_type(), dtype);
    EXPECT_TRUE(same_bits(join_master(parts), master));
  }
}

TEST(SplitMaster, KeepsShapesAndReadsAnyLayout) {
  const Tensor grid = numbers_of_every_kind().view({20, 50});
  for (const Tensor& master : {grid, grid.t(), grid.slice(1, 3, 41, 2), grid[4][5], grid.slice(0, 0, 0)}) {
    const SplitMaster parts = split_master(master);
    EXPECT_EQ(parts.weight.sizes(), master.sizes());
    EXPECT_TRUE(parts.weight.is_contiguous() && parts.mantissa.is_contiguous());
    EXPECT_TRUE(same_bits(join_master(parts), master.contiguous()));
  }
  const SplitMaster across = split_master(grid);
  EXPECT_TRUE(same_bits(join_master({across.weight.t(), across.mantissa.t()}), grid.t().contiguous()));
}

/// The weight is the master truncated: never further from 0, and less than one unit below.
TEST(SplitMaster, TruncatesAndDoesNotRound) {
  const Tensor master = at::tensor({1.0f + 0x1.fp-8f, -(1.0f + 0x1.fp-8f)});
  EXPECT_TRUE(at::equal(split_master(master).weight.to(at::kFloat), at::tensor({1.0f, -1.0f})));
  EXPECT_FALSE(at::equal(master.to(at::kBFloat16).to(at::kFloat), at::tensor({1.0f, -1.0f})));
}

TEST(SplitMaster, PartsDoNotAliasTheMaster) {
  const Tensor master = at::ones({4});
  const SplitMaster parts = split_master(master);
  Tensor joined = join_master(parts);
  joined.zero_();
  Tensor(master).zero_();
  EXPECT_TRUE(at::equal(parts.weight.to(at::kFloat), at::ones({4})));
}

TEST(SplitMaster, RefusesWhatCannotBe) {
  const auto says = [](const std::string& text, const char* what) { return text.find(what) != std::string::npos; };
  const Tensor w = at::zeros({3}, at::kBFloat16), m = at::zeros({3}, at::kShort);
  EXPECT_TRUE(says(error_of([&] { join_master({w.to(at::kFloat), m}); }), "got float32 [3] and "));
  EXPECT_TRUE(says(error_of([&] { join_master({w, m.to(at::kInt)}); }), "got bfloat16 [3] and int"));
  EXPECT_TRUE(says(error_of([&] { join_master({w, at::zeros({4}, at::kShort)}); }), "got bfloat16 [3] and short [4]"));
  EXPECT_TRUE(
      says(error_of([&] { split_master(w); }), "a float32 master and an int16 or uint16 mantissa, got bfloat16"));
  EXPECT_TRUE(says(error_of([&] { split_master(at::zeros({3}), at::kInt); }), "got float32 and int"));
}

}  // namespace
}  // namespace schatten::testing
