#include <ATen/ATen.h>
#include <ATen/OpMathType.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/StringUtil.h>
#include <schatten/models/building_impl.h>
#include <schatten/models/gpt.h>
#include <schatten/models/language_model.h>
#include <schatten/models/llama.h>
#include <schatten/models/ngpt.h>

#include <array>
#include <limits>
#include <map>
#include <string_view>
#include <utility>

namespace schatten {
namespace {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

constexpr std::string_view head_name = "lm_head.weight";

struct Kind {
  std::string_view name;
  std::vector<ParameterInfo> (*parameters)(const Architecture&);
  std::unique_ptr<LanguageModel> (*make)(const Architecture&, at::ScalarType, const Rng&);
  Value (*config)(const Architecture&);
};

constexpr std::array kinds = {
    Kind{"llama", llama_parameters, make_llama, llama_config}, Kind{"gpt", gpt_parameters, make_gpt, gpt_config},
    Kind{"ngpt", ngpt_parameters, make_ngpt, ngpt_config}, Kind{"ngpt_gated", ngpt_parameters, make_ngpt, ngpt_config},
    Kind{"ngpt_gated_plan", ngpt_plan_parameters, make_ngpt_plan, ngpt_plan_config}};

const Kind& kind_of(const Architecture& architecture) {
  std::string known;
  for (const Kind& kind : kinds) {
    if (kind.name == architecture.kind) return kind;
    known += (known.empty() ? "" : ", ") + std::string(kind.name);
  }
  fail_usage({"model.kind", "one of " + known, "'" + architecture.kind + "'", ""});
}

int64_t total(const auto& parameters, const auto& info_of) {
  int64_t sum = 0;
  for (const auto& parameter : parameters) sum += info_of(parameter).numel();
  return sum;
}

/// Masks and tables that older checkpoints of transformers carry beside the weights.
bool is_buffer(std::string_view name) {
  return name == "logit_scale" || name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias") ||
         name.ends_with(".rotary_emb.inv_freq");
}

/// The hub's GPT-2 was saved without its head, and so without the outer module's prefix.
std::string without_prefix(const std::string& name) {
  for (const std::string_view prefix : {"model.", "transformer."}) {
    if (name.starts_with(prefix)) return name.substr(prefix.size());
  }
  return name;
}

/// "three, names, shown (and 9 more)".
std::string shorten(const std::vector<std::string>& names) {
  constexpr size_t shown = 3;
  std::string text;
  for (size_t i = 0; i < names.size() && i < shown; ++i) text += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > shown) text += " (and " + std::to_string(names.size() - shown) + " more)";
  return text;
}

/// What a file lacks, has too much of, or has in another shape.
struct Mismatch {
  std::vector<std::string> missing, unexpected, misshaped;

  bool none() const { return missing.empty() && unexpected.empty() && misshaped.empty(); }
  std::string to_string() const {
    std::string text;
    const auto add = [&](const char* what, const std::vector<std::string>& names) {
      if (!names.empty()) text += (text.empty() ? "" : "; ") + (what + shorten(names));
    };
    add("missing ", missing);
    add("unexpected ", unexpected);
    add("misshaped ", misshaped);
    return text;
  }
};

std::string way_out(const Mismatch& mismatch, bool tied) {
  const std::vector<std::string> head{std::string(head_name)};
  const bool same_shapes = mismatch.misshaped.empty();
  if (same_shapes && mismatch.missing == head && mismatch.unexpected.empty()) {
    return "the file has no head of its own: set model.tied = 1";
  }
  if (same_shapes && tied && mismatch.unexpected == head && mismatch.missing.empty()) {
    return "the file has its own head: set model.tied = 0";
  }
  return "the file must come from a model of the same preset and sizes";
}

/// What the file has for each of `views`, and where the two differ.
struct Matching {
  std::vector<Tensor> values;
  Mismatch mismatch;
};

/// Some files of tied models repeat the embedding as the head.
bool repeats_embedding(const Tensor& head, const Tensor& embedding) {
  return head.sizes() == embedding.sizes() && head.dtype() == embedding.dtype() && at::equal(head, embedding);
}

Matching match(const NamedTensors& views, const TensorFile& file, bool tied) {
  Matching result;
  std::map<std::string, Tensor> left;
  for (const auto& [name, tensor] : file.tensors) {
    if (!is_buffer(name)) left.emplace(name, tensor);
  }
  for (const auto& [name, view] : views) {
    auto found = left.find(name);
    if (found == left.end()) found = left.find(without_prefix(name));
    if (found == left.end()) {
      result.mismatch.missing.push_back(name);
      continue;
    }
    if (found->second.sizes() != view.sizes()) {
      result.mismatch.misshaped.push_back(name + " " + c10::str(found->second.sizes()) + " instead of " +
                                          c10::str(view.sizes()));
    }
    result.values.push_back(found->second);
    left.erase(found);
  }
  for (const auto& [name, tensor] : left) {
    const bool repeated =
        tied && name == head_name && !result.values.empty() && repeats_embedding(tensor, result.values.front());
    if (!repeated) result.mismatch.unexpected.push_back(name);
  }
  return result;
}

std::string describe(const Architecture& a) {
  return a.kind + " of " + std::to_string(a.layers) + " layers x " + std::to_string(a.width) + ", vocabulary " +
         std::to_string(a.vocab);
}

}  // namespace

