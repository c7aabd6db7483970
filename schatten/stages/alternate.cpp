#include <ATen/ATen.h>
#include <schatten/stages/alternate.h>
#include <schatten/stages/checks.h>

namespace schatten {

namespace {

struct AlternateModel {
  Alternate options;
  Stage on, between;

  std::string name() const { return "alternate"; }
  Traits traits() const { return on.traits() | between.traits(); }
  StateSpec state(const Bucket& b) const {
    return {
        .name = name(),
        .children = {{.name = "on", .children = {on.state(b)}}, {.name = "between", .children = {between.state(b)}}}};
  }
  bool is_on(int64_t t) const { return t % options.every == options.phase % options.every; }
  /// How many of the steps 1 .. t are `on` steps.
  int64_t ons(int64_t t) const {
    const int64_t first = options.phase % options.every;
    if (first == 0) return t / options.every;
    return t < first ? 0 : (t - first) / options.every + 1;
  }
  Step own(const Step& step, int64_t count) const {
    Step mine = step;
    mine.step = count;
    return mine;
  }
  Tensor apply(const Tensor& u, State& s, const Step& step) const {
    const int64_t count = ons(step.step);
    if (is_on(step.step)) return on.apply(u, s.child(0).child(0), own(step, count));
    return between.apply(u, s.child(1).child(0), own(step, step.step - count));
  }
  void probe(const Tensor& h, State& s, const Step& step) const {
    const int64_t count = ons(step.step);
    on.probe(h, s.child(0).child(0), own(step, count));
    between.probe(h, s.child(1).child(0), own(step, step.step - count));
  }
  Value to_value() const {
    Value table = stage_value(name(), options);
    table["on"] = on.to_value();
    table["between"] = between.to_value();
    return table;
  }
  static std::string both(const std::string& head, const std::string& a, const std::string& b) {
    if (a.empty() && b.empty()) return "";
    return head + (a.empty() ? "-" : a) + "; between: " + (b.empty() ? "-" : b);
  }
  std::string decided(const Bucket& b, Isa isa) const {
    return both("every " + std::to_string(options.every) + " steps: ", on.decided(b, isa), between.decided(b, isa));
  }
  std::string noticed() const { return both("", on.noticed(), between.noticed()); }
};

}  // namespace

Stage alternate(const Alternate& o, Stage on, Stage between) {
  if (o.every < 1)
    fail_usage({"alternate", "every >= 1", std::to_string(o.every), "1: all steps; 5: steps 5, 10, 15, .."});
  if (o.phase < 0) fail_usage({"alternate", "phase >= 0", std::to_string(o.phase), "0: steps k, 2k, .."});
  return AlternateModel{o, std::move(on), std::move(between)};
}

}  // namespace schatten
