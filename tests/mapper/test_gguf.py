"""GGUF keys and tensors as architectures and parameters: beside config.json's, and each architecture's own rules."""

from __future__ import annotations

import random
import re
import time
from dataclasses import replace
from typing import Any

import pytest

from hfmem.fetcher import catalog
from hfmem.fetcher.values import ModelRef
from hfmem.mapper.caches import Seen
from hfmem.mapper.gguf.names import meaning
from hfmem.mapper.gguf.rows import ROWS
from hfmem.mapper.interpret import Model, interpret
from hfmem.mapper.values import Dense, Experts
from tests.mapper.gguf_models import MODELS, checkpoint, model

TOWERS = {"vision", "projector"}  # of a GGUF, they are in a file of their own
# the conversion leaves out the poolers and the position rows of padding that encoders have
WHOLE = [name for name in MODELS if "@" not in name and not re.search("mmproj|bert|bge", name)]
# Falcon-40B has 8 key/value heads, which transformers keeps once for each of the 128 query heads; llama.cpp runs the
# other two without the window of their config.json
CUT = [name for name in MODELS if "@" in name and not re.search("falcon-40b|Mistral-7B|Phi-4-mini", name)]


def both(file: str) -> tuple[Model, Model]:
    """A model by its GGUF, and by its config.json and tensor names of the catalog."""
    entry = catalog.find(ModelRef(model_id=MODELS[file]["model"].partition("@")[0]))
    assert entry is not None
    return interpret(model(file)), interpret(entry)


@pytest.mark.parametrize("file", [name for name in MODELS if MODELS[name]["loaded"] is not None])
def test_weights_are_those_that_llama_cpp_counts(file: str) -> None:
    table = interpret(model(file)).parameters
    assert table is not None
    assert sum(group.stored_bytes or 0 for group in table.groups if group.loaded) == MODELS[file]["loaded"]


@pytest.mark.parametrize("file", WHOLE)
def test_parameters_by_component_are_those_of_the_base_model(file: str) -> None:
    ours, theirs = both(file)
    assert ours.parameters is not None
    assert theirs.parameters is not None
    expected = {part: count for part, count in theirs.parameters.by_component.items() if part not in TOWERS}
    assert ours.parameters.by_component == expected
    if not TOWERS & set(theirs.parameters.by_component):
        assert ours.parameters.active == theirs.parameters.active
    assert ours.certainty == "exact"
    assert ours.source == "GGUF headers"


FIELDS = (
    "hidden_size",
    "vocab_size",
    "max_positions",
    "tied_embeddings",
    "attention_heads",
    "kv_heads",
    "head_dim",
    "intermediate_size",
    "experts",
    "experts_per_token",
    "head",
)
# the conversion gives hybrids without positions 2^20 of them
DIFFERENT = {("granite-4.0-h-small.Q4_K_M.gguf", "max_positions")}


@pytest.mark.parametrize("file", WHOLE)
def test_layers_and_sizes_are_those_of_config_json(file: str) -> None:
    ours, theirs = both(file)
    assert ours.architecture.layers == theirs.architecture.layers
    for field in FIELDS:
        same = getattr(ours.architecture, field) == getattr(theirs.architecture, field)
        assert same != ((file, field) in DIFFERENT), field


@pytest.mark.parametrize("file", CUT)
def test_the_first_layers_are_those_of_config_json(file: str) -> None:
    """Of models cut to some layers: their caches, and their networks."""
    if (entry := catalog.find(ModelRef(model_id=MODELS[file]["model"].partition("@")[0]))) is None:
        pytest.skip("the catalog has no such model")
    ours, theirs = interpret(model(file)).architecture.layers, interpret(entry).architecture.layers
    assert ours is not None
    assert theirs is not None
    assert ours == theirs[: len(ours)]


@pytest.mark.parametrize("file", WHOLE)
def test_cache_elements_are_equal_at_any_length(file: str) -> None:
    ours, theirs = (found.architecture.layers or () for found in both(file))
    for tokens in (1, 1000, 100_000):
        counts = [
            sum(part.elements for layer in layers for part in layer.cache.parts(Seen(tokens=tokens)))
            for layers in (ours, theirs)
        ]
        assert counts[0] == counts[1] > 0


