"""What llama.cpp runs with, every default made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from hfmem.engines.llamacpp.options import ALL_LAYERS, LlamaCppOptions
from hfmem.engines.llamacpp.releases import NEWEST, Release, release_of
from hfmem.estimator.scenario import Scenario
from hfmem.options.otherwise import Detail
from hfmem.refusals.options import UnknownWordError

__all__ = ["CACHE_TYPES", "UBATCH", "Defaults", "LlamaServer", "LlamaSettings", "padded", "server", "server_of"]

CACHE_TYPES: Final = {
    "f32": (1, 4),
    "f16": (1, 2),
    "bf16": (1, 2),
    "q8_0": (32, 34),
    "q4_0": (32, 18),
    "q4_1": (32, 20),
    "iq4_nl": (32, 18),
    "q5_0": (32, 22),
    "q5_1": (32, 24),
}
"""Types of the cache: elements of a block, and its bytes (ggml-common.h)."""


UBATCH: Final = 512
"""Tokens that are computed at once, by default."""

_WORDS: Final = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


def padded(number: int, to: int = 256) -> int:
    """The next multiple: contexts are of so many tokens (`GGML_PAD` of llama-context.cpp)."""
    return -(-number // to) * to


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaSettings:
    """Settings of a model and its context, with llama.cpp's names.

    Attributes:
        n_ctx: tokens of the cache, of all sequences together.
        n_seq_max: sequences (`--parallel`).
        n_outputs: rows of logits of one batch (llama-server: one a sequence).
        flash: whether flash attention runs.
        auto_flash: whether llama.cpp still switches it off where it would run on another device than its layer's.
        type_k, type_v: types of the cache.
        unified: one cache for all sequences, not one each.
        n_gpu_layers: layers on accelerators, the output counted first.
        tensor_split: shares of the accelerators; () by their free memory.
        n_cpu_moe: of so many first layers the experts stay on the host.
        overrides: regular expressions of tensors and where they go: "CPU", or a device's number as text.
        embeddings: whether the states of the last layer are given out beside the logits.
        mmproj: the file of a tower and its bytes; () for none.
        release: whose rules hold.
        pins: whether llama.cpp's own choice of a device holds for some steps, as it does when a model is loaded:
            normalisations on their own layer's where all layers are offloaded (`graph_get_cb`), heads put together on
            the host where the cache is (`build_attn_mha`); what it simulates without loading forgets these
            (`ggml_backend_sched_reserve_size`).
    """

    n_ctx: int = 4096
    n_batch: int = 2048
    n_ubatch: int = UBATCH
    n_seq_max: int = 1
    n_outputs: int = 1
    flash: bool = True
    auto_flash: bool = False
    type_k: str = "f16"
    type_v: str = "f16"
    unified: bool = False
    swa_full: bool = False
    n_gpu_layers: int = ALL_LAYERS
    tensor_split: tuple[float, ...] = ()
    split_mode: Literal["layer", "none", "row", "tensor"] = "layer"
    main_gpu: int = 0
    n_cpu_moe: int = 0
    overrides: tuple[tuple[str, str], ...] = ()
    offload_kqv: bool = True
    embeddings: bool = False
    mmproj: tuple[tuple[str, int], ...] = ()
    release: Release = NEWEST
    pins: bool = False

    @property
    def cells(self) -> int:
        """Tokens that one stream of a cache holds."""
        return padded(self.n_ctx) if self.unified else padded(padded(self.n_ctx) // self.n_seq_max)

    @property
    def streams(self) -> int:
        """Caches of a layer."""
        return 1 if self.unified else self.n_seq_max

    @property
    def tokens(self) -> int:
        """Tokens of the largest batch that is run at once, a multiple of the sequences."""
        batch = min(padded(self.n_ctx), self.n_ubatch)
        return -(-batch // self.n_seq_max) * self.n_seq_max

    def window_cells(self, window: int) -> int:
        """Tokens that one stream of a layer with a window holds (`llama_kv_cache_iswa`)."""
        if self.swa_full:
            return self.cells
        sequences = self.n_seq_max if self.unified else 1
        return padded(min(self.cells, window * sequences + self.n_ubatch))


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What differs between programs that run llama.cpp.

    Attributes:
        title: the program; "" for llama.cpp's own.
        batch: tokens of a logical batch.
        one_batch: whether so many are computed at once, too.
        embeddings: whether builds before the newest gave the states of the last layer out.
    """

    title: str = ""
    batch: int = 2048
    one_batch: bool = False
    embeddings: bool = False


