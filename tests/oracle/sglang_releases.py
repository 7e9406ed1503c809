"""What SGLang's releases choose by default: `fixtures/oracle/sglang_releases.json`, which
`hfmem/engines/sglang/fraction.py` is compared with.

    python -m tests.oracle.sglang_releases VERSION...    # from the wheels on PyPI, of which only parts are loaded
    python -m tests.oracle.sglang_releases FOLDER...     # unpacked, each named like its release

Each release's own functions run, with what they ask of the rest of SGLang in place: the card, the model's kind, and the
options. Nothing of SGLang is imported.
"""

from __future__ import annotations

import ast
import copy
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from tests.oracle.vllm_releases import files_of, wheel_of

TABLE: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "sglang_releases.json"
_FILES: Final = (
    "server_args.py",
    "arg_groups/memory_hook.py",
    "arg_groups/cuda_graph_hook.py",
    "arg_groups/overrides.py",
)
_NAMES: Final = (
    *("_handle_gpu_memory_settings", "handle_gpu_memory_settings", "reserve_for_graph_mb", "reserve_for_deepep_a2a_mb"),
    *("_generate_cuda_graph_batch_sizes", "_generate_decode_cuda_graph_batch_sizes"),
    *("generate_decode_cuda_graph_batch_sizes", "_generate_piecewise_cuda_graph_tokens"),
    *("_generate_prefill_cuda_graph_batch_sizes", "generate_prefill_cuda_graph_batch_sizes"),
    *("adjust_mem_fraction_for_vlm",),
)
Read = Callable[[str], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A server: its card in MiB, its options, and the kind of its model."""

    card: int
    tp: int = 1
    dp: int = 1
    chunk: int | None = None
    running: int | None = None
    drafts: bool = False
    latents: bool = False
    tower: tuple[int, int] | None = None
    context: int | None = None

    @property
    def key(self) -> str:
        """The case in a word."""
        parts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return " ".join(f"{name}={value}" for name, value in parts.items() if value not in (None, False))


def cases() -> Iterator[Case]:
    """Cards of every tier, with few and many ranks, and what moves the fraction beside them."""
    for card, tp in product((15360, 24564, 32607, 49140, 81559, 143771, 183359), (1, 2, 8)):
        yield Case(card=card, tp=tp)
    for card in (24564, 81559, 143771):
        yield Case(card=card, chunk=2048)
        yield Case(card=card, chunk=32768)
        yield Case(card=card, running=16)
        yield Case(card=card, drafts=True)
        yield Case(card=card, tp=8, latents=True)
        yield Case(card=card, tp=8, dp=8, latents=True)
        yield Case(card=card, tower=(24, 1024))
        yield Case(card=card, tower=(27, 1152))
        yield Case(card=card, tower=(63, 8192))
        yield Case(card=card, chunk=8192, context=4096)


class _Backend:
    """The names of backends, of which only `DISABLED` is compared."""

    DISABLED = "disabled"
    FULL = "full"
    BREAKABLE = "breakable"
    TC_PIECEWISE = "tc_piecewise"


class _Phase:
    PREFILL = "prefill"
    DECODE = "decode"


class _Args:
    """The options; what a release asks beside them is off."""

    def __init__(self, case: Case, functions: Mapping[str, Any]) -> None:
        prefill = _Backend.BREAKABLE if case.tower is None else _Backend.DISABLED
        self.__dict__.update(
            device="cuda",
            tp_size=case.tp,
            pp_size=1,
            dp_size=case.dp,
            attn_dp_size=case.dp,
            chunked_prefill_size=case.chunk,
            max_running_requests=case.running,
            max_prefill_tokens=16384,
            context_length=case.context,
            enable_dp_attention=case.dp > 1,
            speculative_algorithm="EAGLE" if case.drafts else None,
            speculative_num_draft_tokens=4 if case.drafts else None,
            model_path="org/model",
            disaggregation_mode="null",
            moe_a2a_backend="none",
            disable_piecewise_cuda_graph=case.tower is not None,
            cuda_graph_config=SimpleNamespace(
                decode=SimpleNamespace(max_bs=None, bs=None, backend=_Backend.FULL),
                prefill=SimpleNamespace(max_bs=None, bs=None, backend=prefill),
            ),
            _cuda_graph_config_locked=set(),
            case=case,
            functions=functions,
        )

    def __getattr__(self, name: str) -> Any:
        function = self.__dict__["functions"].get(name)
        if function is not None:
            return lambda *given: function(self, *given)
        return _ANSWERS[name](self) if name in _ANSWERS else None


_ANSWERS: Final[dict[str, Callable[[_Args], Any]]] = {
    "use_mla_backend": lambda args: lambda: args.case.latents,
    "get_model_config": lambda args: lambda: _model(args),
    "get_hf_config": lambda args: lambda: _model(args).hf_config,
    "post_capture_kv_sizing_planned": lambda _: lambda: False,
    "_resolved": lambda args: lambda: args,
}


def _model(args: _Args) -> Any:
    tower = args.case.tower
    vision = SimpleNamespace(num_hidden_layers=tower[0], hidden_size=tower[1]) if tower else None
    return SimpleNamespace(is_multimodal=tower is not None, hf_config=SimpleNamespace(vision_config=vision))


class _Inner(ast.NodeTransformer):
    """Takes imports out of functions: what they bring is in their namespace."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        return ast.copy_location(ast.Pass(), node)


def _functions(read: Read, namespace: dict[str, Any]) -> dict[str, Any]:
    """The release's functions, by name."""
    for file in _FILES:
        tree = ast.parse(read(f"sglang/srt/{file}") or "")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name in _NAMES:
                module = ast.Module(body=[_Inner().visit(node)], type_ignores=[])
                exec(compile(ast.fix_missing_locations(module), file, "exec"), namespace)
    return {name: namespace[name] for name in _NAMES if name in namespace}


def _declare(args: _Args, _who: str, **values: Any) -> None:
    args.__dict__.update(values)


def _namespace(case: Case) -> dict[str, Any]:
    return {
        "Any": Any,
        "List": list,
        "Optional": object,
        "annotations": None,
        "Backend": _Backend,
        "Phase": _Phase,
        "copy": copy,
        "logger": logging.getLogger("sglang"),
        "envs": SimpleNamespace(),
        "is_npu": lambda: False,
        "resolving_view": lambda args: args,
        "resolved_view": lambda args: args,
        "declare_resolution": _declare,
        "model_config_of": _model,
        "attn_dp_enabled_of": lambda args: args.enable_dp_attention,
        "use_mla_backend": lambda args: args.case.latents,
        "post_capture_kv_sizing_planned": lambda _: False,
        "get_platform": lambda: SimpleNamespace(is_xpu=False),
        "get_device_memory_capacity": lambda _: case.card,
        "expand_multimodal_decode_graph_to_running_limit": lambda *_: None,
        "ModelConfig": SimpleNamespace(from_server_args=_model),
        "_DEFAULT_PP_PREFILL_CUDA_GRAPH_MAX_TOKENS": 0,
    }


def chosen(read: Read, case: Case) -> dict[str, float]:
    """What a release chooses for a server: the chunk, the largest graph, and the fraction."""
    functions = _functions(read, _namespace(case))
    args = _Args(case, functions)
    if "piecewise_cuda_graph_max_tokens is None" not in (read("sglang/srt/server_args.py") or ""):
        args.piecewise_cuda_graph_max_tokens = 4096  # the default of the releases that do not derive it
    if "handle_gpu_memory_settings" in functions:
        functions["handle_gpu_memory_settings"](args)
    else:
        functions["_handle_gpu_memory_settings"](args, case.card)
    graphs = args.cuda_graph_max_bs or args.cuda_graph_config.decode.max_bs
    return {"chunk": args.chunked_prefill_size, "graphs": graphs, "fraction": args.mem_fraction_static}


def read_release(read: Read) -> dict[str, dict[str, float]]:
    """What a release chooses for each case."""
    return {case.key: chosen(read, case) for case in cases()}


def published(version: str) -> Read:
    """The files of a release on PyPI."""
    return files_of(wheel_of(version, "sglang"))


def _unpacked(folder: Path) -> Read:
    return lambda path: (folder / path).read_text(encoding="utf-8") if (folder / path).exists() else None


def main() -> None:
    """Read the releases that are named, and keep them."""
    found = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
    for word in sys.argv[1:]:
        folder = Path(word)
        found[folder.name] = read_release(_unpacked(folder) if folder.is_dir() else published(word))
    order = sorted(found, key=lambda version: [int(part) for part in version.split(".")[:3]])
    lines = [f"{json.dumps(version)}: {json.dumps(found[version])}" for version in order]
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
