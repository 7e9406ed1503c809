"""Records fixtures/oracle/media.json: tokens of images, videos and sound as the real processors count them.

    python -m tests.oracle.media [TYPE ...]

Images are made of one colour, as counts depend on sizes alone. A placeholder in the processor's text stands for one
feature that the tower hands to the decoder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

RECORDED: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "media.json"

SIZES: Final[tuple[tuple[tuple[int, int], ...], ...]] = (
    ((28, 28),),
    ((5, 9),),
    ((224, 224),),
    ((333, 517),),
    ((640, 480),),
    ((1024, 1024),),
    ((2048, 1536),),
    ((1537, 2049),),
    ((4100, 3000),),
    ((1900, 150),),
    ((150, 1900),),
    ((777, 999),),
    ((640, 480), (333, 517)),
    ((1280, 720), (1280, 720), (31, 64)),
)
"""Width and height of the images of a prompt."""

SECONDS: Final = (0.1, 0.5, 1.0, 3.33, 10.0, 20.02, 29.99, 30.0, 31.0, 61.7, 100.0, 300.0)
CLIPS: Final = ((2, 224, 224), (4, 640, 480), (7, 333, 517), (16, 1280, 720), (32, 640, 360), (64, 224, 224))
"""Frames, and width and height of each."""

VARIANTS: Final[Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]] = {
    # settings as published files have them: of the processor, of its image class
    "aria 490": ({}, {"max_image_size": 490}),
    "blip-2": ({"num_query_tokens": 32}, {}),
    "instructblip": ({"num_query_tokens": 32}, {}),
    "florence2": ({}, {"image_seq_length": 577}),
    "gemma3": ({}, {"size": {"height": 896, "width": 896}}),
    "idefics2": ({}, {"do_image_splitting": True}),
    "idefics3": ({"image_seq_len": 169}, {"size": {"longest_edge": 1456}}),
    "internvl": ({}, {"size": {"height": 448, "width": 448}}),
    "llava": (
        {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
        {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}},
    ),
    "llava_next": (
        {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
        {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}},
    ),
    "llava_next_video": (
        {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
        {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}},
    ),
    "llava_onevision": ({"num_image_tokens": 729, "vision_feature_select_strategy": "full"}, {}),
    "granite4_vision": (
        {"patch_size": 16, "vision_feature_select_strategy": "full", "downsample_rate": "4/8"},
        {
            "size": {"height": 384, "width": 384},
            "crop_size": {"height": 384, "width": 384},
            "image_grid_pinpoints": [[384, 768], [384, 1152], [768, 384], [768, 768], [1152, 384]],
        },
    ),
    "lfm2_vl": ({}, {}),
    "mistral3": ({"patch_size": 14, "spatial_merge_size": 2}, {"patch_size": 14, "size": {"longest_edge": 1540}}),
    "lighton_ocr": ({}, {"patch_size": 28, "size": {"longest_edge": 1540}}),
    "ovis2 tiles": ({}, {"crop_to_patches": True, "size": {"height": 448, "width": 448}, "max_patches": 9}),
    "paligemma": ({}, {"image_seq_length": 1024, "size": {"height": 448, "width": 448}}),
    "perception_lm": ({"patch_size": 14}, {}),
    "qwen2_5_vl file": ({}, {"min_pixels": 3136, "max_pixels": 12845056}),
    "qwen3_vl": ({}, {"patch_size": 16, "size": {"shortest_edge": 65536, "longest_edge": 16777216}}),
    "smolvlm": ({"image_seq_len": 64}, {"size": {"longest_edge": 2048}, "max_image_size": {"longest_edge": 512}}),
    "idefics3 whole": ({}, {"do_image_splitting": False}),
    "vipllava": (
        {"patch_size": 14, "vision_feature_select_strategy": "full", "num_additional_image_tokens": 0},
        {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}},
    ),
    "video_llava": ({"patch_size": 14, "num_additional_image_tokens": 1}, {}),
}

_PLACEHOLDERS: Final = {
    "AyaVisionProcessor": "<|IMG_PATCH|>",
    "Llama4Processor": "<|patch|>",
    "Molmo2Processor": "<im_patch>",
    "Ovis2Processor": "<IMG_ATOM>",
}
"""The placeholder of a feature, where it is not the one that stands for an image in a prompt."""


def main() -> int:
    """Record the types that are named, or all."""
    kept = json.loads(RECORDED.read_text(encoding="utf-8"))["rows"] if RECORDED.exists() else []
    found = {row["name"]: row for row in kept}
    for name in sys.argv[1:] or list(names()):
        try:
            row = measure(name)
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {str(error).strip()[:160]}", file=sys.stderr)
            continue
        if any(row.get(part) for part in ("images", "sounds", "clips")):
            found[name] = row
            print(name, *(f"{part} {len(row.get(part, ()))}" for part in ("images", "sounds", "clips")))
    body = {
        "source": f"the processors of transformers {version('transformers')}",
        "rows": [found[name] for name in sorted(found)],
    }
    RECORDED.write_text(json.dumps(body, indent=None, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")
    return 0


def names() -> Iterator[str]:
    """Every type that has a rule, and the variants."""
    from hfmem.mapper.media.count import _table
    from hfmem.mapper.media.table import RULES

    types = [model_type for model_type, row in _table()[0].items() if row.get("processor") in RULES]
    yield from sorted({*types, *VARIANTS})


def measure(name: str) -> dict[str, Any]:
    """One row: settings, and tokens of every image, clip and sound; None for those that the class refuses."""
    from hfmem.mapper.media.table import RULES

    model_type = name.partition(" ")[0]
    own, image = VARIANTS.get(name, ({}, {}))
    processor = build(model_type, own, image)
    row: dict[str, Any] = {"name": name, "type": model_type, "processor": own, "image": image}
    if hasattr(processor, "image_processor") and type(processor).__name__ != "MllamaProcessor":
        row["images"] = [_images(processor, sizes) for sizes in SIZES]
    if hasattr(processor, "replace_audio_token") and model_type != "voxtral" and processor._audio_processor is not None:
        row["sounds"] = [_guarded(_sound, processor, seconds) for seconds in SECONDS]
    if hasattr(processor, "video_processor") and RULES[type(processor).__name__].video is not None:
        row["clips"] = [_guarded(_clip, processor, clip) for clip in CLIPS]
    for part in ("images", "sounds", "clips"):
        if part in row and all(one is None for one in row[part]):
            del row[part]
    return row


def build(model_type: str, own: Mapping[str, Any], image: Mapping[str, Any]) -> Any:
    """The real processor of a type, around a tokenizer of words."""
    import inspect

    import transformers

    from hfmem.mapper.media.count import _table

    row = _table()[0][model_type]
    names = {"image_processor": "image", "video_processor": "video"}
    own_word = model_type in ("blip-2", "instructblip")
    parts: dict[str, Any] = {
        "tokenizer": words(without_images=own_word),
        "qformer_tokenizer": words(),
        "alignment_tokenizer": words(),
    }
    for part, key in names.items():
        if key in row:
            # a video class without a file of its own reads the images'
            parts[part] = getattr(transformers, row[key])(**image)
    if model_type == "nemotron_h_omni":
        parts["feature_extractor"] = transformers.ParakeetFeatureExtractor()
    if "audio" in row:
        parts["feature_extractor"] = parts["audio_processor"] = getattr(transformers, row["audio"])()
    found = getattr(transformers, row["processor"])
    taken = inspect.signature(found.__init__).parameters
    return found(**{key: part for key, part in parts.items() if key in taken}, **own)


def words(*, without_images: bool = False) -> Any:
    """A tokenizer that has a word for every name of a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    class Words(PreTrainedTokenizerFast):  # type: ignore[misc]
        def __getattr__(self, name: str) -> Any:
            if name == "image_token" and without_images:  # classes that add a word of their own
                raise AttributeError(name)
            if name.endswith("_token") and not name.startswith("_"):
                return f"<{name.removesuffix('_token')}>"
            if name.endswith("_token_id"):
                return self.convert_tokens_to_ids(getattr(self, name.removesuffix("_id")))
            return super().__getattr__(name)

    known = (
        "<unk>",
        "|SPEAKER|",
        "|NEWLINE|",
        "<image>",
        "<boi>",
        "<eoi>",
        "<pad>",
        "<bos>",
        "<eos>",
        "<fake_token_around_image>",
    )
    base = Tokenizer(models.WordLevel({word: number for number, word in enumerate(known)}, unk_token="<unk>"))
    base.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    found = Words(tokenizer_object=base, unk_token="<unk>", pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")
    found.add_special_tokens({"additional_special_tokens": list(known[1:])})
    return found


def _placeholder(processor: Any, kind: str) -> str:
    name = type(processor).__name__
    if kind == "image" and name in _PLACEHOLDERS:
        return _PLACEHOLDERS[name]
    if name in ("Gemma3Processor", "ShieldGemma2Processor", "Gemma3nProcessor"):
        return str(getattr(processor.tokenizer, f"{kind}_token"))
    return str(getattr(processor, f"{kind}_token"))


def _guarded(measure: Any, processor: Any, what: Any) -> int | None:
    try:
        return int(measure(processor, what))
    except (ValueError, NotImplementedError, TypeError, RuntimeError, IndexError, KeyError, AttributeError):
        return None


def _images(processor: Any, sizes: tuple[tuple[int, int], ...]) -> int | None:
    return _guarded(_of_images, processor, sizes)


def _of_images(processor: Any, sizes: tuple[tuple[int, int], ...]) -> int:
    from PIL import Image

    images = [Image.new("RGB", size, (120, 80, 40)) for size in sizes]
    name = type(processor).__name__
    if name in ("Blip2Processor", "InstructBlipProcessor", "Idefics2Processor"):
        total = 0
        for image in images:
            token = str(processor.image_token)
            ids = processor(images=image, text=token if name == "Idefics2Processor" else "a")["input_ids"]
            total += ids[0].count(processor.tokenizer.convert_tokens_to_ids(token))
        return total
    passed = {**processor._merge_kwargs(tokenizer_init_kwargs={})["images_kwargs"]}
    passed["return_tensors"] = "pt" if name == "Ovis2Processor" else passed.get("return_tensors")
    if name in ("Kosmos2Processor", "Kosmos2_5Processor"):
        return len(images) * int(processor.num_image_tokens)
    if name == "NemotronH_Omni_Reasoning_V3Processor":
        made = processor.image_processor(images=images, return_tensors="pt")
        texts = [processor.replace_image_token(made, number) for number in range(len(images))]
    else:
        if name == "Lfm2VlProcessor":
            passed["use_image_special_tokens"] = True
        if name in ("Idefics3Processor", "SmolVLMProcessor", "GraniteDoclingProcessor", "LlavaOnevisionProcessor"):
            images = [images]
        _, texts = processor._process_images(images, **passed)
    return sum(text.count(_placeholder(processor, "image")) for text in texts)


def _clip(processor: Any, clip: tuple[int, int, int]) -> int:
    import numpy as np

    frames, width, height = clip
    video = np.full((frames, height, width, 3), 90, dtype=np.uint8)
    passed = {**processor._merge_kwargs(tokenizer_init_kwargs={})["videos_kwargs"], "do_sample_frames": False}
    passed["return_metadata"] = True
    if type(processor).__name__ == "Ernie4_5_VLMoeProcessor":
        passed["draw_on_frames"] = False  # it needs a font that is no part of the package
    from transformers.video_utils import VideoMetadata

    told = VideoMetadata(total_num_frames=frames, fps=2, frames_indices=list(range(frames)), duration=frames / 2)
    _, texts = processor._process_videos([video], video_metadata=[told], **passed)
    kind = "image" if type(processor).__name__ in ("SmolVLMProcessor", "InternVLProcessor") else "video"
    counted = sum(text.count(_placeholder(processor, kind)) for text in texts)
    if not counted and type(processor).__name__.startswith("Glm"):
        counted = sum(text.count(_placeholder(processor, "image")) for text in texts)
    return counted


def _sound(processor: Any, seconds: float) -> int:
    import numpy as np

    passed = processor._merge_kwargs(tokenizer_init_kwargs={})["audio_kwargs"]
    rate = int(processor._audio_processor.sampling_rate)
    samples = np.zeros(int(seconds * rate), dtype=np.float32)
    if type(processor).__name__ == "NemotronH_Omni_Reasoning_V3Processor":
        *_, counts = processor._process_audio([samples], passed)
        return int(counts[0])
    if type(processor).__name__ == "MossTranscribeDiarizeProcessor":
        passed["return_tensors"] = "pt"
    _, texts = processor._process_audio([samples], **passed)
    return sum(text.count(_placeholder(processor, "audio")) for text in texts)


if __name__ == "__main__":
    sys.exit(main())
