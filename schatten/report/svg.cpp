#include <schatten/report/svg.h>

#include <algorithm>
#include <cstdio>

namespace schatten {

namespace {

std::string fixed(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", v);
  return text;
}

std::string colour_class(int colour) { return "c" + std::to_string(colour % 8); }

std::string text_at(double x, double y, std::string_view text, const std::string& css) {
  return "<text x=\"" + fixed(x) + "\" y=\"" + fixed(y) + "\" class=\"" + css + "\">" + escape(text) + "</text>";
}

std::string line_at(double x1, double y1, double x2, double y2, const std::string& css) {
  return "<line x1=\"" + fixed(x1) + "\" y1=\"" + fixed(y1) + "\" x2=\"" + fixed(x2) + "\" y2=\"" + fixed(y2) +
         "\" class=\"" + css + "\"/>";
}

std::string opening(double width, double height, const std::string& title, const std::string& description) {
  return "<svg viewBox=\"0 0 " + fixed(width) + " " + fixed(height) + "\" role=\"img\"><title>" + escape(title) +
         "</title><desc>" + escape(description) + "</desc>";
}

constexpr double kLetter = 6.1;  // mean width of a letter at the chart's font size

}  // namespace

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default:
        if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t') out += c;
        else out += "\xEF\xBF\xBD";  // control characters have no place in a page
    }
  }
  return out;
}

Axis fit_axis(std::string label, const std::vector<double>& values, bool log) {
  Axis axis{.label = std::move(label), .log = log};
  bool any = false;
  for (const double v : values) {
    if (!std::isfinite(v) || (log && v <= 0)) continue;
    axis.low = any ? std::min(axis.low, v) : v;
    axis.high = any ? std::max(axis.high, v) : v;
    any = true;
  }
  if (!any) return {.label = axis.label, .low = log ? 1.0 : 0.0, .high = log ? 10.0 : 1.0, .log = log};
  if (log) {
    const double factor = axis.high > axis.low * 1.0001 ? std::pow(axis.high / axis.low, 0.06) : 2;
    return {.label = axis.label, .low = axis.low / factor, .high = axis.high * factor, .log = true};
  }
  const double span = axis.high - axis.low, least = 1e-9 * std::max(1.0, std::abs(axis.high));
  const double margin = span > least ? 0.05 * span : std::max(0.5 * std::abs(axis.high), 1e-3);
  return {.label = axis.label, .low = axis.low - margin, .high = axis.high + margin, .log = false};
}

std::vector<double> ticks(const Axis& axis, int most) {
  std::vector<double> out;
  if (axis.log) {
    const std::vector<std::vector<double>> within{{1, 2, 3, 5, 7}, {1, 2, 5}, {1, 3}, {1}};
    const auto at = [&](const std::vector<double>& digits, int stride) {
      std::vector<double> values;
      for (int e = static_cast<int>(std::floor(std::log10(axis.low))); e <= std::log10(axis.high); ++e)
        for (const double m : digits)
          if (const double v = m * std::pow(10.0, e); e % stride == 0 && v >= axis.low && v <= axis.high)
            values.push_back(v);
      return values;
    };
    for (const auto& digits : within)
      if (out = at(digits, 1); static_cast<int>(out.size()) <= most) return out;
    for (int stride = 2; static_cast<int>(out.size()) > most; ++stride) out = at({1}, stride);
    return out;
  }
  const double rough = (axis.high - axis.low) / std::max(1, most);
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = power;
  for (const double m : {1.0, 2.0, 5.0, 10.0})
    if (m * power >= rough) {
      step = m * power;
      break;
    }
  for (double k = std::ceil(axis.low / step); k * step <= axis.high; ++k) out.push_back(k == 0 ? 0 : k * step);
  return out;
}

