// What nGPT promises of itself: unit vectors at the start, where its vectors start, steps that stay on the sphere.
#include <schatten/models/rotary_impl.h>

#include <cmath>
#include <string>
#include <vector>

#include "support.h"

namespace schatten::test {
namespace {

class Ngpt : public testing::TestWithParam<Architecture> {};

INSTANTIATE_TEST_SUITE_P(Kinds, Ngpt, testing::ValuesIn(tiny_ngpts()),
                         [](const auto& info) { return info.param.kind; });

const Tensor& weight(const LanguageModel& model, const std::string& name) {
  for (const Parameter& p : model.parameters()) {
    if (p.info.name == name) return p.tensor;
  }
  throw Error("no parameter " + name);
}

double longest_miss(const Tensor& matrix, int64_t axis) {
  return (matrix.detach().to(at::kDouble).square().sum(axis).sqrt() - 1).abs().max().item<double>();
}

TEST_P(Ngpt, StartsWithUnitVectorsOfItsWidth) {
  const auto wide = make_double(GetParam()), narrow = make_model(GetParam(), at::kFloat, Rng(1));
  const bool plan = GetParam().kind == "ngpt_gated_plan";
  for (size_t i = 0; i < wide->parameters().size(); ++i) {
    const auto& [info, tensor] = wide->parameters()[i];
    const bool column = !plan && info.name.ends_with("c_proj.weight");
    EXPECT_EQ(info.unit_axis, tensor.dim() < 2 ? -1 : column ? 0 : 1) << info.name;
    if (info.unit_axis < 0) continue;
    EXPECT_LT(longest_miss(tensor, info.unit_axis), 1e-15) << info.name;
    EXPECT_LT(longest_miss(narrow->parameters()[i].tensor, info.unit_axis), 1e-6) << info.name;
    EXPECT_GT(longest_miss(tensor, 1 - info.unit_axis), 1e-2) << info.name;
  }
}

TEST_P(Ngpt, VectorsStartWhereTheyAreStored) {
  const auto model = make_double(GetParam());
  const double scale = 1 / std::sqrt(16.0);
  for (const auto& [info, tensor] : model->parameters()) {
    if (info.role != Role::gain) continue;
    const double start = info.name.find("gate_") != std::string::npos ? 0
                         : info.shape.empty()                         ? 0.15
                         : info.name.ends_with("suv")                 ? 1
                                                                      : scale;
    EXPECT_TRUE(at::equal(tensor, at::full_like(tensor, start))) << info.name;
  }
}

TEST(Ngpt, SaysWhereUpAndGateAreFused) {
  for (const ParameterInfo& info : parameter_infos(tiny_ngpt("ngpt"))) {
    const bool fused = info.name.ends_with("c_fc.weight");
    EXPECT_EQ(info.fused_parts, fused ? (std::vector<int64_t>{20, 20}) : std::vector<int64_t>{}) << info.name;
  }
}

/// With |s_z| = 1 no logit can exceed 1, and random ones deviate by width^-1/2: the first loss is ln V + 1 / (2 width).
TEST(Ngpt, FirstLossIsThatOfUnitVectors) {
  Architecture a = tiny_ngpt("ngpt");
  a.width = 128;
  a.ffn = 512;
  a.context = 64;
  a.vocab = 256;
  const auto model = make_double(a);
  const Tensor tokens = ids(4, 64, 256), scores = model->logits(tokens);
  EXPECT_LE(scores.abs().max().item<double>(), 1 + 1e-12);
  EXPECT_NEAR(scores.std().item<double>(), 1 / std::sqrt(128.0), 0.01);
  EXPECT_NEAR(model->loss(tokens, ids(4, 64, 256, 9)).item<double>(), std::log(256) + 1 / 256.0, 0.02);
}

/// alpha = 0: no block moves the stream, and logits are those of the embedding.
TEST(Ngpt, WithoutRatesBlocksDoNothing) {
  for (const std::string kind : {"ngpt", "ngpt_gated"}) {
    const auto model = make_double(tiny_ngpt(kind));
    for (const auto& [info, tensor] : model->parameters()) {
      if (info.name.ends_with("_alpha")) tensor.detach().zero_();
    }
    const Tensor tokens = ids(2, 5, 11);
    const Tensor h = at::embedding(weight(*model, "transformer.wte.weight"), tokens);
    expect_close(model->logits(tokens), at::linear(h, weight(*model, "lm_head.weight")), 1e-14, 0, kind);
  }
}

/// Only the size of alpha counts, and queries and keys have no length of their own.
TEST(Ngpt, SignsOfRatesAndLengthsOfQueriesDoNotMatter) {
  for (const std::string kind : {"ngpt", "ngpt_gated"}) {
    const auto model = make_double(tiny_ngpt(kind));
    const Tensor tokens = ids(2, 5, 11), before = model->logits(tokens).detach();
    for (const auto& [info, tensor] : model->parameters()) {
      if (info.name.ends_with("_alpha")) tensor.detach().neg_();
      if (info.projection == Projection::query || info.projection == Projection::key) tensor.detach().mul_(3);
      if (info.name.ends_with("c_proj.weight")) tensor.detach().mul_(0.5);
    }
    expect_close(model->logits(tokens), before, 1e-13, 0, kind);
  }
}

/// The same query and key at every position: rotations keep lengths, and products go by the distance alone.
TEST(Ngpt, RotationsGoByTheDistanceAlone) {
  for (const RotaryForm form : {RotaryForm::half, RotaryForm::interleaved, RotaryForm::official}) {
    Architecture a = tiny_ngpt("ngpt");
    a.rotary = form;
    const Rotary rotary = Rotary(a, at::kDouble).first(6);
    const Tensor q = rotary.turn(Rng(1).normal({1, 1, 1, 4}, at::kDouble).expand({1, 6, 1, 4})).view({6, 4});
    const Tensor k = rotary.turn(Rng(2).normal({1, 1, 1, 4}, at::kDouble).expand({1, 6, 1, 4})).view({6, 4});
    const Tensor products = q.matmul(k.t()), later = products.narrow(0, 1, 5).narrow(1, 1, 5);
    const double moved = (later - products.narrow(0, 0, 5).narrow(1, 0, 5)).abs().max().item<double>();
    const double stretched = (q.norm(2, -1) - q[0].norm()).abs().max().item<double>();
    const bool rotation = form != RotaryForm::official;
    EXPECT_EQ(moved < 1e-14, rotation) << enum_name(form) << " " << moved;
    EXPECT_EQ(stretched < 1e-14, rotation) << enum_name(form) << " " << stretched;
    EXPECT_GT((products - products[0][0]).abs().max().item<double>(), 0.1);
  }
}

/// One block, every number of every parameter moved up and down.
TEST_P(Ngpt, GradientsOfOneBlockAreCentralDifferences) {
  Architecture a = GetParam();
  a.layers = 1;
  a.width = 4;
  a.heads = a.kv_heads = 2;
  a.ffn = 3;
  a.vocab = 5;
  a.context = 4;
  const auto model = make_double(a, 5);
  const c10::NoGradGuard outer;
  for (const auto& [info, tensor] : model->parameters()) {  // away from the values where terms vanish
    if (info.role == Role::gain) tensor.detach().add_(Rng(3).at(info.index).normal(info.shape, at::kDouble), 0.1);
  }
  const Tensor tokens = ids(2, 4, 5), targets = ids(2, 4, 5, 2);
  {
    const c10::AutoGradMode grad(true);
    model->loss(tokens, targets).backward();
  }
  constexpr double h = 1e-5;
  for (const auto& [info, tensor] : model->parameters()) {
    const Tensor numbers = tensor.detach().view({-1}), numeric = at::empty_like(numbers);
    for (int64_t i = 0; i < numbers.numel(); ++i) {
      const double kept = numbers[i].item<double>();
      numbers[i].fill_(kept + h);
      const double up = model->loss(tokens, targets).item<double>();
      numbers[i].fill_(kept - h);
      numeric[i].fill_((up - model->loss(tokens, targets).item<double>()) / (2 * h));
      numbers[i].fill_(kept);
    }
    expect_close(numeric, tensor.grad().view({-1}), 1e-7, 1e-8, info.name);
  }
}

}  // namespace
}  // namespace schatten::test
