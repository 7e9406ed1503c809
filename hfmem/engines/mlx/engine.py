"""MLX as an engine: `mlx_lm.generate` on Apple silicon or, with MLX's CPU backend, on a processor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import Final, Literal

from hfmem.dtypes import find_dtype
from hfmem.engines.mlx.classes import limited, shape_of
from hfmem.engines.mlx.modules import Attention, Shape
from hfmem.engines.mlx.operations import Packed
from hfmem.engines.mlx.options import DEFAULT_GROUP, DEFAULT_QUANTISED_FROM, DEFAULT_STEP, MlxOptions
from hfmem.engines.mlx.runs import Run, cached, kept, peak, quantised
from hfmem.engines.mlx.split import RULES
from hfmem.engines.mlx.states import Delta, Scan
from hfmem.engines.mlx.tasks import CPU, Backend, metal
from hfmem.engines.mlx.weights import TOWERS, packed_as, weight_term
from hfmem.engines.protocol import Engine, Suggestions
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.scenario import Scenario, Settings
from hfmem.estimator.serving import Serving
from hfmem.estimator.values import Estimate, Group, Loading, Margin, Term
from hfmem.estimator.weights.kept import PLAIN, Kept
from hfmem.hardware.values import Accelerator
from hfmem.mapper.interpret import Model
from hfmem.mapper.mlx_modules import unlisted
from hfmem.mapper.values import Architecture
from hfmem.options.otherwise import Otherwise
from hfmem.refusals.splits import UnsupportedSizeError
from hfmem.unknown import Unknown

__all__ = ["ENGINE", "Mlx"]

_CACHES: Final = "mlx-lm 0.32.2, mlx_lm/models/cache.py"
_TASKS: Final = (
    "the operations of mlx-lm 0.32.2's modules (mlx_lm/models), and mlx 0.32, mlx/transforms.cpp (MAX_ACTIVE_TASKS) "
    "and mlx/backend/metal/device.cpp (CommandEncoder::needs_commit)"
)
_FIVE_PERCENT: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steps:
    """What a person asked of mlx-lm."""

    step: int | None
    limit: int | None = None
    cache: Packed | None = None
    cache_from: int | None = None
    chosen: tuple[str, ...] = ()

    def describe(self) -> str:
        return "mlx-lm 0.32"

    def fields(self) -> Mapping[str, object]:
        found: dict[str, object] = {"prefill_step_size": self.step or DEFAULT_STEP, "max_kv_size": self.limit}
        if self.cache is not None:
            found |= {"kv_bits": self.cache.bits, "kv_group_size": self.cache.group}
            found |= {"quantized_kv_start": self.start}
        return found

    @property
    def start(self) -> int:
        """Tokens from which on the cache is quantised."""
        return DEFAULT_QUANTISED_FROM if self.cache_from is None else self.cache_from

    def flags(self) -> list[str]:
        """The flags of mlx_lm.generate."""
        found = {"--prefill-step-size": self.step, "--max-kv-size": self.limit}
        if self.cache is not None:
            found |= {"--kv-bits": self.cache.bits, "--kv-group-size": self.cache.group}
            found |= {"--quantized-kv-start": self.cache_from}
        return [word for flag, value in found.items() if value is not None for word in (flag, str(value))]


class Mlx:
    """`mlx_lm.generate`."""

    title = "MLX"
    split = RULES
    profiled = False
    grows: Literal[True] = True
    suggestions = Suggestions(others=(("--prefill-step-size 512", (("prefill_step_size", 512),)),))

    def check_split(self, architecture: Architecture, parallel: Parallel) -> None:
        for name in ("dp", "tp", "pp", "ep", "cp"):
            if (size := getattr(parallel, name)) > 1:
                raise UnsupportedSizeError(name, size, self.split.software)

    def run_dtype(
        self, dtype: str | None, architecture: Architecture, gpu: Accelerator | None
    ) -> tuple[str | None, str]:
        return dtype, ""

    def settings(self, options: object, gpu: Accelerator | None, length: int) -> Settings:
        if not isinstance(options, MlxOptions):
            raise TypeError("not the options of mlx-lm")
        bits = options.kv_bits
        return _Steps(
            step=options.prefill_step_size,
            limit=options.max_kv_size,
            cache=None if bits is None else Packed(bits=bits, group=options.kv_group_size or DEFAULT_GROUP),
            cache_from=options.quantized_kv_start,
        )

    def estimate(self, model: Model, scenario: Scenario) -> Estimate:
        """Weights, caches, and what is in flight beside them at the peak."""
        weights, shape = weight_term(model, scenario), _shape(model, scenario)
        terms: list[Term] = []
        unknown: list[tuple[Group, str]] = []
        if isinstance(weights, Unknown):
            unknown.append(("weights", weights.reason))
        else:
            terms.append(weights)
        run, backend = _run(model, scenario), _backend(scenario)
        refused = self.refused(model, scenario)
        if isinstance(shape, Unknown) or isinstance(run, Unknown):
            reason = shape.reason if isinstance(shape, Unknown) else str(run)
            unknown += [("kv_cache", reason), ("activations", reason)]
            serving = _serving(model, scenario, refused) if refused else None
            notes = _notes(model, scenario)
            return Estimate(terms=tuple(terms), unknown=tuple(unknown), notes=notes, refused=refused, serving=serving)
        caches = _cache_terms(shape, run)
        terms += caches
        if isinstance(backend, Unknown):
            unknown.append(("activations", backend.reason))
        else:
            terms.append(_flight(shape, run, backend, sum(term.nbytes for term in caches)))
        grown = run.item * sum(
            _width(block.mixer)
            for block in shape.blocks
            if isinstance(block.mixer, Attention) and block.mixer.window is None
        )
        return Estimate(
            terms=tuple(terms),
            unknown=tuple(unknown),
            kv_cache_per_token=grown,
            kv_cache_fixed=max(0, sum(term.nbytes for term in caches) // run.batch - grown * scenario.seq),
            notes=_notes(model, scenario),
            refused=refused,
            serving=_serving(model, scenario, refused),
        )

    def kept(self, model: Model, scenario: Scenario) -> tuple[Kept, ...]:
        return (PLAIN,)

    def refused(self, model: Model, scenario: Scenario) -> str:
        missing = unlisted(model.architecture)
        if missing:
            return missing
        asked, shape = _asked(scenario), _shape(model, scenario)
        alone = _alone(shape, asked) if scenario.batch > 1 else ""
        if alone or isinstance(shape, Unknown) or asked.cache is None or scenario.seq < max(1, asked.start):
            return alone
        attention = [block.mixer for block in shape.blocks if isinstance(block.mixer, Attention)]
        if any(mixer.window is not None for mixer in attention):
            return "mlx-lm cannot quantise the caches of windows (RotatingKVCache): leave out --kv-bits"
        widths = {width for mixer in attention for width in (mixer.key_dim, mixer.value_dim)}
        odd = next((width for width in sorted(widths) if width % asked.cache.group), None)
        return "" if odd is None else f"groups of {asked.cache.group} elements do not divide heads of {odd}"

    def loading(self, model: Model, scenario: Scenario, weights: int) -> Loading | None:
        return None

    def usable(self, terms: Sequence[Term], scenario: Scenario) -> int:
        return scenario.available

    def margin(self, estimate: Estimate, scenario: Scenario) -> Margin:
        return Margin(
            nbytes=scenario.available // _FIVE_PERCENT,
            why="MLX starts to free what it keeps for reuse at 95 % of Metal's recommended working set",
            source="mlx 0.32, mlx/backend/metal/allocator.cpp (gc_limit_)",
        )

    def notes(self, model: Model, scenario: Scenario) -> tuple[str, ...]:
        return ()


def _alone(shape: Shape | Unknown, asked: _Steps) -> str:
    """Why mlx-lm does not run several sequences at once; "" where it does."""
    if asked.cache is not None:
        return "mlx_lm.server runs one sequence at a time with --kv-bits (_is_batchable of mlx_lm/server.py)"
    if asked.limit is not None and not (isinstance(shape, Shape) and shape.own_caches):
        return "mlx_lm.server, which runs several sequences at once, has no --max-kv-size"
    return ""


def _asked(scenario: Scenario) -> _Steps:
    return scenario.serving if isinstance(scenario.serving, _Steps) else _Steps(step=None)


def _shape(model: Model, scenario: Scenario) -> Shape | Unknown:
    """What the model is made of, with the caches that were asked for."""
    found = shape_of(model)
    return found if isinstance(found, Unknown) else limited(found, _asked(scenario).limit)


def _run(model: Model, scenario: Scenario) -> Run | Unknown:
    """The run of a scenario."""
    dtype = find_dtype(scenario.compute_dtype or "")
    if dtype is None:
        return Unknown("the dtype of the activations is not known: use --dtype")
    return Run(
        batch=scenario.batch,
        prompt=min(scenario.prompt or scenario.seq, scenario.seq),
        seq=scenario.seq,
        step=_asked(scenario).step or scenario.prefill_chunk or DEFAULT_STEP,
        item=dtype.nbytes(1),
        packed=packed_as(model),
        cache=_asked(scenario).cache,
        cache_from=_asked(scenario).start,
    )


def _backend(scenario: Scenario) -> Backend | Unknown:
    """What computes: Metal, by default one of a large chip, whose tasks are the larger ones."""
    gpu = scenario.gpu
    if gpu is None:
        return metal("max")
    if gpu.kind == "cpu":
        return CPU
    if gpu.vendor not in ("apple", ""):
        return Unknown("what MLX has in flight on this accelerator is not modelled: only Metal and processors are")
    return metal(gpu.name if gpu.vendor else "max")


def _width(attention: Attention) -> int:
    """Elements of a token's keys and values."""
    return attention.kv_heads * (attention.key_dim + attention.value_dim)


