// Which instructions a run uses, and how its plans are written down.
#include <gtest/gtest.h>
#include <schatten/core/error.h>
#include <schatten/papers/registry.h>
#include <schatten/train/kernel_choice.h>

#include "train/support.h"

namespace schatten {
namespace {

using testing::contains;
using testing::message_of;

KernelChoice choice(Isa isa) { return static_cast<KernelChoice>(static_cast<int>(isa) + 1); }

TEST(KernelChoice, EverySetHasItsName) {
  EXPECT_EQ(enum_name(KernelChoice::automatic), "auto");
  for (const Isa isa : {Isa::portable, Isa::avx2, Isa::amx_bf16}) EXPECT_EQ(enum_name(choice(isa)), enum_name(isa));
}

TEST(KernelChoice, ANamedSetIsTakenOrRefused) {
  EXPECT_EQ(choose_kernels(choice(Isa::avx2), std::nullopt, Isa::avx512, Isa::avx512).isa, Isa::avx2);
  const std::string message =
      message_of<UsageError>([] { choose_kernels(choice(Isa::amx_bf16), std::nullopt, Isa::avx2, Isa::avx2); });
  for (const char* part : {"optimizer.kernels", "avx2", "amx_bf16", "auto"}) EXPECT_TRUE(contains(message, part));
}

TEST(KernelChoice, AutoTakesWhatIsHereAtFirst) {
  const ChosenKernels chosen = choose_kernels(KernelChoice::automatic, std::nullopt, Isa::avx512, Isa::amx_bf16);
  EXPECT_EQ(chosen.isa, Isa::avx512);
  EXPECT_EQ(chosen.note, "");
}

TEST(KernelChoice, AutoGoesOnWithTheCheckpointsSet) {
  const auto resumed = [](const char* saved, Isa here, Isa best) {
    return choose_kernels(KernelChoice::automatic, saved, here, best);
  };
  EXPECT_EQ(resumed("avx512", Isa::avx512, Isa::avx512).isa, Isa::avx512);
  EXPECT_EQ(resumed("avx512", Isa::avx512, Isa::avx512).note, "");
  EXPECT_EQ(resumed("avx2", Isa::amx_bf16, Isa::amx_bf16).isa, Isa::avx2);
  EXPECT_TRUE(contains(resumed("avx2", Isa::amx_bf16, Isa::amx_bf16).note, "goes on with them (here: amx_bf16)"));
  EXPECT_EQ(resumed("amx_bf16", Isa::avx2, Isa::avx2).isa, Isa::avx2);
  EXPECT_TRUE(contains(resumed("amx_bf16", Isa::avx2, Isa::avx2).note, "this CPU has avx2: results may differ"));
  EXPECT_EQ(resumed("amx_bf16", Isa::avx2, Isa::amx_bf16).isa, Isa::avx2);
  EXPECT_TRUE(contains(resumed("amx_bf16", Isa::avx2, Isa::amx_bf16).note, "SCHATTEN_ISA allows avx2"));
  EXPECT_TRUE(contains(message_of<UsageError>([&] { resumed("avx9", Isa::avx2, Isa::avx2); }), "avx9"));
}

std::vector<ParameterInfo> infos() {
  return {{.name = "q", .index = 0, .shape = {512, 512}},
          {.name = "up", .index = 1, .shape = {1376, 512}},
          {.name = "again", .index = 2, .shape = {512, 512}},
          {.name = "norm", .index = 3, .role = Role::gain, .shape = {512}}};
}
Value plans_of(const char* matrix, Isa isa, at::ScalarType dtype = at::kFloat) {
  return kernel_plans({{"hidden_matrix", make_recipe(parse_toml(matrix)), 0.02},
                       {"any", make_recipe(Value::Table{{"recipe", "adamw"}}), 0.003}},
                      infos(), dtype, isa);
}

TEST(KernelPlans, SayWhatBecomesOfEveryShape) {
  const Value plans = plans_of("recipe = \"muon\"", Isa::avx2);
  ASSERT_EQ(plans.as_table().size(), 2u) << to_json(plans);
  EXPECT_EQ(plans.at("hidden_matrix 512x512"), Value("quintic Newton-Schulz, 5 steps: triangle, float32"));
  EXPECT_EQ(plans.at("hidden_matrix 1376x512"),
            Value("quintic Newton-Schulz, 5 steps: gram, float32, restart before step 3"));
  EXPECT_EQ(plans_of("recipe = \"muon\"", Isa::portable, at::kDouble).at("hidden_matrix 512x512"),
            Value("quintic Newton-Schulz, 5 steps: triangle, float64, by ATen"));
}

TEST(KernelPlans, OfASmallMatrixInsideABracketAreTheSmallOnes) {
  const std::string direction =
      "direction = { stage = \"in_subspace\", rank = 64, inner = { stage = \"orthogonalize\" } }";
  const Value plans = plans_of(direction.c_str(), Isa::avx2);
  EXPECT_EQ(plans.at("hidden_matrix 512x512"),
            Value("products in float32, quintic Newton-Schulz, 5 steps: gram, float32, restart before step 3"));
}

TEST(KernelPlans, WhatChangedIsSaidInOneSentence) {
  const Value now = plans_of("recipe = \"muon\"", Isa::avx2);
  EXPECT_EQ(changed_plans(now, now), "");
  Value before = now;
  before["hidden_matrix 512x512"] = "another way";
  const std::string note = changed_plans(before, now);
  for (const char* part : {"1 of 2", "hidden_matrix 512x512", "triangle, float32", "another way", "may differ"})
    EXPECT_TRUE(contains(note, part));
  EXPECT_NE(changed_plans(Value::table(), now), "");
}

}  // namespace
}  // namespace schatten
