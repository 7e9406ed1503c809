"""What llama.cpp is asked, from options: contexts of all sequences, contradictions, and the line that starts it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hfmem
from hfmem.engines.llamacpp.command import launch_line
from hfmem.engines.llamacpp.refusals import refusal
from hfmem.engines.llamacpp.settings import LlamaServer, LlamaSettings, padded, server
from hfmem.errors import InvalidScenarioError
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.interpret import Model, interpret
from hfmem.report.errors import explain
from hfmem.scenario.options import Options
from tests.estimator.llamacpp.buffers import blocks_of
from tests.estimator.llamacpp.small import blocks
from tests.mapper.gguf_models import model
from tests.test_gguf import made, run

FILE = "Qwen2.5-0.5B.Q4_K_M.gguf"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(made(Path(tmp_path_factory.mktemp("gguf")), FILE))


def command(path: str, **asked: Any) -> list[str]:
    serving = hfmem.estimate(path, **asked).estimate.serving
    assert serving is not None
    return str(serving.command).split()


def after(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1]


@pytest.mark.parametrize(
    ("asked", "context", "slots"),
    [
        ({"seq": 1000, "batch": 4}, 4000, 4),
        ({"seq": 1000}, 1000, 1),
        ({}, 4096, 1),
        ({"ctx_size": 8192}, 8192, 1),
        ({"ctx_size": 8192, "parallel": 4}, 8192, 4),
        ({"ctx_size": 8192, "batch": 4}, 8192, 4),
        ({"parallel": 4, "seq": 2048}, 8192, 4),
        ({"parallel": 4, "batch": 4, "seq": 2048, "ctx_size": 8192}, 8192, 4),
        # what does not divide is the context's
        ({"ctx_size": 1000, "parallel": 3}, 1000, 3),
    ],
)
def test_a_context_is_of_all_sequences_together(path: str, asked: dict[str, Any], context: int, slots: int) -> None:
    words = command(path, **asked)
    assert (after(words, "-c"), after(words, "-np")) == (str(context), str(slots))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"ctx_size": 8192, "seq": 4096, "batch": 4}, "--ctx-size contradicts --seq x --batch"),
        ({"ctx_size": 8192, "seq": 4096, "parallel": 4}, "--ctx-size contradicts --seq x --batch"),
        ({"parallel": 4, "batch": 2}, "--parallel contradicts --batch"),
    ],
)
def test_contradictions_are_refused(path: str, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidScenarioError) as error:
        hfmem.estimate(path, **asked)
    assert words in explain(error.value).message


def test_a_contradiction_is_a_wrong_usage(path: str) -> None:
    process = run(path, "-c", "8192", "--seq", "4096", "-np", "4")
    assert (process.returncode, process.stdout) == (2, "")
    assert "--ctx-size contradicts --seq x --batch" in process.stderr


def test_contexts_are_padded_to_256_in_each_stream() -> None:
    assert [padded(number) for number in (1, 256, 257)] == [256, 256, 512]
    settings = LlamaSettings(n_ctx=5000, n_seq_max=4)
    assert (settings.cells, settings.streams) == (1280, 4)
    settings = replace(settings, unified=True)
    assert (settings.cells, settings.streams) == (5120, 1)


def test_a_batch_is_no_longer_than_the_context_and_a_multiple_of_the_sequences() -> None:
    assert LlamaSettings(n_ctx=4096).tokens == 512
    assert LlamaSettings(n_ctx=100).tokens == 256
    assert LlamaSettings(n_ctx=4096, n_seq_max=3).tokens == 513


def test_a_logical_batch_bounds_what_is_computed_at_once(path: str) -> None:
    assert "-ub" not in command(path)
    assert after(command(path, ubatch_size=1024), "-ub") == "1024"
    assert after(command(path, ubatch_size=1024, batch_size=64), "-ub") == "64"


def test_flash_attention_is_on_unless_it_is_switched_off() -> None:
    assert server(Options()).flash
    assert server(Options(flash_attn="on")).flash
    assert not server(Options(flash_attn="off")).flash


# --- what it does not start with --------------------------------------------------------------------------------------


def refused(file: str, **asked: Any) -> str:
    return refusal(blocks_of(file)[1], server(Options(**asked)), 1)


def test_quantised_values_need_flash_attention() -> None:
    assert refused(FILE, cache_type_v="q8_0") == ""
    assert refused(FILE, cache_type_k="q8_0", flash_attn="off") == ""
    assert "values in q8_0 only with flash attention" in refused(FILE, cache_type_v="q8_0", flash_attn="off")
    assert refused(FILE, cache_type_v="f32", flash_attn="off") == ""


def test_a_latent_has_one_type() -> None:
    latent = "DeepSeek-V2-Lite.Q4_K_M.gguf"
    assert "not with q8_0 and f16" in refused(latent, cache_type_k="q8_0")
    assert refused(latent, cache_type_k="q8_0", cache_type_v="q8_0") == ""
    assert refused(FILE, cache_type_k="q8_0") == ""


def test_blocks_divide_heads() -> None:
    odd = blocks(**{"attention.key_length": 80, "attention.value_length": 64})
    assert refusal(odd, server(Options(cache_type_v="q8_0")), 1) == ""
    found = refusal(odd, server(Options(cache_type_k="q8_0")), 1)
    assert found == "q8_0 has blocks of 32, which do not divide heads with keys of 80"
    assert refusal(odd, server(Options(cache_type_k="q8_0", flash_attn="off")), 1) == ""


def test_a_refusal_stands_in_the_report(path: str) -> None:
    found = hfmem.estimate(path, cache_type_v="q8_0", flash_attn="off", gpu="RTX 4090")
    assert "only with flash attention" in found.estimate.refused
    assert found.estimate.serving is not None
    assert (found.estimate.serving.command, found.estimate.serving.refused) == (None, found.estimate.refused)
    assert found.fits[0].fits is False
    assert found.estimate.total > 0


# --- the line ---------------------------------------------------------------------------------------------------------


def line(settings: LlamaSettings, **changed: Any) -> str:
    checkpoint: Checkpoint = replace(model(FILE), **changed)
    found: Model = interpret(checkpoint)
    return launch_line(found, settings, flash=settings.flash)


def test_the_line_names_what_is_not_the_default() -> None:
    plain = line(LlamaSettings(n_ctx=4096))
    assert plain == f"llama-server -m {FILE} -c 4096 -np 1 -ngl all --flash-attn on"
    everything = LlamaSettings(
        n_ctx=8192,
        n_ubatch=1024,
        n_seq_max=2,
        flash=False,
        type_k="q8_0",
        type_v="bf16",
        unified=True,
        swa_full=True,
        n_gpu_layers=12,
        tensor_split=(3.0, 1.5),
        split_mode="none",
        n_cpu_moe=4,
        overrides=(("blk\\.[0-3]\\.ffn", "CPU"),),
        offload_kqv=False,
    )
    assert line(everything) == (
        f"llama-server -m {FILE} -c 8192 -np 2 -ngl 12 --flash-attn off -ub 1024 -ctk q8_0 -ctv bf16 --n-cpu-moe 4 "
        "-ot 'blk\\.[0-3]\\.ffn=CPU' -ts 3,1.5 --split-mode none --no-kv-offload --kv-unified --swa-full"
    )


def test_the_line_names_a_repository_and_its_quantisation() -> None:
    settings = LlamaSettings(n_ctx=4096)
    chosen = line(settings, source="hub", ref=ModelRef(model_id="org/m-GGUF", quant="Q4_K_M"))
    assert "-hf org/m-GGUF:Q4_K_M -c" in chosen
    assert "-hf org/m-GGUF -c" in line(settings, source="hub", ref=ModelRef(model_id="org/m-GGUF"))
    assert f"-m '/a b/{FILE}' -c" in line(settings, ref=ModelRef(model_id=f"/a b/{FILE}"))
    assert f"-m '/a b/{FILE}' -c" in line(settings, ref=ModelRef(model_id="/a b"))  # a folder, and its file


def test_fields_of_json_are_what_was_asked() -> None:
    found = LlamaServer(asked=Options(cache_type_k="q8_0", n_cpu_moe=3, ubatch_size=256), flash=True).fields()
    assert (found["cache_type_k"], found["cache_type_v"]) == ("q8_0", "f16")
    assert (found["n_cpu_moe"], found["ubatch_size"], found["kv_unified"]) == (3, 256, False)
