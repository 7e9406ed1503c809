"""Records fixtures/oracle/audio_towers.json: peaks of audio towers at sizes that no fit has seen, and at real ones.

python -m tests.oracle.audio_towers [TYPE ...]

Real sizes are those of the config classes, which are published models' (Whisper large's encoder), with two windows of
30 seconds and as many layers as `LAYERS`, where further ones add nothing. The bytes alive are counted by other means
than the probe's.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any, Final

RECORDED: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "audio_towers.json"
TABLE: Final = Path(__file__).parents[2] / "hfmem" / "data" / "audio_towers.jsonl"
SEEDS: Final = (101, 102, 103)
DEPTH: Final = 6
LAYERS: Final = 4
WINDOWS: Final = 2


def rows() -> dict[str, dict[str, Any]]:
    """The measured polynomials, by type and attention."""
    lines = map(json.loads, TABLE.read_text(encoding="utf-8").splitlines()[1:])
    return {f"{row['type']} {row['attention']}": row for row in lines}


def small(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Sizes, and bytes at the peak of the real class, with more layers than were fitted."""
    from hfmem.probe import audio_towers

    found = (audio_towers.tried(row["type"], seed, row["attention"], DEPTH) for seed in SEEDS)
    return [{"sizes": dict(one.sizes), "peak": one.peak()} for one in found if one is not None]


def real(row: dict[str, Any]) -> dict[str, Any]:
    """The config that tells of the tower, and bytes at the peak of its forward pass."""
    import torch
    import transformers
    from transformers.initialization import no_init_weights
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from hfmem.probe import audio_towers, towers
    from hfmem.probe.activations.flash import fused_attention
    from tests.oracle import tower_peaks

    config = CONFIG_MAPPING[row["type"]]()
    told = {
        "model_type": row["type"],
        "audio_config": config.audio_config.to_dict(),
        "text_config": {"hidden_size": config.get_text_config().hidden_size},
    }
    audio, text = config.audio_config, config.get_text_config()
    audio.num_hidden_layers = LAYERS
    text.num_hidden_layers, text.vocab_size, config.audio_token_id = 1, 64, 5
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:1]
    positions = getattr(audio, "max_source_positions", None) or audio.max_position_embeddings
    counts = {"b": WINDOWS, "s": positions, "mels": audio.num_mel_bins}
    name = audio_towers.class_of(row["type"])
    with fused_attention(), no_init_weights():
        model = towers.built(getattr(transformers, name), config, row["attention"]).eval()
        inputs = audio_towers.inputs_of(name, config, counts)
        dtype = model.dtype if row["type"] in _HALF else torch.float32
        given = {key: one.to(dtype) if one.is_floating_point() else one for key, one in inputs.items()}
        return {"config": told, "sizes": counts, "peak": tower_peaks.peak(model, given, towers.features(model))}


_HALF: Final = ("audioflamingo3", "glmasr")
"""Types whose class takes frames in the dtype of its weights alone."""


def main() -> int:
    """Record every row, or those of the types that are named."""
    warnings.simplefilter("ignore")
    old = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {"rows": {}, "real": {}}
    for name, row in rows().items():
        if sys.argv[1:] and row["type"] not in sys.argv[1:]:
            continue
        old["rows"][name] = small(row)
        old["real"][name] = real(row)
        print(name, len(old["rows"][name]), old["real"][name]["peak"], flush=True)
        source = json.loads(TABLE.read_text(encoding="utf-8").splitlines()[0])["source"]
        body = {"source": source, "depth": DEPTH, "rows": old["rows"], "real": old["real"]}
        RECORDED.write_text(json.dumps(body, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
