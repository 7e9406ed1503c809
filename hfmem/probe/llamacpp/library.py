"""The C interface of a llama.cpp library, by ctypes: what a file would take, and the graph that a batch would run.

With `no_alloc` llama.cpp reads the metadata of a file and simulates every allocation, so that a sparse file (a header,
then a hole) is enough. The structures are those of `RELEASE`; another release is refused by its symbols or sizes.

    npm pack @node-llama-cpp/linux-x64@3.22.1     # libllama and the CPU backends, in package/bins/linux-x64
"""

from __future__ import annotations

import ctypes as c
import json
import os
import pickle
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from hfmem.engines.tracing import FOLDER, library_folder

__all__ = ["FILE_TYPES", "RELEASE", "Asked", "Graph", "Library", "LlamaError", "Tensor", "apart"]

RELEASE: Final = "0.5.0"
"""The release whose structures these are."""

_INPUT, _OUTPUT = 1, 2  # GGML_TENSOR_FLAG_*
_TYPES: Final = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20, "bf16": 30}
_FLASH: Final = {"auto": -1, "off": 0, "on": 1}
_Result = TypeVar("_Result")


class LlamaError(Exception):
    """llama.cpp refused a file or a setting; the message is the end of its log."""


class _ModelParams(c.Structure):
    _fields_ = (
        ("devices", c.c_void_p),
        ("tensor_buft_overrides", c.c_void_p),
        ("n_gpu_layers", c.c_int32),
        ("split_mode", c.c_int),
        ("load_mode", c.c_int),
        ("lazy_mode", c.c_int),
        ("main_gpu", c.c_int32),
        ("tensor_split", c.c_void_p),
        ("progress_callback", c.c_void_p),
        ("progress_callback_user_data", c.c_void_p),
        ("kv_overrides", c.c_void_p),
        ("vocab_only", c.c_bool),
        ("check_tensors", c.c_bool),
        ("use_extra_bufts", c.c_bool),
        ("no_host", c.c_bool),
        ("no_alloc", c.c_bool),
        ("load_mtp", c.c_bool),
    )


class _ContextParams(c.Structure):
    _fields_ = (
        *(
            (name, c.c_uint32)
            for name in (
                "n_ctx",
                "n_batch",
                "n_ubatch",
                "n_seq_max",
                "n_rs_seq",
                "n_outputs_max",
                "n_outputs_max_per_seq",
            )
        ),
        *((name, c.c_int32) for name in ("n_threads", "n_threads_batch")),
        *(
            (name, c.c_int)
            for name in ("ctx_type", "rope_scaling_type", "pooling_type", "attention_type", "flash_attn_type")
        ),
        *(
            (name, c.c_float)
            for name in (
                "rope_freq_base",
                "rope_freq_scale",
                "yarn_ext_factor",
                "yarn_attn_factor",
                "yarn_beta_fast",
                "yarn_beta_slow",
            )
        ),
        ("yarn_orig_ctx", c.c_uint32),
        ("defrag_thold", c.c_float),
        ("cb_eval", c.c_void_p),
        ("cb_eval_user_data", c.c_void_p),
        ("type_k", c.c_int),
        ("type_v", c.c_int),
        ("abort_callback", c.c_void_p),
        ("abort_callback_data", c.c_void_p),
        *(
            (name, c.c_bool)
            for name in ("embeddings", "offload_kqv", "no_perf", "op_offload", "swa_full", "kv_unified")
        ),
        ("samplers", c.c_void_p),
        ("n_samplers", c.c_size_t),
        ("ctx_other", c.c_void_p),
    )


class _QuantizeParams(c.Structure):
    _fields_ = (
        *((name, c.c_int32) for name in ("nthread", "ftype", "output_tensor_type", "token_embedding_type")),
        *(
            (name, c.c_bool)
            for name in (
                "allow_requantize",
                "quantize_output_tensor",
                "only_copy",
                "pure",
                "keep_split",
                "dry_run",
            )
        ),
        *((name, c.c_void_p) for name in ("imatrix", "kv_overrides", "tt_overrides", "prune_layers")),
        ("max_buf_size", c.c_size_t),
    )


class _Matrix(c.Structure):
    _fields_ = (("name", c.c_char_p), ("data", c.c_void_p), ("size", c.c_size_t))


