"""Quantisation recipes: which modules a tool or engine quantises, and which it skips; one row each.

The recipes of offline tools, which write checkpoints, are here. Those of engines that quantise while loading are in
the engine's package.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

from hfmem.estimator.weights.quantisers import Quantiser, layout
from hfmem.mapper.values import TensorGroup

__all__ = ["RECIPES", "Part", "Recipe", "everything", "fitting", "part_of"]

Part = Literal[
    "attention",
    "mlp",
    "experts",
    "shared_experts",
    "recurrent_inputs",
    "recurrent_gates",
    "recurrent",
    "tower",
    "lm_head",
]
"""The parts of a model that recipes treat differently. Recurrent layers have input projections, gates, and others
(`recurrent`); `tower` stands for all linear layers of vision and audio towers."""

_WORDS: Final[dict[str, str]] = {
    "lm_head": "the head",
    "experts": "the experts",
    "tower": "the vision and audio towers",
    "recurrent_gates": "the gates of recurrent layers",
    "recurrent_inputs": "the inputs of recurrent layers",
    "recurrent": "the rest of recurrent layers",
    "attention": "attention",
    "mlp": "dense feed-forward layers",
    "shared_experts": "shared experts",
}

_TOWERS: Final = {"vision": "the vision tower", "audio": "the audio tower", "projector": "the projector"}
_LEFT_ALONE: Final = {"embedding": "embeddings", "norm": "norms", "router": "routers"}
"""Components that no recipe quantises, with their names in sentences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One way to quantise a model.

    Attributes:
        name: the software, and its scheme where it has several.
        dtype: the value of `--dtype` it belongs to.
        packs: (part, layout) for each part that it quantises; other parts are skipped.
        multiple: both dimensions of a matrix must be multiples of this, else it is skipped.
        biased: whether it quantises modules that have a bias.
        conv1d: whether it quantises transformers' Conv1D as well as `nn.Linear`.
        needs: a part that the model must have for the recipe to make sense; None for any model.
        words: other values of `--dtype` that select this recipe alone.
        loads: whether an engine quantises this way while loading; else an offline tool writes a checkpoint.
        source: where that is from.
    """

    name: str
    dtype: str
    packs: tuple[tuple[Part, str], ...]
    source: str
    multiple: int = 1
    biased: bool = True
    conv1d: bool = True
    needs: Part | None = None
    words: tuple[str, ...] = ()
    loads: bool = False

    def quantiser(self, group: TensorGroup, biased: bool) -> Quantiser | None:
        """How it quantises a group of floating-point tensors; None where it skips them.

        Args:
            group: the tensors.
            biased: whether their modules have a bias.
        """
        part = part_of(group)
        found = next((name for packed, name in self.packs if packed == part), None)
        if found is None or (biased and not self.biased):
            return None
        if any(size % self.multiple for size in group.shape[-2:]):
            return None
        return layout(found)

    def leaves(self, groups: Iterable[TensorGroup]) -> str:
        """The parts of a model that it skips, in words."""
        packed = {part for part, _ in self.packs}
        there = {part for group in groups if group.loaded and (part := part_of(group))}
        left = [words for part, words in _WORDS.items() if part in there - packed and part != "tower"]
        components = {group.component for group in groups if group.loaded}
        left += [words for name, words in _TOWERS.items() if name in components and "tower" not in packed]
        return ", ".join((*left, *(words for name, words in _LEFT_ALONE.items() if name in components)))


def part_of(group: TensorGroup) -> Part | None:
    """The part that a matrix belongs to; None for tensors that no recipe quantises."""
    if group.component == "lm_head":
        return "lm_head" if len(group.shape) == 2 else None
    if not group.linear or group.scale:
        return None
    if group.component == "state":
        return group.recurrent_part
    if group.component in ("vision", "audio", "projector"):
        return "tower"
    parts: dict[str, Part] = {
        "attention": "attention",
        "mlp": "mlp",
        "experts": "experts",
        "shared_experts": "shared_experts",
    }
    return parts.get(group.component, "mlp")


_LINEAR: Final[tuple[Part, ...]] = (
    "attention",
    "mlp",
    "experts",
    "shared_experts",
    "recurrent_inputs",
    "recurrent_gates",
    "recurrent",
    "tower",
)


def everything(name: str, *, but: Iterable[Part] = ()) -> tuple[tuple[Part, str], ...]:
    """All linear parts in one layout, except those in `but`."""
    left = set(but)
    return tuple((part, name) for part in _LINEAR if part not in left)


def fitting(
    recipes: Iterable[Recipe], dtype: str, word: str, groups: Iterable[TensorGroup], *, conv1d: bool = False
) -> tuple[Recipe, ...]:
    """The recipes that `--dtype` may stand for with a model, adapted to its class.

    Args:
        recipes: the recipes of an engine.
        dtype: the quantiser's name.
        word: the requested `--dtype`, which may name a tool.
        groups: the model's tensors.
        conv1d: whether the class uses Conv1D in place of `nn.Linear`.
    """
    there = {part_of(group) for group in groups if group.loaded}
    found = [row for row in recipes if row.dtype == dtype and (row.needs is None or row.needs in there)]
    meant = [row for row in found if word in row.words] or found
    return tuple(row if row.conv1d or not conv1d else _head_alone(row) for row in meant)


def _head_alone(recipe: Recipe) -> Recipe:
    """The recipe for a class whose only `nn.Linear` is the head."""
    return replace(recipe, packs=tuple((part, name) for part, name in recipe.packs if part == "lm_head"))


_LLM_COMPRESSOR: Final = (
    "llm-compressor 0.14: targets Linear, and published recipes ignore lm_head, re:.*mlp.gate$, re:visual.*"
)
_MODELOPT: Final = (
    "nvidia-modelopt 0.47, modelopt_recipes/configs/ptq/units/default_disabled_quantizers.yaml: *lm_head*, *router*, "
    "*linear_attn.in_proj_a*, *linear_attn.in_proj_b*, *visual*, mtp.*"
)

RECIPES: Final[tuple[Recipe, ...]] = (
    Recipe(
        name="ModelOpt NVFP4",
        dtype="nvfp4",
        packs=everything("nvfp4", but=("recurrent_gates", "tower")),
        source=_MODELOPT,
    ),
    Recipe(
        name="ModelOpt NVFP4 without the inputs of recurrent layers",
        dtype="nvfp4",
        packs=everything("nvfp4", but=("recurrent_gates", "recurrent_inputs", "tower")),
        needs="recurrent_inputs",
        source="quantization_config.ignore of Inferact/Qwen3.8-27B-NVFP4: conv1d and in_proj_{a,b,qkv,z}",
    ),
    Recipe(
        name="ModelOpt NVFP4 with attention in FP8",
        dtype="nvfp4",
        packs=(
            ("mlp", "nvfp4"),
            ("experts", "nvfp4"),
            ("shared_experts", "nvfp4"),
            ("lm_head", "nvfp4"),
            ("attention", "fp8 tensors"),
            ("recurrent_inputs", "fp8 tensors"),
            ("recurrent", "fp8 tensors"),
        ),
        needs="recurrent_gates",
        source="ModelOpt's recipe nvfp4_w4a4_mlp_fp8_attn (Model-Optimizer pull request 2363), nvidia/Qwen3.8-27B",
    ),
    Recipe(
        name="ModelOpt NVFP4, experts only",
        dtype="nvfp4",
        packs=(("experts", "nvfp4"),),
        needs="experts",
        source="modelopt_recipes/presets/model/nvfp4_experts_only.yaml; nvidia/Kimi-K2.5-NVFP4",
    ),
    Recipe(
        name="compressed-tensors NVFP4",
        dtype="nvfp4",
        packs=everything("nvfp4", but=("tower",)),
        conv1d=False,
        source=_LLM_COMPRESSOR,
    ),
    Recipe(
        name="AutoRound W4A16",
        dtype="int4",
        packs=everything("int4", but=("recurrent_gates", "tower")),
        multiple=32,
        words=("autoround", "auto-round"),
        source="auto-round 0.16: quant_lm_head and quant_nontext_module are False; layers with a dimension that is not "
        "a multiple of 32 are skipped",
    ),
    Recipe(
        name="AutoAWQ",
        dtype="int4",
        packs=everything("int4", but=("recurrent_gates", "tower")),
        words=("awq", "awq-int4"),
        source="autoawq 0.2.9, models/base.py: linear modules of the decoder's layers",
    ),
    Recipe(
        name="GPTQModel",
        dtype="int4",
        packs=everything("int4", but=("recurrent_gates", "tower")),
        words=("gptq", "gptq-int4"),
        source="gptqmodel 7.7: lm_head=False; definitions/qwen3_5.py leaves in_proj_a and in_proj_b",
    ),
    Recipe(
        name="compressed-tensors W4A16",
        dtype="int4",
        packs=everything("int4 symmetric", but=("tower",)),
        words=("w4a16",),
        conv1d=False,
        source=_LLM_COMPRESSOR,
    ),
    Recipe(
        name="ModelOpt FP8",
        dtype="fp8",
        packs=everything("fp8 tensors", but=("recurrent_gates", "tower")),
        source=_MODELOPT,
    ),
    Recipe(
        name="compressed-tensors FP8_DYNAMIC",
        dtype="fp8",
        packs=everything("fp8", but=("tower",)),
        conv1d=False,
        source=_LLM_COMPRESSOR,
    ),
    Recipe(
        name="compressed-tensors W8A8",
        dtype="int8",
        packs=everything("int8", but=("tower",)),
        conv1d=False,
        source=_LLM_COMPRESSOR,
    ),
)
"""Recipes of offline tools, which write quantised checkpoints."""
