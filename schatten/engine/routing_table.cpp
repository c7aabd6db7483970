#include <ATen/ATen.h>
#include <schatten/core/files.h>
#include <schatten/engine/optimizer_impl.h>

#include <map>

namespace schatten {

std::vector<Assignment> Optimizer::assignments() const {
  std::vector<Assignment> rows;
  for (const Slot& s : impl_->slots) {
    const Route& route = impl_->routes()[s.route];
    const Bucket bucket = impl_->stepper.bucket(s);
    rows.push_back({s.parameter.info, route.match, route.recipe.name, route.lr, locality_of(route.recipe),
                    schatten::state_bytes(route.recipe.direction.state(bucket), bucket)});
  }
  return rows;
}

namespace {
/// "28 hidden matrices, 1 embedding"
std::string counted(const std::map<Role, int64_t>& roles) {
  std::string text;
  for (const auto& [role, count] : roles) {
    std::string noun(to_string(role));
    if (role == Role::hidden_matrix) noun = count == 1 ? "hidden matrix" : "hidden matrices";
    else if (role == Role::conv) noun = count == 1 ? "convolution" : "convolutions";
    else if (count != 1) noun += role == Role::bias ? "es" : "s";
    text += (text.empty() ? "" : ", ") + std::to_string(count) + " " + noun;
  }
  return text;
}

/// "; retract project every step; qk_clip"
std::string beside_the_direction(const Recipe& recipe) {
  std::string text;
  if (recipe.retract.active()) {
    text = "; retract " + std::string(enum_name(recipe.retract.form));
    if (recipe.retract.every != 1) text += " every " + std::to_string(recipe.retract.every) + " steps";
  }
  for (const Controller& c : recipe.controllers) text += "; " + c.name();
  return text;
}
}  // namespace

std::string Optimizer::routing_table() const {
  struct Row {
    int64_t entries = 0;
    std::map<Role, int64_t> roles;
    std::string decided;
  };
  std::vector<Row> rows(impl_->routes().size());
  for (const Slot& s : impl_->slots) {
    Row& row = rows[s.route];
    row.entries += s.parameter.info.numel();
    ++row.roles[s.parameter.info.role];
    // Stages say what they make of a CPU; elsewhere that would be wrong.
    if (s.parameter.tensor.is_cpu())
      row.decided = impl_->stepper.recipe(s).direction.decided(impl_->stepper.dtype(s), impl_->stepper.options().isa);
  }
  std::string text;
  for (size_t r = 0; r < rows.size(); ++r) {
    const Route& route = impl_->routes()[r];
    text += route.match + " -> " + route.recipe.name + ": " + counted(rows[r].roles) + " (" +
            format_count(rows[r].entries) + " entries), lr " + to_json(Value(route.lr)) +
            (rows[r].decided.empty() ? "" : "; " + rows[r].decided) + beside_the_direction(route.recipe) + "\n";
  }
  return text;
}

std::vector<std::string> Optimizer::kernels() const {
  std::vector<int64_t> all(impl_->routes().size()), fused(impl_->routes().size());
  std::vector<bool> batched(impl_->routes().size());
  for (const Slot& s : impl_->slots) {
    ++all[s.route];
    if (impl_->stepper.batched(s)) batched[s.route] = true;
    else fused[s.route] += impl_->stepper.twin(s) || impl_->stepper.matrix_twin(s);
  }
  std::vector<std::string> lines;
  for (size_t r = 0; r < impl_->routes().size(); ++r) {
    std::string by = batched[r] ? "stage by stage, in batches" : "stage by stage";
    if (fused[r] > 0) by = impl_->stepper.kernel(r);
    if (fused[r] > 0 && fused[r] < all[r])
      by += " for " + std::to_string(fused[r]) + " of " + std::to_string(all[r]) + " parameters";
    lines.push_back(impl_->routes()[r].match + " -> " + impl_->routes()[r].recipe.name + ": " + by);
  }
  return lines;
}

Isa Optimizer::isa() const { return impl_->stepper.options().isa; }

std::vector<std::string> Optimizer::noticed() const {
  std::vector<std::string> lines;
  for (const Route& route : impl_->routes())
    if (const std::string text = route.recipe.direction.noticed(); !text.empty())
      lines.push_back(route.recipe.name + ": " + text);
  return lines;
}

}  // namespace schatten
