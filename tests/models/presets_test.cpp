#include <vector>

#include "support.h"

namespace schatten::test {
namespace {

struct Size {
  int64_t width, ffn, layers, heads, parameters, hidden;
};

int64_t hidden_matrices(const Architecture& a) {
  int64_t sum = 0;
  for (const ParameterInfo& info : parameter_infos(a)) {
    if (info.role == Role::hidden_matrix) sum += info.numel();
  }
  return sum;
}

void expect_size(const Architecture& a, int64_t parameters, int64_t hidden) {
  EXPECT_EQ(num_parameters(a), parameters);
  EXPECT_EQ(hidden_matrices(a), hidden);
}

TEST(Presets, HaveThePublishedSizes) {
  const auto size = [](const char* preset) { return resolve_architecture({.preset = preset}, 0); };
  expect_size(size("llama-60m"), 58'073'600, 25'296'896);
  expect_size(size("llama-135m"), 134'105'856, 84'934'656);
  expect_size(size("llama-350m"), 367'969'280, 302'383'104);
  expect_size(size("llama-1b"), 1'339'082'752, 1'207'910'400);
  expect_size(size("gpt2-124m"), 124'439'808, 84'934'656);
}

TEST(Presets, GiveTheSmallerPublishedSizesWithOverrides) {
  const std::vector<Size> sizes = {{128, 352, 4, 4, 8'995'968, 802'816}, {256, 688, 4, 4, 19'548'416, 3'162'112}};
  for (const Size& s : sizes) {
    const ModelOptions options{
        .preset = "llama-60m", .layers = s.layers, .width = s.width, .heads = s.heads, .ffn = s.ffn};
    expect_size(resolve_architecture(options, 0), s.parameters, s.hidden);
  }
}

TEST(Presets, SmallOnesSuitTwoCores) {
  const auto count = [](const char* preset) {
    const Architecture a = resolve_architecture({.preset = preset}, 256);
    EXPECT_EQ(num_parameters(a), make_model(a, at::kFloat, Rng(0))->num_parameters());
    return num_parameters(a);
  };
  EXPECT_LE(count("llama-tiny"), 800'000);
  EXPECT_EQ(count("llama-small"), 3'295'488);
  EXPECT_LE(count("gpt-small"), 3'500'000);
  EXPECT_LE(count("ngpt-tiny"), 800'000);
  EXPECT_LE(count("ngpt-small"), 3'350'000);
  EXPECT_LE(count("ngpt-gated-small"), 3'350'000);
  EXPECT_LE(count("ngpt-plan-small"), 3'350'000);
}

/// 2 V d + L (4 d^2 + 3 d f + 3 d + 2 f) + V; published with f = 4 d.
TEST(Presets, NgptHasThePublishedSizes) {
  const auto count = [](int64_t layers, int64_t width, int64_t vocab) {
    return num_parameters(resolve_architecture(
        {.preset = "ngpt-tiny", .layers = layers, .width = width, .heads = 4, .ffn = 4 * width, .vocab = vocab}, 0));
  };
  EXPECT_EQ(count(4, 128, 256), 1'120'000);
  EXPECT_EQ(count(12, 1024, 50304), 304'534'656);
  EXPECT_EQ(count(24, 1024, 50304), 505'996'416);
  const Architecture plan{.kind = "ngpt_gated_plan",
                          .layers = 11,
                          .width = 768,
                          .heads = 6,
                          .kv_heads = 6,
                          .ffn = 3072,
                          .context = 128,
                          .vocab = 50257};
  EXPECT_EQ(num_parameters(plan) + 1, 155'166'743);  // theirs has the scale of the logits, a constant here
}

TEST(Presets, AllResolve) {
  EXPECT_EQ(model_preset_names().size(), 13u);
  for (const std::string& name : model_preset_names()) {
    const Architecture a = resolve_architecture({.preset = name}, 0);
    EXPECT_EQ(a.kv_heads, a.heads) << name;
    EXPECT_GT(num_parameters(a), 0) << name;
  }
}

TEST(Presets, VocabularyIsTheGivenThenTheDatasThenThePresets) {
  EXPECT_EQ(resolve_architecture({.preset = "llama-60m"}, 0).vocab, 32000);
  EXPECT_EQ(resolve_architecture({.preset = "llama-60m"}, 256).vocab, 256);
  EXPECT_EQ(resolve_architecture({.preset = "llama-60m", .vocab = 512}, 256).vocab, 512);
}

TEST(Presets, OverridesCarryOver) {
  const Architecture a = resolve_architecture({.heads = 4, .ffn = 100, .tied = 1}, 0);
  EXPECT_EQ(a.kv_heads, 4);
  EXPECT_EQ(a.ffn, 100);
  EXPECT_TRUE(a.tied);
  EXPECT_EQ(resolve_architecture({.kv_heads = 2}, 0).kv_heads, 2);
  EXPECT_EQ(resolve_architecture({.preset = "gpt-small", .width = 64}, 0).ffn, 256);
  EXPECT_FALSE(resolve_architecture({.preset = "gpt-small", .tied = 0}, 0).tied);
}

TEST(Presets, RefuseWhatCannotBe) {
  const auto refusal = [](const ModelOptions& options, int64_t data_vocab = 0) {
    return message_of<UsageError>([&] { resolve_architecture(options, data_vocab); });
  };
  expect_says(refusal({.preset = "llama-smal"}), "llama-small");
  expect_says(refusal({.width = 100}), "model.heads");
  expect_says(refusal({.kv_heads = 3}), "model.kv_heads");
  expect_says(refusal({.width = 24, .heads = 8}), "even head size");
  expect_says(refusal({.layers = -1}), "model.layers");
  expect_says(refusal({.vocab = 100}, 256), "256");
  expect_says(refusal({.tied = 2}), "model.tied");
  expect_says(refusal({.init_std = -1}), "model.init_std");
  expect_says(refusal({.preset = "gpt-small", .kv_heads = 2}), "model.kv_heads");
  expect_says(refusal({.preset = "ngpt-tiny", .kv_heads = 2}), "kv_heads = heads = 4 for ngpt");
  expect_says(refusal({.preset = "ngpt-gated-small", .tied = 1}), "model.tied");
  expect_says(refusal({.preset = "ngpt-tiny", .width = 12}), "even head size");
  expect_says(message_of<UsageError>([] { num_parameters({.kind = "rnn"}); }), "llama, gpt, ngpt");
}

TEST(Presets, RotaryFormsAreThoseOfTheirModels) {
  const auto accepted = [](Architecture a, RotaryForm form) {
    a.rotary = form;
    return message_of<UsageError>([&] { parameter_infos(a); }).empty();
  };
  for (const RotaryForm form : {RotaryForm::half, RotaryForm::interleaved, RotaryForm::official}) {
    EXPECT_TRUE(accepted(tiny_ngpt("ngpt"), form));
    EXPECT_EQ(accepted(tiny_ngpt("ngpt_gated"), form), form != RotaryForm::official);
    EXPECT_EQ(accepted(tiny_llama(), form), form == RotaryForm::half);
  }
  EXPECT_TRUE(accepted(tiny_ngpt("ngpt_gated_plan"), RotaryForm::half));
}

}  // namespace
}  // namespace schatten::test
