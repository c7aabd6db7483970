#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <schatten/train/environment.h>
#include <schatten/train/run_files.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>

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

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder / "checkpoints", error);
  if (error) fail({folder.string(), "a folder that can be written", error.message(), "Choose another --run-dir."});
}

/// Samples are text: each begins with "--- step N".
void truncate_samples_after(const fs::path& path, int64_t step) {
  if (!fs::exists(path)) return;
  const std::string text = read_file(path);
  size_t at = 0;
  while ((at = text.find("--- step ", at)) != std::string::npos) {
    if ((at == 0 || text[at - 1] == '\n') && std::atoll(text.c_str() + at + 9) > step) break;
    ++at;
  }
  if (at != std::string::npos) write_file_durably(path, text.substr(0, at));
}

}  // namespace

RunFiles::RunFiles(const RunConfig& config, int64_t from_step, const std::vector<std::string>& command)
    : folder_(run_directory(config)) {
  make_folder(folder_);
  if (from_step >= 0) {
    truncate_jsonl_after(folder_ / "metrics.jsonl", from_step);
    truncate_jsonl_after(folder_ / "spectra.jsonl", from_step);
    truncate_samples_after(folder_ / "samples.txt", from_step);
  } else {
    write_file_durably(folder_ / "config.toml", to_toml(resolved(config)));
    Value environment = describe_environment();
    environment["command"] = Value::array();
    for (const std::string& word : command) environment["command"].push_back(word);
    write_file_durably(folder_ / "environment.json", to_pretty_json(environment) + "\n");
    for (const char* leftover : {"metrics.jsonl", "spectra.jsonl", "samples.txt"}) fs::remove(folder_ / leftover);
  }
  metrics_ = std::make_unique<JsonlWriter>(folder_ / "metrics.jsonl");
  if (config.spectra.every > 0) spectra_ = std::make_unique<JsonlWriter>(folder_ / "spectra.jsonl");
  events_ = std::make_unique<EventWriter>(folder_, unix_seconds());
}

void RunFiles::record(Value record, Reporter& reporter) {
  const double now = unix_seconds();
  record["t"] = now;
  metrics_->write(record);
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
  spectra_->write(record);
  const std::string name = record.string_or("name", "");
  const int64_t step = record.integer_or("step", 0);
  for (const char* part : {"weight", "momentum", "update"}) {
    const Value* summary = record.find(part);
    if (!summary) continue;
    for (const char* key : {"sigma_max", "stable_rank", "effective_rank"})
      events_->scalar("spectra/" + name + "/" + part + "_" + key, step, summary->real_or(key, NAN), now);
    std::vector<double> values;
    for (const Value& v : summary->at("singular_values").as_array()) values.push_back(v.is_number() ? v.as_real() : NAN);
    events_->histogram("spectra/" + name + "/" + part + "_log10_singular_values", step, values, now);
  }
  events_->scalar("spectra/" + name + "/alpha", step, record.at("alpha").real_or("alpha", NAN), now);
}

void RunFiles::sample(int64_t step, const std::string& text) {
  std::ofstream out(folder_ / "samples.txt", std::ios::app | std::ios::binary);
  out << "--- step " << step << "\n" << text << "\n";
  if (!out.flush()) fail({(folder_ / "samples.txt").string(), "to be written", std::strerror(errno), ""});
}

void RunFiles::flush() { events_->flush(); }

}  // namespace schatten
