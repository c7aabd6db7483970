// One training run, from config to run directory.
#pragma once
#include <schatten/engine/optimizer.h>
#include <schatten/train/config.h>
#include <schatten/train/reporter.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

namespace schatten {

enum class Start {
  fresh,            // refuses a directory that holds a run already
  resume,           // refuses a directory without a checkpoint
  resume_or_start,  // what campaigns use
};

struct TrainRequest {
  Start start = Start::fresh;
  bool concurrent = false;  // other runs share the machine: recorded, since wall time means less then
  std::vector<std::string> command{};
};

struct TrainResult {
  std::string status;  // ok, diverged, interrupted
  std::filesystem::path run_dir;
  Value end;  // the end record
};

/// Trains to the end, to divergence, or until `stop` becomes true (saves then).
TrainResult train(const RunConfig& config, const TrainRequest& request, Reporter& reporter,
                  const std::atomic<bool>& stop);

/// The routes that a config asks for: its `routes`, or matrix -> hidden_matrix and auxiliary -> any.
std::vector<Route> make_routes(const OptimizerConfig& config);

/// Global norm over gradients: per-parameter partials, added in order, whatever the number of threads.
double global_gradient_norm(const std::vector<Parameter>& parameters);
/// Scales all gradients by max_norm / (norm + 1e-6) where that is below 1 (torch's clip_grad_norm_).
void clip_gradients(const std::vector<Parameter>& parameters, double norm, double max_norm);

/// Text from a model: temperature sampling, a pure function of (rng, prompt).
std::string sample_text(const LanguageModel& model, const Corpus& corpus, const std::string& prompt, int64_t length,
                        double temperature, const Rng& rng);

}  // namespace schatten