def test_a_tower_has_its_parameters_and_no_layers() -> None:
    found = interpret(model("gemma-3-4b-it.mmproj.F16.gguf"))
    base = catalog.find(ModelRef(model_id="google/gemma-3-4b-it"))
    assert base is not None
    whole = interpret(base).parameters
    assert found.parameters is not None
    assert whole is not None
    assert found.parameters.by_component == {part: whole.by_component[part] for part in ("vision", "projector")}
    assert "mmproj" in found.architecture.unknown


def keys(architecture: str, **others: Any) -> dict[str, Any]:
    """Key-values of a small model; names are those of llama.cpp with __ for dots."""
    small: dict[str, Any] = {
        "block_count": 8,
        "context_length": 4096,
        "embedding_length": 64,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
    }
    small |= {key.replace("__", "."): item for key, item in others.items()}
    return {
        "general.architecture": architecture,
        **{f"{architecture}.{key}": item for key, item in small.items() if item is not None},
    }


F, S, L, N = "full_attention", "sliding_attention", "linear_attention", "none"
SSM = {"ssm__conv_kernel": 4, "ssm__inner_size": 128, "ssm__state_size": 16}
MLA = {"attention__key_length_mla": 24, "attention__value_length_mla": 16, "attention__kv_lora_rank": 32}
MLA |= {"attention__key_length": 40, "attention__value_length": 32, "rope__dimension_count": 8}
INDEXER = {"attention__indexer__top_k": 4, "attention__indexer__key_length": 8}
WINDOW = {"attention__sliding_window": 512}
LISTED = {**WINDOW, "attention__sliding_window_pattern": [1, 1, 0, 1] * 2}
EVERY = [0, 2] * 4

KINDS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("llama", WINDOW, [F] * 8),  # no windows, whatever the file says
    ("afmoe", WINDOW, [S, S, S, F] * 2),
    ("afmoe", {}, [F] * 8),
    ("cohere2", WINDOW, [S, S, S, F] * 2),
    ("cohere2moe", WINDOW, [F, S, S, S] * 2),
    ("exaone4", WINDOW, [F] * 8),  # of 64 layers alone
    ("exaone4", {"block_count": 64}, [S, S, S, F] * 16),
    ("exaone-moe", {}, [S, S, S, F] * 2),
    ("gemma2", {}, [S, F] * 4),
    ("gemma3", WINDOW, [S, S, S, S, S, F, S, S]),
    ("gemma3", {}, [F] * 8),
    ("gemma3", LISTED, [S, S, F, S] * 2),
    ("gemma3", {**WINDOW, "attention__sliding_window_pattern": 2}, [S, F] * 4),
    ("gemma3n", {**WINDOW, "block_count": 22}, ([S, S, S, S, F] * 4)[:20] + ["shared"] * 2),
    ("gemma4", {**LISTED, "attention__shared_kv_layers": 3}, [S, S, F, S, S, "shared", "shared", "shared"]),
    ("gpt-oss", WINDOW, [S, F] * 4),
    ("granite_swa", LISTED, [S, S, F, S] * 2),
    ("laguna", WINDOW, [F, S, S, S] * 2),
    ("laguna", {}, [F] * 8),
    ("llama4", {}, (["chunked_attention"] * 3 + [F]) * 2),
    ("llama4", {"attention__sliding_window": 0}, [F] * 8),
    ("mimo2", LISTED, [S, S, F, S] * 2),
    ("phi3", WINDOW, [F] * 8),
    ("plamo3", WINDOW, [S] * 7 + [F]),
    ("smallthinker", WINDOW, [F, S, S, S] * 2),
    ("smallthinker", {}, [F] * 8),
    ("bert", {}, [N] * 8),
    ("modern-bert", WINDOW, [N] * 8),
    ("dream", {}, [N] * 8),
    ("mamba", {**SSM, "attention__head_count": None, "attention__head_count_kv": None}, [L] * 8),
    ("mamba2", {**SSM, "ssm__group_count": 2, "attention__head_count": 0}, [L] * 8),
    ("rwkv7", {"wkv__head_size": 16, "attention__head_count": 0, "attention__head_count_kv": 0}, [L] * 8),
    ("jamba", {**SSM, "attention__head_count_kv": EVERY}, [L, F] * 4),
    ("granitehybrid", {**SSM, "ssm__group_count": 1, "attention__head_count_kv": EVERY}, [L, F] * 4),
    ("lfm2", {"shortconv__l_cache": 3, "attention__head_count_kv": EVERY}, ["conv", F] * 4),
    ("lfm2", {"shortconv__l_cache": 3, "attention__head_count_kv": EVERY, **WINDOW}, ["conv", S] * 4),
    ("kimi-linear", {**MLA, **SSM, "kda__head_dim": 16, "attention__head_count_kv": EVERY}, [L, F] * 4),
    ("falcon-h1", {**SSM, "ssm__group_count": 1}, ["hybrid"] * 8),
    (
        "nemotron_h",
        {**SSM, "attention__head_count_kv": [0, 0, 2, 0] * 2, "feed_forward_length": [0, 128, 0, 128] * 2},
        [L, N, F, N] * 2,
    ),
    ("qwen3next", {**SSM, "ssm__group_count": 2}, [L, L, L, F] * 2),
    ("qwen35", {**SSM, "ssm__group_count": 2, "full_attention_interval": 2}, [L, F] * 4),
    ("qwen35", {**SSM, "attention__recurrent_layers": [True, False] * 4}, [L, F] * 4),
    ("minimax-01", {}, [L] * 7 + [F]),
    ("deepseek2", MLA, [F] * 8),
    ("deepseek2", {**MLA, "nextn_predict_layers": 1}, [F] * 7),
    ("deepseek32", {**MLA, **INDEXER}, ["indexed_attention"] * 8),
    ("glm-dsa", {**MLA, **INDEXER}, ["indexed_attention"] * 8),
    ("minimax-m3", {**INDEXER, "leading_dense_block_count": 3}, ["indexed_attention"] * 8),
    ("hy_v4", MLA, [F] * 8),
    ("nanbeige", {"num_loops": 3}, [F] * 24),
    ("graniteswitch", {}, [F] * 9),
    ("t5", {"decoder_block_count": 4}, [F] * 4),
    ("t5encoder", {}, [N] * 8),
    (
        "deepseek4",
        {**WINDOW, **INDEXER, "attention__compress_ratios": [0, 4, 128, 4] * 2},
        [S, "compressed_sparse_attention", "heavily_compressed_attention", "compressed_sparse_attention"] * 2,
    ),
]


