#include <ATen/ATen.h>
#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <schatten/core/safetensors.h>
#include <schatten/core/value.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace schatten {

namespace fs = std::filesystem;

namespace {

constexpr uint64_t kLargestHeader = 100'000'000;

struct Dtype {
  std::string_view name;
  at::ScalarType type;
};
constexpr std::array kDtypes{Dtype{"F64", at::kDouble},      Dtype{"F32", at::kFloat},
                             Dtype{"F16", at::kHalf},        Dtype{"BF16", at::kBFloat16},
                             Dtype{"I64", at::kLong},        Dtype{"I32", at::kInt},
                             Dtype{"I16", at::kShort},       Dtype{"I8", at::kChar},
                             Dtype{"U8", at::kByte},         Dtype{"BOOL", at::kBool},
                             Dtype{"U16", at::kUInt16},      Dtype{"U32", at::kUInt32},
                             Dtype{"U64", at::kUInt64},      Dtype{"F8_E4M3", at::kFloat8_e4m3fn},
                             Dtype{"F8_E5M2", at::kFloat8_e5m2}, Dtype{"C64", at::kComplexFloat}};

/// A read-only mapping of a whole file.
class Mapping {
 public:
  explicit Mapping(const fs::path& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat facts {};
    if (fd < 0 || ::fstat(fd, &facts) != 0 || !S_ISREG(facts.st_mode)) {
      const std::string reason = fd < 0 ? std::strerror(errno) : "not a file";
      if (fd >= 0) ::close(fd);
      fail({path.string(), "a safetensors file", reason, ""});
    }
    size_ = static_cast<size_t>(facts.st_size);
    if (size_ > 0) data_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    ::close(fd);
    if (data_ == MAP_FAILED) fail({path.string(), "a readable file", std::strerror(errno), ""});
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (data_) ::munmap(data_, size_);
  }
  const char* data() const { return static_cast<const char*>(data_); }
  size_t size() const { return size_; }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

struct Entry {
  std::string name;
  at::ScalarType type;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;
};

class Header {
 public:
  Header(const Mapping& file, std::string path) : path_(std::move(path)) {
    const Value json = parse(file);
    for (const auto& [name, value] : json.as_table()) {
      if (name == "__metadata__") read_metadata(value);
      else entries.push_back(entry(name, value));
    }
    std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
    });
    check_layout(file.size() - data_start);
  }
  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;
  uint64_t data_start = 0;

 private:
  [[noreturn]] void bad(const std::string& expected, const std::string& got) const {
    fail({path_, expected, got, "The file is damaged or not safetensors."});
  }

  Value parse(const Mapping& file) {
    uint64_t length = 0;
    if (file.size() < 8) bad("at least 8 bytes", std::to_string(file.size()));
    std::memcpy(&length, file.data(), 8);
    if (length > kLargestHeader || length > file.size() - 8)
      bad("a header within the file and 100 MB", std::to_string(length) + " bytes of header");
    data_start = 8 + length;
    const std::string_view text(file.data() + 8, length);
    if (text.empty() || text.front() != '{') bad("a header that begins with '{'", "something else");
    Value json = parse_json(text, path_);
    if (!json.is_table()) bad("a JSON object as header", std::string(json.type_name()));
    return json;
  }

  void read_metadata(const Value& value) {
    if (!value.is_table()) bad("__metadata__ to be an object", std::string(value.type_name()));
    for (const auto& [key, text] : value.as_table()) {
      if (!text.is_string()) bad("metadata '" + key + "' to be a string", std::string(text.type_name()));
      metadata[key] = text.as_string();
    }
  }

  int64_t natural(const Value& v, const std::string& what) const {
    if (!v.is_integer() || v.as_integer() < 0) bad(what + " to be a natural number", to_json(v));
    return v.as_integer();
  }

  const Value& member(const Value& table, const std::string& name, const char* key) const {
    const Value* found = table.find(key);
    if (!found) bad("tensor '" + name + "' to have '" + key + "'", "none");
    return *found;
  }

