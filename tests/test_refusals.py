"""What is refused of what was asked: fields in the error, the sentence in the report, and one word for scripts."""

from __future__ import annotations

import ast
import copy
import pickle
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Final

import pytest

import hfmem
from hfmem import errors, refusals
from hfmem.errors import InvalidScenarioError
from hfmem.refusals import against, files, launch, lists, media, options, pipelines, quantised, splits, training, visits
from hfmem.report.errors import explain
from hfmem.report.refusals.words import WORDS

PACKAGE: Final = Path(hfmem.__file__).parent

SAMPLES: Final[list[tuple[InvalidScenarioError, str]]] = [
    (
        lists.OutFileError("a.csv", "there"),
        "--out a.csv is there already: go on with it by --resume, or name another file",
    ),
    (
        lists.OutFileError("a.csv", "unreadable", why="Is a directory"),
        "--out a.csv cannot be used (Is a directory): name another file",
    ),
    (
        lists.OutFileError("a.csv", "columns"),
        "--out a.csv has other columns: use the options that it was written with, or name another file",
    ),
    (
        lists.OutFileError("a.csv", "list"),
        "--out a.csv has the rows of another list: add new models at its end, or name another file",
    ),
    (
        lists.OutFileError("a.csv", "options"),
        "--out a.csv has the rows of other options (its last column): use the same ones, or name another file",
    ),
    (
        lists.OutFileError("a.parquet", "parts"),
        "--out a.parquet is a folder of parts: go on with --executor ray, or name another file",
    ),
    (
        lists.OutFileError("a.parquet", "file"),
        "--out a.parquet is one file, and --executor ray writes a folder of parts: name another one",
    ),
    (
        lists.OutFileError("a.csv", "busy"),
        "--out a.csv is being written by another run: wait for it, or name another file",
    ),
    (
        lists.ClusterError("127.0.0.1:9", kind="ConnectionRefusedError", why="[Errno 111] Connection refused"),
        "--executor ray: no cluster at RAY_ADDRESS=127.0.0.1:9 (ConnectionRefusedError: [Errno 111] Connection refused)"
        ": start it, or unset RAY_ADDRESS",
    ),
    (
        lists.ClusterError("", kind="RuntimeError", why=""),
        "--executor ray: no cluster can be started (RuntimeError)",
    ),
    (
        files.MissingTowerError("--mmproj", "a.gguf", "org/m", ("b.gguf",)),
        "--mmproj 'a.gguf': no such file is here, and org/m has b.gguf; or auto, or none",
    ),
    (against.LogError("a.log", "empty"), "a.log is empty"),
    (against.LogError("a.log", "unreadable", system="Is a directory"), "a.log cannot be read: Is a directory"),
    (
        against.LogError("a.log", "mixed", programs=("SGLang", "vLLM")),
        "a.log has lines of SGLang and vLLM: give the log of one of them",
    ),
    (options.WrongValueError("--batch", "4", int), "--batch is '4', expected a whole number"),
    (options.WrongValueError("--batch", 4.0, int), "--batch is 4.0, expected a whole number"),
    (options.WrongValueError("--gpu", 3, tuple), "--gpu is 3, expected a list"),
    (options.WrongValueError("--from-args", 3, Path), "--from-args is 3, expected Path"),
    (options.WrongValueError("--tp", 0, options.Range(1, 10**5)), "--tp is 0, expected 1 to 100,000"),
    (options.WrongValueError("--tp", 0, options.Range(1)), "--tp is 0, expected at least 1"),
    (options.WrongValueError("--a", 1.0, options.Range(0, below=1)), "--a is 1, expected 0 to below 1"),
    (options.WrongValueError("--a", 0, options.Range(above=0)), "--a is 0, expected more than 0"),
    (options.WrongValueError("--a", 0, options.Range(most=1, above=0)), "--a is 0, expected more than 0 and at most 1"),
    (options.WrongValueError("--seq", 10**5000, options.Range(1)), "--seq is enormous, expected at least 1"),
    (options.MissingValueError("--batch"), "--batch cannot be None"),
    (options.MissingValueError("--dtype", empty=True), "--dtype is empty: give a value or omit it"),
    (
        options.UnknownWordError("--train", "ful", ("full", "lora")),
        "--train 'ful' is not one of full, lora (did you mean 'full'?)",
    ),
    (
        options.UnknownWordError("--dtype", 5, iter(["float32"]), under="textbook"),
        "--dtype '5' is not one of float32, which --method textbook supports",
    ),
    (
        options.QuantisationError("Q8_0", "org/m:Q4_0"),
        "--quant Q8_0 contradicts org/m:Q4_0: use one of them",
    ),
    (options.OptionRefusedError("--shard", "needs --fsdp or --zero"), "--shard needs --fsdp or --zero"),
    (
        options.ForeignOptionError("--a", (("x", "X"), ("y", "Y"))),
        "--a is an option of X and Y: add --runtime x",
    ),
    (
        options.ForeignOptionError("--batch-size", (("x", "X"),), "--batch"),
        "--batch-size is an option of X: add --runtime x (did you mean --batch?)",
    ),
    (options.MisplacedOptionError("--optimizer", "inference"), "--optimizer needs --train"),
    (options.MisplacedOptionError("--prompt", "training"), "--prompt is for inference"),
    (
        options.NoTrainingError("x", "y"),
        "--runtime x is for inference: what y takes to train is not modelled; leave out --runtime to train with "
        "transformers",
    ),
    (
        options.IncompatibleOptionsError(("--runtime", "x"), ("--train",)),
        "--runtime x cannot be used with --train",
    ),
    (options.OnlyForError("--a", "--train", ("lora", "qlora")), "--a is for --train lora and qlora"),
    (options.OnlyForError("--a", "--optimizer", iter("xyz")), "--a is for --optimizer x, y, z"),
    (options.PromptError(5000, 4096), "--prompt 5,000 exceeds --seq 4,096, which covers prompt and output"),
    (
        options.NoFlashError("X", "transformers 5", "eager"),
        "--attention flash: X of transformers 5 does not support flash attention; it runs eager",
    ),
    (options.ReleaseError("--v", "zero", example="0.19"), "--v 'zero' is not a release such as 0.19"),
    (options.ReleaseError("--v", "0.1", oldest="0.6"), "--v 0.1 is older than 0.6, the oldest supported"),
    (
        options.UnknownGpuError("x"),
        "--gpu 'x' is not in the table; --list-gpus shows all, and a size such as 24GB is a budget",
    ),
    (
        options.UnknownGpuError("x", sold=(36, 48, 64)),
        "--gpu 'x' is not in the table: it is sold with 36, 48 and 64 GB; "
        "--list-gpus shows all, and a size such as 24GB is a budget",
    ),
    (
        options.UnknownGpuError("x", alike=("A", "B")),
        "--gpu 'x' is not in the table; did you mean A or B? "
        "--list-gpus shows all, and a size such as 24GB is a budget",
    ),
    (
        options.ProfileGpuError("me"),
        "--gpu me is the hardware saved on your Hub profile, which hfmem.estimate, hfmem.compare and the command line "
        "read. Otherwise name it, as in --gpu 'RTX 4090', or use --gpu auto for this machine",
    ),
    (
        options.ProfileGpuError("me", "unknown", user="somebody", owned=(("Apple M9", 3),)),
        "--gpu me finds nothing on the Hub profile of somebody that the table has (Apple M9 with 3 GB). "
        "Otherwise name it, as in --gpu 'RTX 4090', or use --gpu auto for this machine",
    ),
    (
        options.SeveralModelsError(("--train", "--gpu", "--trace")),
        "--train, --gpu and --trace are for one model, not for several that run as one",
    ),
    (options.UntracedError(), "--trace runs on one GPU: name one only"),
    (
        options.UntracedError(optimizers=("adamw", "adam", "sgd")),
        "--trace runs full training in transformers with adamw, adam or sgd, with or without --gradient-checkpointing",
    ),
    (options.ModelNameError(5), "a model is 5, expected a Hub id or a path"),
    (options.ModelNameError(None, several=True), "the models are None, expected Hub ids or paths, or a list of such"),
    (
        launch.LaunchLineError("x serve m", "program", [("a", "serve"), ("b",)]),
        "'x serve m' is not a launch line of a serve or b",
    ),
    (pipelines.PipelineClassError("frames", "X"), "X makes images, not videos: leave --num-frames out"),
    (
        pipelines.PipelineClassError("length", "X"),
        "X makes a video as long as the one that it is given, piece by piece: leave --num-frames out",
    ),
    (
        pipelines.PipelineClassError("images", "X"),
        "X is given no images beside what it makes: leave --images out (an image that is changed or continued is "
        "counted without it)",
    ),
    (pipelines.PipelineClassError("one", "X"), "X is given one image for each prompt: use --images 1"),
    (
        pipelines.PipelineClassError("each", "X"),
        "X makes one result of each prompt: use --batch instead of --num-images",
    ),
    (
        pipelines.PipelineClassError("offload", "X"),
        "X cannot offload whole models, as its class has no order for it: use --offload sequential",
    ),
    (
        pipelines.PipelineClassError("edge", "X", "--width", 1001, 16),
        "--width is 1,001, and X takes only multiples of 16: 992 or 1,008",
    ),
    (pipelines.PipelineClassError("coder", "X", "--vae-tiling"), "X does not decode in tiles: leave --vae-tiling out"),
    (pipelines.PipelineClassError("coder", "", "--vae-slicing"), "the pipeline has no VAE: leave --vae-slicing out"),
    (
        pipelines.PipelineClassError("control", "X", "Y"),
        "--controlnet names a Y that does not go with X: name one that was trained for it",
    ),
    (
        pipelines.PipelineClassError("controlless", "a/b"),
        "--controlnet names a/b, which is no ControlNet of diffusers: name the repository of one",
    ),
    (
        pipelines.PipelineClassError("media", option="--audio-seconds"),
        "a pipeline is given images only: leave --audio-seconds out",
    ),
    (
        pipelines.PipelineError("training"),
        "this is a diffusion pipeline, and pipelines are not trained here: leave --train out to run it",
    ),
    (
        pipelines.PipelineError("textbook"),
        "the textbook's formulas are for language models, and this is a diffusion pipeline",
    ),
    (
        pipelines.PipelineError("engine", runtime="X", runs="y"),
        "X runs no diffusion pipelines: leave --runtime out, or use --runtime y",
    ),
    (
        pipelines.PipelineError("option", option="--a", owners=("X", "Y")),
        "--a is an option of X and Y, and this is a diffusion pipeline: leave --a out",
    ),
    (
        pipelines.PipelineError("option", option="--device-map", owners=("X",)),
        "--device-map is an option of X, and this is a diffusion pipeline: diffusers puts whole components on several "
        "accelerators (device_map='balanced'), which is not covered; for one accelerator use --offload model, group or "
        "sequential",
    ),
    (
        pipelines.PipelineError("model", runtime="X"),
        "this is no diffusion pipeline, and X runs nothing else: leave --runtime out",
    ),
    (
        quantised.PipelineQuantisationError("format", "gptq", known=("nf4", "int8", "fp8")),
        "pipelines are not quantised to gptq here: use --dtype nf4, int8 or fp8, or leave --dtype out",
    ),
    (
        quantised.PipelineQuantisationError("offload", "nf4", subject="sequential"),
        "--dtype nf4 does not go with --offload sequential: its scales are no parameters, which is what is moved. Use "
        "--offload model, or another --dtype",
    ),
    (
        quantised.PipelineQuantisationError("stored", "nf4", subject="transformer"),
        "transformer is quantised in its files already: leave --dtype nf4 out",
    ),
    (
        quantised.PipelineQuantisationError("unknown", "nf4", subject="transformer"),
        "the tensors of transformer are unknown, so what --dtype nf4 makes of them is too: leave --dtype out",
    ),
    (
        quantised.PipelineQuantisationError("none", "nf4"),
        "this pipeline has no denoiser that --dtype nf4 quantises: leave --dtype out",
    ),
    (
        quantised.PipelineQuantisationError("convolutions", "int8", known=("nf4", "fp8"), subject="X"),
        "--dtype int8 is known for transformers, and X has convolutions: use --dtype nf4 or fp8",
    ),
    (launch.LaunchLineError("a serve", "model", []), "'a serve' names no model"),
    (launch.LaunchLineError("a 'serve", "quotes"), """"a 'serve": a quote is not closed"""),
    (
        launch.LaunchOptionError(iter(["a", "serve"]), "--x", "y"),
        "a serve --x y: whether it takes memory is not known; --ignore=--x leaves it out, if it takes none",
    ),
    (files.UnreadableFileError("--from", Path("x"), "Is a directory"), "--from x cannot be read: Is a directory"),
    (files.UnreadableFileError("--from", "x", None), "--from x cannot be read: it is not text"),
    (files.UnreadableVariableError("HF_X", "no int"), "HF_X cannot be read (no int): correct it, or unset it"),
    (
        files.UnreadableVariableError("", "no int"),
        "One of the variables that begin with HF_ cannot be read (no int): correct it, or unset it",
    ),
    (
        files.DefaultsFileError("~/c.toml", key="gpus", known=("gpu", "unit")),
        "~/c.toml: 'gpus' is not one of gpu, unit (did you mean 'gpu'?), which may have a default. "
        "Correct it, or use --no-defaults",
    ),
    (
        files.DefaultsFileError("c.toml", why="it is a device, where a file is expected"),
        "c.toml: it cannot be read (it is a device, where a file is expected). Correct it, or use --no-defaults",
    ),
    (
        files.DefaultsFileError("pyproject.toml", key="tool.hfmem"),
        "pyproject.toml: tool.hfmem is not a table. Correct it, or use --no-defaults",
    ),
    (files.TrainingFileError("x", "syntax"), "--from-args x is neither valid JSON nor valid YAML"),
    (files.TrainingFileError("x", "mapping"), "--from-args x does not contain a mapping of keys to values"),
    (
        files.TrainingFileError("x", "size", most=20_000),
        "--from-args x holds more than 20,000 values, with its aliases",
    ),
    (files.KeyValueError("bf16", ["x"]), """--from-args: 'bf16' cannot be "['x']\""""),
    (
        files.KeyConflictError(files.Setting("a", "b", 1), files.Setting("c", "d", 2), equal=True),
        '--from-args: a: b is 1, but c: d is 2: the Trainer refuses that; make them equal, or write "auto" for d',
    ),
    (
        files.KeyConflictError(files.Setting("a", "bf16", True), files.Setting("a", "fp16", True), equal=False),
        "--from-args: a: bf16 is true, and a: fp16 is true: only one may be true; set the other to false",
    ),
    (splits.IndivisibleError("tp", 3, 32, "heads"), "--tp 3 does not divide the model's 32 attention heads"),
    (
        splits.IndivisibleError("tp", 3, 8, "kv_heads", replicated=False),
        "--tp 3 does not divide the model's 8 key/value heads, which are not replicated here",
    ),
    (splits.IndivisibleError("ep", 3, 8, "experts"), "--ep 3 does not divide the model's 8 experts"),
    (splits.IndivisibleError("ep", 3, 8, "gpus"), "--ep 3 does not divide the 8 GPUs of a pipeline stage"),
    (splits.IndivisibleError("tp", 3, 8, "units"), "--tp 3 does not divide the 8 units of the MLP"),
    (splits.IndivisibleError("shard", 3, 8, "replicas"), "--shard 3 does not divide the 8 replicas"),
    (
        splits.IndivisibleError("", 3, 8, "expert_units"),
        "3 ranks do not divide the 8 units of an expert; try --ep",
    ),
    (splits.TooManyRanksError("ep", 9, 8, "experts"), "--ep 9 is more than the model's 8 experts"),
    (
        splits.TooManyRanksError("pp", 9, 12, "layers", pieces=2),
        "--pp 9 × --virtual-stages 2 is more than the model's 12 layers",
    ),
    (splits.NoExpertsError(2), "--ep 2 splits experts, but the model has none"),
    (
        splits.ExpertRanksError(2, 8),
        "--ep 2 is not tp × dp = 8: experts are split over all ranks of a stage or over none",
    ),
    (splits.UnsupportedSizeError("cp", 2, "the Trainer"), "--cp 2: the Trainer does not support it"),
    (splits.NoPlanError("tp", 2, "X", "transformers 5"), "--tp 2: X has no tp_plan (transformers 5)"),
    (
        splits.DeviceMapError("class", "XModel"),
        "--device-map: the modules of XModel are not in the table, which has decoders for text: install torch, "
        "transformers and accelerate, which are asked themselves then, or use --tp or --pp",
    ),
    (
        splits.DeviceMapError("tensors", "XModel", "ValueError"),
        "--device-map: in which modules of XModel some of the model's tensors are is not known, and the installed "
        "transformers cannot build it (ValueError): use --tp or --pp",
    ),
    (splits.DeviceMapError("dtype"), "--device-map: the run dtype is unknown: use --dtype"),
    (splits.NoPlanError("ep", 2, "", ""), "--ep 2: this model has no ep_plan that is known"),
    (
        splits.UnknownLayersError({"tp": 2, "pp": 4}),
        "the layers of this model are unknown, so it cannot be split by --tp 2 --pp 4",
    ),
    (splits.SizesError({"tp": 2, "pp": 4}, 16), "--tp 2 × --pp 4 do not make --gpus 16"),
    (
        splits.MachineError({"gpus": 3}, 8, "H100", "p5"),
        "--gpus 3 does not match the 8 × H100 of p5 that --gpu names: use sizes that divide them, or --gpus N",
    ),
    (training.QuantisedError(), "the weights are packed by a quantiser and cannot be trained: use --train lora"),
    (
        training.QuantisedError(("Q6_K",), trainer=True),
        "the weights are quantised already (Q6_K): use --train-method lora to adapt them",
    ),
    (
        training.AdapterBaseError("int8", trainer=True),
        "--train-method qlora is NF4; for adapters on int8 use --train-method lora",
    ),
    (
        training.TrainerError("encoder", "t5", "SFTTrainer"),
        "SFTTrainer is for causal language models, and a t5 has an encoder: use --train full, lora or qlora, as "
        "Seq2SeqTrainer trains it",
    ),
    (
        training.QuantisedError(("int8", "fp8")),
        "the weights are quantised already (int8 and fp8): use --train lora to adapt them",
    ),
    (
        training.RecomputedError(),
        "PEFT refuses prefix-tuning with gradient checkpointing: use --no-gradient-checkpointing",
    ),
    (training.FrozenError(("norm", "mlp")), "--freeze norm,mlp leaves nothing to train"),
    (training.NoTargetsError(), "the model has no linear modules to adapt"),
    (training.NoTargetsError(("a", "b")), "no module is named a or b: see `--lora-targets all-linear`"),
    (
        training.NoTargetsError(unlisted="x"),
        "PEFT has no default targets for 'x': use --lora-targets, names or all-linear",
    ),
    (training.DtypeConflictError("fp8", "bf16", "bfloat16"), "--dtype fp8 contradicts --precision bf16 (bfloat16)"),
    (training.UntrainableDtypeError("fp8", ("x", "y")), "--dtype fp8 cannot be trained in; use x, y"),
    (training.UntrainableDtypeError("nf4"), "--dtype nf4 cannot be trained in full; --train qlora adds adapters"),
    (
        training.TrainerError("stack", "megatron", "DPOTrainer"),
        "--stack megatron does not go with DPOTrainer: TRL 1.16 runs on transformers 5",
    ),
    (
        training.TrainerError("completion", 2048, "GRPOTrainer", most=1024),
        "--max-completion-length 2,048 exceeds --seq 1,024, which covers the prompt too",
    ),
    (
        training.GenerationsError(3, 8),
        "--batch 3 does not hold whole groups of --num-generations 8: "
        "TRL needs batch x GPUs x --gradient-accumulation to be a multiple of it",
    ),
    (training.AdapterBaseError("int8"), "--train qlora is NF4; for adapters on int8 use --train lora"),
    (media.MediaError("--images", "it takes none"), "--images cannot be counted for this model: it takes none"),
    (
        media.MediaLengthError(7380, "--seq", 4096),
        "images, videos and sound are 7,380 tokens of the prompt, more than --seq 4,096: ask for --seq 7,380 or more",
    ),
    (media.LoneImageSizeError(), "--image-size needs --images or --video-frames"),
    (
        media.ImageSizeError((384, 384), (224, 224)),
        "--image-size 384x384: the network is built for images of 224 × 224 pixels, and takes no others. Leave "
        "--image-size out, or name a folder whose config.json has another img_size or dynamic_img_size in model_args",
    ),
    (
        media.NetworkError("textbook"),
        "the textbook's formulas are for language models, and this is a network for images",
    ),
    (
        media.NetworkError("media", "--audio-seconds"),
        "--audio-seconds has no meaning here: this network takes images only. Leave it out",
    ),
    (media.NetworkError("engine", "vllm"), "--runtime vllm runs no networks of timm: leave --runtime out"),
    (visits.TooManyError("models", 9, 8), "9 models are more than the 8 that this page takes at once"),
    (
        visits.TooManyError("values", 9, 8, "--gpu"),
        "9 values of --gpu are more than the 8 that this page takes at once",
    ),
    (visits.TooLongError("--dtype", 200), "--dtype has more than 200 characters"),
    (visits.TooLongError("model", 200), "the name of a model has more than 200 characters"),
    (visits.UnknownKeyError("sqe", "seq"), "'sqe' is not an option of this page (did you mean 'seq'?)"),
    (visits.UnknownKeyError("x"), "'x' is not an option of this page"),
    (
        visits.NotHereError("model", "/etc/passwd"),
        "'/etc/passwd' is not the id of a model on the Hub: files of a machine are for the command line, where the "
        "same question is `hfmem PATH`",
    ),
    (
        visits.NotHereError("--gpu", "auto"),
        "--gpu 'auto' is about the machine that serves this page, not yours: name what you have, or use the command "
        "line",
    ),
    (visits.BusyError(), "The page has as many visitors as it can serve: try again in a few seconds"),
    (visits.BusyError(20), "No answer within 20 s: try again, or ask for less at once"),
]
"""Errors of every kind with their sentence, without the full stop."""


