#include <schatten/core/error.h>
#include <schatten/core/fields.h>
#include <schatten/train/environment.h>
#include <schatten/train/kernel_bench.h>
#include <schatten/train/terminal.h>

#include <iostream>

#include "cli/commands.h"

namespace schatten::cli {

namespace {

struct Options {
  std::vector<std::string> shapes, plans;
  std::string isa;
  double seconds = KernelBenchOptions{}.seconds;
  int64_t threads = 1;
  bool json = false;
};

std::vector<MatrixShape> parsed(const std::vector<std::string>& texts) {
  std::vector<MatrixShape> shapes;
  for (const std::string& text : texts) shapes.push_back(parse_matrix_shape(text));
  return shapes;
}

void show_plans(const std::vector<MatrixShape>& shapes, Isa isa, bool json) {
  for (const MatrixShape shape : shapes) {
    const Value plans = describe_plans(shape, isa);
    std::cout << (json ? to_json(plans) : format_plans(plans)) << "\n";
  }
  if (!json) std::cout << plans_footer();
}

void show_kernels(const KernelBenchOptions& options, bool json) {
  const Peaks peaks = measure_peaks(options);
  Value rows = Value::array();
  const int width = terminal_width(stdout);
  if (!json) std::cout << format_peaks(peaks, options) << "\n" << format_kernel_header(width) << std::endl;
  std::string heading;
  measure_kernels(options, peaks, [&](const KernelRow& row) {
    rows.push_back(row.to_value());
    if (json) return;
    if (const std::string now = format_kernel_heading(row); now != heading) std::cout << (heading = now) << "\n";
    std::cout << format_kernel_row(row, width) << std::endl;
  });
  if (!json) {
    std::cout << "\n" << format_kernel_footer(width);
    return;
  }
  std::cout << to_json(Value::Table{{"machine", describe_environment()},
                                    {"isa", std::string(enum_name(options.isa))},
                                    {"threads", options.threads},
                                    {"peaks", peaks.to_value()},
                                    {"rows", std::move(rows)}})
            << "\n";
}

void run(const Options& o) {
  const Isa isa = parse_isa(o.isa);
  const std::vector<MatrixShape> plans = parsed(o.plans), shapes = parsed(o.shapes);
  if (!plans.empty()) return show_plans(plans, isa, o.json);
  show_kernels({.shapes = shapes, .seconds = o.seconds, .threads = o.threads, .isa = isa}, o.json);
}

}  // namespace

void add_bench(CLI::App& app, Context&) {
  auto* command = app.add_subcommand("bench", "the kernels on this machine: rates, share of its peaks, accuracy");
  const auto o = std::make_shared<Options>();
  command->add_option("--shape", o->shapes, "ROWSxCOLS; repeat it for more (default: three)")->allow_extra_args(false);
  command->add_option("--plan", o->plans, "measure nothing: how Newton-Schulz would do this shape, and at what cost")
      ->allow_extra_args(false);
  command->add_option("--threads", o->threads, "each works on a matrix of its own")->check(CLI::Range(1, 256));
  command->add_option("--isa", o->isa, "portable, avx2, avx512, avx512_bf16, amx_bf16 (default: the best there is)");
  command->add_option("--seconds", o->seconds, "to time each side of a row for")->check(CLI::Range(0.0, 60.0));
  command->add_flag("--json", o->json, "one JSON object on stdout, and nothing else (--plan: one per shape)");
  command->footer(
      "Examples:\n  schatten bench\n  schatten bench --shape 1024x4096 --threads 2\n"
      "  schatten bench --plan 768x3072 --isa avx2");
  command->callback([o] { run(*o); });
}

}  // namespace schatten::cli
