#include <ATen/ATen.h>
#include <schatten/core/fields.h>
#include <schatten/ops/request.h>
#include <schatten/papers/registry.h>

#include <algorithm>
#include <list>
#include <map>
#include <mutex>

namespace schatten {

namespace {

enum class StateDtype { automatic, float32, float64, bfloat16 };
constexpr auto enum_names(StateDtype) {
  return std::to_array<std::string_view>({"auto", "float32", "float64", "bfloat16"});
}

struct ParameterText {
  ParameterInfo info;
  StateDtype dtype = StateDtype::float32;
  std::string device = "cpu";
  void fields(auto&& visit) {
    visit("name", info.name, "");
    visit("index", info.index, "position among all parameters");
    visit("role", info.role, "");
    visit("shape", info.shape, "");
    visit("block", info.block, "");
    visit("blocks", info.blocks, "");
    visit("projection", info.projection, "");
    visit("heads", info.heads, "");
    visit("kv_heads", info.kv_heads, "");
    visit("nope_rows", info.nope_rows, "");
    visit("rope_rows", info.rope_rows, "");
    visit("fused_parts", info.fused_parts, "");
    visit("unit_axis", info.unit_axis, "");
    visit("dtype", dtype, "of the state, where the options do not say");
    visit("device", device, "");
  }
};

struct GroupText {
  Value recipe;
  std::vector<std::string> hyper;
  std::vector<ParameterText> parameters;
  void fields(auto&& visit) {
    visit("recipe", recipe, "");
    visit("hyper", hyper, "");
    visit("parameters", parameters, "");
  }
};

struct OptionsText {
  int64_t seed = 0;
  StateDtype state_dtype = StateDtype::automatic;
  void fields(auto&& visit) {
    visit("seed", seed, "");
    visit("state_dtype", state_dtype, "");
  }
};

struct ObservedText {
  std::string what;
  int block = 0;
  void fields(auto&& visit) {
    visit("what", what, "");
    visit("block", block, "");
  }
};

struct RequestText {
  OptionsText options;
  std::vector<ObservedText> observed;
  std::vector<GroupText> groups;
  void fields(auto&& visit) {
    visit("options", options, "");
    visit("observed", observed, "");
    visit("groups", groups, "");
  }
};

std::optional<at::ScalarType> dtype_of(StateDtype dtype) {
  switch (dtype) {
    case StateDtype::automatic: return std::nullopt;
    case StateDtype::float32: return at::kFloat;
    case StateDtype::float64: return at::kDouble;
    case StateDtype::bfloat16: return at::kBFloat16;
  }
  return std::nullopt;
}

}  // namespace

Request read_request(std::string_view json) {
  RequestText text;
  read_fields(parse_json(json), text, "request");
  Request request{
      .options = {.state_dtype = dtype_of(text.options.state_dtype), .seed = static_cast<uint64_t>(text.options.seed)}};
  for (const ObservedText& o : text.observed) request.observed.emplace_back(o.what, o.block);
  for (GroupText& g : text.groups) {
    GroupRequest group{.recipe = std::move(g.recipe), .hyper = std::move(g.hyper)};
    for (ParameterText& p : g.parameters)
      group.parameters.push_back(
          {.info = std::move(p.info), .dtype = dtype_of(p.dtype).value_or(at::kFloat), .device = at::Device(p.device)});
    request.groups.push_back(std::move(group));
  }
  return request;
}

namespace {

struct Numbered {
  std::vector<double> rates;
  std::vector<Route> routes;
};

Numbered numbered(const Request& request, const std::vector<double>& hyper) {
  Numbered all;
  size_t at = 0, wanted = 0;
  for (const GroupRequest& g : request.groups) wanted += 1 + g.hyper.size();
  if (hyper.size() != wanted)
    fail({"schatten::step", std::to_string(wanted) + " numbers in `hyper`", std::to_string(hyper.size()), ""});
  for (const GroupRequest& g : request.groups) {
    all.rates.push_back(hyper[at++]);
    Value table = g.recipe;
    for (const std::string& path : g.hyper) set_path(table, path, Value(hyper[at++]));
    all.routes.push_back(
        {.match = "group " + std::to_string(all.routes.size()), .recipe = make_recipe(table), .lr = 1});
  }
  return all;
}

}  // namespace

Plan make_plan(const Request& request, const std::vector<double>& hyper) {
  Numbered numbers = numbered(request, hyper);
  Plan plan{.stepper = Stepper(std::move(numbers.routes), request.options),
            .rates = std::move(numbers.rates),
            .observed = request.observed};
  for (size_t g = 0; g < request.groups.size(); ++g) {
    const Recipe& recipe = plan.stepper.routes()[g].recipe;
    for (const auto& [info, own, device] : request.groups[g].parameters) {
      check_recipe_for(recipe, info);
      const at::ScalarType dtype = request.options.state_dtype.value_or(own);
      const Rng shared(request.options.seed);
      const StateSpec spec = recipe.direction.state(bucket_of(info, dtype, device, shared));
      plan.slots.push_back(
          {.parameter = {.info = info}, .route = g, .state = State(spec, bucket_of(info, dtype, at::kMeta, shared))});
    }
  }
  return plan;
}

namespace {

class Plans {
 public:
  std::shared_ptr<const Plan> find(const std::string& json, const std::vector<double>& hyper) {
    const std::scoped_lock lock(mutex_);
    auto at = std::find_if(recent_.begin(), recent_.end(), [&](const Entry& e) { return e.json == json; });
    if (at == recent_.end()) {
      recent_.push_front({.json = json, .request = read_request(json)});
      if (recent_.size() > kMost) recent_.pop_back();
    } else {
      recent_.splice(recent_.begin(), recent_, at);
    }
    Entry& entry = recent_.front();
    if (!entry.plan || entry.hyper != hyper) {
      entry.plan = std::make_shared<const Plan>(make_plan(entry.request, hyper));
      entry.hyper = hyper;
    }
    return entry.plan;
  }

