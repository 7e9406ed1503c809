"""What a tied embedding's gradients take, really run on the CPU: no dispatch mode, no hook, resident memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("torch")

pytestmark = pytest.mark.oracle

PROGRAM = """
import ctypes, gc, sys
import torch

ctypes.CDLL("libc.so.6").mallopt(-3, 65536)
torch.set_num_threads(1)

class Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight):
        ctx.save_for_backward(hidden, weight)
        return (hidden @ weight[:8].t()).sum()

    @staticmethod
    def backward(ctx, gradient):
        hidden, weight = ctx.saved_tensors
        return torch.zeros_like(hidden), torch.ones_like(weight)

def resident(line):
    return next(int(row.split()[1]) * 1024 for row in open("/proc/self/status") if row.startswith(line))

embedding = torch.nn.Embedding(64000, 1024, dtype=getattr(torch, sys.argv[1]))
weight = embedding.weight
weight.data.fill_(0.01)
for _ in range(2):
    weight.grad = None
    gc.collect()
    before = resident("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")
    hidden = embedding(torch.arange(64))
    loss = Fused.apply(hidden, weight) if sys.argv[2] == "fused" else torch.nn.functional.linear(hidden, weight).sum()
    loss.backward()
print((resident("VmHWM") - before) / (weight.numel() * weight.element_size()))
"""


@pytest.mark.parametrize(("head", "embeddings"), [("linear", 3), ("fused", 2)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_embeddings(dtype: str, head: str, embeddings: int) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, dtype, head], check=True, capture_output=True, text=True)
    assert float(done.stdout) == pytest.approx(embeddings, rel=0.05)
