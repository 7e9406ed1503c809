"""Properties of llama.cpp's architectures that a file's metadata does not state: one row each.

Source: `load_arch_hparams` of src/models/*.cpp, `llama_model_base::load_hparams` and `create_memory` of
llama-model.cpp, and the names of llama-arch.cpp (llama.cpp 0.5.0, in the sdist llama-cpp-python 0.3.36).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["ROWS", "Row", "States", "Windows"]

States = Literal["none", "all", "without_kv", "without_kv_or_ffn", "interval", "beside"]
"""Which layers have a recurrent state: none; all; those without KV heads; those with neither KV heads nor a
feed-forward network; all but every n-th; all, in addition to their attention."""

Indexers = Literal["none", "all", "listed", "after_dense"]
"""Which attention layers have an indexer: none; all; those that the file lists (all where it has no list); those after
the leading dense layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Which layers use a sliding window, where the file does not list them.

    Attributes:
        pattern: period of full attention: one layer in `pattern` is full; 0 for none.
        first: the full layer is the first of each period, not the last.
        size: window in tokens where the file has no value; None: no window then.
        fixed: window in tokens that overrides the file's value, as llama.cpp does.
        kind: layer kind of these layers.
        layers: windows apply only to models with this many layers; 0 for any.
    """

    pattern: int = 0
    first: bool = False
    size: int | None = None
    fixed: int | None = None
    kind: str = "sliding_attention"
    layers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How one architecture differs from Llama.

    Attributes:
        windows: its sliding windows; None where llama.cpp ignores a window stated in the file.
        states: which layers have a recurrent state.
        interval: the period for `states="interval"` where the file has no value.
        indexers: which layers have an indexer.
        sharing: (context, leading, period) where the file does not list the indexers: at a context length of at least
            `context`, the first `leading` layers and then one in `period` have one (GLM-5.2); None: all have one.
        compressed: attention over compressed entries in addition to a sliding window (DeepSeek-V4).
        keeps: False for encoders and diffusion models, which have no cache.
        lightning: the state is that of lightning (linear) attention, one head_dim² matrix per head (MiniMax-01).
        kept_first: layers from this index on reuse the KV cache of earlier layers; None where the file states it, or
            no layer does.
        shared: the key with the number of last layers that reuse an earlier KV cache; "" for none.
        loops: the key with the number of times that the layers run, each time with a KV cache of its own; "" for once.
        router: an extra last layer with one head caches which adapter each token uses (Granite Switch).
        form: the kind of model.
    """

    windows: Windows | None = None
    states: States = "none"
    interval: int = 0
    indexers: Indexers = "none"
    sharing: tuple[int, int, int] | None = None
    compressed: bool = False
    keeps: bool = True
    lightning: bool = False
    kept_first: int | None = None
    shared: str = ""
    loops: str = ""
    router: bool = False
    form: Literal["decoder", "encoder", "encoder_decoder", "tower", "audio"] = "decoder"


_PLAIN: Final = Row()
_ENCODER: Final = Row(keeps=False, form="encoder")
_DIFFUSION: Final = Row(keeps=False)
_LISTED: Final = Row(windows=Windows())
_RECURRENT: Final = Row(states="all")
_HYBRID: Final = Row(states="without_kv")
_DELTA: Final = Row(states="interval", interval=4)

