"""Training speed on a GPU, beside transformers on the same machine, and where a step's time goes: stages 4 and 5 of
check.sh (docs/gpu.md).

The contenders of a configuration are processes of their own that take turns within each round. Each measures some steps
one after the other, with one wait for the device at the end.
"""
import argparse
import json
import pathlib
import queue
import statistics
import subprocess
import sys
import threading
import time

from machine import nvidia_smi

PEER = pathlib.Path(__file__).resolve().parents[1] / "bench" / "train_step_peer.py"
BASE = {"layers": 12, "hidden": 768, "heads": 12, "ffn": 3072, "dropout": 0.1}
# The paper's batch of one forward pass. ViT: `length` is the side of an image, `vocab` the number of classes.
MODELS = {
    "bert-base": {"model": "bert", "batch": 256, "length": 128, **BASE, "vocab": 30522},
    "opt-125m": {"model": "opt", "batch": 48, "length": 512, **BASE, "vocab": 50272},
    "vit-s16": {"model": "vit", "batch": 512, "length": 224, "layers": 12, "hidden": 384, "heads": 6, "ffn": 1536,
                "dropout": 0.0, "vocab": 1000},
}
TINY = {"batch": 4, "layers": 1, "hidden": 64, "heads": 4, "ffn": 128, "vocab": 500}
GATED = {"bert-base": "gated_mlp", "opt-125m": "gated_linear", "vit-s16": "gated_mlp"}
PEERS = {"vanilla": ("sdpa+fused", "eager+fused"), "clipped": ("eager+fused",), "gated_mlp": ("sdpa+batched+fused",),
         "gated_linear": ("sdpa+batched+fused",)}
# In order of worth.
CONFIGURATIONS = [
    *[(model, attention, "bf16") for model in MODELS for attention in ("vanilla", "clipped")],
    *[(model, GATED[model], "bf16") for model in MODELS],
    *[(model, attention, "fp32") for model in MODELS for attention in ("vanilla", "clipped")],
    *[(model, GATED[model], "fp32") for model in MODELS],
]
# torch.compile takes a minute before its first step: last, where that is left.
COMPILED, COMPILE_SECONDS = ("bert-base", "vanilla", "bf16"), 75
PROFILES = [("bert-base", "vanilla", "bf16"), ("bert-base", "clipped", "bf16"), ("opt-125m", "clipped", "bf16")]
# Dense matrix products, TFLOP/s, by the maker's data sheet. Half precision; float32 without TF32.
PEAKS = {"H100": {"half": 989.4, "fp32": 66.9}, "H200": {"half": 989.4, "fp32": 66.9}}
MFU = ("6 x tokens x (layers x (4 hidden^2 + 2 hidden ffn) + patches) + 6 x tokens with a label x head "
       "+ 12 x layers x T x hidden x tokens (forward and backward, a causal mask not subtracted), "
       "over the time and the peak of dense products")


