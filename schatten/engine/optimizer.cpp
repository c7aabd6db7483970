#include <ATen/ATen.h>
#include <schatten/core/files.h>
#include <schatten/engine/optimizer.h>
#include <schatten/engine/tasks.h>

#include <algorithm>
#include <map>
#include <mutex>

namespace schatten {

namespace {

// Elementwise recipes are cut into pieces of this many entries, whatever the number of threads:
// vector kernels round the same for the same piece.
constexpr int64_t kPiece = 1 << 18;

struct Slot {
  Parameter parameter;
  size_t route = 0;
  int64_t steps = 0;
  State state;
};

at::ScalarType state_dtype(const OptimizerOptions& options, at::ScalarType parameter) {
  return options.state_dtype.value_or(parameter == at::kDouble ? at::kDouble : at::kFloat);
}

double predicted_flops(const ParameterInfo& p, Locality locality) {
  const auto m = static_cast<double>(p.rows()), n = static_cast<double>(p.cols());
  return locality == Locality::matrix ? 30 * m * n * std::min(m, n) : 10 * m * n;
}

Tensor as_matrix(const Tensor& t, const ParameterInfo& p) { return t.reshape({p.rows(), p.cols()}); }

/// State leaves in the parameter's shape; what is not shaped like the matrix leaves as it is.
Tensor as_parameter(const Tensor& t, const ParameterInfo& p) { return t.numel() == p.numel() ? t.view(p.shape) : t; }

void check_parameter(const Parameter& p) {
  const Tensor& t = p.tensor;
  if (!t.defined() || !t.is_floating_point() || t.layout() != at::kStrided)
    fail_usage({"Optimizer", "dense real floating-point parameters",
                "'" + p.info.name + "' of type " + (t.defined() ? c10::toString(t.scalar_type()) : "undefined"),
                "Leave it out, or convert it."});
  if (!t.is_contiguous())
    fail_usage({"Optimizer", "contiguous parameters", "'" + p.info.name + "' with other strides",
                "Make it contiguous before training."});
  if (t.sizes() != at::IntArrayRef(p.info.shape))
    fail_usage({"Optimizer", "a tensor of the shape stated for '" + p.info.name + "'", c10::str(t.sizes()), ""});
}

/// The three lines that every recipe is: decay, direction, step.
void update_matrix(const Recipe& recipe, const Slot& slot, State& state, Tensor param, const Tensor& raw_grad,
                   double lr, at::ScalarType dtype, uint64_t seed,
                   const std::function<void(const UpdateView&)>& watch) {
  const Tensor grad = recipe.decay.gradient(raw_grad.to(dtype), param);
  const Step step{.step = slot.steps,
                  .lr = lr,
                  .parameter = slot.parameter.info,
                  .grad = grad,
                  .param = param,
                  .rng = Rng(seed).at(slot.parameter.info.index)};
  const Tensor update = recipe.direction.apply(grad, state, step);
  if (!update.defined()) return;
  recipe.decay.apply(param, update, lr);
  param.add_(update.to(param.scalar_type()), -lr);
  if (watch) watch({slot.parameter.info, update, lr});
}

}  // namespace

struct Optimizer::Impl {
  std::vector<Route> routes;
  OptimizerOptions options;
  std::vector<Slot> slots;

  const Recipe& recipe(const Slot& s) const { return routes[s.route].recipe; }
  at::ScalarType dtype(const Slot& s) const { return state_dtype(options, s.parameter.tensor.scalar_type()); }
  template <class Visit>
  void each_state(Visit&& visit) {
    for (Slot& s : slots) s.state.each(visit, s.parameter.info.name + "/");
  }
};

int64_t plan_state_bytes(const std::vector<ParameterInfo>& parameters, const std::vector<Route>& routes,
                         at::ScalarType parameter_dtype, const OptimizerOptions& options) {
  const auto assigned = assign_routes(routes, parameters);
  int64_t bytes = 0;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Bucket bucket = bucket_of(parameters[i], state_dtype(options, parameter_dtype));
    bytes += state_bytes(routes[assigned[i]].recipe.direction.state(bucket), bucket);
  }
  return bytes;
}

