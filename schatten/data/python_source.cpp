// python-source: the .py files of the installed torch package, real text that every user has.
//
// Rules, version 1: regular files below torch/ whose name ends in .py, in order of their path; left out are
// version.py (differs between builds of one release), anything in a folder named `generated`, the generated tables
// sparse/_triton_ops_meta.py and _numpy/_casting_dicts.py, empty files, and files that are not UTF-8. A file belongs
// to one split by FNV-1a 64 of its path below torch/ (90 % train, 5 % validation, 5 % test), and ends with a newline.
#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <schatten/data/text_corpus_impl.h>

#include <algorithm>
#include <cstdlib>

namespace schatten {

namespace fs = std::filesystem;

namespace {

bool left_out(const std::string& path) {
  return path == "version.py" || path == "sparse/_triton_ops_meta.py" || path == "_numpy/_casting_dicts.py" ||
         ("/" + path).find("/generated/") != std::string::npos;
}

/// The environment first: an installed program outlives the folder that it was built against.
fs::path find_torch(const fs::path& given) {
  if (!given.empty()) return given;
  const char* set = std::getenv("SCHATTEN_TORCH_FOLDER");
  return set && *set ? set : SCHATTEN_TORCH_FOLDER;
}

}  // namespace

std::shared_ptr<const Corpus> open_python_source(const fs::path& given) {
  const fs::path folder = find_torch(given);
  if (!fs::is_directory(folder))
    fail({"python-source", "the folder of the torch package", "'" + folder.string() + "', which is not there",
          "Set SCHATTEN_TORCH_FOLDER to it, or use data.source = \"text:PATH\"."});
  std::vector<std::string> paths;
  for (const auto& entry : fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied))
    if (entry.path().extension() == ".py" && entry.is_regular_file())
      paths.push_back(entry.path().lexically_relative(folder).generic_string());
  std::sort(paths.begin(), paths.end());
  std::array<std::string, 3> splits;
  for (const std::string& path : paths) {
    if (left_out(path)) continue;
    const std::string text = read_file(folder / path);
    if (text.empty() || first_invalid_utf8(text) != std::string::npos) continue;
    std::string& split = splits[static_cast<size_t>(split_of(path))];
    split += text;
    if (split.back() != '\n') split += '\n';
  }
  if (std::any_of(splits.begin(), splits.end(), [](const std::string& s) { return s.empty(); }))
    fail({"python-source", "enough .py files in '" + folder.string() + "' for three splits",
          std::to_string(paths.size()) + " files", "Is it the folder of a whole torch package?"});
  return std::make_shared<TextCorpus>(
      "python-source", "python-source 1", std::move(splits),
      std::vector<std::string>{"about one longer validation line in eight also occurs in train"});
}

}  // namespace schatten
