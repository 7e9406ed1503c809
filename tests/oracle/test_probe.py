"""The algebra of the probe: what it recognises as a polynomial in the sizes, and what it refuses."""

from __future__ import annotations

from fractions import Fraction
from math import prod
from typing import Any

import pytest

pytest.importorskip("torch")

from hfmem.estimator.activations.coefficients import Coefficients
from hfmem.estimator.activations.polynomials import Polynomial
from hfmem.mapper.sizes import token_sizes
from hfmem.probe.activations.algebra import Solver, TensorRecord
from hfmem.probe.activations.derive import solve
from hfmem.probe.activations.probes import Probe, deviation, probes
from hfmem.probe.activations.ragged import linear
from hfmem.probe.activations.reading import Reading
from hfmem.probe.activations.step import Mode, Timeline
from hfmem.probe.activations.tracer import Allocation, Segment
from hfmem.probe.activations.variants import variants

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

HIDDEN, HEADS, DIM, CHUNK = (40, 96, 64, 112, 56), (5, 6, 4, 7, 8), (8, 24, 16, 40, 32), (16, 32, 64, 16, 32)
BATCH, TOKENS = (2, 3, 2, 4, 3), (210, 270, 350, 230, 290)

SIZES: dict[str, tuple[int, ...]] = {
    "hidden": HIDDEN,
    "heads": HEADS,
    "key_dim": DIM,
    "chunk_size": CHUNK,
}
_TOKENS = [token_sizes(b, s, {"chunk_size": c}) for b, s, c in zip(BATCH, TOKENS, CHUNK, strict=True)]
SIZES |= {name: tuple(row[name] for row in _TOKENS) for name in _TOKENS[0]}

