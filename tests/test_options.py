"""Options are declared once: the command line, its help, Python, training files and the checks follow."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest

import hfmem
from hfmem.cli import app, table
from hfmem.engines.table import EngineRow, engines, registered
from hfmem.errors import InvalidScenarioError
from hfmem.options.option import Declared, Option, declared, value_of
from hfmem.options.panels import TOPICS
from hfmem.options.reading import tokens
from hfmem.report.formats import FORMATS
from hfmem.scenario.asked import registered_options
from hfmem.scenario.check import check
from hfmem.scenario.files import with_file
from hfmem.scenario.options import Options, options_type


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class Laboratory:
    """A set that belongs to no engine."""

    spare_layers: Annotated[
        int | None,
        Option(
            help="Layers kept in reserve",
            panel="Laboratory",
            names=("--spare-layers", "--spare"),
            least=0,
            most=9,
            modes=("inference",),
            keys=("spare_of_trainer",),
        ),
    ] = None


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class BenchOptions:
    """The options of an engine."""

    bench_rows: Annotated[tuple[int, ...], Option(help="Rows of the bench", panel="Bench", least=1)] = ()
    bench_lamp: Annotated[bool | None, Option(help="Whether there is light", panel="Bench")] = None


ROOT = Path(hfmem.__file__).parent
GOLDEN = Path(__file__).parent / "golden"
GPT2 = "openai-community/gpt2"
ENGINES = [row.name for row in engines()]


def test_every_name_belongs_to_one_option() -> None:
    names = Counter(name for option in table() for name in (*option.flags, option.name))
    assert [name for name, count in names.items() if count > 1] == []
    keys = Counter(key for option in table() for key in option.option.keys)
    assert [key for key, count in keys.items() if count > 1] == []


def test_every_option_has_a_sentence_of_help() -> None:
    for option in table():
        assert option.option.help, option.name
        assert not option.option.help.endswith("."), option.name


BETWEEN = (
    "answers.py",
    "api.py",
    "cli.py",
    "__main__.py",
    *(f"scenario/{name}.py" for name in ("asked", "check", "models", "options")),
)
OWN = {
    *("revision", "trace", "against", "fits", "variants"),  # a model's reference, and parts of a report
    *("unit", "explain", "output"),  # what the command line itself reads
    *("help_all", "help_for", "version"),  # what it answers at once
    "gpus",  # a key of `--list-gpus --format json`
    "file",  # Python's own, of `print`
    "width",  # of a terminal
    "seq",  # models that run as one have one length
}


def test_between_a_person_and_the_scenario_no_option_is_listed_again() -> None:
    names = {option.name for option in table()}
    listed = {name for path in BETWEEN for name in _spelled(ast.parse((ROOT / path).read_text(encoding="utf-8")))}
    assert listed & names == OWN


def _spelled(tree: ast.AST) -> Iterator[str]:
    """The names of parameters, keywords and fields, and all strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.arg | ast.keyword):
            yield node.arg or ""
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def test_words_have_what_they_stand_for() -> None:
    words = {option.name: option.choices for option in table()}
    assert words["output"] == tuple(FORMATS)
    assert words["runtime"] == tuple(row.name for row in engines())


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"batch": "4"}, "--batch is '4', expected a whole number"),
    ({"batch": True}, "--batch is True, expected a whole number"),
    ({"batch": None}, "--batch cannot be None"),
    ({"seq": 10**5000}, "--seq is enormous, expected 1 to 1,000,000,000"),
    ({"trace": "yes"}, "--trace is 'yes', expected true or false"),
    ({"gpu": (3,)}, "--gpu is 3, expected a word"),
    ({"runtime": "tgi"}, f"--runtime 'tgi' is not one of {', '.join(ENGINES)}"),
    ({"method": "guess"}, "--method 'guess' is not one of exact, textbook"),
    ({"kv_dtype": "nf4"}, "--kv-dtype 'nf4' is not one of"),
    ({"tp": 0}, "--tp is 0, expected 1 to 100,000"),
    ({"max_num_seqs": 4}, "--max-num-seqs is an option of vLLM: add --runtime vllm"),
    ({"runtime": "vllm", "attention": "flash"}, "--attention is an option of transformers"),
    ({"runtime": "vllm", "gpu_memory_utilization": 1.5}, "is 1.5, expected more than 0 and at most 1"),
    ({"runtime": "vllm", "gpu_memory_utilization": float("nan")}, "is nan, expected more than 0 and at most 1"),
    ({"runtime": "vllm", "vllm_version": "zero"}, "--vllm-version 'zero' is not a release"),
    ({"runtime": "vllm", "train": "full"}, "--runtime vllm cannot be used with --train"),
    ({"runtime": "vllm", "method": "textbook"}, "--runtime vllm cannot be used with --method textbook"),
    ({"method": "textbook", "source_seq": 9}, "--source-seq cannot be used with --method textbook"),
    ({"method": "textbook", "kv_dtype": "fp8"}, "--kv-dtype cannot be used with --method textbook"),
    ({"method": "textbook", "train": "qlora"}, "--train can be used with --method textbook only as --train full"),
    ({"optimizer": "lion"}, "--optimizer needs --train"),
    ({"double_quant": True}, "--double-quant needs --train"),
    ({"train": "full", "kv_dtype": "fp8"}, "--kv-dtype is for inference: training keeps no cache"),
    ({"train": "full", "lora_rank": 4}, "--lora-rank is for --train lora and qlora"),
    ({"train": "lora", "double_quant": True}, "--double-quant is for --train qlora"),
    ({"train": "lora", "lora_dropout": 1.0}, "--lora-dropout is 1, expected 0 to below 1"),
    ({"train": "lora", "lora_dtype": "int8"}, "--lora-dtype 'int8' is not one of auto, float32"),
    ({"train": "full", "zero": 4}, "--zero is 4, expected 0 to 3"),
    ({"train": "full", "zero": 1, "fsdp": True}, "--fsdp and --zero are mutually exclusive"),
    ({"train": "full", "shard": 2, "dp": 4}, "--shard needs --fsdp or --zero"),
    ({"train": "full", "offload": "parameters", "zero": 2}, "--offload parameters needs --zero 3 or --fsdp"),
    ({"train": "full", "virtual_stages": 2}, "--virtual-stages needs --pp above 1"),
    ({"train": "full", "optimizer_rank": 2}, "--optimizer-rank is for --optimizer galore"),
    (
        {"train": "full", "gradient_checkpointing": True, "selective_checkpointing": True},
        "--selective-checkpointing is already covered by --gradient-checkpointing",
    ),
]


