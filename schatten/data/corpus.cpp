#include <schatten/core/error.h>
#include <schatten/data/corpus.h>
#include <schatten/data/sources_impl.h>

#include <system_error>

namespace schatten {

namespace fs = std::filesystem;

namespace {

std::shared_ptr<const Corpus> within(std::shared_ptr<const Corpus> bytes, int64_t vocab_limit) {
  if (vocab_limit > 0 && vocab_limit < bytes->vocab())
    fail_usage({"model.vocab", "at least 256 for the bytes of " + bytes->name(), std::to_string(vocab_limit),
                "Leave model.vocab out: it follows the data."});
  return bytes;
}

}  // namespace

std::string_view to_string(Split split) {
  constexpr std::string_view names[] = {"train", "validation", "test"};
  return names[static_cast<size_t>(split)];
}

std::shared_ptr<const Corpus> open_corpus(const std::string& source, int64_t vocab_limit,
                                          const fs::path& torch_folder) {
  if (source == "python-source") return within(open_python_source(torch_folder), vocab_limit);
  if (source.starts_with("text:")) return within(open_text(source.substr(5)), vocab_limit);
  if (source.starts_with("tokens:")) return open_token_shards(source.substr(7), vocab_limit);
  std::error_code ignored;
  const std::string kind = source.ends_with(".bin") ? "tokens:" : "text:";
  fail_usage({"data.source", "python-source, text:PATH or tokens:GLOB", "'" + source + "'",
              fs::exists(source, ignored) ? "Did you mean '" + kind + source + "'?" : ""});
}

}  // namespace schatten
