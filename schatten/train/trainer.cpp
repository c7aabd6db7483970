#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <schatten/data/loader.h>
#include <schatten/parameters/sharpness.h>
#include <schatten/train/checkpoint.h>
#include <schatten/train/environment.h>
#include <schatten/train/kernel_choice.h>
#include <schatten/train/progress_impl.h>
#include <schatten/train/protocols.h>
#include <schatten/train/run_files.h>
#include <schatten/train/spectra_recorder.h>
#include <schatten/train/trainer.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <optional>

namespace schatten {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kSkipsThatEnd = 3;

class Run {
 public:
  Run(const RunConfig& config, const TrainRequest& request, Reporter& reporter, const std::atomic<bool>& stop)
      : config_(config),
        request_(request),
        reporter_(reporter),
        stop_(stop),
        folder_(run_directory(config)),
        rng_(static_cast<uint64_t>(config.seed)) {}

  TrainResult operator()() {
    set_up();
    std::string status = "ok";
    while (progress_.step < config_.train.steps && status == "ok") {
      if (stop_) status = "interrupted";
      else if (!train_one_step()) status = "diverged";
    }
    return finish(status);
  }

 private:
  void set_up();
  std::vector<Route> routes_for(const LanguageModel& model) const;
  void make_optimizer(const std::optional<fs::path>& checkpoint);
  Value resume_from(const fs::path& checkpoint);
  void announce();
  Value summary() const;
  bool train_one_step();
  double forward_and_backward(const Batch& batch);
  bool skip_bad_step(double loss, double norm);
  double gradient_at_the_worst_point(const Batch& batch);
  void observe();
  void probe(const Batch& batch);
  std::string first_bad_layer() const;
  void update(double norm);
  void after_step(double norm);
  bool hopeless() const;
  double evaluate(Split split);
  void sample();
  void checkpoint();
  void train_record(double norm);
  TrainResult finish(const std::string& status);
  double factor() const { return schedule_factor(config_.schedule, progress_.step, config_.train.steps); }
  double matrix_lr() const { return base_lr_ * last_factor_; }
  bool due(int64_t every) const { return every > 0 && progress_.step % every == 0; }
  bool last_step() const { return progress_.step == config_.train.steps; }

  RunConfig config_;
  TrainRequest request_;
  Reporter& reporter_;
  const std::atomic<bool>& stop_;
  fs::path folder_;
  Rng rng_;

  std::shared_ptr<const Corpus> corpus_;
  std::unique_ptr<LanguageModel> model_;
  std::unique_ptr<Optimizer> optimizer_;
  Value kernels_;  // what was decided on them: {kernels, plans}
  std::unique_ptr<Loader> loader_;
  std::map<Split, std::vector<Batch>> held_out_;
  std::unique_ptr<SpectraRecorder> spectra_;
  std::unique_ptr<WeightAverage> average_;
  std::unique_ptr<RunFiles> files_;

