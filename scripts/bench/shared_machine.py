#!/usr/bin/env python3
"""Training beside a busy neighbour: how OpenMP's threads wait for each other decides it.

    scripts/bench/shared_machine.py [--rounds N] [--quench build/quench]

Trains a small OPT with one thread, with two threads as quench starts them, and with two threads that wait as OpenMP's
library likes it; alone, and beside one process that never sleeps. Prints tokens/s: minimum, median, maximum of the
rounds, which take turns.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

CONFIG = """
model: {type: opt, vocab_size: 2000, hidden_size: 64, num_hidden_layers: 4, num_attention_heads: 4, ffn_dim: 256,
        max_position_embeddings: 128}
data: {type: text, files: ["${LIBTORCH_INCLUDE}/ATen/*.h"], max_seq_length: 128}
tokenizer: {vocab_size: 2000}
train: {steps: 24, batch_size: 64, log_every: 4, checkpoint_every: 0}
eval: {max_batches: 1, outliers: false}
"""
WAYS = {
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "2 threads": {"OMP_NUM_THREADS": "2"},
    "2 threads that spin": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "300000"},  # libgomp's own count
}


def tokens_per_second(quench, folder, settings):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
    with tempfile.TemporaryDirectory(dir=folder) as run:
        subprocess.run([quench, "-q", "train", folder / "opt.yaml", "--output", run], check=True,
                       env={**environment, **settings, "QUENCH_CACHE": str(folder / "cache")})
        lines = [json.loads(line) for line in (pathlib.Path(run) / "metrics.jsonl").read_text().splitlines()]
    rates = [line["tokens_per_second"] for line in lines if "tokens_per_second" in line]
    return statistics.median(rates[1:])  # the first holds the warm-up


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quench", default="build/quench", type=lambda path: str(pathlib.Path(path).resolve()))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "opt.yaml").write_text(CONFIG)
        tokens_per_second(arguments.quench, folder, WAYS["1 thread"])  # prepares the text
        rates = {}
        for _ in range(arguments.rounds):
            for place in ("alone", "beside a busy process"):
                neighbour = None
                if place != "alone":
                    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
                try:
                    for way, settings in WAYS.items():
                        rate = tokens_per_second(arguments.quench, folder, settings)
                        rates.setdefault((place, way), []).append(rate)
                finally:
                    if neighbour:
                        neighbour.kill()
                        neighbour.wait()
    for (place, way), all_rates in rates.items():
        low, middle, high = min(all_rates), statistics.median(all_rates), max(all_rates)
        print(f"{place:22} {way:20} {low:9.0f} {middle:9.0f} {high:9.0f} tokens/s")


if __name__ == "__main__":
    main()
