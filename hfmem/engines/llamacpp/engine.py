"""llama.cpp as an engine: a file on accelerators and the host, by its own placement, caches and graphs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from hfmem.dtypes import canonical
from hfmem.engines.llamacpp.allocator import HOST
from hfmem.engines.llamacpp.command import launch_line, modelfile
from hfmem.engines.llamacpp.memory import Memory, cache_of, memory_of
from hfmem.engines.llamacpp.offload import most_offloaded
from hfmem.engines.llamacpp.options import ALL_LAYERS, LlamaCppOptions
from hfmem.engines.llamacpp.refusals import refusal
from hfmem.engines.llamacpp.settings import Defaults, LlamaSettings, padded, server, server_of
from hfmem.engines.llamacpp.split import RULES
from hfmem.engines.llamacpp.tower import tower_of
from hfmem.engines.protocol import Engine, Suggestions
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.scenario import Scenario, Settings
from hfmem.estimator.serving import Offload, Serving
from hfmem.estimator.values import Estimate, Group, Loading, Margin, Rank, Term
from hfmem.estimator.weights.kept import PLAIN, Kept
from hfmem.hardware.values import Accelerator
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture
from hfmem.options.otherwise import Otherwise
from hfmem.refusals.splits import UnsupportedSizeError
from hfmem.units import GIB, MIB, format_bytes

__all__ = ["ENGINE", "LlamaCpp"]

_ONE_FILE: Final = (
    "llama.cpp runs GGUF files, and these are none: name a repository of them, such as one that ends in -GGUF"
)
_MARGIN: Final = Margin(
    nbytes=1024 * MIB,
    why="llama.cpp's own --fit leaves so much for what it does not foresee",
    source="llama.cpp 0.5.0, common/arg.cpp, --fit-target (1024 MiB)",
)


class LlamaCpp:
    """`llama-server` and `llama-cli`."""

    title = "llama.cpp"
    defaults = Defaults()
    split = RULES
    profiled = False
    suggestions = Suggestions(others=(("-ctk q8_0 -ctv q8_0", (("cache_type_k", "q8_0"), ("cache_type_v", "q8_0"))),))

    def check_split(self, architecture: Architecture, parallel: Parallel) -> None:
        for name in ("dp", "ep", "cp"):
            if (size := getattr(parallel, name)) > 1:
                raise UnsupportedSizeError(name, size, self.split.software)

    def cuts(self, options: Any) -> bool:
        """Parts of each matrix on all accelerators."""
        return isinstance(options, LlamaCppOptions) and options.split_mode == "tensor"

    def run_dtype(
        self, dtype: str | None, architecture: Architecture, gpu: Accelerator | None
    ) -> tuple[str | None, str]:
        return dtype, ""

    def sizes(self, options: Any) -> tuple[int, int | None]:
        """Slots are the batch, and a context that they share gives each its length."""
        batch: int = options.parallel or options.batch
        if options.ctx_size is None:
            return batch, options.seq
        return batch, max(options.ctx_size // batch, 1)

    def settings(self, options: object, gpu: Accelerator | None, length: int) -> Settings:
        if not isinstance(options, LlamaCppOptions):
            raise TypeError("not the options of llama.cpp")
        asked = getattr(options, "kv_dtype", None)
        return server(options, None if asked is None else canonical(asked), self.defaults)

    def estimate(self, model: Model, scenario: Scenario) -> Estimate:
        """Everything: on which accelerator it lies, and what the host holds."""
        if model.blocks is None:
            return self._unknown(model, scenario)
        settings = replace(_settings(scenario), mmproj=tower_of(model, scenario))
        memory = memory_of(model.blocks, model.architecture, settings, scenario, _devices(scenario))
        found = _shown(memory, model, scenario)
        return _started(found, self.refused(model, scenario) or _crowded(found, scenario))

    def padded(self, batch: int, seq: int) -> int:
        """The next multiple of the context's padding; with several sequences, it is not per sequence."""
        return padded(seq) if batch == 1 else seq

    def offload(self, model: Model, scenario: Scenario) -> Offload | None:
        """The fewest layers of experts on the host, else the most layers on the accelerators."""
        asked = server_of(scenario).asked
        if model.blocks is None or asked.n_gpu_layers is not None or asked.n_cpu_moe is not None:
            return None
        if scenario.gpu is None or scenario.gpu.kind == "unified":
            return None  # what one memory has no room for, the other side of it has not either
        found = most_offloaded(
            model,
            scenario,
            _devices(scenario),
            _MARGIN.nbytes,
            lambda memory: _command(model, memory, scenario),
        )
        return None if found is None else replace(found, room=_host_memory(scenario))

    def _unknown(self, model: Model, scenario: Scenario) -> Estimate:
        """The weights of the files, and why nothing else is known."""
        reason = model.architecture.unknown or _ONE_FILE
        reason += f" ({model.unconverted})" if model.unconverted else ""
        stored = _stored(model)
        groups: tuple[Group, ...] = ("kv_cache", "activations") if stored else ("weights", "kv_cache", "activations")
        return Estimate(
            terms=stored, unknown=tuple((group, reason) for group in groups), refused=self.refused(model, scenario)
        )

    def kept(self, model: Model, scenario: Scenario) -> tuple[Kept, ...]:
        return (PLAIN,)

    def refused(self, model: Model, scenario: Scenario) -> str:
        return "" if model.blocks is None else refusal(model.blocks, server_of(scenario), _devices(scenario))

    def loading(self, model: Model, scenario: Scenario, weights: int) -> Loading | None:
        return None

    def usable(self, terms: Sequence[Term], scenario: Scenario) -> int:
        return scenario.available

    def margin(self, estimate: Estimate, scenario: Scenario) -> Margin:
        return _MARGIN

    def notes(self, model: Model, scenario: Scenario) -> tuple[str, ...]:
        return ()


