// SIGINT and SIGTERM ask long work to stop at the next safe point. A second SIGINT ends the process
// at once.
#pragma once

namespace quench {

// Installs the handlers.
void catch_signals();

// The signal that asked to stop; 0 if none did.
int caught_signal();

}  // namespace quench
