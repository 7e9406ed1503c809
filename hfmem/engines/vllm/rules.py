"""Differences between vLLM releases in one table: the newest row that is not newer than the release applies.

The rules follow the source of 0.19.0 (`SOURCE`). A row is added where start-up logs of public servers show a change
(github.com/jgchn/llm-d-planner, accuracy/results: 0.15 to 0.19; github.com/unslothai/notebooks: 0.6 to 0.11), or a
merged pull request states one (CUDA graphs in the budget: github.com/gpustack/runner/pull/251; the token count:
github.com/vllm-project/vllm/issues/40691; prefix caching of states: github.com/vllm-project/vllm/pull/50991; free
memory at the start: github.com/vllm-project/vllm/issues/20305; YaRN's longest context:
github.com/vllm-project/vllm/pull/56446, in the source of 0.33.0 and not of 0.27.0).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, Literal

from hfmem.refusals.options import ReleaseError

__all__ = ["DEFAULT", "RULES", "SOURCE", "Rules", "release_of", "rules_of"]

SOURCE: Final = "vLLM 0.19.0"
DEFAULT: Final = "0.27"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of a release, where releases differ.

    Attributes:
        since: the first release they apply to.
        sampler: how top-k and top-p are applied in the profile run: a `sort` of all logits, or a `triton` kernel with
            one row of scratch per multiprocessor.
        keeps_workspaces: whether the experts' scratch stays allocated after the forward pass.
        hybrid: whether layers with a sliding window or a recurrent state get KV cache groups of their own.
        state_blocks: blocks of recurrent state per sequence (2 where prefix caching of states is on by default).
        graphs_budgeted: whether CUDA graphs count against the budget of `gpu_memory_utilization`.
        graphs: MiB per captured size: piecewise graphs take about 12, full ones about 6.
        latent_alignment: a latent's row is padded to a multiple of this many elements.
        forward: MiB that are allocated outside of PyTorch during the profile run: on one rank, and with tensor
            parallelism.
        mxfp4_multiples: intermediate and hidden size of MXFP4 experts are rounded up to multiples of these.
        chunked: whether chunked prefill is on for all prompts; up to 0.7 only beyond 32,768 tokens, and a step was as
            long as the longest prompt.
        large_defaults: whether GPUs of 70 GiB and more (except A100) default to 1,024 sequences and 8,192 tokens.
        tokens_from_concurrency: whether the token count in the log is concurrency × length.
        yarn_stretches: whether the maximum context under YaRN is its original length × factor; else the config's
            length is taken as extended already.
        checks_free: whether free memory at start-up must cover the whole budget.
    """

    since: tuple[int, int]
    sampler: Literal["sort", "triton"]
    keeps_workspaces: bool
    hybrid: bool
    state_blocks: int
    graphs_budgeted: bool
    graphs: int
    latent_alignment: int
    forward: tuple[int, int]
    mxfp4_multiples: tuple[int, int]
    chunked: bool
    large_defaults: bool
    tokens_from_concurrency: bool
    yarn_stretches: bool
    checks_free: bool

    @property
    def name(self) -> str:
        """The first release, e.g. `0.17`."""
        return ".".join(map(str, self.since))


_V06: Final = Rules(
    since=(0, 6),
    sampler="sort",
    keeps_workspaces=False,
    hybrid=False,
    state_blocks=1,
    graphs_budgeted=False,
    graphs=12,
    latent_alignment=128,
    forward=(92, 1572),
    mxfp4_multiples=(64, 256),
    chunked=False,
    large_defaults=False,
    tokens_from_concurrency=False,
    yarn_stretches=True,
    checks_free=False,
)
_V08: Final = replace(_V06, since=(0, 8), chunked=True)
_V09: Final = replace(_V08, since=(0, 9), latent_alignment=1, forward=(133, 563), large_defaults=True, checks_free=True)
_V10: Final = replace(_V09, since=(0, 10), hybrid=True)
_V13: Final = replace(_V10, since=(0, 13), keeps_workspaces=True, graphs=18)
_V17: Final = replace(_V13, since=(0, 17), sampler="triton", forward=(256, 2150), mxfp4_multiples=(128, 256))
_V21: Final = replace(_V17, since=(0, 21), graphs_budgeted=True, tokens_from_concurrency=True)
_V27: Final = replace(_V21, since=(0, 27), state_blocks=2)
_V33: Final = replace(_V27, since=(0, 33), yarn_stretches=False)

RULES: Final = (_V06, _V08, _V09, _V10, _V13, _V17, _V21, _V27, _V33)
"""Oldest first."""


def rules_of(version: str | None) -> Rules:
    """The rules of a release (`0.19`, `v0.19.0`, `0.11.1rc3`); those of `DEFAULT` for None.

    Raises:
        ReleaseError: not a release, or older than the oldest rules.
    """
    asked = release_of(version)
    found = [rules for rules in RULES if rules.since <= asked]
    if not found:
        raise ReleaseError("--vllm-version", version, oldest=RULES[0].name)
    return found[-1]


def release_of(version: str | None) -> tuple[int, int]:
    """(major, minor) of a release; of `DEFAULT` for None.

    Raises:
        ReleaseError: not a release.
    """
    match = re.match(r"^v?(\d{1,4})\.(\d{1,4})", (DEFAULT if version is None else version).strip())
    if match is None:
        raise ReleaseError("--vllm-version", version, example=DEFAULT)
    return int(match[1]), int(match[2])
