"""What the source of vLLM's releases says: `fixtures/oracle/vllm_releases.json`, which `hfmem/engines/vllm/releases.py`
and `states.py` are compared with.

    python -m tests.oracle.vllm_releases VERSION...    # read from the wheels on PyPI, of which only parts are loaded
    python -m tests.oracle.vllm_releases FOLDER...     # unpacked, each named like its release

The source is read as text and syntax trees, never imported.
"""

from __future__ import annotations

import ast
import io
import json
import operator
import re
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from hfmem.engines.vllm.states import CLASSES
from hfmem.hardware.values import Accelerator
from hfmem.units import GIB

TABLE: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "vllm_releases.json"
_BLOCK: Final = 2**20  # bytes of a wheel that are loaded at once

Fact = Callable[["Source"], Any]
FACTS: dict[str, Fact] = {}
"""How each fact is read, under the name of the field in `Release` where it is one."""


class UnreadError(Exception):
    """The source has none of the forms that are known for a fact."""


class Source:
    """The source of a release."""

    def __init__(self, version: str, read: Callable[[str], str | None]) -> None:
        self.version = version
        self._read = read
        self._kept: dict[str, str] = {}

    def text(self, *paths: str) -> str:
        """The files of some paths below `vllm/`, one after another; those that the release does not have are empty."""
        for path in paths:
            if path not in self._kept:
                self._kept[path] = self._read(f"vllm/{path}") or ""
        return "\n".join(self._kept[path] for path in paths)

    def has(self, path: str) -> bool:
        return bool(self.text(path))

    def function(self, name: str, *paths: str) -> ast.FunctionDef | None:
        """The first function or method of a name."""
        for path in paths:
            for node in ast.walk(ast.parse(self.text(path))):
                if isinstance(node, ast.FunctionDef) and node.name == name:
                    return node
        return None

    def code(self, name: str, *paths: str) -> str:
        """The code of a function, without comments; "" if there is none."""
        found = self.function(name, *paths)
        return ast.unparse(found) if found else ""

    @cached_property
    def config(self) -> str:
        return self.text("config.py", "config/__init__.py", "config/cache.py", "config/vllm.py", "config/model.py")


def fact(function: Fact) -> Fact:
    FACTS[function.__name__] = function
    return function


def _one(pattern: str, text: str) -> str:
    found = set(re.findall(pattern, text))
    if len(found) != 1:
        raise UnreadError(f"{pattern}: {sorted(found)}")
    return str(found.pop())


# defaults


@fact
def utilization(source: Source) -> float:
    text = source.text("engine/arg_utils.py", "config.py", "config/__init__.py", "config/cache.py")
    return float(_one(r"gpu_memory_utilization: float = (?:Field\(\s*default=)?([\d.]+)", text))


_SERVER: Final = "UsageContext.OPENAI_API_SERVER"


@fact
def tiers(source: Source) -> list[list[Any]]:
    """For each branch of the defaults by card: its condition, `max_num_seqs`, and `max_num_batched_tokens`."""
    path = "engine/arg_utils.py"
    places = ("get_batch_defaults", "_set_default_args_v1", "_set_default_args")
    found = next(filter(None, (source.function(name, path) for name in places)), None)
    if found is None:  # the first engine
        engine, config = source.text(path), source.text("config.py")
        seqs = _one(r"max_num_seqs(?:: int)? = (\d+)(?: if not envs\.VLLM_USE_V1 else|\n)", engine)
        return [["", int(seqs), int(_one(r"max_num_batched_tokens = max\((?:self\.)?max_model_len, (\d+)\)", config))]]
    common = [node for node in found.body if isinstance(node, ast.Assign)]  # sizes of every card
    branches = next(node for node in found.body if isinstance(node, ast.If) and _sets(node, _TOKENS))
    return [
        [condition, _default(_SEQS, [*body, *common]), _default(_TOKENS, [*body, *common])]
        for condition, body in _branches(branches)
    ]


_SEQS: Final = "default_max_num_seqs"
_TOKENS: Final = "default_max_num_batched_tokens"


def _branches(node: ast.If) -> Iterator[tuple[str, list[ast.stmt]]]:
    yield ast.unparse(node.test), node.body
    if len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
        yield from _branches(node.orelse[0])
    else:
        yield "", node.orelse


def _sets(node: ast.AST, name: str) -> bool:
    return any(isinstance(each, ast.Assign) and _target(each) == name for each in ast.walk(node))


def _target(node: ast.Assign) -> str:
    return ast.unparse(node.targets[0])


def _default(name: str, body: list[Any]) -> int:
    """The number that the first assignment has for the API server."""
    value = next(node.value for node in body if isinstance(node, ast.Assign) and _target(node) == name)
    if isinstance(value, ast.Dict):
        value = next(v for k, v in zip(value.keys, value.values, strict=True) if k and ast.unparse(k) == _SERVER)
    return int(ast.literal_eval(value))


