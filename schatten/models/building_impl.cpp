#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>
#include <schatten/models/building_impl.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

namespace schatten {
namespace {

void expect_positive(std::string_view key, int64_t number) {
  if (number >= 1) return;
  fail_usage({"model." + std::string(key), "a positive number", std::to_string(number), ""});
}

void expect_divides(std::string_view part, int64_t divisor, std::string_view whole, int64_t dividend) {
  if (dividend % divisor == 0) return;
  fail_usage({"model." + std::string(part), "a divisor of " + std::string(whole) + " = " + std::to_string(dividend),
              std::to_string(divisor), ""});
}

void check_rotary(const Architecture& a) {
  if ((a.width / a.heads) % 2 != 0) {
    fail_usage({"model.heads", "an even head size (rotary embedding turns pairs)",
                "width / heads = " + std::to_string(a.width / a.heads), ""});
  }
  if (a.rotary == RotaryForm::half || a.kind == "ngpt") return;
  if (a.rotary == RotaryForm::interleaved && a.kind == "ngpt_gated") return;
  fail_usage({"rotary", "half for " + a.kind, std::string(enum_name(a.rotary)),
              "interleaved is for ngpt and ngpt_gated, official for ngpt"});
}

void check_ungrouped(const Architecture& a) {
  if (a.kv_heads == a.heads) return;
  fail_usage({"model.kv_heads", "kv_heads = heads = " + std::to_string(a.heads) + " for " + a.kind,
              std::to_string(a.kv_heads), "the llama presets group keys and values"});
}

void check_kind(const Architecture& a) {
  const bool learned_positions = a.kind == "gpt" || a.kind == "ngpt_gated_plan";
  if (!learned_positions) check_rotary(a);
  if (a.kind != "llama") check_ungrouped(a);
  if (a.kind.starts_with("ngpt") && a.tied) {
    fail_usage({"model.tied", "0 for " + a.kind + " (its head is a matrix of its own)", "1", ""});
  }
}

Tensor unit_along(const Tensor& matrix, int axis) {
  return axis < 0 ? matrix : matrix / at::linalg_vector_norm(matrix, 2, at::IntArrayRef({axis}), /*keepdim=*/true);
}

Tensor initial_value(const ParameterInfo& info, at::ScalarType dtype, const Rng& rng, double deviation) {
  if (info.role == Role::gain) return at::ones(info.shape, dtype);
  if (info.role == Role::bias) return at::zeros(info.shape, dtype);
  // Scaled in float64 and rounded once: lower precisions start at the rounding of the same model.
  const Tensor drawn = rng.of("init").at(info.index).normal(info.shape, at::kDouble).mul_(deviation);
  return unit_along(drawn, info.unit_axis).to(dtype);
}

void check_ids(const Tensor& tokens, int64_t vocab, std::string_view what) {
  // On an accelerator looking at the ids would make the host wait; there the kernels check.
  if (!tokens.is_cpu()) return;
  const auto [least, greatest] = at::aminmax(tokens);
  const int64_t low = least.item<int64_t>(), high = greatest.item<int64_t>();
  if (low >= 0 && high < vocab) return;
  const int64_t culprit = low < 0 ? low : high;
  fail({std::string(what),
        "ids from 0 to " + std::to_string(vocab - 1) + " (vocabulary of " + std::to_string(vocab) + ")",
        "id " + std::to_string(culprit), "the data and the model disagree about the vocabulary"});
}

}  // namespace

void check_architecture(const Architecture& a) {
  expect_positive("layers", a.layers);
  expect_positive("width", a.width);
  expect_positive("heads", a.heads);
  expect_positive("kv_heads", a.kv_heads);
  expect_positive("ffn", a.ffn);
  expect_positive("context", a.context);
  expect_positive("vocab", a.vocab);
  expect_divides("heads", a.heads, "width", a.width);
  expect_divides("kv_heads", a.kv_heads, "heads", a.heads);
  if (!std::isfinite(a.init_std) || a.init_std < 0) {
    fail_usage({"model.init_std", "a finite number >= 0", std::to_string(a.init_std), ""});
  }
  check_kind(a);
}

ParameterInfo& ParameterList::add(std::string name, Role role, std::vector<int64_t> shape, int block) {
  infos_.push_back({.name = std::move(name),
                    .index = static_cast<int64_t>(infos_.size()),
                    .role = role,
                    .shape = std::move(shape),
                    .block = block});
  return infos_.back();
}

std::vector<ParameterInfo> ParameterList::take() {
  int blocks = 0;
  for (const ParameterInfo& info : infos_) blocks = std::max(blocks, info.block + 1);
  for (ParameterInfo& info : infos_) info.blocks = blocks;
  return std::move(infos_);
}

std::vector<Parameter> make_leaves(std::vector<ParameterInfo> infos, at::ScalarType dtype, const Rng& rng,
                                   const std::function<double(const ParameterInfo&)>& deviation) {
  std::vector<Parameter> parameters;
  parameters.reserve(infos.size());
  for (ParameterInfo& info : infos) {
    Tensor value = initial_value(info, dtype, rng, deviation(info));
    value.set_requires_grad(true);
    parameters.push_back({std::move(info), std::move(value)});
  }
  return parameters;
}

const Tensor& leaf(const std::vector<Parameter>& parameters, std::string_view name) {
  const auto found =
      std::find_if(parameters.begin(), parameters.end(), [&](const Parameter& p) { return p.info.name == name; });
  if (found == parameters.end()) {
    fail({"model", "a parameter '" + std::string(name) + "'", "none of that name", ""});
  }
  return found->tensor;
}

void check_tokens(const Tensor& tokens, const Architecture& architecture, std::string_view what) {
  const std::string who(what);
  if (tokens.dim() != 2 || tokens.numel() == 0 || tokens.scalar_type() != at::kLong) {
    fail({who, "int64 ids of shape [batch, length]", c10::str(tokens.scalar_type(), " ", tokens.sizes()), ""});
  }
  if (tokens.size(1) > architecture.context) {
    fail({who, "at most " + std::to_string(architecture.context) + " tokens (model.context)",
          std::to_string(tokens.size(1)), "raise model.context or shorten the sequences"});
  }
  check_ids(tokens, architecture.vocab, what);
}

}  // namespace schatten