def flops(size):
    """Of the matrix products that one training step needs."""
    d, layers = size["hidden"], size["layers"]
    length = (size["length"] // 16) ** 2 + 1 if size["model"] == "vit" else size["length"]
    tokens = size["batch"] * length
    body = layers * (4 * d * d + 2 * d * size["ffn"]) + (3 * 16 * 16 * d if size["model"] == "vit" else 0)
    head = {"bert": 0.15 * tokens * (d * d + d * size["vocab"]), "opt": tokens * d * size["vocab"],
            "vit": size["batch"] * d * size["vocab"]}[size["model"]]
    return 6 * tokens * body + 6 * head + 12 * layers * length * d * tokens


class Process:
    """A contender. Whatever goes wrong with it is an Error that names it."""

    class Error(Exception):
        pass

    def __init__(self, name, command):
        self.name = name
        self.errors = []
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()
        threading.Thread(target=self.read_errors, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            if line.startswith("{") or line.strip() == "ready":  # LibTorch's profiler prints, too
                self.lines.put(line.strip())
        self.lines.put(None)

    def read_errors(self):
        for line in self.process.stderr:
            self.errors = [*self.errors[-30:], line.strip()]

    def answer(self, end):
        try:
            line = self.lines.get(timeout=max(0.1, end - time.monotonic()))
        except queue.Empty:
            raise Process.Error("out of time") from None
        if line is None:
            self.process.wait()
            time.sleep(0.1)
            telling = [line for line in self.errors if "rror" in line or "what" in line]
            raise Process.Error((telling or self.errors or [f"exit status {self.process.returncode}"])[-1][:150])
        return line if line == "ready" else json.loads(line)

    def ask(self, question, end):
        try:
            print(question, file=self.process.stdin, flush=True)
        except (BrokenPipeError, ValueError):
            pass  # it ended, as answer() says
        return self.answer(end)

    def end(self):
        self.process.kill()
        self.process.wait()


class Contest:
    def __init__(self, arguments):
        self.arguments = arguments
        self.end = time.monotonic() + arguments.seconds
        name = nvidia_smi("--query-gpu=name", "--format=csv,noheader") or "CPU"
        peak = next((peak for part, peak in PEAKS.items() if part in name), None)
        self.peak = peak
        self.report = {"device": name, "peak_tflops": peak, "mfu_formula": MFU, "results": []}

    def left(self):
        return self.end - time.monotonic()

    def size(self, model, attention, precision):
        size = {**MODELS[model], "attention": attention, "device": self.arguments.device, "precision": precision}
        if self.arguments.tiny:
            size |= TINY | {"length": 32}
        return size

    def start(self, contender, size):
        if contender == "quench":
            options = [f"--{key}={value}" for key, value in size.items()]
            return Process(contender, [self.arguments.bin / "train_step", *options, "--serve"])
        return Process(contender, [sys.executable, "-B", PEER, contender, json.dumps(size)])

    def save(self):
        partial = self.arguments.out.with_suffix(".partial")
        partial.write_text(json.dumps(self.report, indent=1), encoding="utf-8")
        partial.replace(self.arguments.out)

    def begin(self, configuration, peers):
        """Starts the contenders of a configuration."""
        size = self.size(*configuration)
        return [self.start(name, size) for name in ("quench", *(() if self.arguments.no_peers else peers))]

    def measure(self, configuration, processes):
        size, failed, times = self.size(*configuration), {}, {process.name: [] for process in processes}

        def each(action):
            for process in processes:
                if process.name not in failed:
                    try:
                        action(process)
                    except Process.Error as error:
                        failed[process.name] = str(error)

        counts, memory = {}, {}

        def warm_up(process):
            process.answer(self.end)
            process.ask("step 3", self.end)  # the first compile kernels
            counts[process.name] = max(1, round(0.25 / (process.ask("step 2", self.end)["seconds"] / 2)))

        def measure(process):
            count = counts[process.name]
            times[process.name].append(process.ask(f"step {count}", self.end)["seconds"] / count)

        each(warm_up)
        for _ in range(self.arguments.rounds):
            each(measure)
        each(lambda process: memory.update({process.name: process.ask("memory", self.end)}))
        for process in processes:
            process.end()
        self.add(configuration, size, times, memory, failed)

    def add(self, configuration, size, times, memory, failed):
        model, attention, precision = configuration
        peers = [statistics.median(seconds) for name, seconds in times.items()
                 if name != "quench" and seconds and name not in failed]
        unit = "images_per_second" if size["model"] == "vit" else "tokens_per_second"
        units = size["batch"] * (1 if size["model"] == "vit" else size["length"])
        peak = self.peak and self.peak["fp32" if precision == "fp32" else "half"]
        for name, seconds in times.items():
            row = {"model": model, "attention": attention, "precision": precision, "contender": name}
            if name in failed or not seconds:
                row["failed"] = failed.get(name, "not measured")
            else:
                median = statistics.median(seconds)
                row |= {
                    "step_ms": [1e3 * x for x in (min(seconds), median, max(seconds))],
                    unit: units / median,
                    "mfu": flops(size) / median / (peak * 1e12) if peak else None,
                    "peak_memory_gb": next(iter(memory.get(name, {0: 0}).values())) / 1024,
                    "best_peer_over_this": min(peers) / median if peers else None,
                }
            # By contender, so that a reader of the tree finds quench's rates by its name.
            self.report["results"].append({name: row, **{k: row[k] for k in ("model", "attention", "precision")}})
        self.save()

    def table(self):
        lines = [f"{'model':<10}{'attention':<13}{'':<5}{'contender':<20}{'step, ms: min median max':>26}"
                 f"{'units/s':>10}{'MFU':>7}{'GB':>6}{'best peer / it':>16}"]
        for entry in self.report["results"]:
            row = next(value for value in entry.values() if isinstance(value, dict))
            head = f"{row['model']:<10}{row['attention']:<13}{row['precision']:<5}{row['contender']:<20}"
            if "failed" in row:
                lines.append(f"{head}  {row['failed']}")
                continue
            rate = row.get("tokens_per_second", row.get("images_per_second"))
            steps = " ".join(f"{x:.1f}" for x in row["step_ms"])
            mfu = "" if row["mfu"] is None else f"{100 * row['mfu']:.1f} %"
            ratio = "" if row["best_peer_over_this"] is None else f"{row['best_peer_over_this']:.2f}"
            lines.append(f"{head}{steps:>26}{rate:>10.0f}{mfu:>7}{row['peak_memory_gb']:>6.1f}{ratio:>16}")
        return lines

    def race(self):
        for configuration in CONFIGURATIONS:
            if self.left() > 20:  # the peers take half of that to start
                self.measure(configuration, self.begin(configuration, PEERS[configuration[1]]))
        if self.left() > COMPILE_SECONDS and not self.arguments.no_peers:
            self.measure(COMPILED, self.begin(COMPILED, ("sdpa+fused+compile",)))
        print("\n".join(self.table()))
        return any("step_ms" in value for entry in self.report["results"] for value in entry.values()
                   if isinstance(value, dict))

    def profile(self):
        found = False
        for configuration in PROFILES:
            if self.left() < 5:
                break
            size = self.size(*configuration)
            process = self.start("quench", size)
            entry = dict(zip(("model", "attention", "precision"), configuration))
            try:
                process.answer(self.end)
                process.ask("step 5", self.end)
                entry |= process.ask("profile 5", self.end)
                found = True
            except Process.Error as error:
                entry["failed"] = str(error)
            process.end()
            self.report["results"].append(entry)
            self.save()
            self.print_profile(entry)
        return found

    @staticmethod
    def print_profile(entry):
        print(f"{entry['model']} {entry['attention']} {entry['precision']}", end=": ")
        if "failed" in entry:
            print(entry["failed"])
            return
        print(f"{entry['wall_ms']:.1f} ms a step (profiled), kernels running {entry['busy_ms']:.1f} ms, gaps "
              f"{entry['gaps_ms']:.1f} ms, {entry['launches']:.0f} launches, "
              f"{entry['synchronizations_per_step']:.1f} waits for the device {entry['waits'] or ''}")
        for kernel in entry["kernels"][:11]:
            print(f"  {kernel['ms']:7.2f} ms {kernel['calls']:6.0f} x  {kernel['name'][:90]}")


def main():
    parser = argparse.ArgumentParser(description="training speed on a GPU beside transformers (docs/gpu.md)")
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder of train_step")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="where the results go, as JSON")
    parser.add_argument("--seconds", type=float, default=125)
    parser.add_argument("--profile", action="store_true", help="where a step's time goes, in place of a race")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="tiny models, to try this script")
    parser.add_argument("--no-peers", action="store_true", help="quench alone")
    contest = Contest(parser.parse_args())
    contest.save()
    return 0 if (contest.profile() if contest.arguments.profile else contest.race()) else 1


if __name__ == "__main__":
    sys.exit(main())
