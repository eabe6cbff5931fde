"""Checks that transformers and quench open each other's models and agree: logits, loss and hidden states within 1e-5 of
the largest value (of 1, where all are smaller), token ids exactly.

One line a check, with the largest difference where there is one. Exit status 1 if any failed.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata
from functools import cache, partial
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import regex
import torch
import transformers
from check_tokenizers import random_text
from PIL import Image
from safetensors.torch import load_file, save_file

transformers.utils.logging.disable_progress_bar()

ROOT = Path(__file__).resolve().parent.parent
TOKENIZERS = ROOT / "tests/golden/tokenizers"
TOLERANCE = 1e-5
BATCH, LENGTH, IMAGE = 3, 10, 8

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
BERT = {"vocab_size": 90, **SHAPE, "intermediate_size": 48, "max_position_embeddings": 20}
OPT = {"vocab_size": 90, **SHAPE, "ffn_dim": 48, "max_position_embeddings": 20, "word_embed_proj_dim": 32}
VIT = {"num_labels": 5, **SHAPE, "intermediate_size": 48, "image_size": IMAGE, "patch_size": 4}
MODELS = {
    "BERT": ("bert", BERT),
    "BERT, ReLU": ("bert", {**BERT, "hidden_act": "relu"}),
    "OPT, pre-LN": ("opt", OPT),
    "OPT, pre-LN, narrow embedding": ("opt", {**OPT, "word_embed_proj_dim": 16}),
    "OPT, post-LN": ("opt", {**OPT, "do_layer_norm_before": False}),
    "OPT, post-LN, narrow embedding": ("opt", {**OPT, "do_layer_norm_before": False, "word_embed_proj_dim": 16}),
    "ViT": ("vit", VIT),
}
CONFIGS = {"bert": transformers.BertConfig, "opt": transformers.OPTConfig, "vit": transformers.ViTConfig}
ENGLISH, CODE = [ROOT / "README.md", *ROOT.glob("docs/*.md")], [*ROOT.glob("src/*/*.h")]
AUTO_CLASSES = {
    "bert": transformers.AutoModelForMaskedLM,
    "opt": transformers.AutoModelForCausalLM,
    "vit": transformers.AutoModelForImageClassification,
}


class Quench:
    def __init__(self, program):
        self.program = program

    def __call__(self, *arguments):
        done = subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(f"quench {arguments[0]}: status {done.returncode}: {last}")
        return done.stdout

    def forward(self, model, inputs, folder):
        """What quench makes of the inputs, by the names that `theirs` gives."""
        save_file(inputs, folder / "inputs.safetensors")
        output = folder / "outputs.safetensors"
        self("forward", model, "--inputs", folder / "inputs.safetensors", "--output", output)
        return load_file(output)

    def ids(self, tokenizer, texts, folder):
        (folder / "texts").write_text("".join(json.dumps(text) + "\n" for text in texts))
        encoded = self("tokenizer", "encode", "--special", "--json", tokenizer, folder / "texts")
        return [[int(token) for token in line.split()] for line in encoded.split("\n")[:-1]]


def make_inputs(kind, samples=BATCH):
    if kind == "vit":
        return {
            "pixel_values": torch.randn(samples, 3, IMAGE, IMAGE),
            "labels": torch.randint(VIT["num_labels"], (samples,)),
        }
    ids = torch.randint(5, 90, (samples, LENGTH))
    lengths = torch.arange(samples) % BATCH * 2
    mask = (torch.arange(LENGTH) < LENGTH - lengths[:, None]).long()  # all but each third sample are padded
    inputs = {"input_ids": ids, "attention_mask": mask}
    if kind == "bert":
        inputs["token_type_ids"] = (torch.arange(LENGTH) >= LENGTH // 2).long().repeat(samples, 1)
    unlabelled = torch.rand(samples, LENGTH) < 0.5 if kind == "bert" else mask == 0
    return inputs | {"labels": ids.masked_fill(unlabelled, -100)}


def theirs(model, inputs):
    with torch.no_grad():
        output = model.eval()(**inputs, output_hidden_states=True)
    hidden = {f"hidden_states.{i}": state for i, state in enumerate(output.hidden_states)}
    return {"logits": output.logits, "loss": output.loss, **hidden}


def difference(ours, expected):
    """The largest one, relative to the largest value where that is above 1."""
    worst = 0.0
    for name, value in expected.items():
        if ours[name].shape != value.shape:
            raise RuntimeError(f"{name}: expected shape {tuple(value.shape)}, got {tuple(ours[name].shape)}")
        error = (ours[name] - value).abs().max() / value.abs().max().clamp(min=1)
        if not error <= TOLERANCE:
            raise RuntimeError(f"{name} differs by {error:.1e}")
        worst = max(worst, error.item())
    return worst


def random_model(kind, keys, make=None):
    torch.manual_seed(0)
    config = CONFIGS[kind](**keys)
    model = make(config) if make else AUTO_CLASSES[kind].from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():  # biases and gains too: fresh ones would hide a mix-up
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


# Ways in which transformers' checkpoints come: each writes `model` to `folder`.
def save_plain(model, folder):
    model.save_pretrained(folder)


def save_shards(model, folder):
    model.save_pretrained(folder, max_shard_size="20KB")
    if not (folder / "model.safetensors.index.json").exists():
        raise RuntimeError("transformers wrote no shards")


def save_bin(model, folder):
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def save_bin_shards(model, folder):
    model.config.save_pretrained(folder)
    weight_map = {}
    for i, (name, tensor) in enumerate(model.state_dict().items()):
        shard = f"pytorch_model-{i % 2 + 1:05}-of-00002.bin"
        weight_map[name] = shard
    for shard in set(weight_map.values()):
        part = {name: tensor for name, tensor in model.state_dict().items() if weight_map[name] == shard}
        torch.save(part, folder / shard)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def save_half(model, folder):
    model.half().save_pretrained(folder)
    model.float()  # now with the weights that were written


def save_gamma_beta(model, folder):
    """The names of the first BERT checkpoints, bert-base-uncased's among them."""
    model.config.save_pretrained(folder)
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {}
    for name, tensor in model.state_dict().items():
        for new, old in names.items():
            name = name.replace(new, old)
        if not name.startswith("cls.predictions.decoder"):
            renamed[name] = tensor
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})


