"""What the source of diffusers says about classes of pipelines and of VAEs.

`python -m hfmem.probe.diffusers.pipelines` writes it into `hfmem/data/diffusers_pipelines.jsonl`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import cache
from math import sqrt
from typing import Any

from hfmem.data import text as data_text
from hfmem.mapper.pipelines.sizes import patch
from hfmem.mapper.pipelines.values import Pipeline

__all__ = ["coder_row", "edge_of", "made", "order_of", "pipeline_names", "pipeline_row", "scaled", "staying"]


@cache
def _rows(kind: str) -> Mapping[str, Mapping[str, Any]]:
    text = data_text("diffusers_pipelines.jsonl")
    mark = f'{{"{kind}": '
    return {row[kind]: row for row in map(json.loads, (line for line in text.splitlines() if line.startswith(mark)))}


def pipeline_row(name: str) -> Mapping[str, Any]:
    """What is known of a class of pipelines; empty for others."""
    return _rows("pipeline").get(name, {})


def pipeline_names() -> Collection[str]:
    """The classes of pipelines that are known."""
    return _rows("pipeline").keys()


def coder_row(name: str) -> Mapping[str, Any]:
    """What is known of a class of VAEs: `upcast` (the default of `force_upcast`), and whether it has `tiles` and
    `slices`; empty for others."""
    return _rows("vae").get(name, {})


def order_of(pipeline: Pipeline) -> tuple[str, ...]:
    """The components that model offload hands over one after another (`model_cpu_offload_seq`)."""
    order = str(pipeline_row(pipeline.class_name).get("order", ""))
    return tuple(name for name in order.split("->") if pipeline.find(name) is not None)


def staying(pipeline: Pipeline) -> tuple[str, ...]:
    """The components that offloading leaves on the accelerator (`_exclude_from_cpu_offload`)."""
    return tuple(name for name in pipeline_row(pipeline.class_name).get("stays", ()) if pipeline.find(name) is not None)


def edge_of(pipeline: Pipeline, spatial: int) -> tuple[int, bool]:
    """What height and width have to be multiples of, and whether the class refuses others (else it rounds down).

    Args:
        pipeline: the pipeline.
        spatial: pixels of a latent along a side.
    """
    row = pipeline_row(pipeline.class_name)
    edge = int(row.get("edge", 1))
    if row.get("scaled") or not row.get("edge"):
        edge *= spatial
    if row.get("patched"):
        edge *= patch(pipeline.denoiser)
    return edge, bool(row.get("refuses"))


def made(pipeline: Pipeline, height: int, width: int, edge: int) -> tuple[int, int]:
    """Height and width of what comes out: some classes scale to an area of their own (`max_area`)."""
    area = pipeline_row(pipeline.class_name).get("area")
    if area:
        ratio = width / height
        height, width = round(sqrt(area / ratio)), round(sqrt(area * ratio))
    return max(edge, height // edge * edge), max(edge, width // edge * edge)


def scaled(joins: Mapping[str, Any], height: int, width: int, edge: int) -> tuple[int, int]:
    """Height and width of an input image as the network is given it.

    Args:
        joins: the rule of the class.
        height, width: of the image.
        edge: what sides are rounded down to multiples of.
    """
    if "sizes" in joins:
        width, height = min(joins["sizes"], key=lambda size: abs(width / height - size[0] / size[1]))
    elif "area" in joins and not (joins.get("most") and width * height <= joins["area"]):
        factor = sqrt(joins["area"] / (width * height))
        height, width = round(height * factor), round(width * factor)
    return max(edge, height // edge * edge), max(edge, width // edge * edge)
