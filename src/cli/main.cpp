// quench: pretrain transformers that have no activation outliers, and quantize them.
#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <exception>
#include <filesystem>
#include <iostream>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/log.h"
#include "base/signals.h"
#include "cli/commands.h"

namespace {

// Large temporaries stay in the heap: otherwise every step maps and faults them in anew.
void keep_large_blocks() {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, -1);
  mallopt(M_TOP_PAD, 256 << 20);
}

// What the libraries say, without their stack.
std::string in_brief(const std::string& message) {
  if (message.find("llocate memory") != message.npos)
    return "memory does not suffice: a smaller model or batch needs less";
  return message.substr(
      0, std::min(message.find("\nException raised from"), message.find("\nframe #")));
}

int run(int argc, char** argv) {
  CLI::App app{"Pretrain transformers that have no activation outliers, and quantize them."};
  app.set_version_flag("--version", "quench " QUENCH_VERSION);
  app.require_subcommand(1);
  bool quiet = false;
  app.add_flag("-q,--quiet", quiet, "only warnings and errors");
  app.parse_complete_callback([&] {
    if (quiet) quench::set_log_level(quench::LogLevel::kWarning);
  });
  for (const auto add : {quench::add_train, quench::add_eval, quench::add_ptq, quench::add_sweep,
                         quench::add_forward, quench::add_tokenizer, quench::add_data,
                         quench::add_convert, quench::add_config, quench::add_doctor})
    add(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return 0;
}

// What nobody gave us to read and write must not be the next file that is opened.
void open_standard_streams() {
  for (int descriptor; (descriptor = ::open("/dev/null", O_RDWR)) >= 0;)
    if (descriptor > STDERR_FILENO) return void(::close(descriptor));
}

// A file that is mapped has become shorter.
void on_bus_error(int) {
  constexpr std::string_view kMessage =
      "quench: a file that was being read was cut by another program\n";
  [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, kMessage.data(), kMessage.size());
  ::_exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  open_standard_streams();
  std::signal(SIGBUS, on_bus_error);
  keep_large_blocks();
  try {
    return run(argc, argv);
  } catch (const quench::Exit& exit) {
    return exit.status;
  } catch (const quench::Interrupted& interrupted) {
    std::cerr << "quench: stopped by a signal" << std::endl;
    return 128 + interrupted.signal;
  } catch (const quench::UsageError& error) {
    std::cerr << "quench: " << error.what() << std::endl;
    return 2;
  } catch (const std::bad_alloc&) {
    std::cerr << "quench: " << in_brief("cannot allocate memory") << std::endl;
    return 1;
  } catch (const std::length_error&) {  // of a vector: more than any memory
    std::cerr << "quench: " << in_brief("cannot allocate memory") << std::endl;
    return 1;
  } catch (const std::filesystem::filesystem_error& error) {  // a name that is too long
    std::cerr << "quench: " << error.path1().string() << ": " << error.code().message()
              << std::endl;
    return 1;
  } catch (const std::exception& error) {
    std::cerr << "quench: " << in_brief(error.what()) << std::endl;
    return 1;
  }
}