FILE_TYPES: Final[Mapping[str, int]] = {
    name: number
    for number, name in enumerate(
        (
            *("F32", "F16", "Q4_0", "Q4_1", "", "", "", "Q8_0", "Q5_0", "Q5_1", "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L"),
            *("Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "IQ2_XXS", "IQ2_XS", "Q2_K_S", "IQ3_XS", "IQ3_XXS"),
            *("IQ1_S", "IQ4_NL", "IQ3_S", "IQ3_M", "IQ2_S", "IQ2_M", "IQ4_XS", "IQ1_M", "BF16", "", "", ""),
            *("TQ1_0", "TQ2_0", "MXFP4_MOE", "", "Q1_0", "Q2_0"),
        )
    )
    if name
}
"""`llama_ftype` of llama.h, as `LlamaFileType` of gguf-py has it."""

_QUANTISED: Final = re.compile(
    r"\]\s+(\S+)\s+- \[[^\]]*\], type =\s+(\S+), size =\s+[\d.]+ MiB(?: ->\s+[\d.]+ MiB \((\w+)\))?"
)

_MODEL_DEFAULTS: Final[Mapping[str, Any]] = {
    **{"n_gpu_layers": -1, "split_mode": 1, "main_gpu": 0, "use_extra_bufts": True},
    **dict.fromkeys(("devices", "tensor_buft_overrides", "tensor_split", "kv_overrides")),
    **dict.fromkeys(("vocab_only", "check_tensors", "no_host", "no_alloc", "load_mtp"), False),
}
_CONTEXT_DEFAULTS: Final[Mapping[str, Any]] = {
    **{"n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1, "n_outputs_max": 0, "n_outputs_max_per_seq": 1},
    **{"flash_attn_type": -1, "rope_freq_base": 0.0, "yarn_ext_factor": -1.0, "yarn_orig_ctx": 0, "defrag_thold": -1.0},
    **{"type_k": 1, "type_v": 1, "n_samplers": 0},
    **dict.fromkeys(("cb_eval", "abort_callback", "samplers", "ctx_other")),
    **dict.fromkeys(("offload_kqv", "no_perf", "op_offload", "swa_full"), True),
    **dict.fromkeys(("embeddings", "kv_unified"), False),
}
"""`llama_model_default_params` and `llama_context_default_params` of the release."""


class _TensorStruct(c.Structure):
    _fields_ = (
        ("type", c.c_int),
        ("buffer", c.c_void_p),
        ("ne", c.c_int64 * 4),
        ("nb", c.c_size_t * 4),
        ("op", c.c_int),
        ("op_params", c.c_int32 * 16),
        ("flags", c.c_int32),
        ("src", c.c_void_p * 10),
        ("view_src", c.c_void_p),
        ("view_offs", c.c_size_t),
        ("data", c.c_void_p),
        ("name", c.c_char * 64),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Settings of a context, with the names of llama.cpp's C interface."""

    n_ctx: int = 4096
    n_ubatch: int = 512
    n_batch: int = 2048
    n_seq_max: int = 1
    n_outputs_max: int = 1
    flash: str = "on"
    type_k: str = "f16"
    type_v: str = "f16"
    kv_unified: bool = True
    swa_full: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor of a graph.

    Attributes:
        op: the name of its operation; NONE for inputs, weights and caches.
        sources: numbers of the tensors it reads.
        view: the number of the tensor it is a view of; None for one with memory of its own.
        nbytes: its size.
        external: whether it lies in a buffer that the graph does not allocate: a weight or a cache.
        layout: type, sizes and strides.
    """

    name: str
    op: str
    sources: tuple[int, ...]
    view: int | None
    nbytes: int
    external: bool
    is_input: bool
    is_output: bool
    layout: tuple[int, tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """What one batch runs.

    Attributes:
        tensors: all of them; others name them by their place here.
        nodes: those that are computed, in order.
        leafs: inputs, weights and caches, in llama.cpp's order.
        buffers: bytes that llama.cpp itself says, by buffer: model, context, compute.
    """

    tensors: tuple[Tensor, ...]
    nodes: tuple[int, ...]
    leafs: tuple[int, ...]
    buffers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def apart(run: Callable[[], _Result]) -> _Result:
    """The result of a function that runs in a child process: an assertion of llama.cpp ends that process alone.

    Raises:
        LlamaError: it ended without a result.
    """
    with tempfile.TemporaryFile() as errors:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            os.dup2(errors.fileno(), 2)
            _answer(run, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read()
        os.waitpid(child, 0)
        errors.seek(0)
        last = errors.read()[-1000:].decode("utf8", "replace")
    if not told:
        raise LlamaError(f"llama.cpp stopped: {last}")
    fine, result = pickle.loads(told)  # noqa: S301 - of our own child
    if not fine:
        raise LlamaError(result)
    return result  # type: ignore[no-any-return]


def _answer(run: Callable[[], object], writing: int) -> NoReturn:
    """Write what a function returns into a pipe, and end this process."""
    try:
        answer: Any = (True, run())
    except LlamaError as error:
        answer = (False, str(error))
    with os.fdopen(writing, "wb") as pipe:
        pickle.dump(answer, pipe)
    os._exit(0)


class Library:
    """A llama.cpp library.

    Args:
        folder: with libllama and the libraries of ggml; default: that of this machine.

    Raises:
        LlamaError: no library is there.
    """

    def __init__(self, folder: str | None = None) -> None:
        home = Path(folder or library_folder() or ".")
        os.environ.setdefault("GGML_NO_BACKTRACE", "1")
        self._base = _load(home, "libggml-base.so*", "libggml-base.dylib")
        ggml = _load(home, "libggml.so*", "libggml.v*.so", "libggml.dylib")
        self._llama = _load(home, "libllama.so*", "libllama.v*.so", "libllama.dylib")
        self._log: list[str] = []
        self._heard = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)(
            lambda _level, text, _data: self._log.append(text.decode("utf8", "replace"))
        )
        self._declare()
        self._check()
        self._llama.llama_log_set(self._heard, None)
        ggml.ggml_backend_load_all_from_path(str(home).encode())
        self._llama.llama_backend_init()

    def _declare(self) -> None:
        llama, base = self._llama, self._base
        llama.llama_model_default_params.restype = _ModelParams
        llama.llama_context_default_params.restype = _ContextParams
        llama.llama_model_load_from_file.restype = c.c_void_p
        llama.llama_model_load_from_file.argtypes = [c.c_char_p, _ModelParams]
        llama.llama_init_from_model.restype = c.c_void_p
        llama.llama_init_from_model.argtypes = [c.c_void_p, _ContextParams]
        llama.llama_free.argtypes = [c.c_void_p]
        llama.llama_model_quantize_default_params.restype = _QuantizeParams
        llama.llama_model_quantize.argtypes = [c.c_char_p, c.c_char_p, c.POINTER(_QuantizeParams)]
        llama.llama_model_quantize.restype = c.c_uint32
        llama.llama_model_free.argtypes = [c.c_void_p]
        base.ggml_backend_buft_name.restype = c.c_char_p
        base.ggml_backend_buft_name.argtypes = [c.c_void_p]
        base.ggml_graph_n_nodes.argtypes = [c.c_void_p]
        base.ggml_graph_node.argtypes = [c.c_void_p, c.c_int]
        base.ggml_graph_node.restype = c.c_void_p
        base.ggml_op_name.argtypes = [c.c_int]
        base.ggml_op_name.restype = c.c_char_p
        base.ggml_nbytes.argtypes = [c.c_void_p]
        base.ggml_nbytes.restype = c.c_size_t

    def _check(self) -> None:
        """Refuse a library whose structures are others: their default values would stand in other places.

        Raises:
            LlamaError: it is of another release.
        """
        model, context = self._llama.llama_model_default_params(), self._llama.llama_context_default_params()
        for params, expected in ((model, _MODEL_DEFAULTS), (context, _CONTEXT_DEFAULTS)):
            if any(getattr(params, name) != value for name, value in expected.items()):
                raise LlamaError(f"the library is not of llama.cpp {RELEASE}")

    def model(self, path: Path) -> int:
        """A model, of which only the metadata is read; its handle.

        Raises:
            LlamaError: refused.
        """
        params = self._llama.llama_model_default_params()
        params.no_alloc, params.n_gpu_layers = True, 0
        params.load_mode, params.use_extra_bufts = 0, False  # without mapping and repacking
        self._log.clear()
        found = self._llama.llama_model_load_from_file(str(path).encode(), params)
        if not found:
            raise LlamaError("".join(self._log)[-1500:])
        return int(found)

    def free(self, model: int) -> None:
        """Let a model go."""
        self._llama.llama_model_free(model)

    def context(self, model: int, asked: Asked) -> int:
        """A context of a model; its handle.

        Raises:
            LlamaError: refused.
        """
        params = self._llama.llama_context_default_params()
        for name in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_outputs_max", "kv_unified", "swa_full"):
            setattr(params, name, getattr(asked, name))
        params.flash_attn_type = _FLASH[asked.flash]
        params.type_k, params.type_v = _TYPES[asked.type_k], _TYPES[asked.type_v]
        self._log.clear()
        found = self._llama.llama_init_from_model(model, params)
        if not found:
            raise LlamaError("".join(self._log)[-1500:])
        return int(found)

    def buffers(self, path: Path, asked: Asked) -> dict[str, dict[str, int]]:
        """What llama.cpp itself says that a file takes: bytes of each buffer for model, context and compute.

        Raises:
            LlamaError: refused.
        """
        model = self.model(path)
        try:
            context = self.context(model, asked)
            try:
                return self._breakdown(context)
            finally:
                self._llama.llama_free(context)
        finally:
            self.free(model)

    def quantised(self, path: Path, quantisation: str, *, matrix: bool = False) -> dict[str, str]:
        """The type that llama-quantize would give each tensor of a file, as its dry run says.

        Args:
            path: of the file, whose weights are not read.
            quantisation: a key of `FILE_TYPES`.
            matrix: whether there is an importance matrix.

        Raises:
            LlamaError: refused.
        """
        params = self._llama.llama_model_quantize_default_params()
        params.dry_run, params.nthread, params.ftype = True, 1, FILE_TYPES[quantisation]
        entries = (_Matrix * 2)(_Matrix(name=b"none", data=None, size=0))
        params.imatrix = c.addressof(entries) if matrix else None
        self._log.clear()
        failed = self._llama.llama_model_quantize(str(path).encode(), b"", c.byref(params))
        log = "".join(self._log)
        if failed:
            raise LlamaError(log[-1500:])
        return {found[1]: (found[3] or found[2]).upper() for found in _QUANTISED.finditer(log)}

    def graph(self, path: Path, asked: Asked) -> Graph:
        """The graph of the largest batch of a file, and the buffers that llama.cpp says it needs.

        Raises:
            LlamaError: refused.
        """
        context = self.context(self.model(path), asked)
        buffers = self._breakdown(context)
        tokens = min(asked.n_ctx, asked.n_ubatch)
        reserve = self._llama["_Z19llama_graph_reserveP13llama_contextjjj"]
        reserve.restype = c.c_void_p
        reserve.argtypes = [c.c_void_p, c.c_uint32, c.c_uint32, c.c_uint32]
        found = reserve(context, tokens, asked.n_seq_max, min(tokens, asked.n_outputs_max))
        if not found:
            raise LlamaError("".join(self._log)[-1500:])
        return self._read(found, buffers)

    def _breakdown(self, context: int) -> dict[str, dict[str, int]]:
        """`llama_get_memory_breakdown`, a `std::map` of buffer types that is returned by value."""
        breakdown = self._llama["_Z26llama_get_memory_breakdownPK13llama_context"]
        breakdown.argtypes, breakdown.restype = [c.c_void_p, c.c_void_p], c.c_void_p
        box = (c.c_uint64 * 6)()
        breakdown(c.addressof(box), context)
        found: dict[str, dict[str, int]] = {}

        def walk(place: int) -> None:
            if not place:
                return
            _, _, left, right, kind, *sizes = (c.c_uint64 * 8).from_address(place)
            walk(left)
            row = found.setdefault(self._base.ggml_backend_buft_name(kind).decode(), {})
            for name, size in zip(("model", "context", "compute"), sizes, strict=True):
                row[name] = row.get(name, 0) + size
            walk(right)

        walk(box[2])
        return found

    def _read(self, place: int, buffers: Mapping[str, Mapping[str, int]]) -> Graph:
        base = self._base
        nodes = [base.ggml_graph_node(place, i) for i in range(base.ggml_graph_n_nodes(place))]
        count = c.c_int.from_address(place + 8).value  # struct ggml_cgraph: size, n_nodes, n_leafs, nodes, …, leafs
        first = c.c_void_p.from_address(place + 40).value or 0
        leafs = [c.c_void_p.from_address(first + 8 * i).value for i in range(count)]
        numbers: dict[int, int] = {}
        tensors: list[Tensor | None] = []

        def number(at: int) -> int:
            if at in numbers:
                return numbers[at]
            numbers[at] = len(tensors)
            tensors.append(None)
            raw = _TensorStruct.from_address(at)
            sources = tuple(number(source) for source in raw.src if source)
            tensors[numbers[at]] = Tensor(
                name=raw.name.decode("utf8", "replace"),
                op=base.ggml_op_name(raw.op).decode(),
                sources=sources,
                view=number(raw.view_src) if raw.view_src else None,
                nbytes=base.ggml_nbytes(at),
                external=bool(raw.data or raw.buffer),
                is_input=bool(raw.flags & _INPUT),
                is_output=bool(raw.flags & _OUTPUT),
                layout=(raw.type, tuple(raw.ne), tuple(raw.nb)),
            )
            return numbers[at]

        ordered, outer = tuple(number(at) for at in nodes), tuple(number(at) for at in leafs if at)
        return Graph(
            tensors=tuple(tensor for tensor in tensors if tensor is not None),
            nodes=ordered,
            leafs=outer,
            buffers=buffers,
        )


def _load(home: Path, *patterns: str) -> Any:
    found: Iterable[Path] = (path for pattern in patterns for path in sorted(home.glob(pattern)))
    path = next(iter(found), None)
    if path is None:
        raise LlamaError(f"no {patterns[0]} in {home}: set {FOLDER} to the folder of a llama.cpp library")
    return c.CDLL(str(path), mode=c.RTLD_GLOBAL)


@cache
def library(folder: str | None = None) -> Library:
    """The library of a folder, loaded once."""
    return Library(folder)


if __name__ == "__main__":
    import sys

    told = library().graph(Path(sys.argv[1]), Asked(**json.loads(sys.argv[2] if len(sys.argv) > 2 else "{}")))
    print(json.dumps(told.buffers, indent=1))