def kinds() -> set[type[InvalidScenarioError]]:
    """The classes of every topic."""
    rooms = [import_module(f"hfmem.refusals.{room.name}") for room in iter_modules(refusals.__path__)]
    public = [getattr(room, name) for room in rooms for name in room.__all__]
    return {each for each in public if isinstance(each, type) and issubclass(each, InvalidScenarioError)}


def test_every_kind_has_words_and_a_sample() -> None:
    assert {*WORDS} == kinds() == {type(error) for error, _ in SAMPLES}


@pytest.mark.parametrize(("error", "sentence"), SAMPLES, ids=[sentence[:50] for _, sentence in SAMPLES])
def test_the_report_makes_the_sentence(error: InvalidScenarioError, sentence: str) -> None:
    problem = explain(error)
    assert (problem.message, problem.hint) == (f"{sentence}.", "`hfmem --help-all` lists the options.")
    assert (str(error), error.reason) == (sentence, sentence)
    assert error.args == ("", ""), "an error has facts, no words"


@pytest.mark.parametrize(("error", "sentence"), SAMPLES, ids=[sentence[:50] for _, sentence in SAMPLES])
def test_errors_can_be_pickled_and_copied(error: InvalidScenarioError, sentence: str) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert vars(again) == vars(error)
        assert str(again) == sentence


