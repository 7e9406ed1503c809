"""Checkpoints in one file: a whole pipeline, or its denoiser alone, known by the names of their tensors.

Names are those of the authors' own code, as ComfyUI, stable-diffusion.cpp and `from_single_file` of diffusers read them
(diffusers 0.42, `loaders/single_file_utils.py`: CHECKPOINT_KEY_NAMES). Which pipeline of the catalog it is, the number
of parameters decides; its configs are that pipeline's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hfmem.fetcher import pipeline_catalog
from hfmem.fetcher.pipelines import Listed
from hfmem.fetcher.values import Checkpoint, ModelRef, TensorInfo
from hfmem.mapper.holdings import is_gguf, offered
from hfmem.mapper.interpret import Model
from hfmem.mapper.pipelines.reader import as_model, component_of, pipeline_of
from hfmem.mapper.pipelines.values import Component, Pipeline
from hfmem.mapper.values import Quantisation
from hfmem.units import format_bytes, format_count

__all__ = ["single_file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """Pipelines whose denoisers have the same names.

    Attributes:
        marks: names that all of them have, and no other denoiser.
        cls: the pipeline's class, if the catalog has none of them.
        models: those of the catalog.
    """

    marks: tuple[str, ...]
    cls: str = ""
    models: tuple[str, ...] = ()


_SD3: Final = "stabilityai/stable-diffusion-3"
_WAN: Final = "Wan-AI/Wan2."
_FLUX: Final = "black-forest-labs/FLUX."

# The first family whose marks are all there.
_FAMILIES: Final[tuple[_Family, ...]] = (
    _Family(
        marks=("single_stream_modulation.lin.weight",),
        models=(f"{_FLUX}2-dev", f"{_FLUX}2-klein-4B", f"{_FLUX}2-klein-9B"),
    ),
    _Family(
        marks=("txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias",),
        models=("hunyuanvideo-community/HunyuanVideo",),
    ),
    _Family(marks=("distilled_guidance_layer.in_proj.bias",), models=("lodestones/Chroma1-HD",)),
    _Family(
        marks=("double_blocks.0.img_attn.norm.key_norm.scale",),
        models=(f"{_FLUX}1-dev", f"{_FLUX}1-schnell", f"{_FLUX}1-Fill-dev"),
    ),
    _Family(
        marks=("single_transformer_blocks.0.proj_mlp.weight", "transformer_blocks.0.ff_context.net.2.weight"),
        models=(f"{_FLUX}1-dev", f"{_FLUX}1-schnell", f"{_FLUX}1-Fill-dev"),
    ),
    _Family(
        marks=("joint_blocks.0.context_block.adaLN_modulation.1.bias",),
        models=(f"{_SD3}-medium-diffusers", f"{_SD3}.5-large", f"{_SD3}.5-medium"),
    ),
    _Family(
        marks=("head.modulation", "patch_embedding.weight"),
        models=(
            f"{_WAN}1-T2V-1.3B-Diffusers",
            f"{_WAN}1-T2V-14B-Diffusers",
            f"{_WAN}1-I2V-14B-480P-Diffusers",
            f"{_WAN}2-I2V-A14B-Diffusers",
            f"{_WAN}2-TI2V-5B-Diffusers",
        ),
    ),
    _Family(marks=("txt_norm.weight", "transformer_blocks.0.txt_mod.1.weight"), models=("Qwen/Qwen-Image",)),
    _Family(marks=("cap_embedder.0.weight", "x_pad_token"), models=("Tongyi-MAI/Z-Image-Turbo",)),
    _Family(
        marks=("cap_embedder.0.weight", "noise_refiner.0.attention.qkv.weight"), models=("Alpha-VLLM/Lumina-Image-2.0",)
    ),
    _Family(
        marks=("patchify_proj.weight", "transformer_blocks.27.scale_shift_table"),
        models=("Lightricks/LTX-Video", "Lightricks/LTX-Video-0.9.7-dev"),
    ),
    _Family(marks=("blocks.0.attn.qkv_x.weight",), models=("genmo/mochi-1-preview",)),
    _Family(
        marks=(
            "blocks.0.cross_attn.q_linear.weight",
            "y_embedder.y_proj.fc1.weight",
            "t_block.1.weight",
            "attention_y_norm.weight",
        ),
        models=("Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers",),
    ),
    _Family(
        marks=("blocks.0.cross_attn.q_linear.weight", "y_embedder.y_proj.fc1.weight", "t_block.1.weight"),
        models=("PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", "PixArt-alpha/PixArt-XL-2-1024-MS"),
    ),
    _Family(marks=("double_layers.0.attn.w1q.weight", "cond_seq_linear.weight"), cls="AuraFlowPipeline"),
    _Family(marks=("double_stream_blocks.0.block.adaLN_modulation.1.bias",), cls="HiDreamImagePipeline"),
    _Family(
        marks=("input_blocks.0.0.weight", "label_emb.0.0.weight", "input_blocks.1.0.in_layers.0.weight"),
        models=(
            "stabilityai/stable-diffusion-xl-base-1.0",
            "stabilityai/stable-diffusion-xl-refiner-1.0",
            "Kwai-Kolors/Kolors-diffusers",
        ),
    ),
    _Family(
        marks=("input_blocks.0.0.weight", "input_blocks.11.0.in_layers.0.weight"),
        models=("stable-diffusion-v1-5/stable-diffusion-v1-5", "stabilityai/stable-diffusion-2-1"),
    ),
)

_DENOISER: Final = ("model.diffusion_model.", "diffusion_model.")
# Parts of a whole pipeline by the beginning of their names: the component, or its place among the text encoders.
_PARTS: Final[tuple[tuple[str, str | int], ...]] = (
    ("first_stage_model.", "vae"),
    ("vae.", "vae"),
    ("cond_stage_model.", 0),
    ("conditioner.embedders.0.", 0),
    ("conditioner.embedders.1.", 1),
    ("text_encoders.clip_l.", 0),
    ("text_encoders.clip_g.", 1),
    ("text_encoders.t5xxl.", -1),
    ("text_encoders.", 0),
)
# What else is in such files: averages of training, and constants of schedules.
_NOT_LOADED: Final = ("model_ema.", "denoiser.sigmas", "edm_", "v_pred", "ztsnr")
_SCHEDULE: Final = frozenset(
    {"betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"}
    | {"log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "logvar"}
    | {"posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"}
    | {"scale_factor", "model_ema"}
)
_NEAR: Final = 0.02  # by how much a denoiser may differ from the catalog's, and be said to be alike


def single_file(checkpoint: Checkpoint) -> Model | None:
    """The pipeline whose parts a checkpoint's tensors are; None for other models."""
    config = checkpoint.config or {}
    foreign = config.get("model_type") and "_class_name" not in config  # Wan's own config has a type of its own
    if not checkpoint.tensors or checkpoint.source == "catalog" or foreign:
        return None
    prefix = next((each for each in _DENOISER if _begins(checkpoint.tensors, each)), "")
    names = {tensor.name.removeprefix(prefix) for tensor in checkpoint.tensors if tensor.name.startswith(prefix)}
    family = next((one for one in _FAMILIES if names.issuperset(one.marks)), None)
    if family is None:
        return None
    parts = _parts(checkpoint.tensors, prefix)
    denoiser = _read(checkpoint, Listed(name="denoiser", library="diffusers", class_name=""), parts.pop("denoiser"))
    known = _nearest(family, denoiser)
    pipeline = _pipeline(checkpoint, family, denoiser, parts, known)
    return as_model(checkpoint, pipeline, (*_notes(pipeline, known), *_others(checkpoint)))