std::string tick_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  if (value != 0 && (std::abs(value) < 1e-3 || std::abs(value) >= 1e5)) {
    std::snprintf(text, sizeof text, "%.3g", value);
    std::string out = text;
    if (out.find('e') == std::string::npos) {
      std::snprintf(text, sizeof text, "%.0e", value);
      out = text;
    }
    for (size_t e = out.find('e'); e + 2 < out.size() && out[e + 2] == '0';) out.erase(e + 2, 1);
    if (const size_t plus = out.find('+'); plus != std::string::npos) out.erase(plus, 1);
    return out;
  }
  return text;
}

Plot::Plot(Axis x, Axis y, double width, double height)
    : x_(std::move(x)), y_(std::move(y)), width_(width), height_(height) {
  if (y_.hidden) left_ = 12;
}

void Plot::reserve(const std::vector<std::string>& labels) {
  for (const std::string& l : labels) right_ = std::max(right_, 12 + kLetter * static_cast<double>(l.size()));
}

double Plot::px(double x) const {
  const double share = x_.log ? std::log(x / x_.low) / std::log(x_.high / x_.low) : (x - x_.low) / (x_.high - x_.low);
  return left_ + share * (width_ - left_ - right_);
}
double Plot::py(double y) const {
  const double share = y_.log ? std::log(y / y_.low) / std::log(y_.high / y_.low) : (y - y_.low) / (y_.high - y_.low);
  // far outside is as good as outside, and keeps the numbers short
  return top_ + (1 - std::clamp(share, -5.0, 5.0)) * (height_ - top_ - bottom_);
}

std::string Plot::path(const Curve& curve) const {
  std::string d;
  bool pen = false;
  for (const XY& p : curve) {
    if (!std::isfinite(p.x) || !std::isfinite(p.y) || (x_.log && p.x <= 0) || (y_.log && p.y <= 0)) {
      pen = false;
      continue;
    }
    d += (pen ? "L" : "M") + fixed(px(p.x)) + " " + fixed(py(p.y));
    pen = true;
  }
  return d;
}

void Plot::band(int colour, const Curve& low, const Curve& high) {
  Curve around = high;
  around.insert(around.end(), low.rbegin(), low.rend());
  if (const std::string d = path(around); !d.empty())
    body_ += "<path d=\"" + d + "Z\" class=\"band " + colour_class(colour) + "\"/>";
}

void Plot::line(int colour, const Curve& curve, const std::string& extra_class) {
  if (const std::string d = path(curve); !d.empty())
    body_ += "<path d=\"" + d + "\" class=\"line " + colour_class(colour) +
             (extra_class.empty() ? "" : " " + extra_class) + "\"/>";
}

void Plot::dots(int colour, const Curve& points, double radius) {
  for (const XY& p : points)
    if (std::isfinite(p.x) && std::isfinite(p.y) && p.y >= y_.low && p.y <= y_.high)
      body_ += "<circle cx=\"" + fixed(px(p.x)) + "\" cy=\"" + fixed(py(p.y)) + "\" r=\"" + fixed(radius) +
               "\" class=\"dot " + colour_class(colour) + "\"/>";
}

void Plot::ring(int colour, XY p) {
  body_ += "<circle cx=\"" + fixed(px(p.x)) + "\" cy=\"" + fixed(py(p.y)) + "\" r=\"6.5\" class=\"ring " +
           colour_class(colour) + "\"/>";
}

void Plot::cross(int colour, XY p) {
  const double x = px(p.x), y = std::max(top_ + 5, py(p.y));
  body_ += line_at(x - 4, y - 4, x + 4, y + 4, "line " + colour_class(colour)) +
           line_at(x - 4, y + 4, x + 4, y - 4, "line " + colour_class(colour));
}

void Plot::vertical(double x) { body_ += line_at(px(x), top_, px(x), height_ - bottom_, "zero"); }

void Plot::end_label(int colour, XY at, const std::string& text) {
  if (std::isfinite(at.x) && std::isfinite(at.y)) labels_.push_back({colour, px(at.x) + 7, py(at.y) + 4, text});
}

