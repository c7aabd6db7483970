// One file per kind of figure; make_figures puts them in order. Not public.
#pragma once
#include <schatten/report/figures.h>

#include <optional>
#include <string>
#include <vector>

namespace schatten {

// loss_figures.cpp
std::optional<Figure> loss_figure(const Study& study, bool against_time);
std::optional<Figure> difference_figure(const Study& study);
/// Keys that at least one optimizer has tried several values of.
std::vector<std::string> tuned_keys(const Study& study);
Figure tuning_figure(const Study& study, const std::string& key, size_t index);

// spectra_figures.cpp: `what` is weight, momentum or update
std::optional<Figure> spectra_figure(const Study& study, const std::string& what);
std::optional<Figure> alpha_figure(const Study& study);

// cost_figures.cpp
std::optional<Figure> time_figure(const Study& study);
std::optional<Figure> memory_figure(const Study& study);

/// "" when it is not finite: a cell of a data table.
std::string number(double v, const char* format = "%.6g");
std::vector<std::string> group_names(const Study& study);
std::string joined(const std::vector<std::string>& words);

}  // namespace schatten
