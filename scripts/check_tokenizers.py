#!/usr/bin/env python3
"""Compares quench's WordPiece and byte-level BPE with Hugging Face's `tokenizers`, id by id.

On the samples in tests/golden/tokenizers; and, where DATA holds `tokenizers` and `books-small`
($QUENCH_DATA, by default ~/.cache/quench-data), with the real vocabularies on the published samples,
on the books, on every code point and on random Unicode text.
--write-golden trains the small vocabularies of the samples on the books and writes the samples anew, and
does no more.
"""

import argparse
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

HF_VERSION = "0.23.3"
ROOT = Path(__file__).resolve().parent.parent
DRIVER = ROOT / "build/tests/bench/tokenizer_driver"
GOLDEN = ROOT / "tests/golden/tokenizers"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "quench"
DATA = Path(os.environ.get("QUENCH_DATA", Path.home() / ".cache/quench-data"))
ADDED = {
    "bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    "gpt2": ["<|endoftext|>"],
    "opt": ["</s>", "<pad>"],
}


def enter_venv():
    """Goes on in an environment of our own that has `tokenizers`."""
    venv = CACHE / f"tokenizers-{HF_VERSION}"
    if Path(sys.prefix) == venv:
        return
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    python = venv / "bin/python"
    installed = [python, "-c", "import tokenizers"]
    if not python.exists() or subprocess.run(installed, stderr=subprocess.DEVNULL).returncode:
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", f"tokenizers=={HF_VERSION}"]
        subprocess.run(pip, check=True)
    os.execv(python, [python, *sys.argv])


class Quench:
    """The tokenizers under test, in a small program."""

    def __init__(self, folder):
        self.folder = Path(folder)
        if not DRIVER.exists():
            sys.exit(f"{DRIVER} does not exist: cmake --build --preset release --target benches makes it")

    def encode(self, vocabulary, texts):
        """The ids of each text, and the CPU seconds that encoding took."""
        encoded = [text.encode() for text in texts]
        packed = b"".join(struct.pack("=I", len(text)) + text for text in encoded)
        (self.folder / "in").write_bytes(packed)
        command = [DRIVER, vocabulary, self.folder / "in", self.folder / "out"]
        seconds = float(subprocess.check_output(command))
        result, at, ids = (self.folder / "out").read_bytes(), 0, []
        while at < len(result):
            (count,) = struct.unpack_from("=I", result, at)
            ids.append(list(struct.unpack_from(f"={count}i", result, at + 4)))
            at += 4 + 4 * count
        return ids, seconds