@pytest.mark.parametrize(("architecture", "given", "kinds"), KINDS)
def test_kinds_of_layers(architecture: str, given: dict[str, Any], kinds: list[str]) -> None:
    found = interpret(checkpoint(keys(architecture, **given), [("token_embd.weight", "F16", (8, 64))]))
    assert found.architecture.unknown == ""
    assert [layer.kind for layer in found.architecture.layers or ()] == kinds


KEPT: list[tuple[str, dict[str, Any], int, int]] = [
    # elements of all layers after 1,000 tokens, and after 2,000
    ("llama", {}, 8 * 1000 * 2 * 32, 8 * 2000 * 2 * 32),
    ("llama", {"attention__key_length": 24, "attention__value_length": 8}, 8 * 1000 * 2 * 32, 8 * 2000 * 2 * 32),
    ("llama", {"attention__head_count_kv": EVERY}, 4 * 1000 * 2 * 32, 4 * 2000 * 2 * 32),
    ("llama", {"attention__head_count_kv": None}, 8 * 1000 * 4 * 32, 8 * 2000 * 4 * 32),
    ("gemma2", WINDOW, 4 * 1512 * 64, 4 * 2512 * 64),
    ("gemma4", {**LISTED, "attention__key_length_swa": 8, "attention__value_length_swa": 8}, 226304, 354304),
    ("smallthinker", WINDOW, 8 * 1000 * 64, 8 * 2000 * 64),  # its window is 4,096 tokens, whatever the file says
    ("deepseek2", MLA, 8 * 1000 * 40, 8 * 2000 * 40),
    ("deepseek32", {**MLA, **INDEXER}, 8 * 1000 * 48, 8 * 2000 * 48),
    ("glm-dsa", {**MLA, **INDEXER, "context_length": 2**20}, 8 * 40000 + 4 * 8000, 8 * 80000 + 4 * 16000),
    ("glm-dsa", {**MLA, **INDEXER, "attention__indexer__types": [1] + [0] * 7}, 328000, 656000),
    ("mamba", {**SSM, "attention__head_count": 0}, *(2 * [8 * (4 * 128 + 16 * 128)])),
    ("mamba2", {**SSM, "ssm__group_count": 2, "attention__head_count": 0}, *(2 * [8 * (4 * 192 + 16 * 128)])),
    ("rwkv6", {"wkv__head_size": 16, "attention__head_count": 0}, *(2 * [8 * (2 * 64 + 64 * 16)])),
    ("arwkv7", {"wkv__head_size": 16, "token_shift_count": 1, "attention__head_count": 0}, *(2 * [8 * 64 * 17])),
    ("lfm2", {"shortconv__l_cache": 3, "attention__head_count_kv": EVERY}, 4 * 64192, 4 * 128192),
    ("minimax-01", {}, 7 * 4 * 256 + 64000, 7 * 4 * 256 + 128000),
    ("kimi-linear", {**MLA, **SSM, "kda__head_dim": 16, "attention__head_count_kv": EVERY}, 167168, 327168),
    ("falcon-h1", {**SSM, "ssm__group_count": 1}, 8 * (64000 + 4 * 160 + 2048), 8 * (128000 + 4 * 160 + 2048)),
    ("graniteswitch", {}, 8 * 64000 + 32000, 8 * 128000 + 64000),
    ("t5", {"decoder_block_count": 4}, 4 * 64000, 4 * 128000),
]


