"""transformers as an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from hfmem.engines.kept import kept_weights
from hfmem.engines.protocol import Attending, Found, Laid, Ranked, RankMemory, Suggestions
from hfmem.engines.transformers.attention import taken
from hfmem.engines.transformers.formats import ANOTHER, FORMATS, GGUF, RECIPES, TRAINED
from hfmem.engines.transformers.generation import generation, remarks, ungenerated
from hfmem.engines.transformers.loading import loading, margin
from hfmem.engines.transformers.split import RULES
from hfmem.estimator.activations.experts import with_copied_experts
from hfmem.estimator.activations.prefill import activation_terms, final_cache
from hfmem.estimator.cache.sizes import CacheSize, cache_size
from hfmem.estimator.overheads import overhead_terms
from hfmem.estimator.parallel import SINGLE, Parallel
from hfmem.estimator.scenario import Generation, Placing, Scenario, Settings
from hfmem.estimator.split.check import check_split
from hfmem.estimator.split.stages import Stage
from hfmem.estimator.values import Estimate, Loading, Margin, Term
from hfmem.estimator.weights.formats import FormatRow
from hfmem.estimator.weights.kept import Kept, kept_by, stored_row
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture
from hfmem.options.words import Attention
from hfmem.unknown import Unknown

if TYPE_CHECKING:
    from hfmem.estimator.serving import Serving
    from hfmem.hardware.values import Accelerator

__all__ = ["ENGINE", "Transformers"]


class Transformers:
    """The classes of transformers, called from Python."""

    title = "transformers"
    split = RULES
    profiled = False
    suggestions = Suggestions(dtypes=("int8", "nf4"), kv_dtype="int8")

    def check_split(self, architecture: Architecture, parallel: Parallel) -> None:
        check_split(architecture, parallel, self.split)

    def run_dtype(
        self,
        dtype: str | None,
        architecture: Architecture,
        gpu: Accelerator | None,
    ) -> tuple[str | None, str]:
        return dtype, ""

    def attention(self, asked: Attention, model: Model, gpu: Accelerator | None) -> Attending:
        layers = model.architecture.layers
        attends = layers is None or any(layer.heads for layer in layers)
        return taken(asked, model.structure.implementations, gpu, attends=attends)

    def generation(self, options: object) -> Generation | None:
        return generation(options)

    def placing(self, options: object) -> Placing | None:
        if getattr(options, "device_map", None) is None:
            return None
        from hfmem.engines.transformers.placed import placing  # for runs with such options only

        return placing(options)

    def laid(self, model: Model, scenario: Scenario) -> Laid:
        from hfmem.engines.transformers.placed import laid  # for runs with such options only

        return laid(self, model, scenario)

    def settings(self, options: object, gpu: Accelerator | None, length: int) -> Settings | None:
        return None

    def kept(self, model: Model, scenario: Scenario) -> tuple[Kept, ...]:
        return tuple(kept._replace(library=True) for kept in kept_by(model, scenario, RECIPES, FORMATS, ANOTHER))

    def trained(self, model: Model, gpu: Accelerator | None) -> FormatRow:
        return GGUF if model.is_gguf else stored_row(model, gpu, TRAINED)

    def weights(self, model: Model, scenario: Scenario) -> Found:
        found = kept_weights(self, model, scenario)
        if scenario.generation is None or not scenario.generation.assisted_by:
            return found
        from hfmem.engines.transformers.assisted import with_assistant  # for such runs only

        return with_assistant(self, found, scenario)

    def layout(self, model: Model, scenario: Scenario) -> object:
        return None

    def cache(self, model: Model, layout: object, scenario: Scenario) -> CacheSize | Unknown:
        if scenario.generation is None:
            return cache_size(model.architecture, scenario)
        from hfmem.estimator.cache.generation import generated_cache  # for runs with such options only

        found = generated_cache(model.architecture, scenario)
        if not scenario.generation.assisted_by:
            return found
        from hfmem.engines.transformers.assisted import with_assistants_cache  # for such runs only

        return with_assistants_cache(found, scenario)

    def activations(self, model: Model, scenario: Scenario, stage: Stage) -> Found:
        if model.network is not None:
            from hfmem.engines.transformers.networks import network_activations  # for networks of timm only

            return network_activations(model.network, scenario)
        tokens = 1  # of a sequence in a pass after the prompt's
        if scenario.generation is None:
            terms, unknown = activation_terms(model, scenario)
        else:
            from hfmem.estimator.activations.generated import generated_terms  # for runs with such options only

            terms, unknown = generated_terms(model, scenario)
            if scenario.generation.assisted_by:
                from hfmem.engines.transformers.assisted import VERIFIED, assisted_terms  # for such runs only

                tokens = VERIFIED
                terms, unknown = assisted_terms(model, scenario, terms, unknown)
        if not unknown and scenario.mode == "inference":
            terms = with_copied_experts(terms, model, scenario, tokens)
        if not scenario.media_tokens or unknown or scenario.parallel.gpus > 1:
            return Found(terms=tuple(terms), unknown=tuple(unknown))
        if model.architecture.source == "fixed":
            # sound of one length, whose encoder is a part of the pass that is measured
            return Found(terms=tuple(terms), encoded=True)
        from hfmem.estimator.activations.audio_towers import hearing  # for runs with images or sound only
        from hfmem.estimator.activations.towers import encoding, with_encoding

        heard = bool(scenario.audio_tokens)
        tower = hearing(model.ear, scenario) if heard else encoding(model.tower, scenario)
        if isinstance(tower, Unknown):
            return Found(terms=tuple(terms))
        return Found(terms=tuple(with_encoding(terms, tower, final_cache(model, scenario))), encoded=True)

    def overhead(self, model: Model, scenario: Scenario) -> Found:
        # modules on several devices are called by one process, which needs no communication buffers
        parallel = scenario.parallel if scenario.placing is None else SINGLE
        return Found(terms=tuple(overhead_terms(scenario.gpu, parallel)))

    def refused(self, model: Model, scenario: Scenario) -> str:
        if reason := model.unloadable or self._formats_refused(model, scenario) or scenario.unattended:
            return reason
        if reason := ungenerated(model, scenario):
            return reason
        # rotary positions can be extrapolated, but a learned table has no row for further positions
        longest, table = model.architecture.max_positions, model.parameters
        if longest is None or scenario.seq <= longest or table is None or table.positions(longest) is None:
            return ""
        return f"{scenario.seq:,} tokens exceed the model's {longest:,} position embeddings"

    def _formats_refused(self, model: Model, scenario: Scenario) -> str:
        if scenario.mode == "inference":
            return self.kept(model, scenario)[0].refused
        row = self.trained(model, scenario.gpu)
        return row.reason if row.outcome == "refused" else ""

    def loading(self, model: Model, scenario: Scenario, weights: int) -> Loading | None:
        return loading(model, scenario, weights)

    def usable(self, terms: Sequence[Term], scenario: Scenario) -> int:
        return scenario.available

    def margin(self, estimate: Estimate, scenario: Scenario) -> Margin:
        return margin(estimate)

    def serving(
        self,
        ranks: Sequence[RankMemory],
        scenario: Scenario,
        model: Model,
    ) -> Serving | None:
        return None

    def notes(self, model: Model, scenario: Scenario) -> tuple[str, ...]:
        return remarks(model, scenario)


ENGINE: Final[Ranked] = Transformers()
