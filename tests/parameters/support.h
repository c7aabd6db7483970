// The cases of one optimizer, found by what their metadata says, in float64 and float32.
#pragma once
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/core/error.h>
#include <schatten/core/value.h>
#include <support/golden.h>

#include <cmath>
#include <iostream>
#include <ostream>
#include <string>
#include <vector>

namespace schatten::testing {

struct Case {
  std::filesystem::path file;
  at::ScalarType dtype;
};
inline void PrintTo(const Case& c, std::ostream* out) {
  *out << c.file.filename().string() << " in " << c10::toString(c.dtype);
}
inline std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  return case_name(info.param.file) + "_" + c10::toString(info.param.dtype);
}

inline std::vector<std::filesystem::path> files_of(const std::string& optimizer) {
  std::vector<std::filesystem::path> found;
  for (const auto& file : golden_files("optimizers")) {
    const auto metadata = load_safetensors_header(file).metadata;
    if (const auto it = metadata.find("optimizer"); it != metadata.end() && it->second == optimizer)
      found.push_back(file);
  }
  return found;
}

/// Recorded in float64: to be run in both; recorded in float32: in float32.
inline std::vector<Case> cases_of(const std::string& optimizer) {
  std::vector<Case> cases;
  for (const auto& file : files_of(optimizer)) {
    if (load_safetensors_header(file).metadata.at("dtype") == "float64") cases.push_back({file, at::kDouble});
    cases.push_back({file, at::kFloat});
  }
  return cases;
}

inline Value hyper_of(const TensorFile& f) { return parse_json(f.metadata.at("hyper")); }

inline double distance(const Tensor& a, const Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).norm().item<double>();
}

/// One golden case: its file, its type, its tolerance, and the largest error seen.
class GoldenCase : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    file_ = load_safetensors(GetParam().file);
    dtype_ = GetParam().dtype;
    rtol_ = std::stod(file_.metadata.at(dtype_ == at::kDouble ? "rtol_f64" : "rtol_f32"));
  }
  void TearDown() override { report_parity(GetParam().file, file_, dtype_, worst_, rtol_); }

  Tensor at(const std::string& name) const { return file_.at(name).to(dtype_).clone(); }
  /// |got - expected| <= rtol * scale.
  void expect_within(double error, double scale, const std::string& what) {
    EXPECT_LE(error, rtol_ * scale) << what;
    if (scale > 0) worst_ = std::max(worst_, error / scale);
  }
  void expect_near(double got, double expected, const std::string& what) {
    expect_within(std::abs(got - expected), std::abs(expected), what);
  }
  void expect_near(const Tensor& got, const Tensor& expected, const std::string& what) {
    expect_within(distance(got, expected), expected.to(at::kDouble).norm().item<double>(), what);
  }

  TensorFile file_;
  at::ScalarType dtype_{};
  double rtol_ = 0, worst_ = 0;
};

/// The message of the error that f throws; empty where it throws none.
template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace schatten::testing