_OWN: Final = Defaults()


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaServer:
    """What a person asked of llama.cpp; batch and length come from the scenario.

    Attributes:
        asked: the options.
        flash: whether flash attention runs on the accelerator.
        chosen: a sentence for each choice that the engine made.
        defaults: of the program.
    """

    asked: LlamaCppOptions
    flash: bool
    chosen: tuple[str, ...] = ()
    defaults: Defaults = _OWN

    def describe(self) -> str:
        """The engine and its release."""
        return _software(self.defaults, self.release)

    @property
    def batch(self) -> int:
        """Tokens of a logical batch."""
        return self.asked.batch_size or self.defaults.batch

    @property
    def ubatch(self) -> int:
        """Tokens that are computed at once."""
        return self.batch if self.defaults.one_batch else min(self.asked.ubatch_size or UBATCH, self.batch)

    @property
    def release(self) -> Release:
        """The release whose rules hold."""
        return release_of(self.asked.llamacpp_version)

    def fields(self) -> Mapping[str, Any]:
        """What `scenario` of the JSON contract shows."""
        asked = self.asked
        return {
            "llamacpp_release": self.release.name,
            "n_gpu_layers": asked.n_gpu_layers,
            "ubatch_size": self.ubatch,
            "cache_type_k": self.type_k,
            "cache_type_v": self.type_v,
            "flash_attn": self.flash,
            "kv_unified": bool(asked.kv_unified),
            "swa_full": asked.swa_full,
            "n_cpu_moe": asked.n_cpu_moe or 0,
        }

    @property
    def type_k(self) -> str:
        """The type of the cached keys."""
        return self.asked.cache_type_k or "f16"

    @property
    def type_v(self) -> str:
        """The type of the cached values."""
        return self.asked.cache_type_v or "f16"

    @property
    def auto_flash(self) -> bool:
        """Whether llama.cpp still decides on flash attention, which quantised values and parts of matrices need."""
        free = CACHE_TYPES[self.type_v][0] == 1 and self.asked.split_mode != "tensor"
        return self.flash and self.asked.flash_attn == "auto" and free

    def of(self, scenario: Scenario, *, n_gpu_layers: int = ALL_LAYERS, n_cpu_moe: int = 0) -> LlamaSettings:
        """The settings of a run: a context of all sequences together, and a row of logits for each.

        Args:
            scenario: its sequences and their length.
            n_gpu_layers, n_cpu_moe: where nothing was asked.
        """
        asked = self.asked
        return LlamaSettings(
            n_ctx=max(asked.ctx_size or 0, scenario.batch * scenario.seq),
            n_batch=self.batch,
            n_ubatch=self.ubatch,
            n_seq_max=scenario.batch,
            n_outputs=self.ubatch if self.release.all_outputs else scenario.batch,
            flash=self.flash,
            auto_flash=self.auto_flash,
            type_k=self.type_k,
            type_v=self.type_v,
            unified=bool(asked.kv_unified),
            swa_full=asked.swa_full,
            n_gpu_layers=n_gpu_layers if asked.n_gpu_layers is None else asked.n_gpu_layers,
            tensor_split=asked.tensor_split or (),
            split_mode=asked.split_mode,
            main_gpu=asked.main_gpu,
            n_cpu_moe=n_cpu_moe if asked.n_cpu_moe is None else asked.n_cpu_moe,
            overrides=tuple(_rule(rule) for rule in asked.override_tensor),
            offload_kqv=not asked.no_kv_offload,
            embeddings=self.defaults.embeddings and self.release != NEWEST,
            release=self.release,
            pins=scenario.gpu is not None,  # an accelerator without a name is as llama.cpp itself simulates it
        )


def _software(defaults: Defaults, release: Release) -> str:
    return f"{defaults.title} (llama.cpp {release.name})" if defaults.title else f"llama.cpp {release.name}"


def _rule(text: str) -> tuple[str, str]:
    pattern, _, place = text.rpartition("=")
    return pattern, place


def server(options: LlamaCppOptions, kv_dtype: str | None = None, defaults: Defaults = _OWN) -> LlamaServer:
    """What was asked, with the defaults of the release.

    Args:
        options: llama.cpp's own.
        kv_dtype: what was asked of the cache by its general name, for keys and values that have no type of their own.
        defaults: of the program that runs it.

    Raises:
        UnknownWordError: llama.cpp has no such cache.
    """
    if kv_dtype is not None:
        kind = _WORDS.get(kv_dtype, kv_dtype)
        if kind not in CACHE_TYPES:
            raise UnknownWordError("--kv-dtype", kv_dtype, tuple(CACHE_TYPES))
        options = replace(options, cache_type_k=options.cache_type_k or kind, cache_type_v=options.cache_type_v or kind)
    chosen = (Detail(f"Modelled on {_software(defaults, release_of(options.llamacpp_version))}."),)
    return LlamaServer(asked=options, flash=options.flash_attn != "off", chosen=chosen, defaults=defaults)


def server_of(scenario: Scenario) -> LlamaServer:
    """The settings of a scenario of this engine.

    Raises:
        TypeError: it is a scenario of another engine.
    """
    if not isinstance(scenario.serving, LlamaServer):
        raise TypeError("not a scenario of llama.cpp")
    return scenario.serving