@pytest.mark.parametrize(("asked", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_what_cannot_be_meant_is_refused(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidScenarioError, match=re.escape(sentence)):
        hfmem.estimate(GPT2, offline=True, **asked)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--runtime tgi", f"--runtime 'tgi' is not one of {', '.join(ENGINES)}."),
        ("--batch 0", "--batch is 0, expected 1 to 1,000,000,000."),
        ("--jobs 65", "--jobs is 65, expected 1 to 64."),
        ("--require-fit", "--require-fit needs --gpu NAME, or --gpu auto."),
        ("--list-gpus", "--list-gpus lists all accelerators: it cannot be used with a model."),
        ("--help-for tgi", f"--help-for 'tgi' is not one of {', '.join(ENGINES)}, training, lists."),
    ],
)
def test_the_command_line_says_the_same(
    line: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answered(f"{GPT2} --offline {line}", monkeypatch) == 2
    assert capsys.readouterr().err.splitlines()[0] == sentence


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--explain --format json", "--explain applies to --format table"),
        ("--unit GB --format csv", "--unit applies to tables"),
        ("--sort total", "--sort has no effect on a single model"),
        ("--jobs 2", "--jobs has no effect on a single model"),
        ("--token hf_x", "--token has no effect with --offline"),
    ],
)
def test_what_is_harmless_is_named(
    line: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answered(f"{GPT2} --offline {line}", monkeypatch) == 0
    shown = capsys.readouterr()
    assert sentence in shown.err
    assert shown.out


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"source_seq": 9}, "--source-seq has no effect: the model has no encoder."),
        ({"tp": 2, "ep": 2, "runtime": "vllm"}, "--ep has no effect: the model has no experts."),
        ({"model": "google-bert/bert-base-uncased", "kv_dtype": "fp8"}, "--kv-dtype has no effect"),
        ({"train": "lora", "lora_dtype": "bfloat16", "precision": "fp32"}, "--lora-dtype bfloat16 has no effect"),
    ],
)
def test_what_changes_nothing_on_this_model_is_named(asked: dict[str, Any], sentence: str) -> None:
    chosen = hfmem.estimate(**{"model": GPT2, "offline": True, **asked}).scenario.chosen
    assert any(line.startswith(sentence) for line in chosen)


