#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <schatten/train/trainer.h>

#include <algorithm>

namespace schatten {

namespace {

/// Draws an index with probability softmax(logits / temperature); temperature 0 takes the largest.
int64_t draw(const Tensor& logits, double temperature, double uniform) {
  if (temperature <= 0) return logits.argmax().item<int64_t>();
  const Tensor share = logits.to(at::kDouble).div(temperature).softmax(0).cumsum(0);
  const double* cumulative = share.data_ptr<double>();
  const auto* end = cumulative + share.numel();
  const auto* at = std::upper_bound(cumulative, end, uniform * end[-1]);
  return std::min<int64_t>(at - cumulative, share.numel() - 1);
}

}  // namespace

std::string sample_text(const LanguageModel& model, const Corpus& corpus, const std::string& prompt, int64_t length,
                        double temperature, const Rng& rng) {
  const at::NoGradGuard no_grad;
  std::vector<int64_t> tokens = corpus.encode(prompt);
  if (tokens.empty()) tokens = corpus.encode("\n");
  if (tokens.empty()) return "";  // no tokenizer: nothing to read
  const int64_t context = model.architecture().context;
  for (int64_t i = 0; i < length; ++i) {
    const auto seen = std::min<int64_t>(static_cast<int64_t>(tokens.size()), context);
    const Tensor window = at::tensor(std::vector<int64_t>(tokens.end() - seen, tokens.end())).view({1, seen});
    tokens.push_back(draw(model.logits(window)[0][-1], temperature, rng.uniform(static_cast<uint64_t>(i))));
  }
  return corpus.decode(tokens);
}

}  // namespace schatten