ParameterInfo infer_parameter(std::string name, const Tensor& tensor, int64_t index) {
  const auto has = [&](std::string_view part) { return name.find(part) != std::string::npos; };
  const auto leaf_of = [&](std::string_view part) {
    const size_t at = name.find(part);
    return at != std::string::npos && (at == 0 || name[at - 1] == '.') && name.find('.', at) == name.rfind('.');
  };
  Role role = Role::hidden_matrix;
  if (tensor.dim() < 2) role = name.ends_with("bias") ? Role::bias : Role::gain;
  else if (has("embed") || has("wte") || has("wpe")) role = Role::embedding;
  else if (leaf_of("lm_head") || leaf_of("head") || leaf_of("output")) role = Role::head;
  else if (tensor.dim() > 2) role = Role::conv;
  return {.name = std::move(name), .index = index, .role = role, .shape = tensor.sizes().vec()};
}

Optimizer::Optimizer(std::vector<Parameter> parameters, std::vector<Route> routes, OptimizerOptions options)
    : impl_(std::make_unique<Impl>()) {
  impl_->routes = std::move(routes);
  impl_->options = options;
  std::vector<ParameterInfo> infos;
  for (const Parameter& p : parameters) {
    check_parameter(p);
    infos.push_back(p.info);
  }
  const auto assigned = assign_routes(impl_->routes, infos);
  for (size_t i = 0; i < parameters.size(); ++i)
    impl_->slots.push_back({.parameter = std::move(parameters[i]), .route = assigned[i]});
  for (Slot& s : impl_->slots) {
    const Bucket bucket = bucket_of(s.parameter.info, impl_->dtype(s), s.parameter.tensor.device());
    s.state = State(impl_->recipe(s).direction.state(bucket), bucket);
  }
}

Optimizer::Optimizer(Optimizer&&) noexcept = default;
Optimizer& Optimizer::operator=(Optimizer&&) noexcept = default;
Optimizer::~Optimizer() = default;

namespace {

/// One task for a matrix; many for an elementwise recipe on a large tensor.
void add_tasks(std::vector<Task>& tasks, const Recipe& recipe, Slot& slot, double lr, at::ScalarType dtype,
               uint64_t seed, const std::function<void(const UpdateView&)>& watch) {
  const ParameterInfo& info = slot.parameter.info;
  const Tensor param = as_matrix(slot.parameter.tensor.detach(), info);
  const Tensor grad = as_matrix(slot.parameter.tensor.grad(), info);
  const Locality locality = recipe.direction.traits().locality;
  const int64_t n = param.numel();
  if (locality != Locality::elementwise || n <= kPiece || watch) {
    tasks.push_back({predicted_flops(info, locality), [=, &recipe, &slot, &watch] {
                       update_matrix(recipe, slot, slot.state, param, grad, lr, dtype, seed, watch);
                     }});
    return;
  }
  for (int64_t from = 0; from < n; from += kPiece) {
    const int64_t count = std::min(kPiece, n - from);
    tasks.push_back({10.0 * static_cast<double>(count), [=, &recipe, &slot] {
                       const auto piece = [&](const Tensor& t) { return t.view({1, n}).narrow(1, from, count); };
                       State state = slot.state.viewed(piece);
                       update_matrix(recipe, slot, state, piece(param), piece(grad.contiguous()), lr, dtype, seed, {});
                     }});
  }
}

}  // namespace

void Optimizer::step(double lr_factor, const std::function<void(const UpdateView&)>& watch) {
  std::mutex one_at_a_time;
  std::function<void(const UpdateView&)> guarded;
  if (watch)
    guarded = [&](const UpdateView& view) {
      const std::scoped_lock lock(one_at_a_time);
      watch(view);
    };
  std::vector<Task> tasks;
  for (Slot& s : impl_->slots) {
    if (!s.parameter.tensor.grad().defined()) continue;
    ++s.steps;
    const Route& route = impl_->routes[s.route];
    add_tasks(tasks, route.recipe, s, route.lr * lr_factor, impl_->dtype(s), impl_->options.seed, guarded);
  }
  // Tasks write below version counting; a backward through old weights must still be refused, even where a task throws.
  for (Slot& s : impl_->slots)
    if (s.parameter.tensor.grad().defined()) s.parameter.tensor.unsafeGetTensorImpl()->bump_version();
  run_tasks(std::move(tasks));
}

void Optimizer::zero_grad() {
  for (Slot& s : impl_->slots) s.parameter.tensor.mutable_grad().reset();
}

