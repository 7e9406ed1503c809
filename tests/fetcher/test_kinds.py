"""What lies on the Hub, kind by kind: each gets its size, or a sentence that says what is there and how to go on.

Files are those of the real libraries, of a size that a test can hold: safetensors headers, pickles that `torch.save`
wrote, ONNX that `onnx` wrote. Files that nothing reads have only a size.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import hfmem
from hfmem.errors import HfmemError
from hfmem.report.errors import explain, sizeless
from hfmem.report.result import to_result
from tests.hub import Hub
from tests.hub.files import File, json_file, safetensors_file, virtual_file
from tests.hub.repos import Repo

FIXTURES = Path(__file__).parents[2] / "fixtures"
SMALL = "HuggingFaceTB/SmolLM2-135M-Instruct"
CONFIG = json.loads((FIXTURES / SMALL.replace("/", "--") / "config.json").read_text(encoding="utf-8"))
TENSORS = json.loads((FIXTURES / SMALL.replace("/", "--") / "tensors.json").read_text(encoding="utf-8"))["tensors"]
WHOLE = [(name, dtype, tuple(shape)) for name, dtype, shape in TENSORS]
PARAMETERS = 134_515_008
NOT_TORCH = "No weights for the classes of transformers are here"
CLASS: dict[str, Any] = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}


def real(folder: str, name: str, as_: str = "") -> File:
    """A file that another library wrote."""
    content = (FIXTURES / folder / name).read_bytes()
    return virtual_file(as_ or name, content, size=len(content))


def sized(name: str, size: int) -> File:
    return virtual_file(name, size=size)


def st(name: str, *shapes: tuple[int, ...], dtype: str = "F32", key: str = "w") -> File:
    """A safetensors file with tensors of these shapes."""
    return safetensors_file(name, [(f"{key}{number}", dtype, shape) for number, shape in enumerate(shapes)])


def named(name: str, **tensors: tuple[int, ...]) -> File:
    return safetensors_file(name, [(key.replace("__", "."), "F32", shape) for key, shape in tensors.items()])


def module(path: str, type_: str) -> dict[str, Any]:
    return {"idx": 0, "name": "0", "path": path, "type": f"sentence_transformers.models.{type_}"}


INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "safety_checker": [None, None],
}
LM = (json_file("config.json", CONFIG), safetensors_file("model.safetensors", WHOLE))
ENCODER = json_file("config.json", {"model_type": "an_encoder_nobody_knows", "hidden_size": 8})
LORA = json_file("adapter_config.json", {"base_model_name_or_path": SMALL, "peft_type": "LORA", "r": 8})
MATRIX = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"

Row = tuple[str, str, tuple[int, ...]]


def packed(rows: list[Row]) -> list[Row]:
    """The tensors as MLX stores them with 4 bits in groups of 64."""
    found: list[Row] = []
    for name, dtype, shape in rows:
        if len(shape) != 2:
            found.append((name, dtype, shape))
            continue
        module = name.removesuffix(".weight")
        found += [(name, "U32", (shape[0], shape[1] // 8)), (f"{module}.scales", "BF16", (shape[0], shape[1] // 64))]
        found.append((f"{module}.biases", "BF16", (shape[0], shape[1] // 64)))
    return found


SHARD = "model-0000{}-of-00002.safetensors"
SHARDS = (
    json_file(
        "model.safetensors.index.json",
        {"weight_map": {name: SHARD.format(1 if at < 100 else 2) for at, (name, _, _) in enumerate(WHOLE)}},
    ),
    safetensors_file(SHARD.format(1), WHOLE[:100]),
    safetensors_file(SHARD.format(2), WHOLE[100:]),
)
MATRICES = [(MATRIX.format("A"), "F32", (8, 576)), (MATRIX.format("B"), "F32", (576, 8))]
OWN = 2 * 8 * 576


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of repository.

    Attributes:
        files: its files.
        asked: options.
        parameters: how many it has; None where nothing tells.
        weights: bytes of its weights; None where no total can be told.
        words: what is said.
        bound: whether the total is a lower bound.
    """

    files: tuple[File, ...]
    asked: dict[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    weights: int | None = None
    words: str = ""
    bound: bool = True


def model(*files: File, **rest: Any) -> Kind:
    return Kind(files=files, **rest)


KINDS: dict[str, Kind] = {
    "language model": model(*LM, parameters=PARAMETERS, weights=2 * PARAMETERS, bound=False),
    "weights beside a copy for ONNX": model(
        *LM, sized("onnx/model.onnx", 2**29), parameters=PARAMETERS, weights=2 * PARAMETERS, bound=False
    ),
    "one file with a name of its own": model(st("flux.safetensors", (8, 8)), parameters=64, weights=256),
    "two files with names of their own": model(
        st("a.safetensors", (8, 8)), st("b.safetensors", (4, 4)), words="2 weight files; count one with --file"
    ),
    "one of them": model(
        st("a.safetensors", (8, 8)),
        st("b.safetensors", (4, 4)),
        asked={"file": "b.safetensors"},
        parameters=16,
        weights=64,
    ),
    "files in folders": model(
        st("split_files/unet/a.safetensors", (8, 8)),
        st("split_files/vae/b.safetensors", (4, 4)),
        words="split_files/vae/b.safetensors 1.5e-07 GiB",
    ),
    "a file of a folder": model(
        st("split_files/unet/a.safetensors", (8, 8)),
        st("split_files/vae/b.safetensors", (4, 4)),
        asked={"file": "split_files/vae/b.safetensors"},
        parameters=16,
        weights=64,
    ),
    "the only file in a folder": model(st("vae/b.safetensors", (4, 4)), parameters=16, weights=64),
    "no file of that name": model(*LM, asked={"file": "x.safetensors"}, words="None of its files is 'x.safetensors'"),
    "an autoencoder with a second file beside it": model(
        json_file("config.json", {"_class_name": "AutoencoderKL"}),
        st("diffusion_pytorch_model.safetensors", (8, 8)),
        st("sdxl_vae.safetensors", (8, 8)),
        parameters=64,
        weights=256,
        words="one component of a pipeline (AutoencoderKL)",
    ),
    "a ControlNet": model(
        json_file("config.json", {"_class_name": "FluxControlNetModel"}),
        st("diffusion_pytorch_model.safetensors", (8, 8), dtype="BF16"),
        parameters=64,
        weights=128,
        words="one component of a pipeline (FluxControlNetModel)",
    ),
    "a pipeline": model(
        json_file("model_index.json", INDEX),
        st("unet/diffusion_pytorch_model.safetensors", (8, 8)),
        st("unet/diffusion_pytorch_model.fp16.safetensors", (8, 8), dtype="F16"),
        st("vae/diffusion_pytorch_model.safetensors", (4, 4)),
        st("vae_1_0/diffusion_pytorch_model.safetensors", (4, 4)),
        st("everything.safetensors", (9, 9)),
        parameters=80,
        weights=320,
        words="vae_1_0/ is not in model_index.json",
    ),
    "a pipeline in one variant only": model(
        json_file("model_index.json", INDEX),
        st("unet/diffusion_pytorch_model.fp16.safetensors", (8, 8), dtype="F16"),
        st("vae/diffusion_pytorch_model.fp16.safetensors", (4, 4), dtype="F16"),
        parameters=80,
        weights=160,
        words='Loading it takes variant="fp16"',
    ),
    "a pipeline in shards": model(
        json_file("model_index.json", INDEX),
        st("unet/diffusion_pytorch_model-00001-of-00002.safetensors", (8, 8)),
        st("unet/diffusion_pytorch_model-00002-of-00002.safetensors", (2, 8), key="x"),
        st("vae/diffusion_pytorch_model.safetensors", (4, 4)),
        parameters=96,
        weights=384,
    ),
    "a pipeline of which a shard is missing": model(
        json_file("model_index.json", INDEX),
        st("unet/diffusion_pytorch_model-00001-of-00002.safetensors", (8, 8)),
        st("vae/diffusion_pytorch_model.safetensors", (4, 4)),
        parameters=80,
        weights=320,
        words="1 of its weight files is missing",
    ),
    "a pipeline with two denoisers": model(
        json_file(
            "model_index.json", {f"transformer{end}": ["diffusers", "NewTransformer3DModel"] for end in ("", "_2")}
        ),
        st("transformer/diffusion_pytorch_model.safetensors", (8, 8)),
        st("transformer_2/diffusion_pytorch_model.safetensors", (8, 8), dtype="BF16"),
        parameters=128,
        weights=256 + 128,
    ),
    "a pipeline in pickles": model(
        json_file("model_index.json", INDEX),
        real("pickles", "state.bin", "unet/diffusion_pytorch_model.bin"),
        parameters=28,
        weights=16 + 96 + 8,
    ),
    "a pipeline of ONNX": model(
        json_file("model_index.json", {"unet": ["diffusers", "OnnxRuntimeModel"]}),
        real("onnx", "outside.onnx", "unet/model.onnx"),
        real("onnx", "outside.onnx_data", "unet/outside.onnx_data"),
        weights=128 * 32 * 4 + 32 * 64 * 2 + 64 * 4,
    ),
    "a pipeline of Flax": model(
        json_file("model_index.json", {"unet": ["diffusers", "FlaxUNet2DConditionModel"]}),
        sized("unet/diffusion_flax_model.msgpack", 2**20),
        weights=2**20,
        words="no reader knows the format of its files",
    ),
    "a pipeline whose index names nothing": model(
        json_file("model_index.json", {"_class_name": "X"}), words="names no component whose weights are here"
    ),
    "a LoRA of a pipeline": model(
        st("pytorch_lora_weights.safetensors", (4, 8)), parameters=32, weights=128, words="This is an adapter"
    ),
    "pickle": model(
        json_file("config.json", CLASS), real("pickles", "state.bin", "pytorch_model.bin"), parameters=28, bound=False
    ),
    "pickle of a type that nobody knows": model(
        ENCODER, real("pickles", "state.bin", "pytorch_model.bin"), parameters=28, weights=16 + 96 + 8
    ),
    "legacy pickle": model(
        ENCODER, real("pickles", "state-legacy.bin", "pytorch_model.bin"), parameters=28, weights=16 + 96 + 8
    ),
    "pickles beside each other": model(
        ENCODER,
        real("pickles", "state.bin", "pytorch_model-00001-of-00002.bin"),
        real("pickles", "state-legacy.bin", "pytorch_model-00002-of-00002.bin"),
        parameters=56,
    ),
    "Meta's files": model(
        json_file("params.json", {"dim": 8}), real("pickles", "state.bin", "consolidated.00.pth"), parameters=28
    ),
    "checkpoint of Lightning": model(
        real("pickles", "checkpoint.ckpt"), parameters=21, weights=108, words="an optimizer's state"
    ),
    "TorchScript": model(real("pickles", "script.pt", "model.pt"), parameters=21, weights=108),
    "pickle that is none": model(sized("model.pt", 5000), weights=5000, words="the sizes of the weight files are used"),
    "ONNX": model(real("onnx", "inline.onnx"), weights=(64 * 32 + 32 + 64) * 4, words=NOT_TORCH),
    "ONNX beside a configuration": model(
        json_file("config.json", CONFIG),
        real("onnx", "inline.onnx", "onnx/model.onnx"),
        weights=(64 * 32 + 32 + 64) * 4,
    ),
    "ONNX with external data": model(
        real("onnx", "outside.onnx"), real("onnx", "outside.onnx_data"), weights=128 * 32 * 4 + 32 * 64 * 2 + 64 * 4
    ),
    "ONNX in several quantisations": model(
        json_file("config.json", CONFIG),
        real("onnx", "inline.onnx", "onnx/model.onnx"),
        real("onnx", "types.onnx", "onnx/model_q4.onnx"),
        words="2 weight files; count one with --file onnx/model.onnx",
    ),
    "one quantisation of ONNX": model(
        json_file("config.json", CONFIG),
        real("onnx", "inline.onnx", "onnx/model.onnx"),
        real("onnx", "within.onnx", "onnx/model_q4.onnx"),
        asked={"file": "onnx/model_q4.onnx"},
        weights=12 * 4 + 24 * 2 + 2 * 35 * 4,
        words="ONNX Runtime takes is unknown",
    ),
    "OpenVINO": model(
        json_file("config.json", CONFIG),
        sized("openvino_model.bin", 2**20),
        sized("openvino_model.xml", 900),
        weights=2**20,
        words="OpenVINO weights for OpenVINO",
    ),
    "CTranslate2": model(
        json_file("config.json", CONFIG), sized("model.bin", 2**20), weights=2**20, words="CTranslate2"
    ),
    "Flax": model(json_file("config.json", CONFIG), sized("flax_model.msgpack", 2**20), weights=2**20, words="Flax"),
    "TensorFlow": model(
        json_file("config.json", CONFIG), sized("tf_model.h5", 2**20), weights=2**20, words="TensorFlow"
    ),
    "Flax and TensorFlow": model(
        json_file("config.json", CONFIG),
        sized("flax_model.msgpack", 9),
        sized("tf_model.h5", 9),
        words="count one with --file flax_model.msgpack",
    ),
    "NeMo": model(sized("parakeet.nemo", 2**20), weights=2**20, words="NeMo weights for NeMo"),
    "joblib": model(sized("model.joblib", 2**20), weights=2**20, words="the program that wrote them"),
    "Core ML": model(sized("m.mlpackage/Data/weights/weight.bin", 2**20), weights=2**20, words="Core ML"),
    "NumPy": model(sized("weights.npz", 2**20), weights=2**20, words="NumPy"),
    "adapter": model(
        LORA,
        safetensors_file("adapter_model.safetensors", MATRICES),
        parameters=PARAMETERS + OWN,
        weights=2 * PARAMETERS + 4 * OWN,
        bound=False,
    ),
    "adapter beside the base's configuration": model(
        LORA,
        json_file("config.json", CONFIG),
        safetensors_file("adapter_model.safetensors", MATRICES),
        parameters=PARAMETERS + OWN,
        weights=2 * PARAMETERS + 4 * OWN,
        bound=False,
    ),
    "adapter of which only checkpoints are there": model(
        json_file("checkpoint-9/adapter_config.json", {"base_model_name_or_path": SMALL, "peft_type": "LORA", "r": 8}),
        safetensors_file("checkpoint-9/adapter_model.safetensors", MATRICES),
        parameters=PARAMETERS + OWN,
        weights=2 * PARAMETERS + 4 * OWN,
        bound=False,
    ),
    "adapter on a folder that is not here": model(
        json_file("adapter_config.json", {"base_model_name_or_path": "/home/me/llama", "peft_type": "LORA", "r": 8}),
        safetensors_file("adapter_model.safetensors", MATRICES),
        parameters=OWN,
        weights=4 * OWN,
        words="which is no model of the Hub",
    ),
    "Dense modules of sentence-transformers": model(
        ENCODER,
        json_file("modules.json", [module("", "Transformer"), module("2_Dense", "Dense")]),
        st("model.safetensors", (8, 8)),
        named("2_Dense/model.safetensors", linear__weight=(4, 8), linear__bias=(4,)),
        parameters=64 + 36,
        weights=400,
    ),
    "Dense module as a pickle": model(
        ENCODER,
        json_file("modules.json", [module("", "Transformer"), module("2_Dense", "Dense")]),
        st("model.safetensors", (8, 8)),
        real("pickles", "state.bin", "2_Dense/pytorch_model.bin"),
        parameters=64 + 28,
    ),
    "ColBERT": model(
        ENCODER,
        json_file("modules.json", [module("", "Transformer"), module("1_Dense", "Dense")]),
        st("model.safetensors", (8, 8)),
        named("1_Dense/model.safetensors", linear__weight=(4, 8)),
        parameters=64 + 32,
    ),
    "StaticEmbedding": model(
        json_file("modules.json", [module("0_StaticEmbedding", "StaticEmbedding")]),
        named("0_StaticEmbedding/model.safetensors", embedding__weight=(100, 16)),
        parameters=1600,
        weights=6400,
        bound=False,
    ),
    "Router": model(
        json_file("modules.json", [module("", "Router")]),
        named("query_0_StaticEmbedding/model.safetensors", embedding__weight=(100, 16)),
        named("document_0_StaticEmbedding/model.safetensors", embedding__weight=(50, 16)),
        parameters=2400,
        weights=9600,
        bound=False,
    ),
    "model2vec": model(
        json_file("config.json", {"model_type": "model2vec", "architectures": ["StaticModel"]}),
        named("model.safetensors", embeddings=(100, 16)),
        parameters=1600,
        weights=6400,
        bound=False,
    ),
    "timm": model(
        json_file("config.json", {"architecture": "resnet18", "num_classes": 10, "num_features": 8}),
        named(
            "model.safetensors",
            conv1__weight=(8, 3, 7, 7),
            bn1__weight=(8,),
            bn1__running_mean=(8,),
            bn1__running_var=(8,),
        ),
        parameters=8 * 147 + 8,
        weights=4 * (8 * 147 + 24),
        bound=False,
    ),
    "GGUF beside a configuration of other files": model(
        *LM, sized("m-Q4_K_M.gguf", 100), parameters=PARAMETERS, bound=False
    ),
    "only a configuration": model(json_file("config.json", CONFIG), parameters=PARAMETERS, bound=False),
    "documents only": model(sized("README.txt", 100), words="neither the files nor the configuration"),
    "vocabulary only": model(sized("spiece.model", 100), words="neither the files nor the configuration"),
    "training arguments only": model(sized("training_args.bin", 100), words="neither the files nor the configuration"),
    "MLX": model(
        json_file("config.json", {**CONFIG, "quantization": {"group_size": 64, "bits": 4}}),
        safetensors_file("model.safetensors", packed(WHOLE)),
        parameters=PARAMETERS,
        weights=(PARAMETERS - 61 * 576) * 36 // 64 + 61 * 576 * 2,
        bound=False,
    ),
    "a cross-encoder": model(
        json_file("config.json", {"model_type": "an_encoder_nobody_knows", "architectures": ["XForSequence"]}),
        named("model.safetensors", encoder__w=(8, 8), classifier__weight=(1, 8)),
        parameters=72,
        weights=288,
    ),
    "safetensors and a pickle": model(
        *LM,
        real("pickles", "state.bin", "pytorch_model.bin"),
        parameters=PARAMETERS,
        weights=2 * PARAMETERS,
        bound=False,
    ),
    "a variant beside the plain file": model(
        *LM,
        safetensors_file("model.fp16.safetensors", WHOLE),
        parameters=PARAMETERS,
        weights=2 * PARAMETERS,
        bound=False,
    ),
    "shards": model(
        json_file("config.json", CONFIG), *SHARDS, parameters=PARAMETERS, weights=2 * PARAMETERS, bound=False
    ),
    "consolidated weights beside shards": model(
        json_file("config.json", CONFIG),
        *SHARDS,
        safetensors_file("consolidated.safetensors", WHOLE),
        parameters=PARAMETERS,
        weights=2 * PARAMETERS,
        bound=False,
    ),
    "Meta's files in a folder beside the model": model(
        *LM,
        sized("original/consolidated.00.pth", 2**28),
        json_file("original/params.json", {"dim": 8}),
        parameters=PARAMETERS,
        weights=2 * PARAMETERS,
        bound=False,
    ),
    "states of training beside the model": model(
        *LM,
        real("pickles", "optimizer.pt"),
        sized("scheduler.pt", 1000),
        sized("rng_state.pth", 1000),
        parameters=PARAMETERS,
        weights=2 * PARAMETERS,
        bound=False,
    ),
    "only checkpoints of a training": model(
        json_file("checkpoint-5/config.json", CONFIG),
        safetensors_file("checkpoint-5/model.safetensors", WHOLE),
        json_file("checkpoint-10/config.json", CONFIG),
        safetensors_file("checkpoint-10/model.safetensors", WHOLE),
        words="count one with --file checkpoint-5/model.safetensors",
    ),
    "a classifier of scikit-learn beside an encoder": model(
        ENCODER, st("model.safetensors", (8, 8)), sized("model_head.pkl", 5000), parameters=64, weights=256
    ),
    "WordEmbeddings and LSTM": model(
        json_file("modules.json", [module("0_WordEmbeddings", "WordEmbeddings"), module("1_LSTM", "LSTM")]),
        named("0_WordEmbeddings/model.safetensors", emb_layer__weight=(100, 16)),
        named("1_LSTM/model.safetensors", encoder__weight_ih_l0=(64, 16)),
        parameters=1600 + 1024,
        weights=4 * 2624,
    ),
    "prompt tuning": model(
        json_file("adapter_config.json", {"base_model_name_or_path": SMALL, "peft_type": "PROMPT_TUNING"}),
        named("adapter_model.safetensors", prompt_embeddings=(8, 576)),
        parameters=PARAMETERS + 8 * 576,
        weights=2 * PARAMETERS + 4 * 8 * 576,
        bound=False,
    ),
    "timm as a pickle": model(
        json_file("config.json", {"architecture": "resnet18", "num_classes": 10, "num_features": 8}),
        real("pickles", "state.bin", "pytorch_model.bin"),
        parameters=28,
        weights=16 + 96 + 8,
        bound=False,
    ),
    "two pickles of a program": model(
        real("pickles", "script.pt", "yolov8n.pt"),
        real("pickles", "script.pt", "yolov8s.pt"),
        words="2 weight files; count one with --file yolov8n.pt",
    ),
    "Rust": model(json_file("config.json", CONFIG), sized("rust_model.ot", 2**20), weights=2**20, words="rust-bert"),
    "SavedModel": model(
        sized("saved_model.pb", 1000),
        sized("variables/variables.data-00000-of-00001", 2**20),
        weights=2**20,
        words="SavedModel weights for TensorFlow",
    ),
    "SavedModel in parts": model(
        sized("saved_model.pb", 1000),
        sized("variables/variables.data-00000-of-00002", 2**20),
        sized("variables/variables.data-00001-of-00002", 2**19),
        weights=2**20 + 2**19,
        words="2 files",
    ),
    "LiteRT": model(sized("model.tflite", 2**20), weights=2**20, words="LiteRT weights for LiteRT"),
    "Keras": model(sized("model.keras", 2**20), weights=2**20, words="Keras weights for Keras"),
    "TensorRT": model(
        sized("rank0.engine", 2**20),
        json_file("config.json", {"pretrained_config": {}, "build_config": {}}),
        weights=2**20,
        words="TensorRT weights for TensorRT",
    ),
    "PaddlePaddle": model(sized("model_state.pdparams", 2**20), weights=2**20, words="PaddlePaddle"),
    "MLC": model(
        json_file("mlc-chat-config.json", {}),
        sized("params_shard_0.bin", 2**20),
        sized("params_shard_1.bin", 2**19),
        weights=2**20 + 2**19,
        words="MLC weights for MLC LLM",
    ),
    "GGML": model(sized("ggml-base.en.bin", 2**20), weights=2**20, words="whisper.cpp"),
    "llamafile": model(sized("m.Q4_0.llamafile", 2**20), weights=2**20, words="llamafile"),
    "ExecuTorch": model(sized("model.pte", 2**20), weights=2**20, words="ExecuTorch"),
    "Qualcomm": model(sized("model.dlc", 2**20), weights=2**20, words="Qualcomm"),
    "RKLLM": model(sized("m.rkllm", 2**20), weights=2**20, words="RKLLM"),
    "spaCy": model(sized("en_core_web_sm-any-py3-none-any.whl", 2**20), weights=2**20, words="spaCy"),
    "a tokenizer only": model(json_file("tokenizer.json", {}), words="neither the files nor the configuration"),
    "EXL2": model(
        json_file("config.json", {**CONFIG, "quantization_config": {"quant_method": "exl2", "bits": 4.0}}),
        st("output.safetensors", (8, 8), dtype="I32"),
        parameters=64,
        weights=256,
        words="only ExLlamaV2 and ExLlamaV3 load",
        bound=False,
    ),
}


@pytest.fixture
def answered(hub: Hub, request: pytest.FixtureRequest) -> tuple[Kind, dict[str, Any] | None, str]:
    kind = KINDS[request.param]
    hub.put(Repo(id="org/x", files=(virtual_file(".gitattributes", b"*\n"), *kind.files)))
    try:
        report = hfmem.estimate("org/x", **kind.asked)
    except HfmemError as error:
        problem = explain(error)
        return kind, None, f"{problem.message} {problem.hint}"
    result = to_result(report)
    problems = [f"{problem.message} {problem.hint}" for problem in sizeless([report])]
    return kind, result, " ".join([*result["notes"], *problems])


@pytest.mark.parametrize("answered", sorted(KINDS), indirect=True)
def test_a_kind(answered: tuple[Kind, dict[str, Any] | None, str]) -> None:
    kind, result, said = answered
    assert kind.words in said
    if result is None:
        assert kind.parameters is kind.weights is None
        return
    assert result["total_is_lower_bound"] is kind.bound or result["memory"]["total"] is None
    if kind.parameters is not None:
        assert result["parameters"]["total"] == kind.parameters
    if kind.weights:
        assert result["memory"]["weights"] == kind.weights
    if kind.parameters is kind.weights is None:
        assert result["memory"]["weights"] is None