@pytest.mark.parametrize(("architecture", "given", "first", "second"), KEPT)
def test_what_layers_keep(architecture: str, given: dict[str, Any], first: int, second: int) -> None:
    found = interpret(checkpoint(keys(architecture, **given), [("token_embd.weight", "F16", (8, 64))])).architecture
    assert found.layers is not None
    assert sum(layer.elements(1000) for layer in found.layers) == first
    assert sum(layer.elements(2000) for layer in found.layers) == second


@pytest.mark.parametrize("architecture", sorted(ROWS))
def test_every_architecture_answers(architecture: str) -> None:
    """With all keys that any of them reads: layers, or the reason why there are none."""
    every = {**SSM, **MLA, **INDEXER, **LISTED, "wkv__head_size": None, "attention__head_count_kv": EVERY}
    every |= {"attention__compress_ratios": [0] * 8, "attention__indexer__types": [1] * 8, "kda__head_dim": 16}
    found = interpret(checkpoint(keys(architecture, **every), [("token_embd.weight", "F16", (8, 64))])).architecture
    if ROWS[architecture].form in ("tower", "audio"):
        assert found.layers is None
        assert found.unknown
    else:
        assert found.unknown == ""
        assert found.layers
        assert found.unmodelled == "GGUF files are modelled as llama.cpp runs them: use --runtime llamacpp"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"block_count": None}, "lacks 'llama.block_count'"),
        ({"block_count": "many"}, "'llama.block_count' is 'many'"),
        ({"block_count": 2**39}, "'llama.block_count' is"),
        ({"block_count": 0}, "'llama.block_count' is 0"),
        ({"nextn_predict_layers": 9}, "'llama.block_count' is 8"),
        ({"embedding_length": -1}, "'llama.embedding_length' is -1"),
        ({"embedding_length": None}, "lacks 'llama.embedding_length'"),
        ({"attention__head_count": [4, 4]}, "'llama.attention.head_count' is '2 values for 8 layers'"),
        ({"attention__head_count": {"type": "u32[]", "length": 5000}}, "'llama.attention.head_count' is"),
        ({"attention__head_count_kv": [2.5] * 8}, "'llama.attention.head_count_kv' is 2.5"),
    ],
)
def test_keys_that_cannot_be_right_leave_the_weights(given: dict[str, Any], words: str) -> None:
    found = interpret(checkpoint(keys("llama", **given), [("blk.0.attn_q.weight", "Q4_0", (64, 64))]))
    assert words in found.architecture.unknown
    assert found.architecture.layers is None
    assert found.parameters is not None
    assert found.parameters.total == 4096


