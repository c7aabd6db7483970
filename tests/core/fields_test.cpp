#include <schatten/core/fields.h>

#include <array>
#include <cmath>

#include "support.h"

namespace schatten {
namespace {

using testing::contains;
using testing::message_of;

enum class Shape { none, jordan, moonlight };
constexpr auto enum_names(Shape) { return std::to_array<std::string_view>({"none", "jordan", "moonlight"}); }

struct Inner {
  double momentum = 0.95;
  Shape shape = Shape::jordan;
  void fields(auto&& visit) {
    visit("momentum", momentum, "decay");
    visit("shape", shape, "scale by shape");
  }
};

struct Options {
  bool nesterov = true;
  int steps = 5;
  int64_t tokens = 1;
  double lr = 0.02;
  std::string name = "muon";
  Inner inner{};
  std::vector<double> betas{0.9, 0.95};
  std::vector<Inner> groups{};
  std::vector<Shape> shapes{};
  Value extra = Value::table();
  void fields(auto&& visit) {
    visit("nesterov", nesterov, "look ahead");
    visit("steps", steps, "iterations");
    visit("tokens", tokens, "budget");
    visit("lr", lr, "rate");
    visit("name", name, "recipe");
    visit("inner", inner, "nested");
    visit("betas", betas, "two");
    visit("groups", groups, "many");
    visit("shapes", shapes, "names");
    visit("extra", extra, "as it is");
  }
};

Options read(std::string_view text) {
  Options out;
  read_fields(parse_toml(text, "train.toml"), out, "optimizer");
  return out;
}

std::string refusal(std::string_view text) {
  return message_of<UsageError>([&] { read(text); });
}

TEST(Fields, AbsentKeysKeepDefaults) { EXPECT_EQ(write_fields(read("")), write_fields(Options{})); }

TEST(Fields, ReadsEveryKind) {
  const Options o = read(
      "nesterov = false\nsteps = -7\ntokens = 3000000000\nlr = 1\nname = \"x\"\nbetas = [1, 0.5]\n"
      "shapes = [\"none\"]\nextra.k = 1\n[inner]\nshape = \"moonlight\"\n[[groups]]\nmomentum = "
      "0.5\n");
  EXPECT_FALSE(o.nesterov);
  EXPECT_EQ(o.steps, -7);
  EXPECT_EQ(o.tokens, 3000000000);
  EXPECT_EQ(o.lr, 1.0);
  EXPECT_EQ(o.betas, (std::vector<double>{1, 0.5}));
  EXPECT_EQ(o.inner.shape, Shape::moonlight);
  EXPECT_EQ(o.inner.momentum, 0.95);
  ASSERT_EQ(o.groups.size(), 1u);
  EXPECT_EQ(o.groups[0].momentum, 0.5);
  EXPECT_EQ(o.shapes, std::vector<Shape>{Shape::none});
  EXPECT_EQ(o.extra.at("k").as_integer(), 1);
}

TEST(Fields, RoundTripThroughTomlAndJson) {
  Options o;
  o.lr = 1.0 / 3;
  o.groups = {{}, {0.25, Shape::none}};
  o.extra["list"] = Value(Value::Array{1, "two"});
  const Value written = write_fields(o);
  Options again, from_json;
  read_fields(parse_toml(to_toml(written)), again, "");
  read_fields(parse_json(to_json(written)), from_json, "");
  EXPECT_EQ(write_fields(again), written);
  EXPECT_EQ(write_fields(from_json), written);
}

TEST(Fields, UnknownKeyNamesPlaceAndNearest) {
  EXPECT_EQ(refusal("lr = 1\n[inner]\n      momentun = 0.9\n"),
            "[config] expected a key of 'optimizer.inner', got the unknown key "
            "'optimizer.inner.momentun' at train.toml:3:7\n"
            "  Did you mean 'momentum'? Known: momentum, shape.");
  EXPECT_TRUE(contains(refusal("[[groups]]\nlr = 1\n"), "'optimizer.groups.lr' at train.toml:2:1"));
  const std::string far = refusal("zzzzzzzz = 1");
  EXPECT_FALSE(contains(far, "Did you mean"));
  EXPECT_TRUE(contains(far, "Known: nesterov, steps"));
}

TEST(Fields, WrongTypesAreRefusedWithTheirPlace) {
  EXPECT_EQ(refusal("\nlr = \"0.1\""),
            "[config] expected 'optimizer.lr' to be a number, got a string (\"0.1\") at train.toml:2:1");
  EXPECT_TRUE(contains(refusal("steps = 5.0"), "an integer, got a real number (5.0)"));
  EXPECT_TRUE(contains(refusal("nesterov = 1"), "true or false"));
  EXPECT_TRUE(contains(refusal("name = 1"), "a string"));
  EXPECT_TRUE(contains(refusal("inner = 1"), "'optimizer.inner' to be a table"));
  EXPECT_TRUE(contains(refusal("betas = 0.9"), "an array"));
  EXPECT_TRUE(contains(refusal("betas = [0.9,\n  true]"), "train.toml:2:3"));
}

TEST(Fields, IntegersMustFit) {
  EXPECT_TRUE(contains(refusal("steps = 2147483648"), "32 bits, got 2147483648 at train.toml:1:1"));
  EXPECT_TRUE(contains(refusal("steps = -2147483649"), "'optimizer.steps'"));
  EXPECT_EQ(read("steps = 2147483647").steps, 2147483647);
}

TEST(Fields, EnumsNameTheNearest) {
  EXPECT_TRUE(contains(refusal("inner.shape = \"jordon\""), "Did you mean 'jordan'?"));
  EXPECT_TRUE(contains(refusal("inner.shape = 2"), "an integer (2) at train.toml:1:"));
}

TEST(Fields, NanIsANumber) { EXPECT_TRUE(std::isnan(read("lr = nan").lr)); }

TEST(Fields, HelpShowsDefaults) {
  const auto rows = field_help<Options>();
  EXPECT_EQ(rows[3].name, "lr");
  EXPECT_EQ(rows[3].value, "0.02");
  EXPECT_EQ(rows[5].value, "{...}");
  EXPECT_EQ(rows[6].value, "[0.9,0.95]");
}

}  // namespace
}  // namespace schatten
