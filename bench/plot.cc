#include "plot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>

namespace avec::bench {
namespace {

constexpr double kWidth = 640, kHeight = 400, kLeft = 70, kRight = 170, kTop = 46, kBottom = 54;

struct Look {
  std::string_view transport, colour, marker;
};
// Okabe and Ito's palette.
constexpr Look kLooks[] = {{"tcp", "#0072B2", "circle"},   {"rdma", "#D55E00", "square"},
                           {"shm", "#009E73", "triangle"}, {"sim", "#CC79A7", "diamond"},
                           {"native", "#E69F00", "cross"}, {"memcpy", "#56B4E9", "diamond"},
                           {"", "#000000", "circle"}};

const Look& look_of(const std::string& transport) {
  for (const auto& look : kLooks) {
    if (look.transport == transport) return look;
  }
  return kLooks[std::size(kLooks) - 1];
}

struct Point {
  double x, y;
};
struct Series {
  std::string label, transport;
  bool yardstick = false;
  std::vector<Point> points;
};
struct Panel {
  std::string title, x_name, y_name;
  std::vector<Series> series;
};

std::string format(const char* pattern, auto... values) {
  char text[512];
  std::snprintf(text, sizeof text, pattern, values...);
  return text;
}

std::string escaped(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    if (c == '&')
      safe += "&amp;";
    else if (c == '<')
      safe += "&lt;";
    else if (c == '>')
      safe += "&gt;";
    else
      safe += c;
  }
  return safe;
}

std::string bytes_text(double bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB"};
  std::size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < std::size(kUnits); ++unit) bytes /= 1024;
  return format("%g %s", bytes, kUnits[unit]);
}

// One panel's points of the rows that `take` accepts, a series for each transport and target.
Panel panel_of(const std::vector<Row>& rows, Panel panel, const std::function<bool(const Row&)>& take,
               const std::function<Point(const Row&)>& point) {
  for (const auto& row : rows) {
    if (!take(row)) continue;
    const bool yardstick = row.target == "raw";
    const auto transport = row.target == "native" ? std::string("native") : row.transport;
    auto label =
        row.name.starts_with("memcpy.") ? std::string("memcpy") : transport + (yardstick ? " yardstick" : "");
    if (row.streams > 1) label += format(" x%d", static_cast<int>(row.streams));
    auto found = std::find_if(panel.series.begin(), panel.series.end(),
                              [&](const Series& one) { return one.label == label; });
    if (found == panel.series.end()) {
      panel.series.push_back({label, row.name.starts_with("memcpy.") ? "memcpy" : transport, yardstick, {}});
      found = std::prev(panel.series.end());
    }
    const auto at = point(row);
    if (at.x > 0 && at.y > 0) found->points.push_back(at);
  }
  for (auto& series : panel.series)
    std::sort(series.points.begin(), series.points.end(),
              [](const Point& a, const Point& b) { return a.x < b.x; });
  std::erase_if(panel.series, [](const Series& one) { return one.points.size() < 2; });
  return panel;
}

