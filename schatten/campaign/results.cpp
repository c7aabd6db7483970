#include <schatten/campaign/results.h>
#include <schatten/campaign/statistics.h>
#include <schatten/train/jsonl.h>
#include <schatten/train/terminal.h>

#include <algorithm>
#include <limits>
#include <map>

namespace schatten {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::string two_figures(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2g", v);
  return text;
}

std::string three_figures(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", v);
  return text;
}

Value point_value(const Point& point) {
  Value table = Value::table();
  for (const auto& [key, value] : point) table[key] = value;
  return table;
}

/// Folders are written as seen from the campaign's own, so that it can be moved.
Value run_value(const RunOutcome& r, const std::string& directory) {
  return Value::Table{{"dir", r.plan.run_dir.lexically_relative(directory).string()},
                      {"seed", r.plan.seed},
                      {"phase", r.plan.phase == Phase::tune ? "tune" : "final"},
                      {"status", r.status},
                      {"val", r.validation},
                      {"test", std::isfinite(r.test) ? Value(r.test) : Value()},
                      {"seconds", r.seconds},
                      {"cpu_seconds", r.cpu_seconds},
                      {"state_bytes_per_parameter", r.state_bytes_per_parameter}};
}

double tuning_score(const std::vector<RunOutcome>& runs) {
  std::vector<double> losses;
  for (const RunOutcome& r : runs) losses.push_back(r.ok() && std::isfinite(r.validation) ? r.validation : kInfinity);
  return losses.empty() ? kInfinity : mean(losses);
}

template <class Get>
std::vector<double> values_of(const std::vector<RunOutcome>& runs, Get get) {
  std::vector<double> values;
  for (const RunOutcome& r : runs)
    if (r.ok()) values.push_back(get(r));
  return values;
}

/// Step at which the validation loss reaches the target, on straight lines between evaluations; infinite for never.
double steps_to(const RunOutcome& run, double target) {
  const std::pair<int64_t, double>* before = nullptr;
  for (const auto& now : run.evaluations) {
    if (now.second <= target) {
      if (!before) return static_cast<double>(now.first);
      const double share = (before->second - target) / (before->second - now.second);
      return static_cast<double>(before->first) + share * static_cast<double>(now.first - before->first);
    }
    before = &now;
  }
  return kInfinity;
}

/// The loss that every final run reached: what "steps to" is measured at.
double common_target(const std::vector<CompetitorOutcome>& outcomes) {
  double worst = -kInfinity;
  for (const CompetitorOutcome& o : outcomes)
    for (const RunOutcome& r : o.final)
      if (r.ok()) worst = std::max(worst, r.validation);
  return worst;
}

Value finite(double v) { return std::isfinite(v) ? Value(v) : Value(); }

Value final_value(const std::vector<RunOutcome>& runs, double target, double steps, bool concurrent) {
  const Estimate e = estimate(values_of(runs, [](const auto& r) { return r.test; }));
  const auto cost = values_of(runs, [&](const auto& r) { return (concurrent ? r.cpu_seconds : r.seconds) / steps; });
  std::vector<double> reached = values_of(runs, [&](const auto& r) { return steps_to(r, target); });
  return Value::Table{{"n", e.n},
                      {"mean", e.mean},
                      {"sd", finite(e.sd)},
                      {"interval", Value::Array{finite(e.low), finite(e.high)}},
                      {"val_mean", mean(values_of(runs, [](const auto& r) { return r.validation; }))},
                      {"seconds_per_step", mean(cost)},
                      {"steps_to_target", finite(median(reached))}};
}

/// Test losses of seeds that both finished.
std::pair<std::vector<double>, std::vector<double>> pairs(const CompetitorOutcome& a, const CompetitorOutcome& b) {
  std::pair<std::vector<double>, std::vector<double>> out;
  for (const RunOutcome& x : a.final)
    for (const RunOutcome& y : b.final)
      if (x.ok() && y.ok() && x.plan.seed == y.plan.seed) {
        out.first.push_back(x.test);
        out.second.push_back(y.test);
      }
  return out;
}

std::string sentence(const std::string& a, const std::string& b, const Difference& d) {
  const std::string pairs = std::to_string(d.n) + " paired seeds";
  if (d.n < 2) return a + " and " + b + " cannot be compared: " + std::to_string(d.n) + " pairs of finished runs.";
  if (!d.decided())
    return "No difference between " + a + " and " + b + " can be claimed: " + format_signed_loss(d.mean) +
           " nats per token, 95 % interval [" + format_signed_loss(d.low) + ", " + format_signed_loss(d.high) +
           "] contains zero (" + pairs + "). Differences of " + format_loss(d.detectable) +
           " or more would have been seen.";
  const bool ahead = d.mean < 0;
  return a + " is " + (ahead ? "ahead of " : "behind ") + b + " by " + format_loss(std::abs(d.mean)) +
         " nats per token on test (95 % interval " + format_loss(std::min(std::abs(d.low), std::abs(d.high))) + " to " +
         format_loss(std::max(std::abs(d.low), std::abs(d.high))) + ", " + pairs + ", p = " + two_figures(d.p) + ").";
}

Value comparison(const CompetitorOutcome& a, const CompetitorOutcome& b) {
  const auto [x, y] = pairs(a, b);
  const Difference d = paired_difference(x, y), w = welch_difference(x, y);
  return Value::Table{{"optimizer", a.competitor.name},
                      {"against", b.competitor.name},
                      {"n", d.n},
                      {"difference", d.mean},
                      {"interval", Value::Array{finite(d.low), finite(d.high)}},
                      {"p", finite(d.p)},
                      {"welch_p", finite(w.p)},
                      {"detectable", finite(d.detectable)},
                      {"decided", d.decided()},
                      {"sentence", sentence(a.competitor.name, b.competitor.name, d)}};
}

std::vector<std::string> warnings_of(const CampaignConfig& campaign, const std::vector<CompetitorOutcome>& outcomes) {
  std::vector<std::string> all;
  std::map<std::string, std::vector<std::string>> untuned;
  for (const CompetitorOutcome& o : outcomes) {
    const std::string& name = o.competitor.name;
    if (!o.best) {
      all.push_back(name + ": no point of its grid finished; nothing is claimed for it.");
      continue;
    }
    for (const std::string& key : keys_on_edge(o.competitor.grid, o.points[*o.best]))
      all.push_back(name + ": the best " + key + " lies on the edge of its grid; widen it before a claim.");
    for (const auto& [key, values] : o.competitor.grid.as_table())
      if (values.as_array().size() == 1) untuned[key].push_back(name);
    const auto bad = std::count_if(o.final.begin(), o.final.end(), [](const auto& r) { return !r.ok(); });
    if (bad > 0)
      all.push_back(name + ": " + std::to_string(bad) + " of " + std::to_string(o.final.size()) +
                    " final runs did not finish well and are left out.");
  }
  for (const auto& [key, names] : untuned) {
    std::string who;
    for (const std::string& name : names) who += (who.empty() ? "" : ", ") + name;
    all.push_back(key + " was not tuned (one value) for " + who + ".");
  }
  if (campaign.final_seeds.size() < 5)
    all.push_back(std::to_string(campaign.final_seeds.size()) +
                  " final seeds: an indication, not a claim; 5 are the least for one.");
  if (outcomes.size() > 2) all.push_back("Intervals are for one comparison each, not corrected for their number.");
  return all;
}

Value optimizer_value(const CompetitorOutcome& o, const std::string& directory, double target, double steps,
                      bool concurrent) {
  Value points = Value::array();
  for (size_t i = 0; i < o.points.size(); ++i) {
    Value runs = Value::array();
    for (const RunOutcome& r : o.tuning[i]) runs.push_back(run_value(r, directory));
    if (o.best == i)
      for (const RunOutcome& r : o.final) runs.push_back(run_value(r, directory));
    const auto diverged =
        std::count_if(o.tuning[i].begin(), o.tuning[i].end(), [](const auto& r) { return r.status == "diverged"; });
    points.push_back(Value::Table{{"point", point_value(o.points[i])},
                                  {"runs", runs},
                                  {"val_mean", finite(tuning_score(o.tuning[i]))},
                                  {"diverged", static_cast<int64_t>(diverged)}});
  }
  Value out = Value::Table{{"name", o.competitor.name}, {"recipe", o.competitor.set}, {"points", points}};
  if (!o.best) return out;
  out["best"] = point_value(o.points[*o.best]);
  out["edge"] = Value::array();
  for (const std::string& key : keys_on_edge(o.competitor.grid, o.points[*o.best])) out["edge"].push_back(key);
  out["final"] = final_value(o.final, target, steps, concurrent);
  if (!o.final.empty()) out["state_bytes_per_parameter"] = o.final.front().state_bytes_per_parameter;
  return out;
}

}  // namespace