def save_body(model, folder):
    """Without the head, which is tied."""
    model.base_model.save_pretrained(folder)


def check_theirs(quench, kind, keys, folder, save=save_plain, make=None):
    """quench opens what transformers wrote."""
    model, inputs = random_model(kind, keys, make), make_inputs(kind)
    (folder / "model").mkdir()
    save(model, folder / "model")
    if make:  # a model with more heads than quench has: transformers itself drops what is too much
        model = AUTO_CLASSES[kind].from_pretrained(folder / "model")
    return difference(quench.forward(folder / "model", inputs, folder), theirs(model, inputs))


def check_refused(quench, kind, keys, folder):
    """A model that quench does not have must be an error, not a wrong result."""
    model = random_model(kind, keys)
    model.save_pretrained(folder / "model")
    inputs = make_inputs(kind)
    try:
        ours = quench.forward(folder / "model", inputs, folder)
    except RuntimeError:
        return None
    return difference(ours, theirs(model, inputs))


def train(quench, config, folder):
    """Trains for two steps and returns the checkpoint."""
    config |= {"train": {"steps": 2, "batch_size": 2, "seed": 1}, "optimizer": {"learning_rate": 1e-2}}
    (folder / "config.json").write_text(json.dumps(config))
    quench("train", folder / "config.json", "--output", folder / "run")
    return folder / "run/checkpoints/step-00000002"


def check_ours(quench, kind, keys, folder):
    """transformers opens what quench wrote, down to every parameter."""
    torch.manual_seed(0)
    save_file(make_inputs(kind, samples=4), folder / "data.safetensors")
    data = {"type": "tensors", "train": f"{folder}/data.safetensors", "validation": f"{folder}/data.safetensors"}
    checkpoint = train(quench, {"model": {"type": kind, **keys}, "data": data}, folder)
    model, info = AUTO_CLASSES[kind].from_pretrained(checkpoint, output_loading_info=True)
    wrong = {what: list(names) for what, names in info.items() if names}
    if wrong:
        raise RuntimeError(f"transformers says {wrong}")
    inputs = make_inputs(kind)
    return difference(quench.forward(checkpoint, inputs, folder), theirs(model, inputs))


