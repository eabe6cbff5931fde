"""The peer of image_loader.cpp: the same work as timm's training pipeline does it, with Pillow and timm's own
RandAugment, one process a worker. Needs pillow, numpy and timm (its torch-free part only).
Usage: image_loader.py FOLDER IMAGE_SIZE WORKERS BATCHES"""
import importlib.util
import math
import multiprocessing
import os
import pathlib
import random
import sys
import time

import numpy as np
from PIL import Image

folder, size, workers, batches = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
batch = 128
timm = pathlib.Path(importlib.util.find_spec("timm").origin).parent
spec = importlib.util.spec_from_file_location("auto_augment", timm / "data" / "auto_augment.py")
auto_augment = importlib.util.module_from_spec(spec)
spec.loader.exec_module(auto_augment)
augment = auto_augment.rand_augment_transform("rand-m9-mstd0.5-inc1", {"img_mean": (128, 128, 128)})


def crop_box(width, height):
    for _ in range(10):
        area = random.uniform(0.08, 1.0) * width * height
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            x, y = random.randint(0, width - w), random.randint(0, height - h)
            return x, y, x + w, y + h
    return 0, 0, width, height


def load(path):
    image = Image.open(path).convert("RGB")
    filters = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC]
    image = image.crop(crop_box(*image.size)).resize((size, size), random.choice(filters))
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = np.asarray(augment(image), dtype=np.float32).transpose(2, 0, 1)
    return (pixels / np.float32(255) - np.float32(0.5)) / np.float32(0.5)


def make_batch(step):
    random.seed(step)
    np.random.seed(step)
    pixels = np.stack([load(files[(step * batch + i) * 97 % len(files)]) for i in range(batch)])
    return float((pixels * np.float32(0.7) + pixels[::-1] * np.float32(0.3))[0, 0, 0, 0])


files = sorted(p for p in pathlib.Path(folder).rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
pool = multiprocessing.Pool(workers)
pool.map(make_batch, range(workers), 1)  # warms up
start = time.perf_counter()
pool.map(make_batch, range(workers, workers + batches), 1)
seconds = time.perf_counter() - start
pool.close()
pool.join()
cpu_seconds = os.times().children_user + os.times().children_system
print(f"pillow + timm  {batches * batch / seconds:.0f} images/s, "
      f"{(workers + batches) * batch / cpu_seconds:.0f} per CPU second")
