"""What each class of diffusers is given in a call, by the sizes of the call and the config.

`H` and `W` are sizes of the latents, `F` frames of the latents, `T` tokens of the text, `B` the batch of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from hfmem.probe.diffusers.fitting import Call

__all__ = [
    "Config",
    "Tensors",
    "allegro",
    "audio",
    "cascade",
    "chatglm",
    "chroma",
    "clip",
    "cogvideo",
    "controlnet",
    "cosmos",
    "ernie",
    "fibo",
    "flux",
    "flux2",
    "flux_controlnet",
    "glm_image",
    "hidream",
    "hunyuan",
    "hunyuan15",
    "hunyuan_image",
    "hunyuandit",
    "i2vgen",
    "ids",
    "image",
    "kandinsky5",
    "krea2",
    "latents",
    "ltx",
    "lumina_next",
    "mask",
    "masked",
    "omnigen",
    "packed",
    "pair",
    "pixart",
    "pixels",
    "prior",
    "qwen",
    "qwen_controlnet",
    "sana_controlnet",
    "sd3",
    "sizes",
    "svd",
    "text",
    "true",
    "unet",
    "unet_frames",
    "union",
    "vace",
    "video",
    "wan_animate",
    "z_image",
]

Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tensors:
    """Makes the inputs of one call."""

    call: Call
    config: Mapping[str, Any]
    dtype: torch.dtype

    def __call__(self, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=self.dtype)

    def single(self, *shape: int) -> torch.Tensor:
        """In float32."""
        return torch.empty(shape, dtype=torch.float32)

    def whole(self, *shape: int) -> torch.Tensor:
        """Of integers."""
        return torch.zeros(shape, dtype=torch.long)

    def flags(self, *shape: int) -> torch.Tensor:
        """Of booleans."""
        return torch.ones(shape, dtype=torch.bool)


def packed(t: Tensors, c: Call, g: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Latents as patches of 2 x 2 in a row, with positions."""
    n, axes = c.height * c.width // 4, len(g.get("axes_dims_rope") or (1, 2, 3))
    return {
        "hidden_states": t(c.batch, n, g["in_channels"]),
        "encoder_hidden_states": t(c.batch, c.text, g["joint_attention_dim"]),
        "timestep": t(c.batch),
        "img_ids": t(n, axes),
        "txt_ids": t(c.text, axes),
        **more,
    }


