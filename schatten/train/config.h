// The config of one run: plain structs, one field list each.
#pragma once
#include <schatten/core/fields.h>
#include <schatten/data/corpus.h>
#include <schatten/models/language_model.h>
#include <schatten/parameters/sharpness.h>
#include <schatten/stages/spectral.h>

#include <array>
#include <filesystem>
#include <string>
#include <vector>

namespace schatten {

/// auto: see choose_kernels (train/kernel_choice.h). Every other value is an Isa, one further on.
enum class KernelChoice { automatic };
constexpr auto enum_names(KernelChoice) {
  constexpr auto sets = enum_names(Isa{});
  std::array<std::string_view, sets.size() + 1> names{"auto"};
  for (size_t i = 0; i < sets.size(); ++i) names[i + 1] = sets[i];
  return names;
}

/// [optimizer]: tables of {recipe = "...", lr = ..., options...}; see recipe/registry.h for their keys.
struct OptimizerConfig {
  Value matrix = Value::Table{{"recipe", "muon"}, {"lr", 0.02}};       // hidden matrices
  Value auxiliary = Value::Table{{"recipe", "adamw"}, {"lr", 0.003}};  // embeddings, head, gains, biases
  Value routes;  // an array of {match = "role or name pattern", recipe = ..., lr = ...}: replaces the two above
  ComputeDtype compute = ComputeDtype::automatic;  // of the spectral part
  KernelChoice kernels = KernelChoice::automatic;  // instruction set
  SharpnessOptions sam{.rho = 0};                  // two gradients per step
  double average = 0;                              // decay of the averaged weights that evaluations read
  void fields(auto&& visit) {
    visit("matrix", matrix, "recipe of hidden matrices, with lr and its options");
    visit("auxiliary", auxiliary, "recipe of everything else");
    visit("routes", routes, "instead of both: [{match, recipe, lr, ...}], first match wins");
    visit("compute", compute, "dtype of the spectral part: auto, bfloat16, bfloat16x2, float32, float64");
    visit("kernels", kernels, "instruction set of the kernels: auto, portable, avx2, avx512, avx512_bf16, amx_bf16");
    visit("sam", sam, "SAM around any recipe: the step's gradient is taken at W + e; rho = 0: off");
    visit("average", average, "evaluate an exponential average of the weights with this decay (0: off; 0.999)");
  }
};

enum class ScheduleKind { constant, linear, cosine, wsd };
constexpr auto enum_names(ScheduleKind) {
  return std::to_array<std::string_view>({"constant", "linear", "cosine", "wsd"});
}

/// [schedule]: the factor on every learning rate, by step.
struct ScheduleOptions {
  ScheduleKind kind = ScheduleKind::cosine;
  int64_t warmup = 0;         // steps
  double final_factor = 0.1;  // factor at the last step
  double decay_share = 0.2;   // wsd: share of the steps that decays
  void fields(auto&& visit) {
    visit("kind", kind, "constant, linear, cosine, wsd (warm-up, stable, decay)");
    visit("warmup", warmup, "steps of linear warm-up");
    visit("final_factor", final_factor, "factor reached at the last step");
    visit("decay_share", decay_share, "wsd: share of the steps spent in decay");
  }
};
/// Factor for step in [0, steps): the (step+1)-th update. Warm-up gives (step+1)/warmup.
double schedule_factor(const ScheduleOptions& schedule, int64_t step, int64_t steps);

enum class WeightDtype { float32, float64, bfloat16 };
constexpr auto enum_names(WeightDtype) { return std::to_array<std::string_view>({"float32", "float64", "bfloat16"}); }
at::ScalarType scalar_type(WeightDtype dtype);

/// [train]
struct TrainOptions {
  int64_t steps = 400;
  int64_t accumulate = 1;  // the batch is split into this many forward passes
  double clip = 1.0;       // global gradient norm; 0: off
  int64_t eval_every = 50;
  int64_t log_every = 10;        // steps between plain lines and metrics records
  int64_t checkpoint_every = 0;  // 0: only at the end
  int64_t keep_checkpoints = 2;
  int64_t sample_every = 0, sample_length = 200;
  bool test = false;  // evaluate on the test split at the end
  WeightDtype dtype = WeightDtype::float32;
  int64_t threads = 0;  // 0: all
  void fields(auto&& visit) {
    visit("steps", steps, "optimizer steps");
    visit("accumulate", accumulate, "forward passes per step; they share the batch");
    visit("clip", clip, "clip the global gradient norm to this (0: off)");
    visit("eval_every", eval_every, "steps between evaluations (0: only at the end)");
    visit("log_every", log_every, "steps between records in metrics.jsonl");
    visit("checkpoint_every", checkpoint_every, "steps between checkpoints (0: only at the end)");
    visit("keep_checkpoints", keep_checkpoints, "how many of them stay");
    visit("sample_every", sample_every, "steps between text samples (0: only at the end)");
    visit("sample_length", sample_length, "tokens per sample");
    visit("test", test, "evaluate on the test split at the end");
    visit("dtype", dtype, "of weights: float32, float64, bfloat16");
    visit("threads", threads, "0: all");
  }
};

/// [spectra]: off costs nothing.
struct SpectraOptions {
  int64_t every = 0;
  std::string match = "*";  // names of the matrices to look at
  void fields(auto&& visit) {
    visit("every", every, "steps between records (0: off)");
    visit("match", match, "glob of parameter names");
  }
};

struct RunConfig {
  std::string name;  // default: the matrix recipe's
  int64_t seed = 1;
  std::string run_dir;  // default: runs/<name>-<hash of the config>
  ModelOptions model;
  DataOptions data;
  OptimizerConfig optimizer;
  ScheduleOptions schedule;
  TrainOptions train;
  SpectraOptions spectra;
  void fields(auto&& visit) {
    visit("name", name, "label in tables and figures (default: the recipe of the matrices)");
    visit("seed", seed, "of initial weights and data order");
    visit("run_dir", run_dir, "where results go (default runs/NAME-HASH)");
    visit("model", model, "");
    visit("data", data, "");
    visit("optimizer", optimizer, "");
    visit("schedule", schedule, "");
    visit("train", train, "");
    visit("spectra", spectra, "");
  }
};

/// Reads, checks ranges, and says what is wrong with file, line and column.
RunConfig read_run_config(const Value& table);
/// Every value, defaults included: what config.toml in the run directory holds (without run_dir).
Value resolved(const RunConfig& config);
/// Eight hex digits of everything that can change results (not name, run_dir, logging cadence, the order of keys).
std::string config_hash(const RunConfig& config);
std::filesystem::path run_directory(const RunConfig& config);

}  // namespace schatten
