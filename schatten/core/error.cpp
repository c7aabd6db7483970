#include <schatten/core/error.h>
#include <schatten/core/text.h>

namespace schatten {

std::string to_string(const Complaint& c) {
  std::string text = "[" + c.who + "] expected " + c.expected;
  if (!c.got.empty()) text += ", got " + c.got;
  if (!c.way_out.empty()) text += "\n  " + c.way_out;
  return valid_utf8(text);  // what was got may be anything
}

void fail(const Complaint& complaint) { throw Error(to_string(complaint)); }
void fail_usage(const Complaint& complaint) { throw UsageError(to_string(complaint)); }

}  // namespace schatten
