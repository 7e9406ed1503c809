"""The command line as a person uses it, against a local Hub or with none; whole processes where that is the point."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hfmem import __version__
from hfmem.report.formats import FORMATS
from tests.command import process, run
from tests.fetcher.test_hub import CONFIG, ROWS
from tests.hub import Hub, adapter, binary, diffusers, gguf, html_page, sharded, single, stalled

LLAMA = "meta-llama/Llama-2-7b-hf"


def on_terminal(*arguments: str, env: dict[str, str], columns: int) -> str:
    """What a terminal of so many columns shows, without colours unless the environment asks for them."""
    env = {"NO_COLOR": "1"} | {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "hfmem", *arguments], env=env, stdout=child, stderr=child, stdin=subprocess.DEVNULL
    ) as running:
        os.close(child)
        shown = b""
        while True:
            try:
                piece = os.read(parent, 65536)
            except OSError:  # the terminal is closed when the process ends
                break
            if not piece:
                break
            shown += piece
        running.wait(60)
    os.close(parent)
    return shown.decode().replace("\r\n", "\n")


def test_the_main_job_without_a_network(alone: dict[str, str]) -> None:
    done = process(LLAMA, "--batch", "4", "--seq", "4096", "--format", "json", env=alone)
    assert done.returncode == 0
    (result,) = json.loads(done.stdout)["results"]
    assert result["parameters"]["total"] == 6_738_415_616
    assert result["memory"]["weights"] == 13_476_831_232
    assert result["memory"]["kv_cache"] == 8_589_934_592
    assert result["source"] == "catalog"


def test_the_card_without_a_network(alone: dict[str, str]) -> None:
    done = run(LLAMA, "--batch", "4", "--seq", "4096", env=alone)
    assert re.search(r"weights +12\.55 GiB", done.stdout)
    assert re.search(r"KV cache +8\.00 GiB", done.stdout)
    assert "the bundled catalog" in done.stdout


@pytest.mark.parametrize("option", ["--version", "--help", "-h"])
def test_quick_answers(option: str) -> None:
    done = process(option)
    assert done.returncode == 0
    assert (__version__ if option == "--version" else "--kv-dtype") in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "No model given"),
        ([LLAMA, "--batch", "0"], "--batch"),
        ([LLAMA, "--seq", "x"], "--seq"),
        ([LLAMA, "--dtype", "float99"], "float99"),
        ([LLAMA, "--train", "full", "--optimizer", "adamz"], "adamw"),
        ([LLAMA, "--zero", "2"], "--train"),
        ([LLAMA, "--train", "full", "--dtype", "nf4"], "qlora"),
        ([LLAMA, "--train", "full", "--from-args", "missing.yaml"], "cannot be read"),
        ([LLAMA, "--sort", "beauty"], "--sort 'beauty'"),
        ([LLAMA, "--format", "xml"], "xml"),
        ([LLAMA, "--nonsense"], "--nonsense"),
        (["--from", "/nowhere/list.txt"], "cannot be read"),
    ],
)
def test_wrong_usage_is_two_and_a_sentence(arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stdout == ""


def test_textbook_training_is_allowed(alone: dict[str, str]) -> None:
    done = run(
        LLAMA,
        "--method",
        "textbook",
        "--train",
        "full",
        "--optimizer",
        "sgd",
        "--format",
        "json",
        "--offline",
        env=alone,
    )
    (result,) = json.loads(done.stdout)["results"]
    assert result["memory"]["optimizer"] == result["memory"]["gradients"] == 4 * 6_738_415_616
    assert result["scenario"]["mode"] == "training"


def test_the_hub_then_the_cache(hub: Hub, hub_env: dict[str, str]) -> None:
    hub.put(single("org/small", CONFIG, ROWS))
    sources = [
        json.loads(run("org/small", "--format", "json", *more, env=hub_env).stdout)["results"][0]["source"]
        for more in ([], [], ["--offline"], ["--no-cache"])
    ]
    assert sources == ["hub", "cache", "cache", "hub"]


def test_failures_are_rows_and_sentences_and_the_others_are_shown(hub: Hub, hub_env: dict[str, str]) -> None:
    hub.put(
        single("org/a", CONFIG, ROWS),
        replace(binary("org/g", CONFIG, [5]), gated="manual"),
        single("org/b", CONFIG, ROWS),
    )
    done = run("org/a", "org/missing", "org/g", "org/b", env=hub_env)
    assert done.returncode == 1
    rows = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("org/")]
    assert rows == ["org/a", "org/b", "org/missing", "org/g"]
    assert "org/missing was not found" in done.stderr
    assert "accept its licence" in done.stderr.lower()
    assert "hf auth login" in done.stderr


def test_models_from_a_file_and_from_stdin(hub: Hub, hub_env: dict[str, str], tmp_path: Path) -> None:
    hub.put(single("org/a", CONFIG, ROWS), single("org/b", CONFIG, ROWS))
    listing = "org/a  # the first\n\n# a comment\norg/b\norg/a\n"
    (tmp_path / "list.txt").write_text(listing)
    for source, stdin in ((str(tmp_path / "list.txt"), ""), ("-", listing)):
        done = run("--from", source, "--format", "quiet", env=hub_env, stdin=stdin)
        assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["org/a", "org/b", "org/a"]


def test_every_list_is_read_in_order(hub: Hub, hub_env: dict[str, str], tmp_path: Path) -> None:
    hub.put(*(single(f"org/{name}", CONFIG, ROWS) for name in "abcd"))
    (tmp_path / "first.txt").write_text("org/b\n")
    (tmp_path / "last.txt").write_text("org/d\norg/b\n")
    sources = (str(tmp_path / "first.txt"), "-", str(tmp_path / "last.txt"))
    lists = [word for source in sources for word in ("--from", source)]
    done = run("org/a", *lists, "--format", "quiet", env=hub_env, stdin="org/c\n")
    assert [line.split("\t")[0][-1] for line in done.stdout.splitlines()] == [*"abcdb"]
    missing = run(*lists, "--from", "/nowhere/list.txt", env=hub_env)
    assert (missing.returncode, missing.stdout) == (2, "")


def test_a_table_is_sorted_and_every_line_of_jsonl_is_json(hub: Hub, hub_env: dict[str, str]) -> None:
    hub.put(single("org/large", CONFIG | {"vocab_size": 10}, [*ROWS, ("more.weight", "BF16", (99, 9))]))
    hub.put(single("org/small", CONFIG, ROWS))
    done = run("org/large", "org/small", "org/none", "--sort", "weights", "--format", "jsonl", env=hub_env)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["model"] for line in lines] == ["org/small", "org/large", "org/none"]
    assert lines[2]["error"] == "model_not_found_error"


def test_layouts_that_are_not_read_yet(hub: Hub, hub_env: dict[str, str]) -> None:
    hub.put(
        binary("org/bin", CONFIG, [1000]),
        binary("org/odd", {"model_type": "a_type_nobody_knows"}, [1000]),
        gguf("org/gguf", {"a-Q4.gguf": [("a", "F16", (4,))], "a-Q8.gguf": [("a", "F16", (4,))]}),
        adapter("org/lora", {"base_model_name_or_path": "org/base"}, [("lora_A.weight", "F32", (8, 4))]),
        diffusers("org/pipe", {"unet": [("w.weight", "F16", (4, 4))], "vae": [("v.weight", "F16", (2, 2))]}),
    )
    results = {}
    for name in ("bin", "odd", "gguf", "lora", "pipe"):
        done = run(f"org/{name}", "--format", "json", env=hub_env)
        (results[name],) = json.loads(done.stdout)["results"]
        assert done.returncode == 0
    weights = {name: result["memory"]["weights"] for name, result in results.items()}
    assert weights == {"bin": weights["bin"], "odd": 1000, "gguf": 8, "lora": 128, "pipe": 40}
    assert "pickles" in " ".join(results["bin"]["notes"])
    assert "adapter" in " ".join(results["lora"]["notes"])
    assert "Of 2 quantisations" in " ".join(results["gguf"]["notes"])


def test_a_page_of_a_captive_portal(hub: Hub, hub_env: dict[str, str]) -> None:
    hub.fail("*", html_page(), times=None)
    done = run("org/any", env=hub_env)
    assert done.returncode == 1
    assert "does not answer as the Hub does" in done.stderr


def test_a_failure_does_not_wait_for_requests_that_stall(hub: Hub, hub_env: dict[str, str]) -> None:
    hub.fail("*/resolve/*", stalled(), times=None)
    started = time.monotonic()
    assert process("org/missing", env=hub_env).returncode == 1
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_narrow_terminals(hub: Hub, hub_env: dict[str, str], columns: int) -> None:
    hub.put(sharded("org/a", CONFIG, ROWS, 2), single("org/b", CONFIG, ROWS))
    shown = on_terminal("org/a", "org/b", env=hub_env, columns=columns)
    assert max(map(len, shown.splitlines())) <= columns
    assert "\x1b[" not in on_terminal("org/a", env={**hub_env, "NO_COLOR": "1"}, columns=columns)


def test_a_terminal_without_unicode(alone: dict[str, str]) -> None:
    done = process(LLAMA, "--explain", env={**alone, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0


def test_a_reader_that_goes_away(alone: dict[str, str]) -> None:
    command = f"{sys.executable} -m hfmem {LLAMA} --format json --offline | head -c 1"
    done = subprocess.run(command, shell=True, env=alone, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("{", "")


def test_a_disk_that_is_too_small_is_told(alone: dict[str, str]) -> None:
    done = run("deepseek-ai/DeepSeek-V3", "--offline", env=alone)
    import shutil

    too_small = shutil.disk_usage(alone["HF_HOME"]).free < 680 * 2**30
    assert ("Warning: downloading" in done.stderr) == too_small
    several = run("deepseek-ai/DeepSeek-V3", LLAMA, "--offline", env=alone)
    assert (several.returncode, several.stderr, "disk" in several.stdout) == (0, "", False)
    shown = on_terminal("deepseek-ai/DeepSeek-V3", LLAMA, "--offline", env=alone, columns=200)
    assert "Warning" not in shown
    assert ("too small" in shown) == too_small


def test_sentences_are_folded_between_words(alone: dict[str, str]) -> None:
    """Warnings and errors too, where stderr is a terminal; elsewhere they are lines of their own."""
    shown = on_terminal("org/nothing", "--offline", env=alone, columns=60)
    assert max(map(len, shown.splitlines())) <= 60
    assert "neither the cache nor the bundled catalog" in " ".join(shown.split())
    assert run("org/nothing", "--offline", env=alone).stderr.count("\n") == 1


@pytest.mark.parametrize("columns", [60, 80])
def test_a_list_on_a_narrow_terminal_has_its_totals_and_names_what_it_lacks(
    alone: dict[str, str], columns: int
) -> None:
    shown = on_terminal(LLAMA, "openai-community/gpt2", "--offline", env=alone, columns=columns)
    assert "total" in shown
    assert "columns left out: " in shown


def test_nothing_heavy_is_imported_for_a_plain_run(alone: dict[str, str]) -> None:
    program = (
        "import sys; sys.argv = ['hfmem', sys.argv[1], '--offline']\n"
        "from hfmem.cli import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "heavy = {'transformers', 'torch', 'httpx2', 'huggingface_hub.hf_api', 'numpy'} & set(sys.modules)\n"
        "print('heavy:', heavy)"
    )
    done = subprocess.run([sys.executable, "-c", program, LLAMA], env=alone, capture_output=True, text=True, check=True)
    assert "heavy: set()" in done.stdout


def test_an_interruption_keeps_what_is_there(hub: Hub, hub_env: dict[str, str]) -> None:
    hub.put(single("org/a", CONFIG, ROWS), single("org/b", CONFIG, ROWS))
    hub.fail("/api/models/org/b", stalled(), times=None)
    # the background of a shell ignores the signal, and so would its children
    listening = (
        "import runpy, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "sys.argv[0] = 'hfmem'; runpy.run_module('hfmem', run_name='__main__')"
    )
    command = [sys.executable, "-c", listening, "org/a", "org/b", "--format", "quiet"]
    with subprocess.Popen(command, env=hub_env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        while not any("org/b" in asked for asked in hub.asked()):
            time.sleep(0.05)
        time.sleep(2.0)  # the first model is read by then
        running.send_signal(signal.SIGINT)
        stdout, stderr = running.communicate(timeout=8)
    assert running.returncode == 130
    assert stdout.startswith("org/a\t")
    assert "Traceback" not in stderr


def test_one_strange_model_costs_the_others_nothing(hub: Hub, hub_env: dict[str, str]) -> None:
    hub.put(single("org/a", CONFIG, ROWS), single("org/b", CONFIG | {"hidden_size": "9" * 5000}, ROWS))
    done = run("~nobody/x", "org/b", "org/a", "--format", "jsonl", env=hub_env)
    assert done.returncode == 1
    models = {json.loads(line)["model"] for line in done.stdout.splitlines()}
    assert models == {"org/a", "org/b", "~nobody/x"}


def test_control_characters_from_files_do_not_reach_the_terminal(hub: Hub, hub_env: dict[str, str]) -> None:
    hub.put(single("org/a", CONFIG | {"model_type": "\x1b[31mred"}, ROWS))
    done = run("org/a", "--explain", env=hub_env)
    assert "\x1b" not in done.stdout + done.stderr


def test_weights_that_nothing_tells_are_an_error_in_words(hub: Hub, hub_env: dict[str, str]) -> None:
    hub.put(gguf("org/g", {"a-Q4.gguf": [("a", "F16", (4,))], "a-Q8.gguf": [("a", "F16", (4,))]}))
    done = run("org/g:Q3_K_M", "--format", "quiet", env=hub_env)
    assert (done.returncode, done.stdout) == (1, "")
    assert "The size of org/g cannot be determined" in done.stderr


FITS = ("openai-community/gpt2", "--gpu", "H100", "--offline")
TOO_LARGE = ("meta-llama/Llama-3.1-70B-Instruct", "--gpu", "RTX 4090", "--offline")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (FITS, 0),
        ((*FITS, "--require-fit"), 0),
        (TOO_LARGE, 0),
        ((*TOO_LARGE, "--require-fit"), 3),
        ((*FITS[:1], *TOO_LARGE, "--require-fit"), 3),
        (("no/such", *TOO_LARGE, "--require-fit"), 1),
        ((LLAMA, "--require-fit"), 2),
        ((LLAMA, "--gpu", "no such card"), 2),
        ((LLAMA, "--gpus", "4", "--tp", "2"), 2),
        ((LLAMA, "--max-num-seqs", "4"), 2),
        ((LLAMA, "--runtime", "vllm", "--vllm-version", "zero"), 2),
        (("--list-gpus",), 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_exit_codes_of_accelerators(arguments: tuple[str, ...], code: int, alone: dict[str, str]) -> None:
    done = run(*arguments, env=alone)
    assert done.returncode == code, done.stderr
    assert (done.returncode != 2) == bool(done.stdout)


def test_several_models_and_accelerators_are_a_matrix(alone: dict[str, str]) -> None:
    models = ("Qwen/Qwen3-8B", "google/gemma-3-27b-it", "meta-llama/Llama-3.3-70B-Instruct")
    shown = run(*models, "--gpu", "RTX 4090", "--gpu", "H100", env=alone).stdout
    assert max(map(len, shown.splitlines())) <= 100
    assert len(shown.splitlines()) <= 24
    assert all(name in shown for name in models)


def test_a_matrix_of_many_accelerators_is_folded(alone: dict[str, str]) -> None:
    cards = ("RTX 3090", "RTX 4090", "RTX 5090", "L4", "L40S", "A100", "H100", "H200", "B200", "MI300X", "M2 Ultra")
    shown = run(
        "Qwen/Qwen3-8B", "google/gemma-3-27b-it", *(word for card in cards for word in ("--gpu", card)), env=alone
    ).stdout
    assert max(map(len, shown.splitlines())) <= 100
    assert all(f"{card.split()[0]}" in shown for card in cards)


def test_vllm_names_its_options_as_vllm_does(alone: dict[str, str]) -> None:
    shown = run(
        *(LLAMA, "--runtime", "vllm", "--gpu", "H100", "--max-model-len", "2048", "--kv-cache-dtype", "fp8"),
        *("--max-num-seqs", "8", "--max-num-batched-tokens", "2048", "--gpu-memory-utilization", "0.8"),
        *("--block-size", "32", "--enforce-eager", "--format", "json"),
        env=alone,
    ).stdout
    (result,) = json.loads(shown)["results"]
    scenario = result["scenario"]
    assert (scenario["seq"], scenario["kv_dtype"], scenario["block_size"]) == (2048, "float8_e4m3fn", 32)
    assert scenario["enforce_eager"] is True
    assert result["memory"]["kv_cache"] == 2048 * 524_288 // 2
    assert result["serving"]["kv_tokens"] > 2048
    assert result["serving"]["command"].startswith(f"vllm serve {LLAMA} --max-model-len 2048")
    (fit,) = result["fit"]
    assert fit["fits"] is True
    assert fit["headroom"] == fit["usable"] - result["memory"]["total"]


def test_this_machine_may_have_none(alone: dict[str, str]) -> None:
    done = run("openai-community/gpt2", "--gpu", "auto", "--offline", "--format", "json", env=alone)
    (result,) = json.loads(done.stdout)["results"]
    assert isinstance(result["fit"], list)
    assert run("openai-community/gpt2", "--gpu", "cpu", "--offline", env=alone).returncode == 0


def test_accelerators_are_listed_for_programs(alone: dict[str, str]) -> None:
    listed = json.loads(run("--list-gpus", "--format", "json", env=alone).stdout)
    assert len(listed["gpus"]) >= 80
    assert all(row["source"] for row in listed["gpus"] + listed["instances"])


def test_training_from_a_file(alone: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "axolotl.yaml"
    path.write_text("adapter: qlora\nlora_r: 16\nlora_target_linear: true\nsequence_len: 2048\nwarmup_steps: 10\n")
    done = run(LLAMA, "--from-args", str(path), "--format", "json", env=alone)
    assert done.returncode == 0
    (result,) = json.loads(done.stdout)["results"]
    assert result["scenario"]["train"] == "qlora"
    assert result["scenario"]["lora_targets"] == ["all-linear"]
    assert result["scenario"]["seq"] == 2048
    assert result["training"]["trainable_parameters"] == 39_976_960  # rank 16 beside every linear module of Llama-2-7B
    assert any("warmup_steps" in note and "ignored" in note for note in result["notes"])


def test_what_is_written_wins_over_a_file_though_it_is_the_default(alone: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "arguments.yaml"
    path.write_text("per_device_train_batch_size: 4\n")
    done = run(LLAMA, "--from-args", str(path), "--batch", "1", "--format", "json", env=alone)
    (result,) = json.loads(done.stdout)["results"]
    assert result["scenario"]["batch"] == 1
    assert "arguments.yaml: per_device_train_batch_size is overridden by the command line." in result["notes"]


def test_training_with_every_format(alone: dict[str, str]) -> None:
    for output in FORMATS:
        done = run(LLAMA, "--train", "full", "--format", output, env=alone)
        assert done.returncode == 0
        assert done.stdout


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_with_a_byte_order_mark(encoding: str, alone: dict[str, str]) -> None:
    """As Windows' editors and shells write them."""
    content = f"{LLAMA}\r\nQwen/Qwen3-8B\r\n{LLAMA}\n".encode(encoding)
    done = run("--from", "-", "--format", "json", stdin=content, env=alone)
    assert done.returncode == 0
    results = json.loads(done.stdout)["results"]
    assert [result["model"] for result in results] == [LLAMA, "Qwen/Qwen3-8B", LLAMA]


