// Charts as inline SVG: colours come from the page's style sheet, so one drawing serves light and dark.
#pragma once
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

namespace schatten {

/// For HTML and SVG text and quoted attributes.
std::string escape(std::string_view text);

struct Axis {
  std::string label;
  double low = 0, high = 1;
  bool log = false;
  bool hidden = false;  // no numbers, no grid
};
/// Covers the finite values with a small margin; a span of zero is widened.
Axis fit_axis(std::string label, const std::vector<double>& values, bool log = false);

struct XY {
  double x = NAN, y = NAN;
};
using Curve = std::vector<XY>;

/// Round numbers inside the axis, at most about `most` of them.
std::vector<double> ticks(const Axis& axis, int most);
/// "0.02", "1e-4", "1.5": as short as says the number.
std::string tick_text(double value);

/// Axes, curves, bands and labels. Colours are numbers of the page's palette; what leaves the axes is clipped.
class Plot {
 public:
  Plot(Axis x, Axis y, double width = 400, double height = 270);

  void band(int colour, const Curve& low, const Curve& high);
  void line(int colour, const Curve& curve, const std::string& extra_class = "");
  void dots(int colour, const Curve& points, double radius = 3);
  /// A cross, for what has no finite value.
  void cross(int colour, XY at);
  void ring(int colour, XY at);
  void vertical(double x);
  /// Text at the right of a curve's end; labels that would overlap are moved apart.
  void end_label(int colour, XY at, const std::string& text);
  /// Room at the right for the longest label. Call it before anything is drawn.
  void reserve(const std::vector<std::string>& labels);

  std::string str(const std::string& title, const std::string& description) const;

 private:
  struct Label {
    int colour;
    double x, y;
    std::string text;
  };
  double px(double x) const;
  double py(double y) const;
  std::string path(const Curve& curve) const;
  std::string frame() const;
  std::string labels() const;

  Axis x_, y_;
  double width_, height_, left_ = 46, right_ = 12, top_ = 10, bottom_ = 38;
  std::string body_;
  std::vector<Label> labels_;
};

/// Horizontal bars of one or more parts, each with its value as text at the end.
struct Bar {
  std::string label;
  int colour = 0;
  std::vector<double> parts;
  int accent = 0;  // the part in the row's own colour; others in shades of grey
  std::string text;
};
std::string bars(const std::vector<Bar>& rows, const std::string& title, const std::string& description);

}  // namespace schatten
