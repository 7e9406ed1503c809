"""The rules of each processor class, by its name (transformers 5.24, `models/*/processing_*.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hfmem.mapper.media import anyres, clips, fixed, grids, sounds, tiles
from hfmem.mapper.media.values import Ask, ClipRule, PictureRule, SoundRule

__all__ = ["RULES", "Rules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a processor counts each kind of input; None for a kind that it does not take.

    Attributes:
        encoded: whether the tokens are an encoder's, or what a decoder attends to, and not part of its own sequence.
    """

    image: PictureRule | None = None
    video: ClipRule | None = None
    audio: SoundRule | None = None
    encoded: bool = False


def _sequence(ask: Ask) -> int:
    return ask.processor.size("image_seq_length")


def _squares(ask: Ask) -> int:
    """Merged patches of a tile (Aya Vision)."""
    keys = ask.processor
    return (keys.size("img_size") // (keys.size("patch_size") * keys.size("downsample_factor"))) ** 2


def _patches(ask: Ask) -> int:
    """Merged patches of a tile; its processor takes `patch_size` for their number on a side (Cohere 2 Vision)."""
    return ask.image.size("patch_size") ** 2


_QWEN: Final = Rules(image=grids.merged, video=clips.merged)
_QWEN3: Final = Rules(image=grids.merged, video=clips.shared)
_GLM: Final = Rules(image=grids.merged, video=clips.shared)
_GRID: Final = Rules(image=grids.merged)
_INTERN: Final = Rules(image=tiles.tiled(_sequence, tiles.canvas), video=clips.each_frame("image_seq_length"))
_MUSE: Final = clips.stepped(grids.nearest_shape)
_MINICPM: Final = Rules(image=tiles.sliced)

RULES: Final[Mapping[str, Rules]] = {
    "Apertus1p5Processor": Rules(image=grids.shuffled, audio=sounds.sampled("hop_length")),
    "AriaProcessor": Rules(image=fixed.listed),
    "AudioFlamingo3Processor": Rules(audio=sounds.pooled_windows),
    "AyaVisionProcessor": Rules(image=tiles.tiled(_squares, tiles.canvas)),
    "Blip2Processor": Rules(image=fixed.from_config("num_query_tokens")),
    "ChameleonProcessor": Rules(image=fixed.single("image_seq_length")),
    "Cohere2VisionProcessor": Rules(image=tiles.tiled(_patches, tiles.scaled_tiles)),
    "CohereCompassProcessor": _QWEN3,
    "Cosmos3EdgeProcessor": _GLM,
    "DeepseekOcr2Processor": Rules(image=tiles.ocr),
    "DeepseekVLHybridProcessor": Rules(image=fixed.single("num_image_tokens")),
    "DeepseekVLProcessor": Rules(image=fixed.single("num_image_tokens")),
    "Dots3NoteProcessor": Rules(image=grids.merged, video=clips.shared, audio=sounds.chunked),
    "Emu3Processor": Rules(image=grids.reduced),
    "Ernie4_5_VLMoeProcessor": Rules(image=grids.merged, video=clips.in_time),
    "Exaone4_5_Processor": _QWEN,
    "Florence2Processor": Rules(image=fixed.single("image_seq_length"), encoded=True),
    "FunAsrNanoProcessor": Rules(audio=sounds.low_rate),
    "FuyuProcessor": Rules(image=grids.fuyu),
    "Gemma3Processor": Rules(image=fixed.cropped),
    "Gemma3nProcessor": Rules(image=fixed.single("image_seq_length"), audio=sounds.fixed),
    "Gemma4Processor": Rules(image=grids.soft, video=clips.soft, audio=sounds.framed),
    "Gemma4UnifiedProcessor": Rules(
        image=grids.soft, video=clips.soft, audio=sounds.sampled("audio_samples_per_token")
    ),
    "Glm46VProcessor": _GLM,
    "Glm4vProcessor": _GLM,
    "Glm5NextProcessor": Rules(image=grids.merged, video=clips.padded),
    "GlmAsrProcessor": Rules(audio=sounds.merged_windows),
    "GotOcr2Processor": Rules(image=fixed.single("num_image_tokens")),
    "Granite4VisionProcessor": Rules(image=anyres.unpadded),
    "GraniteDoclingProcessor": Rules(image=tiles.documents),
    "GraniteSpeechProcessor": Rules(audio=sounds.blocks),
    "HYV4VLProcessor": Rules(image=grids.lined),
    "HunYuanVLProcessor": Rules(image=grids.ended),
    "HyperCLOVAXVisionV2Processor": _QWEN,
    "Idefics2Processor": Rules(image=fixed.split_in_five),
    "Idefics3Processor": Rules(image=tiles.pages),
    "Inkling2Processor": Rules(image=grids.covered),
    "InklingProcessor": Rules(image=grids.packed, audio=sounds.sampled("hop_length")),
    "InstructBlipProcessor": Rules(image=fixed.from_config("num_query_tokens")),
    "InternVLProcessor": _INTERN,
    "JanusProcessor": Rules(image=fixed.single("num_image_tokens")),
    "Kimi_K25Processor": Rules(image=grids.merged, video=clips.stepped(grids.limited_patches)),
    "Kosmos2Processor": Rules(image=fixed.single("num_image_tokens")),
    "Kosmos2_5Processor": Rules(image=fixed.single("num_image_tokens")),
    "Lfm2VlProcessor": Rules(image=tiles.smart_tiles),
    "Lfm3VlProcessor": _QWEN3,
    "LightOnOcrProcessor": Rules(image=grids.pixtral),
    "Llama4Processor": Rules(image=tiles.halves),
    "LlavaNextProcessor": Rules(image=anyres.unpadded),
    "LlavaNextVideoProcessor": Rules(image=anyres.unpadded, video=clips.halved),
    "LlavaOnevisionProcessor": Rules(image=anyres.limited, video=clips.pooled),
    "LlavaProcessor": Rules(image=fixed.squared),
    "MiniCPMOcrProcessor": _MINICPM,
    "MiniCPMV4_6Processor": _MINICPM,
    "MiniCPMV4_7Processor": _MINICPM,
    "MiniMaxM3VLProcessor": _GRID,
    "MllamaProcessor": Rules(image=fixed.crossed, encoded=True),
    "Molmo2Processor": Rules(image=tiles.overlapped),
    "MossTranscribeDiarizeProcessor": Rules(audio=sounds.seconds_of),
    "MuseGlimmerProcessor": Rules(image=grids.merged, video=_MUSE),
    "MuseSparkProcessor": Rules(image=grids.merged, video=_MUSE, audio=sounds.sampled("samples_per_token")),
    "MusicFlamingoProcessor": Rules(audio=sounds.pooled_windows),
    "NemotronH_Omni_Reasoning_V3Processor": Rules(image=grids.pooled, audio=sounds.embedded),
    "Nemotron3_5TranscribeProcessor": Rules(audio=sounds.subsampled),
    "OmniASRProcessor": Rules(audio=sounds.convolved),
    "Ovis2Processor": Rules(image=tiles.tiled(_sequence, tiles.covering)),
    "PaddleOCRVLProcessor": _GRID,
    "PaliGemmaProcessor": Rules(image=fixed.single("image_seq_length")),
    "PerceptionLMProcessor": Rules(image=tiles.pooled_tiles, video=clips.perceived),
    "Phi4MultimodalProcessor": Rules(image=tiles.masked, audio=sounds.compressed),
    "PixtralProcessor": Rules(image=grids.pixtral),
    "QianfanOCRProcessor": Rules(image=tiles.tiled(_sequence, tiles.canvas)),
    "Qwen2AudioProcessor": Rules(audio=sounds.windowed),
    "Qwen2VLProcessor": _QWEN,
    "Qwen2_5OmniProcessor": Rules(image=grids.merged, video=clips.merged, audio=sounds.windowed),
    "Qwen2_5_VLProcessor": _QWEN,
    "Qwen3ASRProcessor": Rules(audio=sounds.thirteen),
    "Qwen3OmniMoeProcessor": Rules(image=grids.merged, video=clips.merged, audio=sounds.thirteen),
    "Qwen3VLProcessor": _QWEN3,
    "ShieldGemma2Processor": Rules(image=fixed.cropped),
    "SmolVLMProcessor": Rules(image=tiles.pages, video=clips.each_frame("image_seq_len")),
    "Step3p7Processor": Rules(image=tiles.windows),
    "UnlimitedOcrProcessor": Rules(image=tiles.rows_of_tiles),
    "VibeVoiceAsrProcessor": Rules(audio=sounds.sampled("pad_to_multiple_of")),
    "VideoLlama3Processor": _GRID,
    "VideoLlavaProcessor": Rules(image=fixed.squared, video=clips.on_its_own),
    "VoxtralProcessor": Rules(audio=sounds.padded_windows),
    "WhisperProcessor": Rules(audio=sounds.encoded, encoded=True),
}
