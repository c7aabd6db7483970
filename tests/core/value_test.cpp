#include <schatten/core/value.h>

#include "support.h"

namespace schatten {
namespace {

using testing::contains;
using testing::message_of;

TEST(Value, KnowsWhatItHolds) {
  EXPECT_TRUE(Value().is_null());
  EXPECT_TRUE(Value(true).is_bool());
  EXPECT_TRUE(Value(3).is_integer());
  EXPECT_TRUE(Value(3.0).is_real());
  EXPECT_TRUE(Value("x").is_string());
  EXPECT_EQ(Value(3).as_real(), 3.0);
  EXPECT_EQ(Value::array().type_name(), "an array");
}

TEST(Value, WrongTypeNamesTheOrigin) {
  Value v(0.5);
  v.origin = {"train.toml", 3, 7};
  EXPECT_EQ(message_of<UsageError>([&] { v.as_integer(); }),
            "[value] expected an integer, got a real number at train.toml:3:7");
  EXPECT_TRUE(contains(message_of<UsageError>([] { Value("x").as_table(); }), "a string"));
}

TEST(Value, MissingKeyNamesTheNearest) {
  Value v = Value::table();
  v["momentum"] = 0.9;
  const std::string message = message_of<UsageError>([&] { v.at("momentun"); });
  EXPECT_TRUE(contains(message, "There is 'momentum'"));
  EXPECT_EQ(v.find("momentun"), nullptr);
  EXPECT_EQ(Value(1).find("x"), nullptr);
}

TEST(Value, IndexAddsInOrder) {
  Value v;
  v["b"] = 1;
  v["a"]["deep"] = 2;
  v["b"] = 3;
  ASSERT_EQ(v.as_table().size(), 2u);
  EXPECT_EQ(v.as_table()[0].first, "b");
  EXPECT_EQ(v.at("b").as_integer(), 3);
  EXPECT_EQ(v.at("a").at("deep").as_integer(), 2);
}

TEST(Value, FallbacksServeAbsentAndWrongTypes) {
  Value v = Value::table();
  v["n"] = 2;
  v["s"] = "text";
  EXPECT_EQ(v.real_or("n", 9), 2.0);
  EXPECT_EQ(v.real_or("s", 9), 9.0);
  EXPECT_EQ(v.integer_or("absent", 4), 4);
  EXPECT_EQ(v.string_or("s", ""), "text");
}

TEST(Value, TablesAreEqualWhateverTheirOrder) {
  const Value a(Value::Table{{"x", 1}, {"y", 2}}), b(Value::Table{{"y", 2}, {"x", 1}});
  const Value c(Value::Table{{"x", 1}, {"y", 3}}), d(Value::Table{{"x", 1}});
  EXPECT_EQ(a, b);
  EXPECT_FALSE(a == c);
  EXPECT_FALSE(a == d);
  EXPECT_FALSE(d == a);
  EXPECT_FALSE(Value(1) == Value(1.0));
}

TEST(Value, SetPathReadsTomlElseText) {
  Value v = Value::table();
  set_path(v, "optimizer.lr", "1e-3");
  set_path(v, "optimizer.name", "htmuon");
  set_path(v, "optimizer.betas", "[0.9, 0.95]");
  set_path(v, "optimizer.steps", "7");
  set_path(v, "data", "a b = c");
  set_path(v, "when", "2024-01-01");
  set_path(v, "empty", "");
  set_path(v, "two", "1\nother = 2");
  EXPECT_EQ(find_path(v, "optimizer.lr")->as_real(), 1e-3);
  EXPECT_EQ(find_path(v, "optimizer.name")->as_string(), "htmuon");
  EXPECT_EQ(find_path(v, "optimizer.betas.1")->as_real(), 0.95);
  EXPECT_EQ(find_path(v, "optimizer.steps")->as_integer(), 7);
  EXPECT_EQ(find_path(v, "data")->as_string(), "a b = c");
  EXPECT_EQ(find_path(v, "when")->as_string(), "2024-01-01");
  EXPECT_EQ(find_path(v, "empty")->as_string(), "");
  EXPECT_EQ(find_path(v, "two")->as_string(), "1\nother = 2");
  EXPECT_EQ(find_path(v, "optimizer.lr")->origin.to_string(), "--set");
}

TEST(Value, SetPathReplacesItemsOfArrays) {
  Value v = parse_toml("[[groups]]\nlr = 1\n[[groups]]\nlr = 2\n");
  set_path(v, "groups.1.lr", "5");
  EXPECT_EQ(find_path(v, "groups.1.lr")->as_integer(), 5);
  EXPECT_EQ(find_path(v, "groups.2.lr"), nullptr);
  EXPECT_EQ(find_path(v, "groups.x"), nullptr);
  EXPECT_TRUE(contains(message_of<UsageError>([&] { set_path(v, "groups.2.lr", "5"); }), "below 2"));
}

TEST(Value, SetPathRefusesNonsense) {
  Value v = Value::table();
  v["n"] = 1;
  EXPECT_TRUE(contains(message_of<UsageError>([&] { set_path(v, "n.deep", "1"); }), "an integer"));
  EXPECT_TRUE(contains(message_of<UsageError>([&] { set_path(v, "a..b", "1"); }), "'a..b'"));
  EXPECT_TRUE(contains(message_of<UsageError>([&] { set_path(v, "", "1"); }), "''"));
}

TEST(Value, NearestFindsTyposOnly) {
  const std::vector<std::string> names{"lr", "momentum", "weight_decay", "nesterov"};
  EXPECT_EQ(nearest("momentun", names), "momentum");
  EXPECT_EQ(nearest("wieght_decay", names), "weight_decay");
  EXPECT_EQ(nearest("l", names), "lr");
  EXPECT_EQ(nearest("rl", names), "lr");
  EXPECT_EQ(nearest("dropout", names), "");
  EXPECT_EQ(nearest("", names), "");
  EXPECT_EQ(nearest(std::string(100000, 'm'), names), "");
}

TEST(Value, MergeIsDeepForTablesOnly) {
  Value base = parse_toml("a = 1\nlist = [1, 2]\n[t]\nx = 1\ny = 2\n");
  merge(base, parse_toml("list = [3]\n[t]\ny = 5\nz.w = 6\n"));
  EXPECT_EQ(base, parse_toml("a = 1\nlist = [3]\n[t]\nx = 1\ny = 5\nz.w = 6\n"));
}

}  // namespace
}  // namespace schatten