  Entry entry(const std::string& name, const Value& value) const {
    if (!value.is_table()) bad("tensor '" + name + "' to be an object", std::string(value.type_name()));
    Entry e{.name = name, .type = dtype(name, member(value, name, "dtype")), .shape = {}};
    const Value& shape = member(value, name, "shape");
    const Value& offsets = member(value, name, "data_offsets");
    if (!shape.is_array()) bad("shape of '" + name + "' to be an array", std::string(shape.type_name()));
    for (const Value& n : shape.as_array()) e.shape.push_back(natural(n, "shape of '" + name + "'"));
    if (!offsets.is_array() || offsets.as_array().size() != 2)
      bad("two data_offsets of '" + name + "'", to_json(offsets));
    e.begin = static_cast<uint64_t>(natural(offsets.as_array()[0], "offset of '" + name + "'"));
    e.end = static_cast<uint64_t>(natural(offsets.as_array()[1], "offset of '" + name + "'"));
    if (e.begin > e.end || e.end - e.begin != bytes(e))
      bad("'" + name + "' to have the bytes of its shape", std::to_string(e.begin) + ".." + std::to_string(e.end));
    return e;
  }

  at::ScalarType dtype(const std::string& name, const Value& v) const {
    for (const Dtype& d : kDtypes)
      if (v.is_string() && v.as_string() == d.name) return d.type;
    bad("a known dtype of '" + name + "'", to_json(v));
  }

  uint64_t bytes(const Entry& e) const {
    uint64_t n = c10::elementSize(e.type);
    for (const int64_t d : e.shape)
      if (__builtin_mul_overflow(n, static_cast<uint64_t>(d), &n)) bad("a shape that fits 64 bits", "'" + e.name + "'");
    return n;
  }

  void check_layout(uint64_t data_bytes) const {
    uint64_t at = 0;
    for (const Entry& e : entries) {
      if (e.begin != at) bad("tensors one after another", "'" + e.name + "' at " + std::to_string(e.begin));
      at = e.end;
    }
    if (at != data_bytes) bad(std::to_string(at) + " bytes of data", std::to_string(data_bytes));
  }
  std::string path_;
};

TensorFile load(const fs::path& path, bool with_data) {
  const Mapping file(path);
  Header header(file, path.string());
  TensorFile out{.tensors = {}, .metadata = std::move(header.metadata)};
  for (const Entry& e : header.entries) {
    const auto options = at::TensorOptions().dtype(e.type).device(with_data ? at::kCPU : at::kMeta);
    const Tensor t = at::empty(e.shape, options);
    if (with_data && e.end > e.begin)
      std::memcpy(t.data_ptr(), file.data() + header.data_start + e.begin, e.end - e.begin);
    out.tensors.emplace_back(e.name, t);
  }
  return out;
}

std::string_view dtype_name(const std::string& tensor, at::ScalarType type) {
  for (const Dtype& d : kDtypes)
    if (d.type == type) return d.name;
  fail({"safetensors", "a dtype that the format knows for '" + tensor + "'", c10::toString(type), "Convert it first."});
}

std::string header_text(const TensorFile& file) {
  Value header = Value::table();
  for (const auto& [key, text] : file.metadata) header["__metadata__"][key] = text;
  int64_t at = 0;
  for (const auto& [name, tensor] : file.tensors) {
    if (header.find(name)) fail({"safetensors", "every name once", "'" + name + "' twice", ""});
    Value& entry = header[name];
    entry["dtype"] = dtype_name(name, tensor.scalar_type());
    entry["shape"] = Value::array();
    for (const int64_t n : tensor.sizes()) entry["shape"].push_back(n);
    const auto bytes = static_cast<int64_t>(tensor.nbytes());
    entry["data_offsets"] = Value::Array{at, at + bytes};
    at += bytes;
  }
  std::string text = to_json(header);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace

const Tensor* TensorFile::find(const std::string& name) const {
  for (const auto& [key, tensor] : tensors)
    if (key == name) return &tensor;
  return nullptr;
}

const Tensor& TensorFile::at(const std::string& name) const {
  if (const Tensor* found = find(name)) return *found;
  std::vector<std::string> names;
  for (const auto& [key, tensor] : tensors) names.push_back(key);
  const std::string near = nearest(name, names);
  fail({"safetensors", "a tensor '" + name + "'", "none",
        near.empty() ? "" : "The nearest name there is '" + near + "'."});
}

TensorFile load_safetensors(const fs::path& path) { return load(path, true); }
TensorFile load_safetensors_header(const fs::path& path) { return load(path, false); }

void save_safetensors(const fs::path& path, const TensorFile& file) {
  const std::string header = header_text(file);
  uint64_t length = header.size();
  std::string data(reinterpret_cast<const char*>(&length), 8);
  data += header;
  for (const auto& [name, tensor] : file.tensors) {
    const Tensor t = tensor.detach().to(at::kCPU).contiguous();
    data.append(static_cast<const char*>(t.const_data_ptr()), t.nbytes());
  }
  write_file_durably(path, data);
}

}  // namespace schatten
