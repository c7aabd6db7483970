// The config of a run: what is written is what was meant, and what is wrong is named with its place.
#include <gtest/gtest.h>
#include <schatten/train/config.h>

#include <algorithm>
#include <set>

#include "support.h"

namespace schatten {
namespace {

using testing::contains;
using testing::message_of;

RunConfig config_of(const std::string& toml) { return read_run_config(parse_toml(toml, "run.toml")); }
Value through_toml(const Value& table) { return parse_toml(to_toml(table), "config.toml"); }

/// Dotted names of all values that are no tables.
std::vector<std::string> leaves(const Value& table, const std::string& prefix = "") {
  std::vector<std::string> names;
  for (const auto& [key, value] : table.as_table()) {
    if (!value.is_table()) names.push_back(prefix + key);
    else
      for (std::string& name : leaves(value, prefix + key + ".")) names.push_back(std::move(name));
  }
  return names;
}

/// The defaults with another value there, ranges unchecked: the hash asks whether it changed, not whether it is wise.
RunConfig with_other(const std::string& name) {
  Value all = write_fields(RunConfig{});
  const Value before = *find_path(all, name);
  Value other = before.is_bool()              ? Value(!before.as_bool())
                : before.is_integer()         ? Value(before.as_integer() + 1)
                : before.is_real()            ? Value(before.as_real() + 0.125)
                : before.is_null()            ? Value(Value::Array{Value::Table{{"match", "any"}}})
                : name == "schedule.kind"     ? Value("wsd")
                : name == "train.dtype"       ? Value("bfloat16")
                : name == "optimizer.compute" ? Value("float64")
                : name == "optimizer.kernels" ? Value("avx2")
                                              : Value(before.as_string() + "x");
  set_path(all, name, std::move(other));
  RunConfig config;
  read_fields(all, config, "");
  return config;
}

TEST(RunConfig, DefaultsComeBackThroughToml) {
  const RunConfig config = config_of(""), again = read_run_config(through_toml(resolved(config)));
  EXPECT_EQ(write_fields(again), write_fields(config));
  EXPECT_EQ(config_hash(again), config_hash(RunConfig{}));
}

TEST(RunConfig, EveryValueComesBackThroughToml) {
  const RunConfig config = config_of(R"(
name = "a \"name\"\n"
seed = 9007199254740993
train = { steps = 7, clip = 0.1, dtype = "float64", test = true }
schedule = { kind = "wsd", warmup = 3, decay_share = 0.3333333333333333 }
[[optimizer.routes]]
match = "hidden_matrix"
recipe = "muon"
lr = 0.02
[[optimizer.routes]]
match = "any"
recipe = "sgd"
lr = 1e-30
)");
  const RunConfig again = read_run_config(through_toml(resolved(config)));
  EXPECT_EQ(write_fields(again), write_fields(config));
  EXPECT_EQ(again.seed, 9007199254740993);
}

TEST(RunConfig, WhatIsWrittenHoldsEveryFieldButTheFolder) {
  std::vector<std::string> all = leaves(write_fields(RunConfig{}));
  std::erase(all, "run_dir");
  EXPECT_EQ(leaves(resolved(RunConfig{})), all);
  EXPECT_GE(all.size(), 30u);
}

TEST(RunConfig, ATableWithoutARecipeChangesTheRateOnly) {
  const RunConfig config = config_of("optimizer.matrix.lr = 0.5\n");
  EXPECT_EQ(config.optimizer.matrix, Value(Value::Table{{"recipe", "muon"}, {"lr", 0.5}}));
  EXPECT_EQ(config.optimizer.auxiliary, OptimizerConfig{}.auxiliary);
  const RunConfig other = config_of("optimizer.matrix = { recipe = \"sgd\", lr = 0.5 }\n");
  EXPECT_EQ(other.optimizer.matrix, Value(Value::Table{{"recipe", "sgd"}, {"lr", 0.5}}));
}

TEST(ConfigHash, SeesAllThatCanChangeResultsAndNothingElse) {
  const std::set<std::string> ignored{"name",
                                      "run_dir",
                                      "train.log_every",
                                      "train.checkpoint_every",
                                      "train.keep_checkpoints",
                                      "train.sample_every",
                                      "train.sample_length",
                                      "train.threads"};
  std::set<std::string> met, hashes;
  for (const std::string& name : leaves(write_fields(RunConfig{}))) {
    const std::string hash = config_hash(with_other(name));
    if (ignored.contains(name)) {
      EXPECT_EQ(hash, config_hash(RunConfig{})) << name;
      met.insert(name);
    } else {
      EXPECT_NE(hash, config_hash(RunConfig{})) << name;
      EXPECT_TRUE(hashes.insert(hash).second) << name;
    }
  }
  EXPECT_EQ(met, ignored);
}

TEST(ConfigHash, IsEightHexDigitsAndNamesTheRunDirectory) {
  RunConfig config;
  config.name = "mine";
  EXPECT_EQ(config_hash(config).size(), 8u);
  EXPECT_EQ(config_hash(config).find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_EQ(run_directory(config), std::filesystem::path("runs") / ("mine-" + config_hash(config).substr(0, 4)));
  config.run_dir = "elsewhere";
  EXPECT_EQ(run_directory(config), "elsewhere");
}

TEST(ConfigHash, DoesNotSeeHowTheConfigWasWritten) {
  const RunConfig a = config_of("seed = 2\ntrain.clip = 2\n"), b = config_of("train = { clip = 2.0 }\n\nseed = 2\n");
  EXPECT_EQ(config_hash(a), config_hash(b));
}

struct Bad {
  const char* section;
  const char* line;
  const char* says;
};

const Bad kBad[] = {{"train", "steps = 0", ">= 1"},
                    {"train", "accumulate = 0", ">= 1"},
                    {"train", "accumulate = 3", "to divide data.batch"},
                    {"train", "eval_every = -1", ">= 0"},
                    {"train", "log_every = 0", ">= 1"},
                    {"train", "checkpoint_every = -1", ">= 0"},
                    {"train", "keep_checkpoints = 0", ">= 1"},
                    {"train", "sample_every = -1", ">= 0"},
                    {"train", "sample_length = -1", ">= 0"},
                    {"train", "threads = -1", ">= 0"},
                    {"train", "clip = -1", "from 0"},
                    {"train", "clip = nan", "from 0"},
                    {"train", "clip = inf", "from 0"},
                    {"train", "dtype = \"float8\"", "float64"},
                    {"train", "steps = 1.5", "an integer"},
                    {"train", "step = 5", "Did you mean 'steps'"},
                    {"data", "batch = 0", ">= 1"},
                    {"data", "eval_batches = 0", ">= 1"},
                    {"spectra", "every = -1", ">= 0"},
                    {"schedule", "warmup = -1", ">= 0"},
                    {"schedule", "warmup = 401", "<= train.steps"},
                    {"schedule", "final_factor = 1.5", "from 0"},
                    {"schedule", "decay_share = -0.5", "from 0"},
                    {"schedule", "kind = \"cosin\"", "Did you mean 'cosine'"},
                    {"model", "init_std = 0", "> 0"},
                    {"model", "init_std = nan", "> 0"},
                    {"optimizer", "matrix.lr = -0.5", ">= 0"},
                    {"optimizer", "matrix.recipe = \"muno\"", "Did you mean 'muon'"},
                    {"optimizer", "compute = \"float16\"", "bfloat16"}};

TEST(RunConfig, WhatIsWrongIsNamedWithItsPlace) {
  for (const Bad& bad : kBad) {
    const std::string toml = "\n\n[" + std::string(bad.section) + "]\n  " + bad.line + "\n";
    const std::string message = message_of<UsageError>([&] { config_of(toml); });
    const size_t dot = std::string_view(bad.line).substr(0, std::string_view(bad.line).find(' ')).find('.');
    EXPECT_TRUE(contains(message, "run.toml:4:" + std::to_string(dot == std::string_view::npos ? 3 : 4 + dot)));
    EXPECT_TRUE(contains(message, bad.says)) << bad.line;
    EXPECT_LE(std::count(message.begin(), message.end(), '\n'), 3) << message;
  }
}

TEST(RunConfig, EdgesOfTheRangesAreInside) {
  config_of(
      "train = { clip = 0, eval_every = 0, sample_length = 0, accumulate = 1 }\n"
      "schedule = { warmup = 400, final_factor = 0, decay_share = 1 }\nspectra.every = 0\n");
}

TEST(RunConfig, AValueMadeInCodeIsNamedByItsKey) {
  Value table = Value::table();
  set_path(table, "train.steps", Value(0));
  EXPECT_TRUE(contains(message_of<UsageError>([&] { read_run_config(table); }), "train.steps >= 1"));
}

TEST(ConfigHash, DoesNotSeeTheOrderOfKeys) {
  const auto hash = [](const char* matrix) {
    return config_hash(read_run_config(parse_toml(std::string("optimizer.matrix = ") + matrix)));
  };
  const std::string one = hash("{ recipe = \"alpha_decay\", alpha.every = 50, lr = 0.001 }");
  EXPECT_EQ(one, hash("{ lr = 0.001, recipe = \"alpha_decay\", alpha = { every = 50 } }"));
  EXPECT_NE(one, hash("{ recipe = \"alpha_decay\", alpha.every = 51, lr = 0.001 }"));
}

}  // namespace
}  // namespace schatten
