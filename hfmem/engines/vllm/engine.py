"""vLLM as an engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from hfmem.engines.kept import kept_weights
from hfmem.engines.protocol import Found, Ranked, RankMemory, Suggestions
from hfmem.engines.vllm.cache import cache_of, layout_of
from hfmem.engines.vllm.drafts import draft_refusal, draft_terms
from hfmem.engines.vllm.encoder import covers, inputs_of, size_notes, untold
from hfmem.engines.vllm.formats import ANOTHER, formats_of, recipes_of
from hfmem.engines.vllm.groups import Layout
from hfmem.engines.vllm.kvformats import FORMATS as CACHE_FORMATS
from hfmem.engines.vllm.loaded import loaded_terms
from hfmem.engines.vllm.loading import loading
from hfmem.engines.vllm.lora import base_of, lora_refusal, lora_terms
from hfmem.engines.vllm.media import built, media_notes, media_refusal, multimodal, prepared_terms, shares_batch
from hfmem.engines.vllm.mix import mix_refusal
from hfmem.engines.vllm.offload import host_terms, moved_terms, offload_refusal
from hfmem.engines.vllm.options import VllmOptions
from hfmem.engines.vllm.overheads import server_overheads
from hfmem.engines.vllm.peak import peak_terms
from hfmem.engines.vllm.refusals import refused
from hfmem.engines.vllm.serving import MARGIN, serving, usable
from hfmem.engines.vllm.settings import Settings, settings, settings_of
from hfmem.engines.vllm.shared import shared_refusal
from hfmem.engines.vllm.split import RULES
from hfmem.engines.vllm.towers import forward_of
from hfmem.estimator.cache.sizes import CacheSize
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.split.check import check_split
from hfmem.estimator.split.rules import SplitRules
from hfmem.estimator.split.stages import Stage
from hfmem.estimator.values import Estimate, Loading, Margin, Term, total_of
from hfmem.estimator.weights.kept import Kept, kept_by
from hfmem.hardware.values import Accelerator
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture
from hfmem.options.otherwise import Otherwise
from hfmem.unknown import Unknown

if TYPE_CHECKING:
    from hfmem.estimator.serving import Serving

__all__ = ["ENGINE", "Vllm"]

_WITHOUT_BFLOAT16: Final = ("pascal", "volta", "turing")  # compute capability below 8.0


class Vllm:
    """`vllm serve`."""

    title = "vLLM"
    split = RULES
    profiled = True
    cache_formats = tuple(CACHE_FORMATS)
    suggestions = Suggestions(dtypes=("fp8", "int4"), kv_dtype="fp8")

    def check_split(self, architecture: Architecture, parallel: Parallel) -> None:
        check_split(architecture, parallel, self.split)

    def split_of(self, model: Model, scenario: Scenario) -> SplitRules:
        if shares_batch(model, scenario):
            return RULES._replace(towers=False)
        own = forward_of(model.tower.name, settings_of(scenario).release) if model.tower is not None else None
        return RULES._replace(projectors=True) if own is not None and own.merged else RULES

    def run_dtype(
        self, dtype: str | None, architecture: Architecture, gpu: Accelerator | None
    ) -> tuple[str | None, str]:
        """float32 checkpoints run in 16 bits. On GPUs without bfloat16, bfloat16 checkpoints run in float16, or in
        float32 if their values overflow float16 (0.19.0, `config/model.py::_resolve_auto_dtype`)."""
        if dtype not in ("float32", "bfloat16"):
            return dtype, ""
        old = gpu is not None and gpu.generation in _WITHOUT_BFLOAT16
        preferred = "float16" if old or architecture.head != "lm_head" else "bfloat16"
        if architecture.overflows and preferred == "float16":
            preferred = "float32" if old else "bfloat16"
        if dtype == preferred or (dtype == "bfloat16" and not old):
            return dtype, ""
        return preferred, f"vLLM's choice for {dtype}" + (f" on {gpu.name}" if old and gpu else "")

    def settings(self, options: object, gpu: Accelerator | None, length: int) -> Settings:
        if not isinstance(options, VllmOptions):
            raise TypeError("not the options of vLLM")
        return settings(options, gpu, length)

    def settings_for(self, model: Model, options: object, gpu: Accelerator | None, length: int) -> Settings:
        if not isinstance(options, VllmOptions):
            raise TypeError("not the options of vLLM")
        return settings(options, gpu, length, whole=multimodal(model))

    def kept(self, model: Model, scenario: Scenario) -> tuple[Kept, ...]:
        release = settings_of(scenario)
        return kept_by(model, scenario, recipes_of(release.version), formats_of(release.release), ANOTHER)

    def weights(self, model: Model, scenario: Scenario) -> Found:
        model = built(base_of(model), scenario)
        found = kept_weights(self, model, scenario, lambda kept: _beside(model, scenario, kept))
        host = max((host_terms(model, scenario, kept) for kept in self.kept(model, scenario)), key=total_of, default=())
        return found._replace(host=(*host, *prepared_terms(model, scenario)))

    def layout(self, model: Model, scenario: Scenario) -> Layout | Unknown:
        return layout_of(model, scenario)

    def cache(self, model: Model, layout: object, scenario: Scenario) -> CacheSize | Unknown:
        if not isinstance(layout, Layout | Unknown):
            raise TypeError("not a layout of vLLM")
        return cache_of(layout, scenario)

    def activations(self, model: Model, scenario: Scenario, stage: Stage) -> Found:
        found = peak_terms(model, settings_of(scenario), scenario, stage)
        if isinstance(found, Unknown):
            return Found(unknown=(("activations", found.reason),))
        reason = untold(model, scenario) if stage.first else ""
        return Found(
            terms=tuple(found),
            unknown=(("activations", reason),) if reason else (),
            encoded=covers(model, scenario, first=stage.first),
        )

    def profiled_with(self, model: Model, scenario: Scenario) -> object:
        return inputs_of(model, scenario)

    def overhead(self, model: Model, scenario: Scenario) -> Found:
        return Found(terms=tuple(server_overheads(model, scenario)))

    def refused(self, model: Model, scenario: Scenario) -> str:
        return next(filter(None, self._refusals(model, scenario)), "")

    def _refusals(self, model: Model, scenario: Scenario) -> Iterator[str]:
        yield model.unloadable
        yield refused(model, scenario)
        yield lora_refusal(model, scenario)
        yield offload_refusal(scenario)
        yield draft_refusal(model, scenario)
        yield shared_refusal(model, scenario)
        yield media_refusal(scenario)
        yield mix_refusal(scenario, settings_of(scenario))
        yield self.kept(model, scenario)[0].refused

    def loading(self, model: Model, scenario: Scenario, weights: int) -> Loading | None:
        return loading(built(model, scenario), scenario, weights)

    def usable(self, terms: Sequence[Term], scenario: Scenario) -> int:
        return usable(terms, scenario)

    def margin(self, estimate: Estimate, scenario: Scenario) -> Margin:
        return MARGIN

    def serving(self, ranks: Sequence[RankMemory], scenario: Scenario, model: Model) -> Serving | None:
        return serving(ranks, scenario, model, self._to_be_made(model, scenario))

    def notes(self, model: Model, scenario: Scenario) -> tuple[str, ...]:
        most, extras = settings_of(scenario).max_num_seqs, settings_of(scenario).extras
        found = [*media_notes(model, scenario), *size_notes(model, scenario)]
        if extras.spec_method == "mtp" and model.architecture.prediction_layers:
            found.append("--spec-method mtp loads the prediction layers; weights and KV cache include them.")
        if scenario.batch <= most:
            return tuple(found)
        return (
            *found,
            Otherwise(f"Of {scenario.batch:,} sequences, --max-num-seqs lets {most:,} run concurrently."),
        )

    def most_at_once(self, scenario: Scenario) -> int | None:
        """`--max-num-seqs`, where the user gave it; more than its default run where the launch line raises it."""
        settings = settings_of(scenario)
        return settings.max_num_seqs if settings.seqs_given else None

    def _to_be_made(self, model: Model, scenario: Scenario) -> str:
        """Why a new checkpoint has to be written before serving; "" where vLLM serves the model as it is."""
        if not all(kept.written for kept in self.kept(model, scenario)):
            return ""
        return f"vLLM does not quantise to {scenario.dtype} while loading; it serves checkpoints that a tool quantised"


def _beside(model: Model, scenario: Scenario, kept: Kept) -> tuple[Term, ...]:
    """What is loaded beside the checkpoint's tensors, and what is moved to the host."""
    return (
        *loaded_terms(model, scenario, kept),
        *draft_terms(model, scenario, kept),
        *lora_terms(model, scenario),
        *moved_terms(model, scenario, kept),
    )


ENGINE: Final[Ranked] = Vllm()