def check_image_processor(quench, interpolation, crop_pct, folder):
    """AutoImageProcessor makes the pixels that quench evaluates: transformers gets the same loss from the files."""
    generator = np.random.default_rng(0)
    # Of sizes whose central square lies between pixels, transformers rounds its place down, timm to the even pixel.
    for label in "a cat", "dög":
        (folder / "images" / label).mkdir(parents=True)
        for i, shape in enumerate([(37, 47, 3), (64, 20, 3), (8, 9, 3)]):
            image = Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8))
            image.save(folder / "images" / label / f"{i}.png")
    images = {"image_size": IMAGE, "crop_pct": crop_pct, "interpolation": interpolation, "mean": [0.4, 0.5, 0.6]}
    data = {"type": "image_folder", "train": f"{folder}/images", "validation": f"{folder}/images", "images": images}
    vit = {key: value for key, value in VIT.items() if key != "num_labels"}
    checkpoint = train(quench, {"model": {"type": "vit", "initializer_range": 0.3, **vit}, "data": data}, folder)
    processor = transformers.AutoImageProcessor.from_pretrained(checkpoint)
    model = AUTO_CLASSES["vit"].from_pretrained(checkpoint)
    files = sorted((folder / "images").rglob("*.png"))
    pixels = processor([Image.open(file) for file in files], return_tensors="pt")["pixel_values"]
    labels = torch.tensor([model.config.label2id[file.parent.name] for file in files])
    ours = json.loads(quench("eval", checkpoint, "--json"))["loss"]
    expected = theirs(model, {"pixel_values": pixels, "labels": labels})["loss"]
    return difference({"loss": torch.tensor(ours)}, {"loss": expected})


@cache
def sample_texts():
    """English, C++, white space of all kinds, and Unicode at random."""
    texts = json.loads((TOKENIZERS / "samples.json").read_text())["texts"]
    for file in ENGLISH + CODE:
        texts += [file.read_text(), *file.read_text().splitlines()]
    generator = random.Random(0)
    parts = [" ", "  ", "\t", "\n", "\n\n", "\r\n", "a", "The", "x = 1;", "----", "é"]
    texts += ["".join(generator.choices(parts, k=generator.randint(0, 12))) for _ in range(2000)]
    unicode = [random_text(generator) for _ in range(5000)]
    # What is assigned after Python's table may be so after ICU's, too.
    return texts + [text for text in unicode if all(unicodedata.category(c) != "Cn" for c in text)]


def sentencepiece_texts():
    """Those that `tokenizers` must treat as sentencepiece does: see src/data/sentencepiece_json.h."""

    def exact(text):
        graphemes = [g for g in regex.findall(r"\X", text) if len(g) > 1 and g != "\r\n"]
        parts = [*graphemes, *"".join(graphemes)]
        plain = all(unicodedata.normalize("NFKC", part) == part for part in parts)
        plain = plain and not any(c == "\ufffd" or c.isspace() for c in parts)
        return plain and not any(token in text for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))

    return [text for text in sample_texts() if exact(text)]


def their_tokenizers():
    def bert(name, **options):
        return transformers.BertTokenizer(str(TOKENIZERS / name / "vocab.txt"), **options)

    def opt(**options):
        files = [str(TOKENIZERS / "opt" / name) for name in ("vocab.json", "merges.txt")]
        special = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
        return transformers.GPT2Tokenizer(*files, **special, add_bos_token=True, **options)

    return {
        "BERT": bert("bert-uncased"),
        "BERT, cased": bert("bert-cased", do_lower_case=False),
        "OPT": opt(),
        "OPT, prefix space": opt(add_prefix_space=True),
    }


def same_ids(ours, expected, texts):
    different = [i for i, ids in enumerate(expected) if ours[i] != ids]
    if different:
        i = different[0]
        raise RuntimeError(
            f"{len(different)} of {len(texts)} texts differ, the first is {ascii(texts[i])[:60]}: "
            f"quench {ours[i][:12]}, transformers {expected[i][:12]}"
        )


def check_our_tokenizer(quench, kind, keys, tokenizer, folder):
    """AutoTokenizer opens the tokenizer of a checkpoint that quench trained on text, and quench what it then saves."""
    texts = sample_texts() if "path" in tokenizer else sentencepiece_texts()
    data = {
        "type": "text", "files": [str(file) for file in CODE + ENGLISH], "validation_files": [str(ROOT / "README.md")],
        "max_seq_length": LENGTH, "cache": f"{folder}/cache",
    }  # fmt: skip
    model = {key: value for key, value in keys.items() if key != "vocab_size"}
    config = {"model": {"type": kind, **model}, "data": data, "tokenizer": tokenizer}
    if kind == "bert":
        config["task"] = {"mlm_probability": 0.5}  # a batch this small could otherwise be without labels
    checkpoint = train(quench, config, folder)
    theirs = transformers.AutoTokenizer.from_pretrained(checkpoint)
    expected = theirs(texts)["input_ids"]
    same_ids(quench.ids(checkpoint, texts, folder), expected, texts)
    theirs.save_pretrained(folder / "back")
    same_ids(quench.ids(folder / "back", texts, folder), expected, texts)


