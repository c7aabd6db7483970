#include <schatten/kernels/scratch.h>

#include <algorithm>
#include <memory>
#include <new>
#include <vector>

namespace schatten {

namespace {

constexpr size_t kAlign = 64, kFirst = size_t{1} << 20;

struct Free {
  void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t(kAlign)); }
};
struct Block {
  std::unique_ptr<std::byte[], Free> data;
  size_t size = 0;
};

/// Blocks are never moved while a scope is open; when the last one closes, several become one of their joint size.
struct Arena {
  std::vector<Block> blocks;
  size_t block = 0, used = 0;
  int scopes = 0;

  void add(size_t size) {
    blocks.push_back({std::unique_ptr<std::byte[], Free>(new (std::align_val_t(kAlign)) std::byte[size]), size});
  }
  void* take(size_t size) {
    size = (size + kAlign - 1) / kAlign * kAlign;
    while (block < blocks.size() && used + size > blocks[block].size) ++block, used = 0;
    if (block == blocks.size()) add(std::max({size, kFirst, blocks.empty() ? 0 : 2 * blocks.back().size}));
    void* const at = blocks[block].data.get() + used;
    used += size;
    return at;
  }
  void unify() {
    if (blocks.size() < 2) return;
    size_t total = 0;
    for (const Block& b : blocks) total += b.size;
    blocks.clear();
    add(total);
  }
};

Arena& arena() {
  thread_local Arena mine;  // scratch only: no result depends on it
  return mine;
}

}  // namespace

Scratch::Scratch() : block_(arena().block), used_(arena().used) { ++arena().scopes; }

Scratch::~Scratch() {
  Arena& mine = arena();
  mine.block = block_;
  mine.used = used_;
  if (--mine.scopes == 0) mine.unify();
}

void* Scratch::bytes(size_t size) { return arena().take(size); }

size_t scratch_bytes() {
  size_t total = 0;
  for (const Block& b : arena().blocks) total += b.size;
  return total;
}

}  // namespace schatten
