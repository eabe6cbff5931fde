#include "data/image/resize.h"

#include <gtest/gtest.h>

#include "support.h"

namespace quench::testing_images {
namespace {

struct ResizeCase {
  Box box;
  int width, height;
  Interpolation filter;
  const char* file;
};

class ResizeGolden : public ::testing::TestWithParam<ResizeCase> {};

TEST_P(ResizeGolden, EqualsPillow) {
  const ResizeCase& c = GetParam();
  EXPECT_EQ(resize(golden("input.png"), c.box, c.width, c.height, c.filter), golden(c.file));
}

INSTANTIATE_TEST_SUITE_P(
    UpAndDown, ResizeGolden,
    ::testing::Values(
        ResizeCase{{0, 0, 32, 24}, 13, 11, Interpolation::kBicubic, "resize_13x11_bicubic.png"},
        ResizeCase{{3, 2, 24, 20}, 40, 15, Interpolation::kBicubic, "resize_40x15_bicubic.png"},
        ResizeCase{{3, 2, 24, 20}, 10, 37, Interpolation::kBilinear, "resize_10x37_bilinear.png"},
        ResizeCase{{5, 5, 7, 7}, 30, 30, Interpolation::kBilinear, "resize_30x30_bilinear.png"}));

TEST(Resize, ToTheSameSizeChangesNothing) {
  const Image image = golden("input.png");
  EXPECT_EQ(resize(image, image.width, image.height, Interpolation::kBicubic), image);
}

TEST(Resize, DoesNotLookOutsideTheBox) {
  Image image(8, 8);
  for (int y = 2; y < 6; ++y) std::fill(image.row(y) + 6, image.row(y) + 18, uint8_t{200});
  const Image out = resize(image, Box{2, 2, 4, 4}, 16, 16, Interpolation::kBicubic);
  EXPECT_EQ(out.rgb, std::vector<uint8_t>(out.rgb.size(), 200));
}

TEST(Resize, RefusesABoxOutsideTheImage) {
  EXPECT_NE(error_of([] {
              resize(Image(4, 4), Box{1, 0, 4, 4}, 2, 2, Interpolation::kBilinear);
            }),
            "");
}

// Byte for byte what cropping after resizing gives.
TEST(Resize, AWindowIsAPartOfTheWhole) {
  const Image image = golden("input.png");
  const Box box{3, 2, image.width - 5, image.height - 4};
  for (const Interpolation filter : {Interpolation::kBilinear, Interpolation::kBicubic})
    for (const auto& [width, height] :
         {std::pair{70, 90}, {11, 13}, {box.width, 40}, {40, box.height}}) {
      const Image whole = resize(image, box, width, height, filter);
      const Box window{2, 3, 7, 5};
      const Image part = resize(image, box, width, height, filter, window);
      for (int y = 0; y < window.height; ++y)
        for (int i = 0; i < 3 * window.width; ++i)
          ASSERT_EQ(part.row(y)[i], whole.row(window.top + y)[3 * window.left + i])
              << width << " x " << height;
    }
}

// The whole of it, resized, would be 224 x 14,680,064 pixels.
TEST(Resize, APictureOfAnyShapeTakesWhatItsSquareNeeds) {
  Image line(1, 65536);
  for (int y = 0; y < line.height; ++y) line.row(y)[0] = static_cast<uint8_t>(y / 256);
  const Image square = resize_and_center_crop(line, 224, 224, Interpolation::kBicubic);
  EXPECT_EQ(square.width, 224);
  EXPECT_EQ(square.height, 224);
  EXPECT_EQ(square.row(0)[0], 127);
  EXPECT_EQ(square.row(223)[3 * 223], 128);
  Image flat(65536, 1);
  EXPECT_EQ(resize_and_center_crop(flat, 224, 224, Interpolation::kBilinear).row(223)[669], 0);
}

TEST(FlipHorizontal, MirrorsPixelsNotChannels) {
  Image image(2, 1);
  image.rgb = {1, 2, 3, 4, 5, 6};
  EXPECT_EQ(flip_horizontal(image).rgb, (std::vector<uint8_t>{4, 5, 6, 1, 2, 3}));
}

}  // namespace
}  // namespace quench::testing_images
