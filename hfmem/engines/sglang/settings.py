"""A server's settings: what was given, and the release that says the rest."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfmem.engines.sglang.options import SglangOptions, SpeculativeAlgorithm
from hfmem.engines.sglang.releases import DEFAULT, Release, number_of, read_of
from hfmem.estimator.scenario import Scenario
from hfmem.mapper.interpret import Model
from hfmem.options.otherwise import Detail

if TYPE_CHECKING:
    from hfmem.hardware.values import Accelerator

__all__ = ["Settings", "settings", "settings_of"]

_DRAFTED = 4  # tokens of a draft (srt/arg_groups/speculative_hook.py, auto_choose_speculative_params)
_LOOKED_UP = 12  # the same of NGRAM (_handle_ngram)
_LORAS = 8  # adapters in a batch
_WITH_DRAFTS = 48  # requests at once where drafts are made and nothing is given


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of `sglang.launch_server`, under SGLang's own names; None where its default depends on the model or
    the split.

    Attributes:
        source: the rules of the release.
        release: the release with its patch; a high one where the user names none.
        ep: ranks over which experts are split.
        drafted: tokens of a draft; 0 without drafts.
        spec_model: the draft's name; "" for none.
        draft: the draft model, if it could be read.
        loras, lora_rank: slots for adapters, and their rank; 0 without.
        states_kept: slots for recurrent states of a request.
        requests_given: whether `max_running_requests` is the user's, and not the default with drafts.
        chosen: a sentence for each setting that the user did not give.
        given: the user's options, as repeated in the launch line.
        Others as in `SglangOptions`.
    """

    source: Release
    release: tuple[int, int, int]
    mem_fraction_static: float | None = None
    chunked_prefill_size: int | None = None
    max_running_requests: int | None = None
    cuda_graph_max_bs_decode: int | None = None
    max_total_tokens: int | None = None
    page_size: int | None = None
    swa_full_tokens_ratio: float = 0.8
    mamba_full_memory_ratio: float = 0.9
    max_mamba_cache_size: int | None = None
    mamba_ssm_dtype: str | None = None
    disable_radix_cache: bool = False
    disable_cuda_graph: bool = False
    enable_dp_attention: bool = False
    speculative_algorithm: SpeculativeAlgorithm | None = None
    ep: int = 1
    drafted: int = 0
    spec_model: str = ""
    draft: Model | None = None
    loras: int = 0
    lora_rank: int = 0
    states_kept: int = 3
    requests_given: bool = False
    chosen: tuple[str, ...] = ()
    given: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The release as it is written, as far as it was given."""
        major, minor, patch = self.release
        return f"{major}.{minor}.{patch}" if patch < 10**4 else f"{major}.{minor}"

    @property
    def predicts(self) -> bool:
        """Whether the model's own prediction layers make drafts."""
        return self.speculative_algorithm in ("NEXTN", "EAGLE") and not self.spec_model

    def describe(self) -> str:
        """The engine and the release to model."""
        return f"SGLang {self.version}"

    def fields(self) -> Mapping[str, Any]:
        """The engine's entries in `scenario` of the JSON output."""
        return {
            "sglang_rules": self.source.name,
            "mem_fraction_static": self.mem_fraction_static,
            "chunked_prefill_size": self.chunked_prefill_size,
            "max_running_requests": self.max_running_requests,
            "cuda_graph_max_bs_decode": self.cuda_graph_max_bs_decode,
            "max_total_tokens": self.max_total_tokens,
            "page_size": self.page_size,
            "enable_dp_attention": self.enable_dp_attention,
            "speculative_algorithm": self.speculative_algorithm,
            "spec_model": self.spec_model or None,
            "max_loras_per_batch": self.loras or None,
            "max_lora_rank": self.lora_rank or None,
        }


def settings_of(scenario: Scenario) -> Settings:
    """SGLang's settings in a scenario.

    Raises:
        TypeError: the scenario is of another engine.
    """
    if not isinstance(scenario.serving, Settings):
        raise TypeError("not a scenario of SGLang")
    return scenario.serving