RunOutcome read_outcome(const PlannedRun& plan) {
  RunOutcome out{.plan = plan};
  const auto path = plan.run_dir / "metrics.jsonl";
  if (!std::filesystem::exists(path)) return out;
  for (const Value& r : read_jsonl(path)) {
    const std::string event = r.string_or("event", "");
    if (event == "start") {
      out.state_bytes_per_parameter = r.real_or("state_bytes_per_parameter", NAN);
      out.corpus = r.string_or("corpus", "");
      if (const Value* shared = r.find("concurrent")) out.concurrent |= shared->as_bool();
    }
    if (event == "eval" && r.string_or("split", "") == "validation")
      out.evaluations.emplace_back(r.integer_or("step", 0), r.real_or("loss", NAN));
    if (event != "end") continue;
    out.status = r.string_or("status", "missing");
    out.validation = r.real_or("final_val", NAN);
    out.test = r.real_or("test", NAN);
    out.seconds = r.real_or("seconds", NAN);
    out.cpu_seconds = r.real_or("cpu_seconds", NAN);
  }
  return out;
}

std::optional<size_t> best_point(const std::vector<std::vector<RunOutcome>>& by_point) {
  std::optional<size_t> best;
  double least = kInfinity;
  for (size_t i = 0; i < by_point.size(); ++i) {
    const double score = tuning_score(by_point[i]);
    if (score < least) least = score, best = i;
  }
  return best;
}

