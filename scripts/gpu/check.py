"""What check.sh runs: the stages of docs/gpu.md in order of worth, each within its share of the time. After each stage
OUT/results.json holds all that is known, OUT/log.txt every program's output. Python's standard library only."""
import argparse
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import stages
from machine import find_libtorch

# Number, name, function, and the seconds of 480 that are its share. What a stage leaves goes to the later ones.
STAGES = [
    (1, "doctor", stages.doctor, 15),
    (2, "golden values", stages.golden, 130),
    (3, "training", stages.training, 110),
    (4, "speed", stages.speed, 125),
    (5, "a step's time", stages.profile, 45),
    (6, "data side", stages.data_side, 45),
]


class Check:
    """The machine, the unpacked folder, the time that is left, and what was found so far."""

    def __init__(self, arguments):
        self.folder = arguments.folder.resolve()
        self.out = arguments.out.resolve()
        self.work = arguments.work.resolve()
        self.steps = arguments.steps
        self.cores = os.cpu_count() or 1
        self.device = arguments.device
        self.end = time.monotonic() + arguments.seconds
        self.limit = self.end  # of the stage that runs
        self.results = {"stages": {}}
        self.live = set()
        self.lock = threading.Lock()
        self.out.mkdir(parents=True, exist_ok=True)
        self.log_file = open(self.out / "log.txt", "w", encoding="utf-8")
        for archive in sorted(self.folder.glob("*.tar.xz")):
            self.unpack(archive)
        libraries = find_libtorch() + list(filter(None, [os.environ.get("LD_LIBRARY_PATH")]))
        self.environment = dict(os.environ, LD_LIBRARY_PATH=":".join(libraries),
                                QUENCH_CACHE=str(self.work / "cache"))
        self.environment.pop("QUENCH_GOLDEN", None)
        if (self.work / "golden").is_dir():  # else the tests take the committed part
            self.environment["QUENCH_GOLDEN"] = str(self.work / "golden")

    def unpack(self, archive):
        stamp = self.work / f".{archive.name}"
        sum_ = hashlib.sha256(archive.read_bytes()).hexdigest()
        if stamp.exists() and stamp.read_text() == sum_:
            return
        self.work.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as tar:
            tar.extractall(self.work, filter="data")
        stamp.write_text(sum_)

    def log(self, text):
        with self.lock:
            print(text, file=self.log_file, flush=True)

    def left(self):
        """Seconds that the running stage may still take."""
        return self.limit - time.monotonic()

    def program(self, name):
        return str(self.work / "bin" / name)

    def run(self, name, command, environment=None, while_running=None):
        """Runs a program in the work folder until it ends or the stage's time is over. Returns its exit status (None:
        out of time), output and seconds. `while_running(process)` is called 50 times a second."""
        start = time.monotonic()
        status = None
        if self.left() <= 0:
            return None, "no time was left", 0.0
        with tempfile.TemporaryFile() as output:
            try:
                process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=self.work,
                                           stdin=subprocess.DEVNULL, start_new_session=True,
                                           env={**self.environment, **(environment or {})})
            except OSError as error:
                self.log(f"==== {name}: {error}")
                return 127, f"cannot be started: {error}", 0.0
            self.live.add(process)
            while self.left() > 0 and status is None:
                try:
                    status = process.wait(timeout=0.02)
                except subprocess.TimeoutExpired:
                    if while_running:
                        while_running(process)
            if status is None:
                kill(process)
            self.live.discard(process)
            output.seek(0)
            text = output.read().decode("utf-8", "replace")
        seconds = time.monotonic() - start
        ended = "out of time" if status is None else f"exit status {status}"
        shown = text if len(text) < 400000 else text[:200000] + "\n[...]\n" + text[-200000:]
        self.log(f"==== {name}: {' '.join(map(str, command))}\n{shown}\n==== {name}: {ended}, {seconds:.1f} s")
        return status, text, seconds

    def in_parallel(self, tasks, at_once):
        """Calls functions in threads, in order; returns their values, also in order."""
        with ThreadPoolExecutor(max_workers=max(1, at_once)) as pool:
            return [future.result() for future in [pool.submit(task) for task in tasks]]

    def save(self):
        partial = self.out / "results.json.partial"
        partial.write_text(json.dumps(self.results, indent=1), encoding="utf-8")
        partial.replace(self.out / "results.json")

    def stage(self, number, name, function, share, shares_left):
        start = time.monotonic()
        remaining = self.end - start
        self.limit = start + remaining * share / shares_left
        result = {"name": name, "verdict": "skip", "headline": "no time was left", "lines": []}
        self.results["stages"][str(number)] = result
        if remaining > 3:
            try:
                function(self, result)
            except Exception as error:  # a stage's failure is its result; the next stage runs
                result["verdict"], result["headline"] = "FAIL", f"{type(error).__name__}: {error}"
        result["seconds"] = round(time.monotonic() - start, 1)
        self.log(f"==== stage {number}: {result['verdict']}: {result['headline']}")
        self.save()
        print(f"{number} {name}: {result['verdict']}, {result['seconds']} s", flush=True)

    def summary(self):
        lines = []
        for number, result in self.results["stages"].items():
            if result["lines"]:
                lines.append(f"-- {number} {result['name']}")
                lines += [line[:200] for line in result["lines"][:40]]
                if len(result["lines"]) > 40:
                    lines.append(f"   and {len(result['lines']) - 40} lines more in results.json")
        lines.append(f"== {self.results.get('machine', 'machine unknown')}; device {self.device}")
        lines.append(f"{'stage':<17} {'verdict':<8} {'seconds':>7}  found")
        for number, result in self.results["stages"].items():
            title = f"{number} {result['name']}"
            seconds = result.get("seconds", "")
            lines.append(f"{title:<17} {result['verdict']:<8} {seconds:>7}  {result['headline'][:150]}")
        return "\n".join(lines)


def kill(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def main():
    parser = argparse.ArgumentParser(prog="check.sh", description="checks quench on this machine (docs/gpu.md)")
    parser.add_argument("folder", type=pathlib.Path, metavar="FOLDER", help="what pack.sh wrote")
    parser.add_argument("out", type=pathlib.Path, metavar="OUT", help="where the results go")
    parser.add_argument("--stages", default="1,2,3,4,5,6", help="which, by number (default: all)")
    parser.add_argument("--seconds", type=float, default=480, help="for all stages together (default: 480)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--steps", type=int, default=200, help="of each training of stage 3 (default: 200)")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "quench-check",
                        help="where the folder is unpacked and trainings run")
    arguments = parser.parse_args()
    wanted = {int(number) for number in arguments.stages.split(",") if number}
    check = Check(arguments)

    def stop(*_):
        check.end = check.limit = 0  # what runs is killed, what waits is not begun
        sys.exit("check.sh: stopped by SIGTERM")

    signal.signal(signal.SIGTERM, stop)
    chosen = [stage for stage in STAGES if stage[0] in wanted]
    try:
        stages.choose_device(check)
        for index, stage in enumerate(chosen):
            check.stage(*stage, sum(share for *_, share in chosen[index:]))
    finally:
        for process in list(check.live):
            kill(process)
        check.save()
        text = check.summary()
        (check.out / "summary.txt").write_text(text + "\n", encoding="utf-8")
        print(text)
    return 1 if any(r["verdict"] == "FAIL" for r in check.results["stages"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
