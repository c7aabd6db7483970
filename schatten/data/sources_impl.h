// The sources behind open_corpus. Not public.
#pragma once
#include <schatten/data/corpus.h>

namespace schatten {

std::shared_ptr<const Corpus> open_python_source(const std::filesystem::path& torch_folder);
std::shared_ptr<const Corpus> open_text(const std::string& pattern);
std::shared_ptr<const Corpus> open_token_shards(const std::string& pattern, int64_t vocab_limit);

}  // namespace schatten