std::string Plot::frame() const {
  std::string out;
  const double bottom = height_ - bottom_, right = width_ - right_;
  const int across = std::max(2, static_cast<int>((right - left_) / 55)),
            up = std::max(2, static_cast<int>((bottom - top_) / 34));
  for (const double t : y_.hidden ? std::vector<double>{} : ticks(y_, up)) {
    out += line_at(left_, py(t), right, py(t), "grid");
    out += text_at(left_ - 5, py(t) + 4, tick_text(t), "tick end");
  }
  double taken = -1e9;
  for (const double t : ticks(x_, across)) {
    const std::string text = tick_text(t);
    out += line_at(px(t), bottom, px(t), bottom + 4, "axis");
    if (px(t) - taken < kLetter * (static_cast<double>(text.size()) + 1)) continue;  // no room for its number
    out += text_at(px(t), bottom + 16, text, "tick mid");
    taken = px(t);
  }
  out += line_at(left_, bottom, right, bottom, "axis");
  out += text_at((left_ + right) / 2, height_ - 6, x_.label, "label mid");
  return out;
}

std::string Plot::labels() const {
  std::vector<Label> sorted = labels_;
  std::sort(sorted.begin(), sorted.end(), [](const Label& a, const Label& b) { return a.y < b.y; });
  for (size_t i = 1; i < sorted.size(); ++i) sorted[i].y = std::max(sorted[i].y, sorted[i - 1].y + 13);
  const double overflow = sorted.empty() ? 0 : std::max(0.0, sorted.back().y - (height_ - bottom_));
  std::string out;
  for (const Label& l : sorted) out += text_at(l.x, l.y - overflow, l.text, "series " + colour_class(l.colour));
  return out;
}

std::string Plot::str(const std::string& title, const std::string& description) const {
  std::string out = opening(width_, height_, title, description);
  out += frame();
  // A nested svg clips without an id, so a page can hold any number of charts.
  out += "<svg x=\"0\" y=\"" + fixed(top_ - 4) + "\" width=\"" + fixed(width_) + "\" height=\"" +
         fixed(height_ - bottom_ - top_ + 8) + "\" viewBox=\"0 " + fixed(top_ - 4) + " " + fixed(width_) + " " +
         fixed(height_ - bottom_ - top_ + 8) + "\">" + body_ + "</svg>";
  return out + labels() + "</svg>";
}

std::string bars(const std::vector<Bar>& rows, const std::string& title, const std::string& description) {
  double most = 0, label_width = 0, text_width = 0;
  for (const Bar& r : rows) {
    double sum = 0;
    for (const double p : r.parts) sum += std::isfinite(p) ? p : 0;
    most = std::max(most, sum);
    label_width = std::max(label_width, kLetter * static_cast<double>(r.label.size()));
    text_width = std::max(text_width, kLetter * static_cast<double>(r.text.size()));
  }
  const double width = 400, left = label_width + 10, height = 26 * static_cast<double>(rows.size()) + 6;
  const double scale = most > 0 ? (width - left - text_width - 12) / most : 0;
  std::string out = opening(width, height, title, description);
  for (size_t i = 0; i < rows.size(); ++i) {
    const double y = 26 * static_cast<double>(i) + 4;
    out += text_at(left - 6, y + 14, rows[i].label, "series end " + colour_class(rows[i].colour));
    double x = left;
    for (size_t k = 0; k < rows[i].parts.size(); ++k) {
      const double part = std::isfinite(rows[i].parts[k]) ? rows[i].parts[k] * scale : 0;
      const std::string css = static_cast<int>(k) == rows[i].accent ? "fill " + colour_class(rows[i].colour)
                                                                    : "grey" + std::to_string(k % 3);
      out += "<rect x=\"" + fixed(x) + "\" y=\"" + fixed(y) + "\" width=\"" + fixed(part) +
             "\" height=\"19\" class=\"" + css + "\"/>";
      x += part;
    }
    out += text_at(x + 6, y + 14, rows[i].text, "tick");
  }
  return out + "</svg>";
}

}  // namespace schatten
