#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
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
  std::optional<double> weight_decay;  // a controller's, in place of the recipe's
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
Tensor as_parameter(const Tensor& t, const SlotSpec& slot, const ParameterInfo& p) {
  return slot.shape.empty() && t.numel() == p.numel() ? t.view(p.shape) : t;
}

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

/// The few lines that every recipe is: decay, direction, step, retraction.
void update_matrix(const Recipe& recipe, const Slot& slot, State& state, Tensor param, const Tensor& raw_grad,
                   double lr, at::ScalarType dtype, uint64_t seed,
                   const std::function<void(const UpdateView&)>& watch) {
  const ParameterInfo& info = slot.parameter.info;
  Decay decay = recipe.decay;
  if (slot.weight_decay) decay.weight_decay = *slot.weight_decay;
  const Tensor grad = decay.gradient(raw_grad.to(dtype), param);
  double rate = 1;
  const Step step{.step = slot.steps,
                  .lr = lr,
                  .parameter = info,
                  .grad = grad,
                  .param = param,
                  .rng = Rng(seed).at(info.index),
                  .shared = Rng(seed),
                  .rate = &rate};
  const Tensor update = recipe.direction.apply(grad, state, step);
  if (!update.defined()) return;
  const double eta = lr * rate;
  decay.before(param, update, eta, info);
  recipe.retract.move(param, update, eta, info);
  decay.after(param, eta);
  recipe.retract.renormalize(param, info, slot.steps);
  if (watch) watch({info, update, eta});
}

/// How much of W one step of this recipe needs to see at once.
Locality locality_of(const Recipe& recipe) {
  const Locality direction = recipe.direction.traits().locality;
  return recipe.retract.active() ? std::max(direction, Locality::row) : direction;
}

void check_gradient(const Parameter& p) {
  const Tensor& g = p.tensor.grad();
  if (g.layout() == at::kStrided && !g.is_complex()) return;
  fail_usage({"Optimizer::step", "dense real gradients",
              std::string(g.layout() == at::kStrided ? "a complex" : "a sparse") + " one for '" + p.info.name + "'",
              g.layout() == at::kStrided ? "Use its real view." : "Make it dense: embedding(..., sparse = false)."});
}

}  // namespace

struct Optimizer::Impl {
  std::vector<Route> routes;
  OptimizerOptions options;
  std::vector<Slot> slots;

  const Recipe& recipe(const Slot& s) const { return routes[s.route].recipe; }
  at::ScalarType dtype(const Slot& s) const { return state_dtype(options, s.parameter.tensor.scalar_type()); }
  Observations seen;