def piped(*arguments: str, content: bytes, env: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    """A run that is handed bytes."""
    command = [sys.executable, "-m", "hfmem", "--from", "-", *arguments]
    return subprocess.run(command, env=env, input=content, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("name", ["json", "jsonl"])
@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_json_is_json_whatever_is_asked_for(name: str, locale: str, alone: dict[str, str]) -> None:
    asked = "org/\x1bb\u202e\ufeff\u200bé\x7f"
    env = {**alone, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = piped("--format", name, content=f"{asked}\n{LLAMA}\n".encode(), env=env)
    assert done.returncode == 1
    documents = [json.loads(line) for line in done.stdout.splitlines()] if name == "jsonl" else []
    error = documents[1] if name == "jsonl" else json.loads(done.stdout)["errors"][0]
    result = documents[0] if name == "jsonl" else json.loads(done.stdout)["results"][0]
    assert error["model"] == asked
    assert any("×" in term["how"] for term in result["terms"])
    assert b"\x1b" not in done.stdout + done.stderr


def test_the_model_of_a_training_file(hub: Hub, hub_env: dict[str, str], tmp_path: Path) -> None:
    hub.put(single("org/a", CONFIG, ROWS), single("org/b", CONFIG, ROWS))
    first, second = tmp_path / "axolotl.yaml", tmp_path / "more.json"
    first.write_text("base_model: org/a\nmicro_batch_size: 2\nsequence_len: 16\n")
    second.write_text('{"micro_batch_size": 3}')
    files = ("--from-args", str(first), "--from-args", str(second), "--format", "json")
    done = run(*files, env=hub_env)
    assert done.returncode == 0
    (result,) = json.loads(done.stdout)["results"]
    assert (result["model"], result["scenario"]["batch"], result["scenario"]["seq"]) == ("org/a", 3, 16)
    assert not any("not the model that was asked for" in note for note in result["notes"])
    (other,) = json.loads(run("org/b", *files, env=hub_env).stdout)["results"]
    assert other["model"] == "org/b"
    assert "axolotl.yaml: base_model is org/a, which is not the model that was asked for." in other["notes"]


@pytest.mark.parametrize("seq", ["32k", "32K", "32,768", "32768"])
def test_tokens_as_people_write_them(seq: str, alone: dict[str, str]) -> None:
    done = run(LLAMA, "--seq", seq, "--format", "json", env=alone)
    assert json.loads(done.stdout)["results"][0]["scenario"]["seq"] == 32768


@pytest.mark.parametrize(("arguments", "words"), [
    (["--train", "full", "--optimizer", "adamm"], "did you mean 'adamw'?"),
    (["--format", "jsno"], "did you mean 'json'?"),
    (["--sort", "totl"], "did you mean 'total'?"),
    (["--dtype", "bfloat"], "did you mean 'bfloat16'?"),
    (["--train", "qlor"], "did you mean 'qlora'?"),
    (["--seq", "12q"], "or 32k for 32 x 1024"),
    (["--batch", "2k"], "--batch is '2k', expected a whole number."),
    (["--batch", "1.5"], "--batch is '1.5', expected a whole number."),
    (["--runtime", "vllm", "--gpu-memory-utilization", "most"], "is 'most', expected a number."),
])  # fmt: skip
def test_a_misspelt_word_is_answered_by_what_it_may_mean(arguments: list[str], words: str) -> None:
    done = run(LLAMA, *arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_the_folder_that_one_stands_in(alone: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    done = run(".", "--dtype", "bf16", env=alone, cwd=tmp_path)
    assert "facts: this machine (.)" in done.stdout


def test_an_address_and_a_revision(hub: Hub, hub_env: dict[str, str]) -> None:
    hub.put(single("org/a", CONFIG, ROWS))
    words = (f"{hub.url}/org/a/tree/main", "https://huggingface.co/org/a/", "org/a@main:Q8_0", "org/a")
    done = run(*words, "--format", "json", env=hub_env)
    assert done.returncode == 0
    results = json.loads(done.stdout)["results"]
    assert [(result["model"], result["revision"]) for result in results] == [("org/a", "main")] * 4
    engines = [result["scenario"]["runtime"] for result in results]
    assert engines == ["transformers", "transformers", "llamacpp", "transformers"]  # a quantisation is a GGUF's
    missing = run("org/a@nowhere", env=hub_env)
    assert missing.returncode == 1
    assert f"{hub.url}/org/a/tree/main" in missing.stderr


@pytest.mark.parametrize(
    ("word", "options", "sentence"),
    [
        ("@v9", [], f"The catalog has only the revision main of {LLAMA}, not v9."),
        (":Q4_K_M", ["--runtime", "transformers"], f"':Q4_K_M' has no effect: {LLAMA} has no known GGUF files."),
        ("", ["--revision", "v9"], f"The catalog has only the revision main of {LLAMA}, not v9."),
        ("@main", ["--revision", "v9"], f"--revision v9 has no effect on {LLAMA}, which was given with @main."),
        ("", ["--source-seq", "9"], "--source-seq has no effect: the model has no encoder."),
        ("", ["--runtime", "vllm", "--tp", "2", "--ep", "2"], "--ep has no effect: the model has no experts."),
        ("", ["--runtime", "vllm", "--gpu", "H100", "--prompt", "9"], "--prompt has no effect: vLLM plans"),
    ],
)
def test_what_is_answered_otherwise_than_asked_is_told_in_every_format(
    word: str, options: list[str], sentence: str, alone: dict[str, str]
) -> None:
    for output in FORMATS if word == "@v9" else ("csv", "json"):
        done, kind = run(LLAMA + word, *options, "--offline", "--format", output, env=alone), FORMATS[output]
        assert done.returncode == 0
        told = [line for line in done.stderr.splitlines() if line.startswith(sentence)]
        shows = kind.json or kind.reasons
        assert len(told) == (0 if shows else 1), output
        assert shows == (sentence in " ".join(done.stdout.replace("\\", "").split())), output


def test_a_table_of_several_tells_which_model_is_answered_otherwise(alone: dict[str, str]) -> None:
    """Once, and without names where it is about all of them."""
    one = run(f"{LLAMA}@v9", "openai-community/gpt2", "--offline", env=alone)
    assert one.stderr == f"{LLAMA}: The catalog has only the revision main of {LLAMA}, not v9.\n"
    every = run(LLAMA, "openai-community/gpt2", "--source-seq", "9", "--offline", env=alone)
    assert every.stderr == "--source-seq has no effect: the model has no encoder.\n"


def test_a_revision_of_local_files_has_no_effect(alone: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    asked = (str(tmp_path), "--dtype", "bf16", "--revision", "v9", "--offline", "--format")
    assert run(*asked, "quiet", env=alone).stderr == "--revision has no effect on local files.\n"
    (result,) = json.loads(run(*asked, "json", env=alone).stdout)["results"]
    assert "--revision has no effect on local files." in result["notes"]
    assert run(*asked, "csv", LLAMA, env=alone).stderr.splitlines()[:1] == [
        f"{tmp_path}: --revision has no effect on local files."
    ]


@pytest.mark.parametrize("option", ["--revision", "--dtype", "--gpu", "--from", "--sort", "--optimizer"])
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_value_is_wrong_usage(option: str, value: str) -> None:
    done = run(LLAMA, option, value, "--offline")
    assert done.returncode == 2
    assert done.stderr.startswith(f"{option} is empty: give a value or omit it.")


def test_an_empty_token_is_none(alone: dict[str, str]) -> None:
    """As `--token "$TOKEN"` has it where the variable is not set."""
    done = run(LLAMA, "--token", "", "--offline", "--format", "quiet", env=alone)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_revision_of_the_command_line_wins_over_a_training_files(
    hub: Hub, hub_env: dict[str, str], tmp_path: Path
) -> None:
    hub.put(replace(single("org/a", CONFIG, ROWS), revisions={"v1": None, "v2": None}))
    (tmp_path / "axolotl.yaml").write_text("base_model: org/a\nrevision_of_model: v1\n")
    files = ("--from-args", str(tmp_path / "axolotl.yaml"), "--format", "json")
    for words, revision in (((), "v1"), (("--revision", "v2"), "v2"), (("org/a@main",), "main"), (("org/a",), "v1")):
        done = run(*words, *files, env=hub_env)
        assert json.loads(done.stdout)["results"][0]["revision"] == revision, words


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ("http://127.0.0.1:99999", "'http://127.0.0.1:99999', whose port is not a number from 1 to 65535"),
        ("http://user:secret@127.0.0.1:abc", "'http://127.0.0.1:abc', whose port is not a number from 1 to 65535"),
        ("not-a-url", "'not-a-url', expected an address such as https://huggingface.co"),
        ("http://[::1", "'http://[::1', expected an address such as https://huggingface.co"),
        ("", "empty, expected an address such as https://huggingface.co"),
    ],
)
def test_a_hub_without_an_address_costs_the_other_models_nothing(
    endpoint: str, told: str, alone: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    env = {**alone, "HF_ENDPOINT": endpoint}
    done = process(str(tmp_path), "org/none", LLAMA, "--dtype", "bf16", "--format", "quiet", env=env)
    assert done.returncode == 1
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [str(tmp_path), LLAMA]
    answered, missing = done.stderr.splitlines()
    assert missing.startswith(
        "The connection to the Hub cannot be set up, and org/none is in neither the cache nor the bundled"
    )
    assert missing.endswith(f"(HF_ENDPOINT is {told}). Correct it, or unset it.")
    assert answered == (
        f"{LLAMA}: The Hub cannot be reached (HF_ENDPOINT is {told}); this answer is from the bundled catalog."
    )


@pytest.mark.parametrize("variable", ["HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"])
def test_the_variable_that_cannot_be_read_is_named(variable: str, alone: dict[str, str]) -> None:
    done = process(LLAMA, "--offline", env={**alone, variable: "abc"})
    assert done.returncode == 2
    assert done.stderr.startswith(f"{variable} cannot be read (invalid literal for int() with base 10: 'abc')")
    assert "HF_ENDPOINT" not in done.stderr


GPT2 = "openai-community/gpt2"  # at most 1,024 tokens


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--prompt", "5000"], 2, "--prompt exceeds --seq, which covers prompt and output and defaults to 4,096"),
        (["--prompt", "5000", "--seq", "4096"], 2, "--prompt exceeds --seq"),
        (["--prompt", "2000"], 1, "--prompt 2,000 exceeds --seq 1,024"),
        (["--gpu", "2x 4090", "--tp", "4"], 2, "--tp 4 does not match the 2 × RTX 4090"),
        (["--gpu", "cpu", "--tp", "2"], 2, "--tp 2 does not match the 1 × CPU"),
        (["--gpu", "CPU", "--gpus", "2"], 2, "--gpus 2 does not match the 1 × CPU"),
        (["--train", "full", "--gpu", "cpu", "--dp", "2"], 2, "--dp 2 does not match the 1 × CPU"),
        (["--train", "full", "--dtype", "bf16", "--precision", "fp32"], 2, "--dtype bf16 contradicts --precision fp32"),
        (["--tp", "5"], 1, "has no tp_plan"),
        (["--train", "lora", "--lora-targets", "nothing"], 1, "no module is named nothing"),
        (["--train", "full", "--optimizer", "nothing"], 2, "--optimizer 'nothing'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_the_options_decide_is_two_and_what_the_model_decides_is_one(
    arguments: list[str], code: int, words: str, alone: dict[str, str]
) -> None:
    done = run(GPT2, *arguments, "--offline", "--format", "quiet", env=alone)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stdout == ""


def test_an_empty_name_is_told_and_is_not_this_folder(alone: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for name in ("", " "):
        done = run(name, "--offline", "--dtype", "bf16", env=alone, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("The model was not found (the name is empty). Use the id of a model")


def test_a_folder_that_cannot_be_made_is_no_full_disk(alone: dict[str, str]) -> None:
    done = run(LLAMA, "--offline", env={**alone, "HF_HOME": "/proc/nope"})
    assert done.returncode == 0
    assert done.stderr == ("Warning: cannot download to /proc/nope/hub: the folder cannot be created. Check HF_HOME.\n")


def test_the_hardware_of_a_profile_is_not_known_offline() -> None:
    done = run(LLAMA, "--gpu", "me", "--offline")
    assert done.returncode == 2
    assert done.stderr.startswith("--gpu me is the hardware saved on your Hub profile, which cannot be read offline. ")


def test_of_several_models_each_error_says_whose_it_is() -> None:
    both = run("meta-llama/Llama-2-7b-hf", "openai-community/gpt2", "org/none", "--offline", "--tp", "64")
    first, second, third = both.stderr.splitlines()
    assert first.startswith("meta-llama/Llama-2-7b-hf: --tp 64 does not divide")
    assert second.startswith("openai-community/gpt2: --tp 64: GPT2LMHeadModel has no tp_plan")
    assert third.startswith("Offline mode is on, and org/none is")
    alone = run("openai-community/gpt2", "--offline", "--tp", "64")
    assert f"openai-community/gpt2: {alone.stderr.strip()}" == second
