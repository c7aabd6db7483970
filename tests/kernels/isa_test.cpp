#include <gtest/gtest.h>
#include <schatten/core/fields.h>
#include <schatten/kernels/isa.h>

using namespace schatten;

TEST(Isa, EveryCpuHasThePortableOneAndItsBest) {
  const auto all = available_isas();
  ASSERT_FALSE(all.empty());
  EXPECT_EQ(all.front(), Isa::portable);
  EXPECT_EQ(all.back(), best_isa());
  EXPECT_LE(this_isa(), best_isa());
}
