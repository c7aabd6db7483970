// Small architectures and comparisons that the model tests share.
#pragma once
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <schatten/models/language_model.h>

#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace schatten {

/// GoogleTest would print the bytes, addresses included, into the tests' names.
inline void PrintTo(const Architecture& a, std::ostream* out) { *out << a.kind << (a.tied ? ", tied" : ", untied"); }

}  // namespace schatten

namespace schatten::test {

inline Architecture tiny_llama() {
  return {.kind = "llama",
          .layers = 2,
          .width = 16,
          .heads = 4,
          .kv_heads = 2,
          .ffn = 20,
          .context = 8,
          .vocab = 11,
          .init_std = 0.3};
}

inline Architecture tiny_gpt() {
  return {.kind = "gpt",
          .layers = 2,
          .width = 16,
          .heads = 4,
          .kv_heads = 4,
          .ffn = 24,
          .context = 8,
          .vocab = 11,
          .tied = true,
          .init_std = 0.3,
          .norm_eps = 1e-5};
}

/// "ngpt", "ngpt_gated" or "ngpt_gated_plan"
inline Architecture tiny_ngpt(const std::string& kind) {
  return {.kind = kind, .layers = 2, .width = 16, .heads = 4, .kv_heads = 4, .ffn = 20, .context = 8, .vocab = 11};
}

inline std::vector<Architecture> tiny_ngpts() {
  return {tiny_ngpt("ngpt"), tiny_ngpt("ngpt_gated"), tiny_ngpt("ngpt_gated_plan")};
}

inline std::unique_ptr<LanguageModel> make_double(const Architecture& a, uint64_t seed = 1) {
  return make_model(a, at::kDouble, Rng(seed));
}

/// The same ids for the same arguments; `shift` gives another batch.
inline Tensor ids(int64_t batch, int64_t length, int64_t vocab, int64_t shift = 0) {
  const Tensor count = at::arange(batch * length, at::kLong);
  return (count * count * 7 + count * 3 + shift).remainder(vocab).view({batch, length});
}

/// |a - b| <= rtol * max|b| + atol, the largest over the whole tensor.
inline void expect_close(const Tensor& a, const Tensor& b, double rtol, double atol, const std::string& what) {
  ASSERT_TRUE(a.defined()) << what << " is undefined";
  ASSERT_EQ(a.sizes(), b.sizes()) << what;
  const Tensor wide = a.detach().to(at::kDouble), reference = b.detach().to(at::kDouble);
  const double error = (wide - reference).abs().max().item<double>();
  const double limit = rtol * reference.abs().max().item<double>() + atol;
  EXPECT_LE(error, limit) << what;
}

/// The message of the Error that `act` throws, or "" when it throws none.
template <class E = Error>
std::string message_of(auto&& act) {
  try {
    act();
  } catch (const E& error) {
    return error.what();
  }
  return "";
}

inline void expect_says(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << "'" << message << "' lacks '" << part << "'";
}

}  // namespace schatten::test
