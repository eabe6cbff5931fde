#include "base/child_process.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <system_error>

#include "base/signals.h"
#include "base/text.h"

namespace quench {
namespace {

// A result begins with one of these; a child that ended otherwise has written neither.
constexpr char kDone = 'd', kFailed = 'f';

struct Pipe {
  int ends[2] = {-1, -1};

  Pipe() {
    check(::pipe(ends) == 0,
          "cannot start another process: ", std::generic_category().message(errno));
  }
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  void close_end(int end) {
    if (ends[end] >= 0) ::close(ends[end]);
    ends[end] = -1;
  }
};

void write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno != EINTR) ::_exit(1);
    if (written > 0) text.remove_prefix(static_cast<size_t>(written));
  }
}

[[noreturn]] void run_child(const std::function<std::string()>& work, pid_t parent, Pipe& result,
                            Pipe& words) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);  // it died before that
  for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, SIG_DFL);
  // A library's exit() must not run the parent's handlers, nor write its buffers a second time.
  std::atexit([] { ::_exit(1); });
  ::dup2(words.ends[1], STDERR_FILENO);
  // Nothing else of the parent's stays open, its locks least of all.
  const int answer = ::dup2(result.ends[1], STDERR_FILENO + 1);
  ::close_range(STDERR_FILENO + 2, ~0u, 0);
  char kind = kDone;
  std::string text;
  try {
    text = work();
  } catch (const std::exception& error) {
    kind = kFailed;
    text = error.what();
  }
  write_all(answer, {&kind, 1});
  write_all(answer, text);
  ::_exit(0);  // what the copied objects would tidy up is not this process's
}

// False at its end.
bool read_some(int descriptor, std::string& text) {
  std::array<char, 1 << 16> buffer;
  const ssize_t count = ::read(descriptor, buffer.data(), buffer.size());
  if (count > 0) text.append(buffer.data(), static_cast<size_t>(count));
  return count > 0 || (count < 0 && errno == EINTR);
}

class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  ~Child() {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
    wait();
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  // Returns its status, as of waitpid().
  int wait() {
    int status = 0;
    while (pid_ > 0 && ::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_;
};

// The end of what was written, in one line.
std::string last_words(std::string_view text, int status) {
  constexpr size_t kMost = 300;
  text = trimmed(text);
  std::string words(text.substr(text.size() - std::min(text.size(), kMost)));
  std::ranges::replace(words, '\n', ' ');
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
    words += words.empty() ? "it was killed: perhaps memory did not suffice"
                           : " (killed: perhaps memory did not suffice)";
  return words.empty() ? "it ended without a word" : words;
}

}  // namespace

std::string in_child_process(const std::function<std::string()>& work) {
  Pipe result, words;
  const pid_t parent = ::getpid(), pid = ::fork();
  check(pid >= 0, "cannot start another process: ", std::generic_category().message(errno));
  if (pid == 0) run_child(work, parent, result, words);
  Child child(pid);
  result.close_end(1);
  words.close_end(1);
  std::string answer, said;
  for (bool open = true; open;) {
    stop_if_signalled();
    pollfd ready[] = {{result.ends[0], POLLIN, 0}, {words.ends[0], POLLIN, 0}};
    if (::poll(ready, 2, /*milliseconds=*/100) <= 0) continue;
    if (ready[0].revents != 0) open = read_some(result.ends[0], answer);
    if (ready[1].revents != 0 && !read_some(words.ends[0], said)) words.close_end(0);
  }
  while (words.ends[0] >= 0 && read_some(words.ends[0], said)) {
  }
  const int status = child.wait();
  if (answer.empty() || status != 0) throw ChildEnded(last_words(said, status));
  check(answer.front() == kDone, answer.substr(1));
  return answer.substr(1);
}

}  // namespace quench
