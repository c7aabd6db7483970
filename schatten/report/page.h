// Studies as text: one self-contained HTML page, and Markdown for a terminal or a pull request.
#pragma once
#include <schatten/report/study.h>

#include <string>
#include <vector>

namespace schatten {

std::string html_page(const std::vector<Study>& studies);
std::string markdown_page(const std::vector<Study>& studies);

}  // namespace schatten