def answered(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command line, run in this process."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["hfmem", *line.split()])
    with pytest.raises(SystemExit) as left:
        app()
    return int(left.value.code or 0)


@pytest.mark.parametrize("shown", ["help", "help-all", *(f"help-for {row.name}" for row in engines())])
def test_help(shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert answered(f"--{shown}", monkeypatch) == 0
    found = capsys.readouterr().out
    assert max(map(len, found.splitlines())) <= 80
    path = GOLDEN / f"{shown.replace(' ', '-')}.txt"
    if os.environ.get("HFMEM_UPDATE_GOLDEN"):
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("topic", TOPICS)
def test_help_of_a_topic_has_its_panels(
    topic: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answered(f"--help-for {topic}", monkeypatch) == 0
    panels = re.findall(r"^(\w.*):$", capsys.readouterr().out, re.MULTILINE)
    assert panels == ["Arguments", *TOPICS[topic]]


def test_help_and_a_plain_run_load_no_more_than_they_need(alone: dict[str, str]) -> None:
    program = (
        "import sys; sys.argv = ['hfmem', *sys.argv[1:]]\n"
        "from hfmem.cli import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "print('loaded', *(name for name in sys.modules if name.startswith('hfmem.') or name == 'yaml'))"
    )

    def loaded(*line: str) -> set[str]:
        process = subprocess.run(
            [sys.executable, "-c", program, *line], env=alone, capture_output=True, text=True, check=True
        )
        return set(process.stdout.splitlines()[-1].split()[1:])

    declarations = (
        r"hfmem\.(cli|errors|refusals(\.options)?|streams|units|scenario(\.asked)?|options(\..*)?|engines(\.table|\.\w+(\.\w*options)?)?"
        r"|report(\.formats|\.options)?)"
    )
    assert [name for name in loaded("--help") if not re.fullmatch(declarations, name)] == []
    plain = loaded(GPT2, "--offline")
    assert [name for name in plain if name == "yaml" or name.startswith("hfmem.estimator.training")] == []


def test_a_set_of_options_of_a_module_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From Python, the command line, help, a training file and the check; and gone again."""
    file = tmp_path / "trainer.yaml"
    file.write_text("spare_of_trainer: 3\n")
    with registered_options(Laboratory):
        options: Any = with_file(options_type()(), file)
        assert options.spare_layers == 3
        assert hfmem.estimate(GPT2, offline=True, spare_layers=2).estimate.total
        with pytest.raises(InvalidScenarioError, match="--spare-layers is 10, expected 0 to 9"):
            hfmem.estimate(GPT2, offline=True, spare_layers=10)
        with pytest.raises(InvalidScenarioError, match="--spare-layers is for inference"):
            check(options_type()(train="full", spare_layers=2))
        assert answered(f"{GPT2} --offline --spare-layers 10", monkeypatch) == 2
        assert "--spare-layers is 10" in capsys.readouterr().err
        assert answered(f"{GPT2} --offline --format quiet --spare 2", monkeypatch) == 0
        assert answered("--help-all", monkeypatch) == 0
        assert re.search(r"^Laboratory:\n +--spare-layers, --spare N +Layers kept", capsys.readouterr().out, re.M)
    with pytest.raises(TypeError, match=r"estimate\(\) got an unexpected keyword argument 'spare_layers'"):
        hfmem.estimate(GPT2, offline=True, spare_layers=2)
    assert options_type() is Options


def test_an_engine_brings_its_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    row = EngineRow(name="bench", title="Bench", options=BenchOptions, home=__name__)
    with registered(row):
        check(options_type()(runtime="bench", bench_rows=(1, 2)))
        with pytest.raises(InvalidScenarioError, match="--bench-rows is an option of Bench: add --runtime bench"):
            check(options_type()(bench_rows=(1,)))
        with pytest.raises(InvalidScenarioError, match="--runtime bench cannot be used with --train"):
            check(options_type()(runtime="bench", train="full"))
        assert answered(f"{GPT2} --offline --bench-rows 3", monkeypatch) == 2
        assert "add --runtime bench" in capsys.readouterr().err
        assert answered("--help-for bench", monkeypatch) == 0
        assert "--no-bench-lamp" in capsys.readouterr().out


def test_python_has_the_types_of_the_options() -> None:
    parameters = inspect.signature(hfmem.estimate).parameters
    assert next(iter(parameters)) == "model"
    assert parameters["batch"].annotation is int
    assert {option.name for option in declared(Options)} < set(parameters)
    assert "max_num_seqs: int | None = None" in str(inspect.signature(hfmem.compare))
    assert "batch" not in inspect.signature(hfmem.inspect).parameters


PROGRAM = """\
import hfmem

reveal_type(hfmem.estimate("org/model", batch=4, dtype="nf4", train="lora", lora_targets=("q_proj",), offline=True))
hfmem.estimate(model="org/model", max_num_seqs=8, revision="main")
reveal_type(hfmem.inspect("org/model", token=None))
reveal_type(hfmem.compare(["org/model"], jobs=2, gpu=("H100",)))
hfmem.estimate("org/model", bacth=4)
hfmem.estimate("org/model", batch="4")
hfmem.estimate("org/model", runtime="tgi")
hfmem.inspect("org/model", batch=4)
hfmem.Options(seq="1")
"""


@pytest.fixture(scope="module")
def type_checked(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What `mypy --strict` says of a program that uses the package, and of those in the documents."""
    folder = tmp_path_factory.mktemp("typed")
    (folder / "program.py").write_text(PROGRAM)
    for number, block in enumerate(documented()):
        (folder / f"document{number}.py").write_text(block)
    process = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={folder}/cache", "--no-error-summary"]
        + [str(path) for path in sorted(folder.glob("*.py"))],
        cwd=ROOT.parent,
        env={**os.environ, "MYPYPATH": str(ROOT.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not process.stderr
    return process.stdout.splitlines()


def documented() -> list[str]:
    """The Python of the documents. `replies` is an option that a document's own example adds."""
    documents = [ROOT.parent / "README.md", *sorted((ROOT.parent / "docs").glob("*.md"))]
    return [
        block
        for path in documents
        for block in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
        if "import hfmem" in block and "replies=" not in block
    ]


def test_the_python_of_the_documents_is_typed(type_checked: list[str]) -> None:
    """Users who check their programs can copy it."""
    assert len(documented()) >= 2
    assert [line for line in type_checked if "program.py:" not in line] == []


def test_type_checkers_see_every_option(type_checked: list[str]) -> None:
    """A real run of `mypy --strict` on a program that uses the package."""
    told = [line.partition("program.py:")[2] for line in type_checked if "program.py:" in line]
    expected = (
        (3, 'Revealed type is "hfmem.report.values.Report"'),
        (5, 'Revealed type is "hfmem.mapper.interpret.Model"'),
        (6, "hfmem.report.comparisons.Comparison"),
        (7, 'Unexpected keyword argument "bacth"'),
        (8, 'Argument "batch" to "estimate" has incompatible type "str"; expected "int"'),
        (9, 'Argument "runtime" to "estimate" has incompatible type'),
        (10, 'Unexpected keyword argument "batch" for "inspect"'),
        (11, 'Argument "seq" to "Options" has incompatible type "str"; expected "int | None"'),
    )
    for line, words in expected:
        assert any(said.startswith(f"{line}: ") and words in said for said in told), (words, told)
    assert not [said for said in told if said.startswith("4: ")]


@pytest.mark.parametrize("option", [option for option in table() if option.kind is int], ids=lambda option: option.name)
def test_numbers_of_tokens_are_written_in_one_way(option: Declared) -> None:
    """Whatever is counted in tokens takes 1k and a string, as a length does."""
    counts = re.match(r"(Maximum |Prompt |Encoder input )?tokens\b", option.option.help, re.IGNORECASE) is not None
    assert (option.option.parse is tokens or option.option.also is not None) == counts  # a length may be auto
    if counts:
        assert value_of(option, "1k") == 1024
        assert value_of(option, "1000") == 1000
