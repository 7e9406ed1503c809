"""`hfmem-check`: launch lines as they stand in scripts, training files, and what is said of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hfmem.engines.table import engines
from hfmem.preflight.__main__ import run
from hfmem.preflight.lines import launch_lines, question
from hfmem.refusals.launch import LaunchLineError, LaunchOptionError

LINES = [
    (
        "vllm serve org/m --max-model-len 32768 --tensor-parallel-size 2",
        "org/m --runtime vllm --max-model-len 32768 --tp 2 --pp 1 --dp 1",
    ),
    (
        "CUDA_VISIBLE_DEVICES=0,1 nohup vllm serve org/m -tp=2 --max_model_len=8192 > log 2>&1 &",
        "org/m --runtime vllm --tp 2 --max-model-len 8192 --pp 1 --dp 1",
    ),
    (
        "python -m vllm.entrypoints.openai.api_server --model org/m --port 8000 --max-model-len 4096 && echo done",
        "org/m --runtime vllm --max-model-len 4096 --tp 1 --pp 1 --dp 1",
    ),
    (
        "vllm serve org/m --dtype half --kv-cache-dtype auto --quantization fp8 --max-model-len 1k",
        "org/m --runtime vllm --dtype fp8 --max-model-len 1k --tp 1 --pp 1 --dp 1",
    ),
    (
        "vllm serve org/m -q awq -tp 4 -dp 2 --enable-expert-parallel --enforce-eager --max-model-len 1k",
        "org/m --runtime vllm --tp 4 --dp 2 --enforce-eager --max-model-len 1k --ep 8 --pp 1",
    ),
    (
        "./build/bin/llama-server -m ./m.gguf -ngl 99 -c 16384 -fa -np 4 -b 512 --jinja --host 0.0.0.0",
        "./m.gguf --runtime llamacpp -ngl 99 -c 16384 -fa on -np 4 --batch-size 512",
    ),
    (
        "docker run --gpus all -v ~/.cache:/root/.cache -p 8000:8000 --ipc=host docker.io/vllm/vllm-openai:v0.19.0 "
        "--model org/m --max-model-len 4096",
        "org/m --runtime vllm --max-model-len 4096 --tp 1 --pp 1 --dp 1",
    ),
    (
        "vllm serve org/m --limit-mm-per-prompt.image 2 --limit-mm-per-prompt.video=0 --max-model-len 4k",
        'org/m --runtime vllm --limit-mm-per-prompt {"image": 2, "video": 0} --max-model-len 4k --tp 1 --pp 1 --dp 1',
    ),
    (
        "vllm serve org/m --mm-processor-kwargs.max_pixels 1003520 --limit-mm-per-prompt.image.count 2 "
        "--limit-mm-per-prompt.image.width=512 --max-model-len 4k",
        'org/m --runtime vllm --mm-processor-kwargs {"max_pixels": 1003520} --limit-mm-per-prompt '
        '{"image": {"count": 2, "width": 512}} --max-model-len 4k --tp 1 --pp 1 --dp 1',
    ),
    (
        "vllm serve org/m --skip_mm_profiling --mm-hasher-algorithm x --mm-encoder-tp-mode=data --max-model-len 4k",
        "org/m --runtime vllm --skip-mm-profiling --mm-encoder-tp-mode data --max-model-len 4k --tp 1 --pp 1 --dp 1",
    ),
    ("llama-server -hf org/m-GGUF:Q8_0 -fa off", "org/m-GGUF:Q8_0 --runtime llamacpp -fa off"),
    (
        "vllm serve 'org/m' --max-model-len 4096 # | a comment",
        "org/m --runtime vllm --max-model-len 4096 --tp 1 --pp 1 --dp 1",
    ),
]


@pytest.mark.parametrize(("line", "words"), LINES, ids=[line for line, _ in LINES])
def test_a_line_asks_the_same_of_hfmem(line: str, words: str) -> None:
    assert " ".join(question(line).words) == words


def test_a_server_without_a_length_takes_the_models_own() -> None:
    """vLLM's default; a fit at a shorter one would be wrong."""
    assert question("vllm serve org/m").whole_context
    assert not question("vllm serve org/m --max-model-len 4096").whole_context
    assert not question("llama-server -m m.gguf").whole_context


