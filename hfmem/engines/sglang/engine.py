"""SGLang as an engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from hfmem.engines.kept import kept_weights
from hfmem.engines.protocol import Found, Ranked, RankMemory, Suggestions
from hfmem.engines.sglang.drafts import draft_refusal, draft_terms, lent
from hfmem.engines.sglang.formats import ANOTHER, FORMATS, RECIPES
from hfmem.engines.sglang.fraction import has_latents, images_of, slack
from hfmem.engines.sglang.loaded import beside
from hfmem.engines.sglang.lora import lora_refusal, lora_terms
from hfmem.engines.sglang.options import SglangOptions
from hfmem.engines.sglang.pools import Pooled, Widths, cache_of, widths_of
from hfmem.engines.sglang.replicas import over_replicas
from hfmem.engines.sglang.serving import CACHE_DTYPES, MARGIN, free_before, serving
from hfmem.engines.sglang.settings import Settings, settings, settings_of
from hfmem.engines.sglang.split import RULES, experts_refusal
from hfmem.engines.sglang.step import step_of
from hfmem.estimator.activations.towers import Encoding, encoding
from hfmem.estimator.overheads import context_terms
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.split.check import check_split
from hfmem.estimator.split.stages import Stage
from hfmem.estimator.values import Estimate, Loading, Margin, Term, total_of
from hfmem.estimator.weights.kept import Kept, kept_by
from hfmem.hardware.values import Accelerator
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture
from hfmem.options.otherwise import Otherwise
from hfmem.units import format_bytes
from hfmem.unknown import Unknown

if TYPE_CHECKING:
    from hfmem.estimator.serving import Serving

__all__ = ["ENGINE", "Sglang"]

_SLACK: Final = (
    "SGLang 0.5.23, srt/mem_cache/kv_cache_configurator.py::_profile_available_bytes, arg_groups/memory_hook.py"
)
_STEP: Final = "SGLang 0.5.23, srt/layers/moe/moe_runner/triton_utils/fused_moe.py, srt/arg_groups/memory_hook.py"
_IMAGES: Final = "SGLang 0.5.18, srt/mem_cache/kv_cache_configurator.py: SGLANG_VLM_CACHE_SIZE_MB"
_LENT: Final = "SGLang 0.5.23, srt/speculative/eagle_worker_v2.py: alloc_memory_pool before init_lm_head"
_WITHOUT_BFLOAT16: Final = ("pascal", "volta", "turing")  # compute capability below 8.0


def _images(model: Model, scenario: Scenario, tokens: int) -> Encoding | None:
    """What the images of a prefill step of so many tokens need, where every prompt has those of the scenario: all of
    them go through the tower at once (0.5.23, `managers/mm_schedule.py`). None without images, and where it is unknown.
    """
    if not scenario.image_tokens or scenario.media_tokens > scenario.image_tokens:
        return None
    prompts = -(-tokens // scenario.image_tokens)
    found = encoding(model.tower, replace(scenario, batch=prompts))
    if isinstance(found, Unknown):
        return None
    return replace(found, how=f"{prompts * scenario.images:,} images of {prompts:,} prompts: {found.how}")


class Sglang:
    """`python -m sglang.launch_server`."""

    title = "SGLang"
    split = RULES
    profiled = True
    suggestions = Suggestions(dtypes=("fp8", "int4"), kv_dtype="fp8")

    def check_split(self, architecture: Architecture, parallel: Parallel) -> None:
        check_split(architecture, parallel, self.split)

    def run_dtype(
        self, dtype: str | None, architecture: Architecture, gpu: Accelerator | None
    ) -> tuple[str | None, str]:
        """float32 checkpoints run in float16, or in bfloat16 if they overflow it (0.5.23, `configs/model_config.py::
        _get_and_verify_dtype`); bfloat16 in float16 on cards without it (`model_runner.py`)."""
        if dtype == "float32":
            found = "bfloat16" if architecture.overflows else "float16"
            return found, "SGLang's choice for float32"
        old = gpu is not None and gpu.generation in _WITHOUT_BFLOAT16
        if dtype == "bfloat16" and old and gpu is not None:
            return "float16", f"SGLang's choice for bfloat16 on {gpu.name}"
        return dtype, ""

    def settings(self, options: object, gpu: Accelerator | None, length: int) -> Settings:
        if not isinstance(options, SglangOptions):
            raise TypeError("not the options of SGLang")
        return settings(options, gpu)

    def regrouped(self, options: object) -> tuple[int, int] | None:
        """With replicas of attention, the tensor-parallel ranks of one of them, and all ranks, over which experts are
        split; None without."""
        if not isinstance(options, SglangOptions) or not options.enable_dp_attention:
            return None
        tp, dp = getattr(options, "tp", None) or 1, getattr(options, "dp", None) or 1
        return (tp // dp, tp) if dp > 1 and tp % dp == 0 else None

    def kept(self, model: Model, scenario: Scenario) -> tuple[Kept, ...]:
        return kept_by(model, scenario, RECIPES, FORMATS, ANOTHER)

    def weights(self, model: Model, scenario: Scenario) -> Found:
        part = over_replicas(model, scenario)
        return kept_weights(
            self, part, scenario, lambda kept: (*beside(part, scenario, kept), *lora_terms(model, scenario))
        )

    def layout(self, model: Model, scenario: Scenario) -> Widths | Unknown:
        return widths_of(model, scenario)

    def cache(self, model: Model, layout: object, scenario: Scenario) -> Pooled | Unknown:
        if not isinstance(layout, Widths | Unknown):
            raise TypeError("not a layout of SGLang")
        return cache_of(layout, scenario)

    def activations(self, model: Model, scenario: Scenario, stage: Stage) -> Found:
        """What SGLang leaves for activations and CUDA graphs, instead of the peak, which it does not profile; or what
        a step takes, where that is more."""
        nbytes, how = slack(model, scenario, free_before(self._context(scenario), scenario))
        if not settings_of(scenario).source.drafts_counted:  # then the draft is loaded there, too
            nbytes -= total_of(draft_terms(model, scenario, self.kept(model, scenario)[0]))
        step = step_of(model, scenario)
        needed, what, source = step.nbytes, step.describe(), _STEP
        images = _images(model, scenario, step.tokens) if stage.first else None
        if images is not None:
            # they run before the prompt, beside the graphs; what they leave stays while the prompt runs
            needed += images.kept
            if images.peak + step.graphs > needed:
                needed, source = images.peak + step.graphs, images.source
                what = f"the images of a prefill step ({images.how})" + (" and CUDA graphs" if step.graphs else "")
            elif images.kept:
                what += f" beside {format_bytes(images.kept)} of images"
        if needed > nbytes:
            how = f"{what}, more than the {format_bytes(nbytes)} of {how}"
            nbytes = needed
        else:
            source = _SLACK
        left = Term(
            name="left for activations and CUDA graphs",
            group="activations",
            nbytes=nbytes,
            how=how,
            source=source,
            certainty="derived" if source in (_SLACK, _STEP) else "typical",
        )
        parts = (
            ("cache of images", images_of(model, scenario), _IMAGES),
            ("embedding and head of the draft, until the pools are sized", lent(model, scenario), _LENT),
        )
        others = (
            replace(left, name=name, nbytes=size, how=format_bytes(size), source=where) for name, size, where in parts
        )
        found = (left, *(term for term in others if term.nbytes))
        return Found(terms=found, encoded=images is not None or not stage.first)

    def _context(self, scenario: Scenario) -> tuple[Term, ...]:
        return tuple(context_terms(scenario.gpu, scenario.parallel))

    def overhead(self, model: Model, scenario: Scenario) -> Found:
        return Found(terms=self._context(scenario))

    def refused(self, model: Model, scenario: Scenario) -> str:
        return next(filter(None, self._refusals(model, scenario)), "")

    def _refusals(self, model: Model, scenario: Scenario) -> Iterator[str]:
        asked, gpu = settings_of(scenario), scenario.gpu
        yield model.unloadable
        if gpu is not None and gpu.vendor == "apple" and gpu.kind != "cpu":
            yield "SGLang's servers of these releases have no platform for Apple GPUs"
        if scenario.kv_dtype not in (scenario.compute_dtype, None, *CACHE_DTYPES):
            yield f"--kv-cache-dtype {scenario.kv_dtype} does not exist: choose auto, bf16, fp8_e4m3 or fp8_e5m2"
        longest = model.architecture.max_positions
        if longest is not None and scenario.seq > longest:
            yield (
                f"--context-length {scenario.seq:,} is more than the model's {longest:,}; "
                "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1 in the environment allows it"
            )
        yield draft_refusal(model, scenario)
        yield lora_refusal(model, scenario)
        if asked.chunked_prefill_size and asked.chunked_prefill_size > 0 and asked.page_size:
            rest = asked.chunked_prefill_size % asked.page_size
            yield "--chunked-prefill-size must be a multiple of --page-size" if rest else ""
        limit = asked.max_total_tokens
        if limit is not None and (rows := limit - limit % (asked.page_size or 1)) < scenario.seq:
            yield (
                f"a request of {scenario.seq:,} tokens is longer than the pool of --max-total-tokens {limit:,} can be"
                f"{f' ({rows:,} in whole pages)' if rows < limit else ''}, and SGLang rejects it"
            )
        yield experts_refusal(model.architecture, scenario)
        yield self.kept(model, scenario)[0].refused

    def loading(self, model: Model, scenario: Scenario, weights: int) -> Loading | None:
        return None

    def usable(self, terms: Sequence[Term], scenario: Scenario) -> int:
        return scenario.available

    def margin(self, estimate: Estimate, scenario: Scenario) -> Margin:
        return MARGIN

    def serving(self, ranks: Sequence[RankMemory], scenario: Scenario, model: Model) -> Serving | None:
        return serving(ranks, scenario, model, self._to_be_made(model, scenario))

    def notes(self, model: Model, scenario: Scenario) -> tuple[str, ...]:
        asked, found = settings_of(scenario), []
        if asked.predicts and model.architecture.prediction_layers:
            found.append("The prediction layers make drafts; weights and token pool include them.")
        elif asked.draft is not None:
            found.append(f"{asked.spec_model} makes drafts; weights and token pool include it.")
        if has_latents(model.architecture) and scenario.parallel.tp > 1:
            found.append("Latents are replicated on every tensor-parallel rank; --enable-dp-attention avoids that.")
        most = self.most_at_once(scenario)
        if most and scenario.batch > most:
            each = " a replica" if asked.enable_dp_attention and scenario.parallel.dp > 1 else ""
            words = (
                f"Of {scenario.batch:,} requests, --max-running-requests {asked.max_running_requests:,} lets {most:,}"
            )
            found.append(Otherwise(f"{words}{each} run at once."))
        limit = asked.max_total_tokens
        if limit and scenario.batch * scenario.seq > limit:
            found.append(
                Otherwise(
                    f"--max-total-tokens {limit:,} holds {limit // scenario.seq:,} requests at once; others wait."
                )
            )
        return tuple(found)

    def most_at_once(self, scenario: Scenario) -> int | None:
        """`--max-running-requests` of one replica of attention, where the user gave it; more than its default run where
        the launch line raises it."""
        asked = settings_of(scenario)
        if not asked.requests_given or not asked.max_running_requests:
            return None
        return max(1, asked.max_running_requests // (scenario.parallel.dp if asked.enable_dp_attention else 1))

    def _to_be_made(self, model: Model, scenario: Scenario) -> str:
        """Why a new checkpoint has to be written before serving; "" where SGLang serves the model as it is."""
        if not all(kept.written for kept in self.kept(model, scenario)):
            return ""
        return (
            f"SGLang does not quantise to {scenario.dtype} while loading; it serves checkpoints that a tool quantised"
        )


ENGINE: Final[Ranked] = Sglang()