# (text of the polynomial in elements, shape of the tensor at a probe)
RECOGNISED: list[tuple[str, Any]] = [
    ("1*b*hidden*s", lambda v: (v["b"], v["s"], v["hidden"])),
    ("1*b*heads*s*s", lambda v: (v["b"], v["heads"], v["s"], v["s"])),
    ("4*hidden*hidden", lambda v: (4 * v["hidden"], v["hidden"])),
    ("1*b*heads*key_dim*s+1*b*hidden*s", lambda v: (v["b"] * v["s"], v["heads"] * v["key_dim"] + v["hidden"])),
    ("-1*b*hidden+1*b*hidden*s", lambda v: (v["b"], v["s"] - 1, v["hidden"])),
    (
        "1*b*chunk_size*chunk_size*chunks_of_chunk_size*heads",
        lambda v: (v["b"], v["chunks_of_chunk_size"], v["chunk_size"], v["chunk_size"], v["heads"]),
    ),
    ("1*b*heads*last_of_chunk_size", lambda v: (v["b"], v["heads"], v["last_of_chunk_size"])),
    (
        "1*b*heads+2*b*chunks_of_chunk_size*heads+1*b*chunks_of_chunk_size*chunks_of_chunk_size*heads",
        lambda v: (v["b"], v["heads"], v["chunks_of_chunk_size"] + 1, v["chunks_of_chunk_size"] + 1),
    ),
    (  # heads whose width has no name
        "1*b*chunk_size*chunks_of_chunk_size*heads*hidden",
        lambda v: (v["b"], v["heads"] * 8, v["chunks_of_chunk_size"], v["chunk_size"], v["hidden"] // 8),
    ),
    (  # blocks between those at both ends, of all heads of each sequence
        "-4*b*chunk_size*hidden+1*b*chunk_size*chunks_of_chunk_size*hidden",
        lambda v: (2 * v["b"] * (v["chunks_of_chunk_size"] - 4), v["chunk_size"], v["hidden"] // 2),
    ),
]


def record(shape: Any) -> TensorRecord:
    """A tensor of two bytes per element, at every probe."""
    shapes = tuple(shape({name: values[probe] for name, values in SIZES.items()}) for probe in range(len(BATCH)))
    sizes = []
    for one in shapes:
        count = 2
        for dimension in one:
            count *= dimension
        sizes.append(count)
    return TensorRecord(nbytes=tuple(sizes), shapes=shapes, itemsize=2)


@pytest.mark.parametrize(("text", "shape"), RECOGNISED, ids=[text for text, _ in RECOGNISED])
def test_a_tensor_is_the_polynomial_of_its_shape(text: str, shape: Any) -> None:
    assert Solver(SIZES).tensor(record(shape)) == Polynomial.parse(text) * 2


def test_a_tensor_that_is_no_polynomial_is_refused() -> None:
    squares = TensorRecord(nbytes=(1009, 2003, 3001, 4001, 5003), shapes=((),) * 5, itemsize=1)

    assert Solver(SIZES).tensor(squares) is None


@pytest.mark.parametrize("copied", ["repeated_heads", "grouped_heads"])
def test_copies_of_keys_are_told_from_queries(copied: str) -> None:
    kv_heads, groups = (2, 3, 2, 5, 4), (3, 2, 4, 2, 3)
    sizes = {**SIZES, "kv_heads": kv_heads, "heads": tuple(a * b for a, b in zip(kv_heads, groups, strict=True))}
    rows = list(zip(BATCH, kv_heads, groups, TOKENS, DIM, strict=True))
    copies = TensorRecord(nbytes=tuple(2 * prod(row) for row in rows), shapes=tuple(rows), itemsize=2)
    queries = TensorRecord(
        nbytes=copies.nbytes, shapes=tuple((b, s, kv * group, dim) for b, kv, group, s, dim in rows), itemsize=2
    )
    assert Solver(sizes, copied=copied).tensor(copies) == Polynomial(
        {tuple(sorted(("b", "s", "key_dim", copied))): Fraction(2)}
    )
    assert Solver(sizes, copied=copied).tensor(queries) == Polynomial.parse("2*b*heads*key_dim*s")


@pytest.mark.parametrize(
    ("depth", "text"), [(7, "2*b*hidden*num_hidden_layers*s"), (6, "12*b*hidden*s"), (2, "4*b*hidden*s")]
)
def test_something_for_each_layer_grows_with_them(depth: int, text: str) -> None:
    found = Solver({**SIZES, "num_hidden_layers": (depth,) * len(BATCH)}).tensor(
        record(lambda v: (v["b"], v["s"], depth, v["hidden"]))
    )
    assert found == Polynomial.parse(text)


def test_what_the_last_layer_of_a_prefill_leaves_belongs_to_the_head() -> None:
    segments: list[Segment] = [("before", 0), ("forward", 0), ("forward", 1), ("head", 0)]
    allocations = [
        Allocation(nbytes=2**number, itemsize=2, shape=(), op="", segment=segment, site="")
        for number, segment in enumerate(segments)
    ]
    events = [(True, 0, segments[0]), (True, 1, segments[1]), (False, 1, segments[2]), (True, 2, segments[2])]
    events.append((True, 3, segments[3]))
    for method, owner in (("prefill", ("head", 0)), ("full", ("forward", 1))):
        timeline = Timeline(allocations=allocations, events=events, kept=frozenset({0, 2}), depth=2)
        reading = Reading(timeline, Mode(method=method))
        assert [segment for segment in segments if 2 in reading.kept_in(segment)] == [owner]
        assert reading.kept_in(("before", 0)) == {0}


@pytest.mark.parametrize(
    ("turns", "text"),
    [
        ((3, 3, 3, 3, 3), "3"),
        (TOKENS, "1*s"),
        (tuple(n - 1 for n in SIZES["chunks_of_chunk_size"]), "-1+1*chunks_of_chunk_size"),
        (tuple(2 * n + 5 for n in TOKENS), "5+2*s"),
        (tuple(n // 2 for n in TOKENS), "1/2*s"),
    ],
)
def test_turns_of_a_loop_are_linear_in_one_size(turns: tuple[int, ...], text: str) -> None:
    assert linear(turns, SIZES) == Polynomial.parse(text)


def test_turns_that_are_linear_in_no_size_are_refused() -> None:
    assert linear((1, 0, 0, 1, 2), SIZES) is None


@pytest.mark.parametrize(
    ("batch", "seq", "sizes", "expected"),
    [
        (2, 100, {}, {"b": 2, "s": 100, "chunks_of_64": 2, "last_of_64": 36}),
        (1, 128, {"chunk_size": 32}, {"b": 1, "s": 128, "chunks_of_chunk_size": 4, "last_of_chunk_size": 32}),
        (1, 1, {"chunk_size": 256}, {"b": 1, "s": 1, "chunks_of_chunk_size": 1, "last_of_chunk_size": 1}),
    ],
)
def test_tokens_are_cut_into_chunks(batch: int, seq: int, sizes: dict[str, int], expected: dict[str, int]) -> None:
    assert token_sizes(batch, seq, sizes) == expected


@pytest.mark.parametrize(
    ("model_type", "name", "layer", "kept"),
    [
        # FORMULAS: 16H + 4Hq + 4Hkv + 8I a token, the log-sum-exp (4 a head), two float32 of the norms
        (
            "llama",
            "LlamaForCausalLM",
            "full_attention, dense",
            "4*b*heads*key_dim*s+4*b*heads*s+16*b*hidden*s+8*b*intermediate*s+4*b*key_dim*kv_heads*s+8*b*s",
        ),
    ],
)
def test_a_dense_layer_keeps_what_the_formula_says(model_type: str, name: str, layer: str, kept: str) -> None:
    solution = solve(probes(variants(model_type, name)), Mode())

    assert solution.residual == 0
    assert solution.layers[layer].kept == Polynomial.parse(kept)


def test_a_loop_over_tokens_is_solved_and_holds_at_sizes_that_took_no_part() -> None:
    built = probes(variants("mamba", "MambaForCausalLM"))

    solution = solve(built, Mode(attention="eager"))

    assert solution.residual < 0.001
    assert all("s" in part.kept.names for part in solution.layers.values())


def test_a_type_is_told_from_one_that_runs_otherwise() -> None:
    solution = solve(probes(variants("llama", "LlamaForCausalLM")), Mode())
    told = Coefficients(
        name="llama",
        mode="",
        before=solution.before,
        head=solution.head,
        layers=solution.layers,
        linears={},
        fixed={},
    )
    same, other = (Probe(variants(kind, name, few=True)[0]) for kind, name in _PAIR)

    assert deviation(same, Mode(), told) < 0.001
    assert deviation(other, Mode(), told) > 0.01


_PAIR = (("llava", "LlavaForConditionalGeneration"), ("phi3", "Phi3ForCausalLM"))
