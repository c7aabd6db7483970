// Reporters: a person at a terminal (or a pipe), or a program that reads JSON lines.
#pragma once
#include <schatten/train/config.h>
#include <schatten/train/reporter.h>

#include <memory>

namespace schatten {

/// Box at the start, live line (plain lines every log_every steps when piped), summary at the end.
std::unique_ptr<Reporter> make_terminal_reporter(const RunConfig& config);
/// Records of metrics.jsonl on stdout and nothing else; messages go to stderr.
std::unique_ptr<Reporter> make_json_reporter();

}  // namespace schatten
