// Golden files: where they lie and how they are listed. Cases are discovered, never named in a test.
#pragma once
#include <schatten/core/safetensors.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace schatten::testing {

/// $SCHATTEN_GOLDEN where set, else the project's own copy.
inline std::filesystem::path golden_folder() {
  const char* set = std::getenv("SCHATTEN_GOLDEN");
  return set && *set ? set : SCHATTEN_TEST_GOLDEN_DIR;
}

inline std::vector<std::filesystem::path> golden_files(const std::string& kind) {
  std::vector<std::filesystem::path> files;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(golden_folder() / kind, none))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

/// "htmuon_svd_wide": a test name.
inline std::string case_name(const std::filesystem::path& file) {
  std::string name = file.stem().string();
  std::replace_if(name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
  return name;
}

}  // namespace schatten::testing
