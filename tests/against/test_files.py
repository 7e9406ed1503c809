"""Files of measurements of every kind, and those that are none."""

from __future__ import annotations

import json
import pickle
import sys
import tracemalloc
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

import hfmem
from hfmem.against.read import read_log
from hfmem.against.values import Log
from hfmem.refusals.against import LogError
from hfmem.units import GIB, MIB
from tests.command import run

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
GPT2 = "openai-community/gpt2"

VLLM = """\
INFO api_server.py] vLLM API server version 0.19.0
INFO core.py] Initializing a V1 LLM engine (v0.19.0) with config: model='/home/ann/models/secret', \
dtype=torch.bfloat16, max_seq_len=4096, tensor_parallel_size=1, enforce_eager=False, kv_cache_dtype=auto
INFO gpu_model_runner.py] Model loading took 14.99 GiB memory and 7.389678 seconds
INFO gpu_worker.py] Memory profiling takes 17.89 seconds. torch peak memory increase: 1.89GiB
INFO gpu_worker.py] Available KV cache memory: 58.11 GiB
INFO kv_cache_utils.py] GPU KV cache size: 476,016 tokens
INFO gpu_model_runner.py] Graph capturing finished in 3 secs, took 0.91 GiB
"""


def read(text: str | bytes, folder: Path) -> Log:
    path = folder / "file.log"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_log(path)


def values(log: Log) -> dict[str, float]:
    return {reading.what: reading.value for reading in log.readings}


def test_settings_are_taken_from_the_log_and_what_was_asked_otherwise_is_named(tmp_path: Path) -> None:
    path = tmp_path / "vllm.log"
    path.write_text(VLLM)
    words = f"{LLAMA} --offline --gpu H100 --gpu-memory-utilization 0.95 --against {path}".split()
    done = run(*words)
    assert done.returncode == 0
    assert "Taken from the log: --runtime vllm --vllm-version 0.19.0 --seq 4096" in done.stdout
    assert "All terms agree." in done.stdout
    asked = json.loads(run(*words, "--max-model-len", "8192", "--runtime", "vllm", "--json").stdout)["results"][0]
    assert asked["against"]["differences"] == [{"option": "--seq", "log": 4096, "asked": 8192}]
    assert asked["against"]["off"] is None
    assert {row["term"] for row in asked["against"]["rows"]} >= {"weights", "activations", "graphs", "pool", "tokens"}


