#include <schatten/report/figures_impl.h>

#include <cmath>
#include <cstdio>

namespace schatten {

std::string number(double v, const char* format) {
  if (!std::isfinite(v)) return "";
  char text[40];
  std::snprintf(text, sizeof text, format, v);
  return text;
}

std::vector<std::string> group_names(const Study& study) {
  std::vector<std::string> names;
  for (const StudyGroup& g : study.groups) names.push_back(g.name);
  return names;
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& w : words) out += (out.empty() ? "" : ", ") + w;
  return out;
}

std::vector<Figure> make_figures(const Study& study) {
  std::vector<Figure> figures;
  const auto add = [&](std::optional<Figure> f) {
    if (f) figures.push_back(std::move(*f));
  };
  add(loss_figure(study, false));
  add(loss_figure(study, true));
  add(difference_figure(study));
  if (study.claims()) {
    const auto keys = tuned_keys(study);
    for (size_t i = 0; i < keys.size(); ++i) figures.push_back(tuning_figure(study, keys[i], i));
  }
  add(spectra_figure(study, "weight"));
  add(spectra_figure(study, "momentum"));
  add(spectra_figure(study, "update"));
  add(alpha_figure(study));
  add(time_figure(study));
  add(memory_figure(study));
  return figures;
}

}  // namespace schatten
