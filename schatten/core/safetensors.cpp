#include <ATen/ATen.h>
#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <schatten/core/safetensors.h>
#include <schatten/core/text.h>
#include <schatten/core/value.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <fstream>
#include <limits>
#include <set>

namespace schatten {
namespace {

static_assert(std::endian::native == std::endian::little, "the data of the format is little-endian");

namespace fs = std::filesystem;

constexpr uint64_t max_header = 100'000'000;  // the format's own bound
constexpr size_t max_rank = 64;               // ATen iterates over no more

struct Dtype {
  std::string_view name;
  at::ScalarType type;
};
constexpr auto dtypes = std::to_array<Dtype>({
    {"F64", at::kDouble},
    {"F32", at::kFloat},
    {"F16", at::kHalf},
    {"BF16", at::kBFloat16},
    {"I64", at::kLong},
    {"I32", at::kInt},
    {"I16", at::kShort},
    {"I8", at::kChar},
    {"U64", at::kUInt64},
    {"U32", at::kUInt32},
    {"U16", at::kUInt16},
    {"U8", at::kByte},
    {"BOOL", at::kBool},
    {"C64", at::kComplexFloat},
    {"F8_E4M3", at::kFloat8_e4m3fn},
    {"F8_E5M2", at::kFloat8_e5m2},
    {"F8_E4M3FNUZ", at::kFloat8_e4m3fnuz},
    {"F8_E5M2FNUZ", at::kFloat8_e5m2fnuz},
    {"F8_E8M0", at::kFloat8_e8m0fnu},
});

std::string known_dtypes() {
  std::string text;
  for (const Dtype& d : dtypes) text += (text.empty() ? "" : ", ") + std::string(d.name);
  return text;
}

/// A name from the file, safe to print.
std::string in_quotes(std::string_view name) {
  constexpr size_t longest = 120;
  std::string text;
  append_quoted(text, name.substr(0, longest));
  return text;
}

std::string name_not_found(const TensorFile& file, const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [other, tensor] : file.tensors) names.push_back(other);
  const std::string close = nearest(name, names);
  return close.empty() ? "" : "There is " + in_quotes(close) + ".";
}

struct Entry {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t begin, end;
};

/// Reads one file. Nothing is allocated before its size is known to lie inside the file.
class Reader {
 public:
  explicit Reader(const fs::path& path) : path_(path) {
    std::error_code ignored;
    if (!fs::is_regular_file(path, ignored)) defect("a safetensors file", "no such file");
    stream_.open(path, std::ios::binary);
    if (!stream_) defect("a readable file", "no permission or an I/O error");
    size_ = fs::file_size(path);
    read_header();
  }

  TensorFile load(bool with_data) {
    TensorFile file;
    for (const Entry& entry : entries_)
      file.tensors.emplace_back(entry.name, with_data ? read_tensor(entry) : meta(entry));
    file.metadata = std::move(metadata_);
    file.origin = path_.string();
    return file;
  }

  Tensor load_one(const std::string& name) {
    for (const Entry& entry : entries_) {
      if (entry.name != name) continue;
      stream_.seekg(static_cast<std::streamoff>(size_ - data_size_ + entry.begin));
      return read_tensor(entry);
    }
    return load(false).at(name);  // says which is near
  }

 private:
  [[noreturn]] void defect(std::string expected, std::string got) const {
    fail({"safetensors " + path_.string(), std::move(expected), std::move(got), ""});
  }

  void read_bytes(void* into, uint64_t size) {
    stream_.read(static_cast<char*>(into), static_cast<std::streamsize>(size));
    if (!stream_) defect("as many bytes as the file had when opened", "fewer");
  }

  void read_header() {
    if (size_ < 8) defect("8 bytes of header length", std::to_string(size_) + " bytes in all");
    uint64_t length = 0;
    read_bytes(&length, sizeof length);
    if (length > max_header) defect("a header of at most 100 MB", std::to_string(length) + " bytes");
    if (length > size_ - 8)
      defect("a header inside the file", std::to_string(length) + " bytes in a file of " + std::to_string(size_));
    std::string text(length, '\0');
    read_bytes(text.data(), length);
    if (text.empty() || text[0] != '{') defect("a header that starts with '{'", "another");
    data_size_ = size_ - 8 - length;
    read_entries(parse_json(text, path_.string()));
    check_layout();
  }

