"""A server's settings with all defaults resolved, as `vllm serve` resolves them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hfmem.engines.vllm.extras import NO_EXTRAS, Extras, extras
from hfmem.engines.vllm.options import VllmOptions
from hfmem.engines.vllm.releases import DEFAULT, Release, number_of, read_of, runs_first_engine, sizes_of
from hfmem.engines.vllm.rules import Rules, release_of, rules_of
from hfmem.estimator.scenario import Scenario
from hfmem.options.otherwise import Detail

if TYPE_CHECKING:
    from hfmem.hardware.values import Accelerator

__all__ = ["CHUNKED_BEYOND", "Settings", "settings", "settings_of"]

CHUNKED_BEYOND: Final = 32_768  # tokens: up to 0.7, chunked prefill was on for longer contexts only
BLOCK: Final = 16  # tokens: vLLM's default block_size on CUDA


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of `vllm serve`, under vLLM's own names.

    Attributes:
        rules: the rules of the release that logs show.
        source: the rules of the release that its source states.
        release: (major, minor) of the release.
        version: the release with its patch; a high one where the user names none.
        max_num_seqs: maximum sequences per step.
        max_num_batched_tokens: maximum tokens per step.
        gpu_memory_utilization: fraction of the GPU's memory that vLLM plans with.
        block_size: tokens per block of the KV cache.
        enforce_eager: whether CUDA graphs are disabled.
        extras: adapters, drafts, offloading.
        prefix_caching: whether the user wants prefix caching; None for the default of the model's class.
        mamba_cache_mode: how the user wants it to keep recurrent states; None for the default.
        first_engine: whether the first engine (V0) runs.
        seqs_given: whether `max_num_seqs` is the user's.
        chosen: a sentence for each setting that the user did not give.
        given: the user's options, as repeated in the launch line.
    """

    rules: Rules
    source: Release
    release: tuple[int, int]
    version: tuple[int, int, int]
    max_num_seqs: int
    max_num_batched_tokens: int
    gpu_memory_utilization: float
    block_size: int
    enforce_eager: bool
    extras: Extras = NO_EXTRAS
    prefix_caching: bool | None = None
    mamba_cache_mode: str | None = None
    first_engine: bool = False
    seqs_given: bool = False
    chosen: tuple[str, ...] = ()
    given: tuple[str, ...] = ()

    def describe(self) -> str:
        """The engine and the vLLM release to model."""
        return f"vLLM {self.release[0]}.{self.release[1]}"

    def fields(self) -> Mapping[str, Any]:
        """The engine's entries in `scenario` of the JSON output."""
        return {
            "vllm_rules": self.rules.name,
            "max_num_seqs": self.max_num_seqs,
            "max_num_batched_tokens": self.max_num_batched_tokens,
            "gpu_memory_utilization": self.gpu_memory_utilization,
            "block_size": self.block_size,
            "enforce_eager": self.enforce_eager,
            **self.extras.fields(),
            "enable_prefix_caching": self.prefix_caching,
            "mamba_cache_mode": self.mamba_cache_mode,
        }


def settings_of(scenario: Scenario) -> Settings:
    """vLLM's settings in a scenario.

    Raises:
        TypeError: the scenario is of another engine.
    """
    if not isinstance(scenario.serving, Settings):
        raise TypeError("not a scenario of vLLM")
    return scenario.serving


def settings(options: VllmOptions, gpu: Accelerator | None, length: int, *, whole: bool = False) -> Settings:
    """The settings of a server on a GPU, for requests of up to `length` tokens. The default for tokens per step is
    limited to the length of all sequences together (vLLM `engine/arg_utils.py`).

    Args:
        options: the user's.
        gpu: the accelerator, if given.
        length: tokens.
        whole: whether the first engine never chunks prompts of the model, as it has images or sound.
    """
    rules, source = rules_of(options.vllm_version), read_of(options.vllm_version)
    seqs, tokens = sizes_of(source, gpu, length, whole=whole)
    batched = options.max_num_batched_tokens or min(tokens, (options.max_num_seqs or seqs) * length)
    found = options.max_num_seqs or min(seqs, batched)
    utilization = options.gpu_memory_utilization or source.utilization
    chosen = _rules_words(options, rules, gpu)
    made = [f"--max-num-seqs {found:,}"] if not options.max_num_seqs else []
    made += [f"--max-num-batched-tokens {batched:,}"] if not options.max_num_batched_tokens else []
    made += [f"--gpu-memory-utilization {utilization:g}"] if not options.gpu_memory_utilization else []
    if made:
        where = f"for {gpu.name}" if gpu else "for an unknown GPU (use --gpu)"
        chosen.append(Detail(f"{', '.join(made)}: vLLM's {'defaults' if len(made) > 1 else 'default'} {where}."))
    return Settings(
        rules=rules,
        source=source,
        release=release_of(options.vllm_version),
        version=number_of(options.vllm_version),
        max_num_seqs=found,
        max_num_batched_tokens=batched,
        gpu_memory_utilization=utilization,
        block_size=options.block_size or BLOCK,
        enforce_eager=options.enforce_eager,
        extras=extras(options),
        prefix_caching=options.enable_prefix_caching,
        mamba_cache_mode=options.mamba_cache_mode,
        first_engine=runs_first_engine(source, gpu),
        seqs_given=bool(options.max_num_seqs),
        chosen=tuple(chosen),
        given=_given(options),
    )


def _rules_words(options: VllmOptions, rules: Rules, gpu: Accelerator | None) -> list[str]:
    """Remarks on which release and hardware the rules describe."""
    asked = release_of(options.vllm_version)
    release = ".".join(map(str, asked))
    if asked > release_of(None):
        found = [
            f"vLLM {release} is newer than {DEFAULT}, the last release whose source was read: the rules are those of "
            f"{DEFAULT}."
        ]
    else:
        words = f"Modelled on the source of vLLM {release}, with start-up logs of {rules.name}."
        found = [Detail(words + ("" if options.vllm_version else " --vllm-version selects another release."))]
    if gpu and gpu.vendor != "nvidia":
        found.append("The rules and overheads are those for NVIDIA GPUs.")
    return found


def _given(options: VllmOptions) -> tuple[str, ...]:
    """The user's options, as repeated in the launch line."""
    asked = {
        "--max-num-seqs": options.max_num_seqs,
        "--max-num-batched-tokens": options.max_num_batched_tokens,
        "--gpu-memory-utilization": options.gpu_memory_utilization,
        "--block-size": options.block_size,
    }
    given = [
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in asked.items() if value
    ]
    caching = {True: ("--enable-prefix-caching",), False: ("--no-enable-prefix-caching",), None: ()}
    mode = (f"--mamba-cache-mode {options.mamba_cache_mode}",) if options.mamba_cache_mode else ()
    eager = ("--enforce-eager",) if options.enforce_eager else ()
    return (*given, *caching[options.enable_prefix_caching], *mode, *eager, *extras(options).given)