def _devices(scenario: Scenario) -> int:
    """Accelerators: none on a processor. One that is named takes part even with no layer: large batches run on it."""
    asked = server_of(scenario).asked
    on_cpu = scenario.gpu is not None and scenario.gpu.kind == "cpu"
    unused = asked.n_gpu_layers == 0 and scenario.gpu is None
    return 0 if on_cpu or unused else scenario.parallel.gpus


def _host_memory(scenario: Scenario) -> int | None:
    """Bytes that the host may use: what was asked, else this machine's; None for another machine's."""
    asked = server_of(scenario).asked.host_memory
    if asked is not None:
        return int(asked * GIB)
    here = scenario.gpu is not None and scenario.gpu.basis == "detected"
    if not here:
        return None
    from hfmem.hardware.detect import physical_memory  # for this machine's accelerators only

    return physical_memory() or None


def _crowded(found: Estimate, scenario: Scenario) -> str:
    """Why the host has no room for what stays there; "" where it has, or nobody knows."""
    room, held = _host_memory(scenario), sum(term.nbytes for term in found.host or ())
    if room is None or held <= room:
        return ""
    return f"the host's memory of {format_bytes(room)} has no room for the {format_bytes(held)} that stay there"


def _settings(scenario: Scenario) -> LlamaSettings:
    """All layers on accelerators, unless something else was asked."""
    return server_of(scenario).of(scenario, n_gpu_layers=ALL_LAYERS if _devices(scenario) else 0)


def _started(found: Estimate, refused: str) -> Estimate:
    """The estimate without a launch line, if llama.cpp would not start."""
    if not refused or found.serving is None:
        return found
    return replace(found, refused=refused, serving=replace(found.serving, command=None, refused=refused))


