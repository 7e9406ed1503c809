"""Audio towers of multimodal models: all of their weights, with component `audio`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hfmem.mapper.blueprint import linear, weight
from hfmem.mapper.facts import Facts
from hfmem.mapper.families._blocks import Block, UndescribedError, blocks, norms
from hfmem.mapper.values import TensorGroup

__all__ = ["EARS", "ear"]


def ear(facts: Facts) -> list[TensorGroup]:
    """All weights of an audio tower.

    Raises:
        UndescribedError: there is no reader for its type.
    """
    read = EARS.get(facts.model_type)
    if read is None:
        raise UndescribedError
    return read(facts)


def _convolutions(facts: Facts, hidden: int) -> list[TensorGroup]:
    """Two convolutions with kernel size 3."""
    return [
        *weight("audio", "conv1", hidden, facts.integer("num_mel_bins"), 3),
        *weight("audio", "conv2", hidden, hidden, 3),
        *weight("audio", "conv.bias", hidden, count=2),
    ]


def _stack(facts: Facts, *, key_bias: bool = False) -> list[TensorGroup]:
    hidden = facts.integer("d_model", "hidden_size")
    b = Block(hidden=hidden, inner=facts.integer("encoder_ffn_dim", "intermediate_size"), key_bias=key_bias)
    return blocks("audio", b, facts.integer("encoder_layers", "num_hidden_layers")) + norms("audio", hidden)


def _whisper(facts: Facts) -> list[TensorGroup]:
    """The encoder in modeling_whisper.py, also used by Qwen2-Audio, Voxtral and Audio Flamingo."""
    hidden = facts.integer("d_model", "hidden_size")
    return [
        *_convolutions(facts, hidden),
        *weight("audio", "embed_positions", facts.integer("max_source_positions"), hidden),
        *_stack(facts),
    ]


def _glm(facts: Facts) -> list[TensorGroup]:
    """modeling_glmasr.py: rotary positions, grouped-query attention."""
    hidden, heads = facts.integer("hidden_size"), facts.integer("num_attention_heads")
    kv = hidden // heads * facts.integer("num_key_value_heads", default=heads)
    b = Block(hidden=hidden, inner=facts.integer("intermediate_size"), kv=kv, key_bias=False)
    layers = facts.integer("num_hidden_layers")
    return _convolutions(facts, hidden) + blocks("audio", b, layers) + norms("audio", hidden)


def _qwen2_5_omni(facts: Facts) -> list[TensorGroup]:
    """modeling_qwen2_5_omni.py: sinusoidal positions, embeddings of begin and end of audio, and a projection."""
    hidden, width = facts.integer("d_model"), facts.integer("output_dim")
    return [
        *_convolutions(facts, hidden),
        *_stack(facts),
        *weight("audio", "audio_bos_eos_token", 2, width),
        *linear("projector", "proj", width, hidden, bias=True),
    ]


def _qwen3(facts: Facts) -> list[TensorGroup]:
    """modeling_qwen3_asr.py and modeling_qwen3_omni_moe.py: three 2D convolutions over frequency and time."""
    hidden, channels = facts.integer("d_model"), facts.integer("downsample_hidden_size")
    bins = facts.integer("num_mel_bins")
    for _ in range(3):  # each convolution has stride 2
        bins = (bins + 1) // 2
    return [
        *weight("audio", "conv2d1", channels, 1, 3, 3),
        *weight("audio", "conv2d", channels, channels, 3, 3, count=2),
        *weight("audio", "conv2d.bias", channels, count=3),
        *linear("audio", "conv_out", hidden, channels * bins),
        *_stack(facts, key_bias=True),
    ]


def _qwen3_omni(facts: Facts) -> list[TensorGroup]:
    """modeling_qwen3_omni_moe.py: the same encoder followed by two projections."""
    hidden, width = facts.integer("d_model"), facts.integer("output_dim")
    return [
        *_qwen3(facts),
        *linear("projector", "proj1", hidden, hidden, bias=True),
        *linear("projector", "proj2", width, hidden, bias=True),
    ]


def _gemma4(facts: Facts) -> list[TensorGroup]:
    """modeling_gemma4.py: two convolutions, then a Conformer."""
    hidden, layers = facts.integer("hidden_size"), facts.integer("num_hidden_layers")
    heads, kernel = facts.integer("num_attention_heads"), facts.integer("conv_kernel_size")
    first, second = facts.integers("subsampling_conv_channels")
    width = facts.integer("output_proj_dims")
    return [
        *weight("audio", "layer0.conv", first, 1, 3, 3),
        *weight("audio", "layer1.conv", second, first, 3, 3),
        *norms("audio", first, bias=False),
        *norms("audio", second, bias=False),
        # as in the class, which takes the first convolution's channels for the number of mel bins; two strides of 2
        *linear("audio", "input_proj_linear", hidden, (first // 4) * second),
        *linear("audio", "ffw_layer_1", 4 * hidden, hidden, count=2 * layers),
        *linear("audio", "ffw_layer_2", hidden, 4 * hidden, count=2 * layers),
        *linear("audio", "attention", hidden, hidden, count=5 * layers),
        *weight("audio", "per_dim_scale", hidden // heads, count=layers),
        *linear("audio", "linear_start", 2 * hidden, hidden, count=layers),
        *linear("audio", "linear_end", hidden, hidden, count=layers),
        *weight("audio", "depthwise_conv1d", hidden, 1, kernel, count=layers),
        *norms("audio", hidden, count=9 * layers, bias=False),
        *linear("projector", "output_proj", width, hidden, bias=True),
    ]


EARS: Final[dict[str, Callable[[Facts], list[TensorGroup]]]] = {
    "audioflamingo3_encoder": _whisper,
    "gemma4_audio": _gemma4,
    "glmasr_encoder": _glm,
    "moss_transcribe_diarize_audio": _whisper,
    "qwen2_5_omni_audio_encoder": _qwen2_5_omni,
    "qwen2_audio_encoder": _whisper,
    "qwen3_asr_audio_encoder": _qwen3,
    "qwen3_asr_encoder": _qwen3,
    "qwen3_omni_moe_audio_encoder": _qwen3_omni,
    "voxtral_encoder": _whisper,
}