def _begins(tensors: Sequence[TensorInfo], prefix: str) -> bool:
    return any(tensor.name.startswith(prefix) for tensor in tensors)


def _parts(tensors: Sequence[TensorInfo], prefix: str) -> dict[str | int, list[TensorInfo]]:
    """The tensors by part, under names of their own."""
    found: dict[str | int, list[TensorInfo]] = {"denoiser": []}
    for tensor in tensors:
        name = tensor.name
        if name in _SCHEDULE or name.startswith(_NOT_LOADED) or name.endswith(".logit_scale"):
            continue
        part = next(((start, key) for start, key in _PARTS if name.startswith(start)), None)
        if part is not None and prefix:
            found.setdefault(part[1], []).append(replace(tensor, name=name.removeprefix(part[0])))
        elif name.startswith(prefix):
            # the authors of FLUX call the weights of a norm its scale, which quantisers have too
            own = name.removeprefix(prefix).replace("_norm.scale", "_norm.weight")
            found["denoiser"].append(replace(tensor, name=own))
    return found


def _read(checkpoint: Checkpoint, listed: Listed, tensors: Sequence[TensorInfo]) -> Component:
    """A component, of whose config nothing is known."""
    found = component_of(checkpoint, listed, {}, tuple(tensors))
    dtypes = {tensor.dtype: 0 for tensor in tensors}
    for tensor in tensors:
        dtypes[tensor.dtype] += tensor.nbytes
    if not is_gguf(checkpoint) or not dtypes:
        return found
    most = max(dtypes, key=lambda dtype: dtypes[dtype])
    return replace(found, quantisation=Quantisation(method="gguf", scheme=most, bits=0))


