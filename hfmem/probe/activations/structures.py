"""Config keys that make a class run differently; each is measured as a separate row.

Flags that do so cannot be recognised by name: each flag of a class is switched, and if the class then runs differently,
coefficients are solved for (`hfmem.probe.activations.table`). Such a row is named by the type and the keys, in the form
that `hfmem.mapper.sizes.switched_structure` derives from a config: `stablelm qk_layernorm+use_parallel_residual`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from hfmem.mapper.sizes import NULLABLE, OWN_WIDTH, UNGROUPED
from hfmem.probe import tiny
from hfmem.probe.activations.keys import HEADS, KV

__all__ = ["plain", "structures_of", "switched", "without_class"]

# Keys that public configs switch together.
COMBINED: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "falcon": (("alibi", "multi_query", "parallel_attn"), ("alibi", "multi_query")),
    "mbart:MBartForConditionalGeneration": (("activation_function=relu",),),
    "mt5": (("feed_forward_proj=relu",),),
    "opt": (("do_layer_norm_before", "word_embed_proj_dim"),),
    "pegasus:PegasusForConditionalGeneration": (("activation_function=relu",),),
    "phi3": ((UNGROUPED,),),
    "stablelm": (("qk_layernorm", "use_parallel_residual"),),
    "t5": (("feed_forward_proj=gated-gelu",),),
}

_WIDTH: Final = 40  # not equal to any other size of a small config

# Flags on numerics, outputs, initialisation or tying of weights, and kernels: none changes what a layer allocates.
_OTHERWISE: Final = re.compile(
    r"(^_|bias|tie|cache|^is_|^add_cross|^output_|^return_|norm_topk|kernel|_scan$|mambapy|rope|rotary|^mup|scale|init|"
    r"summary|flash|embed(ding)?s?$|_emb$|_emb_|label|loss|sliding_window|elementwise_affine|interleave|exact|compile|"
    r"bidirectional|fp32|float32|interpol|quant|image|audio|video|vision|mtp|overlap|auto_adjust|prefix|mem_eff|spec_augment)"
)


def plain(name: str) -> str:
    """The type in a row's name."""
    return name.partition(" ")[0]


def without_class(name: str) -> str:
    """A row's name without the class."""
    head, space, keys = name.partition(" ")
    return head.partition(":")[0] + space + keys


def structures_of(model_type: str) -> list[str]:
    """The names of additional rows to measure for a type; none for a multimodal type, as its text model has them."""
    _, name = tiny.types()[model_type]
    try:
        built = tiny.build(tiny.shrunk(model_type.partition(":")[0], name))
    except Exception:  # any exception of the class; its own row will report it
        return []
    text = built.get_text_config(decoder=True)
    if text is not built:
        return []
    fields = tiny.fields_of(text)
    single = [key for key, field in fields.items() if isinstance(field.default, bool) and not _OTHERWISE.search(key)]
    single += [key for key in NULLABLE if key in fields and isinstance(fields[key].default, int)]
    single += [key for key in OWN_WIDTH if key in fields]
    single = [] if built.is_encoder_decoder else single
    found = [*((key,) for key in single), *COMBINED.get(model_type, ())]
    return [f"{model_type} {'+'.join(sorted(keys))}" for keys in found]


def switched(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Non-default values for the keys in a row's name."""
    text = _text(config)
    fields = tiny.fields_of(text)
    found: dict[str, Any] = {}
    for key in name.partition(" ")[2].split("+") if " " in name else ():
        if "=" in key:
            word, _, value = key.partition("=")
            found[word] = value
            continue
        if key == UNGROUPED:
            kv, heads = (next(each for each in names if each in fields) for names in (KV, HEADS))
            found[kv] = tiny.value(text, heads)
            continue
        flag = isinstance(fields[key].default, bool)
        found[key] = not fields[key].default if flag else _WIDTH if key in OWN_WIDTH else None
    return found


def _text(config: Mapping[str, Any]) -> Any:
    built = tiny.build(config)
    return tiny.at(built, tiny.text_path(built))
