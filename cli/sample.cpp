#include <ATen/core/Tensor.h>
#include <schatten/core/error.h>
#include <schatten/train/checkpoint.h>
#include <schatten/train/trainer.h>

#include <iostream>

#include "cli/commands.h"

namespace schatten::cli {

namespace {

struct Options {
  std::string run, prompt = "def ";
  int64_t length = 400, seed = 0;
  double temperature = 0.8;
};

void run(const Options& o) {
  const auto folder = latest_checkpoint(o.run);
  if (!folder)
    fail({o.run, "a run directory with a checkpoint", "none", "Train it first: schatten train --run-dir " + o.run});
  const RunConfig config = read_run_config(load_toml(o.run + "/config.toml"));
  const auto corpus = open_corpus(config.data.source, config.model.vocab);
  const auto model =
      make_model(resolve_architecture(config.model, corpus->vocab()), scalar_type(config.train.dtype), Rng());
  model->load_weights(load_safetensors(*folder / "model.safetensors"));
  if (corpus->encode("a").empty())
    fail({o.run, "a corpus with a tokenizer", corpus->name(), "Token shards hold no text: sampling needs bytes."});
  std::cout << sample_text(*model, *corpus, o.prompt, o.length, o.temperature,
                           Rng(static_cast<uint64_t>(o.seed)).of("sample"))
            << "\n";
}

}  // namespace

void add_sample(CLI::App& app, Context&) {
  auto* command = app.add_subcommand("sample", "text from a run's newest checkpoint");
  const auto o = std::make_shared<Options>();
  command->add_option("run", o->run, "run directory")->required();
  command->add_option("--prompt", o->prompt, "how it begins");
  command->add_option("--length", o->length, "tokens to add");
  command->add_option("--temperature", o->temperature, "0 takes the likeliest token");
  command->add_option("--seed", o->seed, "of the draw");
  command->footer("Example:\n  schatten sample runs/muon-3f2a --prompt 'class Tensor'");
  command->callback([o] { run(*o); });
}

}  // namespace schatten::cli