def _cache_terms(shape: Shape, run: Run) -> list[Term]:
    """The caches at the end, by kind."""
    kinds = Counter(block.mixer for block in shape.blocks)
    return [
        _attention_term(mixer, count, run) if isinstance(mixer, Attention) else _state_term(mixer, count, run)
        for mixer, count in kinds.items()
    ]


def _attention_term(attention: Attention, count: int, run: Run) -> Term:
    window = attention.window
    return Term(
        name="full attention" if window is None else f"window of {window:,} tokens",
        group="kv_cache",
        nbytes=count * cached(attention, run),
        how=f"{count} layers × {kept(attention, run)} tokens × {attention.kv_heads} heads × "
        f"({attention.key_dim} + {attention.value_dim}) × {_width_of(attention, run)} × batch {run.batch}; "
        "in steps of 256",
        source=f"{_CACHES} ({_cache_class(attention, run)})",
        certainty="derived",
    )


def _width_of(attention: Attention, run: Run) -> str:
    """The bytes of an element, in words."""
    if run.cache is None or not quantised(attention, run, run.seq):
        return f"{run.item} B"
    return f"({run.cache.bits} bits + 2 × {run.item} B / {run.cache.group})"


def _cache_class(attention: Attention, run: Run) -> str:
    if attention.window is not None:
        return "RotatingKVCache"
    return "QuantizedKVCache" if quantised(attention, run, run.seq) else "KVCache"


