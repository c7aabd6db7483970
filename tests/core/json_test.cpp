#include <schatten/core/value.h>

#include <cmath>
#include <limits>

#include "support.h"

namespace schatten {
namespace {

using testing::contains;
using testing::message_of;

TEST(Json, ReadsInOrder) {
  const Value v = parse_json(R"({"z":1,"a":[true,null,-2,2.5,"\u03b1"],"m":{}})", "r.json");
  EXPECT_EQ(v.as_table()[0].first, "z");
  EXPECT_TRUE(find_path(v, "a.1")->is_null());
  EXPECT_EQ(find_path(v, "a.4")->as_string(), "\xce\xb1");
  EXPECT_TRUE(find_path(v, "a.3")->is_real());
  EXPECT_EQ(find_path(v, "a.2")->origin.to_string(), "r.json");
  EXPECT_TRUE(parse_json("18446744073709551615").is_real());
}

TEST(Json, ErrorsNameThePlace) {
  EXPECT_TRUE(contains(message_of<Error>([] { parse_json("{\n \"a\": ]}", "r.json"); }), "r.json:2:7"));
  const std::string long_word = "[\"" + std::string(100000, 'x');
  EXPECT_LT(message_of<Error>([&] { parse_json(long_word); }).size(), 400u);
}

TEST(Json, RefusesHostileText) {
  const std::string hostile[] = {"",
                                 "{",
                                 "[1,]",
                                 "{\"a\":1,\"a\":2}",
                                 "1 2",
                                 "nan",
                                 "[\"\xff\"]",
                                 "1e999",
                                 "{\"a\":1}x",
                                 "/* c */ 1",
                                 "'a'",
                                 std::string("1\0", 2),
                                 std::string(100000, '['),
                                 std::string(65, '[') + std::string(65, ']')};
  for (const std::string& text : hostile)
    EXPECT_FALSE(message_of<Error>([&] { parse_json(text, "r.json"); }).empty()) << text.substr(0, 20);
  EXPECT_TRUE(parse_json(std::string(64, '[') + std::string(64, ']')).is_array());
}

TEST(Json, WritesOneLine) {
  const Value v(Value::Table{
      {"a", 1}, {"b", 1.0}, {"c", Value(Value::Array{true, Value(), "x\n\"\\"})}, {"d", Value::table()}, {"e", 1e-7}});
  EXPECT_EQ(to_json(v), R"({"a":1,"b":1.0,"c":[true,null,"x\n\"\\"],"d":{},"e":1e-07})");
  EXPECT_EQ(parse_json(to_json(v)), v);
}

TEST(Json, ListsNonFiniteKeysInTheirTable) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  const Value v(Value::Table{{"loss", std::nan("")},
                             {"ok", 1},
                             {"list", Value(Value::Array{1, -inf})},
                             {"in", Value(Value::Table{{"x", inf}})}});
  EXPECT_EQ(to_json(v), R"({"loss":null,"ok":1,"list":[1,null],"in":{"x":null,"nonfinite":["x"]},)"
                        R"("nonfinite":["loss","list"]})");
  EXPECT_EQ(to_json(Value(inf)), "null");
  const Value again = parse_json(to_json(v));
  EXPECT_EQ(to_json(again), to_json(v));
}

TEST(Json, RealsRoundTripExactly) {
  for (const double x : {0.1, 1.0 / 3, 5e-324, 1.7976931348623157e308, -0.0, 3e21})
    EXPECT_EQ(parse_json(to_json(Value(x))), Value(x)) << x;
}

TEST(Json, BytesThatAreNoTextBecomeReplacements) {
  EXPECT_EQ(parse_json(to_json(Value(std::string("a\xff")))).as_string(), "a\xef\xbf\xbd");
  EXPECT_EQ(parse_json(to_json(Value(std::string("\xe2\x82")))).as_string(), "\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(parse_json(to_json(Value("\xf0\x9f\x98\x80"))).as_string(), "\xf0\x9f\x98\x80");
  EXPECT_EQ(parse_json(to_json(Value(std::string("\0", 1)))).as_string(), std::string("\0", 1));
}

TEST(Json, PrettyKeepsFlatArraysOnOneLine) {
  const Value v = parse_json(R"({"a":[1,2],"b":{"c":[]},"d":[{"x":1}],"e":{}})");
  EXPECT_EQ(to_pretty_json(v),
            "{\n  \"a\": [1, 2],\n  \"b\": {\n    \"c\": []\n  },\n  \"d\": [\n    {\n"
            "      \"x\": 1\n    }\n  ],\n  \"e\": {}\n}\n");
  EXPECT_EQ(parse_json(to_pretty_json(v)), v);
}

}  // namespace
}  // namespace schatten
