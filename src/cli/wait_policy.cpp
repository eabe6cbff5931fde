// How OpenMP's threads wait for each other. Its library spins for milliseconds unless told
// otherwise when it is loaded; on a machine that other programs share, a thread that spins takes
// the core from the one it waits for, and two threads become slower than one. So quench asks for a
// short spin, which loses nothing alone (docs/performance.md), unless the user has said how to
// wait.
//
// Only the environment that the process starts with counts: libraries read it before main(). So the
// program starts itself once more, at the earliest moment there is, before any library is set up.
#include <sys/auxv.h>
#include <unistd.h>

namespace {

bool starts_with(const char* text, const char* prefix) {
  while (*prefix != '\0' && *text == *prefix) ++text, ++prefix;
  return *prefix == '\0';
}

bool user_has_said(char** environment) {
  for (; *environment != nullptr; ++environment)
    for (const char* name :
         {"OMP_WAIT_POLICY=", "GOMP_SPINCOUNT=", "KMP_BLOCKTIME=", "KMP_LIBRARY="})
      if (starts_with(*environment, name)) return true;
  return false;
}

// No library is there yet, those of sanitizers neither: system calls and plain loops alone.
__attribute__((no_sanitize("address", "undefined", "thread"))) void set_wait_policy(
    int /*argc*/, char** arguments, char** environment) {
  constexpr int kMost = 4096;
  int count = 0;
  while (environment[count] != nullptr) ++count;
  if (count + 2 > kMost || user_has_said(environment)) return;
  static char policy[] = "OMP_WAIT_POLICY=passive",  // for other OpenMP libraries than GNU's,
      spins[] = "GOMP_SPINCOUNT=2000";               // which knows this, some microseconds
  char* with_policy[kMost + 1];
  for (int i = 0; i < count; ++i) with_policy[i] = environment[i];
  with_policy[count] = policy;
  with_policy[count + 1] = spins;
  with_policy[count + 2] = nullptr;
  if (::getauxval(AT_BASE) == 0)
    return;            // started by way of the dynamic linker: that is its program
  char program[4096];  // by its name, which the system shows for the process
  const ssize_t length = ::readlink("/proc/self/exe", program, sizeof program - 1);
  if (length <= 0) return;
  program[length] = '\0';
  ::execve(program, arguments, with_policy);  // where that fails, threads spin as before
}

__attribute__((section(".preinit_array"), used)) void (*const at_start)(int, char**,
                                                                        char**) = set_wait_policy;

}  // namespace