std::vector<std::string> keys_on_edge(const Value& grid, const Point& best) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : best) {
    const Value* list = grid.find(key);
    if (!list || list->as_array().size() < 2) continue;
    std::vector<Value> values = list->as_array();
    const bool numbers = std::all_of(values.begin(), values.end(), [](const Value& v) { return v.is_number(); });
    if (!numbers) continue;  // names have no order, hence no edge
    const auto less = [](const Value& a, const Value& b) { return a.as_real() < b.as_real(); };
    const auto [low, high] = std::minmax_element(values.begin(), values.end(), less);
    if (value.as_real() == low->as_real() || value.as_real() == high->as_real()) keys.push_back(key);
  }
  return keys;
}

Value make_results(const CampaignConfig& campaign, const std::vector<CompetitorOutcome>& outcomes) {
  bool concurrent = false;
  for (const CompetitorOutcome& o : outcomes)
    for (const RunOutcome& r : o.final) concurrent |= r.concurrent;
  const auto base = std::find_if(outcomes.begin(), outcomes.end(),
                                 [&](const auto& o) { return o.competitor.name == campaign.baseline; });
  const double target = common_target(outcomes);
  const Value* train = campaign.base.find("train");
  const int64_t steps = train ? train->integer_or("steps", TrainOptions{}.steps) : TrainOptions{}.steps;
  Value optimizers = Value::array(), comparisons = Value::array(), verdict = Value::array(), warnings = Value::array();
  std::vector<std::vector<double>> groups;
  std::string corpus;
  for (const CompetitorOutcome& o : outcomes) {
    optimizers.push_back(optimizer_value(o, campaign.directory, target, static_cast<double>(steps), concurrent));
    groups.push_back(values_of(o.final, [](const auto& r) { return r.test; }));
    if (corpus.empty() && !o.final.empty()) corpus = o.final.front().corpus;
    if (o.competitor.name == campaign.baseline || !o.best || !base->best) continue;
    comparisons.push_back(comparison(o, *base));
    verdict.push_back(comparisons.as_array().back().at("sentence"));
  }
  for (const std::string& w : warnings_of(campaign, outcomes)) warnings.push_back(w);
  return Value::Table{{"name", campaign.name},
                      {"corpus", corpus},
                      {"steps", steps},
                      {"metric", "validation loss (nats per token)"},
                      {"claimed_on", "test"},
                      {"optimizers", optimizers},
                      {"baseline", campaign.baseline},
                      {"comparisons", comparisons},
                      {"noise_sd", finite(pooled_noise(groups))},
                      {"concurrent", concurrent},
                      {"target", finite(target)},
                      {"warnings", warnings},
                      {"verdict", verdict}};
}

