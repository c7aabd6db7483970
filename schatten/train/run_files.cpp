#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <schatten/train/environment.h>
#include <schatten/train/run_files.h>

#include <cmath>

namespace schatten {

namespace fs = std::filesystem;

void check_run_directory(const RunConfig& config, bool may_exist) {
  const fs::path folder = run_directory(config);
  if (!fs::exists(folder / "config.toml")) return;
  const RunConfig there = read_run_config(load_toml(folder / "config.toml"));
  if (config_hash(there) != config_hash(config))
    fail_usage({folder.string(), "this config's own run directory",
                "a run with another config (" + config_hash(there) + ", this one is " + config_hash(config) + ")",
                "Choose another --run-dir, or remove that one."});
  if (!may_exist)
    fail_usage({folder.string(), "a new run directory", "a run with this config",
                "Go on with --resume, choose another --run-dir, or remove it."});
}

namespace {

constexpr const char *kMetrics = "metrics.jsonl", *kSpectra = "spectra.jsonl", *kSamples = "samples.txt";

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder / "checkpoints", error);
  if (error) fail({folder.string(), "a folder that can be written", error.message(), "Choose another --run-dir."});
}

}  // namespace

RunFiles::RunFiles(const RunConfig& config, const Value& past, const std::vector<std::string>& command,
                   const Value& kernels)
    : folder_(run_directory(config)) {
  make_folder(folder_);
  if (past.is_null()) {
    write_file_durably(folder_ / "config.toml", to_toml(resolved(config)));
    Value environment = describe_environment();
    merge(environment, kernels);
    environment["command"] = Value::array();
    for (const std::string& word : command) environment["command"].push_back(word);
    write_file_durably(folder_ / "environment.json", to_pretty_json(environment) + "\n");
  }
  const auto log = [&](const char* name) {
    return std::make_unique<LogFile>(folder_ / name, past.is_null() ? 0 : past.integer_or(name, 0));
  };
  metrics_ = log(kMetrics);
  if (config.spectra.every > 0) spectra_ = log(kSpectra);
  samples_ = log(kSamples);
  events_ = std::make_unique<EventWriter>(folder_, unix_seconds());
}

Value RunFiles::sizes() const {
  Value all = Value::table();
  for (const auto& [name, log] : {std::pair{kMetrics, &metrics_}, {kSpectra, &spectra_}, {kSamples, &samples_}}) {
    if (!*log) continue;
    (*log)->sync();
    all[name] = (*log)->size();
  }
  return all;
}

void RunFiles::record(Value record, Reporter& reporter) {
  const double now = unix_seconds();
  record["t"] = now;
  metrics_->write_record(record);
  reporter.on_record(record);
  const std::string event = record.string_or("event", "");
  const int64_t step = record.integer_or("step", 0);
  const std::string prefix = event == "eval" ? record.string_or("split", "") + "/" : "train/";
  if (event != "train" && event != "eval") return;
  for (const char* key : {"loss", "loss_ema", "bpb", "lr", "grad_norm", "update_ratio"})
    if (const Value* v = record.find(key); v && v->is_number()) events_->scalar(prefix + key, step, v->as_real(), now);
}

void RunFiles::spectrum(const Value& record) {
  const double now = unix_seconds();
  spectra_->write_record(record);
  const std::string name = record.string_or("name", "");
  const int64_t step = record.integer_or("step", 0);
  for (const char* part : {"weight", "momentum", "update"}) {
    const Value* summary = record.find(part);
    if (!summary) continue;
    for (const char* key : {"sigma_max", "stable_rank", "effective_rank"})
      events_->scalar("spectra/" + name + "/" + part + "_" + key, step, summary->real_or(key, NAN), now);
    std::vector<double> values;
    for (const Value& v : summary->at("singular_values").as_array())
      values.push_back(v.is_number() ? v.as_real() : NAN);
    events_->histogram("spectra/" + name + "/" + part + "_log10_singular_values", step, values, now);
  }
  events_->scalar("spectra/" + name + "/alpha", step, record.at("alpha").real_or("alpha", NAN), now);
}

void RunFiles::sample(int64_t step, const std::string& text) {
  samples_->write("--- step " + std::to_string(step) + "\n" + text + "\n");
}

void RunFiles::flush() { events_->flush(); }

}  // namespace schatten
