#include "data/image/decode.h"

#include <gtest/gtest.h>
#include <jpeglib.h>
#include <png.h>
#include <webp/encode.h>

#include <cstdlib>
#include <cstring>

#include "support.h"

namespace quench::testing_images {
namespace {

std::vector<uint8_t> bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A PNG of `rows`, each as the format stores it.
std::vector<uint8_t> encode_png(int width, int depth, int color_type, int interlace,
                                std::vector<std::vector<uint8_t>> rows) {
  std::vector<uint8_t> out;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &out,
      [](png_structp p, png_bytep data, size_t count) {
        auto* target = static_cast<std::vector<uint8_t>*>(png_get_io_ptr(p));
        target->insert(target->end(), data, data + count);
      },
      nullptr);
  png_set_IHDR(png, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(rows.size()),
               depth, color_type, interlace, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (color_type == PNG_COLOR_TYPE_PALETTE) {
    const png_color palette[4] = {{1, 2, 3}, {250, 0, 0}, {0, 250, 0}, {0, 0, 250}};
    const png_byte alpha[2] = {0, 128};
    png_set_PLTE(png, info, palette, 4);
    png_set_tRNS(png, info, alpha, 2, nullptr);
  }
  std::vector<png_bytep> pointers;
  for (auto& row : rows) pointers.push_back(row.data());
  png_set_rows(png, info, pointers.data());
  png_write_png(png, info, PNG_TRANSFORM_IDENTITY, nullptr);
  png_destroy_write_struct(&png, &info);
  return out;
}

std::vector<uint8_t> encode_ycck(const std::vector<uint8_t>& inverted_cmyk, int side) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* buffer = nullptr;
  unsigned long size = 0;  // NOLINT: the library's type
  jpeg_mem_dest(&info, &buffer, &size);
  info.image_width = info.image_height = static_cast<JDIMENSION>(side);
  info.input_components = 4;
  info.in_color_space = JCS_CMYK;
  jpeg_set_defaults(&info);
  jpeg_set_colorspace(&info, JCS_YCCK);
  jpeg_set_quality(&info, 100, TRUE);
  jpeg_start_compress(&info, TRUE);
  for (int y = 0; y < side; ++y) {
    JSAMPROW row = const_cast<uint8_t*>(inverted_cmyk.data()) + size_t{4} * side * y;
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  std::vector<uint8_t> out(buffer, buffer + size);
  jpeg_destroy_compress(&info);
  std::free(buffer);
  return out;
}

class DecodeJpeg : public ::testing::TestWithParam<const char*> {};

TEST_P(DecodeJpeg, EqualsPil) {
  const std::string name = GetParam();
  EXPECT_EQ(golden(name + ".jpg"), golden(name + "_decoded.png"));
}

INSTANTIATE_TEST_SUITE_P(ColorSpaces, DecodeJpeg, ::testing::Values("rgb", "grey", "cmyk"));

TEST(Decode, ReadsYcckAsInvertedCmyk) {
  // 255 - C, 255 - M, 255 - Y, 255 - K: red, at 200 of 255 brightness.
  std::vector<uint8_t> pixels;
  for (int i = 0; i < 64; ++i) pixels.insert(pixels.end(), {255, 0, 0, 200});
  const Image image = decode_image(encode_ycck(pixels, 8), "ycck");
  EXPECT_NEAR(image.row(4)[12], 200, 3);
  EXPECT_NEAR(image.row(4)[13], 0, 3);
  EXPECT_NEAR(image.row(4)[14], 0, 3);
}

TEST(Decode, ReplicatesGreyOfEveryDepth) {
  const Image one_bit = decode_image(encode_png(4, 1, PNG_COLOR_TYPE_GRAY, 0, {{0xA0}}), "1");
  EXPECT_EQ(one_bit.rgb, (std::vector<uint8_t>{255, 255, 255, 0, 0, 0, 255, 255, 255, 0, 0, 0}));
  const Image four_bits = decode_image(encode_png(2, 4, PNG_COLOR_TYPE_GRAY, 0, {{0x3F}}), "4");
  EXPECT_EQ(four_bits.rgb, (std::vector<uint8_t>{51, 51, 51, 255, 255, 255}));
  const Image sixteen =
      decode_image(encode_png(2, 16, PNG_COLOR_TYPE_GRAY, 0, {{0x12, 0xFF, 0x80, 0}}), "16");
  EXPECT_EQ(sixteen.rgb, (std::vector<uint8_t>{0x12, 0x12, 0x12, 0x80, 0x80, 0x80}));
}

TEST(Decode, DropsAlpha) {
  const Image rgba =
      decode_image(encode_png(2, 8, PNG_COLOR_TYPE_RGBA, 0, {{9, 8, 7, 0, 6, 5, 4, 255}}), "rgba");
  EXPECT_EQ(rgba.rgb, (std::vector<uint8_t>{9, 8, 7, 6, 5, 4}));
  const Image grey =
      decode_image(encode_png(1, 8, PNG_COLOR_TYPE_GRAY_ALPHA, 0, {{33, 0}}), "grey alpha");
  EXPECT_EQ(grey.rgb, (std::vector<uint8_t>{33, 33, 33}));
}

TEST(Decode, LooksUpThePaletteAndIgnoresItsTransparency) {
  const Image image =
      decode_image(encode_png(4, 2, PNG_COLOR_TYPE_PALETTE, 0, {{0b00011011}}), "palette");
  EXPECT_EQ(image.rgb, (std::vector<uint8_t>{1, 2, 3, 250, 0, 0, 0, 250, 0, 0, 0, 250}));
}

TEST(Decode, InterlacedEqualsPlain) {
  std::vector<std::vector<uint8_t>> rows(9);
  for (size_t y = 0; y < rows.size(); ++y) {
    for (size_t x = 0; x < 33; ++x) rows[y].push_back(static_cast<uint8_t>(7 * y + 5 * x));
  }
  const Image plain = decode_image(encode_png(11, 8, PNG_COLOR_TYPE_RGB, 0, rows), "plain");
  const Image interlaced =
      decode_image(encode_png(11, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_ADAM7, rows), "adam7");
  EXPECT_EQ(plain, interlaced);
  EXPECT_EQ(plain.row(8)[32], 7 * 8 + 5 * 32);
}

TEST(Decode, EveryTruncationIsAnErrorThatNamesTheFile) {
  for (const char* name : {"rgb.jpg", "cmyk.jpg", "input.png"}) {
    const std::vector<uint8_t> whole = bytes_of(golden_path(name));
    for (size_t length = 0; length + 2 < whole.size(); length += 13) {
      const std::span<const uint8_t> part(whole.data(), length);
      EXPECT_TRUE(mentions(error_of([&] { decode_image(part, "broken"); }), {"broken: "}))
          << name << " cut to " << length << " bytes";
    }
  }
}

TEST(Decode, CorruptPngIsAnError) {
  std::vector<uint8_t> bytes = bytes_of(golden_path("input.png"));
  bytes[bytes.size() / 2] ^= 0x55;
  EXPECT_TRUE(mentions(error_of([&] { decode_image(bytes, "bad.png"); }),
                       {"bad.png: cannot decode this PNG: "}));
}

// Lossless, so that the pixels come back; transparent ones keep their colour, as in PIL.
TEST(Decode, ReadsWebp) {
  const Image image = golden("input.png");
  const auto pixels = static_cast<size_t>(image.width * image.height);
  std::vector<uint8_t> rgba(4 * pixels);
  for (size_t i = 0; i < pixels; ++i) {
    std::copy_n(&image.rgb[3 * i], 3, &rgba[4 * i]);
    rgba[4 * i + 3] = static_cast<uint8_t>(128 + i % 128);
  }
  for (const bool alpha : {false, true}) {
    uint8_t* file = nullptr;
    const size_t size = alpha ? WebPEncodeLosslessRGBA(rgba.data(), image.width, image.height,
                                                       4 * image.width, &file)
                              : WebPEncodeLosslessRGB(image.rgb.data(), image.width, image.height,
                                                      3 * image.width, &file);
    const std::vector<uint8_t> bytes(file, file + size);
    WebPFree(file);
    EXPECT_EQ(decode_image(bytes, "a.webp"), image);
    for (const size_t cut : {size_t{12}, size_t{20}, size - 9})
      EXPECT_TRUE(mentions(error_of([&] {
                             decode_image({bytes.data(), cut}, "a.webp");
                           }),
                           {"a.webp: cannot decode this WebP: "}));
  }
  const std::string animation("RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\x0f\0\0\x0f\0\0", 30);
  EXPECT_TRUE(mentions(error_of([&] {
                         decode_image(
                             {reinterpret_cast<const uint8_t*>(animation.data()), animation.size()},
                             "b.webp");
                       }),
                       {"b.webp: cannot decode this WebP: it is an animation"}));
}

TEST(Decode, RefusesHugeHeadersBeforeAllocating) {
  std::vector<uint8_t> bytes = bytes_of(golden_path("rgb.jpg"));
  for (size_t i = 0; i + 8 < bytes.size(); ++i) {
    if (bytes[i] != 0xFF || bytes[i + 1] != 0xC0) continue;
    for (size_t k = 5; k < 9; ++k) bytes[i + k] = 0xFF;  // 65535 x 65535
    break;
  }
  EXPECT_NE(error_of([&] { decode_image(bytes, "huge.jpg"); }), "");
}

TEST(Decode, OtherFormatsAndMissingFilesAreErrors) {
  const std::vector<uint8_t> gif{'G', 'I', 'F', '8', '9', 'a'};
  EXPECT_TRUE(mentions(error_of([&] { decode_image(gif, "a.jpg"); }),
                       {"a.jpg", "neither a JPEG, a PNG nor a WebP"}));
  EXPECT_TRUE(mentions(error_of([&] { decode_image({}, "b.jpg"); }), {"b.jpg: the file is empty"}));
  EXPECT_TRUE(mentions(error_of([] { read_image("no/such.png"); }), {"no/such.png: cannot open"}));
}

}  // namespace
}  // namespace quench::testing_images
