"""What lies on each device for `device_map`, and what runs there.

A module on the host or on disk runs on the first accelerator that has any: its tensors are brought there one module
after another and dropped again, while its cache stays there (`dispatch_model` of Accelerate 1.15 and its
`AlignDevicesHook`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from hfmem.engines.kept import kept_weights
from hfmem.engines.protocol import Engine, Laid, Part
from hfmem.engines.transformers.options import limit_of
from hfmem.engines.transformers.outline import outlined
from hfmem.engines.transformers.placement import balanced, placed, within
from hfmem.estimator.overheads import context_terms
from hfmem.estimator.parallel import SINGLE
from hfmem.estimator.placement import Place, Placement
from hfmem.estimator.scenario import Placing, Scenario
from hfmem.estimator.values import Term, total_of
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.mapper.interpret import Model
from hfmem.mapper.modules import Device, Held, Kind, Module, Modules
from hfmem.mapper.values import Certainty, ParameterTable, TensorGroup
from hfmem.refusals.splits import DeviceMapError
from hfmem.units import format_bytes

__all__ = ["SHARED", "laid", "placing", "runs"]

_HOOKS: Final = "accelerate 1.15.0, hooks.py::AlignDevicesHook and big_modeling.py::dispatch_model"
_RULES: Final = "hfmem's derivation of transformers 5.24.0, integrations/accelerate.py::infer_auto_device_map"
_ENDLESS: Final = 2**62  # bytes of a host whose memory is not known
SHARED: Final = {"int8": 0.9, "nf4": 0.9, "fp4": 0.9}
"""What quantisers leave of each device (`adjust_max_memory` of quantizers/quantizer_bnb_4bit.py and _8bit.py)."""

_BNB: Final = "bitsandbytes"
_AWAY: Final = {
    **dict.fromkeys(
        ("bitsandbytes", "FineGrainedFP8Config", "hqq", "higgs", "quanto", "eetq", "bitnet", "fp_quant"),
        ("cpu", "disk"),
    ),
    "Mxfp4Config": ("disk",),
    "torchao": ("disk",),
}
"""Where quantisers refuse modules (`validate_environment` of transformers 5.24.0's quantizers/): what quantises while
loading, and methods of checkpoints."""

_ON_CPU: Final = "no module fits on an accelerator with these limits, so that all of it would run on the CPU"
_LAYERS: Final = "which of its modules are the decoder's layers is not known"


def placing(options: object) -> Placing | None:
    """How modules are put on devices; None if they are not."""
    way = getattr(options, "device_map", None)
    if way is None:
        return None
    found = (limit_of(word) for word in getattr(options, "max_memory", ()))
    limits = tuple(sorted((one for one in found if one is not None), key=lambda one: (isinstance(one[0], str), one[0])))
    return Placing(way=way, limits=limits)


def laid(engine: Engine, model: Model, scenario: Scenario) -> Laid:
    """The parts of a model on each accelerator, and where each module lies.

    Raises:
        DeviceMapError: its modules, or their sizes, are not known.
    """
    chosen = scenario.placing
    if chosen is None:
        raise DeviceMapError("machine")
    free, assumed = _free(scenario, chosen)
    limits = within(free, chosen.way, asked=bool(chosen.limits))
    modules, found, source, certainty = _found(engine, model, scenario, limits, chosen.way)
    spread = _Spread.of(modules.root, found)
    return _Layout(engine=engine, model=model, scenario=scenario, modules=modules, spread=spread).laid(
        Placement(
            way=chosen.way,
            places=tuple(_places(found, spread, limits)),
            modules=tuple(found.items()),
            source=source,
            certainty=certainty,
            assumed=assumed,
        )
    )


def _free(scenario: Scenario, chosen: Placing) -> tuple[dict[Device, float], str]:
    """Bytes that are free on each device before anything is loaded, and what was assumed for that."""
    if chosen.limits:
        named = ", ".join(f"{device}: {format_bytes(size)}" for device, size in chosen.limits)
        return dict(chosen.limits), f"--max-memory: weights up to {named}; others get none."
    gpu = scenario.gpu
    if gpu is None:
        raise DeviceMapError("machine")
    context = total_of(context_terms(gpu, SINGLE))
    room = max(0, scenario.available - context)
    shared = gpu.kind == "unified"  # the host's memory is the accelerator's
    numbers: list[Device] = ["mps"] if gpu.vendor == "apple" else list(range(scenario.parallel.gpus))
    host = _host(scenario)
    rest: dict[Device, float] = {} if shared else {"cpu": host or _ENDLESS}
    told = f"free memory of each accelerator: {format_bytes(room)}, all but the context"
    if scenario.reserve:
        told += " and what is reserved"
    if not shared:
        told += f"; of the host: {format_bytes(host) if host else 'enough (--max-memory … cpu=64GiB to limit it)'}"
    if numbers == [0] and chosen.way != "sequential":
        told += "; a single one is filled to 90%"
    return dict.fromkeys(numbers, float(room)) | rest, f"Device map: {told}."


def _host(scenario: Scenario) -> int | None:
    """Bytes of this machine's memory, if it is this machine's accelerator; None for another's."""
    if scenario.gpu is None or scenario.gpu.basis != "detected":
        return None
    from hfmem.hardware.detect import physical_memory  # for this machine's accelerators only

    return physical_memory() or None


def _found(
    engine: Engine, model: Model, scenario: Scenario, limits: Mapping[Device, float], way: str
) -> tuple[Modules, dict[str, Device], str, Certainty]:
    """The modules, the device of each, what placed them, and how certain that is."""
    quantiser = find_quantiser(scenario.dtype or "")
    word = quantiser.name if quantiser is not None else ""
    # a checkpoint's own quantiser asks for the accelerators of the machine it runs on
    own = model.quantisation.method if model.quantisation is not None else _BNB
    failed = ""
    if model.placer is not None and (not word or word in SHARED) and own == _BNB:
        try:
            modules = model.placer.modules(scenario.compute_dtype, word)
            found = model.placer.placed(scenario.compute_dtype, word, limits, way)
        except Exception as error:  # a class, or its quantiser, may reject a config with any exception
            failed = type(error).__name__
        else:
            return modules, found, f"{modules.source} and the installed accelerate", "exact"
    try:
        modules = outlined(engine, model, scenario)
    except DeviceMapError as error:
        raise DeviceMapError(error.missing, error.name, failed) from None
    room = balanced(modules, limits, way)
    left = SHARED.get(word, 1) if model.quantisation is None or own != _BNB else SHARED["nf4"]
    room = {device: size * left for device, size in room.items()}
    counted = modules.exact and (not word or word in SHARED)  # transformers counts other formats in its own ways
    return modules, placed(modules, room), f"{_RULES}, on {modules.source}", "derived" if counted else "typical"


def _device(found: Mapping[str, Device], name: str) -> Device | None:
    """The device of a module or tensor: its own, or that of the module it is in."""
    while name not in found:
        if not name:
            return None
        name = name.rpartition(".")[0]
    return found[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spread:
    """What lies on each device.

    Attributes:
        held: bytes by component, role and shape.
        layers: numbers of the decoder's layers.
        nbytes: bytes of weights, as they are counted for the placement.
        largest: bytes of the largest module with tensors of its own.
    """

    held: Mapping[Device, Mapping[Kind, float]]
    layers: Mapping[Device, tuple[int, ...]]
    nbytes: Mapping[Device, float]
    largest: Mapping[Device, float]

    @classmethod
    def of(cls, root: Module, found: Mapping[str, Device]) -> _Spread:
        """What is where, by the device of each module."""
        held: dict[Device, dict[Kind, float]] = defaultdict(lambda: defaultdict(float))
        layers: dict[Device, set[int]] = defaultdict(set)
        nbytes: dict[Device, float] = defaultdict(float)
        largest: dict[Device, float] = defaultdict(float)
        for module, layer in _numbered(root, None):
            for device, parts, size in _pieces(module, found):
                for one in parts:
                    held[device][one.kind] += one.nbytes
                nbytes[device] += size
                largest[device] = max(largest[device], module.own if module.divisible else module.largest)
                if layer is not None and size:
                    layers[device].add(layer)
        return cls(
            held=held,
            layers={device: tuple(sorted(numbers)) for device, numbers in layers.items()},
            nbytes=nbytes,
            largest=largest,
        )


def _numbered(module: Module, layer: int | None) -> Iterator[tuple[Module, int | None]]:
    """All modules that are placed on their own, each with the number of the layer it is in."""
    layer = layer if module.layer is None else module.layer
    yield module, layer
    if not module.whole:
        for child in module.children:
            yield from _numbered(child, layer)


def _pieces(module: Module, found: Mapping[str, Device]) -> Iterator[tuple[Device, tuple[Held, ...], float]]:
    """Devices with what of a module's own is on them: of one that is split, tensors may be on different ones."""
    if module.whole or not module.children:
        device = _device(found, module.name)
        if device is not None:
            yield device, module.held, module.nbytes
        return
    for tensor in module.parameters:
        device = _device(found, tensor.name)
        share = tensor.nbytes / (sum(one.nbytes for one in module.parameters) or 1)
        if device is not None:
            yield device, tuple(replace(one, nbytes=one.nbytes * share) for one in module.held), tensor.nbytes


def _places(found: Mapping[str, Device], spread: _Spread, limits: Mapping[Device, float]) -> Iterator[Place]:
    """Each device with what is on it."""
    order: list[Device] = [*limits, *(("disk",) if "disk" in found.values() else ())]
    for device in order:
        limit = limits.get(device)
        yield Place(
            device=device,
            modules=tuple(runs([name for name, where in found.items() if where == device])),
            layers=spread.layers.get(device, ()),
            nbytes=round(spread.nbytes.get(device, 0)),
            limit=None if limit is None or limit > _ENDLESS // 2 else round(limit),
        )


def runs(names: Iterable[str]) -> Iterator[str]:
    """Names of modules, with consecutive numbers of a list together: `model.layers.0-17`."""
    first: tuple[str, int, int] | None = None
    for name in names:
        head, _, number = name.rpartition(".")
        if first is not None and number.isdecimal() and (head, int(number)) == (first[0], first[2] + 1):
            first = (head, first[1], int(number))
            continue
        yield from _run(first)
        first = (head, int(number), int(number)) if number.isdecimal() else None
        if first is None:
            yield name or "all modules"
    yield from _run(first)


def _run(run: tuple[str, int, int] | None) -> Iterator[str]:
    if run is not None:
        head, start, end = run
        yield f"{head}.{start}" if start == end else f"{head}.{start}-{end}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """A placed model, of which the parts are made."""

    engine: Engine
    model: Model
    scenario: Scenario
    modules: Modules
    spread: _Spread

    def laid(self, placement: Placement) -> Laid:
        """The parts on accelerators."""
        devices = [place.device for place in placement.places if place.device not in ("cpu", "disk")]
        used = [place.device for place in placement.places if place.modules and place.device in devices]
        main = used[0] if used else None
        numbers: list[Device] = ["mps"] if "mps" in devices else list(range(self.scenario.parallel.gpus))
        return Laid(
            notes=(placement.assumed, *self._told(placement)),
            parts=tuple(self._part(device, first=device == main, host=device == numbers[0]) for device in numbers),
            placement=placement,
            refused=self._refused(placement) if used else _ON_CPU,
        )

    def _refused(self, placement: Placement) -> str:
        """Why its quantiser refuses the placement; "" if it does not."""
        own, recipe = self.model.quantisation, self.engine.kept(self.model, self.scenario)[0].recipe
        name = recipe.name if recipe is not None else own.method if own is not None else ""
        away = [place.device for place in placement.offloaded if place.device in _AWAY.get(name, ())]
        if not away:
            return ""
        where = " and ".join("on the host" if device == "cpu" else "on disk" for device in away)
        return f"{name} refuses modules {where}"

    def _told(self, placement: Placement) -> Iterator[str]:
        """What it means that not all is on accelerators."""
        for place in placement.offloaded:
            where = "on the host" if place.device == "cpu" else "on disk"
            count = f"{len(place.layers)} of {len(self.model.architecture.layers or ())} layers" if place.layers else ""
            size = format_bytes(place.nbytes)
            yield (
                f"{count or 'Modules'} ({size}) lie {where}: each module is brought to the accelerator for every pass "
                "and dropped again, which is slow."
            )
            if place.device == "disk":
                yield (
                    "from_pretrained needs offload_folder=… where weights on disk are not in safetensors files in the "
                    "form that the class has, such as fused experts."
                )
        if placement.certainty == "typical":
            yield (
                "The device map is approximate: how many bytes transformers counts for each module is not known "
                "exactly here."
            )

    def _part(self, device: Device, *, first: bool, host: bool) -> Part:
        """The part on an accelerator; the first one runs what is offloaded."""
        away = ("cpu", "disk") if first else ()
        layers = sorted({number for one in (device, *away) for number in self.spread.layers.get(one, ())})
        model = self._with(layers, device)
        runs = bool(self.spread.nbytes.get(device)) or first
        acting = None if not runs else model if layers else self._with(self._last(), device)
        return Part(
            model=model,
            acting=acting,
            brought=tuple(self._brought(away)),
            host=tuple(self._hosted()) if host else (),
        )

    def _last(self) -> list[int]:
        """The last layer, whose working memory stands for that of a head alone: it is at least as large."""
        layers = self.model.architecture.layers
        return [len(layers) - 1] if layers else []

    def _with(self, numbers: Iterable[int], device: Device) -> Model:
        """The model with some of its layers, and the weights on a device."""
        architecture = self.model.architecture
        table = self.model.parameters
        if table is not None:
            groups = (self._group(group, device) for group in table.groups)
            table = ParameterTable(groups=tuple(group for group in groups if group is not None))
        if architecture.layers is None:
            return replace(self.model, parameters=table)
        if architecture.layers and not any(self.spread.layers.values()):
            return replace(self.model, parameters=table, architecture=replace(architecture, unmodelled=_LAYERS))
        layers = tuple(architecture.layers[number] for number in numbers)
        architecture = replace(architecture, layers=layers, layer_count=len(layers))
        return replace(self.model, architecture=architecture, parameters=table)

    def _group(self, group: TensorGroup, device: Device) -> TensorGroup | None:
        """What of a group is on a device; None if nothing. Parts of a tensor are rounded up to whole ones."""
        share = self._share(group, device)
        if not share:
            return None
        count = -(-group.count * share.numerator // share.denominator)
        whole = Fraction(count, group.count)
        return replace(
            group,
            count=count,
            stored_bytes=None if group.stored_bytes is None else int(-(-group.stored_bytes * whole // 1)),
            parameters=int(group.parameters * whole),
            active=int(group.active * whole),
        )

    def _share(self, group: TensorGroup, device: Device) -> Fraction:
        """The share of tensors of a component, role and shape on a device; where no module has those, of the shape, or
        of the component; where none has it either, all on the device of the first module."""
        for alike in (
            lambda key: key == group.kind,
            lambda key: (key[0], key[2]) == (group.component, group.shape),
            lambda key: key[0] == group.component,
        ):
            sums = {
                where: round(sum(size for key, size in held.items() if alike(key)))
                for where, held in self.spread.held.items()
            }
            total = sum(sums.values())
            if total:
                return Fraction(sums.get(device, 0), total)
        first = next(iter(self.spread.held), None)
        return Fraction(int(device == first))

    def _brought(self, away: tuple[Device, ...]) -> Iterator[Term]:
        largest = max((self.spread.largest.get(device, 0) for device in away), default=0)
        if largest:
            yield Term(
                name="offloaded module while it runs",
                group="weights",
                nbytes=round(largest),
                how=f"the largest module of the host or disk that has tensors of its own: {round(largest):,} B",
                source=_HOOKS,
                certainty="derived",
            )

    def _hosted(self) -> Iterator[Term]:
        """The weights that stay in the host's memory."""
        if not self.spread.nbytes.get("cpu"):
            return
        found = kept_weights(self.engine, self._with((), "cpu"), self.scenario)
        yield Term(
            name="offloaded modules",
            group="weights",
            nbytes=total_of(found.terms),
            how=" + ".join(f"{term.name} {term.nbytes:,} B" for term in found.terms),
            source=_HOOKS,
            certainty="derived",
        )