  void read_entries(const Value& header) {
    for (const auto& [name, value] : header.as_table()) {
      if (name == "__metadata__") {
        read_metadata(value);
      } else {
        entries_.push_back(read_entry(name, value));
      }
    }
  }

  void read_metadata(const Value& value) {
    if (!value.is_table()) defect("__metadata__ to be a table", std::string(value.type_name()));
    for (const auto& [key, text] : value.as_table()) {
      if (!text.is_string()) defect("__metadata__ of strings", std::string(text.type_name()) + " in " + in_quotes(key));
      metadata_[key] = text.as_string();
    }
  }

  Entry read_entry(const std::string& name, const Value& value) const {
    if (!value.is_table()) defect("a table for " + in_quotes(name), std::string(value.type_name()));
    const at::ScalarType dtype = read_dtype(name, member(name, value, "dtype"));
    std::vector<int64_t> shape = read_numbers(name, value, "shape");
    const std::vector<int64_t> offsets = read_numbers(name, value, "data_offsets");
    if (offsets.size() != 2) defect("two data_offsets for " + in_quotes(name), std::to_string(offsets.size()));
    Entry entry{name, dtype, std::move(shape), static_cast<uint64_t>(offsets[0]), static_cast<uint64_t>(offsets[1])};
    check_size(entry);
    return entry;
  }

  const Value& member(const std::string& name, const Value& of, std::string_view key) const {
    if (const Value* found = of.find(key)) return *found;
    defect("'" + std::string(key) + "' for " + in_quotes(name), "none");
  }

  at::ScalarType read_dtype(const std::string& name, const Value& value) const {
    const std::string given = value.is_string() ? value.as_string() : "";
    for (const Dtype& d : dtypes) {
      if (d.name == given) return d.type;
    }
    defect("a dtype among " + known_dtypes(), in_quotes(given) + " for " + in_quotes(name));
  }

  std::vector<int64_t> read_numbers(const std::string& name, const Value& of, std::string_view key) const {
    const std::string what = "'" + std::string(key) + "' of " + in_quotes(name) + " to be whole numbers from 0";
    const Value& list = member(name, of, key);
    if (!list.is_array()) defect(what, std::string(list.type_name()));
    std::vector<int64_t> numbers;
    for (const Value& item : list.as_array()) {
      if (!item.is_integer() || item.as_integer() < 0) defect(what, to_json(item));
      numbers.push_back(item.as_integer());
    }
    return numbers;
  }

  void check_size(const Entry& e) const {
    if (e.shape.size() > max_rank)
      defect("at most 64 dimensions in " + in_quotes(e.name), std::to_string(e.shape.size()));
    // Strides count an empty dimension as 1: their product must not overflow either.
    int64_t bytes = static_cast<int64_t>(c10::elementSize(e.dtype));
    bool empty = false, overflow = false;
    for (const int64_t dim : e.shape) {
      empty = empty || dim == 0;
      overflow = overflow || __builtin_mul_overflow(bytes, std::max<int64_t>(dim, 1), &bytes);
    }
    if (overflow) defect("a shape of " + in_quotes(e.name) + " below 2^63 bytes", "more");
    const uint64_t needed = empty ? 0 : static_cast<uint64_t>(bytes);
    if (e.begin > e.end || e.end - e.begin != needed)
      defect(std::to_string(needed) + " bytes for " + in_quotes(e.name),
             "data_offsets [" + std::to_string(e.begin) + ", " + std::to_string(e.end) + "]");
  }

  /// The tensors must cover the data exactly: no overlap, no gap, nothing left over.
  void check_layout() {
    std::stable_sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
      return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    uint64_t covered = 0;
    for (const Entry& e : entries_) {
      if (e.begin != covered)
        defect(in_quotes(e.name) + " to start at byte " + std::to_string(covered), std::to_string(e.begin));
      covered = e.end;
    }
    if (covered != data_size_) defect(std::to_string(covered) + " bytes of data", std::to_string(data_size_));
  }

  Tensor meta(const Entry& e) const { return at::empty(e.shape, at::TensorOptions().dtype(e.dtype).device(at::kMeta)); }

