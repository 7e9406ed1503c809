"""What a server does besides serving the model: adapters, drafts, offloading, context parallelism."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from hfmem.engines.vllm.options import VllmOptions
from hfmem.engines.vllm.releases import number_of
from hfmem.engines.vllm.rules import release_of
from hfmem.engines.vllm.serving_options import EncoderSplit, SpecMethod
from hfmem.mapper.interpret import Model
from hfmem.units import GIB

__all__ = ["DEFAULT_RANK", "MANY", "NO_EXTRAS", "Extras", "Request", "extras"]

_LORAS: Final = 1
DEFAULT_RANK: Final = 16
MANY: Final = 999
"""Items of each kind that a prompt may have, where nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A kind of request: tokens of its prompt and of its answer, and its share of all requests."""

    prompt: int
    answer: int
    share: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """Settings of these; the default is none of them.

    Attributes:
        loras, lora_rank: slots for adapters, and their rank; 0 without.
        spec_method: how tokens are drafted; None without.
        spec_tokens: tokens drafted per step; None for as many as the model has prediction layers.
        spec_model: the draft's name; "" for none.
        draft: the draft model, if it could be read.
        cpu_offload: bytes of each rank's weights in host memory.
        kv_offload: bytes of host memory for the KV cache, of all ranks.
        context_ranks: ranks that share each request's KV cache.
        side: the side of a disaggregated server; "" for none.
        mix: kinds of requests.
        mm_limits: the most items of each kind (image, video, audio) in a prompt, where the user gave it.
        mm_sizes: sizes of those that are profiled, by kind and name, where the user gave any.
        mm_processing: settings of the processor as JSON; "" for those of its files.
        mm_nothing: whether a prompt may have none of them, whatever the limits are.
        mm_split: what ranks share of an encoder, where the user gave it.
        mm_unprofiled: whether the profile run leaves the encoder out.
        mm_cache: bytes of a process for prepared images; None for vLLM's default.
        given: the options, as repeated in the launch line.
    """

    loras: int = 0
    lora_rank: int = 0
    spec_method: SpecMethod | None = None
    spec_tokens: int | None = None
    spec_model: str = ""
    draft: Model | None = None
    cpu_offload: int = 0
    kv_offload: int = 0
    context_ranks: int = 1
    side: str = ""
    mix: tuple[Request, ...] = ()
    mm_limits: tuple[tuple[str, int], ...] = ()
    mm_sizes: tuple[tuple[str, tuple[tuple[str, int], ...]], ...] = ()
    mm_processing: str = ""
    mm_nothing: bool = False
    mm_split: EncoderSplit | None = None
    mm_unprofiled: bool = False
    mm_cache: int | None = None
    given: tuple[str, ...] = ()

    @property
    def mm_data(self) -> bool:
        """Whether ranks share the images of a batch, not the weights of an encoder."""
        return self.mm_split == "data"

    @property
    def connected(self) -> bool:
        """Whether a connector moves KV cache out of the GPU: to another server, or to the host."""
        return bool(self.side or self.kv_offload)

    @property
    def drafted(self) -> int:
        """Tokens drafted per step; 0 without speculative decoding."""
        return 0 if self.spec_method is None else self.spec_tokens or 1

    @property
    def query_length(self) -> int:
        """Tokens of a sequence in a step of decoding: the last one, and the drafts to be verified."""
        return 1 + self.drafted

    def fields(self) -> Mapping[str, Any]:
        """The entries in `scenario` of the JSON output, of what is asked for."""
        found: dict[str, Any] = {}
        if self.loras:
            found |= {"max_loras": self.loras, "max_lora_rank": self.lora_rank}
        if self.spec_method:
            found |= {"spec_method": self.spec_method, "spec_tokens": self.drafted}
            found["spec_model"] = self.spec_model or None
        if self.cpu_offload:
            found["cpu_offload_bytes"] = self.cpu_offload
        if self.kv_offload:
            found["kv_offloading_bytes"] = self.kv_offload
        if self.context_ranks > 1:
            found["decode_context_parallel_size"] = self.context_ranks
        if self.side:
            found["kv_role"] = self.side
        return found | self._of_media()

    def _of_media(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.mm_limits:
            sizes = {kind: dict(size) for kind, size in self.mm_sizes}
            found["limit_mm_per_prompt"] = {
                kind: {"count": count, **sizes[kind]} if kind in sizes else count for kind, count in self.mm_limits
            }
        if self.mm_processing:
            found["mm_processor_kwargs"] = json.loads(self.mm_processing)
        if self.mm_nothing:
            found["language_model_only"] = True
        if self.mm_split:
            found["mm_encoder_tp_mode"] = self.mm_split
        if self.mm_unprofiled:
            found["skip_mm_profiling"] = True
        if self.mm_cache is not None:
            found["mm_processor_cache_bytes"] = self.mm_cache
        return found


NO_EXTRAS: Final = Extras()


def extras(options: VllmOptions) -> Extras:
    """What the user's options ask for."""
    companions: Mapping[str, Model] = dict(getattr(options, "companions", ()))  # of `Options`
    limits = json.loads(options.limit_mm_per_prompt or "{}")
    return Extras(
        loras=(options.max_loras or _LORAS) if options.enable_lora else 0,
        lora_rank=(options.max_lora_rank or DEFAULT_RANK) if options.enable_lora else 0,
        spec_method=options.spec_method,
        spec_tokens=options.spec_tokens,
        spec_model=options.spec_model or "",
        draft=companions.get("draft"),
        cpu_offload=int((options.cpu_offload_gb or 0) * GIB),
        kv_offload=int((options.kv_offloading_size or 0) * GIB),
        context_ranks=options.decode_context_parallel_size or 1,
        side=options.kv_role or "",
        mix=_mix(options.request_mix),
        mm_limits=tuple((kind, _count(said)) for kind, said in limits.items()),
        mm_sizes=tuple((kind, _sizes(said)) for kind, said in limits.items() if isinstance(said, dict)),
        mm_processing=options.mm_processor_kwargs or "",
        mm_nothing=options.language_model_only,
        mm_split=options.mm_encoder_tp_mode,
        mm_unprofiled=options.skip_mm_profiling,
        mm_cache=None if options.mm_processor_cache_gb is None else int(options.mm_processor_cache_gb * GIB),
        given=tuple(_given(options)),
    )


