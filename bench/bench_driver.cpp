// The C++ side of bench/run.py: one JSON command per line on stdin, one JSON answer per line on stdout.
// Between commands it waits for input, so that the other side can be timed meanwhile.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/Allocator.h>
#include <schatten/core/error.h>
#include <schatten/kernels/isa.h>
#include <schatten/papers/registry.h>
#include <schatten/train/environment.h>
#include <schatten/train/trainer.h>

#include <chrono>
#include <iostream>
#include <map>
#include <utility>

namespace schatten {
namespace {

constexpr uint64_t kSeed = 1;

double seconds_of(const std::function<void()>& work) {
  const auto began = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

/// Net bytes that tensors of this thread took from torch's allocator since construction.
class LiveBytes {
  struct Counter final : c10::MemoryReportingInfoBase {
    int64_t live = 0;
    void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override { live += size; }
    bool memoryProfilingEnabled() const override { return true; }
  };
  std::shared_ptr<Counter> counter_ = std::make_shared<Counter>();
  c10::DebugInfoGuard guard_{c10::DebugInfoKind::PROFILER_STATE, counter_};

 public:
  /// What was taken since the last call.
  int64_t taken() { return std::exchange(counter_->live, 0); }
};

int64_t storage_bytes(const std::vector<Parameter>& parameters) {
  std::map<const void*, int64_t> storages;
  for (const Parameter& p : parameters)
    storages[p.tensor.storage().data()] = static_cast<int64_t>(p.tensor.storage().nbytes());
  int64_t bytes = 0;
  for (const auto& [data, size] : storages) bytes += size;
  return bytes;
}

Architecture architecture_of(const Value& command) {
  ModelOptions options;
  read_fields(command.at("model"), options, "model");
  return resolve_architecture(options, 0);
}

std::vector<Route> routes_of(const Value& command) {
  OptimizerConfig config;
  config.matrix = command.at("recipe");
  if (command.find("auxiliary")) config.auxiliary = command.at("auxiliary");
  std::vector<Route> routes = make_routes(config);
  if (!command.find("auxiliary")) routes.pop_back();  // hidden matrices only
  return routes;
}

class Driver {
 public:
  Value answer(const Value& command);

 private:
  Value set_up(const Value& command);
  Value take_tensors(const Value& command);
  Value take_batch(const Value& command);
  Value loss_and_gradient();
  Value run_passes(int64_t passes);
  Value set_up_optimizer(const Value& command);
  Value run_steps(int64_t steps);
  Value write_update(const Value& command);
  Value profile(const Value& command);
  std::vector<Parameter> of_role(bool hidden_matrices) const;
  Tensor loss() const { return model_->loss(batch_.at("tokens"), batch_.at("targets")); }

  std::unique_ptr<LanguageModel> model_;
  std::vector<Parameter> parameters_;  // of the model, or from a file
  std::unique_ptr<Optimizer> optimizer_;
  TensorFile batch_;
};

/// {model, threads, weights: file to write}
Value Driver::set_up(const Value& command) {
  optimizer_.reset();
  at::set_num_threads(static_cast<int>(command.at("threads").as_integer()));
  model_ = make_model(architecture_of(command), at::kFloat, Rng(kSeed));
  parameters_ = model_->parameters();
  save_safetensors(command.at("weights").as_string(), model_->weights());
  const Architecture& a = model_->architecture();
  return Value::Table{{"parameters", model_->num_parameters()},
                      {"shape", Value::Table{{"layers", a.layers},
                                             {"width", a.width},
                                             {"heads", a.heads},
                                             {"ffn", a.ffn},
                                             {"context", a.context},
                                             {"vocab", a.vocab},
                                             {"norm_eps", a.norm_eps},
                                             {"rope_base", a.rope_base}}}};
}

/// {weights: file}: every tensor in it is a hidden matrix, and there is no model.
Value Driver::take_tensors(const Value& command) {
  optimizer_.reset();
  model_.reset();
  parameters_.clear();
  for (const auto& [name, tensor] : load_safetensors(command.at("weights").as_string()).tensors)
    parameters_.push_back({{.name = name,
                            .index = static_cast<int64_t>(parameters_.size()),
                            .role = Role::hidden_matrix,
                            .shape = tensor.sizes().vec()},
                           tensor});
  return Value::Table{{"tensors", static_cast<int64_t>(parameters_.size())}};
}

/// {file: of tokens and targets}
Value Driver::take_batch(const Value& command) {
  batch_ = load_safetensors(command.at("file").as_string());
  return Value::Table{{"tokens", batch_.at("tokens").numel()}};
}

Value Driver::loss_and_gradient() {
  model_->zero_grad();
  const Tensor value = loss();
  value.backward();
  return Value::Table{{"loss", value.item<double>()}, {"gradient_norm", global_gradient_norm(model_->parameters())}};
}

/// Seconds of one forward and backward pass.
Value Driver::run_passes(int64_t passes) {
  const double seconds = seconds_of([&] {
    for (int64_t i = 0; i < passes; ++i) {
      model_->zero_grad();
      const Tensor value = loss();
      value.backward();
      value.item<double>();
    }
  });
  return Value::Table{{"seconds", seconds / static_cast<double>(passes)}};
}

std::vector<Parameter> Driver::of_role(bool hidden_matrices) const {
  std::vector<Parameter> some;
  for (const Parameter& p : parameters_)
    if ((p.info.role == Role::hidden_matrix) == hidden_matrices) some.push_back(p);
  return some;
}

/// {threads, recipe, auxiliary?, gradients: file}: without `auxiliary` only the hidden matrices are stepped.
Value Driver::set_up_optimizer(const Value& command) {
  at::set_num_threads(static_cast<int>(command.at("threads").as_integer()));
  const TensorFile gradients = load_safetensors(command.at("gradients").as_string());
  const std::vector<Parameter> stepped = command.find("auxiliary") ? parameters_ : of_role(true);
  for (const Parameter& p : stepped) p.tensor.mutable_grad() = gradients.at(p.info.name);
  optimizer_ = std::make_unique<Optimizer>(stepped, routes_of(command));
  return Value::Table{{"tensors", static_cast<int64_t>(stepped.size())}};
}

Value Driver::run_steps(int64_t steps) {
  const double seconds = seconds_of([&] {
    for (int64_t i = 0; i < steps; ++i) optimizer_->step();
  });
  return Value::Table{{"seconds", seconds / static_cast<double>(steps)}};
}

/// {file: to write}: what one step does to the weights.
Value Driver::write_update(const Value& command) {
  TensorFile update;
  for (const Parameter& p : parameters_) update.tensors.emplace_back(p.info.name, p.tensor.detach().clone());
  optimizer_->step();
  for (size_t i = 0; i < parameters_.size(); ++i) update.tensors[i].second.sub_(parameters_[i].tensor.detach());
  save_safetensors(command.at("file").as_string(), update);
  return Value::table();
}

/// {count, parts: [{matrices: bool, recipe}]}: seconds of each of `count` forward passes, backward passes and steps of
/// every part.
Value Driver::profile(const Value& command) {
  std::vector<Optimizer> optimizers;
  std::vector<Value::Array> seconds(2);
  for (const Value& part : command.at("parts").as_array()) {
    optimizers.emplace_back(of_role(part.at("matrices").as_bool()),
                            std::vector<Route>{make_route(part.at("recipe"), "any")});
    seconds.emplace_back();
  }
  for (int64_t i = 0; i < command.at("count").as_integer(); ++i) {
    model_->zero_grad();
    Tensor value;
    seconds[0].push_back(seconds_of([&] { value = loss(); }));
    seconds[1].push_back(seconds_of([&] { value.backward(); }));
    for (size_t o = 0; o < optimizers.size(); ++o) seconds[2 + o].push_back(seconds_of([&] { optimizers[o].step(); }));
  }
  return Value::Table{{"seconds", Value::Array(seconds.begin(), seconds.end())}};
}

/// {model, recipe, auxiliary, length}: bytes as declared and as taken from the allocator.
Value memory(const Value& command) {
  at::set_num_threads(1);  // other threads' tensors would not be counted
  const Architecture architecture = architecture_of(command);
  const std::vector<ParameterInfo> infos = parameter_infos(architecture);
  int64_t entries = 0;
  for (const ParameterInfo& info : infos) entries += info.numel();
  const int64_t weights_declared = entries * static_cast<int64_t>(sizeof(float));

  LiveBytes bytes;
  const auto model = make_model(architecture, at::kFloat, Rng(kSeed));
  const int64_t model_taken = bytes.taken(), weights = storage_bytes(model->parameters());
  Optimizer optimizer(model->parameters(), routes_of(command));
  const int64_t state = bytes.taken();
  {
    const Tensor tokens = at::zeros({1, command.at("length").as_integer()}, at::kLong);
    model->loss(tokens, tokens).backward();
  }
  const int64_t gradients = bytes.taken();
  optimizer.step();
  const int64_t step = bytes.taken();
  return Value::Table{{"weights", Value::Array{weights_declared, weights}},
                      {"gradients", Value::Array{weights_declared, gradients}},
                      {"state", Value::Array{plan_state_bytes(infos, routes_of(command), at::kFloat), state}},
                      {"tables", model_taken - weights},
                      {"left_by_step", step}};
}

Value described() {
  Value about = describe_environment();
  about["isa"] = std::string(enum_name(this_isa()));
  return about;
}

Value Driver::answer(const Value& command) {
  const std::string& what = command.at("do").as_string();
  if (what == "describe") return described();
  if (what == "setup") return set_up(command);
  if (what == "tensors") return take_tensors(command);
  if (what == "batch") return take_batch(command);
  if (what == "loss") return loss_and_gradient();
  if (what == "passes") return run_passes(command.at("count").as_integer());
  if (what == "optimizer") return set_up_optimizer(command);
  if (what == "steps") return run_steps(command.at("count").as_integer());
  if (what == "update") return write_update(command);
  if (what == "state_bytes") return Value::Table{{"bytes", optimizer_->state_bytes()}};
  if (what == "profile") return profile(command);
  if (what == "memory") return memory(command);
  fail_usage({"bench_driver", "a command it knows", "'" + what + "'", ""});
}

}  // namespace
}  // namespace schatten

int main() {
  schatten::Driver driver;
  for (std::string line; std::getline(std::cin, line);) {
    schatten::Value answer;
    try {
      answer = driver.answer(schatten::parse_json(line, "command"));
    } catch (const std::exception& error) {
      answer = schatten::Value::Table{{"error", error.what()}};
    }
    std::cout << schatten::to_json(answer) << std::endl;
  }
  return 0;
}
