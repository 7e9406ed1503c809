"""Batches of sentences that sentence-transformers encodes for real, and the most that is alive beside weights.

`python -m tests.oracle.sentences` writes `fixtures/oracle/sentences.json` (needs the package `sentence-transformers`).
"""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

__all__ = ["CASES", "FIXTURE", "measured"]

FIXTURE: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "sentences.json"

_SIZES: Final[dict[str, Any]] = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 64,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "pad_token_id": 1,
    "torch_dtype": "float32",
}

CASES: Final[dict[str, dict[str, Any]]] = {
    "bert, mean": {"class": "BertModel", "type": "bert", "pooling": "mean", "batch": 32, "seq": 128},
    "bert, first token, normalised": {
        "class": "BertModel",
        "type": "bert",
        "pooling": "cls",
        "normalise": True,
        "batch": 8,
        "seq": 256,
    },
    "xlm-roberta, mean": {
        "class": "XLMRobertaModel",
        "type": "xlm-roberta",
        "pooling": "mean",
        "batch": 16,
        "seq": 200,
    },
    "mpnet, mean": {"class": "MPNetModel", "type": "mpnet", "pooling": "mean", "batch": 16, "seq": 128},
    "distilbert, mean": {
        "class": "DistilBertModel",
        "type": "distilbert",
        "pooling": "mean",
        "batch": 16,
        "seq": 128,
        "own": {"dim": 128, "hidden_dim": 512, "n_layers": 4, "n_heads": 4},
    },
    "qwen3, last token": {
        "class": "Qwen3Model",
        "type": "qwen3",
        "pooling": "lasttoken",
        "batch": 8,
        "seq": 128,
        "own": {"num_key_value_heads": 2, "head_dim": 32},
    },
}
"""Per case: the class, how its tokens are pooled, sentences at once and their tokens."""


def config_of(case: dict[str, Any]) -> dict[str, Any]:
    """Its config.json."""
    return {**_SIZES, "model_type": case["type"], "architectures": [case["class"]], **case.get("own", {})}


def measured(case: dict[str, Any]) -> int:
    """Bytes that are alive at the highest moment of `SentenceTransformer.encode`, without weights and buffers."""
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers

    from hfmem.probe.activations.tracer import Tracer

    with tempfile.TemporaryDirectory() as folder:
        config = transformers.AutoConfig.for_model(
            case["type"], **{key: value for key, value in config_of(case).items() if key != "model_type"}
        )
        getattr(transformers, case["class"])(config).save_pretrained(folder)
        words = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "a": 2}, unk_token="[UNK]"))
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", model_max_length=case["seq"]
        )
        tokenizer.save_pretrained(folder)
        encoder = Transformer(folder, max_seq_length=case["seq"])
        pooling = Pooling(config.hidden_size, pooling_mode=case["pooling"])
        modules = [encoder, pooling, *([Normalize()] if case.get("normalise") else [])]
        model = SentenceTransformer(modules=modules, device="cpu")
        model.eval()
        sentences = [" ".join("a" for _ in range(case["seq"]))] * case["batch"]
        tracer = Tracer()
        given = tracer.give([*model.parameters(), *model.buffers()])
        with torch.no_grad(), tracer:
            model.encode(sentences, batch_size=case["batch"], show_progress_bar=False)
        return _peak(tracer, given)


def _peak(tracer: Any, given: frozenset[int]) -> int:
    alive = most = 0
    for allocated, number, _ in tracer.events:
        if number in given:
            continue
        alive += tracer.allocations[number].nbytes * (1 if allocated else -1)
        most = max(most, alive)
    return most


if __name__ == "__main__":
    names = ("sentence-transformers", "torch", "transformers")
    rows = {
        name: {"config": config_of(case), "batch": case["batch"], "seq": case["seq"], "peak": measured(case)}
        for name, case in CASES.items()
    }
    whole = {"versions": {name: version(name) for name in names}, "cases": rows}
    FIXTURE.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