 private:
  static constexpr size_t kMost = 64;
  struct Entry {
    std::string json;
    Request request{};
    std::vector<double> hyper{};
    std::shared_ptr<const Plan> plan{};
  };
  std::mutex mutex_;
  std::list<Entry> recent_;
};

}  // namespace

std::shared_ptr<const Plan> cached_plan(const std::string& json, const std::vector<double>& hyper) {
  static Plans plans;
  return plans.find(json, hyper);
}

namespace {

std::string last_part(const std::string& path) { return path.substr(path.rfind('/') + 1); }

/// One parameter's slots in their order.
Value slots_of(const Slot& slot) {
  State state = slot.state;
  std::map<std::string, int> named;
  state.each([&](const std::string& path, const Tensor&) { ++named[last_part(path)]; });
  Value list = Value::array();
  state.each([&](const std::string& path, const Tensor& t, const SlotSpec& spec) {
    const std::string name = last_part(path);
    list.push_back(Value::Table{{"key", named[name] == 1 ? name : path},
                                {"path", path},
                                {"shape", field_value(t.sizes().vec())},
                                {"like_parameter", spec.shape.empty()},
                                {"resizes", spec.resizes},
                                {"dtype", spec.dtype ? Value(dtype_name(*spec.dtype)) : Value()}});
  });
  return list;
}

Value described(const Recipe& recipe) {
  const Traits traits = recipe.direction.traits();
  return Value::Table{{"locality", enum_name(locality_of(recipe))}, {"takes_vectors", traits.takes_vectors},
                      {"probe", enum_name(traits.probe)},           {"probe_every", traits.probe_every},
                      {"controlled", !recipe.controllers.empty()},  {"parameters", Value::array()}};
}

}  // namespace

std::string inferred(const std::string& json) {
  std::vector<ParameterText> texts;
  read_field(parse_json(json), "", "parameters", texts);
  std::vector<Parameter> parameters;
  for (const ParameterText& t : texts)
    parameters.push_back({infer_parameter(t.info.name, t.info.shape, static_cast<int64_t>(parameters.size())), {}});
  count_blocks(parameters);
  Value list = Value::array();
  for (const Parameter& p : parameters) {
    Value one = Value::Table{{"name", p.info.name}, {"index", p.info.index}, {"role", enum_name(p.info.role)}};
    one["shape"] = field_value(p.info.shape);
    if (p.info.block >= 0) one["block"] = p.info.block;
    if (p.info.blocks > 0) one["blocks"] = p.info.blocks;
    list.push_back(one);
  }
  return to_json(list);
}

std::string declared(const std::string& json, const std::vector<double>& hyper) {
  const Plan plan = make_plan(read_request(json), hyper);
  Value groups = Value::array();
  for (const Route& route : plan.stepper.routes()) groups.push_back(described(route.recipe));
  for (const Slot& slot : plan.slots) groups.as_array()[slot.route]["parameters"].push_back(slots_of(slot));
  return to_json(groups);
}

}  // namespace schatten