def settings(options: SglangOptions, gpu: Accelerator | None) -> Settings:
    """The settings of a server on a card."""
    source = read_of(options.sglang_version)
    drafting = options.speculative_algorithm is not None
    requests = options.max_running_requests or (_WITH_DRAFTS if drafting else None)
    words = f"Modelled on the source of SGLang {options.sglang_version or DEFAULT}."
    chosen: list[str] = [
        Detail(words + ("" if options.sglang_version else " --sglang-version selects another release."))
    ]
    if gpu is not None and gpu.vendor not in ("nvidia", ""):
        chosen.append("The rules and overheads are those for NVIDIA GPUs.")
    return Settings(
        source=source,
        release=number_of(options.sglang_version),
        mem_fraction_static=options.mem_fraction_static,
        chunked_prefill_size=options.chunked_prefill_size,
        max_running_requests=requests,
        cuda_graph_max_bs_decode=options.cuda_graph_max_bs_decode,
        max_total_tokens=options.max_total_tokens,
        page_size=options.page_size,
        swa_full_tokens_ratio=options.swa_full_tokens_ratio or 0.8,
        mamba_full_memory_ratio=options.mamba_full_memory_ratio or 0.9,
        max_mamba_cache_size=options.max_mamba_cache_size,
        mamba_ssm_dtype=options.mamba_ssm_dtype,
        disable_radix_cache=options.disable_radix_cache,
        disable_cuda_graph=options.disable_cuda_graph,
        enable_dp_attention=options.enable_dp_attention,
        speculative_algorithm=options.speculative_algorithm,
        ep=getattr(options, "ep", None) or 1,  # of `Options`
        drafted=_drafted(options),
        spec_model=options.spec_model or "",
        draft=dict(getattr(options, "companions", ())).get("draft"),
        loras=(options.max_loras_per_batch or _LORAS) if options.enable_lora else 0,
        lora_rank=(options.max_lora_rank or 0) if options.enable_lora else 0,
        states_kept=_states_kept(options),
        requests_given=options.max_running_requests is not None,
        chosen=tuple(chosen),
        given=_given(options, source),
    )


def _drafted(options: SglangOptions) -> int:
    """Tokens of a draft; 0 without drafts."""
    if options.speculative_algorithm is None:
        return 0
    usual = _LOOKED_UP if options.speculative_algorithm == "NGRAM" else _DRAFTED
    return options.speculative_num_draft_tokens or usual


_KEPT = {None: 3, "no_buffer": 3, "extra_buffer": 5, "extra_buffer_lazy": 4}


def _states_kept(options: SglangOptions) -> int:
    """Slots of recurrent states of a request (`_calculate_mamba_ratio`): its own, and for the tree of prefixes those of
    the strategy."""
    return 1 if options.disable_radix_cache else _KEPT[options.mamba_scheduler_strategy]


def _given(options: SglangOptions, source: Release) -> tuple[str, ...]:
    """The user's options, as repeated in the launch line, with the names of the release."""
    graphs = "--cuda-graph-max-bs-decode" if source.current else "--cuda-graph-max-bs"
    sizes = {
        "--mem-fraction-static": options.mem_fraction_static,
        "--chunked-prefill-size": options.chunked_prefill_size,
        "--max-running-requests": options.max_running_requests,
        graphs: options.cuda_graph_max_bs_decode,
        "--max-total-tokens": options.max_total_tokens,
        "--page-size": options.page_size,
        "--swa-full-tokens-ratio": options.swa_full_tokens_ratio,
        "--mamba-full-memory-ratio": options.mamba_full_memory_ratio,
        "--max-mamba-cache-size": options.max_mamba_cache_size,
        "--mamba-ssm-dtype": options.mamba_ssm_dtype,
        "--mamba-scheduler-strategy": options.mamba_scheduler_strategy,
        "--speculative-algorithm": options.speculative_algorithm,
        "--speculative-draft-model-path": shlex.quote(options.spec_model) if options.spec_model else None,
        "--speculative-num-draft-tokens": options.speculative_num_draft_tokens,
    }
    sizes |= {"--max-loras-per-batch": options.max_loras_per_batch, "--max-lora-rank": options.max_lora_rank}
    switches = {
        "--enable-lora --lora-target-modules all": options.enable_lora,
        "--disable-radix-cache": options.disable_radix_cache,
        "--disable-cuda-graph": options.disable_cuda_graph,
    }
    given = [
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in sizes.items() if value
    ]
    return (*given, *(name for name, on in switches.items() if on))
