"""What llama.cpp's own tools make of the catalog's models: recorded in `fixtures/gguf/conversions.jsonl`.

    PYTHONPATH=LLAMA_CPP:LLAMA_CPP/gguf-py python -m tests.oracle.conversions MODEL...

LLAMA_CPP is the source of llama.cpp (`vendor/llama.cpp` of the sdist `llama-cpp-python==0.3.36`); its
convert_hf_to_gguf runs on sparse files (needs PyTorch), and llama-quantize's dry run in the library of HFMEM_LLAMACPP.
A row has the digest of the file's tensors before they are quantised, and the bytes of each quantisation's tensors.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from hfmem.fetcher import catalog
from hfmem.fetcher.tensors import table_bytes
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.gguf.quantisation import QUANTISATIONS, Shaped
from hfmem.probe.llamacpp import specimens
from hfmem.probe.llamacpp.library import FILE_TYPES, LlamaError, apart, library
from hfmem.probe.llamacpp.specimens import Specimen

__all__ = ["RECORDED", "digest", "dry_run", "specimen"]

RECORDED: Final = Path(__file__).parents[2] / "fixtures" / "gguf" / "conversions.jsonl"
_TYPES: Final = {"F32": 0, "F16": 1, "MXFP4": 39}


def digest(tensors: Iterable[Shaped]) -> str:
    """Of all names, types and shapes."""
    text = "\n".join(sorted(f"{tensor.name} {tensor.dtype} {list(tensor.shape)}" for tensor in tensors))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def specimen(architecture: str, keys: Mapping[str, Any], tensors: Iterable[Shaped], path: Path) -> Specimen:
    """The file, with a hole in place of its weights, as llama.cpp reads it."""
    rows = list(tensors)
    own = dict(keys)
    kinds = next((tensor.shape[0] for tensor in rows if tensor.name == "token_types.weight"), None)
    if kinds is not None:
        own["tokenizer.ggml.token_type_count"] = kinds
    found = Specimen(
        architecture=architecture,
        keys=own,
        tensors={tensor.name: tensor.shape[::-1] for tensor in rows},
        formats={tensor.name: (_TYPES[tensor.dtype], table_bytes(tensor.dtype, tensor.shape)) for tensor in rows},
    )
    return apart(lambda: specimens.grown(found, path, lambda file: library().quantised(file, "Q8_0")))


def dry_run(path: Path, quantisation: str, *, matrix: bool) -> dict[str, str] | None:
    """The types that llama-quantize would give, in a process of its own; None where it refuses."""
    try:
        return apart(lambda: library().quantised(path, quantisation, matrix=matrix))
    except LlamaError:
        return None


def converted(model: str, folder: Path) -> tuple[str, dict[str, Any], tuple[Shaped, ...]]:
    """What convert_hf_to_gguf makes of a model of the catalog: architecture, keys, tensors."""
    checkpoint = catalog.find(ModelRef(model_id=model))
    if checkpoint is None:
        raise SystemExit(f"the catalog has no {model}")
    source = folder / model.rpartition("/")[2]
    source.mkdir()
    _write(checkpoint, source)
    import_module("conversion").load_all_models()
    base, gguf = import_module("conversion.base"), import_module("gguf")
    from_config = base.ModelBase.load_hparams(source, False)
    name = import_module("conversion").get_model_architecture(from_config, base.ModelType.TEXT)
    kind = import_module("conversion").get_model_class(name, mmproj=False)
    kind.set_vocab = lambda self: self.gguf_writer.add_tokenizer_model("no_vocab")
    made = kind(source, gguf.LlamaFileType.MOSTLY_F16, folder / "x.gguf", dry_run=True)
    made.prepare_tensors()
    made.prepare_metadata(vocab_only=False)
    writer = made.gguf_writer
    prefix = f"{writer.arch}."
    keys = {
        key.removeprefix(prefix): value.value
        for part in writer.kv_data
        for key, value in part.items()
        if key.startswith(prefix)
    }
    tensors = tuple(
        Shaped(name, info.dtype.name, tuple(int(size) for size in info.shape))
        for part in writer.tensors
        for name, info in part.items()
    )
    return writer.arch, keys, tensors


def _write(checkpoint: Checkpoint, folder: Path) -> None:
    """The config with its class's defaults, and the weights as a hole."""
    import_config: Any = import_module("transformers").AutoConfig
    config = dict(checkpoint.config or {})
    defaults = import_config.for_model(**config).to_dict()
    (folder / "config.json").write_text(json.dumps({**defaults, **config}, default=str))
    head: dict[str, Any] = {}
    end = 0
    for tensor in checkpoint.tensors:
        spot = [end, end + tensor.nbytes]
        head[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": spot}
        end += tensor.nbytes
    text = json.dumps(head).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def row(model: str, architecture: str, keys: Mapping[str, Any], tensors: tuple[Shaped, ...]) -> dict[str, Any]:
    """What is recorded of a model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.gguf")
        specimen(architecture, keys, tensors, path)
        shapes = {tensor.name: tensor.shape for tensor in tensors}
        sizes: dict[str, int | None] = {}
        for name in QUANTISATIONS:
            found = dry_run(path, name, matrix=False) if name in FILE_TYPES else None
            sizes[name] = found and sum(table_bytes(kind, shapes[tensor]) for tensor, kind in found.items())
    return {
        "model": model,
        "architecture": architecture,
        "tensors": len(tensors),
        "digest": digest(tensors),
        "bytes": sizes,
    }


def main(models: list[str]) -> None:
    """Record models, beside those that are recorded."""
    head, *lines = RECORDED.read_text(encoding="utf-8").splitlines()
    known = {json.loads(line)["model"]: line for line in lines}
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            known[model] = json.dumps(row(model, *converted(model, Path(folder))), separators=(",", ":"))
    text = "\n".join([head, *(known[model] for model in sorted(known, key=str.lower))])
    RECORDED.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
