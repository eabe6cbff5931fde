"""One training step (forward, backward, norm clipping, AdamW; float32, CPU) of quench beside its Python peers.

Every contender is a process of its own with the same number of threads. They take turns within each round, so that
what else the machine does meets them all, and are compared round by round. quench also says what its step's matrix
products alone take, and at the end its kinds of attention run beside each other. The peers are transformers' own
models, and the straightforward PyTorch code of the paper's formulas on top of them: see train_step_peer.py, which also
explains their names.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
QUENCH = HERE.parents[1] / "build/tests/bench/train_step"

SIZES = ("model", "batch", "length", "layers", "hidden", "heads", "ffn", "vocab", "dropout")
BASE = {"layers": 12, "hidden": 768, "heads": 12, "ffn": 3072}
PRESETS = {
    "bert-base": {"model": "bert", "batch": 8, "length": 128, **BASE, "vocab": 30522, "dropout": 0.1},
    "opt-125m": {"model": "opt", "batch": 2, "length": 512, **BASE, "vocab": 50272, "dropout": 0.1},
    # `length` is the side of an image, `vocab` the number of classes.
    "vit-s16": {
        "model": "vit", "batch": 8, "length": 224, "layers": 12, "hidden": 384, "heads": 6, "ffn": 1536,
        "vocab": 1000, "dropout": 0.0,
    },
}  # fmt: skip
ATTENTIONS = {
    "bert": ("vanilla", "clipped", "gated_mlp"),
    "opt": ("vanilla", "clipped", "gated_linear"),
    "vit": ("vanilla", "clipped", "gated_mlp"),
}
GATED = ("eager+heads", "eager+batched", "sdpa+batched", "sdpa+batched+fused")
PEERS = {
    "vanilla": ("eager", "eager+fused", "sdpa", "sdpa+fused"),
    "clipped": ("eager", "eager+fused"),
    "gated_mlp": GATED,
    "gated_linear": GATED,
}
# What our binary asks of malloc, for the peers too: large temporaries stay in the heap.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": 1 << 30, "MALLOC_TRIM_THRESHOLD_": 1 << 30, "MALLOC_TOP_PAD_": 256 << 20}


class Contender:
    def __init__(self, label, name, size, arguments):
        self.label, self.name = label, name
        environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads), "HF_HUB_OFFLINE": "1"}
        if name == "quench":
            options = [f"--{key}={value}" for key, value in size.items()]
            command = [arguments.quench, *options, "--serve"]
        else:
            environment |= {key: str(value) for key, value in MALLOC.items()}
            command = [sys.executable, HERE / "train_step_peer.py", name, json.dumps(size)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self.seconds, self.products, self.losses = [], [], []

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.label} ended with status {self.process.wait()}; what it said stands above")
        return line.strip()

    def ask(self, question):
        try:
            print(question, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass  # it ended, as read() says
        return json.loads(self.read())

    def measure(self):
        answer = self.ask("step")
        self.seconds.append(answer["seconds"])
        self.losses.append(answer["loss"])
        if self.name == "quench":
            self.products.append(self.ask("products")["seconds"])

    def quit(self):
        print("quit", file=self.process.stdin, flush=True)
        self.process.wait()


def compete(entries, arguments):
    """The results of each contender, by label; entries: (label, name, size)."""
    contenders = [Contender(*entry, arguments) for entry in entries]
    for contender in contenders:
        ready = contender.read()
        if ready != "ready":
            sys.exit(f"{contender.label}: expected 'ready', got '{ready}'")
    for _ in range(arguments.warmup):
        for contender in contenders:
            contender.ask("step")
    for turn in range(arguments.rounds):
        first = turn % len(contenders)
        for contender in contenders[first:] + contenders[:first]:
            contender.measure()
        print(f"round {turn + 1} of {arguments.rounds}", end="\r", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    results = {}
    for contender in contenders:
        results[contender.label] = {
            "seconds": contender.seconds, "products": contender.products, "losses": contender.losses,
            **contender.ask("memory"),
        }  # fmt: skip
        contender.quit()
    return results


def spread(values, digits):
    return " – ".join(f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))


def table(attention, results):
    base = next(iter(results))  # quench, unless it was left out
    lines = [
        f"| {attention} | s/step, min – median – max | median ÷ {base}'s | ÷ {base}, by round | peak RSS, MB |",
        "|---|---|---|---|---|",
    ]
    ours = results[base]["seconds"]
    for name, result in results.items():
        theirs = result["seconds"]
        ratio = statistics.median(theirs) / statistics.median(ours)
        paired = spread([their / our for their, our in zip(theirs, ours)], 2)
        row = (name, spread(theirs, 4), f"{ratio:.2f}", paired, f"{result['peak_rss_mb']:.0f}")
        lines.append(f"| {' | '.join(row)} |")
    if products := results[base]["products"]:
        paired = spread([step / product for step, product in zip(ours, products)], 2)
        lines.append(f"\nStep ÷ its matrix products alone: {paired} (products: {spread(products, 4)} s)")
    return "\n".join(lines) + "\n"


def machine():
    info = Path("/proc/cpuinfo")
    models = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores"


def versions():
    return ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="bert-base")
    parser.add_argument("--attention", help="comma-separated; default: all of the model's")
    parser.add_argument("--contenders", help="comma-separated, e.g. quench,sdpa+fused; default: all")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quench", default=QUENCH, help="our program (%(default)s)")
    parser.add_argument("--json", help="also write every number to this file")
    for key in SIZES[1:]:
        parser.add_argument(f"--{key}", type=float if key == "dropout" else int, help="instead of the preset's")
    return parser.parse_args()


def main():
    arguments = parse()
    size = dict(PRESETS[arguments.preset])
    size |= {key: getattr(arguments, key) for key in SIZES[1:] if getattr(arguments, key) is not None}
    attentions = arguments.attention.split(",") if arguments.attention else ATTENTIONS[size["model"]]
    described = ", ".join(f"{key} {value}" for key, value in size.items())
    print(f"{machine()}; {arguments.threads} threads; {versions()}\n\n{described}; {arguments.rounds} rounds\n")
    report = {"machine": machine(), "threads": arguments.threads, "versions": versions(), "size": size, "results": {}}
    for attention in attentions:
        names = ["quench", *PEERS[attention]]
        if arguments.contenders:
            names = [name for name in names if name in arguments.contenders.split(",")]
        if not names:
            sys.exit(f"--contenders: none of {arguments.contenders} competes with {attention} attention")
        if "quench" in names and not Path(arguments.quench).exists():
            sys.exit(f"{arguments.quench} does not exist: build it (target benches), or name it with --quench")
        results = compete([(name, name, {**size, "attention": attention}) for name in names], arguments)
        report["results"][attention] = results
        print(table(attention, results), flush=True)
    if len(attentions) > 1 and "quench" in names:
        results = compete([(each, "quench", {**size, "attention": each}) for each in attentions], arguments)
        report["results"]["quench"] = results
        print(table("quench", results), flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