def test_an_architecture_that_nobody_knows() -> None:
    found = interpret(checkpoint(keys("llama9"), [("blk.0.attn_q.weight", "Q4_0", (64, 64))]))
    assert "the llama.cpp architecture 'llama9' is not known" in found.architecture.unknown
    assert found.architecture.depth == 8
    unnamed = interpret(checkpoint({}, [("a", "F16", (4,))]))
    assert "general.architecture" in unnamed.architecture.unknown


def test_networks_are_what_the_tensors_are() -> None:
    rows = [
        ("blk.0.ffn_up.weight", "F16", (128, 64)),
        ("blk.0.ffn_down.weight", "F16", (64, 128)),
        ("blk.1.ffn_up.weight", "F16", (256, 64)),  # gate and up in one
        ("blk.1.ffn_down.weight", "F16", (64, 128)),
        ("blk.2.ffn_gate.weight", "F16", (96, 64)),
        ("blk.2.ffn_up.weight", "F16", (96, 64)),
        ("blk.2.ffn_down.weight", "F16", (64, 96)),
        ("blk.3.ffn_gate_inp.weight", "F32", (6, 64)),
        ("blk.3.ffn_down_exps.weight", "F16", (6, 64, 32)),
        ("blk.3.ffn_down_shexp.weight", "F16", (64, 48)),
        ("blk.4.ffn_down.{0-5}.weight", "F16", (64, 32)),  # experts as older files have them
        ("blk.5.channel_mix_key.weight", "F16", (224, 64)),
        ("blk.6.ffn_down_exps.weight", "F16", (6, 64, 32)),  # a dense network beside its experts
        ("blk.6.ffn_down.weight", "F16", (64, 80)),
    ]
    found = interpret(checkpoint(keys("llama", expert_count=6, expert_used_count=[2] * 6 + [3] * 2), rows)).architecture
    mixed = Experts(count=6, per_token=2, intermediate=32)
    assert [layer.ffn for layer in found.layers or ()] == [
        Dense(intermediate=128, gated=False),
        Dense(intermediate=128, gated=True),
        Dense(intermediate=96, gated=True),
        replace(mixed, shared=48),
        mixed,
        Dense(intermediate=224, gated=False),
        replace(mixed, per_token=3, shared=80),
        None,
    ]


@pytest.mark.parametrize(
    ("name", "component", "role"),
    [
        ("token_embd.weight", "embedding", "embed_tokens"),
        ("token_embd_norm.weight", "norm", "token_embd_norm"),
        ("output.weight", "lm_head", "lm_head"),
        ("output_norm.weight", "norm", "output_norm"),
        ("rope_freqs.weight", "other", "rope_freqs"),
        ("position_embd.weight", "embedding", "position_embd"),
        ("per_layer_token_embd.weight", "embedding", "per_layer_token_embd"),
        ("cls.output.bias", "lm_head", "output.bias"),
        ("blk.#.attn_q.weight", "attention", "q_proj"),
        ("blk.#.attn_q.bias", "attention", "q_proj.bias"),
        ("blk.#.attn_q_norm.weight", "norm", "attn_q_norm"),
        ("blk.#.attn_sinks.weight", "attention", "attn_sinks"),
        ("blk.#.indexer.attn_q_b.weight", "attention", "attn_q_b"),
        ("blk.#.indexer.k_norm.bias", "norm", "k_norm.bias"),
        ("blk.#.post_ffw_norm_1.weight", "norm", "post_ffw_norm_1"),
        ("blk.#.ffn_gate_inp.weight", "router", "gate"),
        ("blk.#.ffn_gate_inp_shexp.weight", "router", "gate"),
        ("blk.#.exp_probs_b.bias", "router", "exp_probs_b.bias"),
        ("blk.#.ffn_up_exps.weight", "experts", "up_proj"),
        ("blk.#.ffn_up.#.weight", "experts", "up_proj"),
        ("blk.#.ffn_down_exps.bias", "experts", "down_proj.bias"),
        ("blk.#.ffn_up_shexp.weight", "shared_experts", "up_proj"),
        ("blk.#.ffn_up.weight", "mlp", "up_proj"),
        ("blk.#.ssm_a", "state", "ssm_a"),
        ("blk.#.ssm_conv1d.weight", "state", "conv1d"),
        ("blk.#.ssm_norm.weight", "norm", "ssm_norm"),
        ("blk.#.shortconv.in_proj.weight", "state", "in_proj"),
        ("blk.#.time_mix_w1.weight", "state", "time_mix_w1"),
        ("blk.#.channel_mix_key.weight", "mlp", "channel_mix_key"),
        ("blk.#.nextn.eh_proj.weight", "mtp", "eh_proj"),
        ("dec.blk.#.cross_attn_q.weight", "attention", "cross_attn_q"),
        ("enc.blk.#.ffn_up.weight", "mlp", "up_proj"),
        ("v.blk.#.attn_q.weight", "vision", "q_proj"),
        ("a.conv1d.#.weight", "audio", "conv1d"),
        ("mm.#.weight", "projector", "mm"),
        ("v.deepstack.#.fc1.weight", "projector", "fc1"),
        ("something.new", "other", "new"),
    ],
)
def test_names_of_tensors(name: str, component: str, role: str) -> None:
    found = meaning(name)
    assert (found.component, found.role) == (component, role)


