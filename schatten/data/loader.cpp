#include <ATen/ATen.h>
#include <schatten/core/error.h>
#include <schatten/data/loader.h>

#include <algorithm>
#include <bit>
#include <utility>

namespace schatten {

namespace {

/// A keyed permutation of [0, n): a Feistel network on the next even number of bits (fewer than 4 n
/// values), applied until the result is inside. Nothing to store, whatever the size of an epoch.
int64_t permuted(int64_t index, int64_t n, const Rng& rng) {
  const auto width = static_cast<int>(std::bit_width(static_cast<uint64_t>(n - 1)));
  const int half = std::max(1, (width + 1) / 2);
  const uint64_t mask = (uint64_t{1} << half) - 1;
  constexpr uint64_t rounds = 6;
  auto x = static_cast<uint64_t>(index);
  do {
    uint64_t left = x >> half, right = x & mask;
    for (uint64_t round = 0; round < rounds; ++round)
      left = std::exchange(right, left ^ (rng.bits(mix(round, right)) & mask));
    x = (left << half) | right;
  } while (x >= static_cast<uint64_t>(n));
  return static_cast<int64_t>(x);
}

Batch gather(const TokenView& view, const std::vector<int64_t>& windows, int64_t context) {
  const int64_t rows = std::ssize(windows), width = context + 1;
  const Tensor all = at::empty({rows, width}, at::kLong);
  auto* out = all.data_ptr<int64_t>();
  for (int64_t i = 0; i < rows; ++i) view.copy(windows[static_cast<size_t>(i)] * context, width, out + i * width);
  return {all.narrow(1, 0, context).contiguous(), all.narrow(1, 1, context).contiguous()};
}

void require_positive(const char* key, int64_t value) {
  if (value < 1) fail_usage({key, "at least 1", std::to_string(value), ""});
}

}  // namespace

Loader::Loader(std::shared_ptr<const Corpus> corpus, Split split, int64_t batch, int64_t context, Rng rng)
    : corpus_(std::move(corpus)), split_(split), batch_(batch), context_(context), rng_(rng) {
  require_positive("data.batch", batch_);
  require_positive("model.context", context_);
  const int64_t size = corpus_->tokens(split_).size();
  windows_ = (size - 1) / context_;
  if (windows_ < 1)
    fail({"data.source",
          "at least " + std::to_string(context_ + 1) + " tokens (model.context + 1) in the " +
              std::string(to_string(split_)) + " split of " + corpus_->name(),
          std::to_string(size), "Use more text or a smaller model.context."});
}

Batch Loader::next() {
  Batch batch = batch_at(position_);
  position_ += batch_;
  return batch;
}

Batch Loader::batch_at(int64_t position) const {
  std::vector<int64_t> windows;
  for (int64_t i = position; i < position + batch_; ++i) {
    const Rng epoch = rng_.of("order").at(i / windows_);
    windows.push_back(permuted(i % windows_, windows_, epoch));
  }
  return gather(corpus_->tokens(split_), windows, context_);
}

std::vector<Batch> Loader::fixed_batches(int64_t count) const {
  const int64_t wanted = std::min(count * batch_, windows_);
  std::vector<Batch> batches;
  for (int64_t from = 0; from < wanted; from += batch_) {
    std::vector<int64_t> windows;
    for (int64_t i = from; i < std::min(from + batch_, wanted); ++i) windows.push_back(i * windows_ / wanted);
    batches.push_back(gather(corpus_->tokens(split_), windows, context_));
  }
  return batches;
}

double Loader::epochs() const { return static_cast<double>(position_) / static_cast<double>(windows_); }

}  // namespace schatten
