#include <schatten/core/error.h>
#include <schatten/core/rng.h>
#include <schatten/train/config.h>
#include <schatten/train/trainer.h>

#include <cmath>
#include <cstdio>

namespace schatten {

namespace {

/// Checks ranges and says where the value was written.
class Ranges {
 public:
  explicit Ranges(const Value& table) : table_(table) {}
  void at_least(const char* key, int64_t value, int64_t least) const {
    if (value < least) bad(key, ">= " + std::to_string(least), Value(value));
  }
  void within(const char* key, double value, double low, double high) const {
    if (!(value >= low && value <= high))
      bad(key, "from " + to_json(Value(low)) + " to " + to_json(Value(high)), Value(value));
  }
  void holds(bool good, const char* key, const std::string& expected, const Value& got) const {
    if (!good) bad(key, expected, got);
  }

 private:
  [[noreturn]] void bad(const char* key, const std::string& expected, const Value& got) const {
    const Value* written = find_path(table_, key);
    const std::string where = written ? written->origin.to_string() : "";
    fail_usage({where.empty() ? "config" : where, std::string(key) + " " + expected, to_json(got), ""});
  }
  const Value& table_;
};

void check_ranges(const RunConfig& c, const Value& table) {
  const Ranges r(table);
  r.at_least("train.steps", c.train.steps, 1);
  r.at_least("train.accumulate", c.train.accumulate, 1);
  r.at_least("train.eval_every", c.train.eval_every, 0);
  r.at_least("train.log_every", c.train.log_every, 1);
  r.at_least("train.checkpoint_every", c.train.checkpoint_every, 0);
  r.at_least("train.keep_checkpoints", c.train.keep_checkpoints, 1);
  r.at_least("train.sample_every", c.train.sample_every, 0);
  r.at_least("train.sample_length", c.train.sample_length, 0);
  r.at_least("train.threads", c.train.threads, 0);
  r.within("train.clip", c.train.clip, 0, 1e300);
  r.within("optimizer.sam.rho", c.optimizer.sam.rho, 0, 1e300);
  r.holds(c.optimizer.average >= 0 && c.optimizer.average < 1, "optimizer.average", "in [0, 1)",
          Value(c.optimizer.average));
  r.at_least("data.batch", c.data.batch, 1);
  r.at_least("data.eval_batches", c.data.eval_batches, 1);
  r.at_least("spectra.every", c.spectra.every, 0);
  r.at_least("schedule.warmup", c.schedule.warmup, 0);
  r.holds(c.schedule.warmup <= c.train.steps, "schedule.warmup", "<= train.steps", Value(c.schedule.warmup));
  r.within("schedule.final_factor", c.schedule.final_factor, 0, 1);
  r.within("schedule.decay_share", c.schedule.decay_share, 0, 1);
  r.holds(c.data.batch % c.train.accumulate == 0, "train.accumulate", "to divide data.batch",
          Value(c.train.accumulate));
  r.holds(std::isfinite(c.model.init_std) && c.model.init_std > 0, "model.init_std", "finite and > 0",
          Value(c.model.init_std));
}

/// A table that names no recipe keeps the default one: `optimizer.auxiliary.lr = 1e-3` changes the rate only.
void complete(Value& given, const Value& otherwise) {
  if (!given.is_table() || given.find("recipe") || given.find("direction")) return;
  Value whole = otherwise;
  merge(whole, given);
  given = std::move(whole);
}

}  // namespace

at::ScalarType scalar_type(WeightDtype dtype) {
  switch (dtype) {
    case WeightDtype::float64: return at::kDouble;
    case WeightDtype::bfloat16: return at::kBFloat16;
    default: return at::kFloat;
  }
}

RunConfig read_run_config(const Value& table) {
  RunConfig config;
  read_fields(table, config, "");
  complete(config.optimizer.matrix, OptimizerConfig{}.matrix);
  complete(config.optimizer.auxiliary, OptimizerConfig{}.auxiliary);
  check_ranges(config, table);
  const auto routes =
      make_routes(config.optimizer);  // unknown recipes and bad rates are found before anything is opened
  if (config.name.empty()) config.name = routes.front().recipe.name;
  return config;
}

Value resolved(const RunConfig& config) {
  Value all = write_fields(config);
  Value table = Value::table();
  for (const auto& [key, value] : all.as_table())
    if (key != "run_dir") table[key] = value;
  return table;
}

std::string config_hash(const RunConfig& config) {
  RunConfig c = config;
  const TrainOptions defaults;
  c.name = "";
  c.train.log_every = defaults.log_every;
  c.train.checkpoint_every = defaults.checkpoint_every;
  c.train.keep_checkpoints = defaults.keep_checkpoints;
  c.train.sample_every = defaults.sample_every;
  c.train.sample_length = defaults.sample_length;
  c.train.threads = defaults.threads;
  char text[9];
  std::snprintf(text, sizeof text, "%08x", static_cast<unsigned>(fnv1a(to_json(sorted(resolved(c))))));
  return text;
}

std::filesystem::path run_directory(const RunConfig& config) {
  if (!config.run_dir.empty()) return config.run_dir;
  return std::filesystem::path("runs") / (config.name + "-" + config_hash(config).substr(0, 4));
}

}  // namespace schatten
