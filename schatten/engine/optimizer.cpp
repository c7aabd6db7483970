#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <schatten/engine/tasks.h>
#include <schatten/engine/update_impl.h>

#include <algorithm>
#include <mutex>

namespace schatten {

namespace {

double predicted_flops(const ParameterInfo& p, Locality locality) {
  const auto m = static_cast<double>(p.rows()), n = static_cast<double>(p.cols());
  return locality == Locality::matrix ? 30 * m * n * std::min(m, n) : 10 * m * n;
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

void check_gradient(const Parameter& p) {
  const Tensor& g = p.tensor.grad();
  if (g.layout() == at::kStrided && !g.is_complex()) return;
  fail_usage({"Optimizer::step", "dense real gradients",
              std::string(g.layout() == at::kStrided ? "a complex" : "a sparse") + " one for '" + p.info.name + "'",
              g.layout() == at::kStrided ? "Use its real view." : "Make it dense: embedding(..., sparse = false)."});
}

}  // namespace

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
  for (const Route& route : impl_->routes) {
    check_recipe(route.recipe);
    impl_->twins.push_back(options.fused ? fused_twin(route.recipe) : std::nullopt);
    impl_->matrix_twins.push_back(options.fused ? MatrixTwin::of(route.recipe) : std::nullopt);
  }
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

/// What a step is made of.
struct Work {
  std::vector<Task> tasks;     // on the CPU
  std::vector<Task> launches;  // of work on other devices
  std::vector<Task>& of(const Slot& slot) { return slot.parameter.tensor.is_cpu() ? tasks : launches; }
};

/// One task for a matrix; many for an elementwise recipe on a large tensor of the CPU.
void add_stages(Work& work, const Turn& turn, Slot& slot, at::ScalarType dtype) {
  const ParameterInfo& info = slot.parameter.info;
  const Tensor param = as_matrix(slot.parameter.tensor.detach(), info);
  const Tensor grad = as_matrix(slot.parameter.tensor.grad(), info);
  const Locality locality = locality_of(turn.recipe);
  const int64_t n = param.numel();
  if (locality != Locality::elementwise || n <= kElementwisePiece || turn.watch || !param.is_cpu()) {
    work.of(slot).push_back({predicted_flops(info, locality),
                             [=, &slot] { update_matrix(turn, slot, slot.state, param, grad, dtype); },
                             locality == Locality::matrix});
    return;
  }
  for (int64_t from = 0; from < n; from += kElementwisePiece) {
    const int64_t count = std::min(kElementwisePiece, n - from);
    work.tasks.push_back({10.0 * static_cast<double>(count), [=, &slot] {
                            const auto piece = [&](const Tensor& t) { return t.view({1, n}).narrow(1, from, count); };
                            State state = slot.state.viewed(piece);
                            update_matrix(turn, slot, state, piece(param), piece(grad.contiguous()), dtype);
                          }});
  }
}

void add_batch(Work& work, const Turn& turn, Batch batch, at::ScalarType dtype) {
  Slot& first = *batch.front();
  if (batch.size() == 1) return add_stages(work, turn, first, dtype);
  const Locality locality = locality_of(turn.recipe);
  const double cost = static_cast<double>(batch.size()) * predicted_flops(first.parameter.info, locality);
  work.of(first).push_back({cost, [turn, batch = std::move(batch), dtype] { update_batch(turn, batch, dtype); },
                            locality == Locality::matrix});
}

/// What a kernel can read: the gradient itself, where it can be.
Tensor readable(const Tensor& grad) {
  const bool known = grad.scalar_type() == at::kFloat || grad.scalar_type() == at::kBFloat16;
  return (known ? grad : grad.to(at::kFloat)).resolve_neg().contiguous();
}

FusedStep fused_step(const Turn& turn, Slot& slot) {
  return {.step = slot.steps,
          .lr = turn.lr,
          .decay = decay_of(turn.recipe, slot),
          .parameter = &slot.parameter.info,
          .state = &slot.state,
          .param = slot.parameter.tensor.detach(),
          .grad = readable(slot.parameter.tensor.grad())};
}

/// Where the update goes when somebody watches.
Tensor room_for(const Turn& turn, const ParameterInfo& info) {
  return turn.watch ? at::empty({info.rows(), info.cols()}, at::kFloat) : Tensor();
}

/// The same kernel, and what it did is kept to be seen.
Task watched_task(const FusedTwin& twin, const Turn& turn, FusedStep step) {
  const ParameterInfo& info = *step.parameter;
  return {predicted_flops(info, Locality::elementwise), [&twin, turn, &info, step = std::move(step)]() mutable {
            step.update = room_for(turn, info);
            twin.run(step, turn.options.isa, 0, info.numel());
            turn.watch({info, step.update, step.lr});
          }};
}

Task matrix_task(const MatrixTwin& twin, const Turn& turn, Slot& slot) {
  const ParameterInfo& info = slot.parameter.info;
  return {predicted_flops(info, Locality::matrix),
          [&twin, turn, &slot, &info] {
            FusedStep step = fused_step(turn, slot);
            step.update = room_for(turn, info);
            const auto eta =
                twin.run(step, stage_step(turn, slot, as_matrix(step.grad, info), as_matrix(step.param, info)));
            if (turn.watch && eta) turn.watch({info, step.update, *eta});
          },
          true};
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
  check_observations();
  const auto turn_of = [&](const Slot& s) {
    const Route& route = impl_->routes[s.route];
    return Turn{route.recipe, impl_->options, route.lr * lr_factor, guarded};
  };
  Work work;
  std::vector<FusedJob> jobs;
  Batch together;
  for (Slot& s : impl_->slots) {
    if (!s.parameter.tensor.grad().defined()) continue;
    ++s.steps;
    const Turn turn = turn_of(s);
    if (impl_->batched(s)) {
      together.push_back(&s);
    } else if (const FusedTwin* twin = impl_->twin(s)) {
      if (guarded) work.tasks.push_back(watched_task(*twin, turn, fused_step(turn, s)));
      else jobs.push_back({twin, fused_step(turn, s)});
    } else if (const MatrixTwin* matrix_twin = impl_->matrix_twin(s)) {
      work.tasks.push_back(matrix_task(*matrix_twin, turn, s));
    } else {
      add_stages(work, turn, s, impl_->dtype(s));
    }
  }
  for (const Batch& batch : batches_of(together)) add_batch(work, turn_of(*batch[0]), batch, impl_->dtype(*batch[0]));
  add_fused_tasks(work.tasks, std::move(jobs), impl_->options.isa);
  // Tasks write below version counting; a backward through old weights must still be refused, even where a task throws.
  for (Slot& s : impl_->slots)
    if (s.parameter.tensor.grad().defined()) s.parameter.tensor.unsafeGetTensorImpl()->bump_version();
  run_in_order(work.launches);
  run_tasks(std::move(work.tasks));
  run_controllers();
}

/// Before anything is written.
void Optimizer::check_observations() const {
  for (const Route& route : impl_->routes)
    for (const Controller& controller : route.recipe.controllers)
      if (const std::string what = controller.wants(); !what.empty() && !impl_->seen.contains(what))
        fail({"recipe '" + route.recipe.name + "'", "'" + what + "' of every block before each step",
              "nothing observed since the last one", "Call observe(\"" + what + "\", block, values) after forward."});
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
  const std::function<void(const UpdateView&)> nobody;
  for (Slot& s : impl_->slots) {
    const Recipe& recipe = impl_->recipe(s);
    if (recipe.direction.traits().probe == ProbeKind::none || !s.parameter.tensor.grad().defined()) continue;
    check_gradient(s.parameter);
    const Tensor h = as_matrix(s.parameter.tensor.grad(), s.parameter.info).to(impl_->dtype(s));
    recipe.direction.probe(h, s.state, stage_step({recipe, impl_->options, 0, nobody}, s, h, {}));
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

}  // namespace schatten
