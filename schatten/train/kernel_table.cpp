// How `schatten bench` looks on a terminal.
#include <schatten/core/fields.h>
#include <schatten/core/files.h>
#include <schatten/train/kernel_bench.h>
#include <schatten/train/terminal.h>

#include <cstdio>

namespace schatten {

namespace {

constexpr int kWide = 78;  // narrower terminals see neither time nor error

template <class... Numbers>
std::string formatted(const char* format, Numbers... numbers) {
  char text[96];
  std::snprintf(text, sizeof text, format, numbers...);
  return text;
}

std::string format_seconds(double seconds) {
  if (seconds < 1e-3) return formatted("%.3g us", seconds * 1e6);
  return seconds < 1 ? formatted("%.3g ms", seconds * 1e3) : formatted("%.3g s", seconds);
}

std::string shape_text(int64_t rows, int64_t cols) {
  return rows == 1 ? format_count(cols) + " entries" : std::to_string(rows) + " x " + std::to_string(cols);
}

struct Cells {
  std::string kernel, dtype, time, rate, roofline, ratio, error;
};

std::string joined(const Cells& c, int width) {
  const bool wide = width >= kWide;
  std::string line = "  " + pad(c.kernel, wide ? 25 : 24) + pad(c.dtype, 11);
  if (wide) line += pad(c.time, 8, true);
  line += pad(c.rate, wide ? 11 : 8, true) + pad(c.roofline, 6, true) + pad(c.ratio, 8, true);
  return wide ? line + pad(c.error, 9, true) : line;
}

}  // namespace

std::string format_peaks(const Peaks& peaks, const KernelBenchOptions& o) {
  return formatted("roofline  mm %.0f GFLOP/s float32, %.0f bfloat16\n", peaks.float32 * 1e-9, peaks.bfloat16 * 1e-9) +
         formatted("          memory %.0f GB/s (copy %.0f, triad %.0f, in place %.0f)\n", peaks.bandwidth() * 1e-9,
                   peaks.copy * 1e-9, peaks.triad * 1e-9, peaks.scale * 1e-9) +
         "ours      " + std::string(enum_name(o.isa)) + ", " + std::to_string(o.threads) +
         (o.threads == 1 ? " thread" : " threads, a matrix each") + "\n";
}

std::string format_kernel_header(int width) {
  return joined({"", "", "time", width >= kWide ? "GFLOP/s" : "GFL/s", "roof", "x ATen", "error"}, width);
}

std::string format_kernel_row(const KernelRow& row, int width) {
  return joined(
      {row.kernel, row.dtype, format_seconds(row.seconds),
       row.operations > 0 ? formatted("%.0f", row.gflops()) : formatted("%.2f ns", row.ns_per_entry()),
       formatted("%.0f %%", 100 * row.of_roofline()), formatted("%.2f", row.ratio()), formatted("%.1e", row.error)},
      width);
}

std::string format_kernel_heading(const KernelRow& row) { return shape_text(row.shape.rows, row.shape.cols); }

std::string format_kernel_footer(int width) {
  return wrapped(
             "roof: share of what mm or memory here allow; symmetric products, and ways that go by X X^T, need less "
             "than "
             "GFLOP/s says, which counts the textbook's operations. x ATen: how many times as fast as mm, the "
             "textbook's "
             "loop, an SVD or the same pass. error: relative Frobenius, against float64.",
             0, static_cast<size_t>(width)) +
         "\n";
}

std::string format_plans(const Value& plans) {
  std::string text = shape_text(plans.at("rows").as_integer(), plans.at("cols").as_integer()) +
                     "  five quintic steps, " + plans.at("isa").as_string() + "\n";
  for (const Value& plan : plans.at("plans").as_array()) {
    const bool taken = plan.at("chosen").as_bool() && plan.at("automatic").as_bool();
    text += (taken ? "> " : "  ") + pad(format_seconds(plan.at("seconds").as_real()), 8, true) + "  " +
            plan.at("way").as_string() + "\n";
  }
  return text;
}

std::string plans_footer() {
  return "Predicted for one thread. The first way of a dtype is its\nchoice; > is what compute = \"auto\" takes.\n";
}

}  // namespace schatten
