// quench: pretrain transformers that have no activation outliers, and quantize them.
#include <malloc.h>

#include <exception>
#include <iostream>

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

}  // namespace

int main(int argc, char** argv) {
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
  } catch (const std::exception& error) {
    std::string message = error.what();
    std::cerr << "quench: " << message.substr(0, message.find("\nException raised from"))
              << std::endl;
    return 1;
  }
}
