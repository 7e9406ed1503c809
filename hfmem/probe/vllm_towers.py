"""What vLLM's own classes of vision towers need for a forward pass: `hfmem/data/vllm_towers.jsonl`.

    python -m hfmem.probe.vllm_towers

Read from vLLM's source, as the bytes that are alive at the widest points of a block, where its classes differ from
those of transformers.

A block's input is `2*hidden` bytes of a patch in 16 bits. Its attention holds the input, its norm, queries, keys and
values (`6*heads_dim`), queries and keys put together and turned (4 each), and what comes out of the kernel and of the
projection (2 each); attention is by a flash kernel. Releases before 0.12 turned queries and keys in float32, and
gathered those of all ranks on each, apart and then side by side. `heads_dim` and `inner` are a rank's share.

Ranks share the layers that merge patches into features (`merged`). Releases before 0.11 put the pixels of a batch
together (`joined`), which copies them also where there is one image. Qwen's classes state how many tokens an image has
(`stated`: `get_mm_max_tokens_per_item`), whatever the size of those in the profile run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ["main", "rows"]

_TABLE: Final = Path(__file__).parents[1] / "data" / "vllm_towers.jsonl"
_READ: Final = "vLLM 0.7.3, 0.8.2, 0.9.2, 0.10.2, 0.11.0, 0.12.0, 0.13.0, 0.19.0, 0.27.0, 0.29.0, 0.33.0"

_Forward = Mapping[str, Any]

_PIXELS: Final = ("s*(2*pixels)", "s*(2*key_dim)")  # and the cosine and sine of each position
_ANGLES: Final = ("s*(2*pixels)", "s*(6*key_dim)")  # in float32, with the angles
_JOINED: Final = ("s*(4*pixels)", "s*(6*key_dim)")  # with the copy
_FLOATS: Final = ("s*(10*pixels)", "s*(14*key_dim)")  # all in float32, pixels in 16 bits, too, cosine and sine twice

_PLAIN: Final = "s*(4*hidden+28*heads_dim)"  # by PyTorch's own operations, without the package flash-attn
_APART: Final = "s*(4*hidden+22*heads_dim)"
_TOGETHER: Final = "s*(4*hidden+36*heads_dim)"
_TURNED: Final = "s*(6*hidden+16*heads_dim)"
_GATHERED: Final = "s*(16*hidden+6*heads_dim)"


def _forward(since: str, peaks: tuple[str, ...], always: tuple[str, ...], source: str, **flags: bool) -> _Forward:
    return {"since": since, "peaks": peaks, "always": always, "source": f"vLLM {source}", **flags}


def _forwards(file: str, feed_forward: str, *more: str) -> tuple[_Forward, ...]:
    """Towers with the attention of Qwen2-VL's; `more` is there from the embedding on."""
    return tuple(
        _forward(
            since,
            (*attention, feed_forward),
            (*pixels, *more),
            f"{release}, model_executor/models/{file}",
            merged=True,
            **joined,
        )
        for since, release, attention, pixels, joined in (
            ("0.0", "0.7.3 and 0.8.2", (_PLAIN, _GATHERED), _FLOATS, {"joined": True}),
            ("0.9", "0.9.2 and 0.10.2", (_APART, _GATHERED), _JOINED, {"joined": True}),
            ("0.11", "0.11.0", (_TOGETHER, _GATHERED), _ANGLES, {}),
            ("0.12", "0.12.0, 0.13.0, 0.19.0 and 0.33.0", (_TURNED,), _PIXELS, {}),
        )
    )


def _ungathered(found: _Forward) -> tuple[str, ...]:
    """The widest points of a class that leaves the shares of ranks apart."""
    return tuple(peak for peak in found["peaks"] if peak != _GATHERED)


def _pixtral(since: str, release: str, *more: str) -> _Forward:
    """Pixtral's: the output of the attention stays while the gated feed-forward runs."""
    return _forward(
        since,
        ("s*(4*hidden+16*heads_dim)", "s*(10*hidden+6*inner)"),
        (*_PIXELS, *more),
        f"{release}, model_executor/models/pixtral.py, PixtralHFVisionModel",
    )


_GATED: Final = "s*(6*hidden+6*inner)"  # the residual, and the norm in the place of the input
_UNGATED: Final = "s*(6*hidden+4*inner)"  # the input stays beside the residual until the output is there
_POSITIONS: Final = "s*(2*hidden)"
_DEEP: Final = "s*(3/2*out)"  # features of three blocks for the decoder, a quarter as many as patches

_QWEN2: Final = _forwards("qwen2_vl.py", _UNGATED)
_QWEN25: Final = _forwards("qwen2_5_vl.py", _GATED)
_DEEPER: Final = _forwards("qwen3_vl.py", _UNGATED, _POSITIONS, _DEEP)[2:]
_QWEN3: Final = (  # a frame of one feature with a time stamp of 9.5 tokens on average and two marks
    *({**one, "spelled": 12.5} for one in _DEEPER),
    {**_DEEPER[-1], "since": "0.13"},
)
_QWEN35: Final = _forwards("qwen3_vl.py", _UNGATED, _POSITIONS)[3:]
_GLM4V: Final = _forwards("glm4_1v.py", "s*(4*hidden+6*inner)", _POSITIONS)[1:-1]
_GLM: Final = (
    _GLM4V[0],
    *({**one, "since": since, "peaks": _ungathered(one)} for since, one in zip(("0.10", "0.11"), _GLM4V, strict=True)),
    _forward(
        "0.12",
        # copies of queries, keys and values, of which that of the values stays
        ("s*(4*hidden+20*heads_dim)", "s*(6*hidden+18*heads_dim)", "s*(4*hidden+6*inner)"),
        (*_PIXELS, _POSITIONS),
        "0.19.0 and 0.33.0, model_executor/models/glm4_1v.py",
        merged=True,
    ),
)
_PIXTRAL: Final = (
    _pixtral("0.0", "0.10.2"),
    # without xformers, images are told apart by a mask
    _pixtral("0.12", "0.13.0, 0.19.0 and 0.27.0", "s*s*(2)"),
    _pixtral("0.29", "0.29.0 and 0.33.0"),
)

_TOWERS: Final[Mapping[str, tuple[_Forward, ...]]] = {
    "glm46v": _GLM,
    "glm4v": _GLM,
    "glm4v_moe": _GLM,
    "lighton_ocr": _PIXTRAL,
    "mistral3": _PIXTRAL,
    "qwen2_5_omni_thinker": _QWEN25,
    "qwen2_5_vl": _QWEN25,
    "qwen2_vl": _QWEN2,
    "qwen3_5": _QWEN35,
    "qwen3_5_moe": _QWEN35,
    "qwen3_vl": _QWEN3,
    "qwen3_vl_moe": _QWEN3,
}
"""By the type of the tower, the oldest release first."""

_STATING: Final = "qwen"  # what the types begin with


def rows() -> Iterator[dict[str, Any]]:
    """The rows of the table, after its head."""
    for name, found in _TOWERS.items():
        stated = {"stated": True} if name.startswith(_STATING) else {}
        yield from ({"type": name, **one, **stated} for one in found)


def main() -> None:
    """Write the table."""
    head = {"source": _READ, "tool": "python -m hfmem.probe.vllm_towers"}
    lines = [json.dumps(line, separators=(",", ":")) for line in (head, *rows())]
    _TABLE.write_text("\n".join(lines) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
