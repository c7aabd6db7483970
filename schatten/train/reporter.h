// Who is told what a run does. The records are those of metrics.jsonl.
#pragma once
#include <schatten/core/value.h>

#include <filesystem>
#include <string>

namespace schatten {

/// Numbers of one finished step, for the live line.
struct StepNumbers {
  int64_t step = 0, steps = 0;
  double loss_ema = 0, validation = 0, validation_bpb = 0;  // NaN: not yet
  double lr = 0, grad_norm = 0, update_ratio = 0, tokens_per_second = 0;
};

class Reporter {
 public:
  virtual ~Reporter() = default;
  virtual void on_start(const Value& /*summary*/) {}  // what was decided: model, optimizer, memory, compute, data
  virtual void on_step(const StepNumbers& /*numbers*/) {}
  virtual void on_record(const Value& /*record*/) {}  // every line of metrics.jsonl
  virtual void on_sample(int64_t /*step*/, const std::string& /*text*/) {}
  virtual void on_message(const std::string& /*text*/) {}  // a sentence worth reading
  virtual void on_end(const Value& /*record*/, const std::filesystem::path& /*run_dir*/) {}
};

}  // namespace schatten
