// A small std::format for standard libraries without <format> (GCC before 13), enough for mlx-c:
// "{}" with values that an ostream can print. Force-included; does nothing where <format> exists.
#pragma once
#include <version>
#if !__has_include(<format>)
#include <sstream>
#include <string>
#include <string_view>

namespace std {

inline void mlxr_format_to(ostringstream& out, string_view pattern) { out << pattern; }

template <class First, class... Rest>
void mlxr_format_to(ostringstream& out, string_view pattern, const First& first, const Rest&... rest) {
  auto place = pattern.find("{}");
  out << pattern.substr(0, place);
  if (place == string_view::npos) return;
  out << first;
  mlxr_format_to(out, pattern.substr(place + 2), rest...);
}

template <class... Values>
string format(string_view pattern, const Values&... values) {
  ostringstream out;
  mlxr_format_to(out, pattern, values...);
  return out.str();
}

} // namespace std
#else
#include <format>
#endif
