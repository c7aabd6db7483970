#include <schatten/core/files.h>
#include <schatten/stages/spectral.h>
#include <schatten/train/environment.h>
#include <schatten/train/terminal.h>
#include <schatten/train/terminal_reporter.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <sstream>

namespace schatten {

namespace {

std::string text_of(const Value& v) { return v.is_string() ? v.as_string() : to_json(v); }

std::string percent(double share) {
  char text[16];
  std::snprintf(text, sizeof text, "%.0f %%", 100 * share);
  return text;
}

class TerminalReporter final : public Reporter {
 public:
  explicit TerminalReporter(const RunConfig& config) : config_(config), line_(stdout) {}

  void on_start(const Value& s) override {
    steps_ = s.at("steps").as_integer();
    title(s);
    row("model", s.at("preset").as_string() + "   " + format_count(s.at("parameters").as_integer()) + " parameters, " +
                     text_of(s.at("layers")) + " layers x " + text_of(s.at("width")) + ", vocab " +
                     text_of(s.at("vocab")) + ", context " + text_of(s.at("context")));
    std::istringstream routes(s.at("routing").as_string());
    bool first = true;
    for (std::string route; std::getline(routes, route); first = false) row(first ? "optimizer" : "", route);
    row("memory", "weights " + bytes(s, "weight_bytes") + ", gradients " + bytes(s, "gradient_bytes") + ", state " +
                      bytes(s, "state_bytes") + " (activations come on top)");
    const Value e = describe_environment();
    const int64_t threads = e.at("threads").as_integer();
    row("compute", std::to_string(threads) + (threads == 1 ? " thread, " : " threads, ") + "weights in " +
                       s.at("dtype").as_string() +
                       (e.at("bfloat16").as_bool() ? ", bfloat16 instructions found" : ", no bfloat16 instructions"));
    row("data", format_count(s.at("train_tokens").as_integer()) + " train / " +
                    format_count(s.at("validation_tokens").as_integer()) + " validation tokens, batches of " +
                    text_of(s.at("batch")) + " x " + text_of(s.at("context")) + ", seed " + text_of(s.at("seed")));
    for (const Value& note : s.at("notes").as_array()) row("", "note: " + note.as_string());
    if (s.at("resumed_from").as_integer() >= 0) row("resumed", "from step " + text_of(s.at("resumed_from")));
    clock_.tick();
  }

  void on_step(const StepNumbers& n) override {
    clock_.tick();
    const std::string text = step_line(n);
    if (line_.active()) line_.draw(text, n.step == n.steps);
    else if (n.step % std::max<int64_t>(config_.train.log_every, 1) == 0 || n.step == n.steps) line_.print(text);
  }

  void on_record(const Value& record) override {
    if (record.string_or("event", "") != "eval") return;
    line_.print("step " + pad(text_of(record.at("step")), 6, true) + "  " + record.at("split").as_string() + " loss " +
                format_loss(record.real_or("loss", NAN)) + " nats" +
                (record.at("bpb").is_null() ? "" : " (" + format_loss(record.real_or("bpb", NAN)) + " bits per byte)"));
  }

  void on_sample(int64_t, const std::string& text) override { sample_ = text; }
  void on_message(const std::string& text) override { line_.print(text); }

  void on_end(const Value& end, const std::filesystem::path& folder) override {
    line_.clear();
    const std::string status = end.at("status").as_string();
    std::cout << "\n";
    if (status == "diverged")
      row("diverged", "at step " + text_of(end.at("step")) + ", first in " + text_of(end.at("layer")));
    if (status == "interrupted") row("stopped", "at step " + text_of(end.at("step")) + ", saved");
    row("loss", "validation " + format_loss(end.real_or("final_val", NAN)) + " final, " +
                    format_loss(end.real_or("best_val", NAN)) + " best (nats per token)" +
                    (end.at("test").is_number() ? ", test " + format_loss(end.at("test").as_real()) : ""));
    row("speed", format_throughput(end.real_or("tokens_per_second", NAN)) + ", " +
                     format_throughput(end.real_or("tokens_per_second_with_eval", NAN)) + " with evaluation");
    std::string shares;
    for (const auto& [key, share] : end.at("shares").as_table())
      shares += (shares.empty() ? "" : ", ") + key + " " + percent(share.is_number() ? share.as_real() : 0);
    row("time", format_duration(end.real_or("seconds", NAN)) + ": " + shares);
    row("memory", format_bytes(end.at("peak_bytes").as_integer()) + " peak of the process");
    row("files", folder.string());
    if (!sample_.empty()) row("sample", quoted(sample_));
    row("next", status == "interrupted" ? "schatten train --resume --run-dir " + folder.string()
                                        : "schatten report " + folder.string());
    std::cout.flush();
  }

