#include <gtest/gtest.h>
#include <schatten/kernels/scratch.h>

#include <cstdint>
#include <cstring>

using namespace schatten;

TEST(Scratch, IsAlignedAndDistinctAndStaysWhereItIs) {
  const Scratch outer_scope;
  Scratch scope;
  auto* const a = scope.take<float>(100);
  auto* const b = scope.take<float>(3);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a) % 64, 0u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b) % 64, 0u);
  EXPECT_GE(b - a, 100);
  std::memset(a, 1, 400);
  auto* const large = scope.take<char>(64 << 20);  // does not fit the first block: a must stay
  std::memset(large, 2, 64 << 20);
  EXPECT_EQ(reinterpret_cast<const char*>(a)[399], 1);
}

TEST(Scratch, WhatAScopeTookIsGivenBackAndHeldForTheNext) {
  const auto work = [] {
    Scratch scope;
    scope.take<char>(3 << 20);
    {
      Scratch inner;
      inner.take<char>(5 << 20);
    }
    return scope.take<char>(5 << 20);
  };
  work();
  const size_t held = scratch_bytes();
  EXPECT_GE(held, 8u << 20);
  char* const first = work();
  char* const second = work();
  EXPECT_EQ(first, second);
  EXPECT_EQ(scratch_bytes(), held) << "a warm arena does not grow";
}
