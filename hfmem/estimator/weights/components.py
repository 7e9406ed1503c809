"""The weights of a pipeline's components after loading: each in its dtype, with what its library keeps in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hfmem.dtypes import Dtype, find_dtype, stored_dtype
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Group, Term
from hfmem.estimator.weights.packed import RUN_DTYPE, Format, format_of, is_packed
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.mapper.values import TensorGroup

if TYPE_CHECKING:
    from hfmem.mapper.pipelines.values import Component, Pipeline

__all__ = ["component_bytes", "component_dtype", "component_terms"]


_DEFAULT: Final = "float32"  # of diffusers 0.42.1 without `torch_dtype`, pipelines/pipeline_utils.py, modeling_utils.py


def component_dtype(component: Component, scenario: Scenario) -> str | None:
    """The dtype that a component runs in: `--dtype`, else the one that it is stored in; float32 where it is stored in
    bytes only, in which nothing runs."""
    usual = component.stored_dtype or (_DEFAULT if _has_bytes(component) else None)
    if not scenario.word:
        return usual
    return RUN_DTYPE if find_quantiser(scenario.dtype or "") is not None else scenario.dtype or usual


def _has_bytes(component: Component) -> bool:
    groups = component.parameters.groups if component.parameters is not None else ()
    return component.quantisation is None and any(group.loaded and _is_byte(group) for group in groups)


def _is_byte(group: TensorGroup) -> bool:
    """Whether it is in a floating-point format of one byte (F8_E4M3, F8_E5M2)."""
    found = stored_dtype(group.dtype) if group.dtype else None
    return found is not None and found.kind == "float" and found.block_bits == 8 * found.block


def _stays(group: TensorGroup, *, quantised: bool) -> bool:
    """Whether it is kept as stored: packed and scales. Floats of one byte are cast like all others, unless a
    quantisation is declared (diffusers 0.42.1, `models/model_loading_utils.py`: `torch.is_floating_point`)."""
    found = stored_dtype(group.dtype) if group.dtype else None
    narrow = group.dtype is not None and (found is None or not found.is_wide_float)
    return group.kept or group.scale or (narrow and (quantised or not _is_byte(group)))


def component_bytes(component: Component, dtype: str | None, packing: Format | None = None) -> int | None:
    """Bytes of a component that runs in `dtype`: packed tensors as stored, others in it, except those that the library
    keeps in float32. None if unknown.

    Args:
        component: the component.
        dtype: what it runs in.
        packing: what its linear layers are quantised to while it is loaded; None: they are not.
    """
    if component.parameters is None:
        return component.file_bytes
    run = find_dtype(dtype) if dtype else None
    quantised = component.quantisation is not None
    sizes = [_bytes(group, run, packing, quantised=quantised) for group in component.parameters.groups if group.loaded]
    return None if None in sizes else sum(size or 0 for size in sizes)


def _bytes(group: TensorGroup, run: Dtype | None, packing: Format | None, *, quantised: bool) -> int | None:
    if packing is not None and is_packed(group):
        return group.count * packing.matrix(group.shape[0], group.shape[1])
    if _stays(group, quantised=quantised):
        return group.stored_bytes
    if run is not None and run.name in group.full_in:
        run = find_dtype("float32")
    return None if run is None else run.nbytes(group.elements)


def component_terms(pipeline: Pipeline, scenario: Scenario) -> tuple[list[Term], list[tuple[Group, str]]]:
    """One term per component, and why the size of others is unknown."""
    terms: list[Term] = []
    unknown: list[tuple[Group, str]] = []
    if not pipeline.components:
        unknown.append(("weights", "model_index.json names no component whose weights are here"))
    for component in pipeline.components:
        dtype = component_dtype(component, scenario)
        packing = format_of(component, scenario)
        nbytes = component_bytes(component, dtype, packing)
        if nbytes is None:
            unknown.append(("weights", f"{component.name}: {component.unknown or 'its dtype is unknown'}"))
            continue
        if component.unknown:  # a part is not there: what is there is a lower bound
            unknown.append(("weights", f"{component.name}: {component.unknown}"))
        terms.append(
            Term(
                name=component.name,
                group="weights",
                nbytes=nbytes,
                how=_how(component, dtype, packing),
                source="; ".join(filter(None, (component.source, packing.source if packing else ""))),
                certainty=component.certainty if component.parameters is not None else "typical",
            )
        )
    unknown += [("weights", f"{one.name} ({one.class_name}) is needed besides") for one in pipeline.missing]
    return terms, unknown


def _how(component: Component, dtype: str | None, packing: Format | None) -> str:
    """The arithmetic: elements by their bytes in memory."""
    if component.parameters is None:
        return f"{component.class_name}: the size of its files"
    run = find_dtype(dtype) if dtype else None
    each = f"× {float(run.bytes_each):g} B ({run.name}" if run else ""
    sums: dict[str, int] = {}
    for group in component.parameters.groups:
        if not group.loaded:
            continue
        if packing is not None and is_packed(group):
            what = f"in {packing.each}"
        elif _stays(group, quantised=component.quantisation is not None):
            what = f"as stored ({group.dtype})"
        elif run is not None and run.name in group.full_in:
            what = "× 4 B (float32, in which the library keeps them)"
        else:
            cast = f", cast from {group.dtype}" if _is_byte(group) else ""
            what = f"{each}{cast})" if run else "of an unknown dtype"
        sums[what] = sums.get(what, 0) + group.elements
    return f"{component.class_name}: " + " + ".join(f"{count:,} {what}" for what, count in sums.items())
