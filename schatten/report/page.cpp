#include <schatten/core/files.h>
#include <schatten/report/figures.h>
#include <schatten/report/page.h>
#include <schatten/report/style.h>
#include <schatten/report/svg.h>
#include <schatten/train/terminal.h>

#include <algorithm>
#include <set>

namespace schatten {

namespace {

using Row = std::vector<std::string>;

double real(const Value& v) { return v.is_number() ? v.as_real() : NAN; }
std::string three_figures(double v, const std::string& unit = "") {
  if (!std::isfinite(v)) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", v);
  return text + unit;
}

// ---- what is said, the same in HTML and Markdown -----------------------------------------------

struct Sentence {
  std::string text;
  bool decided = false;
};

std::vector<Sentence> verdict_of(const Study& s) {
  std::vector<Sentence> out;
  if (!s.claims()) {
    out.push_back({s.groups.size() == 1 ? "One run. Nothing is compared, so nothing is claimed."
                                        : "These runs are laid side by side. Nothing is claimed: that takes several "
                                          "seeds per optimizer, and rates tuned alike (schatten campaign)."});
    return out;
  }
  for (const Value& c : s.results.at("comparisons").as_array())
    out.push_back({c.string_or("sentence", ""), c.at("decided").is_bool() && c.at("decided").as_bool()});
  if (out.empty()) out.push_back({"One optimizer: nothing is compared."});
  return out;
}

std::vector<std::string> notes_of(const Study& s) {
  std::vector<std::string> out;
  if (!s.claims()) return out;
  const double noise = s.results.real_or("noise_sd", NAN);
  if (std::isfinite(noise))
    out.push_back("Noise between seeds: " + format_loss(noise) +
                  " nats per token (standard deviation, pooled over the optimizers).");
  for (const Value& w : s.results.at("warnings").as_array()) out.push_back(w.as_string());
  return out;
}

/// The chosen value of each key that was tuned.
std::string best_rates(const Value& optimizer) {
  std::string text;
  for (const auto& [key, value] : optimizer.at("best").as_table()) {
    const auto& points = optimizer.at("points").as_array();
    const bool tuned = std::any_of(points.begin(), points.end(), [&, &name = key, &best = value](const Value& p) {
      const Value* other = p.at("point").find(name);
      return other && !(*other == best);
    });
    if (!tuned) continue;
    const std::string tail = key.starts_with("optimizer.") ? key.substr(10) : key;
    text += (text.empty() ? "" : ", ") + tail + " " +
            (value.is_number()   ? tick_text(value.as_real())
             : value.is_string() ? value.as_string()
                                 : to_json(value));
  }
  return text.empty() ? "-" : text;
}

struct Summary {
  Row head;
  std::vector<std::pair<size_t, Row>> rows;  // group, cells; best first
};

Summary claims_summary(const Study& s) {
  const Value& r = s.results;
  const std::string baseline = r.at("baseline").as_string(), cpu = s.concurrent() ? "CPU s/step" : "s/step";
  Summary out{.head = {"optimizer", "test loss", "n", "95 % interval", "against " + baseline + " (paired)",
                       "steps to " + format_target(r.real_or("target", NAN)), cpu, "state", "tuned"}};
  std::vector<std::pair<double, std::pair<size_t, Row>>> keyed;
  for (size_t i = 0; i < r.at("optimizers").as_array().size(); ++i) {
    const Value& o = r.at("optimizers").as_array()[i];
    const Value* final = o.find("final");
    if (!final) {
      keyed.push_back({INFINITY, {i, {o.at("name").as_string(), "diverged", "0", "-", "-", "-", "-", "-", "-"}}});
      continue;
    }
    std::string against = "-";
    for (const Value& c : r.at("comparisons").as_array())
      if (c.at("optimizer").as_string() == o.at("name").as_string()) {
        const auto& interval = c.at("interval").as_array();
        against = format_signed_loss(c.real_or("difference", NAN)) + " [" + format_signed_loss(real(interval[0])) +
                  ", " + format_signed_loss(real(interval[1])) + "]";
      }
    const auto& interval = final->at("interval").as_array();
    const double steps = final->real_or("steps_to_target", NAN);
    keyed.push_back({final->real_or("mean", INFINITY),
                     {i,
                      {o.at("name").as_string(),
                       format_loss(final->real_or("mean", NAN)) + " \xC2\xB1 " + format_loss(final->real_or("sd", NAN)),
                       std::to_string(final->integer_or("n", 0)),
                       format_loss(real(interval[0])) + " to " + format_loss(real(interval[1])), against,
                       std::isfinite(steps) ? three_figures(steps) : "not reached",
                       three_figures(final->real_or("seconds_per_step", NAN)),
                       three_figures(o.real_or("state_bytes_per_parameter", NAN), " B/param"), best_rates(o)}}});
  }
  std::stable_sort(keyed.begin(), keyed.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (auto& [loss, row] : keyed) out.rows.push_back(std::move(row));
  return out;
}

Summary runs_summary(const Study& s) {
  Summary out{.head = {"run", "status", "best validation loss", "final", "test", "steps", "tokens/s", "state", "seed"}};
  std::vector<std::pair<double, std::pair<size_t, Row>>> keyed;
  for (size_t i = 0; i < s.groups.size(); ++i) {
    const Run& r = s.groups[i].runs.at(0);
    const double best = r.end.real_or("best_val", NAN), speed = r.end.real_or("tokens_per_second", NAN);
    keyed.push_back(
        {std::isfinite(best) ? best : INFINITY,
         {i,
          {s.groups[i].name, r.status(), format_loss(best), format_loss(r.end.real_or("final_val", NAN)),
           format_loss(r.test()),
           std::to_string(r.end.integer_or("step", r.evaluations.empty() ? 0 : r.evaluations.back().step)),
           std::isfinite(speed) ? format_throughput(speed) : "-",
           three_figures(r.start.real_or("state_bytes_per_parameter", NAN), " B/param"), std::to_string(r.seed)}}});
  }
  std::stable_sort(keyed.begin(), keyed.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (auto& [loss, row] : keyed) out.rows.push_back(std::move(row));
  return out;
}

Summary summary_of(const Study& s) { return s.claims() ? claims_summary(s) : runs_summary(s); }

/// Settings of one run per group: those that differ with a column per group, and those that agree.
struct Settings {
  std::vector<Row> differ, agree;
};

Settings settings_of(const Study& s) {
  std::vector<std::string> keys;
  std::vector<std::vector<std::pair<std::string, std::string>>> flat;
  for (const StudyGroup& g : s.groups) {
    flat.push_back(g.runs.empty() ? decltype(flat)::value_type{} : flatten(g.runs[0].config));
    for (const auto& [key, value] : flat.back())
      if (key != "name" && !(key == "seed" && s.claims()) && std::find(keys.begin(), keys.end(), key) == keys.end())
        keys.push_back(key);
  }
  Settings out;
  for (const std::string& key : keys) {
    Row row{key};
    std::set<std::string> values;
    for (size_t g = 0; g < flat.size(); ++g) {
      const auto it = std::find_if(flat[g].begin(), flat[g].end(), [&](const auto& kv) { return kv.first == key; });
      row.push_back(it == flat[g].end() ? "-" : it->second);
      if (!s.groups[g].runs.empty()) values.insert(row.back());
    }
    if (values.size() > 1) out.differ.push_back(std::move(row));
    else out.agree.push_back({key, values.empty() ? "-" : *values.begin()});
  }
  return out;
}

const Run* any_run(const Study& s) {
  for (const StudyGroup& g : s.groups)
    if (!g.runs.empty()) return &g.runs[0];
  return nullptr;
}

std::vector<Row> machine_of(const Study& s) {
  const Run* run = any_run(s);
  if (!run) return {};
  std::vector<Row> rows;
  for (const auto& [key, value] : flatten(run->environment)) {
    if (key == "command") continue;
    std::string text = key == "memory_bytes" ? format_bytes(static_cast<int64_t>(std::atoll(value.c_str()))) : value;
    bool same = true;
    for (const StudyGroup& g : s.groups)
      for (const Run& r : g.runs)
        if (const Value* other = r.environment.find(key);
            other && (other->is_string() ? other->as_string() : to_json(*other)) != value)
          same = false;
    rows.push_back({key == "memory_bytes" ? "memory" : key, same ? text : text + " (others differ)"});
  }
  return rows;
}

std::string shell_word(const std::string& word) {
  const bool plain = !word.empty() && word.find_first_not_of(
                                          "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=,:@%+") ==
                                          std::string::npos;
  if (plain) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

std::vector<std::string> commands_of(const Study& s) {
  if (s.claims())
    return {"schatten campaign " + shell_word((s.folder / "campaign.toml").string()),
            "schatten report " + shell_word(s.folder.string())};
  std::vector<std::string> out;
  for (const StudyGroup& g : s.groups)
    if (const Value* command = g.runs[0].environment.find("command"); command && command->is_array()) {
      std::string line;
      for (const Value& word : command->as_array()) line += (line.empty() ? "" : " ") + shell_word(word.as_string());
      out.push_back(line);
    }
  return out;
}

std::string subtitle_of(const Study& s) {
  const Run* run = any_run(s);
  if (!run) return "no finished run";
  const auto text = [&](const char* key) {
    const Value* v = find_path(run->config, key);
    return !v ? std::string("?") : v->is_string() ? v->as_string() : to_json(*v);
  };
  std::string out = text("model.preset") + ", " + format_count(run->start.integer_or("parameters", 0)) +
                    " parameters, on " + text("data.source") + ", " + text("train.steps") + " steps";
  const std::string corpus = run->start.string_or("corpus", "");
  return out + (corpus.empty() ? "" : ", corpus " + corpus);
}

// ---- HTML ------------------------------------------------------------------------------------------

std::string cells(const Row& row, const char* tag, const std::string& css = "") {
  std::string out = "<tr>";
  for (const std::string& cell : row) out += "<" + std::string(tag) + css + ">" + escape(cell) + "</" + tag + ">";
  return out + "</tr>";
}

std::string table(const Row& head, const std::vector<Row>& rows, const std::string& css = "") {
  std::string out = "<div class=\"scroll\"><table>";
  if (!head.empty()) out += "<thead>" + cells(head, "th") + "</thead>";
  out += "<tbody>";
  for (const Row& r : rows) out += cells(r, "td", css);
  return out + "</tbody></table></div>\n";
}

std::string csv(const DataTable& data) {
  std::string out;
  const auto line = [&](const Row& row) {
    for (size_t i = 0; i < row.size(); ++i) {
      const bool quote = row[i].find_first_of(",\"\n") != std::string::npos;
      std::string cell;
      for (const char c : row[i]) cell += c == '"' ? "\"\"" : std::string(1, c);
      out += (i ? "," : "") + (quote ? "\"" + cell + "\"" : cell);
    }
    out += "\n";
  };
  line(data.head);
  for (const Row& r : data.rows) line(r);
  return out;
}

std::string percent_encoded(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.' || c == '_' || c == ',') {
      out += c;
      continue;
    }
    char code[4];
    std::snprintf(code, sizeof code, "%%%02X", static_cast<unsigned>(static_cast<unsigned char>(c)));
    out += code;
  }
  return out;
}

std::string figure(const Figure& f, const std::string& id) {
  std::string out = "<figure id=\"" + id + "\"" + (f.multiples ? " class=\"wide multiples\"" : "") + "><h3>" +
                    escape(f.title) + "</h3><div class=\"panels\">\n";
  for (const Panel& p : f.panels)
    out += "<div>" + (p.title.empty() ? "" : "<h4>" + escape(p.title) + "</h4>") + p.svg + "</div>\n";
  out += "</div><figcaption>" + escape(f.caption) + "</figcaption>";
  out += "<details><summary>Numbers (" + std::to_string(f.data.rows.size()) + " rows)</summary><p><a download=\"" +
         escape(f.id) + ".csv\" href=\"data:text/csv;charset=utf-8," + percent_encoded(csv(f.data)) +
         "\">Download as CSV</a></p>" + table(f.data.head, f.data.rows) + "</details>";
  return out + "</figure>\n";
}

std::string summary_html(const Study& s) {
  const Summary summary = summary_of(s);
  std::string out = "<div class=\"scroll\"><table><thead>" + cells(summary.head, "th") + "</thead><tbody>";
  for (const auto& [group, row] : summary.rows) {
    std::string line = cells(row, "td");
    line.insert(8, "<span class=\"swatch c" + std::to_string(group % 8) + "\"></span>");  // after "<tr><td>"
    out += line;
  }
  return out + "</tbody></table></div>\n";
}

std::string study_html(const Study& s, size_t index, bool alone) {
  const std::string level = alone ? "h1" : "h2";
  std::string out = "<section><header><" + level + ">" + escape(s.title) + "</" + level + "><p class=\"soft\">" +
                    escape(subtitle_of(s)) + "</p></header>\n<ul class=\"verdict\">";
  for (const Sentence& v : verdict_of(s))
    out += std::string("<li") + (v.decided ? " class=\"decided\"><b>a difference</b>" : "><b>nothing decided</b>") +
           escape(v.text) + "</li>\n";
  out += "</ul>\n" + std::string("<h2>") + (s.claims() ? "Results, best first" : "Runs, best first") + "</h2>\n" +
         summary_html(s);
  const auto notes = notes_of(s);
  if (!notes.empty()) {
    out += "<ul class=\"notes\">";
    for (const std::string& n : notes) out += "<li>" + escape(n) + "</li>";
    out += "</ul>\n";
  }
  out += "<h2>Figures</h2>\n<div class=\"figures\">\n";
  for (const Figure& f : make_figures(s)) out += figure(f, f.id + (index ? "-" + std::to_string(index) : ""));
  out += "</div>\n<h2>Samples</h2>\n<div class=\"figures\">";
  for (const StudyGroup& g : s.groups)
    if (!g.runs.empty() && !g.runs[0].sample.empty())
      out += "<div><h3>" + escape(g.name) + "</h3><pre>" + escape(g.runs[0].sample) + "</pre></div>\n";
  const Settings settings = settings_of(s);
  Row head{"setting"};
  for (const StudyGroup& g : s.groups) head.push_back(g.name);
  out += "</div>\n<h2>Settings that differ</h2>\n";
  out += settings.differ.empty() ? "<p>None.</p>" : table(head, settings.differ);
  out += "<details><summary>Settings that agree (" + std::to_string(settings.agree.size()) + ")</summary>" +
         table({}, settings.agree) + "</details>\n";
  out += "<h2>Machine and versions</h2>\n" + table({}, machine_of(s), " class=\"long\"");
  out += "<h2>Reproduce</h2>\n<pre>";
  for (const std::string& c : commands_of(s)) out += escape(c) + "\n";
  return out + "</pre></section>\n";
}

// ---- Markdown --------------------------------------------------------------------------------------

std::string markdown_cell(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '|' ? "\\|" : c == '\n' ? " " : std::string(1, c);
  return out;
}

std::string markdown_table(const Row& head, const std::vector<Row>& rows) {
  std::string out = "|", rule = "|";
  for (const std::string& h : head) {
    out += " " + markdown_cell(h) + " |";
    rule += "---|";
  }
  out += "\n" + rule + "\n";
  for (const Row& r : rows) {
    out += "|";
    for (const std::string& c : r) out += " " + markdown_cell(c) + " |";
    out += "\n";
  }
  return out + "\n";
}

}  // namespace

std::string html_page(const std::vector<Study>& studies) {
  std::string title = studies[0].title;
  if (studies.size() > 1) title += " and others";
  std::string out =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\">\n<title>" +
      escape(title) + " - Schatten</title>\n<style>" + kStyle + "</style></head>\n<body><main>\n";
  for (size_t i = 0; i < studies.size(); ++i) out += study_html(studies[i], i, studies.size() == 1);
  return out + "</main></body></html>\n";
}

std::string markdown_page(const std::vector<Study>& studies) {
  std::string out;
  for (const Study& s : studies) {
    out += "# " + s.title + "\n\n" + subtitle_of(s) + "\n\n";
    for (const Sentence& v : verdict_of(s)) out += "- " + v.text + "\n";
    const Summary summary = summary_of(s);
    std::vector<Row> rows;
    for (const auto& [group, row] : summary.rows) rows.push_back(row);
    out += "\n" + markdown_table(summary.head, rows);
    for (const std::string& n : notes_of(s)) out += "- " + n + "\n";
    Row head{"setting"};
    for (const StudyGroup& g : s.groups) head.push_back(g.name);
    if (const Settings settings = settings_of(s); !settings.differ.empty())
      out += "\n" + markdown_table(head, settings.differ);
    out += "```sh\n";
    for (const std::string& c : commands_of(s)) out += c + "\n";
    out += "```\n\n";
  }
  return out;
}

}  // namespace schatten