Tensor LanguageModel::loss(const Tensor& tokens, const Tensor& targets) const {
  check_tokens(targets, architecture(), "targets");
  if (tokens.sizes() != targets.sizes()) {
    fail({"loss", "targets of the tokens' shape " + c10::str(tokens.sizes()), c10::str(targets.sizes()), ""});
  }
  Tensor scores = logits(tokens).flatten(0, 1);
  // Three digits are too few for a sum of exponentials over the vocabulary.
  if (at::isReducedFloatingType(scores.scalar_type())) scores = scores.to(at::kFloat);
  return at::cross_entropy_loss(scores, targets.flatten());
}

int64_t LanguageModel::num_parameters() const {
  return total(parameters_, [](const Parameter& p) -> const ParameterInfo& { return p.info; });
}

std::vector<std::pair<std::string, Tensor>> LanguageModel::stored_views() const {
  std::vector<std::pair<std::string, Tensor>> views;
  for (const auto& [info, tensor] : parameters_) {
    const Tensor view = tensor.detach();
    views.emplace_back(stored_name(info), stored_transposed(info) ? view.t() : view);
  }
  return views;
}

TensorFile LanguageModel::weights() const {
  TensorFile file;
  file.metadata["format"] = "pt";  // transformers refuses files that do not say so
  for (const auto& [name, view] : stored_views()) {
    file.tensors.emplace_back(name, view.contiguous());
  }
  return file;
}

void LanguageModel::load_weights(const TensorFile& file) {
  const auto views = stored_views();
  const Matching matching = match(views, file, architecture().tied);
  if (!matching.mismatch.none()) {
    fail({file.who("weights"), "the weights of a " + describe(architecture()), matching.mismatch.to_string(),
          way_out(matching.mismatch, architecture().tied)});
  }
  for (size_t i = 0; i < views.size(); ++i) views[i].second.copy_(matching.values[i]);
}

void LanguageModel::zero_grad() {
  for (const Parameter& parameter : parameters_) parameter.tensor.mutable_grad() = Tensor();
}

void LanguageModel::watch_logits(bool on) {
  watching_ = on;
  reset_largest_logits();
}

std::vector<Tensor> LanguageModel::largest_logits() const {
  std::vector<Tensor> copies;
  for (const Tensor& block : largest_) copies.push_back(block.clone());
  return copies;
}

void LanguageModel::reset_largest_logits() {
  largest_.clear();
  if (!watching_) return;
  for (int64_t i = 0; i < architecture().layers; ++i)
    largest_.push_back(at::full({architecture().heads}, -std::numeric_limits<float>::infinity()));
}

void LanguageModel::see_logits(int64_t block, const Tensor& q, const Tensor& k, double scale) const {
  if (!watching_) return;
  const at::NoGradGuard no_grad;
  const at::ScalarType wide = at::toOpMathType(q.scalar_type());
  const int64_t heads = q.size(1), per_key = heads / k.size(1), length = q.size(2);
  const Tensor later = at::ones({length, length}, q.options().dtype(at::kBool)).triu(1);
  for (int64_t h = 0; h < heads; ++h) {  // one head at a time: [B, T, T] is all that it takes
    // A product rounded to bfloat16 would be the maximum of what rounding left.
    const Tensor query = q.detach().select(1, h).to(wide), key = k.detach().select(1, h / per_key).to(wide);
    const Tensor allowed = at::matmul(query, key.mT()).masked_fill_(later, -std::numeric_limits<float>::infinity());
    Tensor so_far = largest_[static_cast<size_t>(block)][h];
    so_far.copy_(at::maximum(so_far, allowed.amax().to(so_far.options()) * scale));
  }
}

std::unique_ptr<LanguageModel> make_model(const Architecture& architecture, at::ScalarType dtype, const Rng& rng) {
  const Kind& kind = kind_of(architecture);
  check_architecture(architecture);
  choose_vector_kernels();  // before a forward pass does it on several threads
  return kind.make(architecture, dtype, rng);
}

std::vector<ParameterInfo> parameter_infos(const Architecture& architecture) {
  const Kind& kind = kind_of(architecture);
  check_architecture(architecture);
  return kind.parameters(architecture);
}

int64_t num_parameters(const Architecture& architecture) {
  return total(parameter_infos(architecture), [](const ParameterInfo& info) -> const ParameterInfo& { return info; });
}

Value transformers_config(const Architecture& architecture) { return kind_of(architecture).config(architecture); }

}  // namespace schatten