_OPERATIONS: Final[dict[type, Callable[[Any, Any], Any]]] = {
    ast.Mult: operator.mul,
    ast.GtE: operator.ge,
    ast.In: lambda part, whole: part in whole,
    ast.NotIn: lambda part, whole: part not in whole,
}


def applies(condition: str, gpu: Accelerator) -> bool:
    """Whether a card meets the condition of a branch."""
    known = {
        "device_memory": gpu.memory,
        "device_name": gpu.name.lower(),
        "is_gb10": gpu.compute_capability == "12.1",
        "GiB_bytes": GIB,
    }
    return not condition or bool(_value(ast.parse(condition, mode="eval").body, known))


def _value(node: ast.expr, known: dict[str, Any]) -> Any:
    if isinstance(node, ast.BoolOp):
        return (all if isinstance(node.op, ast.And) else any)(_value(each, known) for each in node.values)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return not _value(node.operand, known)
    if isinstance(node, ast.BinOp):
        return _OPERATIONS[type(node.op)](_value(node.left, known), _value(node.right, known))
    if isinstance(node, ast.Compare):
        return _OPERATIONS[type(node.ops[0])](_value(node.left, known), _value(node.comparators[0], known))
    return known[node.id] if isinstance(node, ast.Name) else ast.literal_eval(node)


@fact
def long_step(source: Source) -> int:
    """Tokens of a step of the first engine where prompts are in chunks; 0 where the second is the default."""
    if source.code("_is_v1_supported_oracle", "engine/arg_utils.py") or source.has("config/vllm.py"):
        return 0
    if re.search(r"VLLM_USE_V1\W+lambda: bool\(int\(os\.getenv\(.VLLM_USE_V1., .1", source.text("envs.py")):
        return 0
    return int(_one(r"[^x(_]max_num_batched_tokens = (\d+)\n", source.text("config.py")))


@fact
def first_below(source: Source) -> float:
    """The compute capability below which the first engine runs."""
    code = source.code("_is_v1_supported_oracle", "engine/arg_utils.py")
    found = re.search(r"get_device_capability\(\)\.major < (\d+)", code)
    return float(found[1]) if found else 0.0


# the pool


@fact
def windowed(source: Source) -> bool:
    """Whether there is a manager of hybrid caches that a user may switch off."""
    return "disable_hybrid_kv_cache_manager" in source.text("config.py", "config/__init__.py", "config/scheduler.py")


@fact
def chunked(source: Source) -> bool:
    """Whether layers with attention chunks keep their own groups by default."""
    if not windowed(source) or "ChunkedLocalAttentionSpec" not in source.text("v1/kv_cache_interface.py"):
        return False
    switch = "VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE"
    if switch not in source.config:
        return True
    return _one(rf'getenv\([\s\\]*"{switch}", "([01])"', source.text("envs.py")) == "1"


@fact
def checks_free(source: Source) -> bool:
    return "less than desired GPU memory utilization" in source.text("v1/worker/gpu_worker.py", "v1/worker/utils.py")


@fact
def counts_graphs(source: Source) -> bool:
    switch = "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS"
    if switch not in source.text("v1/worker/gpu_worker.py"):
        return False
    return _one(rf'"{switch}", "([01])"', source.text("envs.py")) == "1"


_PLANNING: Final = ("v1/core/kv_cache_utils.py", "v1/core/kv_cache_planning.py")


@fact
def counts_requests(source: Source) -> bool:
    text = source.text(*_PLANNING)
    return bool(re.search(r"max_concurrency \* (?:vllm_config\.model_config\.)?max_model_len\b", text))


@fact
def pads_pages(source: Source) -> bool:
    return "page_size_padded" in source.code("unify_kv_cache_spec_page_size", *_PLANNING)


_PACKINGS: Final = {
    "groups": "_get_packed_kv_cache_groups",
    "dense": "_get_packed_kv_cache_layout",
    "slots": "_get_kv_cache_config_packed",
    "tuples": "_get_kv_cache_config_deepseek_v4",
}


@fact
def packs(source: Source) -> str:
    text = source.text(*_PLANNING)
    return next((word for word, name in _PACKINGS.items() if f"def {name}(" in text), "")


@fact
def in_flight(source: Source) -> bool:
    return "max_in_flight_tokens" in source.text("v1/kv_cache_interface.py")


@fact
def overlaps_stages(source: Source) -> bool:
    """Whether the model runner that overlaps pipeline stages is the default of every class."""
    batches = source.code("max_concurrent_batches", "config/vllm.py")
    runner = source.code("use_v2_model_runner", "config/vllm.py")
    return "pp_size + 1" in batches and bool(runner) and "_is_default_v2_model_runner_model" not in runner


