// Small corpora on disk and in memory.
#pragma once
#include <core/support.h>
#include <schatten/core/files.h>
#include <schatten/data/corpus.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <numeric>

namespace schatten::testing {

inline constexpr Split kSplits[] = {Split::train, Split::validation, Split::test};

/// Makes the folders above it.
inline void write(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

inline std::vector<int64_t> tokens_of(const TokenView& view) {
  std::vector<int64_t> tokens(static_cast<size_t>(view.size()));
  view.copy(0, view.size(), tokens.data());
  return tokens;
}

inline std::string text_of(const Corpus& corpus, Split split) { return corpus.decode(tokens_of(corpus.tokens(split))); }

/// The environment as it was, at the end.
class EnvironmentVariable {
 public:
  EnvironmentVariable(const char* name, const std::string& value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old, had_ = true;
    ::setenv(name, value.c_str(), 1);
  }
  ~EnvironmentVariable() {
    if (had_) ::setenv(name_, old_.c_str(), 1);
    else ::unsetenv(name_);
  }
  EnvironmentVariable(const EnvironmentVariable&) = delete;
  EnvironmentVariable& operator=(const EnvironmentVariable&) = delete;

 private:
  const char* name_;
  std::string old_;
  bool had_ = false;
};

}  // namespace schatten::testing
