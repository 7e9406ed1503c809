"""What `generate` is asked for: beams, answers per prompt, and the kind of the cache."""

from __future__ import annotations

from typing import Any

from hfmem.engines.transformers.options import CACHE_BACKENDS
from hfmem.estimator.scenario import Generation, PackedCache, Scenario
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture

__all__ = ["generation", "remarks", "ungenerated"]


def generation(options: Any) -> Generation | None:
    """The choice; None where all is as by default."""
    found = Generation(
        beams=options.num_beams,
        sequences=options.num_return_sequences,
        cache=options.cache_implementation,
        packed=_packed(options.cache_config) if options.cache_implementation == "quantized" else None,
        assistant=dict(getattr(options, "companions", ())).get("draft") if options.assistant_model else None,
        assisted_by=options.assistant_model or "",
    )
    return None if found == Generation() else found


def _packed(settings: tuple[str, ...]) -> PackedCache:
    """The settings of a quantised cache; the defaults are those of `QuantizedLayer` (transformers 5.24's
    cache_utils.py)."""
    given = dict(word.partition("=")[::2] for word in settings)
    backend = given.get("backend", "quanto").lower()
    if backend == "fp8":
        return PackedCache(backend=backend, bits=CACHE_BACKENDS[backend][0], group=0, residual=0)
    return PackedCache(
        backend=backend,
        bits=int(given.get("nbits", 4)),
        group=int(given.get("q_group_size", 64)),
        residual=int(given.get("residual_length", 128)),
    )


def ungenerated(model: Model, scenario: Scenario) -> str:
    """Why `generate` refuses the cache; "" if it does not."""
    if scenario.generation is None or not model.architecture.layers:
        return ""
    if scenario.generation.assisted_by:
        from hfmem.engines.transformers.assisted import unassisted

        return unassisted(model, scenario)
    if model.architecture.own_cache:
        return ""
    from hfmem.estimator.cache.generation import indivisible

    return _unsupported(model.architecture, scenario.generation) or indivisible(model, scenario)


def _unsupported(architecture: Architecture, chosen: Generation) -> str:
    """Why there is no such cache for these layers."""
    from hfmem.estimator.cache.generation import one_kind, preallocates

    windows = (getattr(layer.cache, "window", None) for layer in architecture.layers or ())
    if chosen.static and not preallocates(architecture):
        return "it has no static cache for compressed entries"
    if chosen.cache == "offloaded_static" and all(windows):
        return "an offloaded static cache finds no layer to fetch where all have windows"
    if chosen.packed is not None and not one_kind(architecture):
        return "its quantised cache supports only decoders whose layers all have full attention"
    return ""


def remarks(model: Model, scenario: Scenario) -> tuple[str, ...]:
    """What of the chosen cache is not covered, or has no effect."""
    if scenario.generation is None:
        return ()
    chosen = scenario.generation
    if chosen.cache != "dynamic" and model.architecture.own_cache:
        return ("--cache-implementation has no effect: the class makes its cache itself.",)
    if chosen.static and (scenario.gpu is None or scenario.gpu.kind != "cpu"):
        return (
            "With a static cache, generate compiles decoding on a GPU (mode reduce-overhead): what torch.compile and "
            "its CUDA graphs take is not included. disable_compile=True avoids it.",
        )
    return ()
