// text:PATH. One file is cut at line ends: the first 90 % are train, the next 5 % validation, the
// rest test. Of several files each belongs to one split, as in python-source, by its path below the
// given folder (of a pattern: below the part before the first wildcard).
#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <schatten/data/list_files_impl.h>
#include <schatten/data/sources_impl.h>
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
          "Convert it, as in: iconv -f latin1 -t utf-8 OLD > NEW"});
  return text;
}

/// The first start of a line at or after `at`, or the end.
size_t line_start(std::string_view text, size_t at) {
  if (at == 0 || at >= text.size()) return at;
  const size_t end = text.find('\n', at - 1);
  return end == std::string_view::npos ? text.size() : end + 1;
}

void add_cut(TextParts& parts, std::string_view text) {
  const size_t first = line_start(text, text.size() - text.size() / 10);
  const size_t second = line_start(text, std::max(first + 1, text.size() - text.size() / 20));
  // The id of one file is its content's: no name goes in.
  parts.add(Split::train, "", text.substr(0, first));
  parts.add(Split::validation, "", text.substr(first, second - first));
  parts.add(Split::test, "", text.substr(std::min(second, text.size())));
}

void require_every_split(const TextParts& parts, const std::string& name, size_t files) {
  for (const Split split : {Split::train, Split::validation, Split::test}) {
    if (!parts.text(split).empty()) continue;
    const std::string got = "none for " + std::string(to_string(split)) + " in " + std::to_string(files);
    if (files == 1)
      fail({name, "text for train, validation and test", got + " file",
            "The file is empty, or its last tenth has fewer than two lines."});
    fail({name, "text for train, validation and test", got + " files",
          "Files go to splits whole, one in twenty to each of the last two: add files, or join\n"
          "  them into one, which is cut at line ends (cat FILES > all.txt)."});
  }
}

}  // namespace

std::shared_ptr<const Corpus> open_text(const std::string& pattern) {
  const std::string name = "text:" + pattern;
  const FileList files = list_files(pattern);
  TextParts parts("text 1");
  if (files.names.size() == 1) {
    add_cut(parts, read_utf8(files.root / files.names.front()));
  } else {
    for (const std::string& path : files.names) parts.add(split_of(path), path, read_utf8(files.root / path));
  }
  require_every_split(parts, name, files.names.size());
  return std::move(parts).corpus(name, {});
}

}  // namespace schatten
