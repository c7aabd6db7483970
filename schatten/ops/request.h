// What an operator's `recipe` string says, read once and kept: the same string comes again at every step.
#pragma once
#include <schatten/engine/stepper.h>

#include <memory>
#include <string>
#include <vector>

namespace schatten {

struct ParameterRequest {
  ParameterInfo info;
  at::ScalarType dtype = at::kFloat;  // of its state, where the options do not say
  at::Device device = at::kCPU;       // stages choose their ways by it
};

/// The parameters of one group, their recipe, and where the numbers are that may change from step to step.
struct GroupRequest {
  Value recipe{};                    // {recipe = "muon", option = ...}
  std::vector<std::string> hyper{};  // dotted options that are taken from the tensor `hyper`, behind the learning rate
  std::vector<ParameterRequest> parameters{};
};

struct Request {
  OptimizerOptions options{};
  std::vector<GroupRequest> groups{};
  std::vector<std::pair<std::string, int>> observed{};  // what, and of which block: names for the list of tensors
};

/// {"options": {"seed": 0, "state_dtype": "auto"}, "observed": [{"what": ..., "block": 0}],
///  "groups": [{"recipe": {...}, "hyper": ["momentum"], "parameters": [{"name": "w", "shape": [4, 8], "dtype": "float32", ...}]}]}
/// UsageError that names an unknown key.
Request read_request(std::string_view json);

/// A request made ready for one set of numbers.
struct Plan {
  Stepper stepper;
  std::vector<Slot> slots{};    // one per parameter; their state has the declared shapes and no memory
  std::vector<double> rates{};  // of each group
  std::vector<std::pair<std::string, int>> observed{};
};
/// `hyper`: for each group its learning rate, then the numbers that it names.
Plan make_plan(const Request& request, const std::vector<double>& hyper);

/// The latest plans by their string: reading one costs as much as a small step. A cache, no state: what it returns
/// follows from its arguments alone.
std::shared_ptr<const Plan> cached_plan(const std::string& json, const std::vector<double>& hyper);

/// What Python allocates, a line of JSON: per group {"locality", "takes_vectors", "probe", "probe_every", "controlled",
/// "parameters": [[{"key", "path", "shape", "resizes", "dtype"}, ...], ...]}. A key is the slot's name, or its path where another
/// slot of the parameter has the same name; dtype null: the state's.
std::string declared(const std::string& json, const std::vector<double>& hyper);

/// [{"name": ..., "shape": [...]}, ...] with what infer_parameter makes of each, in the same form as a request's.
std::string inferred(const std::string& json);

}  // namespace schatten
