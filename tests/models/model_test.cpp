// What every language model promises, whatever its architecture.
#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "support.h"

namespace schatten::test {
namespace {

class EveryModel : public testing::TestWithParam<Architecture> {};

std::vector<Architecture> architectures() {
  Architecture tied_llama = tiny_llama(), untied_gpt = tiny_gpt();
  tied_llama.tied = true;
  untied_gpt.tied = false;
  std::vector<Architecture> all = tiny_ngpts();
  all.insert(all.end(), {tiny_llama(), tied_llama, tiny_gpt(), untied_gpt});
  return all;
}

INSTANTIATE_TEST_SUITE_P(Architectures, EveryModel, testing::ValuesIn(architectures()),
                         [](const auto& info) { return info.param.kind + (info.param.tied ? "_tied" : "_untied"); });

TEST_P(EveryModel, GivesScoresAndAMeanLoss) {
  const Architecture& a = GetParam();
  const auto model = make_double(a);
  const Tensor tokens = ids(2, 5, a.vocab), targets = ids(2, 5, a.vocab, 3);
  const Tensor scores = model->logits(tokens);
  EXPECT_EQ(scores.sizes(), at::IntArrayRef({2, 5, a.vocab}));
  const Tensor chosen = scores.log_softmax(-1).gather(-1, targets.unsqueeze(-1));
  expect_close(model->loss(tokens, targets), -chosen.mean(), 1e-13, 0, "loss");
}

TEST_P(EveryModel, DoesNotLookAhead) {
  const Architecture& a = GetParam();
  const auto model = make_double(a);
  const Tensor tokens = ids(1, 6, a.vocab);
  Tensor changed = tokens.clone();
  changed.narrow(1, 4, 2).add_(1).remainder_(a.vocab);
  const Tensor before = model->logits(tokens), after = model->logits(changed);
  expect_close(after.narrow(1, 0, 4), before.narrow(1, 0, 4), 1e-14, 0, "earlier positions");
  EXPECT_GT((after - before).narrow(1, 4, 2).abs().max().item<double>(), 1e-3);
}

/// Central differences along one random direction per parameter.
TEST_P(EveryModel, GradientsAreThoseOfTheLoss) {
  const Architecture& a = GetParam();
  const auto model = make_double(a);
  const Tensor tokens = ids(2, 7, a.vocab), targets = ids(2, 7, a.vocab, 5);
  model->loss(tokens, targets).backward();
  const c10::NoGradGuard no_grad;
  constexpr double h = 1e-5;
  for (const auto& [info, tensor] : model->parameters()) {
    const Tensor direction = Rng(7).at(info.index).normal(info.shape, at::kDouble);
    const double expected = (tensor.grad() * direction).sum().item<double>();
    tensor.add_(direction, h);
    const double up = model->loss(tokens, targets).item<double>();
    tensor.sub_(direction, 2 * h);
    const double down = model->loss(tokens, targets).item<double>();
    tensor.add_(direction, h);
    EXPECT_NEAR((up - down) / (2 * h), expected, 1e-7 * std::max(1.0, std::abs(expected))) << info.name;
  }
}

TEST_P(EveryModel, SameSeedSameBits) {
  const auto one = make_double(GetParam(), 3), same = make_double(GetParam(), 3);
  const auto other = make_double(GetParam(), 4);
  for (size_t i = 0; i < one->parameters().size(); ++i) {
    const Parameter& p = one->parameters()[i];
    EXPECT_TRUE(at::equal(p.tensor, same->parameters()[i].tensor)) << p.info.name;
    const bool drawn = p.info.role != Role::gain && p.info.role != Role::bias;
    EXPECT_EQ(at::equal(p.tensor, other->parameters()[i].tensor), !drawn) << p.info.name;
  }
}

TEST_P(EveryModel, PrecisionsStartFromTheSameDraws) {
  const auto wide = make_double(GetParam());
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const auto narrow = make_model(GetParam(), dtype, Rng(1));
    for (size_t i = 0; i < wide->parameters().size(); ++i) {
      const Tensor& tensor = narrow->parameters()[i].tensor;
      EXPECT_EQ(tensor.scalar_type(), dtype);
      EXPECT_TRUE(at::equal(tensor, wide->parameters()[i].tensor.to(dtype)));
    }
  }
}

TEST_P(EveryModel, ParametersMatchTheirDescription) {
  const auto model = make_double(GetParam());
  const auto infos = parameter_infos(GetParam());
  ASSERT_EQ(infos.size(), model->parameters().size());
  for (size_t i = 0; i < infos.size(); ++i) {
    const Parameter& p = model->parameters()[i];
    EXPECT_EQ(p.info.name, infos[i].name);
    EXPECT_EQ(p.info.index, static_cast<int64_t>(i));
    EXPECT_EQ(p.tensor.sizes(), at::IntArrayRef(infos[i].shape)) << p.info.name;
    EXPECT_TRUE(p.tensor.is_leaf() && p.tensor.requires_grad() && p.tensor.is_contiguous());
    EXPECT_EQ(p.info.block >= 0,
              p.info.name.find(".0.") != std::string::npos || p.info.name.find(".1.") != std::string::npos);
    const bool vector = p.info.role == Role::gain || p.info.role == Role::bias;
    EXPECT_EQ(p.tensor.dim() < 2, vector) << p.info.name;
    EXPECT_EQ(p.info.blocks, GetParam().layers);
  }
  EXPECT_EQ(model->num_parameters(), num_parameters(GetParam()));
}

TEST_P(EveryModel, TiedHeadIsTheEmbedding) {
  const auto model = make_double(GetParam());
  int64_t heads = 0;
  for (const Parameter& p : model->parameters()) heads += p.info.role == Role::head ? 1 : 0;
  EXPECT_EQ(heads, GetParam().tied ? 0 : 1);
  // Through a head of its own, tokens that do not occur leave no gradient in the embedding.
  model->loss(ids(1, 1, 1), ids(1, 1, 1)).backward();
  const Tensor unused = model->parameters()[0].tensor.grad().narrow(0, 1, GetParam().vocab - 1);
  EXPECT_EQ(unused.abs().max().item<double>() > 0, GetParam().tied);
}

TEST_P(EveryModel, ZeroGradLeavesNoGradient) {
  const auto model = make_double(GetParam());
  model->loss(ids(1, 3, 5), ids(1, 3, 5)).backward();
  model->zero_grad();
  for (const Parameter& p : model->parameters()) EXPECT_FALSE(p.tensor.grad().defined());
}

TEST_P(EveryModel, RefusesTokensItCannotHave) {
  const Architecture& a = GetParam();
  const auto model = make_double(a);
  const Tensor good = ids(1, 4, a.vocab);
  const std::string beyond = message_of([&] { model->logits(at::full({1, 4}, a.vocab, at::kLong)); });
  expect_says(beyond, "id 11");
  expect_says(beyond, "vocabulary of 11");
  expect_says(message_of([&] { model->logits(at::full({1, 4}, -3, at::kLong)); }), "id -3");
  expect_says(message_of([&] { model->loss(good, good + 11); }), "targets");
  expect_says(message_of([&] { model->loss(good, good.narrow(1, 0, 3)); }), "[1, 3]");
  expect_says(message_of([&] { model->logits(ids(1, 9, a.vocab)); }), "at most 8 tokens");
  expect_says(message_of([&] { model->logits(good.to(at::kDouble)); }), "int64");
  expect_says(message_of([&] { model->logits(good[0]); }), "[4]");
}

TEST_P(EveryModel, SaysWhichMatricesAttentionHas) {
  std::map<Projection, int> count;
  for (const ParameterInfo& info : parameter_infos(GetParam())) {
    if (info.role == Role::hidden_matrix) ++count[info.projection];
    const bool fused = info.projection == Projection::fused_qkv;
    EXPECT_EQ(info.heads > 0, fused || info.projection == Projection::query) << info.name;
    EXPECT_EQ(info.kv_heads > 0, fused || info.projection == Projection::key || info.projection == Projection::value)
        << info.name;
  }
  const int layers = static_cast<int>(GetParam().layers), parts = count[Projection::fused_qkv] > 0 ? 0 : layers;
  EXPECT_EQ(count[Projection::output], layers);
  for (const Projection part : {Projection::query, Projection::key, Projection::value}) EXPECT_EQ(count[part], parts);
  EXPECT_EQ(count[Projection::fused_qkv], layers - parts);
}

TEST(Llama, SaysHowRowsFallIntoHeads) {
  const auto infos = parameter_infos(tiny_llama());
  const auto at = [&](size_t i) { return infos[i]; };
  EXPECT_EQ(at(1).name, "model.layers.0.self_attn.q_proj.weight");
  EXPECT_EQ(std::pair(at(1).heads, at(1).kv_heads), std::pair(4, 0));
  EXPECT_EQ(std::pair(at(2).heads, at(2).kv_heads), std::pair(0, 2));
  EXPECT_EQ(std::pair(at(3).heads, at(3).kv_heads), std::pair(0, 2));
  EXPECT_EQ(std::pair(at(4).heads, at(4).kv_heads), std::pair(0, 0));
  EXPECT_EQ(at(2).shape, (std::vector<int64_t>{8, 16}));
}

TEST(Gpt, SaysWhereQueryKeyAndValueAreFused) {
  const auto infos = parameter_infos(tiny_gpt());
  EXPECT_EQ(infos[4].name, "transformer.h.0.attn.c_attn.weight");
  EXPECT_EQ(infos[4].fused_parts, (std::vector<int64_t>{16, 16, 16}));
  EXPECT_EQ(std::pair(infos[4].heads, infos[4].kv_heads), std::pair(4, 4));
  EXPECT_EQ(infos[5].fused_parts, infos[4].fused_parts);
  EXPECT_TRUE(infos[6].fused_parts.empty());
}

TEST_P(EveryModel, GainsStartAtOneAndBiasesAtZero) {
  const auto model = make_double(GetParam());
  if (GetParam().kind.starts_with("ngpt")) return;  // its vectors start elsewhere: ngpt_test
  for (const auto& [info, tensor] : model->parameters()) {
    if (info.role != Role::gain && info.role != Role::bias) continue;
    const double start = info.role == Role::gain ? 1 : 0;
    EXPECT_TRUE(at::equal(tensor, at::full_like(tensor, start))) << info.name;
  }
}

TEST(Gpt, DrawsResidualProjectionsSmaller) {
  Architecture a = tiny_gpt();
  a.width = 128;
  a.ffn = 512;
  a.init_std = 0.02;
  const auto model = make_double(a);
  for (const auto& [info, tensor] : model->parameters()) {
    if (info.role != Role::hidden_matrix) continue;
    const double expected = info.name.ends_with("c_proj.weight") ? 0.02 / std::sqrt(4.0) : 0.02;
    EXPECT_NEAR(tensor.std().item<double>(), expected, 0.03 * expected) << info.name;
  }
}

}  // namespace
}  // namespace schatten::test
