"""How vLLM keeps recurrent states: the mode of its prefix cache for them, the pages of a request, and their dtype.

All of it follows the model's class in vLLM, its release and the card; `releases.py` has the releases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hfmem.engines.vllm.releases import CacheMode
from hfmem.engines.vllm.settings import Settings
from hfmem.hardware.values import Accelerator
from hfmem.mapper.caches import Cache, Combined, Indexed, State
from hfmem.mapper.values import Architecture

__all__ = ["CLASSES", "Kept", "Mixer", "cache_mode", "kept_states", "recurrent", "state_dtype"]

_STATE_CHUNK: Final = 2048  # tokens: `ModelConfig.get_mamba_chunk_size` for classes without chunks
_DELTA_STEP: Final = 64  # tokens: FLASHINFER_GDN_CHECKPOINT_ALIGNMENT
_KDA_CARDS: Final = ("9.", "10.", "12.")  # is_flashkda_supported
_DELTA_CARDS: Final = ("9.0", "10.", "12.")  # _resolve_gdn_prefill_backend, with CUDA 13 as in the wheels


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixer:
    """What a class of vLLM has for its recurrent layers.

    Attributes:
        name: as in `Release.checkpoints`; "" where it never has those.
        every_mode: whether its states can be cached for every block (`SupportsMambaPrefixCaching`).
        own_dtype: where the state's dtype is from: `configured` if a class of its own in `models/config.py` reads it
            from the config; `defaulted` if that has a dtype for configs without one (Nemotron-H), `nested` if it does
            so for a model inside of it; `fixed` if it is the layer's; "" for the compute dtype.
    """

    name: str = ""
    every_mode: bool = False
    own_dtype: str = ""


_MAMBA2: Final = Mixer(name="ssd", every_mode=True)
_NEMOTRON: Final = Mixer(name="ssd", every_mode=True, own_dtype="defaulted")
_MAMBA1: Final = Mixer(name="selective", every_mode=True)
_DELTA: Final = Mixer(name="gated_delta")
_QWEN: Final = Mixer(name="gated_delta", own_dtype="configured")
_KIMI: Final = Mixer(name="kimi_kda", own_dtype="fixed")
_GLM: Final = Mixer(name="glm_kda", own_dtype="fixed")

CLASSES: Final[dict[str, Mixer]] = {
    "BambaForCausalLM": _MAMBA2,
    "FalconH1ForCausalLM": _MAMBA2,
    "GraniteMoeHybridForCausalLM": _MAMBA2,
    "Mamba2ForCausalLM": _MAMBA2,
    "Zamba2ForCausalLM": _MAMBA2,
    "NemotronHForCausalLM": _NEMOTRON,
    "NemotronHPuzzleForCausalLM": _NEMOTRON,
    "NemotronH_Nano_VL_V2": Mixer(name="ssd", own_dtype="nested"),
    "NemotronH_Nano_Omni_Reasoning_V3": Mixer(name="ssd"),
    "NemotronH_Super_Omni_Reasoning_V3": Mixer(name="ssd"),
    "NemotronH_Omni_Reasoning_V3": Mixer(name="ssd"),
    "FalconMambaForCausalLM": _MAMBA1,
    "JambaForCausalLM": _MAMBA1,
    "JambaForSequenceClassification": _MAMBA1,
    "MambaForCausalLM": _MAMBA1,
    "Qwen3NextForCausalLM": _DELTA,
    "OlmoHybridForCausalLM": Mixer(),
    "InternS2MobiusForConditionalGeneration": _DELTA,
    "MiniCPMV4_6ForConditionalGeneration": _DELTA,
    "Qwen3_5ForCausalLM": _QWEN,
    "Qwen3_5ForConditionalGeneration": _QWEN,
    "Qwen3_5MoeForCausalLM": _QWEN,
    "Qwen3_5MoeForConditionalGeneration": _QWEN,
    "KimiK3ForConditionalGeneration": _KIMI,
    "Glm5NextForCausalLM": _GLM,
    "Glm5NextForConditionalGeneration": _GLM,
}
"""Names in a config's `architectures`; others have neither of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How states are kept.

    Attributes:
        mode: of the prefix cache.
        pages: pages of a request in modes other than `all`, where each block of tokens has one.
        step: tokens of which a grown block of attention is a multiple; 0 for the attention's own.
        widens: whether convolutions have a column for each drafted token; Mamba 1's have none.
    """

    mode: CacheMode
    pages: int
    step: int = 0
    widens: bool = True


def recurrent(architecture: Architecture) -> bool:
    """Whether a layer has a recurrent state."""
    return any(_has_state(layer.cache) for layer in set(architecture.layers or ()))


def _has_state(cache: Cache) -> bool:
    if isinstance(cache, Combined):
        return any(map(_has_state, cache.caches))
    return isinstance(cache, State) or (isinstance(cache, Indexed) and _has_state(cache.attention))


def _mixer(architecture: Architecture) -> Mixer:
    return next((CLASSES[name] for name in architecture.class_names if name in CLASSES), Mixer())


def cache_mode(architecture: Architecture, settings: Settings) -> CacheMode:
    """How prefix caching keeps the states (`MambaModelConfig.verify_and_update_config`). It is off by default for
    models of recurrent layers alone (`is_prefix_caching_supported`)."""
    release, every = settings.source, _mixer(architecture).every_mode
    hybrid = any(not _has_state(layer.cache) and layer.cache.parts for layer in architecture.layers or ())
    caching = release.cached and hybrid if settings.prefix_caching is None else settings.prefix_caching
    asked = settings.mamba_cache_mode
    if not caching or not release.modes:
        return "none"
    mode = release.preferred if asked in (None, "none") else asked
    if mode == "all" and not (every and "all" in release.modes):
        mode = "align"
    return mode if mode in release.modes else "none"


def kept_states(architecture: Architecture, settings: Settings, gpu: Accelerator | None) -> Kept:
    """How the states of a model are kept (`MambaSpec.max_memory_usage_bytes`)."""
    mode, mixer = cache_mode(architecture, settings), _mixer(architecture)
    widens = mixer.name != "selective"
    if mode == "all":
        return Kept(mode=mode, pages=0, step=architecture.state_chunk or _STATE_CHUNK, widens=widens)
    if mode == "none":
        return Kept(mode=mode, pages=1, widens=widens)
    inside = mixer.name in settings.source.checkpoints and _writes_inside(mixer, gpu)
    step = _DELTA_STEP if inside and mixer.name == "gated_delta" else 0
    return Kept(mode=mode, pages=3 if inside else 2, step=step, widens=widens)


def _writes_inside(mixer: Mixer, gpu: Accelerator | None) -> bool:
    """Whether the card's prefill kernel of a mixer writes states inside of a prefill."""
    if mixer.name == "ssd":
        return True
    cards = _DELTA_CARDS if mixer.name == "gated_delta" else _KDA_CARDS
    return gpu is not None and gpu.vendor == "nvidia" and gpu.compute_capability.startswith(cards)


def state_dtype(architecture: Architecture, settings: Settings) -> str | None:
    """The dtype of recurrent states; None for the compute dtype, as vLLM does not widen states by default
    (`MambaStateDtypeCalculator`), and reads it from the config of few classes."""
    names = [name for name in architecture.class_names if name in CLASSES]
    if not names:
        return architecture.state_dtype
    release, own = settings.source, CLASSES[names[0]].own_dtype
    if own in ("defaulted", "nested"):
        read = release.nemotron if own == "defaulted" or release.nemotron_nested else ""
        return (architecture.state_dtype or read) if read else None
    if own == "configured" and not release.qwen:
        return None
    return architecture.state_dtype if own else None