std::vector<Panel> panels_of(const std::vector<Row>& rows) {
  const auto time = [](const Row& row) { return Point{static_cast<double>(row.bytes), row.median}; };
  const auto speed = [](const Row& row) {
    return Point{static_cast<double>(row.message != 0 ? row.message : row.bytes), gigabytes_per_second(row)};
  };
  const auto one_stream = [](const char* name) {
    return
        [name](const Row& row) { return row.name.ends_with(name) && row.message != 0 && row.streams == 1; };
  };
  const auto named = [](const char* name) { return [name](const Row& row) { return row.name == name; }; };
  std::vector<Panel> panels{
      panel_of(rows, {"Round trip by message size, median", "message", "us", {}}, named("latency"), time),
      panel_of(rows, {"Bandwidth to the peer, one stream", "message", "GB/s", {}},
               one_stream("bandwidth.there"), speed),
      panel_of(rows, {"Bandwidth from the peer, one stream", "message", "GB/s", {}},
               one_stream("bandwidth.back"), speed),
      panel_of(rows, {"Memory read by the peer", "message", "GB/s", {}}, one_stream("bandwidth.read"), speed),
      panel_of(rows, {"Memory written by the peer", "message", "GB/s", {}}, one_stream("bandwidth.write"),
               speed),
      panel_of(rows, {"Copies to the device, pageable", "copy", "GB/s", {}}, named("copy.to_device"), speed),
      panel_of(rows, {"Copies from the device, pageable", "copy", "GB/s", {}}, named("copy.from_device"),
               speed),
      panel_of(rows, {"Copies to the device, pinned", "copy", "GB/s", {}}, named("copy.pinned.to_device"),
               speed),
      panel_of(rows, {"Copies from the device, pinned", "copy", "GB/s", {}}, named("copy.pinned.from_device"),
               speed)};
  std::erase_if(panels, [](const Panel& one) { return one.series.empty(); });
  return panels;
}

// Both axes are logarithmic.
struct Scale {
  double low, high, from, to;
  double place(double value) const {
    return from + (to - from) * (std::log(value) - std::log(low)) / (std::log(high) - std::log(low));
  }
};

std::string marker(std::string_view kind, double x, double y, std::string_view colour, bool hollow) {
  const auto style =
      format("stroke=\"%.*s\" stroke-width=\"1.6\" fill=\"%s\"", static_cast<int>(colour.size()),
             colour.data(), hollow ? "#ffffff" : std::string(colour).c_str());
  const auto polygon = [&](std::initializer_list<Point> corners) {
    std::string points;
    for (const auto& corner : corners) points += format("%.1f,%.1f ", x + corner.x, y + corner.y);
    return "<polygon points=\"" + points + "\" " + style + "/>\n";
  };
  if (kind == "square") return polygon({{-3.5, -3.5}, {3.5, -3.5}, {3.5, 3.5}, {-3.5, 3.5}});
  if (kind == "triangle") return polygon({{0, -4.5}, {4.2, 3.5}, {-4.2, 3.5}});
  if (kind == "diamond") return polygon({{0, -5}, {4, 0}, {0, 5}, {-4, 0}});
  if (kind == "cross")
    return format("<path d=\"M%.1f %.1f l7 7 m0 -7 l-7 7\" ", x - 3.5, y - 3.5) + style + "/>\n";
  return format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.6\" ", x, y) + style + "/>\n";
}

std::string line_of(double x1, double y1, double x2, double y2, const char* style) {
  return format("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", x1, y1, x2, y2, style);
}

std::string axes(const Panel& panel, const Scale& across, const Scale& up) {
  constexpr const char* kGrid = "stroke=\"#d9d9d9\" stroke-width=\"1\"";
  std::string text;
  for (double power = std::floor(std::log10(up.low)); power <= std::ceil(std::log10(up.high)); ++power) {
    for (const double step : {1.0, 2.0, 5.0}) {
      const double value = step * std::pow(10, power);
      if (value < up.low * 0.999 || value > up.high * 1.001) continue;
      const double y = up.place(value);
      text += line_of(kLeft, y, kWidth - kRight, y, kGrid);
      text += format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", kLeft - 6, y + 4, value);
    }
  }
  double last = -100;
  for (double value = 1; value <= across.high; value *= 2) {
    const double x = across.place(value);
    if (value < across.low || x - last < 52) continue;
    last = x;
    text += line_of(x, kTop, x, kHeight - kBottom, kGrid);
    text += format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", x, kHeight - kBottom + 18) +
            bytes_text(value) + "</text>\n";
  }
  text += format("<text x=\"%.1f\" y=\"22\" font-size=\"14\" font-weight=\"bold\">", kLeft) +
          escaped(panel.title) + "</text>\n";
  text += format("<text x=\"%.1f\" y=\"%.1f\">", kLeft - 40, kTop - 8) + escaped(panel.y_name) + "</text>\n";
  text += format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", (kLeft + kWidth - kRight) / 2,
                 kHeight - 12) +
          escaped(panel.x_name) + "</text>\n";
  return text;
}