def hugging_face(kind, folder, lower_case=True):
    """The tokenizer that `transformers` makes of the files."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    if kind == "bert":
        model = models.WordPiece.from_file(str(folder / "vocab.txt"), unk_token="[UNK]")
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower_case)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    else:
        files = str(folder / "vocab.json"), str(folder / "merges.txt")
        tokenizer = Tokenizer(models.BPE.from_file(*files))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(ADDED[kind])
    return tokenizer


def hugging_face_ids(tokenizer, texts):
    return [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]


def books():
    """Paragraphs of books-small."""
    files = (DATA / "books-small" / f"{name}.txt" for name in ("train", "valid", "test"))
    return [part for file in files for part in file.read_text().split("\n\n")]


def random_text(generator):
    def between(first, last):
        return lambda: chr(generator.randint(first, last))

    def one_of(choices):
        return lambda: generator.choice(choices)

    kinds = [
        between(0x0, 0xD7FF), between(0xE000, 0x10FFFF), between(0x0, 0x7F), between(0x20, 0x7E),
        between(0xC0, 0x24F), between(0x300, 0x36F), between(0x370, 0x52F), between(0x590, 0x6FF),
        between(0x900, 0xDFF), between(0x1100, 0x11FF), between(0x1800, 0x1CFF), between(0x1E00, 0x1FFF),
        between(0x2000, 0x2BFF), between(0x2E00, 0x33FF), between(0x3400, 0x9FFF), between(0xAC00, 0xD7A3),
        between(0xF900, 0xFAFF), between(0x11000, 0x11FFF), between(0x1D000, 0x1DFFF),
        between(0x1F300, 0x1FAFF), between(0x20000, 0x2FA1F),
        one_of(" \t\n\r\v\f\x1c\x1f\x85\u00a0\u1680\u180e\u2000\u200a\u2028\u2029\u202f\u205f\u3000"),
        one_of("\0\x01\u00ad\u061c\u200b\u200c\u200d\u2060\ufe0f\ufeff\ufffd\ue000\U0001f3fd"),
        one_of(["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'", "''", " '"]),
        one_of([*ADDED["bert"], *ADDED["gpt2"], *ADDED["opt"], "<unk>", "[mask]", "<", "[", "]"]),
        one_of([" the", " and", "ing", "tion", " quantization", "123", " 45", "  ", "a" * 101]),
    ]  # fmt: skip
    chosen = generator.sample(kinds, generator.randint(1, 5))
    return "".join(generator.choice(chosen)() for _ in range(generator.randint(0, 40)))


def report(name, texts, ours, theirs):
    """Prints how many texts differ and the first of them; returns whether none does."""
    different = [i for i, text in enumerate(texts) if ours[i] != theirs[i]]
    print(f"{name}: {len(texts)} texts, {len(different)} differ", flush=True)
    for i in different[:1]:
        print(f"  {ascii(texts[i])[:400]}\n  quench {ours[i][:60]}\n  HF     {theirs[i][:60]}")
    return not different


def check_golden(quench):
    samples = json.loads((GOLDEN / "samples.json").read_text())
    passed = True
    for name, ids in samples["ids"].items():
        ours, _ = quench.encode(GOLDEN / name / vocabulary_name(name), samples["texts"])
        passed &= report(f"golden {name}", samples["texts"], ours, ids)
    return passed


def vocabulary_name(kind):
    return "vocab.txt" if kind.startswith("bert") else "vocab.json"


def check_published(quench):
    folder = DATA / "tokenizers"
    golden = folder / "golden"
    questions = [q["original"] for q in json.loads((golden / "bert_squad_questions.json").read_text())]
    french = json.loads((golden / "gpt2_french_sample.json").read_text())
    rust = (golden / "gpt2_lib.rs.txt").read_text()
    question_ids = json.loads((golden / "bert_squad_question_ids.json").read_text())
    rust_ids = json.loads((golden / "gpt2_lib.rs.ids.json").read_text())
    bert, _ = quench.encode(folder / "bert-base-uncased/vocab.txt", questions)
    gpt2, _ = quench.encode(folder / "gpt2/vocab.json", [french["text"], rust])
    passed = report("published WordPiece", questions, bert, question_ids)
    return passed & report("published BPE", [french["text"], rust], gpt2, [french["token_ids"], rust_ids])


def newer_than_icu(quench, tokenizer, vocabulary):
    """Code points that are letters or digits to HF's table alone: they keep off a following 's."""
    texts = [f"{chr(c)}'s" for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    ours, _ = quench.encode(vocabulary, texts)
    theirs = hugging_face_ids(tokenizer, texts)
    differ = {text[0] for i, text in enumerate(texts) if ours[i] != theirs[i]}
    assigned = [ascii(c) for c in differ if unicodedata.category(c) != "Cn"]
    print(f"byte-level BPE: {len(differ)} code points are too new for ICU")
    if assigned:
        sys.exit(f"but these are in Unicode {unicodedata.unidata_version}: {assigned[:20]}")
    return differ


def check_real(quench, count, seed):
    generator = random.Random(seed)
    texts = [random_text(generator) for _ in range(count)]
    code_points = [f"a{chr(c)}b {chr(c)}" for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    cased = quench.folder / "cased"
    cased.mkdir()
    (cased / "vocab.txt").symlink_to(DATA / "tokenizers/bert-base-uncased/vocab.txt")
    (cased / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    passed, newer = True, None
    for kind, folder in [
        ("bert", DATA / "tokenizers/bert-base-uncased"),
        ("bert", cased),
        ("gpt2", DATA / "tokenizers/gpt2"),
        ("opt", DATA / "tokenizers/opt"),
    ]:
        tokenizer = hugging_face(kind, folder, lower_case=folder != cased)
        vocabulary = folder / vocabulary_name(kind)
        if kind != "bert" and newer is None:
            newer = newer_than_icu(quench, tokenizer, vocabulary)
        for name, sample in ("books", books()), ("code points", code_points), ("random", texts):
            if newer and name != "books":
                sample = [text for text in sample if newer.isdisjoint(text)]
            ours, _ = quench.encode(vocabulary, sample)
            passed &= report(f"{folder.name} {name}", sample, ours, hugging_face_ids(tokenizer, sample))
    return passed


def golden_texts():
    """A few texts for each rule, and random ones."""
    texts = [
        "", " ", "  ", "\n", "The quick brown fox.", "Hello,   world!\n\n  Next line\t tab ", " leading", "trailing ",
        "It's John's; they'll say we've \"won't\" -- I'd, you're, I'm 'tis IT'S 'LL", "don''t ' 's 'S", "x=3.14, y=1e10 $5 50% a+b<c|d~`^",
        "[CLS] a [MASK] b[SEP] [PAD][UNK] [mask] [", "</s>a<pad> b</s></s> <s> <unk> </ s> <|endoftext|> <|endof", "caf\u00e9 cafe\u0301 \u00c5ngstr\u00f6m \u0130stanbul na\u00efve \u212b \u212a \u1e9e",
        "\u4f60\u597d\u4e16\u754ca\u4e00b \uf900 \u3042\u30a2", "\ud55c\uad6d\uc5b4 \u1112\u1161\u11ab", "\u201cquoted\u201d \u2018it\u2019s\u2019 \u2014 dash\u2026", "emoji \U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f \U0001f44d\U0001f3fd",
        "a\u00adb\u200bc\ufeffd\u0000e\ufffdf\ue000g", "a\u00a0b\u3000c\u2028d\u0085e\u000bf\u001cg", "a \u00a0 b \u3000", "\u0661\u0662\u0663 \u2167 \u00bd \u00b2 \u2460", "\u0e44\u0e17\u0e22 \u0939\u093f\u0928\u094d\u0926\u0940 \u05e9\u05c1\u05b8 \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
        "a" * 100, "a" * 101, "\u00e9" * 100, "\u00e9" * 101, "ab" * 300, "a\u166da a\u1734a a\u1885a a\ua9bda a\U000111c9a a\u061da a\u07fda", "a\U0002b820a a\U0002b91fa a\U0002b920a",
        "\u001c's \u0085's \u00a0's \u180e's \u3000's \u0663's \u216b's \u02b0's \u0301's \u24d0's", "a\u0378a a\U000e0fffa a\U0010fffda",
    ]  # fmt: skip
    generator = random.Random(0)
    while len(texts) < 130:
        text = random_text(generator)
        if all(unicodedata.category(c) != "Cn" for c in text):  # ICU may be older than HF's table
            texts.append(text)
    return texts


def write_golden():
    """Vocabularies of some hundred tokens, trained on a part of the books; and what HF makes of the texts."""
    from tokenizers import ByteLevelBPETokenizer, BertWordPieceTokenizer

    corpus = books()[:4000]
    accents = ["caf\u00e9 \u00c5ngstr\u00f6m \u0130stanbul na\u00efve \u4f60\u597d \u2014 \u201c\u201d \u2026 \u1112\u1161\u11ab"] * 50
    texts = golden_texts()
    ids = {}
    for name, special in [("bert-uncased", ADDED["bert"]), ("bert-cased", ADDED["bert"]), ("gpt2", ADDED["gpt2"]),
                          ("opt", ["<s>", "<pad>", "</s>", "<unk>"])]:  # fmt: skip
        folder = GOLDEN / name
        folder.mkdir(parents=True, exist_ok=True)
        kind = name.split("-")[0]
        lower_case = name != "bert-cased"
        if kind == "bert":
            trainer = BertWordPieceTokenizer(lowercase=lower_case)
            trainer.train_from_iterator(corpus + accents, vocab_size=500, special_tokens=special, show_progress=False)
        else:
            trainer = ByteLevelBPETokenizer()
            trainer.train_from_iterator(corpus, vocab_size=700, special_tokens=special, show_progress=False)
        trainer.save_model(str(folder))
        ids[name] = hugging_face_ids(hugging_face(kind, folder, lower_case), texts)
    (GOLDEN / "samples.json").write_text(json.dumps({"texts": texts, "ids": ids}, separators=(",", ":")) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=100_000, metavar="N", help="random texts (default: 100000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write-golden", action="store_true")
    arguments = parser.parse_args()
    enter_venv()
    if arguments.write_golden:
        write_golden()
    with tempfile.TemporaryDirectory() as folder:
        quench = Quench(folder)
        passed = check_golden(quench)
        if arguments.write_golden:
            print(f"{GOLDEN} is written")
        elif (DATA / "tokenizers").exists() and (DATA / "books-small").exists():
            passed &= check_published(quench)
            passed &= check_real(quench, arguments.random, arguments.seed)
        else:
            print(f"{DATA} has no tokenizers and books-small: skipped all but the golden samples")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
