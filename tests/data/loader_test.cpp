#include <ATen/ATen.h>
#include <schatten/data/loader.h>

#include <set>

#include "support.h"

namespace schatten {
namespace {

using testing::contains;
using testing::message_of;

/// Token i is i.
class Counting final : public Corpus, public TokenView {
 public:
  explicit Counting(int64_t size) : size_(size) {}
  std::string name() const override { return "counting"; }
  std::string id() const override { return "0"; }
  int64_t vocab() const override { return size_; }
  double bytes_per_token() const override { return 0; }
  const TokenView& tokens(Split) const override { return *this; }
  std::string decode(const std::vector<int64_t>&) const override { return ""; }
  std::vector<int64_t> encode(std::string_view) const override { return {}; }
  int64_t size() const override { return size_; }
  void copy(int64_t from, int64_t count, int64_t* out) const override {
    ASSERT_GE(from, 0);
    ASSERT_LE(from + count, size_);
    std::iota(out, out + count, from);
  }

 private:
  int64_t size_;
};

Loader counting_loader(int64_t size, int64_t batch, int64_t context, uint64_t seed = 1) {
  return {std::make_shared<Counting>(size), Split::train, batch, context, Rng(seed)};
}

/// First tokens of the windows.
std::vector<int64_t> starts(const Batch& batch) {
  std::vector<int64_t> out;
  for (int64_t i = 0; i < batch.tokens.size(0); ++i) out.push_back(batch.tokens[i][0].item<int64_t>());
  return out;
}

std::vector<int64_t> next_starts(Loader& loader, int64_t batches) {
  std::vector<int64_t> all;
  for (int64_t i = 0; i < batches; ++i)
    for (const int64_t s : starts(loader.next())) all.push_back(s);
  return all;
}

TEST(Loader, TargetsAreTokensShiftedByOne) {
  Loader loader = counting_loader(1000, 4, 9);
  const Batch batch = loader.next();
  for (const Tensor& t : {batch.tokens, batch.targets}) {
    EXPECT_EQ(t.sizes(), (at::IntArrayRef{4, 9}));
    EXPECT_EQ(t.scalar_type(), at::kLong);
    EXPECT_TRUE(t.is_contiguous());
  }
  EXPECT_TRUE(at::equal(batch.targets, batch.tokens + 1));
  EXPECT_TRUE(at::equal(batch.tokens, batch.tokens.select(1, 0).unsqueeze(1) + at::arange(9)));
}

TEST(Loader, AnEpochVisitsEachWindowOnce) {
  for (const int64_t size : {5, 6, 9, 10, 41, 65, 68, 69, 70, 1025, 4101}) {
    Loader loader = counting_loader(size, 1, 4);
    ASSERT_EQ(loader.windows(), (size - 1) / 4);
    for (int epoch = 0; epoch < 3; ++epoch) {
      const auto seen = next_starts(loader, loader.windows());
      const std::set<int64_t> distinct(seen.begin(), seen.end());
      EXPECT_EQ(std::ssize(distinct), loader.windows());
      EXPECT_EQ(*distinct.begin(), 0);
      EXPECT_EQ(*distinct.rbegin(), 4 * (loader.windows() - 1));
    }
    EXPECT_EQ(loader.epochs(), 3);
  }
}

TEST(Loader, TheOrderIsThatOfSeedAndEpoch) {
  Loader a = counting_loader(4001, 8, 4), b = counting_loader(4001, 8, 4);
  Loader other = counting_loader(4001, 8, 4, 2);
  const auto first = next_starts(a, 125), second = next_starts(a, 125);
  EXPECT_EQ(next_starts(b, 125), first);
  EXPECT_EQ(next_starts(b, 125), second);
  EXPECT_NE(first, second) << "epochs differ";
  EXPECT_NE(next_starts(other, 125), first) << "seeds differ";
}

// Neighbours, fixed points and the correlation of rank with position, as of random permutations.
TEST(Loader, TheOrderLooksRandom) {
  constexpr int64_t n = 1000;
  double neighbours = 0, fixed = 0, correlation = 0;
  constexpr int seeds = 50;
  for (int seed = 0; seed < seeds; ++seed) {
    Loader loader = counting_loader(4 * n + 1, n, 4, static_cast<uint64_t>(seed));
    const auto order = starts(loader.next());
    for (int64_t i = 0; i < n; ++i) {
      const int64_t at = order[static_cast<size_t>(i)] / 4;
      fixed += at == i;
      neighbours += i > 0 && at == order[static_cast<size_t>(i - 1)] / 4 + 1;
      correlation += (static_cast<double>(at) / n - 0.5) * (static_cast<double>(i) / n - 0.5) / n;
    }
  }
  EXPECT_NEAR(fixed / seeds, 1, 0.6);
  EXPECT_NEAR(neighbours / seeds, 1, 0.6);
  EXPECT_NEAR(12 * correlation / seeds, 0, 0.02);
}

TEST(Loader, EverySmallOrderOccurs) {
  std::set<std::vector<int64_t>> orders;
  for (uint64_t seed = 0; seed < 2000; ++seed) {
    Loader loader = counting_loader(9, 4, 2, seed);
    orders.insert(starts(loader.next()));
  }
  EXPECT_GE(orders.size(), 12u) << "of 24, the even permutations at least";
}

TEST(Loader, ResumesAtAnyPosition) {
  Loader whole = counting_loader(101, 3, 4);
  const auto all = next_starts(whole, 40);
  for (int64_t skip = 0; skip < 40; ++skip) {
    Loader resumed = counting_loader(101, 3, 4);
    resumed.seek(3 * skip);
    EXPECT_EQ(next_starts(resumed, 40 - skip), std::vector<int64_t>(all.begin() + 3 * skip, all.end()));
    EXPECT_EQ(resumed.position(), whole.position());
  }
}

TEST(Loader, TheOrderDoesNotDependOnTheBatch) {
  Loader by3 = counting_loader(101, 3, 4), by7 = counting_loader(101, 7, 4);
  EXPECT_EQ(next_starts(by3, 70), next_starts(by7, 30)) << "batches go on across epochs of 25";
}

TEST(Loader, BatchesLargerThanTheEpochGoOn) {
  Loader loader = counting_loader(9, 10, 4);
  EXPECT_EQ(loader.next().tokens.size(0), 10);
  EXPECT_EQ(loader.epochs(), 5);
}

TEST(Loader, FixedBatchesAreSpreadAndTheSameForEverySeed) {
  Loader a = counting_loader(4001, 5, 4, 1);
  const auto fixed = a.fixed_batches(4);
  ASSERT_EQ(fixed.size(), 4u);
  std::vector<int64_t> all;
  for (const Batch& b : fixed)
    for (const int64_t s : starts(b)) all.push_back(s);
  for (int64_t i = 0; i < 20; ++i) EXPECT_EQ(all[static_cast<size_t>(i)], i * 200);
  EXPECT_EQ(a.position(), 0);
  a.next();
  const auto again = a.fixed_batches(4), other = counting_loader(4001, 5, 4, 2).fixed_batches(4);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(at::equal(again[i].targets, fixed[i].targets));
    EXPECT_TRUE(at::equal(other[i].tokens, fixed[i].tokens));
  }
}

TEST(Loader, FixedBatchesDoNotRepeat) {
  const auto fixed = counting_loader(4 * 13 + 3, 5, 4).fixed_batches(100);
  ASSERT_EQ(fixed.size(), 3u);
  EXPECT_EQ(fixed[2].tokens.size(0), 3);
  std::set<int64_t> seen;
  for (const Batch& b : fixed)
    for (const int64_t s : starts(b)) EXPECT_TRUE(seen.insert(s).second);
  EXPECT_EQ(seen.size(), 13u);
  EXPECT_TRUE(counting_loader(100, 5, 4).fixed_batches(0).empty());
}

TEST(Loader, ACorpusShorterThanASequenceIsNamed) {
  EXPECT_EQ(counting_loader(65, 1, 64).windows(), 1);
  const std::string message =
      message_of<Error>([] { Loader(std::make_shared<Counting>(64), Split::validation, 1, 64, Rng(1)); });
  EXPECT_TRUE(contains(message, "at least 65 tokens"));
  EXPECT_TRUE(contains(message, "validation split of counting"));
  EXPECT_TRUE(contains(message, "got 64"));
  for (const int64_t context : {1, 2, 64}) message_of<Error>([&] { counting_loader(0, 1, context); });
}

TEST(Loader, ImpossibleShapesAreUsageErrors) {
  for (const int64_t bad : {0, -1}) {
    EXPECT_TRUE(contains(message_of<UsageError>([&] { counting_loader(99, bad, 4); }), "data.batch"));
    EXPECT_TRUE(contains(message_of<UsageError>([&] { counting_loader(99, 4, bad); }), "context"));
  }
}

}  // namespace
}  // namespace schatten
