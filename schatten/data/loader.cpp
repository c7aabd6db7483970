#include <ATen/ATen.h>
#include <schatten/core/error.h>
#include <schatten/data/loader.h>

#include <bit>

namespace schatten {

namespace {

/// A keyed permutation of [0, n): four Feistel rounds on the next even number of bits, walked until inside.
int64_t permuted(int64_t index, int64_t n, const Rng& rng) {
  const int bits = std::max(1, (static_cast<int>(std::bit_width(static_cast<uint64_t>(n - 1))) + 1) / 2);
  const uint64_t mask = (uint64_t{1} << bits) - 1;
  auto x = static_cast<uint64_t>(index);
  do {
    uint64_t left = x >> bits, right = x & mask;
    for (uint64_t round = 0; round < 4; ++round) {
      const uint64_t next = left ^ (rng.bits(mix(round, right)) & mask);
      left = right;
      right = next;
    }
    x = (left << bits) | right;
  } while (x >= static_cast<uint64_t>(n));
  return static_cast<int64_t>(x);
}

/// Windows `starts` of T + 1 tokens as a batch.
Batch gather(const TokenView& view, const std::vector<int64_t>& starts, int64_t context) {
  const Tensor windows = at::empty({static_cast<int64_t>(starts.size()), context + 1}, at::kLong);
  int64_t* out = windows.data_ptr<int64_t>();
  for (size_t i = 0; i < starts.size(); ++i) view.copy(starts[i], context + 1, out + static_cast<int64_t>(i) * (context + 1));
  return {windows.narrow(1, 0, context).contiguous(), windows.narrow(1, 1, context).contiguous()};
}

}  // namespace

Loader::Loader(std::shared_ptr<const Corpus> corpus, Split split, int64_t batch, int64_t context, Rng rng)
    : corpus_(std::move(corpus)), split_(split), batch_(batch), context_(context), rng_(rng) {
  const int64_t size = corpus_->tokens(split_).size();
  windows_ = size > 0 ? (size - 1) / context_ : 0;
  if (windows_ < 1)
    fail({"data", "at least " + std::to_string(context_ + 1) + " tokens in the " + std::string(to_string(split_)) +
                      " split of " + corpus_->name() + " (one sequence of model.context)",
          std::to_string(size), "Use a longer text or a smaller model.context."});
}

Batch Loader::next() {
  Batch batch = batch_at(position_);
  position_ += batch_;
  return batch;
}

Batch Loader::batch_at(int64_t position) const {
  std::vector<int64_t> starts;
  for (int64_t i = position; i < position + batch_; ++i) {
    const Rng epoch = rng_.of("order").at(i / windows_);
    starts.push_back(permuted(i % windows_, windows_, epoch) * context_);
  }
  return gather(corpus_->tokens(split_), starts, context_);
}

std::vector<Batch> Loader::fixed_batches(int64_t count) const {
  const int64_t wanted = std::min(count * batch_, windows_);
  std::vector<Batch> batches;
  for (int64_t from = 0; from < wanted; from += batch_) {
    std::vector<int64_t> starts;
    for (int64_t i = from; i < std::min(from + batch_, wanted); ++i) starts.push_back(i * windows_ / wanted * context_);
    batches.push_back(gather(corpus_->tokens(split_), starts, context_));
  }
  return batches;
}

double Loader::epochs() const { return static_cast<double>(position_) / static_cast<double>(windows_); }

}  // namespace schatten
