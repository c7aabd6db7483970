#include <ATen/ATen.h>
#include <schatten/stages/in_blocks.h>
#include <schatten/stages/in_subspace.h>

#include <algorithm>
#include <numeric>
#include <set>

namespace schatten {

namespace {

RowBlock part_of(const ParameterInfo& p, int64_t from, int64_t rows, Projection projection, int heads) {
  RowBlock part{from, p};
  part.info.name += "[" + std::to_string(from) + ":" + std::to_string(from + rows) + "]";
  part.info.shape[0] = rows;
  part.info.projection = projection;
  part.info.heads = heads;
  part.info.kv_heads = 0;
  part.info.fused_parts.clear();
  return part;
}

/// Query heads for the first part, as many key and value heads as stated (or as query heads) for the others.
std::vector<RowBlock> fused_blocks(const ParameterInfo& p) {
  const int64_t rows = std::accumulate(p.fused_parts.begin(), p.fused_parts.end(), int64_t{0});
  if (rows != p.rows())
    fail_usage({"in_blocks", "fused_parts of '" + p.name + "' that add up to its " + std::to_string(p.rows()) + " rows",
                std::to_string(rows), ""});
  constexpr Projection kinds[] = {Projection::query, Projection::key, Projection::value};
  std::vector<RowBlock> parts;
  int64_t from = 0;
  for (size_t i = 0; i < p.fused_parts.size(); ++i) {
    const bool known = p.projection == Projection::fused_qkv && i < std::size(kinds);
    const int kv_heads = p.kv_heads > 0 ? p.kv_heads : p.heads;
    parts.push_back(part_of(p, from, p.fused_parts[i], known ? kinds[i] : Projection::none,
                            !known   ? 0
                            : i == 0 ? p.heads
                                     : kv_heads));
    from += p.fused_parts[i];
  }
  return parts;
}

int heads_of(const ParameterInfo& p) {
  if (p.projection == Projection::query) return p.heads;
  const bool key_or_value = p.projection == Projection::key || p.projection == Projection::value;
  return key_or_value ? (p.kv_heads > 0 ? p.kv_heads : p.heads) : 0;
}

void append_heads(std::vector<RowBlock>& blocks, const RowBlock& whole) {
  const int heads = heads_of(whole.info);
  if (heads <= 1) {
    blocks.push_back(whole);
    return;
  }
  const int64_t rows = whole.info.rows() / heads;
  if (rows * heads != whole.info.rows())
    fail_usage({"in_blocks", "rows of '" + whole.info.name + "' that its " + std::to_string(heads) + " heads divide",
                std::to_string(whole.info.rows()), "Describe the parameter's heads, or split by \"fused\"."});
  for (int h = 0; h < heads; ++h) {
    RowBlock head = part_of(whole.info, h * rows, rows, whole.info.projection, 1);
    head.from += whole.from;
    blocks.push_back(std::move(head));
  }
}

struct InBlocksModel {
  InBlocks options;
  Stage inner;

  std::string name() const { return "in_blocks"; }
  Traits traits() const {
    Traits t = inner.traits();
    t.locality = std::max(t.locality, Locality::row);
    return t;
  }
  StateSpec state(const Bucket& b) const {
    StateSpec spec{.name = name()};
    if (b.rows != b.parameter->rows())
      fail_usage({"in_blocks", "all rows of '" + b.parameter->name + "'", std::to_string(b.rows) + " rows",
                  "Heads are lost in another basis: put in_blocks around the stage that projects."});
    const std::vector<RowBlock> blocks = row_blocks(*b.parameter, options.by);
    for (size_t i = 0; i < blocks.size(); ++i) {
      const Bucket part = part_of(b, blocks[i]);
      StateSpec inside = inner.state(part);
      if (blocks.size() > 1) inside = with_shape(std::move(inside), part.rows, part.cols);
      spec.children.push_back({.name = std::to_string(i), .children = {std::move(inside)}});
    }
    return spec;
  }
  static Bucket part_of(const Bucket& whole, const RowBlock& block) {
    Bucket part = whole;
    part.parameter = &block.info;
    part.rows = block.info.rows();
    return part;
  }
  /// Calls visit(rows of x, the block's state, its step) for each block.
  template <class Visit>
  void each_block(const Tensor& x, State& s, const Step& step, Visit visit) const {
    const std::vector<RowBlock> blocks = row_blocks(step.parameter, options.by);
    for (size_t i = 0; i < blocks.size(); ++i) {
      const auto rows = [&](const Tensor& t) {
        return t.defined() ? t.narrow(-2, blocks[i].from, blocks[i].info.rows()) : t;
      };
      const Rng rng = blocks.size() == 1 ? step.rng : step.rng.of(name()).at(static_cast<int64_t>(i));
      double rate = 1;
      const Step block{.step = step.step,
                       .lr = step.lr,
                       .parameter = blocks[i].info,
                       .grad = rows(step.grad),
                       .param = rows(step.param),
                       .rng = rng,
                       .shared = step.shared,
                       .rate = &rate,
                       .isa = step.isa};
      visit(rows(x), s.child(i).child(0), block);
    }
  }
  Tensor apply(const Tensor& u, State& s, const Step& step) const {
    std::vector<Tensor> results;
    std::vector<double> rates;
    bool any = false;
    each_block(u, s, step, [&](const Tensor& x, State& state, const Step& block) {
      const Tensor result = inner.apply(x, state, block);
      any = any || result.defined();
      results.push_back(result.defined() ? result : at::zeros_like(x));
      rates.push_back(*block.rate);
    });
    if (!any) return {};
    const double rate = *std::max_element(rates.begin(), rates.end());  // blocks may ask for different ones
    if (rate != 1) take_at(step, rate);
    for (size_t i = 0; i < results.size(); ++i)
      if (rates[i] != rate) results[i].mul_(rates[i] / rate);
    return results.size() == 1 ? results.front() : at::cat(results, -2);
  }
  void probe(const Tensor& h, State& s, const Step& step) const {
    each_block(h, s, step, [&](const Tensor& x, State& state, const Step& block) { inner.probe(x, state, block); });
  }
  std::string decided(const Bucket& b, Isa isa) const {
    if (b.rows == 0) return inner.decided(b, isa);
    std::set<std::string> all;
    for (const RowBlock& block : row_blocks(*b.parameter, options.by))
      all.insert(inner.decided(part_of(b, block), isa));
    std::string text;
    for (const std::string& one : all) text += (text.empty() ? "" : "; ") + one;
    return text;
  }
  std::string noticed() const { return inner.noticed(); }
  Value to_value() const { return bracket_value(name(), options, inner); }
};

}  // namespace

std::vector<RowBlock> row_blocks(const ParameterInfo& p, BlockRows by) {
  std::vector<RowBlock> parts =
      p.shape.size() < 2 || p.fused_parts.empty() ? std::vector<RowBlock>{{0, p}} : fused_blocks(p);
  if (by == BlockRows::fused || p.shape.size() < 2) return parts;
  std::vector<RowBlock> blocks;
  for (const RowBlock& part : parts) append_heads(blocks, part);
  return blocks;
}

Stage in_blocks(const InBlocks& options, Stage inner) { return InBlocksModel{options, std::move(inner)}; }

}  // namespace schatten
