// SIGINT and SIGTERM ask long work to stop at the next safe point. A second SIGINT ends the process
// at once.
#pragma once

namespace quench {

// Thrown by work that a signal stopped. No error, so nothing that catches errors catches it: `main`
// exits with 128 + signal.
struct Interrupted {
  int signal;
};

// Installs the handlers.
void catch_signals();

// The signal that asked to stop; 0 if none did.
int caught_signal();

// A safe point: throws Interrupted if a signal asked to stop.
void stop_if_signalled();

}  // namespace quench
