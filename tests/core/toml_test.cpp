#include <schatten/core/files.h>
#include <schatten/core/value.h>

#include <cmath>
#include <limits>

#include "support.h"

namespace schatten {
namespace {

using testing::contains;
using testing::message_of;

std::string place(const Value& v) { return v.origin.to_string(); }

TEST(Toml, RemembersWhereKeysStand) {
  const Value v = parse_toml("a = 1\n\n  [optimizer]\n    lr = 0.1\n    betas = [0.9,\n 0.95]\n", "t.toml");
  EXPECT_EQ(place(v.at("a")), "t.toml:1:1");
  EXPECT_EQ(place(v.at("optimizer")), "t.toml:3:4");
  EXPECT_EQ(place(*find_path(v, "optimizer.lr")), "t.toml:4:5");
  EXPECT_EQ(place(*find_path(v, "optimizer.betas.0")), "t.toml:5:14");
  EXPECT_EQ(place(*find_path(v, "optimizer.betas.1")), "t.toml:6:2");
}

TEST(Toml, PlacesNestedAndInlineKeys) {
  const Value v = parse_toml("x = {y = 1, z.w = 2}\n[[g]]\nlr = 1\n[[g]]\nlr = 2\n", "t.toml");
  EXPECT_EQ(place(*find_path(v, "x.y")), "t.toml:1:6");
  EXPECT_EQ(place(*find_path(v, "x.z.w")), "t.toml:1:15");
  EXPECT_EQ(place(*find_path(v, "g.1.lr")), "t.toml:5:1");
}

TEST(Toml, KeepsTheOrderOfTheText) {
  const Value v = parse_toml("zebra = 1\napple = 2\n[m]\nz = 1\na = 2\n[b]\n");
  std::string keys;
  for (const auto& [key, value] : v.as_table()) keys += key + " ";
  EXPECT_EQ(keys, "zebra apple m b ");
  EXPECT_EQ(v.at("m").as_table()[0].first, "z");
}

TEST(Toml, ErrorsNameFileLineAndColumn) {
  const std::string message = message_of<UsageError>([] { parse_toml("a = 1\nb = = 2\n", "bad.toml"); });
  EXPECT_TRUE(contains(message, "bad.toml:2:5"));
  EXPECT_TRUE(contains(message_of<UsageError>([] { parse_toml("a = 1\na = 2\n", "bad.toml"); }), "bad.toml:2"));
  EXPECT_TRUE(contains(message_of<UsageError>([] { parse_toml("d = 2024-01-01", "bad.toml"); }), "a date"));
  EXPECT_TRUE(contains(message_of<UsageError>([] { parse_toml("d = =", ""); }), "<text>:1:5"));
}

TEST(Toml, RefusesDeepNesting) {
  const std::string brackets = "a = " + std::string(200, '[') + std::string(200, ']');
  EXPECT_TRUE(contains(message_of<UsageError>([&] { parse_toml(brackets); }), "64 nested"));
  const std::string endless = "a = " + std::string(100000, '[');
  message_of<UsageError>([&] { parse_toml(endless); });
}

TEST(Toml, LoadsFilesAndNamesMissingOnes) {
  const testing::TemporaryFolder folder;
  write_file_durably(folder / "t.toml", "a = 1\n");
  EXPECT_EQ(place(load_toml(folder / "t.toml").at("a")), (folder / "t.toml").string() + ":1:1");
  EXPECT_TRUE(contains(message_of<UsageError>([&] { load_toml(folder / "none.toml"); }), "none.toml"));
}

TEST(Toml, WritesSectionsAfterLines) {
  const Value v = parse_toml("[[g]]\nlr = 1\nsub.x = [{a = 1}, 2]\n[[g]]\n[a.b]\nx = 1\n[c]\n");
  EXPECT_EQ(to_toml(v), "[[g]]\nlr = 1\n\n[g.sub]\nx = [{ a = 1 }, 2]\n\n[[g]]\n\n[a.b]\nx = 1\n\n[c]\n");
}

TEST(Toml, WhatIsWrittenReadsBackEqual) {
  const Value v = parse_toml(R"(
name = "quotes \" and \\ and \n newline, \u03b1 \u0001 \u007f"
"odd key.with dot" = true
"" = -3
list = [1, 2.0, "x", [], [[1.5]], {}, {a = {b = []}}]
big = 9223372036854775807
[table]
[table.deep."q k"]
x = 1e300
[[many]]
[[many.inner]]
a = 1
[[many.inner]]
[[many]]
z = "end"
)");
  EXPECT_EQ(parse_toml(to_toml(v)), v) << to_toml(v);
}

TEST(Toml, RealsRoundTripExactlyAndStayReal) {
  for (const double x : {1.0, 0.1, -0.0, 1e22, 1.0 / 3, 5e-324, 1.7976931348623157e308, 123456789.0}) {
    const Value back = parse_toml(to_toml(Value(Value::Table{{"x", x}}))).at("x");
    ASSERT_TRUE(back.is_real()) << x;
    EXPECT_EQ(back.as_real(), x);
    EXPECT_EQ(std::signbit(back.as_real()), std::signbit(x));
  }
  EXPECT_EQ(to_toml(Value(Value::Table{{"a", 1.0}, {"b", 0.1}, {"c", 1}})), "a = 1.0\nb = 0.1\nc = 1\n");
}

TEST(Toml, WritesNonFiniteAndSkipsNothing) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  const Value v(Value::Table{{"a", inf}, {"b", -inf}, {"c", std::nan("")}, {"d", Value()}});
  EXPECT_EQ(to_toml(v), "a = inf\nb = -inf\nc = nan\n");
  EXPECT_TRUE(std::isnan(parse_toml(to_toml(v)).at("c").as_real()));
  message_of<UsageError>([] { to_toml(Value(Value::Table{{"a", Value(Value::Array{Value()})}})); });
}

TEST(Toml, BytesThatAreNoTextStillGiveAFileThatReads) {
  const Value v(Value::Table{{"a", std::string("x\xff\xc0\x80\xed\xa0\x80y")}});
  EXPECT_EQ(parse_toml(to_toml(v)).at("a").as_string().front(), 'x');
}

}  // namespace
}  // namespace schatten