_LLAMAS: Final = (
    "llama",
    "deci",
    "falcon",
    "grok",
    "gpt2",
    "gptj",
    "gptneox",
    "mpt",
    "baichuan",
    "starcoder",
    "refact",
    "bloom",
    "stablelm",
    "qwen",
    "qwen2",
    "qwen2moe",
    "qwen2vl",
    "qwen3",
    "qwen3moe",
    "qwen3vl",
    "qwen3vlmoe",
    "phi2",
    "phi3",
    "phimoe",
    "plamo",
    "codeshell",
    "orion",
    "internlm2",
    "minicpm",
    "minicpm3",
    "gemma",
    "starcoder2",
    "xverse",
    "command-r",
    "dbrx",
    "olmo",
    "olmoe",
    "openelm",
    "arctic",
    "deepseek",
    "deepseek2",
    "deepseek2-ocr",
    "chatglm",
    "glm4",
    "glm4moe",
    "bitnet",
    "jais",
    "jais2",
    "nemotron",
    "exaone",
    "granite",
    "granitemoe",
    "chameleon",
    "plm",
    "bailingmoe",
    "bailingmoe2",
    "dots1",
    "arcee",
    "ernie4_5",
    "ernie4_5-moe",
    "hunyuan-moe",
    "hunyuan-dense",
    "hunyuan_vl",
    "hy_v3",
    "smollm3",
    "seed_oss",
    "grovemoe",
    "apertus",
    "minimax-m2",
    "hrm_text",
    "cogvlm",
    "pangu-embedded",
    "mistral3",
    "mistral4",
    "paddleocr",
    "llama-embed",
    "maincoder",
    "talkie",
    "eagle3",
    "qwen3tts",
    "pockettts",
)

ROWS: Final[dict[str, Row]] = {
    **dict.fromkeys(_LLAMAS, _PLAIN),
    **dict.fromkeys(
        ("bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3", "eurobert", "t5encoder"),
        _ENCODER,
    ),
    **dict.fromkeys(("dream", "llada", "llada-moe", "rnd1"), _DIFFUSION),
    **dict.fromkeys(("mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"), _RECURRENT),
    **dict.fromkeys(("jamba", "granitehybrid", "plamo2", "lfm2moe", "kimi-linear", "kimi-k3", "bailingmoe3"), _HYBRID),
    **dict.fromkeys(("nemotron_h", "nemotron_h_moe"), Row(states="without_kv_or_ffn")),
    **dict.fromkeys(("qwen3next", "qwen35", "qwen35moe"), _DELTA),
    **dict.fromkeys(("maple", "mimo2", "spark2_5", "step35", "granite_swa", "gemma4-assistant", "dflash"), _LISTED),
    **dict.fromkeys(("afmoe", "cohere2", "mellum", "muse-glimmer", "olmo2"), Row(windows=Windows(pattern=4))),
    **dict.fromkeys(("cohere2moe", "laguna"), Row(windows=Windows(pattern=4, first=True))),
    "clip": Row(form="tower"),
    "deepseek32": Row(indexers="all"),
    "deepseek4": Row(windows=Windows(), compressed=True),
    "dots3note": Row(windows=Windows(), indexers="listed"),
    "exaone4": Row(windows=Windows(pattern=4, size=4096, layers=64)),
    "exaone-moe": Row(windows=Windows(pattern=4, size=128)),
    "falcon-h1": Row(states="beside"),
    "gemma2": Row(windows=Windows(pattern=2, size=4096)),
    "gemma3": Row(windows=Windows(pattern=6)),
    "gemma3n": Row(windows=Windows(pattern=5), kept_first=20),
    "gemma4": Row(windows=Windows(), shared="attention.shared_kv_layers"),
    "gemma-embedding": Row(windows=Windows(pattern=6), keeps=False, form="encoder"),
    "glm-dsa": Row(indexers="listed", sharing=(2**20, 2, 4)),
    "glm5-next": Row(states="without_kv", indexers="listed"),
    "gpt-oss": Row(windows=Windows(pattern=2)),
    "graniteswitch": Row(router=True),
    "hy_v4": Row(indexers="listed"),
    "lfm2": Row(states="without_kv", windows=Windows()),
    "llama4": Row(windows=Windows(pattern=4, size=8192, fixed=8192, kind="chunked_attention")),
    "minimax-01": Row(states="interval", interval=8, lightning=True),
    "minimax-m3": Row(indexers="after_dense"),
    "modern-bert": Row(windows=Windows(pattern=3, first=True), keeps=False, form="encoder"),
    "nanbeige": Row(loops="num_loops"),
    "plamo3": Row(windows=Windows(pattern=8)),
    "qwen4exp": Row(states="interval", interval=4, indexers="all"),
    "smallthinker": Row(windows=Windows(pattern=4, first=True, fixed=4096)),
    "t5": Row(form="encoder_decoder"),
    "wavtokenizer-dec": Row(form="audio"),
}
"""Every architecture of the release, by its name in files."""
