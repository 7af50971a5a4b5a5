// What the conformance programs share. A program is a set of cases; each is run in a process of its
// own and prints lines, which the runner (conformance.py) compares with <program>.expected.
//
//   program --list      names of the cases
//   program NAME        runs one
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <vector>

namespace conformance {

struct Case {
  const char* name;
  void (*run)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

struct Registration {
  Registration(const char* name, void (*run)()) { cases().push_back({name, run}); }
};

inline void print_name(CUresult result) {
  const char* name = nullptr;
  cuGetErrorName(result, &name);
  std::printf("%s\n", name != nullptr ? name : "(an error without a name)");
}
inline void print_name(cudaError_t error) { std::printf("%s\n", cudaGetErrorName(error)); }

template <class Error>
void show(const char* call, Error error) {
  std::printf("%s: ", call);
  print_name(error);
}

template <class Error>
void need(const char* call, Error error) {
  if (static_cast<int>(error) == 0) return;
  show(call, error);
  std::printf("the case ends here\n");
  std::exit(3);
}

}  // namespace conformance

/// Defines a case: CASE(name) { ... }.
#define CASE(name)                                                              \
  static void case_##name();                                                    \
  static const conformance::Registration registration_##name(#name, case_##name); \
  static void case_##name()

/// Prints the call and the name of the error that it returns, of either API.
#define SHOW(...) conformance::show(#__VA_ARGS__, (__VA_ARGS__))
/// A call that the case needs to succeed: silent when it does, ends the case when it does not.
#define NEED(...) conformance::need(#__VA_ARGS__, (__VA_ARGS__))

/// Prints one line.
__attribute__((format(printf, 1, 2))) inline void say(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::printf("\n");
}

int main(int count, char** words) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const char* wanted = count == 2 ? words[1] : "";
  for (const conformance::Case& each : conformance::cases()) {
    if (std::strcmp(wanted, "--list") == 0) {
      std::printf("%s\n", each.name);
    } else if (std::strcmp(wanted, each.name) == 0) {
      each.run();
      return 0;
    }
  }
  if (std::strcmp(wanted, "--list") == 0) return 0;
  std::fprintf(stderr, "usage: %s --list | CASE\n", words[0]);
  return 2;
}
