"""The activation peak of vLLM's profile run: `torch peak memory increase` in its log.

The engine runs one forward pass of `max_num_batched_tokens` tokens, and then the sampler on `max_num_seqs` rows of
random logits, with top-k and top-p enabled. The peak is the larger of the two; tensors that outlive the forward pass
count in both. Sources: vLLM 0.19.0 `v1/worker/gpu_model_runner.py::{profile_run,_dummy_run,_dummy_sampler_run}`,
`v1/sample/ops/topk_topp_{sampler,triton}.py`, `model_executor/layers/fused_moe/fused_moe.py::workspace_shapes`;
PyTorch `aten/src/ATen/native/cuda/SortStable.cu`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.engines.forward import layer_inner
from hfmem.engines.vllm.encoder import has_encoder, profile_of
from hfmem.engines.vllm.media import multimodal
from hfmem.engines.vllm.settings import CHUNKED_BEYOND, Settings
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.split.stages import Stage
from hfmem.estimator.values import Term, total_of
from hfmem.hardware.values import Accelerator
from hfmem.mapper.caches import Latent
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Experts, Layer
from hfmem.unknown import Unknown

__all__ = ["layer_scratch", "packed_experts", "peak_terms"]

_SOURCE: Final = "vLLM 0.19.0, profile run: v1/worker/gpu_model_runner.py, v1/sample/ops"
_MULTIPROCESSORS: Final = {
    "hopper": 132,
    "blackwell": 148,
    "blackwell-rtx": 188,
    "ampere": 108,
    "ada": 142,
    "turing": 40,
}
# PyTorch's default cuBLAS workspace: 32 MiB from sm90 on, 8,519,680 B (':4096:2:16:8') before
_WORKSPACE: Final = {"hopper": 32 * 2**20, "blackwell": 32 * 2**20, "blackwell-rtx": 32 * 2**20}
_SMALL_WORKSPACE: Final = 8_519_680
_FEW_ROWS: Final = 128  # SortStable.cu sorts rows one by one below this, else in segments
_TRITON_ROWS: Final = 8  # topk_topp_sampler uses the Triton kernel from this batch size on


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One rank's profile run."""

    model: Model
    settings: Settings
    parallel: Parallel
    stage: Stage
    gpu: Accelerator | None
    width: int

    @property
    def tokens(self) -> int:
        return self.settings.max_num_batched_tokens

    @property
    def gathered(self) -> int:
        """Tokens of all data-parallel replicas, which are gathered for the experts."""
        return self.tokens * self.parallel.dp

    @property
    def rows(self) -> int:
        return min(self.settings.max_num_seqs, self.tokens)

    @property
    def hidden(self) -> int:
        return self.model.architecture.hidden_size or 0


def peak_terms(model: Model, settings: Settings, scenario: Scenario, stage: Stage) -> list[Term] | Unknown:
    """The terms of the peak on one rank, or why it is unknown; `model` is the part on that rank."""
    dtype = find_dtype(scenario.compute_dtype) if scenario.compute_dtype else None
    architecture = model.architecture
    if dtype is None or architecture.hidden_size is None or architecture.layers is None:
        return Unknown(architecture.unknown or "the hidden size or the dtype is unknown")
    run = _Run(
        model=model,
        settings=settings,
        parallel=scenario.parallel,
        stage=stage,
        gpu=scenario.gpu,
        width=dtype.nbytes(1),
    )
    forward = _forward(run)
    sampled = stage.last and architecture.head == "lm_head" and not _in_chunks(model, settings, scenario.seq)
    sampler = _sampler(run) if sampled else []
    larger = max(forward, sampler, key=lambda terms: sum(term.nbytes for term in terms))
    return _beside_encoder(run, [*larger, *_lasting(run)], scenario)


def _in_chunks(model: Model, settings: Settings, length: int) -> bool:
    """Whether no prompt of the profile run is complete, so that nothing is sampled: up to 0.7, where prompts run in
    chunks (0.7.2, `worker/model_runner.py::profile_run`; github.com/vllm-project/vllm/issues/10517: 2.99 GiB at 29,000
    tokens, 0.06 at 35,000), which those of latents and of models with images do not."""
    latent = any(isinstance(layer.cache, Latent) for layer in model.architecture.layers or ())
    return bool(settings.source.long_step) and length > CHUNKED_BEYOND and not (latent or multimodal(model))


def _term(name: str, nbytes: int, how: str) -> Term:
    return Term(name=name, group="activations", nbytes=nbytes, how=how, source=_SOURCE, certainty="derived")


def _forward(run: _Run) -> list[Term]:
    """Tensors alive at the widest point of a layer: the attention output, the residual stream before and after it, the
    normalised hidden states (4 × hidden), the gate and up projections and their product (`inner`)."""
    layers = dict.fromkeys(run.model.architecture.layers or ())
    inner = max((layer_inner(layer, run.parallel.tp) for layer in layers), default=0)
    scratch = max((_scratch(layer, run) for layer in layers), default=0)
    # the first pipeline stage also holds hidden states and residual that it sends on
    streams = 4 + (2 if run.parallel.pp > 1 and run.stage.first else 0)
    per_token = inner + streams * run.hidden
    how = f"{run.tokens} tokens × ({inner} + {streams} × {run.hidden}) × {run.width} B"
    terms = [_term("forward pass", run.tokens * per_token * run.width, how)]
    if scratch and not run.settings.rules.keeps_workspaces:
        terms.append(_term("experts' scratch", scratch, _scratch_how(run)))
    return terms


