"""Optimizers, one row each. States are functions of the tensor's shape (`optimizer_states`); `tests/oracle` measures
every row that has a package on real tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from hfmem.estimator.recipe.optimizer_states import (
    Kept,
    States,
    blockwise,
    confidence,
    copies,
    factored,
    float32,
    galore,
    galore_8bit,
    low_rank,
    mini,
    muon,
    torchao,
)

__all__ = ["OPTIMIZERS", "Kept", "Optimizer", "find_optimizer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """An optimizer.

    Attributes:
        name: its name in `--optimizer`.
        states: bytes of state per tensor.
        describe: the states in words.
        lists: temporary copies of all parameters that the step holds at once (PyTorch's foreach).
        tensor_bytes: bytes per element of temporaries for the largest tensor, where the step handles one tensor at a
            time: for a 32-bit parameter, and for a 16-bit one.
        once: bytes allocated once, whatever the number of tensors.
        one_gradient: whether it steps during backward, so that only one tensor's gradient exists at a time.
        paged: whether its states may be paged out to host memory.
        rank: default rank of low-rank optimizers; 0 for others.
        aliases: other names, such as those of transformers' `optim`.
        source: the implementation.
    """

    name: str
    states: States
    describe: str
    lists: int = 0
    tensor_bytes: tuple[int, int] = (0, 0)
    once: int = 0
    one_gradient: bool = False
    paged: bool = False
    rank: int = 0
    aliases: tuple[str, ...] = ()
    source: str

    def in_backward(self) -> Optimizer:
        """The optimizer with one instance per tensor, which steps in a hook of that tensor's gradient."""
        return replace(self, one_gradient=True, lists=0, describe=f"{self.describe}; it steps during backward")


_TORCH = "torch.optim (PyTorch 2.13)"
_BNB = "bitsandbytes.optim 0.50: blocks of 256, tensors under 4096 elements and embeddings 32-bit"
_AO = "torchao.optim 0.18"
_MAPS = 2 * 256 * 4  # two dynamic quantisation maps (signed, unsigned) of 256 float32 values, shared by all tensors

OPTIMIZERS: Final[tuple[Optimizer, ...]] = (
    Optimizer(
        name="adamw",
        states=copies(2),
        describe="two moments in the parameter's dtype",
        lists=1,
        aliases=("adam", "adamw_torch", "adamw_hf", "adamw-foreach", "nadam", "adamax"),
        source=f"{_TORCH}: foreach, the default on CUDA, makes a list of square roots as large as one moment",
    ),
    Optimizer(
        name="adamw-fused",
        states=copies(2),
        describe="two moments in the parameter's dtype",
        aliases=("adamw_torch_fused", "adam-fused", "fusedadam", "adamw_apex_fused", "adamw_torch_npu_fused"),
        source=f"{_TORCH}, fused=True: one kernel without temporaries",
    ),
    Optimizer(
        name="adamw-single",
        states=copies(2),
        describe="two moments in the parameter's dtype",
        tensor_bytes=(12, 6),
        aliases=("adamw-for-loop", "adamw_torch_xla"),
        source=f"{_TORCH}, foreach=False: the square roots of one tensor at a time",
    ),
    Optimizer(
        name="adamw-32bit",
        states=float32(2),
        describe="two float32 moments",
        aliases=("adamw_bnb", "adamw_bnb_32bit"),
        source=_BNB,
    ),
    Optimizer(
        name="adamw-8bit",
        states=blockwise(2),
        describe="two 8-bit moments, each with a float32 absmax per block of 256; small tensors and embeddings 32-bit",
        once=_MAPS,
        aliases=("adam-8bit", "adamw_8bit", "adamw_bnb_8bit", "adamw8bit"),
        source=_BNB,
    ),
    Optimizer(
        name="paged-adamw",
        states=float32(2),
        describe="two float32 moments in managed memory",
        paged=True,
        aliases=("paged_adamw_32bit", "paged_adamw", "paged-adamw-32bit"),
        source=_BNB,
    ),
    Optimizer(
        name="paged-adamw-8bit",
        states=blockwise(2),
        describe="two 8-bit moments in managed memory; small tensors and embeddings 32-bit",
        once=_MAPS,
        paged=True,
        aliases=("paged_adamw_8bit",),
        source=_BNB,
    ),
    Optimizer(
        name="ademamix",
        states=copies(3),
        describe="three moments",
        lists=2,
        source="pytorch_optimizer 4.1, arXiv 2409.03137",
    ),
    Optimizer(
        name="ademamix-8bit",
        states=blockwise(3),
        describe="three 8-bit moments, each with a float32 absmax per block of 256",
        once=_MAPS,
        aliases=("ademamix_8bit", "paged_ademamix_8bit"),
        source=_BNB,
    ),
    Optimizer(
        name="torchao-adamw-8bit",
        states=torchao(8, 256, 256),
        describe="two 8-bit moments, each with a float32 scale per block of 256 and a table of 256 values",
        tensor_bytes=(8, 8),
        aliases=("torchao-8bit",),
        source=_AO,
    ),
    Optimizer(
        name="torchao-adamw-4bit",
        states=torchao(4, 128, 16),
        describe="two 4-bit moments, each with a float32 scale per block of 128 and a table of 16 values",
        tensor_bytes=(8, 8),
        aliases=("adamw_torch_4bit", "adamw-4bit", "torchao-4bit"),
        source=_AO,
    ),
    Optimizer(
        name="torchao-adamw-fp8",
        states=torchao(8, 256, 0),
        describe="two float8_e4m3fn moments, each with a float32 scale per block of 256",
        tensor_bytes=(8, 8),
        aliases=("adamw_torch_8bit", "adamw-fp8", "torchao-fp8"),
        source=_AO,
    ),
    Optimizer(
        name="sgd", states=copies(0), describe="no state", source=f"{_TORCH}, without momentum: the step is in place"
    ),
    Optimizer(name="sgd-momentum", states=copies(1), describe="one momentum", aliases=("sgdm",), source=_TORCH),
    Optimizer(
        name="sgd-8bit",
        states=blockwise(1),
        describe="one 8-bit momentum with a float32 absmax per block of 256",
        once=_MAPS // 2,
        aliases=("sgd_8bit",),
        source=_BNB,
    ),
    Optimizer(
        name="adafactor",
        states=factored(4),
        describe="float32 row and column means of squared gradients; full second moment for vectors",
        tensor_bytes=(12, 20),
        source="transformers 5 optimization.py, Adafactor without beta1: one float32 tensor and its update at a time",
    ),
    Optimizer(
        name="adafactor-beta1",
        states=factored(4, copies=1),
        describe="a float32 momentum, and float32 row and column means of squared gradients",
        tensor_bytes=(8, 16),
        aliases=("adafactor-momentum",),
        source="transformers 5 optimization.py, Adafactor with beta1",
    ),
    Optimizer(
        name="torch-adafactor",
        states=factored(),
        describe="row and column means of squared gradients in the parameter's dtype",
        lists=1,
        source=_TORCH,
    ),
    Optimizer(
        name="came",
        states=confidence,
        describe="a momentum, and row and column means of two statistics",
        lists=2,
        source="pytorch_optimizer 4.1, arXiv 2307.02047",
    ),
    Optimizer(
        name="lion",
        states=copies(1),
        describe="one momentum",
        lists=1,
        aliases=("lion-pytorch", "tiger"),
        source="pytorch_optimizer 4.1, arXiv 2302.06675",
    ),
    Optimizer(
        name="lion-32bit",
        states=float32(1),
        describe="one float32 momentum",
        aliases=("lion_32bit", "paged_lion_32bit"),
        source=_BNB,
    ),
    Optimizer(
        name="lion-8bit",
        states=blockwise(1),
        describe="one 8-bit momentum with a float32 absmax per block of 256",
        once=_MAPS // 2,
        aliases=("lion_8bit", "paged_lion_8bit"),
        source=_BNB,
    ),
    Optimizer(
        name="muon",
        states=muon,
        describe="one momentum for linear weights of the layers, two moments for the rest",
        tensor_bytes=(12, 10),
        source=f"{_TORCH}: torch.optim.Muon for matrices of hidden layers, AdamW for the rest",
    ),
    Optimizer(
        name="adagrad", states=copies(1), describe="one sum of squared gradients", lists=2, source=f"{_TORCH}, foreach"
    ),
    Optimizer(
        name="adagrad-8bit",
        states=blockwise(1),
        describe="one 8-bit sum of squared gradients with a float32 absmax per block of 256",
        once=_MAPS // 2,
        source=_BNB,
    ),
    Optimizer(
        name="rmsprop", states=copies(1), describe="one mean of squared gradients", lists=1, source=f"{_TORCH}, foreach"
    ),
    Optimizer(
        name="rmsprop-8bit",
        states=blockwise(1),
        describe="one 8-bit mean of squared gradients with a float32 absmax per block of 256",
        once=_MAPS // 2,
        aliases=("rmsprop_bnb_8bit",),
        source=_BNB,
    ),
    Optimizer(
        name="lamb",
        states=copies(2),
        describe="two moments",
        lists=1,
        source="pytorch_optimizer 4.1, arXiv 1904.00962",
    ),
    Optimizer(
        name="sophia",
        states=copies(2),
        describe="a momentum and an estimate of the Hessian's diagonal",
        lists=2,
        aliases=("sophia-g", "sophiag"),
        source="arXiv 2305.14342, algorithm 3; sophia.py of github.com/Liuhong99/Sophia and of sophia-optimizer 0.2.5",
    ),
    Optimizer(
        name="sophia-h",
        states=copies(3),
        describe="a momentum, the Hessian's diagonal and its moving average",
        lists=2,
        aliases=("sophiah",),
        source="pytorch_optimizer 4.1, SophiaH",
    ),
    Optimizer(
        name="adam-mini",
        states=mini,
        describe="a momentum, and one second moment per row",
        tensor_bytes=(4, 2),
        aliases=("adam_mini", "adammini"),
        source="adam-mini 1.1, arXiv 2406.16793: one second moment per block (row or head), which is negligible",
    ),
    Optimizer(
        name="galore",
        states=galore,
        describe="a low-rank projection and two projected moments for linear weights of the layers, AdamW for the rest",
        tensor_bytes=(12, 12),
        rank=128,
        aliases=("galore_adamw",),
        source="galore_torch 1.0, arXiv 2403.03507; rank 128 is the default of transformers",
    ),
    Optimizer(
        name="galore-8bit",
        states=galore_8bit,
        describe="a low-rank projection and two 8-bit projected moments for linear weights of the layers",
        tensor_bytes=(12, 12),
        once=_MAPS,
        rank=128,
        aliases=("galore_adamw_8bit",),
        source="galore_torch 1.0 GaLoreAdamW8bit, arXiv 2403.03507",
    ),
    Optimizer(
        name="galore-layerwise",
        states=galore,
        describe="as galore, stepping during backward",
        one_gradient=True,
        rank=128,
        aliases=("galore_adamw_layerwise",),
        source="transformers 5 trainer_optimizer.py, layerwise hooks",
    ),
    Optimizer(
        name="apollo",
        states=low_rank,
        describe="a random low-rank projection and two projected moments for linear weights of the layers",
        tensor_bytes=(8, 4),
        rank=128,
        aliases=("apollo_adamw",),
        source="apollo_torch 1.0, arXiv 2412.05270",
    ),
    Optimizer(
        name="apollo-mini",
        states=low_rank,
        describe="as apollo with rank 1",
        tensor_bytes=(8, 4),
        rank=1,
        source="apollo_torch 1.0, arXiv 2412.05270",
    ),
    Optimizer(
        name="schedule-free",
        states=copies(2),
        describe="the base iterate z and one second moment",
        lists=1,
        aliases=("schedule_free_adamw", "schedulefree", "schedule_free_radam"),
        source="schedulefree 1.4 (foreach), arXiv 2405.15682",
    ),
    Optimizer(
        name="schedule-free-sgd",
        states=copies(1),
        describe="the base iterate z",
        aliases=("schedule_free_sgd",),
        source="schedulefree 1.4, arXiv 2405.15682",
    ),
    Optimizer(
        name="lomo",
        states=copies(0),
        describe="no state; it steps during backward",
        one_gradient=True,
        source="lomo-optim 0.1, arXiv 2306.09782",
    ),
    Optimizer(
        name="adalomo",
        states=factored(4),
        describe="float32 row and column means of squared gradients; it steps during backward",
        one_gradient=True,
        source="lomo-optim 0.1, arXiv 2310.10195",
    ),
    Optimizer(
        name="adamw-in-backward",
        states=copies(2),
        describe="two moments in the parameter's dtype; it steps during backward",
        one_gradient=True,
        aliases=("optimizer-in-backward",),
        source="docs.pytorch.org/tutorials/intermediate/optimizer_step_in_backward_tutorial.html",
    ),
)

_BY_NAME: Final = {name: row for row in OPTIMIZERS for name in (row.name, *row.aliases)}


def find_optimizer(name: str) -> Optimizer | None:
    """The row with a name or alias; None for an unknown name."""
    lower = name.lower()
    return _BY_NAME.get(lower) or _BY_NAME.get(lower.replace("_", "-"))
