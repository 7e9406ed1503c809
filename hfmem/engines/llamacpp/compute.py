"""The compute buffers: the recorded graph of a file's architecture, at the file's own sizes, through the allocator."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from hfmem.engines.llamacpp.allocator import HOST, Device, Step, assigned, compute_buffers
from hfmem.engines.llamacpp.borrowed import RECURRENT, Borrowed, span
from hfmem.engines.llamacpp.caches import Sides
from hfmem.engines.llamacpp.graphs import (
    HEAD,
    Graph,
    Layer,
    Part,
    RecordedStep,
    Structure,
    nearest,
    size_of,
    structures,
)
from hfmem.engines.llamacpp.placement import Placement
from hfmem.engines.llamacpp.settings import CACHE_TYPES, LlamaSettings
from hfmem.mapper.gguf.layout import Blocks, GgufTensor
from hfmem.unknown import Unknown

__all__ = ["Compute", "computed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """Compute buffers in bytes: of each device, and of the host.

    Attributes:
        flash: whether flash attention runs: llama.cpp may have switched it off (`auto_flash`).
    """

    devices: tuple[int, ...]
    host: int
    flash: bool


_IN_A_ROW: Final = 3
_PERIODS: Final = range(1, 9)
_FIRST: Final = 10_000  # the first layer is only run as a first one
_EMBEDDINGS: Final = "inp_embd"
_MASK: Final = "kq_mask"
_ROWS: Final = "_idxs"
_FILL: Final = "FILL"
_BLANK: Final = "leaf_"  # ggml's own name of what has none
_NORMS: Final = ("RMS_NORM", "NORM")
_GATHERS: Final = "GET_ROWS"
_FUSED: Final = "attn_qkv."
_JOINS: Final = "CONT"
_STORES: Final = "SET_ROWS"
_FLOAT: Final = 4
_FLASH: Final = "FLASH_ATTN_EXT"
_MATRIX: Final = "MUL_MAT"
_MATRIX_FIRST: Final = (_MATRIX, "MUL_MAT_ID", _GATHERS, "SSM_SCAN")
_LEAST_ROTATION: Final = 64
_COPIES: Final = 4
"""Batches under way at once on several devices (`GGML_SCHED_MAX_COPIES`)."""


def computed(placement: Placement, devices: Sequence[Device], caches: Sequence[Sides] = ()) -> Compute | Unknown:
    """The compute buffers of a file as it is placed.

    Args:
        placement: where its layers are.
        devices: the accelerators.
        caches: what each layer's steps read of its caches, for where they stay on the host.
    """
    key = _key(placement, devices, caches)
    found = _KNOWN.get(key)
    if found is None:
        found = _computed(placement, devices, caches)
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[key] = found
    return found


_KNOWN: Final[dict[Hashable, Compute | Unknown]] = {}
"""What was computed: quantisations of one model differ in nothing that counts here but in weights that are copied."""
_MOST_KNOWN: Final = 512


def _key(placement: Placement, devices: Sequence[Device], caches: Sequence[Sides]) -> Hashable:
    """All that compute buffers depend on."""
    blocks = placement.blocks
    offloads = any(device.offloads for device in devices)
    read = placement.layers[-1] == HOST  # whether the embedding is more than a table whose rows are taken
    weights = tuple(
        (tensor.name, tensor.nbytes if offloads and (read or tensor.place != "before") else HOST)
        if placement.of(tensor) == HOST
        else tensor.name
        for tensor in blocks.tensors
    )
    values = tuple(blocks.values.items())
    layout = (blocks.architecture, blocks.count, blocks.loaded, blocks.kinds, blocks.window, blocks.headed, values)
    kept = () if placement.settings.offload_kqv and not placement.settings.auto_flash else tuple(caches)
    return layout, weights, placement.settings, placement.free, tuple(devices), kept


def _computed(placement: Placement, devices: Sequence[Device], caches: Sequence[Sides]) -> Compute | Unknown:
    blocks, settings = placement.blocks, placement.settings
    layers = [
        Layer(kind=kind, names=frozenset(tensor.inner for tensor in each))
        for kind, each in zip(blocks.kinds, blocks.of_layers[: blocks.loaded], strict=False)
    ]
    structure = nearest(structures(blocks.architecture), layers, blocks.values)
    if structure is None:
        return Unknown(f"no graph of '{blocks.architecture}' is recorded")
    flash = settings.flash
    sized = _sized(placement, structure, layers, caches)
    if not isinstance(sized, Unknown) and settings.auto_flash and sized.apart(devices):
        flash = False
        sized = _sized(replace(placement, settings=replace(settings, flash=False)), structure, layers, caches)
    if isinstance(sized, Unknown):
        return sized
    copies = _COPIES if placement.pipelined else 1
    *found, host = compute_buffers(sized.inputs, sized.steps, devices, copies=copies, homes=sized.homes)
    return Compute(devices=tuple(found), host=host, flash=flash)


def _sized(
    placement: Placement, structure: Structure, layers: Sequence[Layer], caches: Sequence[Sides]
) -> _Sized | Unknown:
    """The graph of these settings with the sizes of the file."""
    blocks = placement.blocks
    graph = _setting(structure, blocks, placement.settings)
    if graph is None:
        return Unknown(f"'{blocks.architecture}' does not run with these settings")
    try:
        return _Sized(placement, structure, graph, layers, caches)
    except KeyError as error:
        return Unknown(f"the file does not say its {error.args[0]}")


def _setting(structure: Structure, blocks: Blocks, settings: LlamaSettings) -> Graph | None:
    """The recorded graph of these settings: quantised keys and values are turned, where their heads allow it."""
    key_dim, value_dim = blocks.heads
    if not settings.release.turned_caches:
        return structure.graph(settings.flash, False, False)
    turned = (_turned(settings.type_k, key_dim), _turned(settings.type_v, value_dim))
    return structure.graph(settings.flash, *turned)


def _turned(kind: str, size: int) -> bool:
    """Whether a rotation spreads what quantising would cut off (`attn_rot_k` of llama-kv-cache.cpp)."""
    return CACHE_TYPES[kind][0] > 1 and size % _LEAST_ROTATION == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Before:
    """The part that comes before a layer's: in the run, and where the layer was recorded. What it makes for the layer
    besides its result, a state that is loaded early, may lie elsewhere among its steps.

    Attributes:
        own: the part in the run.
        recorded: the one in the recording.
    """

    own: Part = ()
    recorded: Part = ()

    def moved(self, read: int, number: int) -> int:
        """How many steps back a read goes in the run.

        Args:
            read: as it is recorded.
            number: of the step in its part.
        """
        behind = read - number  # from the end of the part before, 1 for its last step
        if read >= HEAD or not 0 < behind <= len(self.recorded) or self.own is self.recorded:
            return read
        found = self.recorded[len(self.recorded) - behind]
        if not found.ahead:
            return read
        rank = _early(self.recorded).index(len(self.recorded) - behind)
        places = _early(self.own)
        return number + len(self.own) - places[rank] if rank < len(places) else read


@cache
def _early(part: Part) -> tuple[int, ...]:
    """The steps of a part that are of the next layer's state."""
    return tuple(number for number, step in enumerate(part) if step.ahead)


