#include "data/image/decode.h"

#include <jerror.h>
#include <jpeglib.h>
#include <png.h>
#include <webp/decode.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <utility>
#include <vector>

#include "base/error.h"

namespace quench {
namespace {

// So many that a photograph never has them; three bytes each, and twice as many again while a
// progressive JPEG is read.
constexpr int64_t kMaxPixels = int64_t{1} << 27;
constexpr long kMaxJpegMemory = 900L << 20;

// The C libraries leave through longjmp, which runs no destructors: everything with one is a member
// here, made before setjmp, and nothing is constructed between setjmp and the last library call.
struct JpegReader {
  jpeg_decompress_struct info{};
  jpeg_error_mgr errors{};
  std::jmp_buf escape;
  char message[JMSG_LENGTH_MAX] = "";
  std::vector<uint8_t> line;
  Image image;

  JpegReader() {
    info.err = jpeg_std_error(&errors);
    info.client_data = this;
    errors.error_exit = [](j_common_ptr common) { give_up(common); };
    errors.emit_message = [](j_common_ptr common, int) {
      // The library would go on with grey pixels; other warnings leave a usable picture.
      if (common->err->msg_code == JWRN_JPEG_EOF) give_up(common);
    };
  }
  ~JpegReader() { jpeg_destroy_decompress(&info); }

  [[noreturn]] static void give_up(j_common_ptr common) {
    auto* self = static_cast<JpegReader*>(common->client_data);
    common->err->format_message(common, self->message);
    std::longjmp(self->escape, 1);
  }

  bool read(std::span<const uint8_t> bytes);
};

// Adobe writes CMYK inverted, so `in` holds 255 - C, 255 - M, 255 - Y, 255 - K.
void inverted_cmyk_to_rgb(const uint8_t* in, uint8_t* out, int width) {
  for (int x = 0; x < width; ++x, in += 4, out += 3) {
    const int white = in[3];
    for (int c = 0; c < 3; ++c) {
      const int product = (255 - in[c]) * white + 128;
      out[c] = static_cast<uint8_t>(std::max(0, white - ((product + (product >> 8)) >> 8)));
    }
  }
}

bool JpegReader::read(std::span<const uint8_t> bytes) {
  if (setjmp(escape) != 0) return false;
  jpeg_create_decompress(&info);
  info.mem->max_memory_to_use = kMaxJpegMemory;
  jpeg_mem_src(&info, bytes.data(), bytes.size());
  jpeg_read_header(&info, TRUE);
  const bool cmyk = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
  info.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
  if (int64_t{info.image_width} * info.image_height > kMaxPixels) {
    std::snprintf(message, sizeof message, "%u x %u pixels are too many", info.image_width,
                  info.image_height);
    return false;
  }
  image.width = static_cast<int>(info.image_width);
  image.height = static_cast<int>(info.image_height);
  image.rgb.resize(size_t{3} * info.image_width * info.image_height);
  if (cmyk) line.resize(size_t{4} * info.image_width);
  jpeg_start_decompress(&info);
  while (info.output_scanline < info.output_height) {
    uint8_t* out = image.row(static_cast<int>(info.output_scanline));
    uint8_t* target = cmyk ? line.data() : out;
    jpeg_read_scanlines(&info, &target, 1);
    if (cmyk) inverted_cmyk_to_rgb(line.data(), out, image.width);
  }
  jpeg_finish_decompress(&info);
  return true;
}

struct PngReader {
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::span<const uint8_t> rest;
  char message[256] = "";
  std::vector<uint8_t*> rows;
  Image image;

  PngReader() {
    png = png_create_read_struct(
        PNG_LIBPNG_VER_STRING, this,
        [](png_structp p, png_const_charp text) {
          auto* self = static_cast<PngReader*>(png_get_error_ptr(p));
          std::snprintf(self->message, sizeof self->message, "%s", text);
          png_longjmp(p, 1);
        },
        [](png_structp, png_const_charp) {});
    info = png == nullptr ? nullptr : png_create_info_struct(png);
    check(info != nullptr, "png: out of memory");
  }
  ~PngReader() { png_destroy_read_struct(&png, &info, nullptr); }

