#include <schatten/core/error.h>
#include <schatten/data/list_files_impl.h>

#include <set>
#include <string_view>
#include <system_error>

namespace schatten {

namespace fs = std::filesystem;

namespace {

bool has_wildcard(const std::string& text) { return text.find_first_of("*?") != std::string::npos; }
bool is_hidden(const std::string& name) { return name.starts_with('.'); }

/// Goes back to the last star only, so no pattern takes more than |pattern| * |name| steps.
bool matches(std::string_view pattern, const std::string& name) {
  if (is_hidden(name) && !pattern.starts_with('.')) return false;
  constexpr size_t none = std::string_view::npos;
  size_t p = 0, star = none, resume = 0;
  for (size_t n = 0; n < name.size();) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != none) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == none;
}

/// Walks only the folders that the pattern can reach.
class Finder {
 public:
  Finder(fs::path root, const std::string& pattern) : root_(std::move(root)) {
    for (const fs::path& part : fs::path(pattern))
      if (parts_.empty() || part != "**" || parts_.back() != "**") parts_.push_back(part.string());
    if (!parts_.empty() && parts_.back() == "**") parts_.push_back("*");
    if (!parts_.empty()) expand("", 0);
  }
  std::vector<std::string> names() const { return {names_.begin(), names_.end()}; }

 private:
  void expand(const std::string& folder, size_t at) {
    if (parts_[at] == "**") return expand_any_depth(folder, at);
    for (const auto& entry : fs::directory_iterator(root_ / folder)) {
      const std::string name = entry.path().filename().string();
      if (!matches(parts_[at], name)) continue;
      const bool last = at + 1 == parts_.size();
      if (last && entry.is_regular_file()) names_.insert(folder + name);
      if (!last && entry.is_directory()) expand(folder + name + "/", at + 1);
    }
  }
  void expand_any_depth(const std::string& folder, size_t at) {
    expand(folder, at + 1);
    for (const auto& entry : fs::directory_iterator(root_ / folder)) {
      const std::string name = entry.path().filename().string();
      if (!is_hidden(name) && !entry.is_symlink() && entry.is_directory()) expand_any_depth(folder + name + "/", at);
    }
  }

  fs::path root_;
  std::vector<std::string> parts_;
  std::set<std::string> names_;  // sorted; two ** may reach a file in two ways
};

/// Splits a pattern before its first part with a wildcard.
FileList list_matching(const std::string& pattern) {
  fs::path root, rest;
  for (const fs::path& part : fs::path(pattern).lexically_normal())
    (rest.empty() && !has_wildcard(part.string()) ? root : rest) /= part;
  std::error_code ignored;
  if (root.empty()) root = ".";
  if (rest.empty() || !fs::is_directory(root, ignored)) return {};
  return {root, find_files(root, rest.string())};
}

}  // namespace

std::vector<std::string> find_files(const fs::path& root, const std::string& pattern) {
  try {
    return Finder(root, pattern).names();
  } catch (const fs::filesystem_error& e) {
    fail({e.path1().string(), "a readable folder", e.code().message(), ""});
  }
}

FileList list_files(const std::string& pattern) {
  const fs::path path(pattern);
  std::error_code ignored;
  FileList files;
  if (fs::is_regular_file(path, ignored)) {
    files = {path.parent_path(), {path.filename().string()}};
  } else if (fs::is_directory(path, ignored)) {
    files = {path, find_files(path, "**")};
  } else if (has_wildcard(pattern)) {
    files = list_matching(pattern);
  }
  if (files.names.empty())
    fail({"data.source", "a file, a folder with files, or a pattern that matches some", "'" + pattern + "'",
          "Paths are relative to the current folder; names that begin with a dot do not count."});
  return files;
}

}  // namespace schatten