std::string drawn(const Panel& panel) {
  double low_x = 1e300, high_x = 0, low_y = 1e300, high_y = 0;
  for (const auto& series : panel.series) {
    for (const auto& point : series.points) {
      low_x = std::min(low_x, point.x), high_x = std::max(high_x, point.x);
      low_y = std::min(low_y, point.y), high_y = std::max(high_y, point.y);
    }
  }
  const Scale across{low_x, high_x, kLeft + 8, kWidth - kRight - 8};
  const Scale up{low_y / 1.3, high_y * 1.3, kHeight - kBottom, kTop};
  std::string text = axes(panel, across, up);
  double legend = kTop + 6;
  for (const auto& series : panel.series) {
    const auto& look = look_of(series.transport);
    const auto stroke =
        format("stroke=\"%.*s\" stroke-width=\"2\" fill=\"none\"%s", static_cast<int>(look.colour.size()),
               look.colour.data(), series.yardstick ? " stroke-dasharray=\"6 4\"" : "");
    std::string path;
    for (const auto& point : series.points)
      path += format("%c%.1f %.1f ", path.empty() ? 'M' : 'L', across.place(point.x), up.place(point.y));
    text += "<path d=\"" + path + "\" " + stroke + "/>\n";
    for (const auto& point : series.points)
      text += marker(look.marker, across.place(point.x), up.place(point.y), look.colour, series.yardstick);
    const double x = kWidth - kRight + 14;
    text += line_of(x, legend, x + 34, legend, stroke.c_str());
    text += marker(look.marker, x + 17, legend, look.colour, series.yardstick);
    text += format("<text x=\"%.1f\" y=\"%.1f\">", x + 42, legend + 4) + escaped(series.label) + "</text>\n";
    legend += 20;
  }
  return text;
}

}  // namespace

std::string plot(const Results& results) {
  const auto panels = panels_of(results.rows);
  if (panels.empty()) return {};
  constexpr std::size_t kColumns = 2;
  const auto columns = std::min(kColumns, panels.size()), lines = (panels.size() + kColumns - 1) / kColumns;
  const double width = kWidth * static_cast<double>(columns),
               height = kHeight * static_cast<double>(lines) + 24;
  std::string text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
  text +=
      format("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%g\" height=\"%g\" viewBox=\"0 0 %g %g\" ",
             width, height, width, height) +
      "font-family=\"sans-serif\" font-size=\"12\" fill=\"#222222\">\n";
  text += format("<rect width=\"%g\" height=\"%g\" fill=\"#ffffff\"/>\n", width, height);
  for (std::size_t i = 0; i < panels.size(); ++i) {
    text += format("<g transform=\"translate(%g %g)\">\n", kWidth * static_cast<double>(i % kColumns),
                   kHeight * static_cast<double>(i / kColumns)) +
            drawn(panels[i]) + "</g>\n";
  }
  const auto said = [&](const char* key) {
    const auto value = results.machine.value(key, nlohmann::json());
    return value.is_string() ? value.get<std::string>() : value.dump();
  };
  auto caption = said("date").substr(0, 10) + ", " + said("cores") + " cores of " + said("cpu");
  if (!said("gpu").empty()) caption += ", " + said("gpu");
  if (results.machine.contains("shape") && !said("shape").empty()) caption += ", link: " + said("shape");
  text += format("<text x=\"%g\" y=\"%g\" font-size=\"11\" fill=\"#555555\">", kLeft, height - 10) +
          escaped(caption) + "</text>\n</svg>\n";
  return text;
}

std::string write_plot(const Results& results, const std::string& file) {
  const auto text = plot(results);
  if (text.empty()) return "nothing to plot: no figure was measured at two sizes";
  std::ofstream stream(file);
  stream << text;
  stream.close();
  return stream ? "" : file + " could not be written";
}

}  // namespace avec::bench