def test_errors_of_models_can_be_pickled() -> None:
    for name in errors.__all__:
        error = getattr(errors, name)("org/model", "seen")
        error.asked = "org/model@main"
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), "org/model: seen", vars(error))


def test_what_a_caller_gave_is_not_kept() -> None:
    """It may be of any size, and nothing that can be pickled."""
    error = options.WrongValueError("--batch", lambda: None, int)
    assert str(pickle.loads(pickle.dumps(error))).startswith("--batch is <function")


def test_scripts_see_one_word() -> None:
    assert {explain(error).code for error, _ in SAMPLES} == {"invalid_scenario_error"}
    assert {kind.code() for kind in kinds()} == {InvalidScenarioError.code()}


def test_an_error_of_others_keeps_its_words() -> None:
    """An engine that is registered from elsewhere may refuse in a sentence of its own, and with a class of its own."""

    class OwnError(InvalidScenarioError):
        pass

    assert explain(OwnError("", "its wires are short")).message == "its wires are short."
    assert str(InvalidScenarioError("org/model")) == "org/model"
    assert str(InvalidScenarioError()) == "invalid_scenario_error"


def test_words_are_there_whatever_is_imported() -> None:
    program = "from hfmem.refusals.splits import NoExpertsError; print(NoExpertsError(2))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told == "--ep 2 splits experts, but the model has none\n"


