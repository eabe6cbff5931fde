"""Makes this folder's pictures: what Pillow (up to 12) and timm give for the cases that the tests list in the
same order. Needs pillow, numpy and timm (its torch-free part only): python make.py"""
import importlib.util
import pathlib
import random

import numpy as np
from PIL import Image, ImageDraw

here = pathlib.Path(__file__).parent
bilinear, bicubic = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC


def make_input():
    width, height = 32, 24
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    planes = [20 + 6 * x, 230 - 5 * y - 2 * x, 60 + 4 * ((x * y) % 40)]
    image = Image.fromarray(np.stack(planes, -1).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse((4, 3, 14, 15), fill=(250, 240, 10))
    draw.polygon([(18, 20), (29, 18), (24, 5)], fill=(5, 12, 90))
    draw.line((0, 23, 31, 0), fill=(140, 140, 140))
    return image


def load_timm():
    folder = pathlib.Path(importlib.util.find_spec("timm").origin).parent
    spec = importlib.util.spec_from_file_location("auto_augment", folder / "data" / "auto_augment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rand_ops(image):
    """Each op of `rand-...-inc1` at three levels, both signs, both filters, one below the other."""
    timm = load_timm()
    results = []
    for name in timm._RAND_INCREASING_TRANSFORMS:
        for level, negate, resample in [(9.0, False, bicubic), (4.3, True, bilinear), (10.0, True, bicubic)]:
            op = timm.AugmentOp(name, prob=1.0, magnitude=level,
                                hparams={"img_mean": (124, 116, 104), "interpolation": resample})
            random.random = lambda: 0.9 if negate else 0.1
            try:
                results.append(op(image))
            except ValueError:  # Pillow 12.1 refuses to posterize to 0 bits, which older versions draw black
                results.append(Image.new("RGB", image.size))
    strip = Image.new("RGB", (image.width, image.height * len(results)))
    for i, result in enumerate(results):
        strip.paste(result, (0, i * image.height))
    strip.save(here / "rand_ops.png", optimize=True)


def resizes(image):
    for box, size, name, resample in [((0, 0, 32, 24), (13, 11), "bicubic", bicubic),
                                      ((3, 2, 27, 22), (40, 15), "bicubic", bicubic),
                                      ((3, 2, 27, 22), (10, 37), "bilinear", bilinear),
                                      ((5, 5, 12, 12), (30, 30), "bilinear", bilinear)]:
        image.crop(box).resize(size, resample).save(here / f"resize_{size[0]}x{size[1]}_{name}.png", optimize=True)
    # timm's evaluation at image_size 17, crop_pct 0.9: shorter side 18, longer 24, then the centre.
    image.resize((24, 18), bicubic).crop((4, 0, 21, 17)).save(here / "evaluation_17.png", optimize=True)


def jpegs(image):
    for name, mode in [("rgb", "RGB"), ("grey", "L"), ("cmyk", "CMYK")]:
        image.convert(mode).save(here / f"{name}.jpg", quality=90)
        Image.open(here / f"{name}.jpg").convert("RGB").save(here / f"{name}_decoded.png", optimize=True)


picture = make_input()
picture.save(here / "input.png", optimize=True)
rand_ops(picture)
resizes(picture)
jpegs(picture)