def test_the_length_is_the_models_own(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run(["--line", "vllm serve meta-llama/Llama-3.1-8B-Instruct", "--gpu", "RTX 4090"]) == 3
    assert "131,072 tokens" in capsys.readouterr().out


def test_a_line_without_a_split_is_on_one_accelerator_however_many_there_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As vLLM starts it; on both it would fit."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    line = "vllm serve Qwen/Qwen3-32B --max-model-len 8192"
    assert run(["--line", line, "--gpu", "2x L40S"]) == 3
    assert run(["--line", f"{line} -tp 2", "--gpu", "2x L40S"]) == 0


@pytest.mark.parametrize(
    ("line", "kind", "told"),
    [
        ("trtllm-serve org/m", LaunchLineError, "program"),
        ("vllm serve --port 8000", LaunchLineError, "model"),
        ("vllm serve 'org/m", LaunchLineError, "quotes"),
        ("vllm serve org/m --of-tomorrow", LaunchOptionError, "--of-tomorrow"),
        ("vllm serve org/m other", LaunchOptionError, "other"),
        ("vllm serve org/m --quantization of-tomorrow", LaunchOptionError, "of-tomorrow"),
        ("vllm serve org/m --tensor-parallel-size.video 2", LaunchOptionError, "--tensor-parallel-size.video"),
    ],
)
def test_what_is_not_understood_is_refused(line: str, kind: type, told: str) -> None:
    with pytest.raises(kind) as caught:
        question(line)
    fields = vars(caught.value)
    assert told in (fields.get("why"), fields.get("value") or fields.get("option"))


def test_an_option_is_left_out_where_somebody_says_so() -> None:
    asked = question("vllm serve org/m --of-tomorrow 3 --max-model-len 4096", ["--of-tomorrow"])
    assert " ".join(asked.words) == "org/m --runtime vllm --max-model-len 4096 --tp 1 --pp 1 --dp 1"
    assert asked.ignored == ("--of-tomorrow",)


def test_no_option_that_takes_memory_here_is_called_idle() -> None:
    from importlib import import_module

    from hfmem.preflight.lines import _options

    launches = [import_module(row.launch).LAUNCH for row in engines() if row.launch]
    assert len(launches) >= 2
    for launch in launches:
        assert launch.source
        names = launch.idle | launch.idle_with_value
        others = {name for name in names if name in _options()}
        assert others <= {"--prompt"}  # llama-cli's is the text itself


def test_lines_are_found_in_a_script() -> None:
    script = "#!/bin/sh\n# vllm serve old\nset -e\nexec vllm serve org/m \\\n    --max-model-len 4096\necho vllm\n"
    assert list(launch_lines(script)) == ["exec vllm serve org/m  --max-model-len 4096"]
    image = "docker run --gpus all vllm/vllm-openai:latest --model org/m"
    assert list(launch_lines(f"docker pull vllm/vllm-openai:latest\n{image}\n")) == [image]


def test_several_files_and_the_worst_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    good, bad, script = tmp_path / "a.yaml", tmp_path / "b.yml", tmp_path / "c.sh"
    good.write_text("base_model: openai-community/gpt2\nmicro_batch_size: 1\n")
    bad.write_text("micro_batch_size: 1\n")
    script.write_text("echo no server\n")
    summary = tmp_path / "summary.md"
    words = [str(good), str(script), "--gpu", "H100", "--summary", str(summary)]
    assert run(words) == 0
    assert "fits" in capsys.readouterr().out
    assert run([*words, str(bad)]) == 2
    assert "No model" in capsys.readouterr().out
    assert run([str(tmp_path / "none.sh"), "--gpu", "H100"]) == 1
    assert summary.read_text(encoding="utf-8").count("### Does it fit?") == 2
    assert run([str(script), "--gpu", "H100"]) == 0
    assert "Nothing to check" in capsys.readouterr().out


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["a.yaml"]) == 2
    assert "--gpu" in capsys.readouterr().err
    assert run([]) == 2
    assert run(["--help"]) == 0
    assert "Usage: hfmem-check" in capsys.readouterr().out


def test_a_name_cannot_break_the_summary(tmp_path: Path) -> None:
    from hfmem.preflight.lines import Question
    from hfmem.preflight.summary import markdown
    from hfmem.preflight.verdict import Verdict

    name = "a|b`c\n| d.yaml"
    told = markdown([Verdict(question=Question(name=name, words=()), code=1, problems=("<b>|",))])
    rows = [line for line in told.splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 6 for row in rows)
    assert "<b>" not in told


def test_it_is_a_module_and_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hfmem.preflight", "--help"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0
    assert json.dumps(done.stdout)
