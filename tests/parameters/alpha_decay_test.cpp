// From weights to decays, against the authors' numbers; then what each map does at its edges.
#include <schatten/linalg/power_law.h>
#include <schatten/parameters/alpha_decay.h>

#include <numeric>

#include "parameters/support.h"

namespace schatten::testing {
namespace {

TailStart start_of(const std::string& name) {
  if (name == "median") return TailStart::median;
  return name == "goodness-of-fit" ? TailStart::goodness_of_fit : TailStart::fix_finger_as_published;
}
AlphaMap map_of(const std::string& name) {
  if (name == "tb_linear_map") return AlphaMap::linear;
  if (name == "tb_sqrt") return AlphaMap::sqrt;
  return name == "tb_log2" ? AlphaMap::log2 : AlphaMap::layer_sigmoid;
}

/// "model.layers.3.mlp.up_proj" -> 3.
int64_t layer_of(const std::string& name) {
  const size_t at = name.find("layers.");
  return at == std::string::npos ? -1 : std::stoll(name.substr(at + 7));
}

class GoldenAlphaDecay : public GoldenCase {
 protected:
  double number(const std::string& name, size_t i) const {
    return file_.at(name)[static_cast<int64_t>(i)].to(at::kDouble).item<double>();
  }
  AlphaModule measure(const std::string& module, size_t i, const Value& hyper);
};

AlphaModule GoldenAlphaDecay::measure(const std::string& module, size_t i, const Value& hyper) {
  const auto lambda = eigenvalue_spectrum(at(module + "/weight"));
  const PowerLawFit fit =
      fit_power_law(lambda, {.start = start_of(hyper.at("pl_fitting").as_string()),
                             .minimum = 1,
                             .above = hyper.at("filter_zeros").as_bool() ? hyper.at("EVALS_THRESH").as_real() : -1});
  const TailSummary tail = summarize_tail(lambda);
  expect_near(fit.alpha, number("metric.alpha", i), module + " alpha");
  expect_near(alpha_hat(fit.alpha, tail.largest), number("metric.alphahat", i), module + " alphahat");
  expect_near(tail.entropy, number("metric.entropy", i), module + " entropy");
  expect_near(tail.sum, number("metric.fnorm", i), module + " fnorm");
  expect_near(tail.largest, number("metric.spectral_norm", i), module + " spectral_norm");
  expect_near(tail.stable_rank, number("metric.stable_rank", i), module + " stable_rank");
  EXPECT_EQ(static_cast<double>(fit.eigenvalues), number("metric.eigs_num", i)) << module;
  return {fit.alpha, fit.eigenvalues, layer_of(module)};
}

TEST_P(GoldenAlphaDecay, MatchesTheAuthorsNumbers) {
  const Value hyper = hyper_of(file_);
  std::vector<AlphaModule> modules;
  for (const Value& name : hyper.at("module_order").as_array())
    modules.push_back(measure(name.as_string(), modules.size(), hyper));
  const auto decays = assign_decays(modules, hyper.at("untuned_wd").as_real(),
                                    {.map = map_of(hyper.at("assign_func").as_string()),
                                     .low = hyper.at("wd_min_ratio").as_real(),
                                     .high = hyper.at("wd_max_ratio").as_real(),
                                     .skip_first = hyper.at("remove_first_layer").as_bool(),
                                     .skip_last = hyper.at("remove_last_layer").as_bool(),
                                     .minimum_eigenvalues = hyper.at("eigs_thresh").as_integer()});
  ASSERT_EQ(decays.size(), modules.size());
  for (size_t i = 0; i < decays.size(); ++i) {
    expect_near(decays[i].weight_decay, number("assigned.weight_decay", i), "decay " + std::to_string(i));
    EXPECT_EQ(decays[i].tuned, number("assigned.tuned", i) != 0) << i;
  }
}
INSTANTIATE_TEST_SUITE_P(Optimizers, GoldenAlphaDecay, ::testing::ValuesIn(cases_of("AlphaDecay")), name_of);

std::vector<double> doubles(const Tensor& t) {
  const Tensor d = t.to(at::kDouble).contiguous();
  return {d.data_ptr<double>(), d.data_ptr<double>() + d.numel()};
}

/// The maps alone, on alphas of several layers.
TEST(GoldenAlphaMaps, MatchTheAuthorsNumbers) {
  const auto path = golden_folder() / "diagnostics" / "alpha_assignment.safetensors";
  ASSERT_TRUE(std::filesystem::exists(path));
  const TensorFile f = load_safetensors(path);
  const Value config = parse_json(f.metadata.at("config"));
  const auto& ratios = config.at("alphadecay_ratios").as_array();
  const Tensor layer = f.at("in.layer").contiguous();
  const std::vector<int64_t> layers(layer.data_ptr<int64_t>(), layer.data_ptr<int64_t>() + layer.numel());
  double worst = 0;
  for (const char* map : {"tb_linear_map", "tb_sqrt", "tb_log2", "layerwise_sigmoid"}) {
    const auto expected = doubles(f.at(std::string("out.alphadecay.") + map));
    const auto got = decays_of_alphas(doubles(f.at("in.alpha")), layers, config.at("base").as_real(),
                                      {.map = map_of(map), .low = ratios[0].as_real(), .high = ratios[1].as_real()});
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_NEAR(got[i], expected[i], 1e-12 * expected[i]) << map << " " << i;
      worst = std::max(worst, std::abs(got[i] / expected[i] - 1));
    }
  }
  std::cout << "    largest error " << worst << " of 1e-12 allowed\n";
}

const std::vector<double> kAlphas = {2.5, 4.0, 3.0, 6.0};
const std::vector<int64_t> kLayers = {0, 0, 1, 1};

double sum(const std::vector<double>& v) { return std::accumulate(v.begin(), v.end(), 0.0); }

TEST(AlphaMaps, LinearReachesItsBoundsAndHalvesBetween) {
  const auto d = decays_of_alphas({2, 6, 4}, {}, 0.1, {.low = 0.5, .high = 1.5});
  EXPECT_NEAR(d[0], 0.05, 1e-16);
  EXPECT_NEAR(d[1], 0.15, 1e-16);
  EXPECT_NEAR(d[2], 0.1, 1e-16);
}

TEST(AlphaMaps, SqrtAndLog2KeepTheMeanAndTheRatios) {
  const auto root = decays_of_alphas(kAlphas, {}, 0.1, {.map = AlphaMap::sqrt});
  const auto log = decays_of_alphas(kAlphas, {}, 0.1, {.map = AlphaMap::log2});
  EXPECT_NEAR(sum(root) / 4, 0.1, 1e-8);
  EXPECT_NEAR(sum(log) / 4, 0.1, 1e-8);
  EXPECT_NEAR(root[3] / root[0], std::sqrt(6 / 2.5), 1e-14);
  EXPECT_NEAR(log[3] / log[0], std::log2(6) / std::log2(2.5), 1e-14);
}

TEST(AlphaMaps, SigmoidComparesWithinALayer) {
  const AlphaDecayOptions sigmoid{.map = AlphaMap::layer_sigmoid};
  const auto d = decays_of_alphas(kAlphas, kLayers, 0.1, sigmoid);
  for (const size_t i : {0, 2}) {  // two modules: z = -1 and 1
    EXPECT_NEAR(d[i], 0.2 / (1 + std::exp(4)), 1e-8);
    EXPECT_NEAR(d[i + 1], 0.2 / (1 + std::exp(-4)), 1e-8);
  }
  for (const double v : decays_of_alphas({3, 3, 3}, {0, 0, 0}, 0.1, sigmoid)) EXPECT_NEAR(v, 0.1, 1e-16);
  EXPECT_NE(error_of([&] { decays_of_alphas(kAlphas, {0}, 0.1, sigmoid); }).find("one layer per alpha (4), got 1"),
            std::string::npos);
}

std::vector<AlphaModule> four_modules() { return {{2, 60, 0}, {3, 60, 0}, {4, 60, 0}, {8, 60, 1}}; }

TEST(Assignment, FirstAndLastStayUnlessAskedFor) {
  const auto kept = assign_decays(four_modules(), 0.1);
  for (const size_t i : {0, 3}) {
    EXPECT_FALSE(kept[i].tuned);
    EXPECT_EQ(kept[i].weight_decay, 0.1);
  }
  EXPECT_NEAR(kept[1].weight_decay, 0.1 * 2 / 3, 1e-16);
  EXPECT_NEAR(kept[2].weight_decay, 0.3, 1e-16);
  const auto all = assign_decays(four_modules(), 0.1, {.skip_first = false, .skip_last = false});
  EXPECT_NEAR(all[0].weight_decay, 0.1 * 2 / 3, 1e-16);
  EXPECT_NEAR(all[3].weight_decay, 0.3, 1e-16);
}

TEST(Assignment, FiftyEigenvaluesAreEnough) {
  auto modules = four_modules();
  modules[1].eigenvalues = 50;
  EXPECT_TRUE(assign_decays(modules, 0.1)[1].tuned);
  modules[1].eigenvalues = 49;
  const auto decays = assign_decays(modules, 0.1);
  EXPECT_FALSE(decays[1].tuned);
  EXPECT_EQ(decays[1].weight_decay, 0.1);
}

TEST(Assignment, ModulesWithoutAnAlphaDoNotSpoilTheOthers) {
  auto modules = four_modules();
  modules.insert(modules.begin() + 1, {NAN, 60, 0});
  const auto decays = assign_decays(modules, 0.1);
  EXPECT_FALSE(decays[1].tuned);
  EXPECT_EQ(decays[1].weight_decay, 0.1);
  EXPECT_NEAR(decays[2].weight_decay, 0.1 * 2 / 3, 1e-16);
}

TEST(Assignment, EqualAlphasAndNoModulesChangeNothing) {
  std::vector<AlphaModule> equal(5, {3, 60, 0});
  for (const ModuleDecay& d : assign_decays(equal, 0.1)) EXPECT_EQ(d.weight_decay, 0.1);
  EXPECT_TRUE(assign_decays({}, 0.1).empty());
  for (const AlphaMap map : {AlphaMap::linear, AlphaMap::sqrt, AlphaMap::log2, AlphaMap::layer_sigmoid})
    EXPECT_EQ(assign_decays({{3, 60, 0}}, 0.1, {.map = map})[0].weight_decay, 0.1);
}

TEST(Assignment, RefusesWhatCannotBe) {
  const auto error = [](double decay, const AlphaDecayOptions& o) {
    return error_of([&] { decays_of_alphas({3, 0.5}, {0, 0}, decay, o); });
  };
  EXPECT_NE(error(-0.1, {}).find("weight_decay finite and >= 0, got -0.1"), std::string::npos);
  EXPECT_NE(error(NAN, {}).find("weight_decay"), std::string::npos);
  EXPECT_NE(error(0.1, {.low = 2, .high = 1}).find("low <= high"), std::string::npos);
  EXPECT_NE(error(0.1, {.map = AlphaMap::log2}).find("alphas above 1"), std::string::npos);
  EXPECT_EQ(error(0.1, {}), "");
}

}  // namespace
}  // namespace schatten::testing
