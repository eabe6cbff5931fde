"""Stages 1, 4, 5 and 6; 2 and 3 are golden.py and training.py."""
import json
import re
import subprocess
import sys

from golden import golden  # noqa: F401  (check.py's list of stages names them all here)
from machine import nvidia_smi
from training import text_settings, training  # noqa: F401


def choose_device(check):
    """What `quench doctor` finds; check.device is then cpu or cuda."""
    status, output, _ = check.run("doctor", [check.program("quench"), "doctor", "--json"])
    try:
        facts = json.loads(output[output.index("{"):output.rindex("}") + 1])
    except ValueError:
        facts = {"error": (output.strip().splitlines() or [f"exit status {status}"])[-1]}
    smi = nvidia_smi("--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    if check.device == "auto":
        check.device = "cuda" if facts.get("cuda") is True else "cpu"
    check.results.update(device=check.device, doctor=facts, nvidia_smi=smi,
                         machine=f"{smi or 'no nvidia-smi'}; {check.cores} cores; LibTorch {facts.get('libtorch')}")


def doctor(check, result):
    facts, smi = check.results["doctor"], check.results["nvidia_smi"]
    result["lines"] = [f"{key}: {value}" for key, value in facts.items() if key != "cache"]
    check.log(nvidia_smi())
    missing = [line.strip() for line in check.run("ldd", ["ldd", check.program("quench")])[1].splitlines()
               if "not found" in line]
    if "error" in facts:
        result.update(verdict="FAIL", headline=facts["error"], lines=missing)
    elif check.device == "cuda" and facts["cuda"] is not True or smi and check.device == "cpu":
        result.update(verdict="FAIL", headline=f"no CUDA: {facts['cuda']}")
    else:
        result.update(verdict="pass", headline=smi or f"CPU only: {facts['cuda']}")


def run_speed(check, result, file, *options):
    """scripts/gpu/speed.py, whose table goes to the summary. Returns what it wrote."""
    script = check.folder / "scripts" / "gpu" / "speed.py"
    if not script.exists() or check.device != "cuda":
        why = "no scripts/gpu/speed.py in the folder" if not script.exists() else "only where there is a GPU"
        result.update(verdict="skip", headline=why)
        return {}
    out = check.out / file
    status, output, _ = check.run(script.name, [
        sys.executable, "-B", str(script), "--bin", str(check.work / "bin"), "--out", str(out), *options,
        "--seconds", str(int(check.left() - 8))])
    table = [line for line in output.splitlines() if line.strip()]
    result["lines"] = table[:40]
    result["verdict"] = "pass" if status == 0 else "FAIL"
    result["headline"] = f"written to {file}" if status == 0 else (
        "no time was left" if status is None else f"exit status {status}: {(table or [''])[-1]}")
    try:
        return json.loads(out.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def speed(check, result):
    check.results["speed"] = run_speed(check, result, "speed.json")


def found(tree, key, path=""):
    """Every value of this key in a tree of JSON, as (where, value)."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == key:
                yield path, value
            yield from found(value, key, f"{path} {name}".strip())
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            where = " ".join(str(value[k]) for k in ("model", "attention", "precision") if k in value) \
                if isinstance(value, dict) else ""
            yield from found(value, key, f"{path} {where or index}".strip())


def profile(check, result):
    written = run_speed(check, result, "profile.json", "--profile")
    counts = [f"{where}: {value}" for where, value in found(written, "synchronizations_per_step")]
    if counts:
        result["headline"] = "host synchronisations a step: " + "; ".join(counts)
        if any(value for _, value in found(written, "synchronizations_per_step")):
            result["verdict"] = "FAIL"


# A BERT-base with random weights, as a run folder.
BASE = {"model.hidden_size": 768, "model.num_hidden_layers": 12, "model.num_attention_heads": 12,
        "model.intermediate_size": 3072, "model.max_position_embeddings": 128, "data.max_seq_length": 128,
        "data.validation_share": 0.5, "tokenizer.vocab_size": 1000, "tokenizer.training_lines": 20000,
        "train.steps": 1, "train.batch_size": 2, "schedule.warmup_steps": 0, "eval.max_batches": 1}


def loader(check, lines):
    pictures = check.work / "data" / "sign-digits" / "Dataset"
    if not pictures.is_dir():
        lines.append("loader: no pictures in the folder")
        return
    _, output, _ = check.run("image_loader", [check.program("image_loader"), str(pictures), "224", str(check.cores),
                                              "12" if check.cores > 4 else "2"])
    made = re.search(r"(\d+) images/s, (\d+) per CPU second", output)
    lines.append(f"loader: {made[1]} images/s of 100 x 100 JPEG to 224 x 224 with {check.cores} threads, {made[2]} per "
                 "CPU second" if made else f"loader: {output.strip()[-150:]}")
    for where, value in found(check.results.get("speed", {}), "images_per_second"):
        if "quench" in where and isinstance(value, (int, float)):
            lines.append(f"  the model eats {value:.0f} images/s ({where})")


class Utilization:
    """nvidia-smi's share of time with a kernel running, of the samples while something ran."""

    def __enter__(self):
        try:
            self.process = subprocess.Popen(
                ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError:
            self.process = None
        return self

    def __exit__(self, *_):
        self.percent = None
        if not self.process:
            return
        self.process.terminate()
        samples = [int(line) for line in self.process.communicate()[0].split() if line.isdigit()]
        busy = [index for index, sample in enumerate(samples) if sample > 5]
        if len(busy) > 2:
            inner = samples[busy[0] + 1:busy[-1]]
            self.percent = sum(inner) / len(inner)


def evaluation(check, lines):
    """Milliseconds a batch, with statistics and without."""
    base = check.work / "runs" / "base"
    settings = [part for key, value in BASE.items() for part in ("--set", f"{key}={value}")]
    status, output, _ = check.run("BERT-base", [
        check.program("quench"), "train", str(check.folder / "configs" / "demo" / "bert.yaml"), "--output", str(base),
        "--set", f"device={check.device}", *settings, *text_settings(check), *(["--resume"] if base.exists() else [])])
    if status != 0:
        lines.append(f"evaluation: no model: {output.strip()[-150:]}")
        return
    batch, batches = (32, 305) if check.device == "cuda" else (4, 6)
    for precision in ("bf16", "fp32") if check.device == "cuda" else ("fp32",):
        rates = {}
        for outliers in ("true", "false"):
            with Utilization() as use:
                status, output, _ = check.run(f"eval {precision}, statistics {outliers}", [
                    check.program("quench"), "eval", str(base), "--output", "-", "--set", f"eval.max_batches={batches}",
                    "--set", f"eval.batch_size={batch}", "--set", f"device={check.device}", "--set",
                    f"precision={precision}", "--set", f"eval.outliers={outliers}"])
            said = re.search(r"100%  ([\d.]+)([kMG]?) samples/s", output)
            if status != 0 or not said:
                lines.append(f"evaluation, statistics {outliers}: {output.strip()[-150:]}")
                continue
            rates[outliers] = float(said[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[said[2]]
            busy = "" if use.percent is None else f", a kernel running {use.percent:.0f} % of the time"
            lines.append(f"evaluation, BERT-base, {batch} x 128, {precision}, statistics {outliers}: "
                         f"{1000 * batch / rates[outliers]:.1f} ms a batch{busy}")
        if len(rates) == 2:
            lines.append(f"  {precision}: with statistics {rates['false'] / rates['true']:.2f} x the time without")


def data_side(check, result):
    lines = result["lines"]
    loader(check, lines)
    evaluation(check, lines)
    result["verdict"] = "pass" if any("ms a batch" in line for line in lines) else "FAIL"
    result["headline"] = next((line.strip() for line in lines if "the time without" in line), lines[0])
