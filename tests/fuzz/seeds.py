"""Writes what the harnesses start from, real files and small ones made here: python3 tests/fuzz/seeds.py FOLDER"""
import json
import pathlib
import struct
import sys
import zlib

root = pathlib.Path(__file__).resolve().parents[2]
golden = root / "tests" / "golden"
target = pathlib.Path(sys.argv[1])


def put(harness, name, content):
    folder = target / harness
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def safetensors(tensors, metadata=None):
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def png(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    rows = b"".join(b"\0" + bytes((x * y) % 256 for x in range(3 * width)) for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


for path in sorted((root / "configs").rglob("*.yaml")):
    put("yaml", path.stem, path.read_bytes() + b"\0train.steps=3")
run = b"""model: {type: bert, hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 16}
data: {type: text, files: [words.txt], max_seq_length: 8}
tokenizer: {vocab_size: 40}
train: {steps: 3, batch_size: 2}
ptq: {calibration: {num_batches: 2}, overrides: [{match: "*fc*", bits: 4}]}
"""
for number, assignment in enumerate((b"train.steps=2 epochs", b"ptq.overrides.0.bits=[4, {a: b}]", b"data={type: tensors}",
                                     b"attention={type: clipped_softmax, gamma: -0.03}", b"model.type=opt")):
    put("yaml", f"run-{number}", run + b"\0" + assignment)
put("yaml", "aliases", b"a: &a [1, 2]\nb: [*a, *a]\nc: {<<: {d: 1}}\n\0ptq.overrides.0.bits=[4, {a: b}]")
for path in sorted((golden / "image").glob("*.*")):
    if path.suffix in (".jpg", ".png") and path.stat().st_size < 20000:
        put("image", path.name, path.read_bytes())
put("image", "small.png", png(5, 4))
put("image", "small.webp", bytes.fromhex("524946461a000000574542505650384c0d0000002f00000010071011118888fe0700"))
put("packed_images", "cifar10", b"\0" + bytes([3]) + bytes(range(256)) * 12)
put("packed_images", "cifar100", b"\1" + bytes([3, 7]) + bytes(range(256)) * 12)
put("packed_images", "idx", b"\2" + struct.pack(">II", 2049, 4) + b"\1\2\3\4" + struct.pack(">IIII", 2051, 4, 5, 5) +
    bytes(100))
for path in sorted((golden / "tokenizers").rglob("*")):
    if path.name == "tokenizer.json":
        put("tokenizer_json", path.parent.name, path.read_bytes()[:60000])
    if path.name == "vocab.txt":
        put("vocabulary", path.parent.name, path.read_bytes()[:20000])
    if path.name == "vocab.json":
        merges = (path.parent / "merges.txt").read_bytes()
        put("vocabulary", path.parent.name, b"j" + path.read_bytes() + b"\0" + merges)
    if path.suffix == ".model":
        put("sentencepiece_model", path.parent.name, path.read_bytes())
tokens = {chr(c if 33 <= c <= 126 or 161 <= c <= 172 or c >= 174 else 256 + i): i for i, c in enumerate(range(256))}
byte_level = {"model": {"type": "BPE", "vocab": {**tokens, "th": 256}, "merges": ["t h"]},
              "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}, "added_tokens": []}
put("tokenizer_json", "byte_level", json.dumps(byte_level).encode())
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##s", "word", ",", "text"]
word_piece = {"model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {w: i for i, w in enumerate(words)}},
              "normalizer": {"type": "BertNormalizer", "lowercase": True}, "added_tokens": []}
put("tokenizer_json", "word_piece", json.dumps(word_piece).encode())
put("vocabulary", "words", "\n".join(words).encode() + b"\n")
put("vocabulary", "bytes", b"j" + json.dumps({**tokens, "th": 256}).encode() + b"\0#version: 0.2\nt h\n")


def field(number, content):
    return bytes([number << 3 | 2, len(content)]) + content


def piece(text, score, kind):
    return field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind]))


put("sentencepiece_model", "small",
    piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("\u2581the", -1, 1) + piece("\u2581", -2, 1) +
    piece("w", -3, 1) + field(2, b"\x18\x01") + field(3, field(1, b"identity")))
index = {"format": "quench-tokens-1", "dtype": "uint16", "vocab_size": 300, "chunk_length": 4, "documents": 1,
         "tokenizer": "0", "key": "1", "shards": [{"file": "tokens-00000.bin", "tokens": 8, "checksum": "0"}]}
put("token_set", "small", json.dumps(index).encode() + b"\0" + bytes(16))
put("safetensors", "small", safetensors({"a": ("F32", [2, 2], bytes(16)), "b": ("I64", [1], bytes(8)),
                                         "c": ("BOOL", [3], b"\0\1\0")}, {"format": "pt"}))
for path in sorted((golden / "pickle").glob("*.bin")):
    put("pickle", path.name, path.read_bytes())
state = {"step": 3, "samples": 12, "data": "0123456789abcdef", "loss_scale": 65536.0, "loss_scale_growth": 1,
         "loss_sum": 2.5, "loss_count": 4}
sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 32, "intermediate_size": 16,
         "max_position_embeddings": 8, "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "hidden_act": "gelu"}
for kind, own in {"bert": {"type_vocab_size": 2, "attention_probs_dropout_prob": 0.1, "pad_token_id": None},
                  "opt": {"ffn_dim": 16, "do_layer_norm_before": True, "word_embed_proj_dim": 8, "dropout": 0.1,
                          "activation_function": "relu", "bos_token_id": 2, "eos_token_id": -1},
                  "vit": {"image_size": 8, "patch_size": 4, "num_channels": 3, "qkv_bias": True,
                          "id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 0, "dog": 1}}}.items():
    attention = {"type": "softmax", "clip": {"gamma": -0.03, "zeta": 1.0}, "gate": {"type": "linear"}}
    config = {"model_type": kind, "architectures": ["Model"], **sizes, **own, "quench": {"attention": attention}}
    put("checkpoint", kind, json.dumps(config).encode() + b"\0" + json.dumps(state).encode())
