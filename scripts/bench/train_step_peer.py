"""The Python contenders of train_step.py and of scripts/gpu/speed.py.

Usage: train_step_peer.py NAME JSON builds a model, then makes a training step for each line "step" on stdin. NAME joins
parts by "+": the attention (eager or sdpa); for a gate its code (heads: a module for each head, as the paper's code;
batched: all heads in one einsum); fused for the fused AdamW; compile for torch.compile. JSON holds the sizes, and
optionally `device` and `precision` (fp32, or autocast in bf16 or fp16).
"""
import json
import os
import resource
import sys
import time

import torch
import transformers
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask
from transformers.models.bert.modeling_bert import eager_attention_forward

BERT_GAMMA = -0.025  # the paper's clipped softmax for BERT; its OPT has gamma = -12 / length


class GateOfHeads(nn.Module):
    """As the paper's code: a small network for each head."""

    def __init__(self, heads, head_size, hidden):
        super().__init__()

        def gate():
            if not hidden:
                return nn.Linear(head_size, 1)
            return nn.Sequential(nn.Linear(head_size, hidden), nn.ReLU(), nn.Linear(hidden, 1))

        self.alpha = nn.ModuleList(gate() for _ in range(heads))

    def forward(self, x):  # [B, T, D] -> [B, T, H, 1]
        by_head = x.unflatten(-1, (len(self.alpha), -1))
        return torch.stack([gate(by_head[:, :, h]) for h, gate in enumerate(self.alpha)], dim=2).sigmoid()


class BatchedGate(nn.Module):
    """The same function with the heads' weights stacked."""

    def __init__(self, heads, head_size, hidden):
        super().__init__()
        self.heads, self.hidden = heads, hidden
        if hidden:
            self.weight0 = nn.Parameter(torch.empty(heads, hidden, head_size).uniform_(-1, 1) * head_size**-0.5)
            self.bias0 = nn.Parameter(torch.zeros(heads, hidden))
        width = hidden or head_size
        self.weight = nn.Parameter(torch.empty(heads, width).uniform_(-1, 1) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(heads))

    def forward(self, x):  # [B, T, D] -> [B, T, H, 1]
        x = x.unflatten(-1, (self.heads, -1))
        if self.hidden:
            x = torch.relu(torch.einsum("bthd,hwd->bthw", x, self.weight0) + self.bias0)
        return (torch.einsum("bthd,hd->bth", x, self.weight) + self.bias).sigmoid().unsqueeze(-1)


def clipped_softmax(gamma):
    """transformers' eager attention with clip((zeta - gamma) * p + gamma, 0, 1), zeta = 1, after the softmax."""

    def attend(module, query, key, value, attention_mask, scaling=1.0, dropout=0.0, **_):
        scores = torch.matmul(query, key.transpose(2, 3)) * scaling
        if attention_mask is not None:
            scores = scores + attention_mask
        probs = torch.clip((1 - gamma) * nn.functional.softmax(scores, dim=-1) + gamma, 0, 1)
        probs = nn.functional.dropout(probs, p=dropout, training=module.training)
        return torch.matmul(probs, value).transpose(1, 2).contiguous(), probs

    return attend


def gated(attend):
    """Scales each head's context [B, T, H, d] by the gate that the attention module computed from its input."""

    def attend_gated(module, *args, **kwargs):
        context, probs = attend(module, *args, **kwargs)
        return context * module.gate_values, probs

    return attend_gated


def add_gates(model, attention_class, parts, size):
    head_size = size["hidden"] // size["heads"]
    hidden = head_size // 4 if size["attention"] == "gated_mlp" else 0
    make = GateOfHeads if "heads" in parts else BatchedGate

    def compute_gate(module, args, kwargs):
        module.gate_values = module.gate(args[0] if args else kwargs["hidden_states"])

    for module in model.modules():
        if type(module).__name__ == attention_class:
            module.gate = make(size["heads"], head_size, hidden)
            module.register_forward_pre_hook(compute_gate, with_kwargs=True)


