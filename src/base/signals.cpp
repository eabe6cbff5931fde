#include "base/signals.h"

#include <csignal>

namespace quench {
namespace {

volatile std::sig_atomic_t caught = 0;

void handle(int signal) {
  if (caught) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  caught = signal;
}

}  // namespace

void catch_signals() {
  std::signal(SIGINT, handle);
  std::signal(SIGTERM, handle);
}

int caught_signal() { return caught; }

void stop_if_signalled() {
  if (caught) throw Interrupted{caught};
}

}  // namespace quench
