// Autocast for the lifetime of an object: fp32 (off), bf16 or fp16. Master weights stay float32.
#pragma once

#include <ATen/autocast_mode.h>

#include <string>

namespace quench {

class Autocast {
 public:
  Autocast(const std::string& precision, at::Device device)
      : type_(device.type()), on_(precision != "fp32") {
    if (!on_) return;
    at::autocast::set_autocast_dtype(type_, precision == "bf16" ? at::kBFloat16 : at::kHalf);
    at::autocast::set_autocast_enabled(type_, true);
  }
  ~Autocast() {
    if (!on_) return;
    at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(type_, false);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  at::DeviceType type_;
  bool on_;
};

}  // namespace quench
