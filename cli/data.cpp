#include <schatten/core/files.h>
#include <schatten/data/corpus.h>

#include <iostream>

#include "cli/commands.h"

namespace schatten::cli {

void add_data(CLI::App& app, Context&) {
  auto* command = app.add_subcommand("data", "what a corpus holds");
  const auto source = std::make_shared<std::string>("python-source");
  const auto preview = std::make_shared<int64_t>(200);
  const auto json = std::make_shared<bool>(false);
  command->add_option("source", *source, "python-source, text:PATH or tokens:GLOB");
  command->add_option("--preview", *preview, "bytes of training text to show");
  command->add_flag("--json", *json, "as JSON");
  command->footer("Examples:\n  schatten data\n  schatten data text:notes/\n  schatten data 'tokens:fineweb/*.bin'");
  command->callback([=] {
    const auto corpus = open_corpus(*source);
    Value facts = Value::Table{{"source", corpus->name()}, {"id", corpus->id()}, {"vocab", corpus->vocab()}};
    for (const Split split : {Split::train, Split::validation, Split::test})
      facts[std::string(to_string(split)) + "_tokens"] = corpus->tokens(split).size();
    if (*json) {
      std::cout << to_json(facts) << "\n";
      return;
    }
    for (const auto& [key, value] : facts.as_table())
      std::cout << (key + std::string(20 - std::min<size_t>(19, key.size()), ' '))
                << (value.is_string() ? value.as_string() : to_json(value)) << "\n";
    for (const std::string& note : corpus->notes()) std::cout << "note: " << note << "\n";
    const TokenView& train = corpus->tokens(Split::train);
    std::vector<int64_t> head(static_cast<size_t>(std::min(*preview, train.size())));
    train.copy(0, static_cast<int64_t>(head.size()), head.data());
    if (const std::string text = corpus->decode(head); !text.empty()) std::cout << "\n" << text << "\n";
  });
}

}  // namespace schatten::cli