def _shown(memory: Memory, model: Model, scenario: Scenario) -> Estimate:
    """The most loaded accelerator, each of them, and the host; on the host alone, that."""
    places = [place for place in sorted(memory.terms) if place != HOST]
    top = max(places, key=memory.total, default=HOST)
    held, grown = _cache(memory), _grown(model, scenario)
    host = memory.terms[HOST]
    terms = memory.terms[top]
    unified = scenario.gpu is not None and scenario.gpu.kind == "unified"
    if unified and top != HOST:
        terms, host = _once(memory, model), ()
    return Estimate(
        terms=terms,
        unknown=memory.unknown,
        kv_cache_per_token=grown,
        kv_cache_fixed=max(0, held // scenario.batch - grown * scenario.seq),
        notes=_notes(memory, model, scenario),
        ranks=tuple(Rank(ranks=(place,), terms=memory.terms[place]) for place in places) if len(places) > 1 else (),
        serving=Serving(
            kv_pool=None,
            kv_tokens=None,
            max_concurrency=None,
            command=_command(model, memory, scenario),
        ),
        host=host,
    )


def _command(model: Model, memory: Memory, scenario: Scenario) -> str:
    settings = memory.placement.settings
    if server_of(scenario).defaults.title and model.blocks is not None:
        return modelfile(model, settings, model.blocks.count + 1)
    return launch_line(model, settings, flash=memory.flash)


_PADDING: Final = 256  # tokens to whose multiple contexts are rounded up


def _grown(model: Model, scenario: Scenario) -> int:
    """Bytes of the cache of one more token of one sequence, without the rounding."""
    if model.blocks is None:
        return 0
    one = replace(scenario, batch=1)
    sizes = [
        cache_of(model.blocks, model.architecture, _settings(replace(one, seq=scenario.seq + more)))
        for more in (0, _PADDING)
    ]
    return (sizes[1] - sizes[0]) // _PADDING


def _cache(memory: Memory) -> int:
    return sum(term.nbytes for terms in memory.terms.values() for term in terms if term.group == "kv_cache")


def _once(memory: Memory, model: Model) -> tuple[Term, ...]:
    """What shares one memory: both sides, of mapped files each tensor once."""
    rest = (term for terms in memory.terms.values() for term in terms if term.group != "weights")
    return (*_stored(model), *rest)


def _stored(model: Model) -> tuple[Term, ...]:
    """The tensors of the file, as they are stored; nothing where they are not known."""
    if model.parameters is None:
        return ()
    loaded = [group.stored_bytes for group in model.parameters.groups if group.loaded]
    if None in loaded:
        return ()
    return (
        Term(
            name="weights",
            group="weights",
            nbytes=sum(size or 0 for size in loaded),
            how="the tensors of the file, as they are stored",
            source=model.source,
            certainty="derived" if model.resized else "exact",
        ),
    )


def _notes(memory: Memory, model: Model, scenario: Scenario) -> tuple[str, ...]:
    return tuple(_remarks(memory, model, scenario))


def _remarks(memory: Memory, model: Model, scenario: Scenario) -> Iterator[str]:
    longest = model.architecture.max_positions
    if longest is not None and scenario.seq > longest:
        yield f"{scenario.seq:,} tokens exceed the model's maximum of {longest:,}."
    if scenario.word:
        yield Otherwise(f"--dtype {scenario.word} has no effect: llama.cpp runs the file as it is stored.")
    if scenario.prompt is not None or scenario.prefill_chunk is not None:
        yield Otherwise(
            "--prompt and --prefill-chunk have no effect: llama.cpp runs --ubatch-size tokens of a prompt at once."
        )
    if memory.placement.settings.flash and not memory.flash:
        yield Otherwise(
            "llama.cpp switches flash attention off, as some of it would run on another device than its layer's; "
            "--flash-attn on keeps it, and takes less memory."
        )
    if len(memory.terms) > 1 and memory.total(HOST):
        yield "llama-server's prompt cache may take up to 8 GiB of the host's memory besides (--cache-ram)."


ENGINE: Final[Engine] = LlamaCpp()