  Progress progress_;
  Stopwatch watch_;
  double base_lr_ = 0, last_factor_ = 0, update_ratio_ = kNaN, began_cpu_ = 0, cpu_before_ = 0;
  int64_t resumed_from_ = -1;
  std::string bad_layer_;
};

void Run::set_up() {
  if (config_.train.threads > 0) at::set_num_threads(static_cast<int>(config_.train.threads));
  check_run_directory(config_, request_.start != Start::fresh);
  const auto checkpoint = latest_checkpoint(folder_);
  if (request_.start == Start::resume && !checkpoint)
    fail_usage({folder_.string(), "a run with a checkpoint to resume", "none", "Start it without --resume."});

  corpus_ = open_corpus(config_.data.source, config_.model.vocab);
  const Architecture architecture = resolve_architecture(config_.model, corpus_->vocab());
  const at::ScalarType dtype = scalar_type(config_.train.dtype);
  model_ = make_model(architecture, dtype, rng_);
  if (!config_.model.init_from.empty() && !checkpoint) {
    fs::path from = config_.model.init_from;
    if (const auto inside = latest_checkpoint(from)) from = *inside / "model.safetensors";
    model_->load_weights(load_safetensors(from));
  }
  make_optimizer(request_.start == Start::fresh ? std::nullopt : checkpoint);
  if (config_.optimizer.average > 0)
    average_ = std::make_unique<WeightAverage>(model_->parameters(), config_.optimizer.average);
  base_lr_ = optimizer_->assignments().front().lr;
  for (const Assignment& a : optimizer_->assignments())
    if (a.parameter.role == Role::hidden_matrix) {
      base_lr_ = a.lr;
      break;
    }
  loader_ = std::make_unique<Loader>(corpus_, Split::train, config_.data.batch, architecture.context, rng_.of("data"));
  for (const Split split : {Split::validation, Split::test})
    if (split == Split::validation || config_.train.test)
      held_out_[split] = Loader(corpus_, split, config_.data.batch, architecture.context, Rng())
                             .fixed_batches(config_.data.eval_batches);
  if (config_.spectra.every > 0)
    spectra_ = std::make_unique<SpectraRecorder>(*optimizer_, model_->parameters(), config_.spectra.match, rng_.key());
  const Value past = checkpoint && request_.start != Start::fresh ? resume_from(*checkpoint) : Value();
  files_ = std::make_unique<RunFiles>(config_, past, request_.command, kernels_);
  announce();
  began_cpu_ = process_cpu_seconds();
}

void Run::make_optimizer(const std::optional<fs::path>& checkpoint) {
  std::optional<std::string> saved;
  if (checkpoint)
    if (const Value state = load_checkpoint_state(*checkpoint); state.find("kernels"))
      saved = state.at("kernels").as_string();
  const ChosenKernels chosen = choose_kernels(config_.optimizer.kernels, saved);
  if (!chosen.note.empty()) reporter_.on_message(chosen.note);
  const std::vector<Route> routes = routes_for(*model_);
  std::vector<ParameterInfo> infos;
  for (const Parameter& p : model_->parameters()) infos.push_back(p.info);
  optimizer_ = std::make_unique<Optimizer>(model_->parameters(), routes,
                                           OptimizerOptions{.seed = rng_.of("optimizer").key(), .isa = chosen.isa});
  kernels_ = Value::Table{{"kernels", std::string(enum_name(chosen.isa))},
                          {"plans", kernel_plans(routes, infos, scalar_type(config_.train.dtype), chosen.isa)}};
}

/// A model that keeps unit rows gets them projected back at every step, unless the config says how else (the routing
/// table shows it; `retract = {form = "project", every = 0}` leaves them alone).
std::vector<Route> Run::routes_for(const LanguageModel& model) const {
  std::vector<Route> routes = make_routes(config_.optimizer);
  const bool unit = std::any_of(model.parameters().begin(), model.parameters().end(),
                                [](const Parameter& p) { return p.info.unit_axis >= 0; });
  for (Route& route : routes)
    if (unit && !route.recipe.retract.active()) route.recipe.retract = {.form = RetractionForm::project};
  return routes;
}

/// Returns how long the logs were then.
Value Run::resume_from(const fs::path& folder) {
  const Checkpoint saved = load_checkpoint(folder);
  const std::string hash = saved.state.string_or("config_hash", "");
  if (hash != config_hash(config_))
    fail({folder.string(), "a checkpoint of this config (" + config_hash(config_) + ")", "one of " + hash, ""});
  const int64_t threads = saved.state.integer_or("threads", 0);
  if (threads != at::get_num_threads())
    reporter_.on_message("note: the checkpoint was written with " + std::to_string(threads) +
                         " threads, now there are " + std::to_string(at::get_num_threads()) +
                         ": results may differ in the last bits");
  const Value* plans = saved.state.find("plans");
  if (plans && saved.state.at("kernels") == kernels_.at("kernels"))
    if (const std::string note = changed_plans(*plans, kernels_.at("plans")); !note.empty()) reporter_.on_message(note);
  model_->load_weights(saved.model);
  optimizer_->load_state(saved.optimizer);
  if (average_ && saved.average) average_->load_state(*saved.average);
  loader_->seek(saved.state.integer_or("position", 0));
  Value counters = saved.state.at("progress");
  for (const char* key : {"best_validation", "validation", "validation_bpb"})  // JSON has no infinity
    if (counters.at(key).is_null()) counters[key] = std::string_view(key) == "best_validation" ? INFINITY : kNaN;
  if (Value::Table& table = counters.as_table(); counters.find("nonfinite"))
    std::erase_if(table, [](const auto& member) { return member.first == "nonfinite"; });
  read_fields(counters, progress_, "progress");
  resumed_from_ = progress_.step;
  return saved.state.at("logs");
}

Value Run::summary() const {
  const Architecture& a = model_->architecture();
  int64_t matrices = 0, weight_bytes = 0;
  Value routes = Value::array();
  for (const Assignment& row : optimizer_->assignments()) matrices += row.parameter.role == Role::hidden_matrix;
  for (const Parameter& p : model_->parameters()) weight_bytes += static_cast<int64_t>(p.tensor.nbytes());
  Value s = Value::Table{{"name", config_.name},
                         {"run_dir", folder_.string()},
                         {"steps", config_.train.steps},
                         {"preset", config_.model.preset},
                         {"kind", a.kind},
                         {"parameters", model_->num_parameters()},
                         {"layers", a.layers},
                         {"width", a.width},
                         {"vocab", a.vocab},
                         {"context", a.context},
                         {"matrices", matrices},
                         {"routing", optimizer_->routing_table()},
                         {"weight_bytes", weight_bytes},
                         {"gradient_bytes", weight_bytes},
                         {"state_bytes", optimizer_->state_bytes()},
                         {"corpus", corpus_->name()},
                         {"corpus_id", corpus_->id()},
                         {"train_tokens", corpus_->tokens(Split::train).size()},
                         {"validation_tokens", corpus_->tokens(Split::validation).size()},
                         {"batch", config_.data.batch},
                         {"seed", config_.seed},
                         {"dtype", enum_name(config_.train.dtype)},
                         {"resumed_from", resumed_from_}};
  s["notes"] = Value::array();
  for (const std::string& note : corpus_->notes()) s["notes"].push_back(note);
  return s;
}

void Run::announce() {
  const Value s = summary();
  reporter_.on_start(s);
  const auto per_parameter =
      static_cast<double>(optimizer_->state_bytes()) / static_cast<double>(model_->num_parameters());
  Value start = Value::Table{{"event", "start"},
                             {"step", progress_.step},
                             {"name", config_.name},
                             {"seed", config_.seed},
                             {"config_hash", config_hash(config_)},
                             {"parameters", model_->num_parameters()},
                             {"matrices", s.at("matrices")},
                             {"state_bytes", optimizer_->state_bytes()},
                             {"state_bytes_per_parameter", per_parameter},
                             {"threads", static_cast<int64_t>(at::get_num_threads())},
                             {"dtype", enum_name(config_.train.dtype)},
                             {"corpus", corpus_->id()},
                             {"concurrent", request_.concurrent}};
  if (resumed_from_ >= 0) start["resumed_from"] = resumed_from_;
  files_->record(std::move(start), reporter_);
}

/// Gradients of the mean loss over the batch, in `accumulate` parts; the loss itself is returned.
double Run::forward_and_backward(const Batch& batch) {
  const int64_t parts = config_.train.accumulate, size = config_.data.batch / parts;
  double loss = 0;
  for (int64_t i = 0; i < parts; ++i) {
    const Tensor part = model_->loss(batch.tokens.narrow(0, i * size, size), batch.targets.narrow(0, i * size, size));
    loss += part.item<double>() / static_cast<double>(parts);
    watch_.stop(Stopwatch::forward);
    (parts == 1 ? part : part / static_cast<double>(parts)).backward();
    watch_.stop(Stopwatch::backward);
  }
  return loss;
}

std::string Run::first_bad_layer() const {
  for (const Parameter& p : model_->parameters())
    if (!p.tensor.isfinite().all().item<bool>()) return p.info.name + " (weight)";
  for (const Parameter& p : model_->parameters())
    if (p.tensor.grad().defined() && !p.tensor.grad().isfinite().all().item<bool>()) return p.info.name + " (gradient)";
  return "the loss itself";
}

/// A step whose loss or gradient is not finite is left out whole: data and schedule go on, weights and state stay.
bool Run::skip_bad_step(double loss, double norm) {
  if (std::isfinite(loss) && std::isfinite(norm)) {
    progress_.skips_in_a_row = 0;
    return false;
  }
  ++progress_.skipped;
  ++progress_.skips_in_a_row;
  bad_layer_ = first_bad_layer();
  files_->record(Value::Table{{"event", "skip"},
                              {"step", progress_.step + 1},
                              {"reason", std::isfinite(loss) ? "gradient" : "loss"},
                              {"layer", bad_layer_},
                              {"in_a_row", progress_.skips_in_a_row}},
                 reporter_);
  reporter_.on_message("step " + std::to_string(progress_.step + 1) + " left out: not finite in " + bad_layer_);
  return true;
}

/// The optimizer's step; watched when somebody wants to know what it did.
void Run::update(double norm) {
  if (config_.train.clip > 0) clip_gradients(model_->parameters(), norm, config_.train.clip);
  const int64_t done = progress_.step + 1;
  const bool wants_spectra = spectra_ && done % config_.spectra.every == 0;
  const bool wants_ratio = done % config_.train.log_every == 0 || wants_spectra;
  double moved = 0, weight = 0;
  const auto watch = [&](const UpdateView& view) {
    if (view.parameter.role != Role::hidden_matrix) return;
    const double u = view.lr * view.update.norm().item<double>();
    moved += u * u;
    if (wants_spectra) spectra_->watch(view);
  };
  optimizer_->step(last_factor_, wants_ratio ? watch : std::function<void(const UpdateView&)>{});
  if (!wants_ratio) return;
  for (const Parameter& p : model_->parameters())
    if (p.info.role == Role::hidden_matrix) {
      const double w = p.tensor.detach().norm().item<double>();
      weight += w * w;
    }
  update_ratio_ = std::sqrt(moved / weight);
}

/// SAM: the gradient that steps is the one at W + e. Returns its norm.
double Run::gradient_at_the_worst_point(const Batch& batch) {
  std::vector<Tensor> weights;
  for (const Parameter& p : model_->parameters()) weights.push_back(p.tensor);
  Perturbation ascent(std::move(weights), config_.optimizer.sam);
  model_->zero_grad();
  forward_and_backward(batch);
  ascent.restore();
  return global_gradient_norm(model_->parameters());
}

/// Tells the controllers what the forward passes saw.
void Run::observe() {
  for (const std::string& what : optimizer_->wants()) {
    if (what != "largest_logits")
      fail({"trainer", "an observation that models offer (largest_logits)", "'" + what + "'", ""});
    const std::vector<Tensor> largest = model_->largest_logits();
    for (size_t block = 0; block < largest.size(); ++block)
      optimizer_->observe(what, static_cast<int>(block), largest[block]);
  }
  model_->watch_logits(false);
}

/// Sophia's Hessian estimate, after every k-th step.
void Run::probe(const Batch& batch) {
  const Traits traits = optimizer_->traits();
  if (traits.probe == ProbeKind::none || traits.probe_every < 1 || progress_.step % traits.probe_every != 0) return;
  const Rng rng = rng_.of("probe").at(progress_.step);
  if (traits.probe == ProbeKind::gauss_newton) sampled_label_gradients(*model_, batch, rng);
  else hutchinson_gradients(model_->parameters(), [&] { model_->loss(batch.tokens, batch.targets).backward(); }, rng);
  if (std::isfinite(global_gradient_norm(model_->parameters()))) optimizer_->probe();
}

bool Run::train_one_step() {
  cpu_before_ = process_cpu_seconds();
  watch_.start();
  last_factor_ = factor();
  const Batch batch = loader_->next();
  watch_.stop(Stopwatch::data);
  model_->zero_grad();
  // Only this step's own forward passes count: an evaluation between two steps must not change what is clipped.
  model_->watch_logits(!optimizer_->wants().empty());
  const double loss = forward_and_backward(batch);
  double norm = global_gradient_norm(model_->parameters());
  watch_.stop(Stopwatch::other);
  bool good = !skip_bad_step(loss, norm);
  if (good && config_.optimizer.sam.rho > 0) {
    norm = gradient_at_the_worst_point(batch);
    good = !skip_bad_step(loss, norm);
  }
  if (good) {
    observe();
    update(norm);
    progress_.saw_loss(loss);
    watch_.stop(Stopwatch::optimizer);
    probe(batch);
    if (average_) average_->update();
    watch_.stop(Stopwatch::optimizer);
  }
  ++progress_.step;
  progress_.cpu_seconds += process_cpu_seconds() - cpu_before_;
  after_step(norm);
  return progress_.skips_in_a_row < kSkipsThatEnd && !hopeless();
}

/// Worse than guessing after a tenth of the run: nothing to wait for.
bool Run::hopeless() const {
  const double guessing = std::log(static_cast<double>(model_->architecture().vocab));
  return progress_.step > config_.train.steps / 10 + 10 && progress_.ema_steps > 0 &&
         progress_.shown_ema() > guessing + 1;
}

void Run::train_record(double norm) {
  const Architecture& a = model_->architecture();
  const double mean = progress_.loss_count > 0 ? progress_.loss_sum / static_cast<double>(progress_.loss_count) : kNaN;
  files_->record(Value::Table{{"event", "train"},
                              {"step", progress_.step},
                              {"loss", mean},
                              {"loss_ema", progress_.shown_ema()},
                              {"lr", matrix_lr()},
                              {"lr_factor", last_factor_},
                              {"grad_norm", norm},
                              {"update_ratio", update_ratio_},
                              {"tokens", progress_.step * config_.data.batch * a.context},
                              {"seconds", progress_.seconds + watch_.total()},
                              {"cpu_seconds", progress_.cpu_seconds},
                              {"skipped", progress_.skipped}},
                 reporter_);
  progress_.loss_sum = 0;
  progress_.loss_count = 0;
}

void Run::after_step(double norm) {
  const double tokens = static_cast<double>(config_.data.batch * model_->architecture().context);
  const int64_t since = progress_.step - std::max<int64_t>(resumed_from_, 0);
  if (due(config_.train.log_every) || last_step()) train_record(norm);
  if (spectra_ && due(config_.spectra.every)) {
    watch_.stop(Stopwatch::other);
    for (const Value& record : spectra_->records(progress_.step)) files_->spectrum(record);
    watch_.stop(Stopwatch::spectra);
  }
  reporter_.on_step({.step = progress_.step,
                     .steps = config_.train.steps,
                     .loss_ema = progress_.shown_ema(),
                     .validation = progress_.validation,
                     .validation_bpb = progress_.validation_bpb,
                     .lr = matrix_lr(),
                     .grad_norm = norm,
                     .update_ratio = update_ratio_,
                     .tokens_per_second = tokens * static_cast<double>(since) / watch_.total()});
  watch_.stop(Stopwatch::other);
  if (due(config_.train.eval_every) || last_step()) evaluate(Split::validation);
  if (due(config_.train.sample_every)) sample();
  if (due(config_.train.checkpoint_every) && !last_step()) checkpoint();
}

double Run::evaluate(Split split) {
  const auto began = Clock::now();
  const at::NoGradGuard no_grad;
  if (average_) average_->swap();
  double sum = 0;
  int64_t tokens = 0;
  for (const Batch& batch : held_out_.at(split)) {
    sum += model_->loss(batch.tokens, batch.targets).item<double>() * static_cast<double>(batch.tokens.numel());
    tokens += batch.tokens.numel();
  }
  if (average_) average_->swap();
  const double loss = sum / static_cast<double>(tokens);
  const double bytes = corpus_->bytes_per_token();
  const double bpb = bytes > 0 ? loss / std::log(2.0) / bytes : kNaN;
  if (split == Split::validation) {
    progress_.validation = loss;
    progress_.validation_bpb = bpb;
    if (loss < progress_.best_validation) progress_.best_validation = loss;
  }
  Value record = Value::Table{{"event", "eval"},
                              {"step", progress_.step},
                              {"split", std::string(to_string(split))},
                              {"loss", loss},
                              {"bpb", bytes > 0 ? Value(bpb) : Value()},
                              {"tokens", tokens},
                              {"seconds", progress_.seconds + watch_.total()},
                              {"cpu_seconds", progress_.cpu_seconds}};
  files_->record(std::move(record), reporter_);
  files_->flush();
  progress_.eval_seconds += std::chrono::duration<double>(Clock::now() - began).count();
  return loss;
}

void Run::sample() {
  if (config_.train.sample_length == 0) return;
  const std::string text =
      sample_text(*model_, *corpus_, "\n", config_.train.sample_length, 0.8, rng_.of("sample").at(progress_.step));
  if (text.empty()) return;
  files_->sample(progress_.step, text);
  reporter_.on_sample(progress_.step, text);
}

void Run::checkpoint() {
  Progress saved = progress_;
  saved.seconds += watch_.total();
  Checkpoint c{.step = progress_.step,
               .model = model_->weights(),
               .optimizer = optimizer_->state(),
               .model_config = transformers_config(model_->architecture())};
  if (average_) c.average = average_->state();
  c.state = Value::Table{{"config_hash", config_hash(config_)},
                         {"position", loader_->position()},
                         {"threads", static_cast<int64_t>(at::get_num_threads())},
                         {"corpus", corpus_->id()},
                         {"progress", write_fields(saved)},
                         {"logs", files_->sizes()}};
  merge(c.state, kernels_);
  files_->flush();
  save_checkpoint(folder_, c, config_.train.keep_checkpoints);
}

TrainResult Run::finish(const std::string& status) {
  double test = kNaN;
  if (status != "diverged") checkpoint();  // first: what follows is done again by a run that goes on from here
  if (status == "ok") {
    if (config_.train.test) test = evaluate(Split::test);
    sample();
  }
  const double trained = watch_.total(), seconds = progress_.seconds + trained;  // seconds: before a resume too
  const auto tokens = static_cast<double>(progress_.step * config_.data.batch * model_->architecture().context);
  Value shares = Value::table();
  const char* names[] = {"forward", "backward", "optimizer", "data", "spectra", "other"};
  for (size_t i = 0; i < Stopwatch::parts; ++i) shares[names[i]] = trained > 0 ? watch_.seconds[i] / trained : 0.0;
  Value end = Value::Table{{"event", "end"},
                           {"step", progress_.step},
                           {"status", status},
                           {"best_val", progress_.best_validation},
                           {"final_val", progress_.validation},
                           {"test", config_.train.test ? Value(test) : Value()},
                           {"seconds", seconds},
                           {"cpu_seconds", progress_.cpu_seconds},
                           {"tokens_per_second", tokens / seconds},
                           {"tokens_per_second_with_eval", tokens / (seconds + progress_.eval_seconds)},
                           {"shares", shares},
                           {"peak_bytes", peak_memory_bytes()},
                           {"skipped", progress_.skipped}};
  const std::vector<std::string> noticed = optimizer_->noticed();
  if (!noticed.empty()) end["noticed"] = Value::array();
  for (const std::string& line : noticed) {
    end["noticed"].push_back(line);
    reporter_.on_message("note: " + line);
  }
  if (status == "diverged") end["layer"] = bad_layer_.empty() ? "none: loss far above guessing" : bad_layer_;
  files_->record(end, reporter_);
  files_->flush();
  reporter_.on_end(end, folder_);
  return {status, folder_, end};
}

}  // namespace

TrainResult train(const RunConfig& config, const TrainRequest& request, Reporter& reporter,
                  const std::atomic<bool>& stop) {
  return Run(config, request, reporter, stop)();
}

}  // namespace schatten
