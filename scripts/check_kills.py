"""Kills quench at random moments and goes on; see check_kills.sh.

Each job is run once undisturbed, which also gives its duration. Then it is started again and again in another folder and
killed (SIGKILL) after a random part of that duration, and at last left to its end; where it came to its end before it was
killed, it begins anew. Afterwards every file of the job that
is not a log must equal the undisturbed one's byte for byte, no temporary, no lock and no child may be left, and the folders
must take as much room. The kills are shared among the jobs: training, preparation of text, training of a tokenizer,
quantization, a sweep.
"""
import argparse
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

CONFIG = """
model: {type: bert, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 64,
        max_position_embeddings: 32}
attention: {softmax: {type: clipped, alpha: 4}, gate: {type: linear}}
data: {type: text, files: ["text/*.txt"], validation_share: 0.3, max_seq_length: 32, document: line}
tokenizer: {vocab_size: 300}
optimizer: {learning_rate: 0.003}
schedule: {warmup_steps: 20}
train: {steps: 400, batch_size: 8, gradient_accumulation_steps: 2, log_every: 10, checkpoint_every: 20, eval_every: 100}
eval: {max_batches: 4}
ptq: {calibration: {batches: 4, batch_size: 8}, evaluation: {max_batches: 8}}
output: {tensorboard: false}
"""
SWEEP = """
base: train.yaml
rows: [{name: vanilla, set: ["attention.softmax.type=softmax"]}, {name: clipped}]
seeds: [1]
ptq: [{name: W8A8}, {name: W4A8, set: ["ptq.weights.bits=4"]}]
ptq_seeds: [1]
"""
# What a run that was stopped writes differently: its log, and speeds in its curves.
SPEED = re.compile(rb',"(samples|tokens)_per_second":[0-9.e+-]+')
LEFT = re.compile(r"\.tmp-\d+-\d+$|\.lock$")


class Job:
    def __init__(self, name, command, results):
        self.name, self.command, self.results = name, command, results


JOBS = [
    Job("prepare", ["data", "prepare", "train.yaml"], ["cache"]),
    Job("tokenizer", ["tokenizer", "train", "text/*.txt", "--vocab-size", "300", "--output", "spm"], ["spm"]),
    Job("train", ["train", "train.yaml", "--output", "run", "--resume"], ["run"]),
    Job("ptq", ["ptq", "run", "--output", "ptq.json"], ["ptq.json"]),
    Job("sweep", ["sweep", "sweep.yaml", "--output", "sweep", "--set", "train.steps=60"], ["sweep"]),
]


def write_text(folder):
    generator = random.Random(1)
    words = ["".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=generator.randint(2, 7))) for _ in range(400)]
    (folder / "text").mkdir()
    for name in ("a", "b", "c", "d"):
        lines = (" ".join(generator.choices(words, k=12)) for _ in range(6000))
        (folder / "text" / f"{name}.txt").write_text("\n".join(lines) + "\n")


class Place:
    """A folder in which every job runs, with a cache of its own."""

    def __init__(self, folder, quench):
        self.folder, self.quench = folder, quench
        folder.mkdir()
        write_text(folder)
        (folder / "train.yaml").write_text(CONFIG)
        (folder / "sweep.yaml").write_text(SWEEP)

    def start(self, job):
        environment = {**os.environ, "QUENCH_CACHE": "cache", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([self.quench, "-q", *job.command], cwd=self.folder, env=environment,
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)

    def finish(self, job):
        begin = time.monotonic()
        process = self.start(job)
        _, errors = process.communicate()
        if process.returncode != 0:
            sys.exit(f"{job.name} ended with {process.returncode}: {errors.decode(errors='replace')}")
        return time.monotonic() - begin

    def content(self, job):
        """Path -> bytes of the job's results, without logs and speeds."""
        files = {}
        for result in job.results:
            root = self.folder / result
            for path in [root] if root.is_file() else sorted(root.rglob("*")):
                name = str(path.relative_to(self.folder))
                if path.is_file() and path.name != "log.txt" and "/scans/" not in name:
                    files[name] = SPEED.sub(b"", path.read_bytes())
        return files

    def remove(self, job):
        for result in job.results:
            path = self.folder / result
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def left_over(self):
        return [str(p.relative_to(self.folder)) for p in self.folder.rglob("*") if LEFT.search(p.name)]


def kill_and_wait(process):
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    for _ in range(100):  # its children end with it
        alive = subprocess.run(["ps", "-o", "stat=", "-g", str(process.pid)], capture_output=True, text=True).stdout.split()
        if all(state.startswith("Z") for state in alive):
            return
        time.sleep(0.02)
    sys.exit(f"a child of process {process.pid} outlives it")


def compare(job, straight, killed):
    expected, found = straight.content(job), killed.content(job)
    different = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
    if different:
        sys.exit(f"{job.name}: differs from the undisturbed run: {', '.join(sorted(different)[:8])}")
    return sum(map(len, found.values()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--quench", default="build/quench", type=lambda path: str(pathlib.Path(path).resolve()))
    arguments = parser.parse_args()
    generator = random.Random(arguments.seed)
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="quench-kills-") as name:
        # Both in a folder of the same name, which the cache's names depend on.
        work = pathlib.Path(name) / "work"
        straight = Place(work, arguments.quench)
        durations = [straight.finish(job) for job in JOBS]
        straight.folder = work.rename(pathlib.Path(name) / "straight")
        killed = Place(work, arguments.quench)
        for i, (job, seconds) in enumerate(zip(JOBS, durations)):
            kills = arguments.kills // len(JOBS) + (i < arguments.kills % len(JOBS))
            starts = done = 0
            while done < kills:
                process = killed.start(job)
                starts += 1
                try:
                    process.wait(timeout=generator.uniform(0.02, min(seconds, 4)))
                    process.stderr.close()
                    killed.remove(job)  # it came to its end: from the beginning
                except subprocess.TimeoutExpired:
                    kill_and_wait(process)
                    done += 1
            killed.finish(job)
            size = compare(job, straight, killed)
            left = killed.left_over()
            if left:
                sys.exit(f"{job.name}: left over: {', '.join(left)}")
            print(f"{job.name:10} {kills:4} kills in {starts} starts; {size} bytes as in the undisturbed run "
                  f"({seconds:.1f} s)", flush=True)
    print("nothing lost, nothing left")


if __name__ == "__main__":
    main()