def _nearest(family: _Family, denoiser: Component) -> Model | None:
    """The catalog's pipeline whose denoiser has the most similar number of parameters; None if none is near."""
    total = denoiser.parameters.total if denoiser.parameters else 0
    found: list[tuple[int, Model]] = []
    for name in family.models:
        checkpoint = pipeline_catalog.find(ModelRef(model_id=name))
        model = pipeline_of(checkpoint) if checkpoint is not None else None
        own = model.pipeline.denoiser if model is not None and model.pipeline is not None else None
        if model is not None and own is not None and own.parameters is not None:
            found.append((abs(own.parameters.total - total), model))
    if not found:
        return None
    apart, model = min(found, key=lambda pair: pair[0])
    return model if apart <= _NEAR * total else None


def _pipeline(
    checkpoint: Checkpoint,
    family: _Family,
    denoiser: Component,
    parts: dict[str | int, list[TensorInfo]],
    known: Model | None,
) -> Pipeline:
    """The components of the file, under the names and classes of the catalog's pipeline, and what is missing."""
    if known is None or known.pipeline is None:
        others = (_unknown(checkpoint, key, tensors) for key, tensors in parts.items())
        named = replace(_renamed(denoiser, "transformer"), kind="denoiser")
        return Pipeline(class_name=family.cls, components=(named, *others))
    like = known.pipeline
    encoders = like.text_encoders
    found: list[Component] = []
    for key, tensors in parts.items():
        one = like.vae if key == "vae" else _at(encoders, key)
        if one is None:
            found.append(_unknown(checkpoint, key, tensors))
        else:
            listed = Listed(name=one.name, library=one.library, class_name=one.class_name)
            found.append(replace(_read(checkpoint, listed, tensors), config=one.config))
    main = like.denoiser
    if main is not None:
        listed = Listed(name=main.name, library=main.library, class_name=main.class_name)
        found.insert(0, _as(denoiser, main))
    there = {one.name for one in found}
    missing = (one for one in like.components if one.name not in there and one.kind != "safety_checker")
    return Pipeline(
        class_name=like.class_name,
        components=tuple(found),
        settings=like.settings,
        missing=tuple(one for one in missing if one.name != "transformer_2"),
    )


def _at(encoders: Sequence[Component], key: str | int) -> Component | None:
    return encoders[key] if isinstance(key, int) and -len(encoders) <= key < len(encoders) else None


def _as(denoiser: Component, like: Component) -> Component:
    """The denoiser under the name and class of the catalog's, with its config if it has as many parameters."""
    totals = [one.parameters.total if one.parameters is not None else None for one in (denoiser, like)]
    same = totals[0] == totals[1]
    return replace(
        _renamed(denoiser, like.name),
        kind="denoiser",
        library=like.library,
        class_name=like.class_name,
        config=like.config if same else {},
    )


def _unknown(checkpoint: Checkpoint, key: str | int, tensors: Sequence[TensorInfo]) -> Component:
    """A part of which only its place is known."""
    name = key if isinstance(key, str) else ("text_encoder", "text_encoder_2", "text_encoder_3")[key]
    return _read(checkpoint, Listed(name=name, library="", class_name=""), tensors)


def _renamed(component: Component, name: str) -> Component:
    table = component.parameters
    if table is not None:
        table = replace(table, groups=tuple(replace(group, component=name) for group in table.groups))
    return replace(component, name=name, parameters=table)


def _notes(pipeline: Pipeline, known: Model | None) -> Iterator[str]:
    """What the file is, and what is needed besides."""
    like = f", as {known.checkpoint.ref.model_id}" if known is not None else ""
    names = [one.name for one in pipeline.components]
    what = (
        f"the {names[0]} of a {pipeline.class_name} alone" if len(names) == 1 else f"parts of a {pipeline.class_name}"
    )
    if len(names) > 1 and not pipeline.missing:
        what = f"a whole {pipeline.class_name}"
    yield f"This file is {what}{like}, by the names and the number of its tensors."
    if pipeline.missing:
        yield f"Needed besides, and not counted: {', '.join(_sizes(pipeline.missing))}."


def _others(checkpoint: Checkpoint) -> Iterator[str]:
    """Other quantisations of the same repository."""
    among = [choice.quant for choice in offered(checkpoint) if choice.files != checkpoint.weight_files]
    if among:
        first = f"{checkpoint.ref.model_id}:{among[0]}"
        yield f"This is {checkpoint.weight_files[0].name}; others are named as in {first}: {', '.join(among)}."


def _sizes(components: Collection[Component]) -> Iterator[str]:
    for one in components:
        table = one.parameters
        size = (
            ""
            if table is None
            else f", {format_count(table.total)} parameters, {format_bytes(2 * table.total)} in 16 bits"
        )
        yield f"{one.name} ({one.class_name}{size})"
