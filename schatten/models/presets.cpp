#include <schatten/models/building_impl.h>
#include <schatten/models/language_model.h>

#include <utility>

namespace schatten {
namespace {

struct Preset {
  std::string name;
  Architecture architecture;
};

Architecture llama(int64_t layers, int64_t width, int64_t heads, int64_t ffn, int64_t context, int64_t vocab) {
  return {.kind = "llama",
          .layers = layers,
          .width = width,
          .heads = heads,
          .ffn = ffn,
          .context = context,
          .vocab = vocab};
}

Architecture gpt(int64_t layers, int64_t width, int64_t heads, int64_t context, int64_t vocab) {
  return {.kind = "gpt",
          .layers = layers,
          .width = width,
          .heads = heads,
          .context = context,
          .vocab = vocab,
          .tied = true,
          .norm_eps = 1e-5};
}

/// The sizes of a llama preset: but for a few vectors it has as many parameters.
Architecture ngpt(std::string kind, Architecture sizes) {
  sizes.kind = std::move(kind);
  return sizes;
}

/// kv_heads 0 means as many as heads, ffn 0 means four times the width: true after overrides too.
std::vector<Preset> presets() {
  const Architecture tiny = llama(4, 128, 4, 304, 128, 256), small = llama(4, 256, 8, 688, 256, 256);
  return {{"llama-tiny", tiny},
          {"llama-small", small},
          {"llama-60m", llama(8, 512, 8, 1376, 256, 32000)},
          {"llama-135m", llama(12, 768, 12, 2048, 256, 32000)},
          {"llama-350m", llama(24, 1024, 16, 2736, 256, 32000)},
          {"llama-1b", llama(24, 2048, 32, 5461, 256, 32000)},
          {"gpt-small", gpt(4, 256, 8, 256, 256)},
          {"gpt2-124m", gpt(12, 768, 12, 1024, 50257)},
          {"ngpt-tiny", ngpt("ngpt", tiny)},
          {"ngpt-small", ngpt("ngpt", small)},
          {"ngpt-gated-small", ngpt("ngpt_gated", small)},
          {"ngpt-plan-tiny", ngpt("ngpt_gated_plan", tiny)},
          {"ngpt-plan-small", ngpt("ngpt_gated_plan", small)}};
}

Architecture find_preset(const std::string& name) {
  for (const Preset& preset : presets()) {
    if (preset.name == name) return preset.architecture;
  }
  const std::string near = nearest(name, model_preset_names());
  std::string all;
  for (const std::string& known : model_preset_names()) all += (all.empty() ? "" : ", ") + known;
  fail_usage({"model.preset", "one of " + all, "'" + name + "'", near.empty() ? "" : "did you mean '" + near + "'?"});
}

int64_t given_or(int64_t given, int64_t otherwise) { return given != 0 ? given : otherwise; }

/// What is given wins, then what the data needs, then the preset.
int64_t resolve_vocab(int64_t given, int64_t data_vocab, int64_t preset) {
  if (given == 0) return data_vocab > 0 ? data_vocab : preset;
  if (given > 0 && given < data_vocab) {
    fail_usage({"model.vocab", "at least what the data needs, " + std::to_string(data_vocab), std::to_string(given),
                "leave model.vocab open to take the data's"});
  }
  return given;
}

bool resolve_tied(int given, bool preset) {
  if (given < -1 || given > 1) {
    fail_usage({"model.tied", "1, 0 or -1 (the preset's)", std::to_string(given), ""});
  }
  return given == -1 ? preset : given == 1;
}

}  // namespace

std::vector<std::string> model_preset_names() {
  std::vector<std::string> names;
  for (const Preset& preset : presets()) names.push_back(preset.name);
  return names;
}

Architecture resolve_architecture(const ModelOptions& options, int64_t data_vocab) {
  Architecture a = find_preset(options.preset);
  a.layers = given_or(options.layers, a.layers);
  a.width = given_or(options.width, a.width);
  a.heads = given_or(options.heads, a.heads);
  a.kv_heads = given_or(options.kv_heads, given_or(a.kv_heads, a.heads));
  a.ffn = given_or(options.ffn, given_or(a.ffn, 4 * a.width));
  a.context = given_or(options.context, a.context);
  a.vocab = resolve_vocab(options.vocab, data_vocab, a.vocab);
  a.tied = resolve_tied(options.tied, a.tied);
  a.init_std = options.init_std;
  check_architecture(a);
  return a;
}

}  // namespace schatten
