// Weights come and go under transformers' names and layouts.
#include <algorithm>
#include <filesystem>

#include "support.h"

namespace schatten::test {
namespace {

/// A file of the test's own, gone afterwards.
class Weights : public testing::TestWithParam<Architecture> {
 protected:
  Weights() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    std::string name = std::string(test->test_suite_name()) + "-" + test->name() + ".safetensors";
    std::replace(name.begin(), name.end(), '/', '-');
    path_ = std::filesystem::path(testing::TempDir()) / name;
  }
  ~Weights() override { std::filesystem::remove(path_); }

  std::filesystem::path path_;
};

INSTANTIATE_TEST_SUITE_P(Architectures, Weights,
                         testing::Values(tiny_llama(), tiny_gpt(), tiny_ngpt("ngpt"), tiny_ngpt("ngpt_gated"),
                                         tiny_ngpt("ngpt_gated_plan")),
                         [](const auto& info) { return info.param.kind; });

void expect_same(const LanguageModel& a, const LanguageModel& b) {
  for (size_t i = 0; i < a.parameters().size(); ++i) {
    EXPECT_TRUE(at::equal(a.parameters()[i].tensor, b.parameters()[i].tensor)) << a.parameters()[i].info.name;
  }
}

TensorFile copy_of(const TensorFile& file) {
  TensorFile copy = file;
  for (auto& [name, tensor] : copy.tensors) tensor = tensor.clone();
  return copy;
}

TEST_P(Weights, SurviveAFile) {
  const auto saved = make_double(GetParam(), 1), loaded = make_double(GetParam(), 2);
  save_safetensors(path_, saved->weights());
  loaded->load_weights(load_safetensors(path_));
  expect_same(*saved, *loaded);
  const Tensor tokens = ids(1, 5, GetParam().vocab);
  EXPECT_TRUE(at::equal(saved->logits(tokens), loaded->logits(tokens)));
  EXPECT_TRUE(loaded->parameters()[0].tensor.is_leaf());
}

TEST_P(Weights, MayComeInAnotherPrecision) {
  const auto wide = make_double(GetParam(), 1);
  const auto narrow = make_model(GetParam(), at::kFloat, Rng(2));
  narrow->load_weights(wide->weights());
  EXPECT_TRUE(at::equal(narrow->parameters()[0].tensor, wide->parameters()[0].tensor.to(at::kFloat)));
}

/// Every disagreement is refused with the tensor's name, and nothing has changed then.
TEST_P(Weights, ThatDoNotFitAreRefused) {
  const auto model = make_double(GetParam(), 1), untouched = make_double(GetParam(), 1);
  const TensorFile good = copy_of(make_double(GetParam(), 2)->weights());
  const auto refusal = [&](auto&& spoil) {
    TensorFile file = good;
    spoil(file);
    const std::string message = message_of([&] { model->load_weights(file); });
    expect_same(*model, *untouched);
    return message;
  };
  const std::string name = good.tensors[3].first;
  expect_says(refusal([](TensorFile& f) { f.tensors.erase(f.tensors.begin() + 3); }), "missing " + name);
  expect_says(refusal([](TensorFile& f) { f.tensors.emplace_back("stray", at::ones({2})); }), "unexpected stray");
  const std::string shape = refusal([](TensorFile& f) { f.tensors[3].second = at::ones({3, 5}); });
  expect_says(shape, "misshaped " + name);
  expect_says(shape, "[3, 5] instead of [");
  expect_says(refusal([](TensorFile& f) { f.tensors.clear(); }), "more)");
}

TEST(GptWeights, AreStoredAsConv1D) {
  const auto model = make_double(tiny_gpt());
  const TensorFile file = model->weights();
  const Tensor& stored = file.at("transformer.h.0.attn.c_attn.weight");
  EXPECT_EQ(stored.sizes(), at::IntArrayRef({16, 48}));
  EXPECT_TRUE(at::equal(stored.t(), model->parameters()[4].tensor));
  EXPECT_EQ(file.at("transformer.wte.weight").sizes(), at::IntArrayRef({11, 16}));
  EXPECT_EQ(file.find("lm_head.weight"), nullptr);
}

/// The hub's GPT-2 has neither prefix nor clean names; other savers repeat the tied head.
TEST(GptWeights, ComeInTheHubsVariants) {
  const auto saved = make_double(tiny_gpt(), 1), loaded = make_double(tiny_gpt(), 2);
  TensorFile file = copy_of(saved->weights());
  for (auto& [name, tensor] : file.tensors) name = name.substr(std::string("transformer.").size());
  file.tensors.emplace_back("h.0.attn.bias", at::ones({1, 1, 8, 8}));
  file.tensors.emplace_back("lm_head.weight", file.tensors[0].second.clone());
  loaded->load_weights(file);
  expect_same(*saved, *loaded);
  file.tensors.back().second.add_(1);
  expect_says(message_of([&] { loaded->load_weights(file); }), "model.tied = 0");
}

TEST(LlamaWeights, OfATiedModelLackAHead) {
  Architecture tied = tiny_llama();
  tied.tied = true;
  const auto model = make_double(tiny_llama());
  expect_says(message_of([&] { model->load_weights(make_double(tied)->weights()); }), "model.tied = 1");
}

TEST(TransformersConfig, SaysWhatTheLibraryAsks) {
  const Value llama = transformers_config(tiny_llama());
  EXPECT_EQ(llama.at("architectures").as_array().at(0).as_string(), "LlamaForCausalLM");
  EXPECT_EQ(llama.at("num_key_value_heads").as_integer(), 2);
  EXPECT_EQ(llama.at("head_dim").as_integer(), 4);
  EXPECT_FALSE(llama.at("tie_word_embeddings").as_bool());
  const Value gpt = transformers_config(tiny_gpt());
  EXPECT_EQ(gpt.at("model_type").as_string(), "gpt2");
  EXPECT_EQ(gpt.at("n_positions").as_integer(), 8);
  EXPECT_TRUE(gpt.at("tie_word_embeddings").as_bool());
  for (const Architecture& a : tiny_ngpts()) {
    const Value ngpt = transformers_config(a);
    EXPECT_EQ(ngpt.at("model_type").as_string(), a.kind);
    EXPECT_EQ(ngpt.find("architectures"), nullptr);
  }
}

}  // namespace
}  // namespace schatten::test