  static void take(png_structp p, png_bytep out, size_t count) {
    auto* self = static_cast<PngReader*>(png_get_io_ptr(p));
    if (count > self->rest.size()) png_error(p, "the file ends early");
    std::memcpy(out, self->rest.data(), count);
    self->rest = self->rest.subspan(count);
  }

  bool read(std::span<const uint8_t> bytes);
};

bool PngReader::read(std::span<const uint8_t> bytes) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  rest = bytes;
  png_set_read_fn(png, this, take);
  png_read_info(png, info);
  const png_uint_32 width = png_get_image_width(png, info);
  const png_uint_32 height = png_get_image_height(png, info);
  if (int64_t{width} * height > kMaxPixels) png_error(png, "too many pixels");
  png_set_expand(png);
  png_set_strip_16(png);
  png_set_strip_alpha(png);
  png_set_gray_to_rgb(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  if (png_get_rowbytes(png, info) != size_t{3} * width) png_error(png, "unexpected row length");
  image.width = static_cast<int>(width);
  image.height = static_cast<int>(height);
  image.rgb.resize(size_t{3} * width * height);
  rows.resize(height);
  for (png_uint_32 y = 0; y < height; ++y) rows[y] = image.row(static_cast<int>(y));
  png_read_image(png, rows.data());
  png_read_end(png, nullptr);
  return true;
}

struct WebpReader {
  char message[64] = "";
  Image image;

  bool read(std::span<const uint8_t> bytes);
};

bool WebpReader::read(std::span<const uint8_t> bytes) {
  const auto refuse = [&](const char* why) {
    std::snprintf(message, sizeof message, "%s", why);
    return false;
  };
  WebPBitstreamFeatures features;
  if (WebPGetFeatures(bytes.data(), bytes.size(), &features) != VP8_STATUS_OK)
    return refuse("its header is damaged");
  if (features.has_animation) return refuse("it is an animation");
  if (int64_t{features.width} * features.height > kMaxPixels) return refuse("too many pixels");
  image.width = features.width;
  image.height = features.height;
  image.rgb.resize(size_t{3} * features.width * features.height);
  if (!WebPDecodeRGBInto(bytes.data(), bytes.size(), image.rgb.data(), image.rgb.size(),
                         3 * features.width))
    return refuse("it is cut or damaged");
  return true;
}

template <class Reader>
Image decode_with(std::span<const uint8_t> bytes, const std::string& name, const char* format) {
  Reader reader;
  if (!reader.read(bytes)) fail(name, ": cannot decode this ", format, ": ", reader.message);
  return std::move(reader.image);
}

bool starts_with(std::span<const uint8_t> bytes, std::initializer_list<uint8_t> magic) {
  return bytes.size() >= magic.size() && std::equal(magic.begin(), magic.end(), bytes.begin());
}

}  // namespace

Image decode_image(std::span<const uint8_t> bytes, const std::string& name) {
  check(!bytes.empty(), name, ": the file is empty, expected a JPEG, PNG or WebP image");
  if (starts_with(bytes, {0xFF, 0xD8, 0xFF})) return decode_with<JpegReader>(bytes, name, "JPEG");
  if (starts_with(bytes, {0x89, 'P', 'N', 'G'})) return decode_with<PngReader>(bytes, name, "PNG");
  if (starts_with(bytes, {'R', 'I', 'F', 'F'}) &&
      starts_with(bytes.subspan(std::min<size_t>(8, bytes.size())), {'W', 'E', 'B', 'P'}))
    return decode_with<WebpReader>(bytes, name, "WebP");
  fail(name, ": neither a JPEG, a PNG nor a WebP image (its first bytes say so)");
}

Image read_image(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  check(file.good(), path, ": cannot open this image");
  std::vector<uint8_t> bytes(static_cast<size_t>(file.tellg()));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  check(file.good(), path, ": cannot read this image");
  return decode_image(bytes, path);
}

}  // namespace quench
