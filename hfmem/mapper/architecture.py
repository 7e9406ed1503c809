"""The architecture that a config describes: by the reader of its model type, plus keys that all types share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from hfmem.dtypes import find_dtype
from hfmem.errors import InvalidConfigError, shortened
from hfmem.fetcher.values import Checkpoint
from hfmem.mapper.blueprint import Blueprint
from hfmem.mapper.context import context_of
from hfmem.mapper.defaults import ConfigClass, config_class
from hfmem.mapper.facts import Facts, MissingFactError
from hfmem.mapper.families import reader
from hfmem.mapper.networks import MODEL_TYPE, network_of
from hfmem.mapper.packing import declared_cache_dtype
from hfmem.mapper.rotary import rotary_rows
from hfmem.mapper.tensor_plans import tensor_plan
from hfmem.mapper.values import Architecture

__all__ = ["blueprint_of", "finished"]


def blueprint_of(checkpoint: Checkpoint) -> Blueprint:
    """The layers and weights that a checkpoint's config describes, as far as it can be read."""
    if checkpoint.config is None:
        return Blueprint(architecture=Architecture(model_type=None, unknown="there is no config.json"), groups=None)
    if checkpoint.gated and not checkpoint.tensors:
        # the Hub publishes only part of a gated config.json; class defaults must not stand in for the rest
        model_type = checkpoint.config.get("model_type")
        architecture = Architecture(
            model_type=model_type[:_LONGEST_NAME] if isinstance(model_type, str) else None,
            unknown="config.json of a gated model cannot be read without access",
        )
        return Blueprint(architecture=architecture, groups=None)
    if network_of(checkpoint.config) is not None:  # no layer caches anything
        return Blueprint(architecture=Architecture(model_type=MODEL_TYPE, layers=()), groups=None)
    return _read(checkpoint.config)


def _read(config: Mapping[str, Any]) -> Blueprint:
    """The blueprint from the model type's reader; without a reader, or if a key is missing, an architecture with
    unknown layers and the reason."""
    facts = Facts(config)
    if not facts.model_type:
        return _unknown(facts, "config.json has no model_type")
    try:
        return _by_reader(facts, config) or _unknown(facts, f"the model_type '{facts.model_type}' is not supported yet")
    except MissingFactError as error:
        return _unknown(facts, f"config.json lacks '{error.key}', which '{facts.model_type}' needs")
    except InvalidConfigError as error:
        return _unknown(facts, f"in config.json, {error.reason}")
    except ZeroDivisionError:
        zeros = " or ".join(list(_zeros(config))[:_MOST_ZEROS]) or "a size"
        return _unknown(facts, f"in config.json, {zeros} is 0, and '{facts.model_type}' divides by it")
    except (OverflowError, IndexError, TypeError, ValueError):
        return _unknown(facts, f"config.json has values that are impossible for '{facts.model_type}'")


def _by_reader(facts: Facts, config: Mapping[str, Any]) -> Blueprint | None:
    read = reader(facts.model_type)
    if read is not None:
        return read(facts)
    from hfmem.mapper import generic  # for types without a reader only

    return generic.read(config)


_MOST_ZEROS: Final = 4


def _zeros(config: Mapping[str, Any], part: str = "") -> Iterator[str]:
    """Keys with the value 0, at the root and in nested configs."""
    for key, value in config.items():
        if type(value) is int and value == 0:
            yield f"{part}{key}"
        elif isinstance(value, Mapping) and not part:
            yield from _zeros(value, f"{key}.")


def _unknown(facts: Facts, reason: str) -> Blueprint:
    """An architecture with the sizes at common keys; layers and weights are unknown."""
    text = facts.part("text_config", "llm_config", "language_config") or facts
    architecture = Architecture(
        model_type=facts.model_type or None,
        hidden_size=_size(text, "hidden_size", "n_embd", "d_model"),
        vocab_size=_size(text, "vocab_size"),
        max_positions=_size(text, "max_position_embeddings", "n_positions"),
        attention_heads=_size(text, "num_attention_heads", "n_head"),
        intermediate_size=_size(text, "intermediate_size"),
        experts=_size(text, "num_experts", "n_routed_experts", "num_local_experts"),
        experts_per_token=_size(text, "num_experts_per_tok", "moe_topk"),
        layer_count=_size(text, "num_hidden_layers", "n_layer", "num_layers"),
        unknown=shortened(reason),
    )
    return Blueprint(architecture=architecture, groups=None)


def _size(facts: Facts, *keys: str) -> int | None:
    try:
        return facts.optional_integer(*keys)
    except InvalidConfigError:
        return None


_LONGEST_NAME: Final = 80  # characters of a class name or model type
_LARGEST_CHUNK: Final = 2**20  # tokens; real configs have 64 to 512
_MOST_CLASSES: Final = 16  # names in `architectures`, of which real configs have one or two