def check_passed_on(quench, kind, keys, tokenizer, folder):
    """A tokenizer that transformers wrote comes back to it in a checkpoint that quench trained on it."""
    tokenizer.save_pretrained(folder / "tokenizer")
    check_our_tokenizer(quench, kind, keys, {"path": f"{folder}/tokenizer"}, folder)


def check_their_tokenizer(quench, tokenizer, vocabulary_files, folder):
    """quench opens a tokenizer that transformers wrote."""
    texts = sample_texts()
    tokenizer.save_pretrained(folder / "tokenizer")
    if vocabulary_files:  # as transformers 4 wrote them, and as they lie on the hub
        (folder / "tokenizer/tokenizer.json").unlink()
        tokenizer.backend_tokenizer.model.save(str(folder / "tokenizer"))
    same_ids(quench.ids(folder / "tokenizer", texts, folder), tokenizer(texts)["input_ids"], texts)


def checks():
    """(name, function, arguments) of every check."""
    for name, (kind, keys) in MODELS.items():
        yield f"transformers -> quench: {name}", check_theirs, (kind, keys)
    for name, save in {
        "sharded safetensors": save_shards,
        "float16 weights": save_half,
        "pytorch_model.bin": save_bin,
        "sharded pytorch_model.bin": save_bin_shards,
    }.items():
        for kind, keys in ("bert", BERT), ("opt", OPT), ("vit", VIT):
            yield f"transformers -> quench: {name}, {kind}", partial(check_theirs, save=save), (kind, keys)
    pretraining = transformers.BertForPreTraining
    for name, kind, keys, options in (
        ("BertForPreTraining (pooler, next sentence)", "bert", BERT, {"make": pretraining}),
        ("LayerNorm.gamma and .beta, bert", "bert", BERT, {"save": save_gamma_beta}),
        ("OPTModel (no head)", "opt", OPT, {"save": save_body}),
    ):
        yield f"transformers -> quench: {name}", partial(check_theirs, **options), (kind, keys)
    for kind, keys in ("bert", BERT), ("opt", OPT):
        untied = {**keys, "tie_word_embeddings": False}
        yield f"transformers -> quench: untied head is honoured or refused, {kind}", check_refused, (kind, untied)
    for name, (kind, keys) in MODELS.items():
        yield f"quench -> transformers: {name}", check_ours, (kind, keys)

    for evaluation in ("bicubic", 0.9), ("bilinear", 1.0):
        yield f"quench -> transformers: image processor, {evaluation}", check_image_processor, evaluation

    for name, kind, keys in ("bert-uncased", "bert", BERT), ("bert-cased", "bert", BERT), ("opt", "opt", OPT):
        yield f"quench -> transformers: tokenizer {name}", check_our_tokenizer, (kind, keys, {"path": str(TOKENIZERS / name)})
    for algorithm in "unigram", "bpe":
        tokenizer = {"algorithm": algorithm, "vocab_size": 1000}
        yield f"quench -> transformers: tokenizer {algorithm}", check_our_tokenizer, ("bert", BERT, tokenizer)
    for name, tokenizer in their_tokenizers().items():
        kind, keys = ("bert", BERT) if name.startswith("BERT") else ("opt", OPT)
        yield f"transformers -> quench -> transformers: tokenizer of {name}", check_passed_on, (kind, keys, tokenizer)
        for what, vocabulary_files in ("tokenizer.json", False), ("vocabulary files", True):
            label = f"transformers -> quench: tokenizer of {name}, {what}"
            yield label, check_their_tokenizer, (tokenizer, vocabulary_files)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quench", default=ROOT / "build/quench", help="the program (%(default)s)")
    parser.add_argument("--only", default="", help="only the checks whose name contains this")
    arguments = parser.parse_args()
    quench, failed, passed = Quench(arguments.quench), 0, 0
    for name, function, parameters in checks():
        if arguments.only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                worst = function(quench, *parameters, Path(folder))
                passed += 1
                print(f"ok    {name}" + ("" if worst is None else f": {worst:.1e}"), flush=True)
            except Exception as error:  # whatever transformers may throw
                failed += 1
                print(f"FAIL  {name}: {str(error).strip().replace(folder, '<folder>')[:400]}", flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
