#include <schatten/core/error.h>
#include <schatten/data/text_corpus_impl.h>

#include <algorithm>

namespace schatten {

namespace fs = std::filesystem;

namespace {

/// * and ? stay within a path component, ** crosses them.
bool matches(std::string_view pattern, std::string_view path) {
  if (pattern.empty()) return path.empty();
  if (pattern.starts_with("**")) {
    std::string_view rest = pattern.substr(2);
    if (rest.starts_with("/") && matches(rest.substr(1), path)) return true;  // "**/" also means no folder at all
    for (size_t i = 0; i <= path.size(); ++i)
      if (matches(rest, path.substr(i))) return true;
    return false;
  }
  if (pattern.front() == '*') {
    for (size_t i = 0; i <= path.size() && (i == 0 || path[i - 1] != '/'); ++i)
      if (matches(pattern.substr(1), path.substr(i))) return true;
    return false;
  }
  if (path.empty()) return false;
  if (pattern.front() != path.front() && !(pattern.front() == '?' && path.front() != '/')) return false;
  return matches(pattern.substr(1), path.substr(1));
}

std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied))
    if (entry.is_regular_file()) files.push_back(entry.path());
  return files;
}

/// The folder above the first component with a wildcard.
fs::path fixed_part(const fs::path& pattern) {
  fs::path fixed;
  for (const fs::path& part : pattern) {
    if (part.string().find_first_of("*?") != std::string::npos) break;
    fixed /= part;
  }
  return fixed.empty() ? fs::path(".") : fixed;
}

}  // namespace

std::vector<fs::path> list_files(const std::string& pattern) {
  std::vector<fs::path> files;
  if (fs::is_regular_file(pattern)) {
    files = {pattern};
  } else if (fs::is_directory(pattern)) {
    files = files_below(pattern);
  } else if (pattern.find_first_of("*?") != std::string::npos && fs::is_directory(fixed_part(pattern))) {
    const std::string wanted = fs::path(pattern).lexically_normal().string();
    for (const fs::path& f : files_below(fixed_part(pattern)))
      if (matches(wanted, f.lexically_normal().string())) files.push_back(f);
  }
  if (files.empty())
    fail({"data", "a file, a folder with files, or a pattern that matches some", "'" + pattern + "'",
          "Paths are relative to the current folder."});
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace schatten