def _state_term(mixer: Delta | Scan, count: int, run: Run) -> Term:
    s = mixer.sizes
    return Term(
        name="states",
        group="kv_cache",
        nbytes=count * cached(mixer, run),
        how=f"{count} layers × ({s.kernel - 1} × {s.convolved} × {run.item} B + {s.recurrent} × 4 B) × "
        f"batch {run.batch}",
        source=f"{_CACHES} (ArraysCache)",
        certainty="derived",
    )


def _flight(shape: Shape, run: Run, backend: Backend, cached: int) -> Term:
    """What is allocated beside weights and caches at the peak."""
    found = peak(shape, run, backend)
    doing = "of the prompt" if found.phase == "prefill" else "of the answer"
    return Term(
        name="arrays in flight",
        group="activations",
        nbytes=max(0, found.nbytes - cached),
        how=f"peak with {found.tokens:,} tokens {doing} at once after {found.before:,}: what the last 10 tasks of "
        f"{backend.title} read and wrote, and caches that grow",
        source=_TASKS,
        certainty="derived",
    )


def _serving(model: Model, scenario: Scenario, refused: str) -> Serving:
    return Serving(
        kv_pool=None,
        kv_tokens=None,
        max_concurrency=None,
        command=None if refused else _command(model, scenario),
        refused=refused,
    )


def _command(model: Model, scenario: Scenario) -> str:
    # the folder that mlx_lm.convert writes where none is named
    words = ["mlx_lm.generate", "--model", "mlx_model" if model.made else model.checkpoint.ref.model_id]
    asked = _asked(scenario)
    if scenario.batch > 1:  # mlx_lm.generate runs one sequence
        words[0] = "mlx_lm.server"
        words += ["--decode-concurrency", str(scenario.batch), "--prompt-concurrency", str(scenario.batch)]
        asked = replace(asked, limit=None)  # the server has no such flag
    words += replace(asked, step=asked.step or scenario.prefill_chunk).flags()
    return " ".join(quote(word) for word in words)


def _notes(model: Model, scenario: Scenario) -> tuple[str, ...]:
    notes: list[str] = []
    longest = model.architecture.max_positions
    if longest is not None and scenario.seq > longest:
        notes.append(f"{scenario.seq:,} tokens exceed the model's maximum of {longest:,}.")
    if model.quantisation is None and scenario.dtype:
        notes.append(
            "The weights are plain, not quantised: mlx-lm quantises only where it converts (mlx_lm.convert -q)."
        )
    asked = _asked(scenario)
    if asked.cache is not None and scenario.seq < max(1, asked.start):
        notes.append(
            Otherwise(
                f"--kv-bits has no effect on {scenario.seq:,} tokens: mlx-lm quantises the cache from {asked.start:,} "
                "tokens on (--quantized-kv-start)."
            )
        )
    if scenario.word and model.quantisation is not None:
        notes.append(Otherwise(f"--dtype {scenario.word} has no effect: MLX runs the weights as they are stored."))
    if scenario.kv_dtype not in (None, scenario.compute_dtype):
        notes.append(Otherwise("--kv-dtype has no effect: mlx-lm's cache has the dtype of the activations."))
    groups = model.parameters.groups if model.parameters is not None else ()
    if any(group.component in TOWERS for group in groups):
        notes.append("mlx-lm runs the text model only; mlx-vlm, which takes images and sound too, is not covered.")
    shape = shape_of(model)
    if _asked(scenario).limit and not isinstance(shape, Unknown) and shape.own_caches:
        notes.append(Otherwise("--max-kv-size has no effect: mlx-lm's module of this model chooses its caches itself."))
    return tuple(notes)


ENGINE: Final[Engine] = Mlx()
