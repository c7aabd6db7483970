// The largest attention logits, against every kind of model written out in plain float64 tensor code.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "support.h"

namespace schatten::test {
namespace {

/// A model's weights by name, and what its softmaxes saw: per block [B, heads, T, T], -infinity where masked.
struct Plain {
  const LanguageModel& model;
  const Architecture& a = model.architecture();
  std::vector<Tensor> seen{};

  Tensor w(const std::string& name) const {
    for (const Parameter& p : model.parameters()) {
      if (p.info.name == name) return p.tensor.detach();
    }
    throw Error("no parameter " + name);
  }
  Tensor by_head(const Tensor& x, int64_t heads) const {
    return x.view({x.size(0), x.size(1), heads, -1}).transpose(1, 2);
  }
  /// Turns (x_j, x_{j + d/2}) as complex numbers.
  Tensor turn(const Tensor& x) const {
    const int64_t half = x.size(-1) / 2;
    const Tensor frequency = at::pow(10000.0, at::arange(half, at::kDouble) * (-1.0 / static_cast<double>(half)));
    const Tensor angle = at::outer(at::arange(x.size(2), at::kDouble), frequency);
    const Tensor turned =
        at::complex(x.narrow(-1, 0, half), x.narrow(-1, half, half)) * at::complex(angle.cos(), angle.sin());
    return at::cat({at::real(turned), at::imag(turned)}, -1);
  }
  Tensor mix(const Tensor& q, const Tensor& k, const Tensor& v, double scale) {
    const int64_t group = q.size(1) / k.size(1), length = q.size(2);
    const Tensor keys = k.repeat_interleave(group, 1), values = v.repeat_interleave(group, 1);
    const Tensor future = at::ones({length, length}, at::kBool).triu(1);
    seen.push_back((scale * q.matmul(keys.mT())).masked_fill(future, -std::numeric_limits<double>::infinity()));
    return seen.back().softmax(-1).matmul(values).transpose(1, 2).flatten(2);
  }
  double default_scale() const { return 1 / std::sqrt(static_cast<double>(a.width / a.heads)); }
};

Tensor plain_llama(Plain& p, const Tensor& tokens) {
  const auto norm = [&](const Tensor& x, const std::string& gain) {
    return x * (x.square().mean(-1, true) + p.a.norm_eps).rsqrt() * p.w(gain);
  };
  Tensor x = at::embedding(p.w("model.embed_tokens.weight"), tokens);
  for (int64_t i = 0; i < p.a.layers; ++i) {
    const std::string block = "model.layers." + std::to_string(i) + ".";
    const auto at = [&](const char* name) { return p.w(block + name); };
    Tensor y = norm(x, block + "input_layernorm.weight");
    const Tensor q = p.turn(p.by_head(y.matmul(at("self_attn.q_proj.weight").t()), p.a.heads));
    const Tensor k = p.turn(p.by_head(y.matmul(at("self_attn.k_proj.weight").t()), p.a.kv_heads));
    const Tensor v = p.by_head(y.matmul(at("self_attn.v_proj.weight").t()), p.a.kv_heads);
    x = x + p.mix(q, k, v, p.default_scale()).matmul(at("self_attn.o_proj.weight").t());
    y = norm(x, block + "post_attention_layernorm.weight");
    const Tensor gate = y.matmul(at("mlp.gate_proj.weight").t()), up = y.matmul(at("mlp.up_proj.weight").t());
    x = x + (gate * gate.sigmoid() * up).matmul(at("mlp.down_proj.weight").t());
  }
  const std::string head = p.a.tied ? "model.embed_tokens.weight" : "lm_head.weight";
  return norm(x, "model.norm.weight").matmul(p.w(head).t());
}

Tensor plain_gpt(Plain& p, const Tensor& tokens) {
  const auto norm = [&](const Tensor& x, const std::string& name) {
    const Tensor centred = x - x.mean(-1, true);
    return centred * (centred.square().mean(-1, true) + p.a.norm_eps).rsqrt() * p.w(name + ".weight") +
           p.w(name + ".bias");
  };
  const auto affine = [&](const Tensor& x, const std::string& name) {
    return x.matmul(p.w(name + ".weight").t()) + p.w(name + ".bias");
  };
  Tensor x =
      at::embedding(p.w("transformer.wte.weight"), tokens) + p.w("transformer.wpe.weight").narrow(0, 0, tokens.size(1));
  for (int64_t i = 0; i < p.a.layers; ++i) {
    const std::string block = "transformer.h." + std::to_string(i) + ".";
    const auto parts = affine(norm(x, block + "ln_1"), block + "attn.c_attn").chunk(3, -1);
    const Tensor mixed = p.mix(p.by_head(parts[0], p.a.heads), p.by_head(parts[1], p.a.heads),
                               p.by_head(parts[2], p.a.heads), p.default_scale());
    x = x + affine(mixed, block + "attn.c_proj");
    x = x + affine(at::gelu(affine(norm(x, block + "ln_2"), block + "mlp.c_fc"), "tanh"), block + "mlp.c_proj");
  }
  const std::string head = p.a.tied ? "transformer.wte.weight" : "lm_head.weight";
  return norm(x, "transformer.ln_f").matmul(p.w(head).t());
}

Tensor unit(const Tensor& x, double eps = 0) { return x / (x.square().sum(-1, true) + eps).sqrt(); }

Tensor plain_ngpt(Plain& p, const Tensor& tokens) {
  const double root = std::sqrt(static_cast<double>(p.a.width)), alpha_init = p.a.kind == "ngpt" ? 0.05 : 0.30;
  const auto step = [&](const Tensor& h, const Tensor& branch, const std::string& alpha, const std::string& gate) {
    Tensor rate = (p.w(alpha) * (alpha_init * root)).abs();
    if (p.a.kind == "ngpt_gated") rate = rate * p.w(gate).sigmoid();
    return unit((1 - rate) * h + rate * unit(branch));
  };
  Tensor h = at::embedding(p.w("transformer.wte.weight"), tokens);
  for (int64_t i = 0; i < p.a.layers; ++i) {
    const std::string block = "transformer.h." + std::to_string(i) + ".";
    const auto project = [&](const char* name) { return p.by_head(h.matmul(p.w(block + name).t()), p.a.heads); };
    const Tensor sqk = (p.w(block + "sqk") * root).view({p.a.heads, 1, p.a.width / p.a.heads});
    const Tensor q = sqk * unit(p.turn(project("query.weight"))), k = sqk * unit(p.turn(project("key.weight")));
    const Tensor mixed = p.mix(q, k, project("value.weight"), 1 / p.default_scale());
    h = step(h, mixed.matmul(p.w(block + "att_c_proj.weight").t()), block + "attn_alpha", block + "gate_attn");
    const auto parts = (h.matmul(p.w(block + "c_fc.weight").t()) * p.w(block + "suv")).chunk(2, -1);
    const Tensor gate = parts[1] * root;
    const Tensor fed = (parts[0] * gate * gate.sigmoid()).matmul(p.w(block + "mlp_c_proj.weight").t());
    h = step(h, fed, block + "mlp_alpha", block + "gate_mlp");
  }
  return h.matmul(p.w("lm_head.weight").t()) * (p.w("sz") * root);
}

Tensor plain_plan(Plain& p, const Tensor& tokens) {
  constexpr double eps = 1e-8;
  Tensor x = unit(unit(at::embedding(p.w("token_embedding.weight"), tokens), eps) +
                      unit(p.w("position_embedding.weight").narrow(0, 0, tokens.size(1)), eps),
                  eps);
  for (int64_t i = 0; i < p.a.layers; ++i) {
    const std::string block = "blocks." + std::to_string(i) + ".";
    const auto add = [&](const Tensor& branch, const std::string& part) {
      x = unit(x + p.w(block + "gate_" + part).sigmoid() * p.w(block + "alpha_" + part) * branch, eps);
    };
    const auto parts = x.matmul(p.w(block + "attn.qkv.weight").t()).chunk(3, -1);
    const Tensor mixed = p.mix(p.by_head(parts[0], p.a.heads), p.by_head(parts[1], p.a.heads),
                               p.by_head(parts[2], p.a.heads), p.default_scale());
    add(mixed.matmul(p.w(block + "attn.out_proj.weight").t()), "attn");
    add(at::gelu(x.matmul(p.w(block + "mlp.fc1.weight").t())).matmul(p.w(block + "mlp.fc2.weight").t()), "mlp");
  }
  return 15 * unit(x, eps).matmul(unit(p.w("lm_head.weight"), eps).t());
}

Tensor plain_logits(Plain& p, const Tensor& tokens) {
  if (p.a.kind == "llama") return plain_llama(p, tokens);
  if (p.a.kind == "gpt") return plain_gpt(p, tokens);
  return p.a.kind == "ngpt_gated_plan" ? plain_plan(p, tokens) : plain_ngpt(p, tokens);
}

class WatchedLogits : public testing::TestWithParam<Architecture> {};

std::vector<Architecture> architectures() {
  std::vector<Architecture> all = tiny_ngpts();
  all.insert(all.end(), {tiny_llama(), tiny_gpt()});
  return all;
}

INSTANTIATE_TEST_SUITE_P(Kinds, WatchedLogits, testing::ValuesIn(architectures()),
                         [](const auto& info) { return info.param.kind; });

/// Vectors away from where they start, so that each of them counts.
std::unique_ptr<LanguageModel> make_uneven(const Architecture& a, at::ScalarType dtype) {
  auto model = make_model(a, dtype, Rng(1));
  for (const auto& [info, tensor] : model->parameters()) {
    if (tensor.dim() == 2) continue;
    tensor.detach().add_(Rng(2).at(info.index).normal(info.shape, at::kDouble).to(dtype), 0.2);
  }
  return model;
}

Tensor largest_of(const std::vector<Tensor>& per_block) { return at::stack(per_block); }

/// [blocks, heads]
Tensor plain_largest(const LanguageModel& model, const Tensor& tokens) {
  Plain plain{model};
  plain_logits(plain, tokens);
  std::vector<Tensor> largest;
  for (const Tensor& seen : plain.seen) largest.push_back(seen.amax({0, 2, 3}));
  return largest_of(largest);
}

TEST_P(WatchedLogits, ThePlainModelsAreTheModels) {
  const auto model = make_uneven(GetParam(), at::kDouble);
  const Tensor tokens = ids(2, 7, 11);
  Plain plain{*model};
  expect_close(model->logits(tokens), plain_logits(plain, tokens), 1e-13, 0, "logits");
}

TEST_P(WatchedLogits, AreTheLargestSoftmaxInputs) {
  const auto model = make_uneven(GetParam(), at::kDouble);
  const Tensor one = ids(3, 7, 11), other = ids(2, 8, 11, 5);
  model->watch_logits(true);
  model->logits(one);
  const Tensor first = plain_largest(*model, one), second = plain_largest(*model, other);
  expect_close(largest_of(model->largest_logits()), first, 1e-6, 0, "one forward");
  model->loss(other, other).backward();
  expect_close(largest_of(model->largest_logits()), at::maximum(first, second), 1e-6, 0, "two forwards");
  model->reset_largest_logits();
  model->logits(other);
  expect_close(largest_of(model->largest_logits()), second, 1e-6, 0, "after a reset");
}

TEST_P(WatchedLogits, AreNothingBeforeAForward) {
  const auto model = make_double(GetParam());
  model->watch_logits(true);
  const Tensor largest = largest_of(model->largest_logits());
  EXPECT_EQ(largest.sizes(), at::IntArrayRef({2, 4}));
  EXPECT_EQ(largest.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(largest, at::full_like(largest, -std::numeric_limits<double>::infinity())));
}

/// A first position sees itself only, and a single logit may well be negative: the maximum is signed.
TEST_P(WatchedLogits, AreSigned) {
  const auto model = make_uneven(GetParam(), at::kDouble);
  model->watch_logits(true);
  double least = 1;
  for (int64_t id = 0; id < 11; ++id) {
    const Tensor token = at::full({1, 1}, id, at::kLong);
    model->reset_largest_logits();
    model->logits(token);
    const Tensor largest = largest_of(model->largest_logits());
    expect_close(largest, plain_largest(*model, token), 1e-6, 0, "token");
    least = std::min(least, largest.min().item<double>());
  }
  EXPECT_LT(least, 0);
}

TEST_P(WatchedLogits, ChangeNoBit) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    const auto seen = make_uneven(GetParam(), dtype), unseen = make_uneven(GetParam(), dtype);
    const Tensor tokens = ids(2, 8, 11), targets = ids(2, 8, 11, 3);
    seen->watch_logits(true);
    const Tensor loss = seen->loss(tokens, targets), same = unseen->loss(tokens, targets);
    EXPECT_TRUE(at::equal(loss, same));
    loss.backward();
    same.backward();
    for (size_t i = 0; i < seen->parameters().size(); ++i) {
      EXPECT_TRUE(at::equal(seen->parameters()[i].tensor.grad(), unseen->parameters()[i].tensor.grad()))
          << seen->parameters()[i].info.name;
    }
    for (const Tensor& largest : seen->largest_logits()) EXPECT_FALSE(largest.requires_grad());
    EXPECT_TRUE(unseen->largest_logits().empty());
  }
}

}  // namespace
}  // namespace schatten::test
