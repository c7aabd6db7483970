#include <schatten/core/error.h>
#include <schatten/core/text.h>
#include <schatten/core/value.h>
#include <schatten/linalg/polynomial_schedule.h>

#include <algorithm>
#include <cmath>
#include <span>

namespace schatten {

namespace {

using Row = std::array<double, 3>;

/// The odd polynomial of one step.
double step(const Row& abc, double s) {
  const double q = s * s;
  return s * (abc[0] + q * (abc[1] + q * abc[2]));
}

/// p(s / margin): the row with a safety margin folded in.
Row with_margin(const Row& abc, double margin) {
  return {abc[0] / margin, abc[1] / std::pow(margin, 3), abc[2] / std::pow(margin, 5)};
}

struct Published {
  PolynomialSchedule schedule;  // all rows of the table
  int steps;                    // as published
  bool repeats_last = false;
};

std::vector<Row> first_with_margin(std::span<const Row> table, size_t count, double margin) {
  std::vector<Row> rows(table.begin(), table.end());
  for (size_t i = 0; i < count; ++i) rows[i] = with_margin(rows[i], margin);
  return rows;
}

std::vector<Row> repeated(const Row& row, size_t times, std::initializer_list<Row> then) {
  std::vector<Row> rows(times, row);
  rows.insert(rows.end(), then);
  return rows;
}

constexpr Row kJordan = {3.4445, -4.7750, 2.0315};
constexpr Row kCubic[] = {{1.5, -0.5, 0}};
constexpr Row kYou[] = {{4.0848, -6.8946, 2.9270},
                        {3.9505, -6.3029, 2.6377},
                        {3.7418, -5.5913, 2.3037},
                        {2.8769, -3.1427, 1.2046},
                        {2.8366, -3.0525, 1.2012}};
/// Polar Express from l = 1e-3 with safety 0.02 and cushion 0.02 (its comment "cushion=2" means 2e-2).
constexpr Row kModded[] = {{8.156554524902461, -22.48329292557795, 15.878769915207462},
                           {4.042929935166739, -2.808917465908714, 0.5000178451051316},
                           {3.8916678022926607, -2.772484153217685, 0.5060648178503393},
                           {3.285753657755655, -2.3681294933425376, 0.46449024233003106},
                           {2.3465413258596377, -1.7097828382687081, 0.42323551169305323}};
/// Polar Express from l = 1e-3 without safety and with cushion 0.02407327424182761, as the paper prints it.
constexpr Row kPaper[] = {{8.28721201814563, -23.595886519098837, 17.300387312530933},
                          {4.107059111542203, -2.9478499167379106, 0.5448431082926601},
                          {3.9486908534822946, -2.908902115962949, 0.5518191394370137},
                          {3.3184196573706015, -2.488488024314874, 0.51004894012372},
                          {2.300652019954817, -1.6689039845747493, 0.4188073119525673},
                          {1.891301407787398, -1.2679958271945868, 0.37680408948524835},
                          {1.8750014808534479, -1.2500016453999487, 0.3750001645474248},
                          {1.875, -1.25, 0.375}};
constexpr Row kAolA[] = {
    {4.6051, -9.6552, 5.6769}, {4.7505, -6.0861, 2.1790}, {2.7763, -2.3190, 0.5523}, {2.4231, -2.2861, 0.8193}};
constexpr Row kCubic5[] = {{3.3656576, -3.3420992, 0},
                           {2.5744352, -1.4957376, 0},
                           {2.5368962, -1.4312570, 0},
                           {2.4418906, -1.2764040, 0},
                           {2.2230472, -0.9630650, 0}};
constexpr Row kCans[] = {{8.4703, -25.1081, 18.6293},
                         {4.1828, -3.1087, 0.5806},
                         {3.9619, -2.9541, 0.5630},
                         {3.2866, -2.4647, 0.5074},
                         {2.2737, -1.6447, 0.4162}};

Published entry(std::string name, std::span<const Row> rows, int steps, std::string source, bool repeats_last = false) {
  return {
      .schedule = {.name = std::move(name), .coefficients = {rows.begin(), rows.end()}, .source = std::move(source)},
      .steps = steps,
      .repeats_last = repeats_last};
}
Published with_norm_margin(Published p, double margin) {
  p.schedule.norm_margin = margin;
  return p;
}
Published with_aol(Published p) {
  p.schedule.preconditioner = Preconditioner::aol;
  return p;
}

/// A set called "aol" elsewhere, starting with (4.0098, -7.0585, 2.4635), is left out: it flips the sign of the largest
/// singular value.
const std::vector<Published>& registry() {
  static const std::vector<Published> all = {
      entry("quintic", {&kJordan, 1}, 5, "Jordan et al. 2024, KellerJordan/Muon", true),
      entry("cubic", kCubic, 15, "Newton-Schulz; converges from (0, sqrt 3)", true),
      entry("you", kYou, 5, "Jiacheng You; microsoft/dion, Dao-AILab/gram-newton-schulz"),
      with_norm_margin(
          entry("modded", kModded, 5, "Polar Express, arXiv:2505.16932, with safety 0.02; KellerJordan/modded-nanogpt"),
          1.02),
      with_norm_margin(entry("polar_express", first_with_margin(kPaper, 7, 1.01), 5,
                             "arXiv:2505.16932, Implementation 1; NoahAmsel/PolarExpress", true),
                       1.01),
      entry("gram105", first_with_margin(std::span(kPaper).first(5), 5, 1.05), 5,
            "arXiv:2505.16932 with margin 1.05 folded in; Dao-AILab/gram-newton-schulz"),
      with_aol(entry("aol_a", kAolA, 4, "Turbo-Muon, arXiv:2512.04632; thib-s/flash-newton-schulz@cdb03db")),
      with_aol(entry("aol_b", std::span(kYou).subspan(1), 4,
                     "Turbo-Muon, arXiv:2512.04632, the last four rows of you; thib-s/flash-newton-schulz@1aa1f31")),
      entry("deepseek_v4", repeated(kJordan, 8, {{2, -1.5, 0.5}, {2, -1.5, 0.5}}), 10,
            "DeepSeek-V4; NVIDIA-NeMo/Emerging-Optimizers muon_utils.py"),
      entry("cubic5", kCubic5, 5, "arXiv:2606.00371; NVIDIA-NeMo/Emerging-Optimizers muon_utils.py"),
      entry("cans", kCans, 5, "CANS; NVIDIA-NeMo/Emerging-Optimizers muon_utils.py")};
  return all;
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

const Published& published(std::string_view name) {
  for (const Published& p : registry())
    if (p.schedule.name == name) return p;
  const auto known = polynomial_schedule_names();
  const std::string near = nearest(name, known);
  fail_usage({"polynomial schedule", "one of " + joined(known), "'" + std::string(name) + "'",
              near.empty() ? "" : "Did you mean '" + near + "'?"});
}

/// The first `steps` rows; the last one again where the table may be continued.
std::vector<Row> rows(const Published& p, int steps) {
  const std::vector<Row>& table = p.schedule.coefficients;
  const size_t wanted = static_cast<size_t>(steps > 0 ? steps : p.steps);
  if (wanted > table.size() && !p.repeats_last)
    fail_usage({"polynomial schedule " + p.schedule.name, "1 to " + std::to_string(table.size()) + " steps",
                std::to_string(steps), "Its table ends there; quintic, cubic and polar_express go on."});
  std::vector<Row> out(table.begin(), table.begin() + static_cast<std::ptrdiff_t>(std::min(wanted, table.size())));
  out.resize(wanted, table.back());
  return out;
}

std::string shown(double value) {
  std::string text;
  append_real(text, value);
  return text;
}

constexpr int kGrid = 4096;
constexpr double kBound = 2;

/// The largest value of one step on (0, top].
double checked_step(const PolynomialSchedule& schedule, size_t t, double top) {
  double largest = 0;
  for (int i = 1; i <= kGrid; ++i) {
    const double s = top * i / kGrid, value = step(schedule.coefficients[t], s);
    if (!(value > 0 && value < kBound))
      fail_usage({"polynomial schedule " + schedule.name, "every step to stay in (0, 2) on what (0, 1] becomes",
                  "step " + std::to_string(t + 1) + " takes " + shown(s) + " to " + shown(value),
                  "Singular values would flip their sign or diverge. Take a published schedule: " +
                      joined(polynomial_schedule_names()) + "."});
    largest = std::max(largest, value);
  }
  return largest;
}

struct Range {
  double low, high;
};

/// Where a + 3 b s^2 + 5 c s^4 = 0.
std::vector<double> critical_points(const Row& abc) {
  const double a = abc[0], b = 3 * abc[1], c = 5 * abc[2];
  if (c == 0) return {std::sqrt(-a / b)};
  const double root = std::sqrt(b * b - 4 * a * c);
  return {std::sqrt((-b - root) / (2 * c)), std::sqrt((-b + root) / (2 * c))};  // NaN where there is none
}

/// A continuous step takes an interval onto an interval: between its values at the ends and at its extrema.
Range image(const Row& abc, const Range& in) {
  const double first = step(abc, in.low), last = step(abc, in.high);
  Range out{std::min(first, last), std::max(first, last)};
  for (const double s : critical_points(abc)) {
    if (!(s > in.low && s < in.high)) continue;
    out.low = std::min(out.low, step(abc, s));
    out.high = std::max(out.high, step(abc, s));
  }
  return out;
}

}  // namespace

double PolynomialSchedule::operator()(double s) const {
  for (const Row& abc : coefficients) s = step(abc, s);
  return s;
}

PolynomialSchedule polynomial_schedule(std::string_view name, int steps) {
  const Published& found = published(name);
  PolynomialSchedule schedule = found.schedule;
  schedule.coefficients = rows(found, steps);
  schedule.band = output_band(schedule);
  return schedule;
}

PolynomialSchedule polynomial_schedule(std::vector<Row> coefficients, double norm_margin) {
  PolynomialSchedule schedule{.name = "given",
                              .coefficients = std::move(coefficients),
                              .norm_margin = norm_margin,
                              .source = "coefficients given by the caller"};
  check_schedule(schedule);
  schedule.band = output_band(schedule);
  return schedule;
}

std::vector<std::string> polynomial_schedule_names() {
  std::vector<std::string> names;
  for (const Published& p : registry()) names.push_back(p.schedule.name);
  return names;
}

void check_schedule(const PolynomialSchedule& schedule) {
  const std::string who = "polynomial schedule " + schedule.name;
  if (schedule.coefficients.empty()) fail_usage({who, "at least one (a, b, c)", "none", ""});
  if (!(schedule.norm_margin >= 1 && std::isfinite(schedule.norm_margin)))
    fail_usage(
        {who, "norm_margin >= 1", shown(schedule.norm_margin), "Below 1 the largest singular value may leave (0, 1]."});
  // A continuous step that vanishes at 0 takes (0, top] onto (0, its largest value].
  double top = 1;
  for (size_t t = 0; t < schedule.coefficients.size(); ++t) top = checked_step(schedule, t, top);
}

std::array<double, 2> output_band(const PolynomialSchedule& schedule) {
  Range range{1e-2, 1};
  for (const Row& abc : schedule.coefficients) range = image(abc, range);
  return {std::floor(range.low * 1e4) / 1e4, std::ceil(range.high * 1e4) / 1e4};
}

}  // namespace schatten
