#!/usr/bin/env python3
"""Encoding speed beside Hugging Face's `tokenizers`, one thread each, on the paragraphs of the
validation and test books of books-small. Each round measures quench, then HF's encode_batch, then
HF's encode, in CPU seconds; the ratio compares quench with the faster of the two."""

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import check_tokenizers as check

ROUNDS = 7


def cpu_seconds(function):
    start = time.process_time()
    function()
    return time.process_time() - start


def main():
    check.enter_venv()
    books = [(check.DATA / "books-small" / f"{name}.txt").read_text() for name in ("valid", "test")]
    texts = [part for book in books for part in book.split("\n\n")]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{len(texts)} texts, {megabytes:.1f} MB, {ROUNDS} rounds: minimum - median - maximum")
    with tempfile.TemporaryDirectory() as temporary:
        quench = check.Quench(temporary)
        for kind, name in ("bert", "bert-base-uncased"), ("gpt2", "gpt2"), ("opt", "opt"):
            folder = check.DATA / "tokenizers" / name
            hf = check.hugging_face(kind, folder)
            ours, theirs = [], []
            for _ in range(ROUNDS):
                ours.append(quench.encode(folder / check.vocabulary_name(kind), texts)[1])
                batch = cpu_seconds(lambda: hf.encode_batch(texts, add_special_tokens=False))
                single = cpu_seconds(lambda: [hf.encode(t, add_special_tokens=False) for t in texts])
                theirs.append(min(batch, single))
            ratios = [b / a for a, b in zip(ours, theirs)]
            for title, unit, values in [
                ("quench", "MB/s", [megabytes / s for s in ours]),
                ("HF", "MB/s", [megabytes / s for s in theirs]),
                ("quench / HF", "x", ratios),
            ]:
                low, middle, high = min(values), statistics.median(values), max(values)
                print(f"{name:18} {title:12} {low:6.1f} - {middle:6.1f} - {high:6.1f} {unit}")


if __name__ == "__main__":
    main()
