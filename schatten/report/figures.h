// The figures of a report. Each carries its caption, a description for screen readers, and its numbers.
#pragma once
#include <schatten/report/study.h>

#include <string>
#include <vector>

namespace schatten {

struct DataTable {
  std::vector<std::string> head;
  std::vector<std::vector<std::string>> rows;
};

struct Panel {
  std::string title;  // empty when the figure's own says it all
  std::string svg;
};

struct Figure {
  std::string id, title, caption;
  std::vector<Panel> panels;
  DataTable data;
  bool multiples = false;  // many small panels
};

/// Those for which the study has numbers, in the order of the page.
std::vector<Figure> make_figures(const Study& study);

}  // namespace schatten
