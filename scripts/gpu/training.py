"""Stage 3: the demo trainings on the device beside the CPU's, and one that is killed and resumed."""
import json
import os
import pathlib
import shutil
import signal

# Bounds, relative (docs/gpu.md says where they come from).
EARLY_STEPS, EARLY = 50, 1e-3    # fp32 on the device against the CPU: every logged loss of the first steps
LATE = {"fp32": 0.02, "bf16": 0.02, "fp16": 0.02}  # mean of the last quarter against the CPU's in fp32
CONFIGS = ["bert", "opt", "vit"]


def text_settings(check):
    """The demo configs read LibTorch's headers; where those were left out, the packed text."""
    headers = pathlib.Path(check.environment["LD_LIBRARY_PATH"].split(":")[0]).parent / "include" / "c10"
    if headers.is_dir():
        return []
    return ["--set", f'data.files=["{check.work / "data" / "wikitext-2" / "test.txt"}"]']


class Trainings:
    def __init__(self, check):
        self.check = check
        self.runs = check.work / "runs"
        shutil.rmtree(self.runs, ignore_errors=True)
        self.text = text_settings(check)

    def command(self, verb, config, *settings):
        steps = self.check.steps
        shared = {"train.steps": steps, "train.log_every": max(1, steps // 20), "train.eval_every": 0,
                  "train.checkpoint_every": 0, "schedule.warmup_steps": steps // 5, "eval.max_batches": 8}
        if config != "vit":
            shared.update({"tokenizer.vocab_size": 1000, "tokenizer.training_lines": 20000})
        return ([self.check.program("quench"), verb] if verb == "train" else
                [self.check.program("quench"), "data", verb]) + [
            str(self.check.folder / "configs" / "demo" / f"{config}.yaml"),
            *[part for key, value in shared.items() for part in ("--set", f"{key}={value}")],
            *(self.text if config != "vit" else []), *settings]

    def prepare(self, config):
        return self.check.run(f"prepare {config}", self.command("prepare", config))

    def train(self, name, config, device, precision, threads, *settings, while_running=None):
        return self.check.run(
            name, self.command("train", config, "--output", str(self.runs / name), "--set", f"device={device}",
                               "--set", f"precision={precision}", *settings),
            {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}, while_running)

    def curve(self, name):
        path = self.runs / name / "metrics.jsonl"
        if not path.exists():
            return []
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        return [(line["step"], line["loss"]) for line in lines if "loss" in line]

    def weights(self, name):
        """The bytes of the newest checkpoint's tensors."""
        folder = self.runs / name / "checkpoints" / "latest"
        if folder.is_file():
            folder = folder.parent / folder.read_text().strip()
        return {file: (folder / file).read_bytes() for file in ("model.safetensors", "training.safetensors")
                if (folder / file).exists()}


def resume(trainings, config, precision):
    """Kills a training in its middle, continues it, and compares with one that was left alone. A line and a verdict."""
    every = max(1, trainings.check.steps // 5)
    settings = ("--set", f"train.checkpoint_every={every}")
    device = trainings.check.device
    trainings.train("whole", config, device, precision, 1, *settings)

    def kill_in_the_middle(process):
        if trainings.curve("killed")[-1:] >= [(trainings.check.steps // 2, 0.0)]:
            os.killpg(process.pid, signal.SIGKILL)

    status, _, _ = trainings.train("killed", config, device, precision, 1, *settings,
                                   while_running=kill_in_the_middle)
    at = trainings.curve("killed")[-1:] or [(0, 0)]
    what = f"{config} {precision}, killed after step {at[0][0]} and resumed"
    if status != -signal.SIGKILL:
        return f"{what}: it was not killed (exit status {status})", False
    trainings.train("killed", config, device, precision, 1, *settings, "--resume")
    whole, killed = trainings.weights("whole"), trainings.weights("killed")
    if len(whole) < 2 or len(killed) < 2:
        return f"{what}: no checkpoint to compare", False
    if whole == killed:
        return f"{what}: the same bits as the run that was left alone", True
    trainings.train("whole-again", config, device, precision, 1, *settings)
    repeats = trainings.weights("whole-again") == whole
    return (f"{what}: other bits than the run that was left alone; two of those are "
            f"{'the same, so resuming is wrong' if repeats else 'not the same either: a kernel is not deterministic'}"), False


def mean_of_last(curve):
    last = [loss for _, loss in curve[-max(1, len(curve) // 4):]]
    return sum(last) / len(last)


def compare(precision, curve, reference, steps):
    """A line about a curve beside the CPU's, and whether it is within the bounds."""
    for whose, losses in (("it", curve), ("the CPU's run", reference)):
        if not losses or losses[-1][0] != steps:
            return f"{whose} ended after step {losses[-1][0] if losses else 0} of {steps}", False
    late = mean_of_last(curve) / mean_of_last(reference) - 1
    line = f"{curve[0][1]:.4f} -> {curve[-1][1]:.4f}, last quarter {100 * late:+.2f} % of the CPU's fp32"
    good = abs(late) <= LATE[precision]
    early = [abs(a / b - 1) for (step, a), (_, b) in zip(curve, reference) if step <= EARLY_STEPS]
    if early:
        line += f", first {EARLY_STEPS} steps within {max(early):.1e}"
        if precision == "fp32":
            good = good and max(early) <= EARLY
    return line, good


def training(check, result):
    trainings = Trainings(check)
    for config in ("bert", "opt"):  # the second takes the tokenizer of the first
        trainings.prepare(config)

    precisions = ("fp32", "bf16", "fp16") if check.device == "cuda" else ("fp32", "bf16")  # no CPU is made for fp16
    runs = [(f"{config}-{precision}", config, check.device, precision) for precision in precisions
            for config in CONFIGS]
    references = [(f"{config}-cpu", config, "cpu", "fp32") for config in CONFIGS]
    tasks = [lambda: resume(trainings, "opt", precisions[-1])]
    # Two threads at least: where the device is a CPU, too, the comparison then shows what rounding alone does.
    tasks += [lambda r=run: trainings.train(*r, max(2, min(4, check.cores // 4))) for run in references]
    tasks += [lambda r=run: trainings.train(*r, 1) for run in runs]
    resumed = check.in_parallel(tasks, max(2, check.cores // 2))[0]

    lines, verdicts, curves = [], {}, {name: trainings.curve(name) for name, *_ in runs + references}
    for name, config, _, precision in runs:
        line, good = compare(precision, curves[name], curves[f"{config}-cpu"], check.steps)
        lines.append(f"{config:<5}{precision}  {line}{'' if good else '  <-- beyond the bound'}")
        verdicts[name] = good
    lines.append(resumed[0] + ("" if resumed[1] else "  <-- "))
    verdicts["resumed"] = resumed[1]
    result.update(curves=curves, within_bounds=verdicts, lines=lines)
    result["verdict"] = "pass" if all(verdicts.values()) else "FAIL"
    result["headline"] = f"{sum(verdicts.values())} of {len(verdicts)} within the bounds"
    bad = [name for name, good in verdicts.items() if not good]
    if bad:
        result["headline"] += f"; not: {', '.join(bad)}"
