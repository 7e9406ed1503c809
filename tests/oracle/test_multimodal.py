"""Models of several parts, and encoder-decoders, against the classes they describe."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("torch")

from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hfmem.mapper.blueprint import Blueprint
from hfmem.mapper.facts import Facts
from hfmem.mapper.families import reader, types_of
from hfmem.mapper.families.multimodal import WHOLES
from tests.mapper.windows import elements
from tests.oracle.reference import classes, configuration, parameters
from tests.oracle.wholes import TOKENS, changed, kept, speaker, variants, whole

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

# Types that cannot be built or run here, and why.
NOT_RUN = {
    "emu3": "its configuration has no vocabulary of images by itself",
    "gemma3n": "its vision tower is timm's",
    "glmga": "it has no modeling file of its own: it is glm46v",
    "pp_chart2table": "it has no modeling file of its own: it is got_ocr2",
    "perception_lm": "its vision tower is timm's",
    "qwen2_5_omni": "the whole generates only; its thinker is measured",
    "qwen3_omni_moe": "the whole generates only; its thinker is measured",
    "qwen4_exp": "its text model needs keys of its own, and is measured with them",
}
MODULES = ("multimodal", "bart", "t5", "vit", "git", "gemma4", "llama4", "mllama")
TYPES = sorted((types_of(*MODULES) & set(CONFIG_MAPPING)) - set(NOT_RUN))

# Types that are not run: they keep nothing, refuse text without an image, name an output that their text model does not
# have (llama4 of 5.24), or need some weights in float32 (whose text model is in test_states.py).
SILENT = {"deit", "llama4", "vit", "yolos", "blip-2", "inkling2", "instructblip", "instructblipvideo"}

# Types whose towers are not described: their weights are unknown, not wrong.
UNDESCRIBED = {name for name, spec in WHOLES.items() if spec.others is None}

# Classes whose heads are not described.
HEADS = (
    "ForCausalLM",
    "ForAudioClassification",
    "ForMaskedImageModeling",
    "ForImageTextRetrieval",
    "ModelWithProjection",
)

# Flags that change nothing in memory, or not the model itself.
IGNORED = {"is_encoder_decoder", "use_cache", "is_decoder", "add_cross_attention", "return_dict", "use_prompt"}


def blueprint(config: dict[str, Any]) -> Blueprint:
    read = reader(config["model_type"])
    assert read is not None
    return read(Facts(config))


def flags(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The configuration with each flag of it, and of each part, the other way round."""
    config_class = CONFIG_MAPPING[config["model_type"]]
    places = [("", config["model_type"])]
    places += [(key, config[key]["model_type"]) for key in config_class.sub_configs_defaults if config.get(key)]
    for key, model_type in places:
        for field in dataclasses.fields(CONFIG_MAPPING[model_type]):
            if isinstance(field.default, bool) and field.name not in IGNORED and field.name != "enable_moe_block":
                yield changed(config, key, {field.name: not field.default})


def described(name: str, model_type: str) -> bool:
    text = model_type in types_of("gemma4", "llama4", "mllama") or model_type in {"fuyu", "git"}
    text = text or (model_type in types_of("bart") and name.endswith("ForCausalLM"))
    return model_type not in UNDESCRIBED and (text or not name.endswith(HEADS))


@pytest.mark.parametrize("model_type", TYPES)
def test_every_class_of_the_type_has_as_many_parameters(model_type: str) -> None:
    for name in classes(model_type):
        if "Pretrained" in name:
            continue
        config = {**whole(model_type), "architectures": [name], "num_labels": 3}
        found = blueprint(config).parameters
        assert (found is not None) == described(name, model_type), name
        if found is not None:
            assert found.total == parameters(config), name


@pytest.mark.parametrize("model_type", sorted(set(TYPES) - UNDESCRIBED))
def test_every_flag_and_variant_has_as_many_parameters(model_type: str) -> None:
    name = speaker(model_type)
    for config in [*flags(whole(model_type)), *variants(model_type)]:
        config["architectures"] = [name]
        try:
            expected = parameters(config)
        except (ValueError, TypeError, AttributeError, RuntimeError):
            continue  # the class itself refuses it
        found = blueprint(config).parameters
        assert found is None or found.total == expected, config
        assert found is not None or model_type == "ovis2", config


@pytest.mark.parametrize("model_type", TYPES)
def test_a_file_that_says_everything_and_one_that_leaves_out_defaults_agree(model_type: str) -> None:
    config = {**whole(model_type), "architectures": [speaker(model_type)]}
    full, found = blueprint(configuration(config).to_dict()), blueprint(config)
    assert full.architecture.layers == found.architecture.layers
    assert (full.parameters and full.parameters.total) == (found.parameters and found.parameters.total)


@pytest.mark.parametrize("model_type", sorted(set(TYPES) - SILENT))
def test_the_cache_holds_as_much(model_type: str) -> None:
    for config in variants(model_type):
        config["architectures"] = [speaker(model_type)]
        layers = blueprint(config).architecture.layers
        assert layers is not None
        measured, source = kept(config)
        expected = elements(layers, TOKENS, source)
        assert [*measured, *[0] * (len(layers) - len(measured))] == expected, config