@fact
def refuses_states(source: Source) -> bool:
    return "exceeds available Mamba cache" in source.text(
        "config/compilation.py",
        "v1/worker/gpu_model_runner.py",
        "v1/worker/gpu/model_runner.py",
        "v1/worker/gpu/attn_utils.py",
    )


# recurrent states

_MODELS: Final = "model_executor/models"


@fact
def modes(source: Source) -> list[str]:
    """`MambaCacheMode`; before there was a choice, every block's state was kept where the class allowed it."""
    found = re.search(r"MambaCacheMode = Literal\[([^\]]*)\]", source.text("config/cache.py"))
    if found:
        return re.findall(r'"(\w+)"', found[1])
    code = _of_class(source, "MambaModelConfig", f"{_MODELS}/config.py")
    return ["all"] if "supports_mamba_prefix_caching" in code else []


def _of_class(source: Source, name: str, path: str) -> str:
    """The code of a class, and of those of the file that it is derived from."""
    for node in ast.walk(ast.parse(source.text(path))):
        if isinstance(node, ast.ClassDef) and node.name == name:
            bases = (ast.unparse(base) for base in node.bases)
            return "\n".join([ast.unparse(node), *(_of_class(source, base, path) for base in bases)])
    return ""


@fact
def cached(source: Source) -> bool:
    """Whether prefix caching is the default of hybrids."""
    code = source.code("_set_default_chunked_prefill_and_prefix_caching_args", "engine/arg_utils.py")
    if not code:  # it is that of every model, and switched off for most of those with states
        return False
    default = re.search(r"default_prefix_caching = model_config\.is_prefix_caching_supported(.*)", code)
    supported = source.code("is_prefix_caching_supported", "config/model.py")
    hybrid = re.search(r"attn_type == 'hybrid':\n\s*logger\.debug\(.*\)\n\s*return (True|False)", supported)
    if default is None or hybrid is None:
        raise UnreadError("the default of prefix caching")
    return not default[1] and hybrid[1] == "True"


@fact
def preferred(source: Source) -> str:
    """The mode of classes that support every one."""
    code = _of_class(source, "MambaModelConfig", f"{_MODELS}/config.py")
    return "align" if re.search(r"cache_config\.mamba_cache_mode = 'align'\n\s*logger\.info", code) else "all"


@fact
def nemotron(source: Source) -> str:
    code = _of_class(source, "NemotronHForCausalLMConfig", f"{_MODELS}/config.py")
    found = re.search(r"DEFAULT_MAMBA_SSM_CACHE_DTYPE(?:: 'MambaDType')? = '(\w+)'", code) or re.search(
        r"'mamba_ssm_cache_dtype', '(\w+)'", code
    )
    if code and not found:
        raise UnreadError("the dtype of Nemotron-H's states")
    return found[1] if found else ""


@fact
def nemotron_nested(source: Source) -> bool:
    return "mamba_ssm_cache_dtype" in _of_class(source, "NemotronHNanoVLV2Config", f"{_MODELS}/config.py")


@fact
def qwen(source: Source) -> bool:
    return "mamba_ssm_dtype" in _of_class(source, "Qwen3_5ForConditionalGenerationConfig", f"{_MODELS}/config.py")


@fact
def latent_step(source: Source) -> int:
    """Tokens of which a block of latents is a multiple next to states."""
    text = source.text(f"{_MODELS}/config.py", "platforms/interface.py")
    if re.search(r"kernel_block_alignment_size = max\(kernel_block_alignment_size, 128\)", text):
        return 128
    if re.search(r"128 if use_cutlass_mla else 64|get_supported_kernel_block_sizes", text):
        return 64
    return 16


_CHECKPOINTS: Final = {
    "kimi_kda": "models/kimi_k3/nvidia/kda.py",
    "glm_kda": "models/glm5next/common/kda.py",
    "ssd": "model_executor/layers/mamba/mamba_mixer2.py",
    "gated_delta": "model_executor/layers/mamba/gdn/qwen_gdn_linear_attn.py",
}


@fact
def checkpoints(source: Source) -> list[str]:
    return [name for name, path in _CHECKPOINTS.items() if "num_prefill_checkpoint_blocks=" in source.text(path)]


@fact
def yarn_stretches(source: Source) -> bool:
    code = source.code("_get_and_verify_max_len", "config.py", "config/__init__.py", "config/model.py")
    if not code:
        raise UnreadError("the longest context")
    unscaled = re.search(r"rope_type not in \(([^)]*)\)", code)
    if unscaled is None:
        raise UnreadError("how the longest context is stretched")
    return "'yarn'" not in unscaled[1]


