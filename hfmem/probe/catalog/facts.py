"""The config keys that the catalog keeps: all that sizes, layers or stored formats depend on."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, Final

__all__ = ["facts", "read_config"]

# Labels, token ids, decoding, dropout, numerics of training and bookkeeping, which no size depends on. `num_labels` is
# kept, as it is a dimension of a classification head.
_DROPPED: Final = re.compile(
    r"""^_ | _token_ids?$ | _token_index$ | (?<!per)_token$ | dropout | drop_path | layerdrop | layer_drop | pdrop$
    | _drop$ | droprate | _eps(ilon)?$ | ^eps$ | init(ializer)?_(range|factor|std) | initializer | ^init_ | _coef$
    | loss
    | ^output_(attentions|hidden_states|scores|router_logits|past|loading_info)$ | ^return_ | ^mask_ | ^summary_
    | ^(label2id|id2label|finetuning_task|task_specific_params|problem_type|transformers_version|auto_map|pruned_heads
    |torchscript|use_bfloat16|tokenizer_class|prefix|bad_words_ids|suppress_tokens|begin_suppress_tokens|max_length
    |min_length|num_beams|num_beam_groups|num_return_sequences|temperature|top_p|typical_p|do_sample|early_stopping
    |length_penalty|diversity_penalty|repetition_penalty|no_repeat_ngram_size|encoder_no_repeat_ngram_size
    |remove_invalid_values|exponential_decay_length_penalty|forced_decoder_ids|custom_pipelines
    |chunk_size_feed_forward|support_languages|use_cache|pretraining_tp|time_step_limit|rescale_prenorm_residual
    |router_jitter_noise|apply_spec_augment|median_filter_width|use_return_dict|gradient_checkpointing
    |attn_implementation)$""",
    re.VERBOSE,
)
_DECODING: Final = {
    "top_p",
    "typical_p",
    "num_beams",
    "do_sample",
}  # next to one of these, `top_k` is a decoding key, otherwise it may count experts


def read_config(folder: Path) -> dict[str, Any]:
    """The config in a repository's folder; without a `quantization_config`, it gets that of `hf_quant_config.json`."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    extra = folder / "hf_quant_config.json"
    if extra.exists() and not config.get("quantization_config"):
        config["quantization_config"] = json.loads(extra.read_text(encoding="utf-8"))
    return config


def facts(config: dict[str, Any]) -> dict[str, Any]:
    """The config without keys that no size depends on; values are unchanged, including nulls."""
    kept = {}
    for key, value in config.items():
        if _DROPPED.search(key) or (key == "top_k" and _DECODING & config.keys()):
            continue
        if isinstance(value, float) and not math.isfinite(value):
            continue  # standard JSON has no Infinity, and no size is infinite
        kept[key] = facts(value) if isinstance(value, dict) else value
    return kept