def flux(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    guided = {"guidance": t.single(c.batch)} if g.get("guidance_embeds") else {}
    return packed(t, c, g, pooled_projections=t(c.batch, g["pooled_projection_dim"]), **guided)


def flux2(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    # patches of the latents are four channels each already; positions for each image of the batch
    n = c.height * c.width // 4
    guided = {"guidance": t.single(c.batch)} if g.get("guidance_embeds") else {}
    return {
        "hidden_states": t(c.batch, n, g["in_channels"]),
        "encoder_hidden_states": t(c.batch, c.text, g["joint_attention_dim"]),
        "timestep": t(c.batch),
        "img_ids": t.whole(c.batch, n, 4),
        "txt_ids": t.whole(c.batch, c.text, 4),
        **guided,
    }


def image(text: str, **more: Callable[[Tensors, Call, Mapping[str, Any]], Any]) -> Callable[..., dict[str, Any]]:
    """Latents of an image, text in as many dimensions as the key `text` says, and more inputs."""

    def inputs(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "hidden_states": t(c.batch, g["in_channels"], c.height, c.width),
            "encoder_hidden_states": t(c.batch, c.text, g[text]),
            "timestep": t(c.batch),
            **{name: make(t, c, g) for name, make in more.items()},
        }

    return inputs


def video(text: str, **more: Callable[[Tensors, Call, Mapping[str, Any]], Any]) -> Callable[..., dict[str, Any]]:
    def inputs(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "hidden_states": t(c.batch, g["in_channels"], c.frames, c.height, c.width),
            "encoder_hidden_states": t(c.batch, c.text, g[text]),
            "timestep": t.whole(c.batch),
            **{name: make(t, c, g) for name, make in more.items()},
        }

    return inputs


def pair(t: Tensors, c: Call, _g: Mapping[str, Any]) -> torch.Tensor:
    return t(c.batch, 2)


def mask(t: Tensors, c: Call, _g: Mapping[str, Any]) -> torch.Tensor:
    return t.whole(c.batch, c.text)


def true(t: Tensors, c: Call, _g: Mapping[str, Any]) -> torch.Tensor:
    return t.flags(c.batch, c.text)


def cogvideo(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "hidden_states": t(c.batch, c.frames, g["in_channels"], c.height, c.width),
        "encoder_hidden_states": t(c.batch, c.text, g["text_embed_dim"]),
        "timestep": t.whole(c.batch),
    }
    if g.get("use_rotary_positional_embeddings"):
        n = c.frames * c.height * c.width // 4 // (g.get("patch_size_t") or 1)
        found["image_rotary_emb"] = tuple(t.single(n, g["attention_head_dim"]) for _ in range(2))
    return found


def pixart(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    more = g["use_additional_conditions"]
    if more is None:
        more = g["sample_size"] == 128
    conditions = (
        {"resolution": t(c.batch, 2), "aspect_ratio": t(c.batch, 1)}
        if more
        else {"resolution": None, "aspect_ratio": None}
    )
    return {
        "hidden_states": t(c.batch, g["in_channels"], c.height, c.width),
        "encoder_hidden_states": t(c.batch, c.text, g["caption_channels"]),
        "timestep": t(c.batch),
        "added_cond_kwargs": conditions,
        "encoder_attention_mask": t.whole(c.batch, c.text),
    }


def hunyuandit(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    n = c.height * c.width // 4
    return {
        "hidden_states": t(c.batch, g["in_channels"], c.height, c.width),
        "timestep": t(c.batch),
        "encoder_hidden_states": t(c.batch, 77, g["cross_attention_dim"]),
        "text_embedding_mask": t.whole(c.batch, 77),
        "encoder_hidden_states_t5": t(c.batch, 256, g["cross_attention_dim_t5"]),
        "text_embedding_mask_t5": t.whole(c.batch, 256),
        "image_meta_size": t(c.batch, 6),
        "style": t.whole(c.batch),
        "image_rotary_emb": tuple(t.single(n, g["attention_head_dim"]) for _ in range(2)),
    }


def lumina_next(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    half = g["hidden_size"] // g["num_attention_heads"] // 2
    return {
        "hidden_states": t(c.batch, g["in_channels"], c.height, c.width),
        "timestep": t(c.batch),
        "encoder_hidden_states": t(c.batch, c.text, g["cross_attention_dim"]),
        "encoder_mask": t.whole(c.batch, c.text),
        "image_rotary_emb": torch.empty(384, 384, half, dtype=torch.complex64),
        "cross_attention_kwargs": {},
    }


def chroma(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return packed(t, c, g, attention_mask=t.flags(c.batch, c.text + c.height * c.width // 4))


def qwen(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hidden_states": t(c.batch, c.height * c.width // 4, g["in_channels"]),
        "encoder_hidden_states": t(c.batch, c.text, g["joint_attention_dim"]),
        "timestep": t(c.batch),
        "img_shapes": [[(1, c.height // 2, c.width // 2)]] * c.batch,
    }


def ltx(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hidden_states": t(c.batch, c.frames * c.height * c.width, g["in_channels"]),
        "encoder_hidden_states": t(c.batch, c.text, g["caption_channels"]),
        "timestep": t.whole(c.batch),
        "encoder_attention_mask": t.whole(c.batch, c.text),
        "num_frames": c.frames,
        "height": c.height,
        "width": c.width,
        "rope_interpolation_scale": (0.32, 32, 32),
    }


def kandinsky5(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    channels = g["in_visual_dim"] * 2 + 1 if g["visual_cond"] else g["in_visual_dim"]
    return {
        "hidden_states": t(c.batch, c.frames, c.height, c.width, channels),
        "encoder_hidden_states": t(c.batch, c.text, g["in_text_dim"]),
        "timestep": t(c.batch),
        "pooled_projections": t(c.batch, g["in_text_dim2"]),
        "visual_rope_pos": [torch.arange(c.frames), torch.arange(c.height // 2), torch.arange(c.width // 2)],
        "text_rope_pos": torch.arange(c.text),
    }


def z_image(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "x": [t(g["in_channels"], 1, c.height, c.width) for _ in range(c.batch)],
        "t": t(c.batch),
        "cap_feats": [t(c.text, g["cap_feat_dim"]) for _ in range(c.batch)],
    }


def unet(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "sample": t(c.batch, g["in_channels"], c.height, c.width),
        "timestep": t.whole(),
        "encoder_hidden_states": t(c.batch, c.text, g.get("encoder_hid_dim") or g["cross_attention_dim"]),
    }
    if g.get("addition_embed_type") == "text_time":
        ids = 6 if g["projection_class_embeddings_input_dim"] != 2560 else 5
        pooled = g["projection_class_embeddings_input_dim"] - ids * g["addition_time_embed_dim"]
        found["added_cond_kwargs"] = {"text_embeds": t(c.batch, pooled), "time_ids": t(c.batch, ids)}
    if g.get("num_class_embeds"):
        found["class_labels"] = t.whole(c.batch)
    return found


def controlnet(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **unet(t, c, g),
        "controlnet_cond": t(c.batch, g["conditioning_channels"], c.height * 8, c.width * 8),
    }


def union(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    """One of the kinds of conditions that it knows."""
    found = controlnet(t, c, g)
    return {
        **found,
        "controlnet_cond": [found["controlnet_cond"]],
        "control_type": t(c.batch, g["num_control_type"]),
        "control_type_idx": [0],
    }


def flux_controlnet(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {**flux(t, c, g), "controlnet_cond": t(c.batch, c.height * c.width // 4, g["in_channels"])}


def qwen_controlnet(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    channels = g["in_channels"] + g["extra_condition_channels"]
    return {**qwen(t, c, g), "controlnet_cond": t(c.batch, c.height * c.width // 4, channels)}


def sana_controlnet(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    found = image("caption_channels", encoder_attention_mask=mask)(t, c, g)
    return {**found, "controlnet_cond": t(c.batch, g["in_channels"], c.height, c.width)}


def sd3(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **image("joint_attention_dim")(t, c, g),
        "pooled_projections": t(c.batch, g["pooled_projection_dim"]),
    }


def hidream(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    """The text of T5, and that of each layer of Llama."""
    return {
        "hidden_states": t(c.batch, g["in_channels"], c.height, c.width),
        "timesteps": t(c.batch),
        "encoder_hidden_states_t5": t(c.batch, c.text, g["caption_channels"][0]),
        "encoder_hidden_states_llama3": t(max(g["llama_layers"]) + 1, c.batch, c.text, g["caption_channels"][1]),
        "pooled_embeds": t(c.batch, g["text_emb_dim"]),
    }


def omnigen(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    """Text and latents in one sequence, with a mask of all tokens by all tokens and without input images."""
    length = c.text + 1 + c.height * c.width // g["patch_size"] ** 2
    return {
        "hidden_states": t(c.batch, g["in_channels"], c.height, c.width),
        "timestep": t(c.batch),
        "input_ids": t.whole(c.batch, c.text),
        "input_img_latents": [],
        "input_image_sizes": {},
        "attention_mask": t.single(c.batch, length, length),
        "position_ids": t.whole(c.batch, length),
    }


def glm_image(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    n = c.height * c.width // g["patch_size"] ** 2
    return {
        **image("text_embed_dim", target_size=pair, crop_coords=pair)(t, c, g),
        "prior_token_id": t.whole(c.batch, n),
        "prior_token_drop": t.flags(c.batch, n),
    }


def i2vgen(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    """The latents of the image for each frame, and what CLIP sees in it."""
    return {
        **unet_frames(t, c, g),
        "fps": t.whole(c.batch),
        "image_latents": t(c.batch, g["in_channels"], c.frames, c.height, c.width),
        "image_embeddings": t(c.batch, g["cross_attention_dim"]),
    }


def unet_motion(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    """The text of each frame."""
    return {**unet_frames(t, c, g), "encoder_hidden_states": t(c.batch * c.frames, c.text, g["cross_attention_dim"])}


def kandinsky3(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "sample": t(c.batch, g["in_channels"], c.height, c.width),
        "timestep": t.whole(),
        "encoder_hidden_states": t(c.batch, c.text, g["encoder_hid_dim"]),
        "encoder_attention_mask": t(c.batch, c.text),
    }


def unet_frames(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "sample": t(c.batch, g["in_channels"], c.frames, c.height, c.width),
        "timestep": t.whole(),
        "encoder_hidden_states": t(c.batch, c.text, g["cross_attention_dim"]),
    }


def svd(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "sample": t(c.batch, c.frames, g["in_channels"], c.height, c.width),
        "timestep": t.whole(),
        "encoder_hidden_states": t(c.batch, 1, g["cross_attention_dim"]),
        "added_time_ids": t(c.batch, 3),
    }


def cascade(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "sample": t(c.batch, g["in_channels"], c.height, c.width),
        "timestep_ratio": t(c.batch),
        "clip_text_pooled": t(c.batch, 1, g["clip_text_pooled_in_channels"]),
    }
    if g.get("clip_text_in_channels"):
        found["clip_text"] = t(c.batch, c.text, g["clip_text_in_channels"])
    if g.get("clip_image_in_channels"):
        found["clip_img"] = t(c.batch, 1, g["clip_image_in_channels"])
    if g.get("effnet_in_channels"):
        found["effnet"] = t(c.batch, g["effnet_in_channels"], c.height * 3 // 32 or 1, c.width * 3 // 32 or 1)
    return found


def hunyuan(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        **video("text_embed_dim", encoder_attention_mask=mask)(t, c, g),
        "pooled_projections": t(c.batch, g["pooled_projection_dim"]),
    }
    if g["guidance_embeds"]:
        found["guidance"] = t(c.batch)
    return found


_PIXELS, _RATE = 8, 24  # frames of one latent, and of a second
_SOUND = 25  # latents of a second of sound


def ltx2(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    """A video with as much sound as it is long."""
    sound = round((_PIXELS * (c.frames - 1) + 1) / _RATE * _SOUND)
    return {
        "hidden_states": t(c.batch, c.frames * c.height * c.width, g["in_channels"]),
        "audio_hidden_states": t(c.batch, sound, g["audio_in_channels"]),
        "encoder_hidden_states": t(c.batch, c.text, g["caption_channels"]),
        "audio_encoder_hidden_states": t(c.batch, c.text, g["caption_channels"]),
        "timestep": t(c.batch),
        "sigma": t(c.batch),
        "encoder_attention_mask": t.whole(c.batch, c.text),
        "audio_encoder_attention_mask": t.whole(c.batch, c.text),
        "num_frames": c.frames,
        "height": c.height,
        "width": c.width,
        "audio_num_frames": sound,
    }


def cosmos(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **video("text_embed_dim")(t, c, g),
        "hidden_states": t(c.batch, g["in_channels"], c.frames, c.height, c.width),
        "fps": 24,
        "padding_mask": t(1, 1, c.height * 8, c.width * 8),
    }


def allegro(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **video("caption_channels", encoder_attention_mask=mask)(t, c, g),
        "attention_mask": t.whole(c.batch, c.frames, c.height, c.width),
    }


def audio(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    length = c.height * c.width
    return {
        "hidden_states": t(c.batch, g["in_channels"], length),
        "timestep": t(c.batch),
        "encoder_hidden_states": t(c.batch, c.text, g["cross_attention_input_dim"]),
        "global_hidden_states": t(c.batch, 1, g["global_states_input_dim"]),
        "rotary_embedding": tuple(t.single(length + 1, g["attention_head_dim"] // 2) for _ in range(2)),
    }


def prior(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hidden_states": t(c.batch, g["embedding_dim"]),
        "timestep": t.whole(),
        "proj_embedding": t(c.batch, g["embedding_dim"]),
        "encoder_hidden_states": t(c.batch, g["num_embeddings"], g["embedding_dim"]),
    }


def sizes(t: Tensors, c: Call, g: Mapping[str, Any], text: str) -> dict[str, Any]:
    return image(text, original_size=pair, target_size=pair, crop_coords=pair)(t, c, g)


def vace(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    control = t(c.batch, g["vace_in_channels"], c.frames, c.height, c.width)
    return {**video("text_dim")(t, c, g), "control_hidden_states": control}


_FACE, _SEEN, _STEP = 512, 257, 4  # pixels of a face along a side, tokens of CLIP's image, frames of a latent


def wan_animate(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    """A segment after a frame of the character, with its poses and the faces of all its frames."""
    faces = _STEP * (c.frames - 1) + 1
    return {
        **video("text_dim")(t, c, g),
        "hidden_states": t(c.batch, g["in_channels"], c.frames + 1, c.height, c.width),
        "encoder_hidden_states_image": t(c.batch, _SEEN, g["image_dim"]),
        "pose_hidden_states": t(c.batch, g["latent_channels"], c.frames, c.height, c.width),
        "face_pixel_values": t(c.batch, 3, faces, _FACE, _FACE),
    }


def krea2(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    n = c.height * c.width // 4
    return {
        "hidden_states": t(c.batch, n, g["in_channels"]),
        "encoder_hidden_states": t(c.batch, c.text, g["num_text_layers"], g["text_hidden_dim"]),
        "timestep": t(c.batch),
        "position_ids": t.whole(c.text + n, 3),
    }


def ernie(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hidden_states": t(c.batch, g["in_channels"], c.height // 2, c.width // 2),
        "timestep": t(c.batch),
        "text_bth": t(c.batch, c.text, g["text_in_dim"]),
        "text_lens": t.whole(c.batch),
    }


def hunyuan_image(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    found = image("text_embed_dim", encoder_attention_mask=mask)(t, c, g)
    if g["guidance_embeds"]:
        found["guidance"] = t(c.batch)
    return found


def hunyuan15(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **video("text_embed_dim", encoder_attention_mask=mask)(t, c, g),
        "encoder_hidden_states_2": t(c.batch, 256, g["text_embed_2_dim"]),
        "encoder_attention_mask_2": t.whole(c.batch, 256),
        "image_embeds": t(c.batch, 729, g["image_embed_dim"]),
    }


def fibo(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    layers = [t(c.batch, c.text, g["text_encoder_dim"]) for _ in range(g["num_layers"] + g["num_single_layers"])]
    return packed(t, c, g, text_encoder_layers=layers)


def text(c: Call) -> int:
    return c.text


def latents(
    key: str, video: bool, still: bool, name: str = "z"
) -> Callable[[Tensors, Call, Mapping[str, Any]], dict[str, Any]]:
    def inputs(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
        frames = (c.frames,) if video else (1,) if still else ()
        timed = {"temb": t(c.batch)} if g.get("timestep_conditioning") else {}
        return {name: t(c.batch, g[key], *frames, c.height, c.width), **timed}

    return inputs


def pixels(
    scale: int, step: int, video: bool, still: bool, channels: int = 0
) -> Callable[[Tensors, Call, Mapping[str, Any]], dict[str, Any]]:
    def inputs(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
        frames = ((c.frames - 1) * step + 1,) if video else (1,) if still else ()
        return {
            "x": t(
                c.batch,
                channels or (3 if g.get("patch_size") else g.get("in_channels") or 3),
                *frames,
                c.height * scale,
                c.width * scale,
            )
        }

    return inputs


def ids(t: Tensors, c: Call, _g: Mapping[str, Any]) -> dict[str, Any]:
    return {"input_ids": t.whole(c.batch, c.text)}


def clip(t: Tensors, c: Call, _g: Mapping[str, Any]) -> dict[str, Any]:
    """Pipelines take the last layer but one."""
    return {"input_ids": t.whole(c.batch, c.text), "output_hidden_states": True}


def chatglm(t: Tensors, c: Call, g: Mapping[str, Any]) -> dict[str, Any]:
    """Pipelines take the last layer but one, and number the positions themselves."""
    return {**masked(t, c, g), "position_ids": t.whole(c.batch, c.text), "output_hidden_states": True}


def masked(t: Tensors, c: Call, _g: Mapping[str, Any]) -> dict[str, Any]:
    return {"input_ids": t.whole(c.batch, c.text), "attention_mask": t.whole(c.batch, c.text)}