def _count(said: int | Mapping[str, int]) -> int:
    """Items of a kind, of a number or of an object (vLLM 0.11.2, config/multimodal.py, `BaseDummyOptions`)."""
    return said if isinstance(said, int) else said.get("count", MANY)


def _sizes(said: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple((name, value) for name, value in said.items() if name != "count")


def _mix(words: tuple[str, ...]) -> tuple[Request, ...]:
    """The kinds of requests, with shares that add up to 1."""
    read = []
    for word in words:
        lengths, _, share = word.partition("@")
        prompt, _, answer = lengths.partition("+")
        read.append((int(prompt), int(answer), Fraction(share).limit_denominator(10**6)))
    every = sum(share for _, _, share in read)
    return tuple(Request(prompt=prompt, answer=answer, share=share / every) for prompt, answer, share in read)


def _given(options: VllmOptions) -> Iterator[str]:
    if options.enable_lora:
        yield "--enable-lora"
        yield from (f"--max-loras {options.max_loras}",) if options.max_loras else ()
        yield from (f"--max-lora-rank {options.max_lora_rank}",) if options.max_lora_rank else ()
    if options.spec_method:
        yield from _drafting(options)
    if options.cpu_offload_gb:
        yield f"--cpu-offload-gb {options.cpu_offload_gb:g}"
    if options.kv_offloading_size:
        yield f"--kv-offloading-size {options.kv_offloading_size:g}"
    if (options.decode_context_parallel_size or 1) > 1:
        yield f"--decode-context-parallel-size {options.decode_context_parallel_size}"
    yield from _of_media(options)
    if options.kv_role:
        yield f'--kv-transfer-config \'{{"kv_connector":"NixlConnector","kv_role":"kv_{options.kv_role}"}}\''


def _of_media(options: VllmOptions) -> Iterator[str]:
    if options.limit_mm_per_prompt:
        limits = options.limit_mm_per_prompt
        if number_of(options.vllm_version) < _JSON_LIMITS:
            limits = ",".join(f"{kind}={_count(said)}" for kind, said in json.loads(limits).items())
        yield f"--limit-mm-per-prompt {shlex.quote(limits)}"
    if options.mm_processor_kwargs:
        yield f"--mm-processor-kwargs {shlex.quote(options.mm_processor_kwargs)}"
    if options.language_model_only:
        yield "--language-model-only"
    if options.mm_encoder_tp_mode:
        yield f"--mm-encoder-tp-mode {options.mm_encoder_tp_mode}"
    if options.skip_mm_profiling:
        yield "--skip-mm-profiling"
    if options.mm_processor_cache_gb is not None:
        yield f"--mm-processor-cache-gb {options.mm_processor_cache_gb:g}"


_JSON_LIMITS: Final = (0, 8, 5)  # before, pairs of kinds and numbers
_OWN_OPTIONS: Final = (0, 22)  # before, one option had all of it as JSON


def _drafting(options: VllmOptions) -> Iterator[str]:
    """Speculative decoding, as the release asked for spells it (engine/arg_utils.py)."""
    if release_of(options.vllm_version) >= _OWN_OPTIONS:
        yield f"--spec-method {options.spec_method}"
        yield from (f"--spec-model {shlex.quote(options.spec_model)}",) if options.spec_model else ()
        yield from (f"--spec-tokens {options.spec_tokens}",) if options.spec_tokens else ()
        return
    values = {
        "method": options.spec_method,
        "model": options.spec_model,
        "num_speculative_tokens": options.spec_tokens,
    }
    yield f"--speculative-config {shlex.quote(json.dumps({name: value for name, value in values.items() if value}))}"
