// text:PATH. One file is cut at line ends (90 % train, 5 % validation, 5 % test); of several each belongs to one split
// by the hash of its path below their common folder.
#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <schatten/data/text_corpus_impl.h>

#include <algorithm>

namespace schatten {

namespace fs = std::filesystem;

namespace {

std::string read_utf8(const fs::path& path) {
  std::string text = read_file(path);
  const size_t bad = first_invalid_utf8(text);
  if (bad != std::string::npos)
    fail({path.string(), "UTF-8 text", "another byte at offset " + std::to_string(bad),
          "Convert it: iconv -f latin1 -t utf-8."});
  return text;
}

size_t line_end_after(const std::string& text, size_t at) {
  const size_t end = text.find('\n', at);
  return end == std::string::npos ? text.size() : end + 1;
}

std::array<std::string, 3> cut(const std::string& text) {
  const size_t first = line_end_after(text, text.size() * 90 / 100);
  const size_t second = line_end_after(text, std::max(first, text.size() * 95 / 100));
  return {text.substr(0, first), text.substr(first, second - first), text.substr(second)};
}

fs::path common_folder(const std::vector<fs::path>& files) {
  fs::path common = files.front().parent_path();
  for (const fs::path& f : files)
    while (!common.empty() && f.lexically_relative(common).string().starts_with("..")) common = common.parent_path();
  return common;
}

}  // namespace

std::shared_ptr<const Corpus> open_text(const std::string& pattern) {
  const auto files = list_files(pattern);
  std::array<std::string, 3> splits;
  if (files.size() == 1) {
    splits = cut(read_utf8(files.front()));
  } else {
    const fs::path common = common_folder(files);
    for (const fs::path& f : files) {
      std::string& split = splits[static_cast<size_t>(split_of(f.lexically_relative(common).generic_string()))];
      split += read_utf8(f);
      if (!split.empty() && split.back() != '\n') split += '\n';
    }
  }
  for (size_t i = 0; i < 3; ++i)
    if (splits[i].empty())
      fail({"text:" + pattern, "text for train, validation and test",
            "nothing for " + std::string(to_string(static_cast<Split>(i))) + " in " + std::to_string(files.size()) +
                (files.size() == 1 ? " file" : " files"),
            files.size() == 1 ? "The file is empty or a single line." : "Add files, or join them into one."});
  return std::make_shared<TextCorpus>("text:" + pattern, "text 1", std::move(splits), std::vector<std::string>{});
}

}  // namespace schatten