  // The data lie in the order of the entries without gaps: for all of them the stream is already in place.
  Tensor read_tensor(const Entry& e) {
    Tensor tensor = at::empty(e.shape, e.dtype);
    if (e.end == e.begin) return tensor;
    read_bytes(tensor.data_ptr(), e.end - e.begin);
    if (e.dtype == at::kBool) {  // any other byte would be undefined behaviour in a bool
      auto* bytes = static_cast<unsigned char*>(tensor.data_ptr());
      for (uint64_t i = 0; i < e.end - e.begin; ++i) bytes[i] = bytes[i] != 0;
    }
    return tensor;
  }

  fs::path path_;
  std::ifstream stream_{};
  uint64_t size_ = 0, data_size_ = 0;
  std::vector<Entry> entries_{};
  std::map<std::string, std::string> metadata_{};
};

using Named = std::pair<std::string, Tensor>;

std::string_view dtype_name(const Named& named) {
  for (const Dtype& d : dtypes) {
    if (d.type == named.second.scalar_type()) return d.name;
  }
  fail({"safetensors", "a dtype among " + known_dtypes(),
        std::string(c10::toString(named.second.scalar_type())) + " for " + in_quotes(named.first), ""});
}

void check_writable(const std::vector<Named>& tensors) {
  std::set<std::string_view> names{"__metadata__"};
  for (const auto& [name, tensor] : tensors) {
    if (!names.insert(name).second)
      fail({"safetensors", "every name once, none of them __metadata__", in_quotes(name), ""});
    if (!tensor.defined() || tensor.layout() != at::kStrided || tensor.is_meta())
      fail({"safetensors", "dense tensors with data", "another for " + in_quotes(name), ""});
  }
}

/// Widest elements first, so that each tensor is aligned in a mapped file.
std::vector<Named> aligned(std::vector<Named> tensors) {
  std::stable_sort(tensors.begin(), tensors.end(),
                   [](const Named& a, const Named& b) { return a.second.element_size() > b.second.element_size(); });
  return tensors;
}

Value header_entry(const Named& named, int64_t begin) {
  Value shape = Value::array();
  for (const int64_t dim : named.second.sizes()) shape.push_back(dim);
  const int64_t end = begin + static_cast<int64_t>(named.second.nbytes());
  return Value(Value::Table{{"dtype", Value(dtype_name(named))},
                            {"shape", std::move(shape)},
                            {"data_offsets", Value(Value::Array{Value(begin), Value(end)})}});
}

std::string header_text(const TensorFile& file, const std::vector<Named>& tensors) {
  Value::Table header;
  if (!file.metadata.empty()) {
    Value::Table metadata;
    for (const auto& [key, text] : file.metadata) metadata.emplace_back(key, Value(text));
    header.emplace_back("__metadata__", Value(std::move(metadata)));
  }
  int64_t begin = 0;
  for (const Named& named : tensors) {
    header.emplace_back(named.first, header_entry(named, begin));
    begin += static_cast<int64_t>(named.second.nbytes());
  }
  std::string text = to_json(Value(std::move(header)));
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace

const Tensor* TensorFile::find(const std::string& name) const {
  for (const auto& [other, tensor] : tensors) {
    if (other == name) return &tensor;
  }
  return nullptr;
}

const Tensor& TensorFile::at(const std::string& name) const {
  if (const Tensor* tensor = find(name)) return *tensor;
  fail({who("safetensors"), "a tensor " + in_quotes(name), std::to_string(tensors.size()) + " others",
        name_not_found(*this, name)});
}

TensorFile load_safetensors(const fs::path& path) { return Reader(path).load(true); }
Tensor load_safetensors_tensor(const fs::path& path, const std::string& name) { return Reader(path).load_one(name); }
TensorFile load_safetensors_header(const fs::path& path) { return Reader(path).load(false); }

void save_safetensors(const fs::path& path, const TensorFile& file) {
  check_writable(file.tensors);
  const std::vector<Named> tensors = aligned(file.tensors);
  const std::string header = header_text(file, tensors);
  if (header.size() > max_header)
    fail({"safetensors " + path.string(), "a header of at most 100 MB", std::to_string(header.size()), ""});
  DurableFile out(path);
  const uint64_t length = header.size();
  out.write(&length, sizeof length);
  out.write(header.data(), header.size());
  for (const auto& [name, tensor] : tensors) {
    const Tensor plain = tensor.cpu().resolve_conj().resolve_neg().contiguous();
    out.write(plain.const_data_ptr(), plain.nbytes());
  }
  out.commit();
}

}  // namespace schatten
