// Numbers of independent numpy, TempBalance, AlphaDecay and WeightWatcher for the same matrices:
// whatever is also ours must agree. What nothing claims is counted and printed.
#include "support/golden.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <schatten/diagnostics/spectra.h>
#include <schatten/linalg/power_law.h>

#include <cmath>
#include <functional>
#include <iostream>
#include <map>
#include <optional>
#include <set>

namespace schatten::testing {
namespace {

/// On a busy machine two threads on one small matrix wait for each other far longer than they work.
struct OneThread : ::testing::Environment {
  void SetUp() override { at::set_num_threads(1); }
};
[[maybe_unused]] ::testing::Environment* const kOneThread = ::testing::AddGlobalTestEnvironment(new OneThread);

struct Ours {
  SpectralSummary spectrum;
  PowerLawFit fit;
};
using Number = std::function<double(const Ours&)>;

double squared(double x) { return x * x; }

/// Their name -> our number. The median Hill fit is one formula under three names; theirs call
/// lambda_1 "spectral norm".
const std::map<std::string, Number>& claims() {
  static const Number alpha = [](const Ours& o) { return o.fit.alpha; };
  static const Number distance = [](const Ours& o) { return o.fit.distance; };
  static const Number count = [](const Ours& o) { return static_cast<double>(o.fit.eigenvalues); };
  static const Number lambda = [](const Ours& o) { return squared(o.spectrum.sigma_max); };
  static const Number squares = [](const Ours& o) { return squared(o.spectrum.frobenius_norm); };
  static const Number stable_rank = [](const Ours& o) { return o.spectrum.stable_rank; };
  static const std::map<std::string, Number> all = {
      {"np.fro", [](const Ours& o) { return o.spectrum.frobenius_norm; }},
      {"np.rms", [](const Ours& o) { return o.spectrum.rms; }},
      {"np.sigma_max", [](const Ours& o) { return o.spectrum.sigma_max; }},
      {"np.sigma_min", [](const Ours& o) { return o.spectrum.sigma_min; }},
      {"np.cond_median", [](const Ours& o) { return o.spectrum.sigma_max / o.spectrum.sigma_median; }},
      {"np.lambda_max", lambda},
      {"np.stable_rank", stable_rank},
      {"np.participation_ratio", [](const Ours& o) { return o.spectrum.participation_ratio; }},
      {"np.effective_rank", [](const Ours& o) { return o.spectrum.effective_rank; }},
      {"np.slope_s", [](const Ours& o) { return o.spectrum.slope; }},
      {"np.hill_code_alpha", alpha},
      {"np.hill_code_D", distance},
      {"tempbalance.median.alpha", alpha},
      {"tempbalance.median.D", distance},
      {"tempbalance.median.eigs_num", count},
      {"tempbalance.median.spectral_norm", lambda},
      {"tempbalance.median.norm", squares},
      {"alphadecay.median.alpha", alpha},
      {"alphadecay.median.eigs_num", count},
      {"alphadecay.median.spectral_norm", lambda},
      {"alphadecay.median.fnorm", squares},
      {"alphadecay.median.stable_rank", stable_rank},
      {"ww.num_evals", count},
      {"ww.lambda_max", lambda},
      {"ww.spectral_norm", lambda},
      {"ww.norm", squares},
      {"ww.sv_max", [](const Ours& o) { return o.spectrum.sigma_max; }},
      {"ww.sv_min", [](const Ours& o) { return o.spectrum.sigma_min; }},
      {"ww.stable_rank", stable_rank}};
  return all;
}

/// Pooled convolutions: TempBalance takes kh kw slices (out, in), each times sqrt(1/2).
const std::set<std::string> kPooled = {"tempbalance.median.alpha", "tempbalance.median.D",
                                       "tempbalance.median.eigs_num", "alphadecay.median.alpha",
                                       "alphadecay.median.eigs_num"};

double tolerance_of(const std::string& name) { return name.starts_with("np.") ? 1e-10 : 1e-8; }

std::string case_of(const std::filesystem::path& file) { return file.stem().string(); }

/// Scalars by their name without the prefix.
std::map<std::string, double> scalars(const TensorFile& f) {
  std::map<std::string, double> all;
  for (const auto& [name, tensor] : f.tensors)
    if (name.starts_with("scalar.")) all[name.substr(7)] = tensor.item<double>();
  return all;
}

enum class Form { matrix, convolution, closed, other };

Form form_of(const TensorFile& f) {
  if (const Tensor* w = f.find("in.w"))
    return w->dim() == 2 ? Form::matrix : w->dim() == 4 ? Form::convolution : Form::other;
  return f.find("in.lambda") && f.find("scalar.hill_code_alpha") ? Form::closed : Form::other;
}

std::vector<double> pooled_singular_values(const Tensor& w) {
  std::vector<double> all;
  for (int64_t i = 0; i < w.size(2); ++i)
    for (int64_t j = 0; j < w.size(3); ++j) {
      const Tensor slice = w.select(3, j).select(2, i).to(at::kDouble) * std::sqrt(0.5);
      const auto values = summarize_spectrum(slice).singular_values;
      all.insert(all.end(), values.begin(), values.end());
    }
  return all;
}

void expect_near(double got, double expected, double rtol, double atol, const std::string& name) {
  EXPECT_LE(std::abs(got - expected), rtol * std::abs(expected) + atol) << name << ": " << got << " for " << expected;
}

/// Two errors are absolute: `smallest`, of singular values (a small one has fewer right digits),
/// and that of D, a distance between probabilities.
void compare(const TensorFile& f, const Ours& ours, const std::set<std::string>* only, std::optional<double> rtol,
             double smallest) {
  for (const auto& [name, expected] : scalars(f)) {
    const auto claim = claims().find(name);
    if (claim == claims().end() || (only && !only->contains(name))) continue;
    const double relative = rtol.value_or(tolerance_of(name));
    const bool least = name == "np.sigma_min" || name == "ww.sv_min", distance = name.ends_with("D");
    expect_near(claim->second(ours), expected, relative, least ? smallest : distance ? relative : 0, name);
  }
}

Ours measured(const Tensor& w) {
  const SpectralSummary s = summarize_spectrum(w);
  return {s, fit_power_law_hill(s.singular_values, 1)};
}

std::vector<std::filesystem::path> files_of(Form form) {
  std::vector<std::filesystem::path> found;
  for (const auto& file : golden_files("diagnostics"))
    if (form_of(load_safetensors(file)) == form) found.push_back(file);
  return found;
}

TEST(GoldenDiagnostics, MatricesInFloat64) {
  const auto files = files_of(Form::matrix);
  ASSERT_FALSE(files.empty()) << "no matrices in " << golden_folder();
  for (const auto& file : files) {
    SCOPED_TRACE(case_of(file));
    const TensorFile f = load_safetensors(file);
    const Ours ours = measured(f.at("in.w").to(at::kDouble));
    const double top = ours.spectrum.sigma_max;
    compare(f, ours, nullptr, {}, 1e-14 * top);
    const Tensor s = f.at("out.singular_values").contiguous();
    ASSERT_EQ(static_cast<int64_t>(ours.spectrum.singular_values.size()), s.numel());
    for (int64_t i = 0; i < s.numel(); ++i)
      expect_near(ours.spectrum.singular_values[static_cast<size_t>(i)], s[i].item<double>(), 0, 1e-13 * top, "sigma");
  }
}

/// The SVD of a float32 matrix runs in float32: five digits of every summary, absolute for the
/// smallest value.
TEST(GoldenDiagnostics, MatricesInFloat32) {
  for (const auto& file : files_of(Form::matrix)) {
    SCOPED_TRACE(case_of(file));
    const TensorFile f = load_safetensors(file);
    const Ours ours = measured(f.at("in.w"));
    compare(f, ours, nullptr, 2e-5, 1e-6 * ours.spectrum.sigma_max);
  }
}

TEST(GoldenDiagnostics, FloatingPointTypesOfHalfSizeAreReadAsFloat32) {
  for (const auto& file : files_of(Form::matrix)) {
    const Tensor w = load_safetensors(file).at("in.w").to(at::kBFloat16);
    EXPECT_EQ(summarize_spectrum(w).singular_values, summarize_spectrum(w.to(at::kFloat)).singular_values) << file;
  }
}

TEST(GoldenDiagnostics, PooledSlicesOfConvolutions) {
  for (const auto& file : files_of(Form::convolution)) {
    SCOPED_TRACE(case_of(file));
    const TensorFile f = load_safetensors(file);
    const auto values = pooled_singular_values(f.at("in.w"));
    compare(f, {{}, fit_power_law_hill(values)}, &kPooled, {}, 0);
    EXPECT_EQ(scalars(f).at("tempbalance.median.eigs_num"), static_cast<double>(values.size()));
  }
}

/// The published estimators by their own names: "alphadecay.fix-finger.filter_zeros.alpha".
struct Published {
  PowerLawOptions options;
  std::string owner, number;
};

std::optional<Published> published(const std::string& name) {
  static const std::map<std::string, TailStart> starts = {{"median", TailStart::median},
                                                          {"goodness-of-fit", TailStart::goodness_of_fit},
                                                          {"fix-finger", TailStart::fix_finger_as_published}};
  const size_t first = name.find('.'), second = name.find('.', first + 1), last = name.rfind('.');
  if (!name.starts_with("tempbalance.") && !name.starts_with("alphadecay.")) return {};
  const auto start = starts.find(name.substr(first + 1, second - first - 1));
  if (start == starts.end()) return {};
  const double above = name.find(".filter_zeros.") == std::string::npos ? -1 : 1e-5;
  return Published{
      {.start = start->second, .minimum = 1, .above = above}, name.substr(0, first), name.substr(last + 1)};
}

double number_of(const Published& p, const std::vector<double>& lambda) {
  const PowerLawFit fit = fit_power_law(lambda, p.options);
  const TailSummary tail = summarize_tail(lambda);
  if (p.number == "alpha") return fit.alpha;
  if (p.number == "D") return fit.distance;
  if (p.number == "eigs_num") return static_cast<double>(fit.eigenvalues);
  if (p.number == "spectral_norm") return tail.largest;
  if (p.number == "fnorm" || p.number == "norm") return tail.sum;
  if (p.number == "stable_rank") return tail.stable_rank;
  if (p.number == "entropy") return tail.entropy;
  EXPECT_EQ(p.number, "alphahat");
  return p.owner == "alphadecay" ? alpha_hat(fit.alpha, tail.largest) : fit.alpha * std::log10(tail.largest);
}

/// NaN stands where the published code fails. Errors of D, a distance between probabilities, and of
/// alphahat, which passes through 0 with a logarithm, are absolute.
TEST(GoldenDiagnostics, PublishedPowerLawFits) {
  double worst = 0;
  int compared = 0;
  for (const Form form : {Form::matrix, Form::convolution})
    for (const auto& file : files_of(form)) {
      SCOPED_TRACE(case_of(file));
      const TensorFile f = load_safetensors(file);
      const auto lambda = eigenvalue_spectrum(f.at("in.w").to(at::kDouble));
      for (const auto& [name, expected] : scalars(f)) {
        const auto p = published(name);
        if (!p || std::isnan(expected)) continue;
        const double got = number_of(*p, lambda),
                     scale = std::max(std::abs(expected), p->number == "D" || p->number == "alphahat" ? 1.0 : 0.0);
        EXPECT_LE(std::abs(got - expected), 1e-8 * scale) << name << ": " << got << " for " << expected;
        if (scale > 0) worst = std::max(worst, std::abs(got - expected) / scale);
        ++compared;
      }
    }
  EXPECT_GT(compared, 0);
  std::cout << "    " << compared << " numbers, largest error " << worst << " of 1e-8 allowed\n";
}

/// "plaw.n100.s0.25.hill_code" -> singular values k^-0.25, k = 1 .. 100.
std::optional<std::vector<double>> closed_values(const std::string& name) {
  if (!name.starts_with("plaw.n") || !name.ends_with(".hill_code")) return {};
  const size_t s = name.find(".s");
  const int n = std::stoi(name.substr(6, s - 6));
  const double exponent = std::stod(name.substr(s + 2));
  std::vector<double> values;
  for (int k = 1; k <= n; ++k) values.push_back(std::pow(k, -exponent));
  return values;
}

TEST(GoldenDiagnostics, ClosedForms) {
  for (const auto& file : files_of(Form::closed)) {
    SCOPED_TRACE(case_of(file));
    const TensorFile f = load_safetensors(file);
    const auto expected = scalars(f);
    const Ours ours = measured(at::diag(f.at("in.lambda").sqrt()));
    expect_near(ours.fit.alpha, expected.at("hill_code_alpha"), 1e-10, 0, "alpha");
    expect_near(ours.fit.distance, expected.at("hill_code_D"), 1e-10, 0, "D");
    expect_near(ours.spectrum.stable_rank, expected.at("stable_rank"), 1e-10, 0, "stable rank");
    expect_near(ours.spectrum.effective_rank, expected.at("effective_rank"), 1e-10, 0, "effective rank");
    int laws = 0;
    for (const auto& [name, alpha] : expected)
      if (const auto values = closed_values(name)) {
        ++laws;
        expect_near(fit_power_law_hill(*values).alpha, alpha, 1e-10, 0, name);
      }
    EXPECT_GT(laws, 0);
  }
}

bool claimed(const TensorFile& f, const std::string& name) {
  static const std::set<std::string> closed = {"hill_code_alpha", "hill_code_D", "stable_rank", "effective_rank"};
  switch (form_of(f)) {
    case Form::matrix: return claims().contains(name) || published(name);
    case Form::convolution: return published(name).has_value();
    case Form::closed: return closed.contains(name) || closed_values(name);
    case Form::other: break;
  }
  return false;
}

TEST(GoldenDiagnostics, CountsNumbersThatNothingClaims) {
  const auto files = golden_files("diagnostics");
  ASSERT_FALSE(files.empty()) << "no cases in " << golden_folder();
  size_t mine = 0, all = 0;
  std::string other;
  std::map<std::string, int> open;  // by the first part of the name
  for (const auto& file : files) {
    const TensorFile f = load_safetensors(file);
    if (form_of(f) == Form::other) other += " " + case_of(file);
    for (const auto& [name, value] : scalars(f)) {
      ++all;
      if (claimed(f, name)) ++mine;
      else ++open[name.substr(0, name.find('.'))];
    }
  }
  std::cout << "    " << mine << " of " << all << " numbers claimed; not claimed:";
  for (const auto& [prefix, count] : open) std::cout << " " << prefix << " " << count;
  std::cout << "; files of another form:" << (other.empty() ? " none" : other) << "\n";
  EXPECT_GT(mine, 0u);
}

/// A tolerance that nothing can miss proves nothing: the paper's own Hill form is another number.
TEST(GoldenDiagnostics, TheOtherHillFormIsToldApart) {
  for (const auto& file : files_of(Form::matrix)) {
    const TensorFile f = load_safetensors(file);
    const double ours = measured(f.at("in.w").to(at::kDouble)).fit.alpha, paper = scalars(f).at("np.hill_paper_alpha");
    EXPECT_GT(std::abs(ours - paper), 1e-3 * paper) << file;
  }
}

}  // namespace
}  // namespace schatten::testing