  Bucket bucket(const Slot& s) const {
    return bucket_of(s.parameter.info, dtype(s), s.parameter.tensor.device(), Rng(options.seed));
  }
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
    const Bucket bucket = bucket_of(parameters[i], state_dtype(options, parameter_dtype), at::kCPU, Rng(options.seed));
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
  for (const Route& route : impl_->routes) check_recipe(route.recipe);
  const auto assigned = assign_routes(impl_->routes, infos);
  for (size_t i = 0; i < infos.size(); ++i) check_recipe_for(impl_->routes[assigned[i]].recipe, infos[i]);
  for (size_t i = 0; i < parameters.size(); ++i)
    impl_->slots.push_back({.parameter = std::move(parameters[i]), .route = assigned[i]});
  for (Slot& s : impl_->slots) {
    const Bucket bucket = impl_->bucket(s);
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
  const Locality locality = locality_of(recipe);
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
  for (const Slot& s : impl_->slots)
    if (s.parameter.tensor.grad().defined()) check_gradient(s.parameter);
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
  run_controllers();
}

void Optimizer::run_controllers() {
  const at::NoGradGuard no_grad;
  for (size_t r = 0; r < impl_->routes.size(); ++r) {
    const Recipe& recipe = impl_->routes[r].recipe;
    if (recipe.controllers.empty()) continue;
    int64_t step = 0;
    for (const Slot& s : impl_->slots)
      if (s.route == r) step = std::max(step, s.steps);
    for (const Controller& controller : recipe.controllers) {
      std::vector<Controlled> all;
      for (Slot& s : impl_->slots) {
        if (s.route != r && !controller.sees_all()) continue;
        all.push_back({s.parameter.info, s.parameter.tensor.detach(), s.weight_decay,
                       impl_->recipe(s).decay.weight_decay, s.route == r});
      }
      if (const std::string what = controller.wants(); !what.empty() && !impl_->seen.contains(what))
        fail({"recipe '" + recipe.name + "'", "'" + what + "' of every block before each step",
              "nothing observed since the last one", "Call observe(\"" + what + "\", block, values) after forward."});
      controller.after_step(all, impl_->seen, step);
    }
  }
  impl_->seen.clear();
}

void Optimizer::observe(const std::string& what, int block, const Tensor& values) {
  impl_->seen[what][block] = values.detach();
}

std::vector<std::string> Optimizer::wants() const {
  std::vector<std::string> all;
  for (const Route& route : impl_->routes)
    for (const Controller& c : route.recipe.controllers)
      if (!c.wants().empty() && std::find(all.begin(), all.end(), c.wants()) == all.end()) all.push_back(c.wants());
  return all;
}

Traits Optimizer::traits() const {
  Traits all;
  for (const Route& route : impl_->routes) all = all | route.recipe.direction.traits();
  return all;
}

void Optimizer::probe() {
  const at::NoGradGuard no_grad;
  for (Slot& s : impl_->slots) {
    const Recipe& recipe = impl_->recipe(s);
    if (recipe.direction.traits().probe == ProbeKind::none || !s.parameter.tensor.grad().defined()) continue;
    check_gradient(s.parameter);
    const ParameterInfo& info = s.parameter.info;
    const Tensor h = as_matrix(s.parameter.tensor.grad(), info).to(impl_->dtype(s));
    recipe.direction.probe(h, s.state,
                           {.step = s.steps,
                            .parameter = info,
                            .grad = h,
                            .rng = Rng(impl_->options.seed).at(info.index),
                            .shared = Rng(impl_->options.seed)});
  }
}

void Optimizer::set_weight_decay(const std::string& parameter, std::optional<double> weight_decay) {
  for (Slot& s : impl_->slots)
    if (s.parameter.info.name == parameter) {
      s.weight_decay = weight_decay;
      return;
    }
  fail_usage({"Optimizer::set_weight_decay", "the name of a parameter", "'" + parameter + "'", ""});
}

void Optimizer::zero_grad() {
  for (Slot& s : impl_->slots) s.parameter.tensor.mutable_grad().reset();
}

std::vector<Assignment> Optimizer::assignments() const {
  std::vector<Assignment> rows;
  for (const Slot& s : impl_->slots) {
    const Route& route = impl_->routes[s.route];
    const Bucket bucket = impl_->bucket(s);
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
}  // namespace

namespace {
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
            (rows[r].decided.empty() ? "" : "; " + rows[r].decided) + beside_the_direction(route.recipe) + "\n";
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
    s.state.each([&](const std::string& path, const Tensor& t,
                     const SlotSpec& slot) { file.tensors.emplace_back(path, as_parameter(t, slot, info).clone()); },
                 info.name + "/");
    file.tensors.emplace_back(info.name + "/step", at::full({}, s.steps, at::kLong));
    if (s.weight_decay)
      file.tensors.emplace_back(info.name + "/weight_decay", at::full({}, *s.weight_decay, at::kDouble));
  }
  for (size_t r = 0; r < impl_->routes.size(); ++r)
    file.metadata["route." + std::to_string(r)] =
        impl_->routes[r].match + " " + to_json(to_value(impl_->routes[r].recipe));
  return file;
}

namespace {

constexpr const char* kOtherModel = "The checkpoint belongs to another model or recipe.";

/// The tensors that a state file must hold, checked one by one before anything is written.
struct StateReader {
  const TensorFile& file;
  size_t taken = 0;

  const Tensor& take(const std::string& path, const Tensor& like, bool any_shape = false) {
    const Tensor* found = file.find(path);
    if (!found)
      fail({file.who("optimizer state"), "'" + path + "'",
            "none among " + std::to_string(file.tensors.size()) + " tensors", kOtherModel});
    const bool shaped = any_shape ? found->dim() == like.dim() : found->sizes() == like.sizes();
    if (!shaped || found->scalar_type() != like.scalar_type())
      fail({file.who("optimizer state"),
            "'" + path + "' as " + c10::str(c10::toString(like.scalar_type()), like.sizes()),
            c10::str(c10::toString(found->scalar_type()), found->sizes()), kOtherModel});
    ++taken;
    return *found;
  }
};

}  // namespace

void Optimizer::load_state(const TensorFile& file) {
  StateReader reader{file};
  std::vector<std::function<void()>> writes;  // nothing is written until all of it fits
  for (Slot& s : impl_->slots) {
    const ParameterInfo& info = s.parameter.info;
    s.state.each(
        [&](const std::string& path, Tensor& into, const SlotSpec& slot) {
          const Tensor& from = reader.take(path, as_parameter(into, slot, info), slot.resizes);
          Tensor* target = &into;
          if (slot.resizes) writes.emplace_back([target, from] { *target = from.clone(); });
          else writes.emplace_back([view = as_parameter(into, slot, info), from]() mutable { view.copy_(from); });
        },
        info.name + "/");
    const auto steps = reader.take(info.name + "/step", at::zeros({}, at::kLong)).item<int64_t>();
    std::optional<double> decay;
    if (file.find(info.name + "/weight_decay"))
      decay = reader.take(info.name + "/weight_decay", at::zeros({}, at::kDouble)).item<double>();
    writes.emplace_back([&s, steps, decay] {
      s.steps = steps;
      s.weight_decay = decay;
    });
  }
  if (file.tensors.size() != reader.taken)
    fail({file.who("optimizer state"), std::to_string(reader.taken) + " tensors", std::to_string(file.tensors.size()),
          kOtherModel});
  for (const auto& write : writes) write();
}

Tensor Optimizer::slot(const std::string& parameter, std::string_view slot) const {
  Tensor found;
  for (Slot& s : impl_->slots)
    if (s.parameter.info.name == parameter)
      s.state.each([&](const std::string& path, const Tensor& t) {
        if (("/" + path).ends_with("/" + std::string(slot))) found = t;
      });
  return found;
}

}  // namespace schatten