def _scratch(layer: Layer, run: _Run) -> int:
    """Bytes of the two workspaces of the fused experts' kernel in the profile run; 0 for MXFP4, whose kernel needs
    none."""
    if packed_experts(run.model):
        return 0
    return layer_scratch(layer, run.model, run.parallel, run.gathered, run.width)


def layer_scratch(layer: Layer, model: Model, parallel: Parallel, tokens: int, width: int) -> int:
    """Bytes that experts need for their inputs and outputs, for so many tokens."""
    if not isinstance(layer.ffn, Experts):
        return 0
    hidden = model.architecture.hidden_size or 0
    inner = layer.ffn.intermediate // (1 if parallel.ep > 1 else parallel.tp * parallel.dp)
    return tokens * layer.ffn.per_token * (max(inner, hidden) + max(2 * inner, hidden)) * width


def _scratch_how(run: _Run) -> str:
    return f"{run.gathered} tokens × experts per token × (max(inner, hidden) + max(2 × inner, hidden)) × {run.width} B"


def packed_experts(model: Model) -> bool:
    """Whether its experts are stored in MXFP4."""
    groups = model.parameters.groups if model.parameters else ()
    return any(group.component == "experts" and group.layout == "mxfp4" and not group.scale for group in groups)


def _sampler(run: _Run) -> list[Term]:
    """The sampler: logits in the compute dtype and in float32, and temporaries of top-k, top-p and random sampling.
    With speculative decoding, a draft token of each row is verified after that (`v1/sample/rejection_sampler.py`): two
    more rows of logits, and the bonus tokens' logits and a copy of the target's in float32."""
    vocab = run.model.architecture.vocab_size or 0
    entries = run.rows * vocab
    states = (run.tokens + 2 * run.rows) * run.hidden * run.width
    beyond, how = _drawing(run)
    if run.settings.extras.spec_method is not None:
        verified = 2 * run.width + 8
        beyond, how = beyond + verified, f"{how} + {verified} B to verify drafts"
    terms = [
        _term(
            "hidden states",
            states,
            f"({run.tokens} tokens + 2 × {run.rows} rows) × {run.hidden} × {run.width} B",
        ),
        _term(
            "sampler",
            entries * (run.width + 4 + beyond),
            f"{run.rows} rows × {vocab} × ({run.width} B logits + 4 B in float32 + {how})",
        ),
    ]
    if run.settings.rules.sampler == "triton" and run.rows >= _TRITON_ROWS:
        cores = _MULTIPROCESSORS.get(run.gpu.generation if run.gpu else "", 132)
        programs = min(cores, run.rows)
        terms.append(_term("top-k scratch", programs * vocab * 4, f"{programs} programs × {vocab} × 4 B"))
    return terms


def _drawing(run: _Run) -> tuple[int, str]:
    """Bytes per logit of the sampler's temporaries, and a description."""
    if run.settings.rules.sampler == "triton" and run.rows >= _TRITON_ROWS:
        return 8, "4 B probabilities + 4 B exponential noise"
    if run.rows == 1:
        return 12, "12 B sorted values and indices"
    if run.rows < _FEW_ROWS:
        return 44, "12 B sorted values and indices + 32 B of a full sort"
    return 32, "12 B sorted values and indices + 20 B of a segmented sort"


def _lasting(run: _Run) -> list[Term]:
    """Tensors that stay allocated through both the forward pass and the sampler."""
    terms = [_workspace(run)]
    layers = dict.fromkeys(run.model.architecture.layers or ())
    scratch = max((_scratch(layer, run) for layer in layers), default=0)
    if scratch and run.settings.rules.keeps_workspaces:
        terms.append(_term("experts' scratch", scratch, _scratch_how(run)))
    if run.parallel.pp > 1 and not run.stage.first:
        nbytes = 2 * run.tokens * run.hidden * run.width
        how = f"2 × {run.tokens} tokens × {run.hidden} × {run.width} B received from the previous stage"
        terms.append(_term("intermediate tensors", nbytes, how))
    return terms


def _beside_encoder(run: _Run, language: list[Term], scenario: Scenario) -> list[Term]:
    """The language model's run beside what the encoder left, or the encoder's run, if its peak is higher."""
    if not run.stage.first or not has_encoder(run.model, run.settings):
        return language
    found = profile_of(run.model, run.settings, scenario)
    if found is None:
        nbytes = run.tokens * run.hidden * run.width
        how = f"{run.tokens} tokens × {run.hidden} × {run.width} B of the encoder cache"
        return [*language, _term("encoder outputs", nbytes, how)]
    beside = [*language, found.kept]
    alone = [found.peak, _workspace(run)]
    return max(beside, alone, key=total_of)


def _workspace(run: _Run) -> Term:
    workspace = _WORKSPACE.get(run.gpu.generation if run.gpu else "", _SMALL_WORKSPACE)
    return _term("cuBLAS workspace", workspace, f"{workspace:,} B per handle and stream")