namespace {

const Value* comparison_of(const Value& results, const std::string& optimizer) {
  for (const Value& c : results.at("comparisons").as_array())
    if (c.at("optimizer").as_string() == optimizer) return &c;
  return nullptr;
}

std::string rates(const Value& point) {
  std::string text;
  for (const auto& [key, value] : point.as_table()) {
    if (key == "optimizer.auxiliary.lr") continue;
    text += (text.empty() ? "" : " ") + (value.is_number() ? three_figures(value.as_real()) : to_json(value));
  }
  return text.empty() ? "-" : text;
}

std::string wrapped(const std::string& text, size_t width) {
  std::string out, rest = text;
  while (rest.size() > width) {
    size_t cut = rest.rfind(' ', width);
    while (cut != std::string::npos && cut > 0 && rest[cut + 1] == '%')
      cut = rest.rfind(' ', cut - 1);  // "95 %" stays together
    if (cut == std::string::npos || cut == 0) cut = width;
    out += rest.substr(0, cut) + "\n  ";
    rest = rest.substr(rest[cut] == ' ' ? cut + 1 : cut);
  }
  return out + rest + "\n";
}

}  // namespace

namespace {

/// Optimizers by mean test loss, best first; those without a result last.
std::vector<const Value*> best_first(const Value& results) {
  std::vector<const Value*> order;
  for (const Value& o : results.at("optimizers").as_array()) order.push_back(&o);
  const auto loss = [](const Value* o) {
    return o->find("final") ? o->at("final").real_or("mean", kInfinity) : kInfinity;
  };
  std::stable_sort(order.begin(), order.end(), [&](const Value* a, const Value* b) { return loss(a) < loss(b); });
  return order;
}

std::vector<std::string> table_row(const Value& results, const Value& o) {
  const std::string name = o.at("name").as_string();
  const Value* final = o.find("final");
  if (!final) return {name, "-", "diverged", "0", "-", "-", "-", "-"};
  std::string against = "-";
  if (const Value* c = comparison_of(results, name)) {
    const auto& range = c->at("interval").as_array();
    const auto real = [](const Value& v) { return v.is_number() ? v.as_real() : NAN; };
    against = format_signed_loss(c->real_or("difference", NAN)) + " [" + format_signed_loss(real(range[0])) + ", " +
              format_signed_loss(real(range[1])) + "]";
  }
  const double steps = final->real_or("steps_to_target", NAN);
  return {name,
          rates(o.at("best")),
          format_loss(final->real_or("mean", NAN)) + " +- " + format_loss(final->real_or("sd", NAN)),
          std::to_string(final->integer_or("n", 0)),
          against,
          std::isfinite(steps) ? three_figures(steps) : "-",
          three_figures(final->real_or("seconds_per_step", NAN)),
          three_figures(o.real_or("state_bytes_per_parameter", NAN)) + " B/p"};
}

}  // namespace

std::string format_results(const Value& results, int width) {
  std::vector<std::vector<std::string>> rows{{"optimizer", "rate", "test loss", "n",
                                              "against " + results.at("baseline").as_string() + " (paired, 95 %)",
                                              "steps to " + format_target(results.real_or("target", NAN)),
                                              results.at("concurrent").as_bool() ? "cpu s/step" : "s/step", "state"}};
  for (const Value* o : best_first(results)) rows.push_back(table_row(results, *o));
  std::vector<size_t> widths(rows[0].size(), 0);
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], display_width(row[i]));
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size() && display_width(line) + widths[i] + 2 <= static_cast<size_t>(width); ++i)
      line += (i ? "  " : "") + pad(row[i], widths[i]);
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  text += "\n";
  const auto columns = static_cast<size_t>(width) - 2;
  for (const Value& s : results.at("verdict").as_array()) text += wrapped(s.as_string(), columns);
  for (const Value& w : results.at("warnings").as_array()) text += wrapped("note: " + w.as_string(), columns);
  return text;
}

}  // namespace schatten