@pytest.mark.parametrize(
    ("was", "broken", "option"),
    [
        ("max_seq_len=4096", "max_seq_len=0", "--seq"),
        ("max_seq_len=4096", "max_seq_len=" + "9" * 5000, "--seq"),
        ("enforce_eager=False", "gpu_memory_utilization=1.2.3", "--gpu-memory-utilization"),
        ("enforce_eager=False", "gpu_memory_utilization=7.5", "--gpu-memory-utilization"),
        ("enforce_eager=False", "max_num_seqs=99999999999999999999", "--max-num-seqs"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_left_out_with_a_sentence(
    was: str, broken: str, option: str, tmp_path: Path
) -> None:
    path = tmp_path / "vllm.log"
    path.write_text(VLLM.replace(was, broken))
    words = f"{LLAMA} --offline --gpu H100 --against {path}".split()
    done = run(*words)
    assert done.returncode == 0
    assert f"Left out, as the log has no possible value for them: {option}." in done.stdout
    assert json.loads(run(*words, "--json").stdout)["results"][0]["against"]["broken"] == [option]


def test_a_long_log_is_read_line_by_line(tmp_path: Path) -> None:
    """The last start stands behind 24 MiB, half of which are a line without an end; memory stays small."""
    path = tmp_path / "vllm.log"
    request = "INFO 10.0.0.1:5000 - POST /v1/completions HTTP/1.1 200 OK " + "." * 1000 + "\n"
    with path.open("w") as stream:
        stream.write(VLLM.replace("14.99", "33.33"))
        for _ in range(12):
            stream.write("x" * 2**20)
        stream.write("\n")
        stream.write(request * (12 * 2**20 // len(request)))
        stream.write(VLLM)
    tracemalloc.start()
    try:
        log = read_log(path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert values(log)["weights"] == pytest.approx(14.99 * GIB)
    assert log.facts == ("several_starts",)
    assert most < 2**22


def test_lines_that_differ_in_numbers_only_may_say_something_too(tmp_path: Path) -> None:
    """A line without a figure, of the kind of one with a figure, comes first; so does a dtype that is none."""
    silent = VLLM.replace("14.99", "a lot of").replace("dtype=torch.bfloat16", "dtype=torch.bfloat99")
    assert silent != VLLM
    log = read(silent + VLLM, tmp_path)
    assert values(log)["weights"] == pytest.approx(14.99 * GIB)
    assert log.settings == read(VLLM, tmp_path).settings


def test_figures_that_are_no_size_are_left_out(tmp_path: Path) -> None:
    log = read(VLLM.replace("58.11", "9" * 400), tmp_path)
    assert "pool" not in values(log)
    assert values(log)["weights"] == pytest.approx(14.99 * GIB)


def test_a_list_that_is_written_to_a_file_is_held_against_nothing(tmp_path: Path) -> None:
    path = tmp_path / "vllm.log"
    path.write_text(VLLM)
    done = run(GPT2, "--offline", "--against", str(path), "--out", str(tmp_path / "rows.csv"))
    assert done.returncode == 2
    assert "--against cannot be used with --out" in done.stderr
    assert not (tmp_path / "rows.csv").exists()


@pytest.mark.parametrize("what", ["folder", "program"])
def test_what_is_no_log_is_refused_in_a_sentence(what: str, tmp_path: Path) -> None:
    path = tmp_path if what == "folder" else Path(sys.executable)
    done = run(GPT2, "--offline", "--against", str(path))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert ("cannot be read" if what == "folder" else "neither text nor a snapshot") in done.stderr


def test_a_contribution_has_no_path(tmp_path: Path) -> None:
    path = tmp_path / "vllm.log"
    path.write_text(VLLM)
    report = hfmem.estimate(LLAMA, runtime="vllm", gpu=("H100",), offline=True)
    found = hfmem.check(report, path)
    assert "ann" not in json.dumps(found.contribution)
    assert found.contribution["model"] == LLAMA


def test_check_is_a_function_whatever_was_imported_before(tmp_path: Path) -> None:
    import hfmem.preflight.lines

    path = tmp_path / "vllm.log"
    path.write_text(VLLM)
    report = hfmem.estimate(LLAMA, runtime="vllm", gpu=("H100",), offline=True)
    assert hfmem.check(report, str(path)).log.version == "0.19.0"


def test_the_last_start_counts(tmp_path: Path) -> None:
    log = read(VLLM.replace("14.99", "99.99") + VLLM, tmp_path)
    assert values(log)["weights"] == pytest.approx(14.99 * GIB)
    assert log.facts == ("several_starts",)


SUMMARY = (
    "(Worker_TP1 pid=1806414) INFO 10-23 15:14:56 [gpu_worker.py:391] Free memory on device (139.21/139.81 GiB) on "
    "startup. Desired GPU memory utilization is (0.9, 125.83 GiB). Actual usage is 74.28 GiB for weight, 5.58 GiB for "
    "peak activation, 1.38 GiB for non-torch memory, and 2.37 GiB for CUDAGraph memory. Replace gpu_memory_utilization "
    "config with `--kv-cache-memory=45175492096` to fit into requested memory. Current kv cache memory in use is "
    "47878721024 bytes.\n"
)
"""What vLLM 0.10.2 printed of Qwen3-Next-80B-A3B on two H200."""

CONSUMED = (
    "(EngineCore pid=326) INFO 10-06 17:00:41 [gpu_worker.py:955] Free memory on device (78.84/79.25 GiB) on startup. "
    "Desired GPU memory utilization is (0.92, 72.91 GiB). Actual usage is 15.26 GiB for consumed memory (weights + "
    "non-torch), 1.44 GiB for peak activation, and 0.23 GiB for CUDAGraph memory. Current kv cache memory in use is "
    "56.21 GiB.\n"
)
"""What vLLM 0.31.0 printed of Llama-3.1-8B on an A100."""


def test_what_vllm_sums_up_at_the_end(tmp_path: Path) -> None:
    log = read(SUMMARY, tmp_path)
    gib = {what: round(value / GIB, 2) for what, value in values(log).items()}
    assert gib == {
        "weights": 74.28,
        "activations": 5.58,
        "libraries": 1.38,
        "graphs": 2.37,
        "pool": 44.59,
        "free": 139.21,
    }
    assert log.settings == {"gpu_memory_utilization": 0.9}
    newer = {what: round(value / GIB, 2) for what, value in values(read(CONSUMED, tmp_path)).items()}
    assert newer == {"consumed": 15.26, "peak": 1.44, "graphs": 0.23, "pool": 56.21, "free": 78.84}


def test_a_sum_is_named_where_its_part_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "vllm.log"
    path.write_text(CONSUMED.replace("15.26", "25.26"))
    report = hfmem.estimate(LLAMA, runtime="vllm", gpu=("A100 80GB",), vllm_version="0.31.0", seq=131072, offline=True)
    assert hfmem.check(report, path).off == "consumed"
    path.write_text("Model loading took 25.0 GiB memory and 5 seconds\n" + CONSUMED.replace("15.26", "25.26"))
    assert hfmem.check(report, path).off == "weights"


RED = "\x1b[0;36m(EngineCore pid=1)\x1b[0;0m "


@pytest.mark.parametrize(
    "text",
    [
        RED + CONSUMED,
        RED.replace("\x1b", "") + CONSUMED,
        "vllm-1  | " + RED.replace("\x1b", "^[") + CONSUMED,
        json.dumps({"log": RED + CONSUMED, "stream": "stderr", "time": "2026-10-06T17:00:41Z"}) + "\n",
        json.dumps({"message": RED + CONSUMED, "kubernetes": {"pod_name": "a"}}) + "\n",
        "2026-10-06T17:00:41.123Z stderr F " + CONSUMED,
        "Oct 06 17:00:41 host docker[12]: " + CONSUMED,
        "│ " + CONSUMED.rstrip() + " │\n",
        CONSUMED.replace(". ", ".\n  ").replace("), ", "),\n  ").replace("activation, and", "activation, and\n"),
        "...ry utilization is (0.92, 72.91 GiB). " + CONSUMED[CONSUMED.index("Actual") :] + "Free memory on dev",
    ],
    ids=["colours", "lost", "caret", "docker", "fluentd", "kubernetes", "journal", "frame", "wrapped", "cut"],
)
def test_what_stands_around_a_line(text: str, tmp_path: Path) -> None:
    found = values(read(text, tmp_path))
    assert {"consumed", "peak", "graphs", "pool"} <= set(found)
    assert found["consumed"] == pytest.approx(15.26 * GIB)


def test_settings_of_arguments_that_change_memory(tmp_path: Path) -> None:
    log = read(
        "INFO [utils.py:233] non-default args: {'model': 'a/b', 'tensor_parallel_size': 4, 'enable_expert_parallel': "
        "True, 'kv_cache_dtype': 'fp8', 'mamba_cache_dtype': 'float16', 'block_size': 256, 'mamba_block_size': 16, "
        "'limit_mm_per_prompt': {'image': 2, 'audio': 0}, 'enable_prefix_caching': False, 'max_num_seqs': 16, "
        "'speculative_config': {'method': 'qwen3_next_mtp', 'num_speculative_tokens': 2}}\n" + CONSUMED,
        tmp_path,
    )
    assert log.settings == {
        "tp": 4,
        "ep": 4,
        "expert_parallel": True,
        "kv_dtype": "fp8",
        "block_size": 256,
        "limit_mm_per_prompt": '{"image": 2, "audio": 0}',
        "enable_prefix_caching": False,
        "max_num_seqs": 16,
        "spec_method": "mtp",
        "spec_tokens": 2,
        "gpu_memory_utilization": 0.92,
    }


@pytest.mark.parametrize(
    ("line", "what", "value"),
    [
        (
            "(4.76 GiB KV cache is needed, which is larger than the available KV cache memory (1.56 GiB)",
            "request",
            4.76,
        ),
        ("(4.76 GiB KV cache is needed, which is larger than the available KV cache memory (1.56 GiB)", "pool", 1.56),
        ("peak_torch_memory=17.06GiB non_torch_memory=0.35GiB kv_cache_size=3.81GiB", "pool", 3.81),
        ("peak_torch_memory=17.06GiB non_torch_memory=0.35GiB kv_cache_size=3.81GiB", "torch_peak", 17.06),
        ("Initial free memory 31.16 GiB, reserved 4.25 GiB memory for KV Cache as specified by", "pool", 4.25),
        ("model weights take 7.56GiB; non_torch_memory takes 0.04GiB;", "libraries", 0.04),
        ("CUDA graph pool memory: 0.24 GiB (actual), 0.58 GiB (estimated)", "graphs", 0.24),
    ],
)
def test_lines_of_vllm_that_say_more(line: str, what: str, value: float, tmp_path: Path) -> None:
    assert values(read(line + "\n", tmp_path))[what] == pytest.approx(value * GIB)


def test_counts_of_vllm(tmp_path: Path) -> None:
    assert values(read("# GPU blocks: 1952, # CPU blocks: 2048\n", tmp_path)) == {"blocks": 1952}
    assert values(read("GPU + host KV cache size: 1,000 tokens, Maximum concurrency\n", tmp_path)) == {"tokens": 1000}
    stored = "larger than the maximum number of tokens that can be stored in KV cache (2400).\n"
    assert values(read(stored, tmp_path)) == {"tokens": 2400}


def test_sglang_with_a_dictionary_and_a_pool_after_its_graphs(tmp_path: Path) -> None:
    """0.5.23, entrypoints/engine.py::_server_args_for_logging, model_runner_components/kv_pool_runtime.py."""
    log = read(
        "[2026-09-20 10:00:00] server_args={'model_path': 'a/b', 'tp_size': 2, 'mem_fraction_static': 0.85, "
        "'context_length': 8192, 'max_running_requests': 64, 'page_size': 1}\n"
        "[2026-09-20 10:00:09 TP0] KV Cache VA upper bound. dtype: torch.bfloat16, #tokens: 900, KV size: 90.00 GB\n"
        "[2026-09-20 10:00:19 TP0] Post-capture KV sizing: KV cache allocated. dtype: torch.bfloat16, #tokens: 800, "
        "KV size: 80.00 GB, avail mem=3.00 GB\n",
        tmp_path,
    )
    assert values(log) == {"pool": 80 * GIB, "tokens": 800, "per_token": pytest.approx(0.1 * GIB)}
    assert log.settings == {
        "tp": 2,
        "mem_fraction_static": 0.85,
        "seq": 8192,
        "max_running_requests": 64,
        "page_size": 1,
    }


def test_old_buffers_of_llama_cpp(tmp_path: Path) -> None:
    lines = (
        "llm_load_tensors: offloaded 41/41 layers to GPU\n"
        "llm_load_tensors:        CPU buffer size =  1640.62 MiB\n"
        "llm_load_tensors:      CUDA0 buffer size =  5434.38 MiB\n"
        "llama_kv_cache_init:      CUDA0 KV buffer size =  1536.00 MiB\n"
        "llama_new_context_with_model: flash_attn = 0\n"
    )
    log = read(lines, tmp_path)
    assert values(log) == {"weights": 5434.38 * MIB, "cache": 1536 * MIB}
    assert log.settings["flash_attn"] == "off"


OLLAMA = (
    'level=INFO source=device.go:240 msg="model weights" device=CUDA0 size="5.0 GiB"\n'
    'level=INFO source=device.go:240 msg="model weights" device=CUDA0 size="4.1 GiB"\n'
    'level=INFO source=device.go:245 msg="model weights" device=CPU size="28.3 GiB"\n'
    'level=INFO source=device.go:251 msg="kv cache" device=CUDA0 size="884.1 MiB"\n'
)


def test_ollama_tells_what_each_device_takes(tmp_path: Path) -> None:
    """The last of several divisions counts; and what the runner itself prints counts more."""
    log = read(OLLAMA, tmp_path)
    assert log.software == "ollama"
    assert values(log) == {"weights": 4.1 * GIB, "cache": 884.1 * MIB}
    both = read(OLLAMA + "load_tensors:        CUDA0 model buffer size =  4200.00 MiB\n", tmp_path)
    assert both.software == "ollama"
    assert values(both) == {"weights": 4200 * MIB}


OUT = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {tried}. GPU 0 has a total capacity of 22.05 GiB of "
    "which 10.81 MiB is free. Including non-PyTorch memory, this process has 17.05 GiB memory in use. Of the allocated "
    "memory 15.43 GiB is allocated by PyTorch, and 1.07 GiB is reserved by PyTorch but unallocated.\n"
)


def test_a_run_that_ran_out_of_memory_had_at_least_so_much(tmp_path: Path) -> None:
    assert values(read(OUT.format(tried="238.00 MiB"), tmp_path)) == {"allocated": 15.43 * GIB}
    path = tmp_path / "out.log"
    path.write_text(OUT.format(tried="2.00 GiB"))
    log = read_log(path)
    assert values(log) == {"allocated": pytest.approx(17.43 * GIB)}
    assert log.facts == ("out_of_memory",)
    larger = hfmem.estimate(LLAMA, train="lora", batch=8, seq=4096, offline=True)
    smaller = hfmem.estimate(GPT2, train="lora", batch=1, seq=128, offline=True)
    assert [hfmem.check(report, path).off for report in (larger, smaller)] == [None, "allocated"]


def test_ranks_that_differ(tmp_path: Path) -> None:
    log = read("Model loading took 10.0 GiB\nModel loading took 12.0 GiB\n", tmp_path)
    assert values(log) == {"weights": 12 * GIB}
    assert log.facts == ("ranks",)


def test_differences_below_zero_are_left_out(tmp_path: Path) -> None:
    """A real line of SGLang: memory that the loader held was released in between."""
    lines = "Load weight end. type=A, mem usage=12.91 GB.\nCapture cuda graph end. mem usage=-5.29 GB.\n"
    log = read(lines, tmp_path)
    assert values(log) == {"weights": 12.91 * GIB}
    assert log.facts == ("negative",)


def test_pools_of_windows_are_one_pool(tmp_path: Path) -> None:
    lines = (
        "KV Cache is allocated. #tokens: 81675, K size: 6.23 GB, V size: 6.23 GB\n"
        "KV Cache is allocated. #tokens: 102094, K size: 0.78 GB, V size: 0.78 GB\n"
        "SWAKVPool mem usage: 14.02 GB, swa size: 81675, full size: 102094\n"
    )
    log = read(lines, tmp_path)
    assert (values(log)["pool"], values(log)["tokens"]) == (14.02 * GIB, 102_094)
    assert "hybrid" in log.facts


def test_buffers_of_the_fullest_device(tmp_path: Path) -> None:
    lines = (
        "load_tensors:   CPU_Mapped model buffer size =   308.23 MiB\n"
        "load_tensors:        CUDA0 model buffer size =  1918.35 MiB\n"
        "load_tensors:        CUDA1 model buffer size =   100.00 MiB\n"
        "llama_kv_cache:      CUDA0 KV buffer size =   224.00 MiB\n"
        "llama_kv_cache:      CUDA0 KV buffer size =   224.00 MiB\n"
        "sched_reserve:      CUDA0 compute buffer size =   256.50 MiB\n"
        "sched_reserve:  CUDA_Host compute buffer size =    14.01 MiB\n"
    )
    assert values(read(lines, tmp_path)) == {
        "weights": 1918.35 * MIB,
        "cache": 448 * MIB,
        "activations": 256.5 * MIB,
    }


STATISTICS = {"allocated_bytes.all.peak": 3 * GIB, "reserved_bytes.all.peak": 4 * GIB, "num_ooms": 0}


@pytest.mark.parametrize("text", [json.dumps(STATISTICS), repr(STATISTICS), repr(OrderedDict(STATISTICS))])
def test_statistics_of_pytorch(text: str, tmp_path: Path) -> None:
    assert values(read(text, tmp_path)) == {"allocated": 3 * GIB, "reserved": 4 * GIB}


def snapshot(events: list[dict[str, Any]]) -> bytes:
    """As `torch.cuda.memory._dump_snapshot` writes one (PyTorch 2.13)."""
    segments = [
        {"device": 0, "address": 1, "total_size": 20 * MIB, "allocated_size": 12 * MIB, "blocks": []},
        {"device": 0, "address": 2, "total_size": 2 * MIB, "allocated_size": 1 * MIB, "blocks": []},
    ]
    return pickle.dumps({"segments": segments, "device_traces": [events]})


def test_a_snapshot_has_its_peak_in_its_history(tmp_path: Path) -> None:
    events = [
        {"action": "alloc", "size": 13 * MIB, "addr": 1},
        {"action": "alloc", "size": 7 * MIB, "addr": 2},
        {"action": "free_requested", "size": 7 * MIB, "addr": 2},
        {"action": "free_completed", "size": 7 * MIB, "addr": 2},
    ]
    log = read(snapshot(events), tmp_path)
    assert values(log) == {"allocated": 20 * MIB, "reserved": 22 * MIB}
    assert log.facts == ()
    assert read(snapshot([]), tmp_path).facts == ("current_only",)


def test_a_snapshot_is_data(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "run",))

    content = pickle.dumps({"segments": [Attack()], "device_traces": []})
    with pytest.raises(LogError):
        read(content, tmp_path)
    assert not (tmp_path / "run").exists()


def test_metrics_of_the_trainer_add_up_to_the_peak(tmp_path: Path) -> None:
    """transformers, TrainerMemoryTracker: a stage's peak is on top of what was there at its end."""
    text = (
        "***** train metrics *****\n"
        "  init_mem_gpu_alloc_delta   =      475MB\n"
        "  train_mem_gpu_alloc_delta  =     1428MB\n"
        "  train_mem_gpu_peaked_delta =      300MB\n"
    )
    assert values(read(text, tmp_path)) == {"allocated": (475 + 1428 + 300) * MIB}


@pytest.mark.parametrize(
    "text",
    [
        "|  0%   36C    P0    64W / 300W |   9542MiB / 22731MiB |      0%      Default |\n"
        "| N/A   32C    P0    79W / 400W |  38109MiB / 40536MiB |      0%      Default |\n",
        "memory.used [MiB], memory.total [MiB]\n9542 MiB, 22731 MiB\n38109 MiB, 40536 MiB\n",
    ],
)
def test_what_nvidia_smi_prints(text: str, tmp_path: Path) -> None:
    assert values(read(text, tmp_path)) == {"used": 38_109 * MIB}


def test_training_is_held_against_what_pytorch_allocated(tmp_path: Path) -> None:
    report = hfmem.estimate(GPT2, train="full", batch=1, seq=128, offline=True)
    assert report.estimate.training is not None
    path = tmp_path / "stats.json"
    for share, off in ((1.0, None), (2.0, "allocated")):
        peak = round(report.estimate.training.allocated * share)
        path.write_text(json.dumps({"allocated_bytes.all.peak": peak}))
        assert hfmem.check(report, path).off == off


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"hello\nworld\n", "has no line about memory that is known"),
        (b"\x00\x01\x02" * 100, "neither text nor a snapshot"),
        (b"\x80\x04broken", "has no line about memory that is known"),
        (b'{"a": 1}', "has no line about memory that is known"),
        (b"Model loading took 1 GiB\nLoad weight end. mem usage=1.0 GB\n", "has lines of sglang and vllm"),
        (b"Model loading took 1.2.3 GiB\n", "has no line about memory that is known"),
    ],
)
def test_other_files_get_a_sentence(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "file.log"
    path.write_bytes(content)
    done = run(GPT2, "--offline", "--against", str(path))
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    with pytest.raises(LogError):
        read_log(path)


def test_a_file_that_is_not_there_and_several_models() -> None:
    done = run(GPT2, "--offline", "--against", "/nowhere/file.log")
    assert done.returncode == 2
    assert "file.log cannot be read" in done.stderr
    assert "is for a single model" in run(GPT2, LLAMA, "--offline", "--against", "/nowhere/file.log").stderr


def test_a_log_in_utf_16_and_a_long_line(tmp_path: Path) -> None:
    """As PowerShell's `>` writes it."""
    assert values(read(VLLM.encode("utf-16"), tmp_path))["weights"] == pytest.approx(14.99 * GIB)
    assert values(read("x" * 10**6 + "\n" + VLLM, tmp_path))["weights"] == pytest.approx(14.99 * GIB)


def test_an_estimate_of_another_engine_is_named(tmp_path: Path) -> None:
    path = tmp_path / "vllm.log"
    path.write_text(VLLM)
    found = hfmem.check(hfmem.estimate(LLAMA, offline=True, seq=4096), path)
    assert any(each.option == "--runtime" and each.stated == "vllm" for each in found.differences)
