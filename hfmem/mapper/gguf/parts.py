"""`--split-mode tensor`: every matrix and cache in parts on all accelerators, as llama.cpp 0.5.0 cuts them.

Source: `llama_meta_device_get_split_state` of llama-model.cpp (which tensor is cut along which of its sizes, and at
which multiples), and `llm_arch_supports_sm_tensor` of llama-arch.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import lcm
from typing import Final

from hfmem.dtypes import stored_dtype
from hfmem.mapper.gguf.layout import Blocks, GgufTensor

__all__ = ["UNPARTED", "Parts"]

UNPARTED: Final = frozenset(
    (
        *("grok", "mpt", "plamo2", "minicpm3", "gemma3n", "mamba", "mamba2", "jamba", "falcon-h1", "olmo2", "olmoe"),
        *("deepseek2", "deepseek32", "hy_v4", "dots3note", "glm-dsa", "bitnet", "t5", "nemotron_h", "nemotron_h_moe"),
        *("granitehybrid", "minimax-01", "minimax-m2", "minimax-m3", "mistral4", "kimi-linear", "bailingmoe3"),
        *("kimi-k3", "glm5-next", "qwen3tts", "qwen4exp"),
    )
)
"""Architectures that llama.cpp refuses in this mode."""

_ROWS: Final = re.compile(r"attn_(q|k|v|qkv|gate)\.weight|ffn_(up|gate|gate_up)(_exps)?\.weight")
_COLUMNS: Final = re.compile(
    r"attn_(q|k|v|qkv)\.bias|attn_sinks\.weight|attn_output\.weight|ffn_(up|gate)(_exps)?\.bias"
)
_DOWN: Final = re.compile(r"ffn_down(_exps)?\.weight")
_FUSED: Final = "attn_qkv."
_OUTPUT: Final = "attn_output.weight"
_LEAST: Final = 128
_BY_GATES: Final = ("qwen3next", "qwen35", "qwen35moe")
_MIRRORED: Final = ("hrm_text", "deepseek4")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a file on so many accelerators.

    Attributes:
        blocks: the file.
        shares: of the accelerators; () for the same.
        devices: accelerators.
    """

    blocks: Blocks
    shares: tuple[float, ...]
    devices: int

    def shapes(self, tensor: GgufTensor) -> list[tuple[int, ...]]:
        """The shape of a tensor's part on each accelerator; all of it where it is not cut."""
        axis = self._axis(tensor)
        shape = tensor.shape
        if axis is None:
            return [shape] * self.devices
        at = len(shape) - 1 - axis
        return [(*shape[:at], size, *shape[at + 1 :]) for size in self._cut(tensor, shape[at])]

    def cached(self, layer: int, keys: int, values: int) -> list[int]:
        """Bytes of a layer's keys and values on each accelerator.

        Args:
            layer: its number.
            keys, values: bytes of all of them.
        """
        sizes = self.blocks.sizes(layer)
        heads = sizes["attention.head_count_kv"]
        if not keys or not values or not heads or self._mirrored(layer):
            return [keys + values] * self.devices
        found = [0] * self.devices
        for nbytes, length in ((keys, "attention.key_length"), (values, "attention.value_length")):
            width = heads * sizes[length]
            for device, size in enumerate(self._shares(width, self._by_heads(layer) * sizes[length], layer)):
                found[device] += nbytes * size // width
        return found

    def _mirrored(self, layer: int | None) -> bool:
        """Whether nothing of a layer's attention is taken as cut: those with a state have rules of their own, and all
        of it is at most what they take."""
        if self.blocks.architecture in _MIRRORED:
            return True
        if layer is None:
            return False
        return any(tensor.inner.startswith(("ssm_", "shortconv.")) for tensor in self.blocks.of_layers[layer])

    def _axis(self, tensor: GgufTensor) -> int | None:
        """Along which of its sizes it is cut, the first that lies together being 0."""
        name = tensor.inner
        if self.blocks.architecture in _MIRRORED or (tensor.layer is None and not name.startswith("output.")):
            return None
        if tensor.layer is None:
            return 1 if name == "output.weight" else 0
        if name.startswith("attn_") and self._mirrored(tensor.layer):
            return None
        if name in ("attn_q_norm.weight", "attn_k_norm.weight"):
            return 1 if len(tensor.shape) > 1 and tensor.shape[-2] > 1 else None
        if _ROWS.fullmatch(name):
            return 1
        return 0 if _COLUMNS.fullmatch(name) or _DOWN.fullmatch(name) else None

    def _cut(self, tensor: GgufTensor, size: int) -> list[int]:
        """The part of a size on each accelerator: of each of its segments."""
        name, layer = tensor.inner, tensor.layer
        if layer is None:
            return self._shares(size, 1, None)
        values = self.blocks.sizes(layer)
        heads, kv = values["attention.head_count"], values["attention.head_count_kv"]
        key, value = values["attention.key_length"], values["attention.value_length"]
        if name.startswith(_FUSED):
            queries = heads * key * (2 if self._gated else 1)
            parts = [(queries, self._queries(layer)), (kv * key, self._by_heads(layer) * key)]
            parts.append((kv * value, self._by_heads(layer) * value))
            each = [self._shares(part, multiple, layer) for part, multiple in parts]
            return [sum(sizes) for sizes in zip(*each, strict=True)]
        if name.startswith("ffn_"):
            inner = self._inner(layer)
            times = 2 if inner and size == 2 * inner and not _DOWN.fullmatch(name) else 1
            multiple = lcm(self._block(layer, "ffn_down.weight", "ffn_down_exps.weight"), _LEAST)
            return [share * times for share in self._shares(size // times, multiple, layer)]
        return self._shares(size, self._multiple(name, layer, size), layer)

    def _multiple(self, name: str, layer: int, size: int) -> int:
        """The multiples at which attention is cut: whole groups of heads."""
        values = self.blocks.sizes(layer)
        key, value = values["attention.key_length"], values["attention.value_length"]
        by_head = self._by_heads(layer)
        groups = values["attention.head_count"] // max(values["attention.head_count_kv"], 1)
        if name.startswith(("attn_k.", "attn_v.")):
            return by_head * (value if name.startswith("attn_v.") else key)
        if name == _OUTPUT:
            return by_head * groups * value
        if name == "attn_sinks.weight" or (name == "attn_gate.weight" and size == values["attention.head_count"]):
            return by_head * groups
        return self._queries(layer) if name.startswith("attn_q.") else by_head * groups * key

    def _queries(self, layer: int) -> int:
        values = self.blocks.sizes(layer)
        groups = values["attention.head_count"] // max(values["attention.head_count_kv"], 1)
        wide = groups * values["attention.key_length"]
        return lcm(2 * wide if self._gated else wide, self._block_of_heads(layer, wide))

    @property
    def _gated(self) -> bool:
        return self.blocks.architecture in _BY_GATES

    def _by_heads(self, layer: int) -> int:
        """Heads with keys and values of their own that stay together."""
        values = self.blocks.sizes(layer)
        wide = values["attention.key_length"] * values["attention.head_count"]
        wide //= max(values["attention.head_count_kv"], 1)
        return lcm(wide, self._block_of_heads(layer, wide)) // max(wide, 1)

    def _block_of_heads(self, layer: int, wide: int) -> int:
        block = self._block(layer, _OUTPUT, "ssm_out.weight")
        while block < _LEAST and block * self.devices < wide:
            block *= 2
        return block

    def _block(self, layer: int, *names: str) -> int:
        """Elements of a block of the first of these tensors that the layer has."""
        found = (self.blocks.by_name.get(f"blk.{layer}.{name}") for name in names)
        tensor = next((tensor for tensor in found if tensor is not None), None)
        dtype = None if tensor is None else stored_dtype(tensor.dtype)
        return 1 if dtype is None else dtype.block

    def _inner(self, layer: int) -> int:
        """Units of a layer's network, or of one of its experts."""
        found = (self.blocks.by_name.get(f"blk.{layer}.{name}") for name in ("ffn_down.weight", "ffn_down_exps.weight"))
        return next((tensor.shape[-1] for tensor in found if tensor is not None), 0)

    def _shares(self, size: int, multiple: int, layer: int | None) -> list[int]:
        """The part of each accelerator, cut at multiples; which one is rounded up goes round with the layers."""
        turn = self._turn(layer)
        shares = self._ordered(turn)
        found, low = [0] * self.devices, 0
        for number in range(self.devices):
            high = size
            if number < self.devices - 1:
                high = self._end(size, number, shares)
                high -= high % max(multiple, 1)
            found[(number + turn) % self.devices] = high - low
            low = high
        return found

    def _end(self, size: int, number: int, shares: Sequence[float]) -> int:
        total = sum(shares)
        return int(size * sum(shares[: number + 1]) / total) if total else size * (number + 1) // self.devices

    def _ordered(self, turn: int) -> list[float]:
        given = [*self.shares, *[0.0] * self.devices][: self.devices]
        return [given[(number + turn) % self.devices] for number in range(self.devices)]

    def _turn(self, layer: int | None) -> int:
        if layer is None:
            return self.blocks.loaded % self.devices
        return self._alike[layer] % self.devices if layer < len(self._alike) else 0

    @cached_property
    def _alike(self) -> tuple[int, ...]:
        """How many layers of a layer's kind come before it."""
        seen: dict[str, int] = {}
        found = []
        for kind in self.blocks.kinds:
            found.append(seen.get(kind, 0))
            seen[kind] = found[-1] + 1
        return tuple(found)
