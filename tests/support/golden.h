// Golden files: where they lie and how they are listed. Cases are discovered, never named in a test.
#pragma once
#include <schatten/core/safetensors.h>
#include <schatten/core/value.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
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

/// Says how close a recording was met; also as a JSON line where SCHATTEN_PARITY_TABLE names a file: docs/parity.md.
inline void report_parity(const std::filesystem::path& file, const TensorFile& recording, at::ScalarType dtype,
                          double error, double allowed) {
  std::cout << "    largest error " << error << " of " << allowed << " allowed\n";
  const char* table = std::getenv("SCHATTEN_PARITY_TABLE");
  if (!table || !*table) return;
  const Value line = Value::Table{{"case", file.stem().string()},
                                  {"optimizer", recording.metadata.at("optimizer")},
                                  {"source", recording.metadata.at("source")},
                                  {"dtype", dtype_name(dtype)},
                                  {"error", error},
                                  {"allowed", allowed}};
  std::ofstream(table, std::ios::app) << to_json(line) << "\n";
}

}  // namespace schatten::testing