def _registered(source: Source) -> dict[str, tuple[str, str]]:
    """Module and class of each name of the registry that hfmem has."""
    found = re.findall(r'"(\w+)": \(\s*"([\w.]+)",\s*"(\w+)"', source.text(f"{_MODELS}/registry.py"))
    return {name: (module, class_) for name, module, class_ in sorted(found) if name in CLASSES}


@fact
def known_classes(source: Source) -> list[str]:
    """The names, of those that hfmem has, that the release has."""
    return list(_registered(source))


@fact
def every_mode(source: Source) -> list[str]:
    """The names among them whose class supports every mode of the prefix cache."""
    codes = {
        name: _of_class(source, class_, f"{_MODELS}/{file}.py") for name, (file, class_) in _registered(source).items()
    }
    return [name for name, code in codes.items() if re.search(r"class \w+\(.*\bSupportsMambaPrefixCaching\b", code)]


@fact
def own_dtypes(source: Source) -> dict[str, str]:
    """The names whose class in `models/config.py` reads the dtype of states."""
    mapped = re.findall(r'"(\w+)": (\w+),', source.text(f"{_MODELS}/config.py"))
    code = {name: _of_class(source, config, f"{_MODELS}/config.py") for name, config in mapped}
    defaulted = {
        name
        for name, text in code.items()
        if "update_mamba_ssm_cache_dtype" in text or "'mamba_ssm_cache_dtype'" in text
    }
    configured = {name for name, text in code.items() if "mamba_ssm_dtype" in text}
    return dict.fromkeys(sorted(defaulted), "defaulted") | dict.fromkeys(sorted(configured), "configured")


@fact
def margin(source: Source) -> int:
    """MiB that it subtracts from the cache size that it suggests; 0 where it suggests none."""
    found = re.search(r"redundancy_buffer_memory = (\d+) \* \(?1 << 20", source.text("v1/worker/gpu_worker.py"))
    return int(found[1]) if found else 0


# what logs led to, and the source has too (rules.py)


@fact
def sampler(source: Source) -> str:
    return "triton" if source.has("v1/sample/ops/topk_topp_triton.py") else "sort"


@fact
def keeps_workspaces(source: Source) -> bool:
    return source.has("v1/worker/workspace.py")


def read(source: Source) -> dict[str, Any]:
    """All facts of a release."""
    found = {}
    for name, function in FACTS.items():
        try:
            found[name] = function(source)
        except (UnreadError, StopIteration) as error:
            raise UnreadError(f"vLLM {source.version}, {name}: {error}") from error
    return found


# where sources come from


class _Remote(io.RawIOBase):
    """A file of a server, loaded in blocks as they are needed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._blocks: dict[int, bytes] = {}
        self._at = 0
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Range": "bytes=0-0"}), timeout=60) as answer:
            self._size = int(answer.headers["Content-Range"].rpartition("/")[2])

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        number, start = divmod(self._at, _BLOCK)
        if number not in self._blocks:
            last = min((number + 1) * _BLOCK, self._size) - 1
            asked = urllib.request.Request(self._url, headers={"Range": f"bytes={number * _BLOCK}-{last}"})
            with urllib.request.urlopen(asked, timeout=60) as answer:
                self._blocks[number] = answer.read()
        data = self._blocks[number][start : start + len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def wheel_of(version: str, package: str = "vllm") -> str:
    """The address of a release's wheel, as pip finds it; "" for the newest release."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--ignore-installed", "--quiet"]
    command += ["--only-binary", ":all:", "--report", "-", f"{package}=={version}" if version else package]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=300).stdout)
    return str(report["install"][0]["download_info"]["url"])


def published(version: str) -> Source:
    """A release on PyPI."""
    return Source(version, files_of(wheel_of(version)))


def files_of(address: str) -> Callable[[str], str | None]:
    """Reads files of a wheel, of which only the parts that are asked for are loaded."""
    wheel = zipfile.ZipFile(io.BufferedReader(_Remote(address), _BLOCK))
    names = set(wheel.namelist())
    return lambda path: wheel.read(path).decode() if path in names else None


def unpacked(folder: Path) -> Source:
    """A release in a folder."""

    def text(path: str) -> str | None:
        return (folder / path).read_text(encoding="utf-8") if (folder / path).exists() else None

    return Source(folder.name, text)


def number(version: str) -> tuple[int, ...]:
    """The order of a release."""
    return tuple(map(int, re.findall(r"\d+", version)))


def main(asked: list[str]) -> None:
    """Read releases, and write what is found beside that of those that were read before."""
    found = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
    for each in asked:
        source = unpacked(Path(each)) if Path(each).is_dir() else published(each)
        found[source.version] = read(source)
        print(source.version)
    lines = [f"{json.dumps(version)}: {json.dumps(found[version])}" for version in sorted(found, key=number)]
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