std::vector<Assignment> Optimizer::assignments() const {
  std::vector<Assignment> rows;
  for (const Slot& s : impl_->slots) {
    const Route& route = impl_->routes[s.route];
    const Bucket bucket = bucket_of(s.parameter.info, impl_->dtype(s));
    rows.push_back({s.parameter.info, route.match, route.recipe.name, route.lr,
                    route.recipe.direction.traits().locality,
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
}  // namespace

std::string Optimizer::routing_table() const {
  struct Row {
    int64_t entries = 0;
    std::map<Role, int64_t> roles;
    std::string decided;
  };
  std::vector<Row> rows(impl_->routes.size());
  for (const Slot& s : impl_->slots) {
    Row& row = rows[s.route];
    row.entries += s.parameter.info.numel();
    ++row.roles[s.parameter.info.role];
    row.decided = impl_->recipe(s).direction.decided(impl_->dtype(s));
  }
  std::string text;
  for (size_t r = 0; r < rows.size(); ++r) {
    const Route& route = impl_->routes[r];
    text += route.match + " -> " + route.recipe.name + ": " + counted(rows[r].roles) + " (" +
            format_count(rows[r].entries) + " entries), lr " + to_json(Value(route.lr)) +
            (rows[r].decided.empty() ? "" : "; " + rows[r].decided) + "\n";
  }
  return text;
}

std::vector<std::string> Optimizer::noticed() const {
  std::vector<std::string> lines;
  for (const Route& route : impl_->routes)
    if (const std::string text = route.recipe.direction.noticed(); !text.empty())
      lines.push_back(route.recipe.name + ": " + text);
  return lines;
}

int64_t Optimizer::state_bytes() const {
  int64_t bytes = 0;
  impl_->each_state([&](const std::string&, const Tensor& t) { bytes += static_cast<int64_t>(t.nbytes()); });
  return bytes;
}

TensorFile Optimizer::state() const {
  TensorFile file;
  for (Slot& s : impl_->slots) {
    const ParameterInfo& info = s.parameter.info;
    s.state.each([&](const std::string& path,
                     const Tensor& t) { file.tensors.emplace_back(path, as_parameter(t, info).clone()); },
                 info.name + "/");
    file.tensors.emplace_back(s.parameter.info.name + "/step", at::full({}, s.steps, at::kLong));
  }
  for (size_t r = 0; r < impl_->routes.size(); ++r)
    file.metadata["route." + std::to_string(r)] =
        impl_->routes[r].match + " " + to_json(to_value(impl_->routes[r].recipe));
  return file;
}

void Optimizer::load_state(const TensorFile& file) {
  std::vector<std::pair<Tensor, Tensor>> copies;  // nothing is written until all of it fits
  const auto take = [&](const std::string& path, const Tensor& into) {
    const Tensor* found = file.find(path);
    if (!found)
      fail({file.who("optimizer state"), "'" + path + "'",
            "none among " + std::to_string(file.tensors.size()) + " tensors",
            "The checkpoint belongs to another model or recipe."});
    const Tensor& from = *found;
    if (from.sizes() != into.sizes() || from.scalar_type() != into.scalar_type())
      fail({file.who("optimizer state"),
            "'" + path + "' as " + c10::str(c10::toString(into.scalar_type()), into.sizes()),
            c10::str(c10::toString(from.scalar_type()), from.sizes()),
            "The checkpoint belongs to another model or recipe."});
    copies.emplace_back(into, from);
  };
  std::vector<Tensor> steps;
  for (Slot& s : impl_->slots) {
    const ParameterInfo& info = s.parameter.info;
    s.state.each([&](const std::string& path, const Tensor& t) { take(path, as_parameter(t, info)); }, info.name + "/");
    steps.push_back(at::zeros({}, at::kLong));
    take(s.parameter.info.name + "/step", steps.back());
  }
  if (file.tensors.size() != copies.size())
    fail({file.who("optimizer state"), std::to_string(copies.size()) + " tensors", std::to_string(file.tensors.size()),
          "The checkpoint belongs to another model or recipe."});
  for (auto& [into, from] : copies) into.copy_(from);
  for (size_t i = 0; i < steps.size(); ++i) impl_->slots[i].steps = steps[i].item<int64_t>();
}

Tensor Optimizer::slot(const std::string& parameter, std::string_view slot) const {
  Tensor found;
  for (Slot& s : impl_->slots)
    if (s.parameter.info.name == parameter)
      s.state.each([&](const std::string& path, const Tensor& t) {
        if (path.ends_with("/" + std::string(slot))) found = t;
      });
  return found;
}

}  // namespace schatten
