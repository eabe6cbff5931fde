"""Writes the files of this folder with torch.save (made with torch 2.13.0). Run it in this folder."""

import collections

import torch


def arange(*sizes, dtype=torch.float32):
    n = torch.Size(sizes).numel()
    return torch.arange(n, dtype=torch.float32).reshape(sizes).to(dtype)


base = arange(4, 6)
state = collections.OrderedDict(
    float=arange(2, 3),
    double=arange(3, dtype=torch.float64),
    half=arange(3, dtype=torch.float16),
    bfloat16=arange(3, dtype=torch.bfloat16),
    long=arange(3, dtype=torch.int64),
    int=arange(3, dtype=torch.int32),
    short=arange(3, dtype=torch.int16),
    char=arange(3, dtype=torch.int8),
    byte=arange(3, dtype=torch.uint8),
    bool=torch.tensor([True, False, True]),
    scalar=torch.tensor(7.0),
    empty=torch.empty(0, 5),
    base=base,
    transposed=base.t(),
    window=base[1:3, 2:5],
    expanded=torch.tensor([5.0]).expand(3),
    parameter=torch.nn.Parameter(arange(2)),
)
state._metadata = collections.OrderedDict([("", {"version": 1})])
torch.save(state, "state.bin")
torch.save({"weight": arange(2, 3)}, "old.bin", _use_new_zipfile_serialization=False)
torch.save({"weight": arange(2, 3), "epoch": 3}, "training.bin")
torch.save(torch.nn.Linear(2, 1), "module.bin")