def worded(source: str, names: set[str]) -> Iterator[str]:
    """Errors of these names that are made with a sentence: a string with a space in it, or one that is put together, be
    it in a variable of the same function."""
    tree = ast.parse(source)
    for room in (tree, *(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))):
        made = {
            target.id
            for node in ast.walk(room)
            if isinstance(node, ast.Assign) and any(map(_is_sentence, ast.walk(node.value)))
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in ast.walk(room):
            if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in names:
                given = [inner for value in (*call.args, *call.keywords) for inner in ast.walk(value)]
                told = made if room is not tree else set()
                if any(_is_sentence(node) or (isinstance(node, ast.Name) and node.id in told) for node in given):
                    yield ast.unparse(call)


def _is_sentence(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and " " in node.value.strip()
    put_together = isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".join", ".format"))
    return isinstance(node, ast.JoinedStr) or put_together


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("raise InvalidScenarioError('', 'it is wrong')", True),
        ("raise errors.InvalidScenarioError('', f'{name}')", True),
        ("yield PromptError(f'--prompt {prompt}', seq)", True),
        ("raise FrozenError(parts=' and '.join(parts))", True),
        ("def f():\n    told = f'{a} of {b}'\n    raise FrozenError((told,))", True),
        ("def f():\n    told = f'{a} of {b}'\n    raise FrozenError(parts)", False),
        ("raise PromptError(prompt, 'seq')", False),
        ("raise ValueError('it is wrong')", False),
    ],
)
def test_a_sentence_is_seen(source: str, seen: bool) -> None:
    assert bool([*worded(source, {"InvalidScenarioError", "PromptError", "FrozenError"})]) is seen


def test_no_error_is_made_with_a_sentence() -> None:
    """The report makes it of the fields, and the base is for others."""
    names = {kind.__name__ for kind in kinds()}
    base = InvalidScenarioError.__name__
    for path in sorted(PACKAGE.rglob("*.py")):
        if not path.is_relative_to(PACKAGE / "report"):
            source = path.read_text(encoding="utf-8")
            assert list(worded(source, {base, *names})) == [], path
            calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
            assert base not in {ast.unparse(call.func).rpartition(".")[2] for call in calls}, path