def finished(architecture: Architecture, config: Mapping[str, Any], types: Sequence[str]) -> Architecture:
    """The architecture with the facts that all types take from the same keys: class names, dtypes, context length, and
    the tp_plan of the class."""
    classes = config.get("architectures")
    names = classes if isinstance(classes, list) else []
    listed = tuple(name[:_LONGEST_NAME] for name in names[:_MOST_CLASSES] if isinstance(name, str))
    rows = partial(rotary_rows, config, architecture.max_positions, kinds=_rotary_kinds(types))
    return replace(
        architecture,
        architectures=listed,
        tensor_plan=tensor_plan(types, listed),
        dtype=_run_dtype(config),
        kv_dtype=declared_cache_dtype(config),
        overflows=architecture.model_type in _OVERFLOWING,
        conv1d=architecture.model_type in _CONV1D,
        state_dtype=architecture.state_dtype or _state_dtype(config),
        prediction_layers=_prediction_layers(config),
        state_chunk=_state_chunk(config),
        tower=_tower(config),
        rotary_rows=rows(),
        longer_rotary_rows=rows(longer=True),
        context=context_of(config, architecture.max_positions),
    )


def _rotary_kinds(types: Sequence[str]) -> tuple[str, ...]:
    """Kinds of layers to which the text model's class gives rotary positions of their own."""
    known = (config_class(model_type) for model_type in types)
    return next((found.rotary for found in known if found is not None and found.rotary), ())


_OVERFLOWING: Final = ("gemma2", "gemma3", "gemma3_text", "glm4")
"""Types whose activations overflow float16 (vLLM 0.19.0 to 0.33.0, config/model.py, _FLOAT16_NOT_SUPPORTED_MODELS)."""

_CONV1D: Final = ("clvp_decoder", "decision_transformer", "gpt-sw3", "gpt2", "imagegpt", "openai-gpt")
"""Types whose classes use `pytorch_utils.Conv1D` in place of `nn.Linear` (transformers 5.24)."""


def _state_dtype(config: Mapping[str, Any]) -> str | None:
    """The dtype of recurrent states in a config, at its root or in `text_config`."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        for key in ("mamba_ssm_cache_dtype", "mamba_ssm_dtype"):
            name = part.get(key)
            found = find_dtype(name) if isinstance(name, str) else None
            if found is not None:
                return found.name
    return None


_MOST_PREDICTED: Final = 64  # layers; real configs have 1 to 3


def _prediction_layers(config: Mapping[str, Any]) -> int:
    """The layers that predict further tokens, at the root of a config or in `text_config`: the keys that vLLM 0.33.0
    reads (`config/speculative.py::hf_config_override`). Qwen3-Next has one, and no key for it."""
    text = config.get("text_config")
    for part in (text if isinstance(text, Mapping) else {}, config):
        for key in ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules", "num_mtp_layers"):
            found = part.get(key)
            if isinstance(found, int) and not isinstance(found, bool) and 0 <= found <= _MOST_PREDICTED:
                return found
    return 1 if config.get("model_type") == "qwen3_next" else 0


def _state_chunk(config: Mapping[str, Any]) -> int | None:
    """The tokens that a state-space kernel handles at once, at the root of a config or in `text_config`."""
    text = config.get("text_config")
    for part in (text if isinstance(text, Mapping) else {}, config):
        for key in ("mamba_chunk_size", "chunk_size"):
            found = part.get(key)
            if isinstance(found, int) and 0 < found <= _LARGEST_CHUNK:
                return found
    return None


_LARGEST_TOWER: Final = 2**20  # layers, hidden size; real towers have up to 63 and 8192
_TOWER: Final = (("num_hidden_layers", 24), ("hidden_size", 1024))
_TOWER_OF_KIMI: Final = "vt_"  # before its keys, which SGLang's own config class calls as others do


def _tower(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Layers and hidden size of the vision tower under the only keys that SGLang reads
    (`adjust_mem_fraction_for_vlm`): a tower that has others counts as one of 24 layers or of 1,024."""
    vision = config.get("vision_config")
    if not isinstance(vision, Mapping):
        return None
    kind = vision.get("model_type")
    absent = any(key not in vision for key, _ in _TOWER)
    known = config_class(kind) if isinstance(kind, str) and absent else None
    layers, hidden = (_tower_size(vision, key, usual, known) for key, usual in _TOWER)
    return layers, hidden


def _tower_size(vision: Mapping[str, Any], key: str, usual: int, known: ConfigClass | None) -> int:
    """A size of the tower: the config's, else the class's default, else the one that SGLang assumes."""
    default = known.defaults.get(key) if known else None
    for value in (vision.get(key), vision.get(_TOWER_OF_KIMI + key), default):
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _LARGEST_TOWER:
            return value
    return usual


def _run_dtype(config: Mapping[str, Any]) -> str | None:
    """The floating-point dtype in a config, at its root or in the text model's config."""
    parts = [
        config,
        *(
            part
            for key in ("text_config", "llm_config", "thinker_config")
            if isinstance(part := config.get(key), Mapping)
        ),
    ]
    for part in parts:
        for key in ("dtype", "torch_dtype"):
            name = part.get(key)
            found = find_dtype(name) if isinstance(name, str) else None
            if found is not None and found.is_wide_float:
                return found.name
    return None
