// Which files a path, a folder or a pattern means. Not public.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace schatten {

/// `names` are paths below `root`, with '/', sorted.
struct FileList {
  std::filesystem::path root;
  std::vector<std::string> names;
};

/// Files below `root` that match: * and ? (one byte) stay within a name, ** stands for any number
/// of folders. Wildcards leave out names that begin with a dot; ** follows no links to folders.
std::vector<std::string> find_files(const std::filesystem::path& root, const std::string& pattern);

/// What a user may write: a file, a folder (all files below it) or a pattern. None is an Error.
FileList list_files(const std::string& pattern);

}  // namespace schatten