def register_attention(parts, size):
    """The name under which transformers finds the attention function."""
    implementation = "sdpa" if "sdpa" in parts else "eager"
    if size["attention"] == "vanilla":
        return implementation
    if size["attention"] == "clipped":
        attend = clipped_softmax(-12 / size["length"] if size["model"] == "opt" else BERT_GAMMA)
    else:
        attend = gated(sdpa_attention_forward if implementation == "sdpa" else eager_attention_forward)
    AttentionInterface.register("quench_peer", attend)
    AttentionMaskInterface.register("quench_peer", sdpa_mask if implementation == "sdpa" else eager_mask)
    return "quench_peer"


def build(parts, size):
    drop = size["dropout"]
    if size["model"] == "opt":
        config = transformers.OPTConfig(
            vocab_size=size["vocab"], hidden_size=size["hidden"], word_embed_proj_dim=size["hidden"],
            num_hidden_layers=size["layers"], num_attention_heads=size["heads"], ffn_dim=size["ffn"],
            max_position_embeddings=size["length"], dropout=drop, attention_dropout=0.0, use_cache=False,
        )  # fmt: skip
        attention_class, kind = "OPTAttention", transformers.OPTForCausalLM
    else:
        shared = {
            "hidden_size": size["hidden"], "num_hidden_layers": size["layers"],
            "num_attention_heads": size["heads"], "intermediate_size": size["ffn"],
            "hidden_dropout_prob": drop, "attention_probs_dropout_prob": drop,
        }  # fmt: skip
        if size["model"] == "bert":
            positions = max(512, size["length"])
            config = transformers.BertConfig(vocab_size=size["vocab"], max_position_embeddings=positions, **shared)
            attention_class, kind = "BertSelfAttention", transformers.BertForMaskedLM
        else:
            config = transformers.ViTConfig(image_size=size["length"], num_labels=size["vocab"], **shared)
            attention_class, kind = "ViTAttention", transformers.ViTForImageClassification
    model = kind._from_config(config, attn_implementation=register_attention(parts, size))
    if size["attention"].startswith("gated"):
        add_gates(model, attention_class, parts, size)
    return model.train()


def make_batch(size):
    batch, length = size["batch"], size["length"]
    if size["model"] == "vit":
        pixels = torch.randn(batch, 3, length, length)
        return {"pixel_values": pixels, "labels": torch.randint(size["vocab"], (batch,))}
    ids = torch.randint(size["vocab"], (batch, length))
    if size["model"] == "opt":
        return {"input_ids": ids, "labels": ids}
    return {"input_ids": ids, "labels": ids.masked_fill(torch.rand(batch, length) >= 0.15, -100)}


class Contender:
    """A model in training on one batch that lies on its device."""

    def __init__(self, name, size):
        parts = name.split("+")
        self.device = torch.device(size.get("device", "cpu"))
        self.precision = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(size.get("precision"))
        with self.device:
            self.model, self.batch = build(parts, size), make_batch(size)
        self.model = self.model.to(self.device)
        self.forward = torch.compile(self.model) if "compile" in parts else self.model
        # fused=None: PyTorch's own choice.
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-4, weight_decay=0.01, fused="fused" in parts or None)

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def steps(self, count):
        """One after the other, without waiting for the device in between."""
        self.wait()
        start = time.perf_counter()
        for _ in range(count):
            with torch.autocast(self.device.type, self.precision, enabled=self.precision is not None):
                loss = self.forward(**self.batch).loss
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.wait()
        return {"seconds": time.perf_counter() - start, "loss": loss.item()}

    def memory(self):
        if self.device.type == "cuda":
            return {"peak_memory_mb": torch.cuda.max_memory_allocated() / 2**20}
        return {"peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main(name, size):
    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32, as in quench
    torch.manual_seed(0)
    contender = Contender(name, size)
    print("ready", flush=True)
    for line in map(str.strip, sys.stdin):
        if line == "quit":
            return
        question, _, count = line.partition(" ")
        print(json.dumps(contender.steps(int(count or 1)) if question == "step" else contender.memory()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