class _Sized:
    """A recorded graph with the sizes of a file."""

    def __init__(
        self,
        placement: Placement,
        structure: Structure,
        graph: Graph,
        layers: Sequence[Layer],
        caches: Sequence[Sides],
    ) -> None:
        self.kept = caches
        self.caches = () if placement.settings.offload_kqv else caches
        self.placement, self.graph = placement, graph
        self.blocks, self.settings = placement.blocks, placement.settings
        self.structure, self.layers = structure, layers
        self.at: list[int] = []
        """Where each recorded step is, as steps of older builds come between them."""
        self.converted: dict[int, int] = {}
        """Where each mask is converted, by the input."""
        self.attending: list[tuple[int, int]] = []
        """Where flash attention runs, and of which layer."""
        self.given: dict[tuple[int, ...], tuple[dict[str, int], dict[str, int]]] = {}
        self.fused: set[int] = set()
        """Steps that make queries, keys and values in one."""
        self.recurrent: set[int] = set()
        """Steps that make a new state."""
        self.upright: int | None = None
        """Where the values of the layer were turned, of which eager attention finds each token's together."""
        self.blanks = {
            -1 - read
            for part in graph.parts
            for step in part
            for read in (step.replaces if step.operation == _FILL else ())
            if read < 0 and graph.names[-1 - read].startswith(_BLANK)
        }
        """Those of the recorded inputs that a step fills."""
        self.inputs = [self._input(number) for number in range(len(graph.inputs))]
        """Bytes of inputs."""
        self.homes: dict[int, int] = {}
        """The devices of those that are made where they are read."""
        self.steps: list[Step] = []
        self._build()

    def _build(self) -> None:
        parts = self.graph.parts
        head = len(parts) - len(self.structure.layers)
        chosen = self._chosen()
        for part in parts[:head]:
            self._add(part, None, chosen[0], _Before())
        before = _Before(own=parts[head - 1], recorded=parts[head - 1]) if head else _Before()
        skipped = sorted(set(range(len(self.layers))) - set(chosen))
        for place, layer in enumerate(chosen):
            number = head + self._recorded(chosen, place)
            recorded = replace(before, recorded=parts[number - 1] if number else ())
            self._add(parts[number], layer, chosen[place + 1] if place + 1 < len(chosen) else None, recorded)
            before = _Before(own=parts[number])
            later = chosen[place + 1] if place + 1 < len(chosen) else layer
            for other in (each for each in skipped if layer < each < later):  # theirs is there from the beginning
                for step in parts[number]:
                    self._blank(step, other)

    def apart(self, devices: Sequence[Device]) -> bool:
        """Whether flash attention would run on another device than its layer's, of one token a sequence: then
        llama.cpp switches it off (`resolve_fused_ops`)."""
        if not self.attending or not devices:
            return False
        places = assigned(self.steps, devices, small=True)
        homes = ((number, self.placement.layers[layer]) for number, layer in self.attending)
        return any(places[number] != (len(devices) if home == HOST else home) for number, home in homes)

    def _blank(self, step: RecordedStep, layer: int | None) -> int | None:
        """A tensor of the layer's own that a step fills, where it fills one: it is no input that is set, so that it
        lies on the device of the layer; all layers' are there from the beginning."""
        blank = next((-1 - read for read in step.reads if read < 0 and self._is_blank(-1 - read)), None)
        if blank is None or layer is None:
            return None
        home = self.placement.layers[layer]
        self.inputs.append(size_of(self.graph.inputs[blank], self._values(layer)))
        if home != HOST:
            self.homes[len(self.inputs) - 1] = home
        return -len(self.inputs)

    def _is_blank(self, number: int) -> bool:
        return number in self.blanks

    def _input(self, number: int) -> int:
        """The bytes of an input by the rules of the release."""
        if self._is_blank(number):
            return 0
        size, release = size_of(self.graph.inputs[number], self._largest()), self.settings.release
        name = self.graph.names[number]
        if (name == _EMBEDDINGS and not release.both_inputs) or (name.endswith(_ROWS) and not release.row_indices):
            return 0
        return size * 2 if self._is_converted(number) else size

    def _largest(self) -> dict[str, int]:
        """What formulas of inputs are in: of values of layers the largest, as one input is for all of them; the first
        layer of a hybrid may have no keys."""
        found = self._values(0)
        found |= {
            key: max(self._values(layer)[key] for layer in range(len(self.layers))) for key in self.blocks.by_layer
        }
        return found

    def _is_converted(self, number: int) -> bool:
        """Whether it is a mask that is made in float32 and then converted to float16."""
        return _MASK in self.graph.names[number] and self.settings.flash and not self.settings.release.half_masks

    def _convert(self, steps: list[Step], step: RecordedStep, values: Mapping[str, int]) -> None:
        """Convert the masks that a step is the first to read."""
        for read in step.reads:
            number = -1 - read
            if read < 0 and number not in self.converted and self._is_converted(number):
                self.converted[number] = len(steps)
                steps.append(Step(nbytes=size_of(self.graph.inputs[number], values), reads=(read,)))

    def _chosen(self) -> list[int]:
        """The layers that are run through: of those in a row that are the same, on one device, or come again and again
        in one order, no more than three: more of them take no more. With caches on the host all are: free memory in
        pieces depends on their number."""
        if self.caches:
            return list(range(len(self.layers)))
        kinds = [*(self._alike(number) for number in range(len(self.layers) - 1)), None]  # what follows is the last's
        periods = _PERIODS[:1] if self.blocks.kernel else _PERIODS  # states leave free memory in pieces, too
        found: list[int] = []
        start = 0
        while start < len(kinds):
            period, length = max((_repeated(kinds, start, period) for period in periods), key=_covered)
            less = max(0, length // period - _IN_A_ROW) * period
            kept = length - less
            found += [*range(start, start + kept - period), *range(start + length - period, start + length)]
            start += length
        return found

    def _alike(self, layer: int) -> object:
        own = {key: self.blocks.number(key, layer) for key in self.blocks.by_layer}
        host = frozenset(tensor.inner for tensor in self.blocks.of_layers[layer] if self.placement.of(tensor) == HOST)
        return self.layers[layer], self.placement.layers[layer], tuple(own.items()), host

    def _recorded(self, chosen: Sequence[int], place: int) -> int:
        """The recorded layer that a layer is run as: the last for the last, else one of its kind between such as are
        before and after it."""
        recorded, layers = self.structure.layers, self.layers
        if place == len(chosen) - 1:
            return len(recorded) - 1
        own, after = layers[chosen[place]], layers[chosen[place + 1]]
        before = layers[chosen[place - 1]] if place else None

        def distance(number: int) -> tuple[int, int]:
            previous = recorded[number - 1] if number else None
            first = (before is None) != (previous is None)
            behind = before.distance(previous) if before is not None and previous is not None else 0
            ahead = after.distance(recorded[number + 1]) if number + 1 < len(recorded) else 0
            return own.distance(recorded[number]), ahead + (_FIRST if first else behind)

        return min(range(max(len(recorded) - 1, 1)), key=distance)

    def _add(self, part: Part, layer: int | None, following: int | None, before: _Before) -> None:
        """Add the steps of a layer; its last may be the normalisation that the next layer begins with."""
        (values, sizes), steps = self._known(layer or 0), self.steps
        borrowed, joined = self._lends(part, layer), self._joined(part, layer)
        self.upright = None
        for number, step in enumerate(part):
            home = following if number == len(part) - 1 else layer
            self._convert(steps, step, values)
            turned = self._turn(step, layer)
            self.at.append(len(steps))
            if step.operation == _FLASH and layer is not None:
                self.attending.append((len(steps), layer))
            if step.operation in RECURRENT:
                self.recurrent.add(len(steps))
            if any(name.startswith(_FUSED) for name in step.weights):
                self.fused.add(len(steps))
            owner = following if step.ahead > 0 else layer
            blank = self._blank(step, layer)
            steps.append(
                Step(
                    nbytes=None if step.size == "-" else _size(step.size, values, sizes),
                    reads=(*turned, *(self._filled(before.moved(read, number), blank) for read in step.reads)),
                    replaces=tuple(self._filled(before.moved(read, number), blank) for read in step.replaces),
                    place=HOST if number == joined else self._where(step, layer, owner, home),
                    copied=self._copied(step, layer),
                    borrowed=() if borrowed is None else borrowed.read(step),
                    apart=self._apart(step, layer, values),
                    matrix_first=step.operation in _MATRIX_FIRST,
                    rows=self._rows(step, values),
                    output=step.output,
                )
            )

    def _joined(self, part: Part, layer: int | None) -> int | None:
        """Where a layer puts its heads together after eager attention: llama.cpp has that, and what comes between it
        and the cache, run on the host where the cache is (`build_attn_mha`)."""
        products = [number for number, step in enumerate(part) if step.operation == _MATRIX and _reads_cache(step)]
        if layer is None or not self.caches or not products or not self.settings.pins:
            return None
        after = range(products[-1] + 1, len(part))
        return next((number for number in after if part[number].operation == _JOINS), None)

    def _where(self, step: RecordedStep, layer: int | None, owner: int | None, home: int | None) -> int | None:
        pinned = self._pinned(step, home)
        return self._place(step, layer, owner) if pinned is None else pinned

    def _lends(self, part: Part, layer: int | None) -> Borrowed | None:
        """The layer's caches, where they stay on the host."""
        if layer is None or not self.caches:
            return None
        products = sum(step.operation == _MATRIX and _reads_cache(step) for step in part)
        flash = any(step.operation == _FLASH and step.cached for step in part)
        return Borrowed(layer, self.caches[layer], indexed=products > (0 if flash else 2))

    def _apart(self, step: RecordedStep, layer: int | None, values: Mapping[str, int]) -> int | None:
        """Bytes of the view by which a step reads the first of its sources, where it has one for itself: queries, keys
        and values may lie in one product, and a new state behind what comes out."""
        if layer is None or not self.caches or not step.reads or step.reads[0] <= 0:
            return None
        number = self._read(step.reads[0])
        whole = self.steps[number].nbytes if number >= 0 else None
        if whole is None:
            return None
        stored = step.cached and step.size == "-"
        if stored and number in self.recurrent:
            return self.caches[layer].state
        if number in self.fused or (stored and step.operation == _STORES):
            heads = "head_count" if step.operation in (_MATRIX, _FLASH) else "head_count_kv"
            size = max(values.get("attention.key_length", 0), values.get("attention.value_length", 0))
            return span(whole, values["n_tokens"], values.get(f"attention.{heads}", 0) * size * _FLOAT)
        return None

    def _turn(self, step: RecordedStep, layer: int | None) -> tuple[int, ...]:
        """What eager attention reads besides, where the cache is laid out for flash attention: the layer's values,
        turned before its first step (`build_attn_mha`)."""
        switched = self.settings.auto_flash and not self.settings.flash
        if not switched or layer is None or step.operation != _MATRIX or not step.cached or step.size == "-":
            return ()
        if self.upright is None:
            self.upright = len(self.steps)
            self.steps.append(Step(nbytes=self.kept[layer].values, reads=()))
            return ()
        return (self.upright,)

    def _filled(self, read: int, blank: int | None) -> int:
        return blank if blank is not None and read < 0 and self._is_blank(-1 - read) else self._read(read)

    def _read(self, read: int) -> int:
        if read < 0:
            return self.converted.get(-1 - read, read)
        return self.at[read - HEAD] if read >= HEAD else self.at[len(self.at) - 1 - read]

    def _known(self, layer: int) -> tuple[dict[str, int], dict[str, int]]:
        """The values of a layer, and what formulas give with them, kept for layers that have the same."""
        key = tuple(self.blocks.number(name, layer) for name in self.blocks.by_layer)
        if key not in self.given:
            self.given[key] = self._values(layer), {}
        return self.given[key]

    def _values(self, layer: int) -> dict[str, int]:
        """What the formulas are in: the file's own sizes, and the settings'."""
        settings, window = self.settings, self.blocks.window
        values = self.blocks.sizes(layer) | {
            "n_kv": settings.cells,
            "n_tokens": settings.tokens,
            "n_seqs": settings.n_seq_max,
            "n_outputs": min(settings.tokens, settings.n_outputs),
            "n_rot_k": _rotation(self.blocks.heads[0]),
        }
        return values | ({"n_kv_swa": settings.window_cells(window)} if window else {})

    def _pinned(self, step: RecordedStep, layer: int | None) -> int | None:
        """The device of a normalisation where all layers are offloaded: its own layer's, not that of what it reads."""
        whole = self.settings.n_gpu_layers > self.blocks.count and self.placement.devices
        pinned = self.settings.pins and whole and step.operation in _NORMS
        return self.placement.layers[layer] if pinned and layer is not None else None

    def _place(self, step: RecordedStep, layer: int | None, owner: int | None) -> int | None:
        placement = self.placement
        for tensor in self._tensors(step, layer):
            return self._home(step, tensor)
        if step.cached and step.size == "-" and owner is not None and placement.settings.offload_kqv:
            return placement.layers[owner]
        return HOST if step.cached and step.size == "-" else None

    def _tensors(self, step: RecordedStep, layer: int | None) -> Iterator[GgufTensor]:
        return self.blocks.read(step.weights, layer, gathers=step.operation == _GATHERS)

    def _home(self, step: RecordedStep, tensor: GgufTensor) -> int:
        """The device of a tensor where a step reads it: an embedding that is the output's too is loaded twice."""
        if tensor is self.blocks.tied and step.operation != _GATHERS:
            return self.placement.layers[-1]
        return self.placement.of(tensor)

    def _copied(self, step: RecordedStep, layer: int | None) -> tuple[tuple[str, int], ...]:
        """The tensors on the host that would have to be copied to a device."""
        return tuple(
            (tensor.name, tensor.nbytes) for tensor in self._tensors(step, layer) if self._home(step, tensor) == HOST
        )

    @staticmethod
    def _rows(step: RecordedStep, values: Mapping[str, int]) -> int:
        if step.operation == _GATHERS:
            return 0
        return values["n_outputs"] if "n_outputs" in step.size else values["n_tokens"]


def _reads_cache(step: RecordedStep) -> bool:
    return step.cached and step.size != "-"


def _size(formula: str, values: Mapping[str, int], known: dict[str, int]) -> int:
    if formula not in known:
        known[formula] = size_of(formula, values)
    return known[formula]


def _repeated(kinds: Sequence[object], start: int, period: int) -> tuple[int, int]:
    """The period, and how many layers from this one on are as those a period before; one layer where it is not kept up
    for more than is run through anyway."""
    end = start + period
    while end < len(kinds) and kinds[end] == kinds[end - period]:
        end += 1
    length = min(end, len(kinds)) - start
    return (period, length) if length >= (_IN_A_ROW + 1) * period else (1, 1)


def _covered(found: tuple[int, int]) -> tuple[int, int]:
    period, length = found
    return length, -period


def _rotation(size: int) -> int:
    """The largest power of two from 64 on that divides a head's size (`build_input_k_rot`)."""
    found = _LEAST_ROTATION
    while size and size % (found * 2) == 0:
        found *= 2
    return found
