#include <schatten/core/parameter_info.h>

#include <algorithm>
#include <functional>
#include <numeric>

namespace schatten {

std::string_view to_string(Role role) { return enum_names(role)[static_cast<size_t>(role)]; }

int64_t ParameterInfo::numel() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}
int64_t ParameterInfo::rows() const { return shape.size() < 2 ? 1 : shape.front(); }
int64_t ParameterInfo::cols() const {
  if (shape.size() < 2) return numel();
  return std::accumulate(shape.begin() + 1, shape.end(), int64_t{1}, std::multiplies<>());
}

namespace {

std::vector<std::string> parts_of(const std::string& name) {
  std::vector<std::string> parts{""};
  for (const char c : name)
    if (c == '.') parts.emplace_back();
    else parts.back() += c;
  return parts;
}

int block_of(const std::vector<std::string>& parts) {
  for (size_t i = 1; i + 1 < parts.size(); ++i)
    if (!parts[i].empty() && parts[i].size() < 8 && parts[i].find_first_not_of("0123456789") == std::string::npos)
      return std::stoi(parts[i]);
  return -1;
}

bool names_head(const std::vector<std::string>& parts) {
  static constexpr std::array<std::string_view, 8> kHeads{"lm_head",    "head", "heads", "output",
                                                          "classifier", "fc",   "score", "embed_out"};
  // "head.weight", "model.lm_head", "classifier.6.weight": the module that owns the tensor, or the whole of what ends it.
  const auto is_head = [](const std::string& part) {
    return std::find(kHeads.begin(), kHeads.end(), part) != kHeads.end();
  };
  return std::any_of(parts.size() > 3 ? parts.end() - 3 : parts.begin(), parts.end(), is_head);
}

Role role_of(const std::string& name, const std::vector<int64_t>& shape, int block) {
  const auto has = [&](std::string_view part) { return name.find(part) != std::string::npos; };
  const auto parts = parts_of(name);
  const auto long_sides = std::count_if(shape.begin(), shape.end(), [](int64_t n) { return n > 1; });
  if (shape.size() < 2 || (shape.size() > 2 && long_sides < 2)) return name.ends_with("bias") ? Role::bias : Role::gain;
  if (name.ends_with("bias_table")) return Role::bias;  // of relative positions
  if (block < 0 && names_head(parts)) return Role::head;
  if (shape.size() < 4 && (has("embed") || has("wte") || has("wpe") || has("_emb") || has("emb.")))
    return Role::embedding;
  return shape.size() > 2 ? Role::conv : Role::hidden_matrix;
}

}  // namespace

ParameterInfo infer_parameter(std::string name, std::vector<int64_t> shape, int64_t index) {
  const int block = block_of(parts_of(name));
  const Role role = role_of(name, shape, block);
  return {.name = std::move(name), .index = index, .role = role, .shape = std::move(shape), .block = block};
}

void count_blocks(std::vector<Parameter>& parameters) {
  int most = 0;
  for (const Parameter& p : parameters) most = std::max(most, p.info.block + 1);
  for (Parameter& p : parameters) p.info.blocks = most;
}

}  // namespace schatten
