#include <ATen/ATen.h>
#include <schatten/engine/optimizer_impl.h>

namespace schatten {

int64_t plan_state_bytes(const std::vector<ParameterInfo>& parameters, const std::vector<Route>& routes,
                         at::ScalarType parameter_dtype, const OptimizerOptions& options) {
  const auto assigned = assign_routes(routes, parameters);
  const at::ScalarType dtype = options.state_dtype.value_or(at_least_float32(parameter_dtype));
  int64_t bytes = 0;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Bucket bucket = bucket_of(parameters[i], dtype, at::kCPU, Rng(options.seed));
    bytes += state_bytes(routes[assigned[i]].recipe.direction.state(bucket), bucket);
  }
  return bytes;
}

Optimizer::Optimizer(std::vector<Parameter> parameters, std::vector<Route> routes, OptimizerOptions options)
    : impl_(std::make_unique<Impl>(Impl{Stepper(std::move(routes), options)})) {
  std::vector<ParameterInfo> infos;
  for (const Parameter& p : parameters) {
    check_parameter(p);
    infos.push_back(p.info);
  }
  const auto assigned = assign_routes(impl_->routes(), infos);
  for (size_t i = 0; i < infos.size(); ++i) check_recipe_for(impl_->routes()[assigned[i]].recipe, infos[i]);
  for (size_t i = 0; i < parameters.size(); ++i)
    impl_->slots.push_back({.parameter = std::move(parameters[i]), .route = assigned[i]});
  for (Slot& s : impl_->slots) s.state = impl_->stepper.fresh_state(s);
}

Optimizer::Optimizer(Optimizer&&) noexcept = default;
Optimizer& Optimizer::operator=(Optimizer&&) noexcept = default;
Optimizer::~Optimizer() = default;

void Optimizer::step(double lr_factor, const Watch& watch) {
  impl_->stepper.check_observations(impl_->seen);
  std::vector<double> rates;
  for (const Route& route : impl_->routes()) rates.push_back(route.lr * lr_factor);
  impl_->with_gradients([&](std::vector<Slot>& slots) { impl_->stepper.step(slots, rates, watch); });
  impl_->stepper.control(impl_->slots, impl_->seen);
  impl_->seen.clear();
}

void Optimizer::observe(const std::string& what, int block, const Tensor& values) {
  impl_->seen[what][block] = values.detach();
}

std::vector<std::string> Optimizer::wants() const { return impl_->stepper.wants(); }

Traits Optimizer::traits() const {
  Traits all;
  for (const Route& route : impl_->routes()) all = all | route.recipe.direction.traits();
  return all;
}

void Optimizer::probe() {
  impl_->with_gradients([&](std::vector<Slot>& slots) { impl_->stepper.probe(slots); });
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