def test_prediction_layers_are_counted_and_not_loaded() -> None:
    found = interpret(model("Qwen3.5-0.8B.Q4_K_M.gguf"))
    assert found.parameters is not None
    groups = [group for group in found.parameters.groups if group.component == "mtp"]
    assert groups
    assert not any(group.loaded for group in groups)
    assert any("multi-token prediction (MTP) layers" in note for note in found.notes)


def test_rotary_factors_are_loaded_and_no_parameters() -> None:
    table = interpret(model("Llama-3.1-8B-Instruct.Q4_K_M.gguf")).parameters
    assert table is not None
    (factors,) = (group for group in table.groups if group.role == "rope_freqs")
    assert (factors.parameters, factors.stored_bytes, factors.loaded) == (0, 256, True)


def test_config_json_beside_a_gguf_tells_nothing_of_it() -> None:
    found = model("Qwen2.5-0.5B.Q4_K_M.gguf")
    misled = replace(found, config={"model_type": "gpt2", "n_layer": 99})
    assert interpret(misled).architecture == interpret(found).architecture


def test_of_several_files_the_first_has_the_keys() -> None:
    found = model("Qwen2.5-0.5B.Q4_K_M.gguf")
    name = found.weight_files[0].name
    second = {"GGUF.version": 3, "split.no": 1}
    both_ = replace(found, metadata={"z-00002-of-00002.gguf": second, name: found.metadata[name]})
    assert interpret(both_).architecture.layers == interpret(found).architecture.layers


JUNK: tuple[Any, ...] = (
    None,
    -1,
    0,
    1,
    3,
    512,
    2**20,
    2**40,
    2**63,
    "x",
    True,
    3.5,
    [],
    [0],
    [1] * 64,
    ["a"],
    {},
    [None],
)


def test_keys_of_any_kind_end_in_layers_or_a_reason() -> None:
    """Real files whose keys have other values: nothing is raised, and no answer takes long."""
    longest = 0.0
    for seed in range(2_000):
        draw = random.Random(seed)
        found = model(draw.choice(list(MODELS)))
        (file,) = found.metadata
        changed = dict(found.metadata[file])
        for _ in range(draw.choice((1, 1, 2, 4))):
            changed[draw.choice(list(changed))] = draw.choice(JUNK)
        if draw.random() < 0.2:
            other, old = draw.choice(list(ROWS)), changed.get("general.architecture")
            changed = {key.replace(f"{old}.", f"{other}.", 1): item for key, item in changed.items()}
            changed["general.architecture"] = other
        few = draw.sample(found.tensors, min(40, len(found.tensors)))
        began = time.process_time()
        understood = interpret(replace(found, metadata={file: changed}, tensors=tuple(few)))
        longest = max(longest, time.process_time() - began)
        assert bool(understood.architecture.unknown) == (understood.architecture.layers is None)
        assert understood.parameters is not None
        for layer in understood.architecture.layers or ():
            assert layer.elements(100) >= 0
    assert longest < 2
