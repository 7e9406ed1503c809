"""Writes `hfmem/data/timm_models.jsonl`: timm's models in the catalog, from the real classes on PyTorch's meta device.

    python -m hfmem.probe.timm.catalog

A line has the config.json that timm writes beside the weights (`timm.models.save_for_hf`), as far as it says what is
built, and the tensors of the class, statistics of batch normalisations among them. timm's weights are float32.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any, Final

import torch

from hfmem.fetcher.patterns import compress
from hfmem.probe.timm.installed import timm
from hfmem.probe.timm.measuring import versions

__all__ = ["MODELS", "TARGET", "entry", "main"]

TARGET: Final = Path(__file__).parent.parent.parent / "data" / "timm_models.jsonl"

_NAMES: Final = """
beit_base_patch16_224.in22k_ft_in22k_in1k coatnet_0_rw_224.sw_in1k convnext_base.fb_in22k_ft_in1k
convnext_large.fb_in22k convnext_small.fb_in22k convnext_tiny.fb_in22k convnext_tiny.in12k_ft_in1k
convnextv2_base.fcmae_ft_in22k_in1k convnextv2_nano.fcmae_ft_in22k_in1k convnextv2_tiny.fcmae_ft_in22k_in1k
deit_base_patch16_224.fb_in1k deit_small_patch16_224.fb_in1k deit_tiny_patch16_224.fb_in1k
deit3_base_patch16_224.fb_in1k densenet121.ra_in1k densenet201.tv_in1k efficientnet_b0.ra_in1k
efficientnet_b3.ra2_in1k eva02_base_patch14_448.mim_in22k_ft_in22k_in1k eva02_large_patch14_448.mim_m38m_ft_in22k_in1k
fastvit_t8.apple_in1k ghostnet_100.in1k hiera_tiny_224.mae_in1k_ft_in1k hrnet_w18.ms_aug_in1k inception_v3.tv_in1k
inception_v4.tf_in1k maxvit_tiny_tf_224.in1k mixer_b16_224.goog_in21k_ft_in1k mobilenetv2_100.ra_in1k
mobilenetv3_large_100.ra_in1k mobilenetv3_small_100.lamb_in1k mobilenetv4_conv_medium.e500_r256_in1k
mobilenetv4_conv_small.e2400_r224_in1k mobilevit_s.cvnets_in1k nfnet_l0.ra2_in1k regnety_032.ra_in1k
regnety_160.swag_ft_in1k repvgg_a2.rvgg_in1k resnet101.a1h_in1k resnet152.a1h_in1k resnet18.a1_in1k
resnet18.fb_swsl_ig1b_ft_in1k resnet34.a1_in1k resnet50.a1_in1k resnet50.ram_in1k resnet50.tv_in1k resnet50d.ra2_in1k
resnetv2_50x1_bit.goog_in21k resnext50_32x4d.a1h_in1k seresnext50_32x4d.racm_in1k
swin_base_patch4_window7_224.ms_in22k_ft_in1k swin_large_patch4_window12_384.ms_in22k_ft_in1k
swin_small_patch4_window7_224.ms_in22k_ft_in1k swin_tiny_patch4_window7_224.ms_in1k swinv2_base_window8_256.ms_in1k
swinv2_tiny_window8_256.ms_in1k tf_efficientnet_b0.ns_jft_in1k tf_efficientnet_b7.ns_jft_in1k
tf_efficientnetv2_m.in21k_ft_in1k tf_efficientnetv2_s.in21k_ft_in1k vgg16.tv_in1k vgg19.tv_in1k
vit_base_patch14_dinov2.lvd142m vit_base_patch16_224.augreg2_in21k_ft_in1k vit_base_patch16_224.augreg_in21k
vit_base_patch16_clip_224.openai vit_base_patch16_dinov3.lvd1689m vit_base_patch16_siglip_224.webli
vit_base_patch32_clip_224.laion2b vit_giant_patch14_dinov2.lvd142m vit_huge_patch14_clip_224.laion2b
vit_large_patch14_clip_336.openai vit_large_patch14_dinov2.lvd142m vit_large_patch14_reg4_dinov2.lvd142m
vit_large_patch16_224.augreg_in21k_ft_in1k vit_large_patch16_dinov3.lvd1689m vit_small_patch14_dinov2.lvd142m
vit_small_patch16_224.augreg_in21k_ft_in1k vit_so400m_patch14_siglip_384.webli
vit_tiny_patch16_224.augreg_in21k_ft_in1k wide_resnet50_2.racm_in1k xception41.tf_in1k
"""

MODELS: Final = tuple(_NAMES.split())
"""Their names in timm; on the Hub each is `timm/` and this."""

_DTYPES: Final = {torch.float32: "F32", torch.int64: "I64"}


def entry(name: str) -> dict[str, Any]:
    """The line of a model.

    Raises:
        KeyError: a tensor is of another number format.
    """
    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False)
    trained = model.pretrained_cfg
    rows = [(key, _DTYPES[tensor.dtype], tuple(tensor.shape)) for key, tensor in model.state_dict().items()]
    architecture, _, tag = name.partition(".")
    own = {"tag": tag, "input_size": list(trained["input_size"])}
    fixed = {"fixed_input_size": True} if trained.get("fixed_input_size") else {}
    return {
        "model": f"timm/{name}",
        "config": {
            "architecture": architecture,
            "num_classes": model.num_classes,
            "num_features": model.num_features,
            "pretrained_cfg": {**own, **fixed},
        },
        "tensors": [[pattern, dtype, list(shape)] for pattern, dtype, shape in compress(rows)],
    }


def main() -> int:
    """Write the table; those that timm does not have are told, and left out."""
    warnings.simplefilter("ignore")
    known = set(timm.list_pretrained())
    lines = [json.dumps({"source": versions()}, separators=(",", ":"))]
    for name in sorted(MODELS):
        if name in known:
            lines.append(json.dumps(entry(name), separators=(",", ":")))
        else:
            print(f"{name}: timm has no such weights", file=sys.stderr)
    TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines) - 1} models, {TARGET.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