 private:
  static std::string bytes(const Value& s, const char* key) { return format_bytes(s.at(key).as_integer()); }

  void title(const Value& s) const {
    const std::string left = "schatten train  " + config_.name + " on " + s.at("corpus").as_string();
    const auto width = static_cast<size_t>(terminal_width(stdout));
    const std::string right = s.at("run_dir").as_string();
    const bool fits = left.size() + right.size() + 2 < width;
    const bool bold = colours(stdout);
    std::cout << (bold ? "\033[1m" : "") << left << (bold ? "\033[0m" : "")
              << (fits ? std::string(width - left.size() - right.size() - 1, ' ') + right : "") << "\n";
    if (!fits) row("run", right);
  }

  /// A label and its text, wrapped to the width.
  static void row(const std::string& label, const std::string& text) {
    const auto width = static_cast<size_t>(terminal_width(stdout)) - 14;
    std::string rest = text;
    bool first = true;
    while (first || !rest.empty()) {
      size_t cut = rest.size();
      if (rest.size() > width) {
        cut = rest.rfind(' ', width);
        if (cut == std::string::npos || cut == 0) cut = width;
      }
      std::cout << "  " << pad(first ? label : "", 10) << " " << rest.substr(0, cut) << "\n";
      rest.erase(0, std::min(rest.size(), rest.find_first_not_of(' ', cut)));
      first = false;
    }
  }

  /// One line of a sample: what cannot be printed becomes a dot.
  static std::string quoted(const std::string& text) {
    std::string line;
    for (const char c : text) {
      const auto u = static_cast<unsigned char>(c);
      if (c == '\n') line += line.empty() ? "" : " / ";
      else if (c != ' ' || (!line.empty() && line.back() != ' ')) line += u < 0x20 || u >= 0x7f ? '.' : c;
      if (line.size() >= 160) break;
    }
    return line;
  }

  /// Drops the last columns when the terminal is narrow.
  std::string step_line(const StepNumbers& n) const {
    const std::string of = std::to_string(n.steps);
    const std::vector<std::string> columns{
        "step " + pad(std::to_string(n.step), of.size(), true) + "/" + of +
            pad(std::to_string(100 * n.step / n.steps), 5, true) + " %",
        "loss " + format_loss(n.loss_ema),
        "val " + format_loss(n.validation) +
            (std::isfinite(n.validation_bpb) ? " (" + format_loss(n.validation_bpb) + " bpb)" : ""),
        "eta " + format_duration(clock_.remaining(n.steps - n.step)),
        "lr " + format_rate(n.lr),
        format_throughput(n.tokens_per_second),
        "|g| " + format_short(n.grad_norm),
        "dW/W " + format_short(n.update_ratio)};
    const auto width = static_cast<size_t>(terminal_width(stdout)) - 1;
    std::string line;
    for (const std::string& c : columns) {
      if (!line.empty() && line.size() + 2 + c.size() > width) break;
      line += (line.empty() ? "" : "  ") + c;
    }
    return line;
  }

  RunConfig config_;
  LiveLine line_;
  EtaClock clock_;
  int64_t steps_ = 0;
  std::string sample_;
};

class JsonReporter final : public Reporter {
 public:
  void on_record(const Value& record) override { std::cout << to_json(record) << std::endl; }
  void on_message(const std::string& text) override { std::cerr << text << "\n"; }
};

}  // namespace

std::unique_ptr<Reporter> make_terminal_reporter(const RunConfig& config) {
  return std::make_unique<TerminalReporter>(config);
}
std::unique_ptr<Reporter> make_json_reporter() { return std::make_unique<JsonReporter>(); }

}  // namespace schatten
