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

TEST(CenterCrop, PadsASmallPictureWithBlack) {
  Image image(2, 6);
  std::fill(image.rgb.begin(), image.rgb.end(), uint8_t{9});
  const Image out = center_crop(image, 4);
  for (int y = 0; y < 4; ++y) {
    const uint8_t* row = out.row(y);
    EXPECT_EQ(std::vector<uint8_t>(row, row + 12),
              (std::vector<uint8_t>{0, 0, 0, 9, 9, 9, 9, 9, 9, 0, 0, 0}));
  }
}

TEST(FlipHorizontal, MirrorsPixelsNotChannels) {
  Image image(2, 1);
  image.rgb = {1, 2, 3, 4, 5, 6};
  EXPECT_EQ(flip_horizontal(image).rgb, (std::vector<uint8_t>{4, 5, 6, 1, 2, 3}));
}

}  // namespace
}  // namespace quench::testing_images
