"""What an estimate says of a server, and of what it leaves to the host."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Mix", "Offload", "Serving"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Requests of a mix of lengths that run at once.

    Attributes:
        on_average: while answers grow.
        at_full_length: if all had their whole answer at the same time: more than that may be preempted.
        limited: whether the engine's limit of sequences is what limits them, and not the pool.
        tokens: of a request in the pool, on average.
    """

    on_average: float
    at_full_length: float
    limited: bool
    tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What a serving engine has left for its KV cache.

    Attributes:
        kv_pool: bytes of the KV cache pool on the rank with the smallest one; negative where the rest does not fit;
            None where no accelerator is given.
        kv_tokens: tokens that fit in the pool, as the engine's log counts them; None for a model without a KV cache.
        max_concurrency: requests of `seq` tokens that fit in the pool; None for a model without a KV cache.
        command: the launch line; None where the engine would not start, or the scenario does not fit.
        kv_blocks: blocks of the pool; None for an engine without blocks, and where no accelerator is given.
        blocks_per_request: blocks that a request of `seq` tokens takes at most; None as above.
        refused: why the engine does not start; "" where it does.
        lineless: why there is no launch line although the engine starts; "" where there is one.
        mix: how many requests of a mix of lengths run at once; None where no mix is given.
        least_utilization: the smallest share of the accelerator's memory, in hundredths, with which the engine starts
            and holds the batch; None for engines without such a setting, and where more than all is needed.
        remark: why the launch line has an option that nobody asked for; "" where it has none.
    """

    kv_pool: int | None
    kv_tokens: int | None
    max_concurrency: float | None
    command: str | None
    kv_blocks: int | None = None
    blocks_per_request: int | None = None
    refused: str = ""
    lineless: str = ""
    remark: str = ""
    mix: Mix | None = None
    least_utilization: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offload:
    """The most of a model that fits on accelerators, the rest of which the host holds.

    Attributes:
        layers: on accelerators.
        of: layers that there are, the output among them.
        experts_on_host: layers, from the first, whose experts are the host's.
        total: bytes of the most loaded accelerator then.
        host: bytes of the host then.
        option: what to add to the command line.
        command: the line that starts it so.
        room: bytes of the host's memory; None where it is not known.
    """

    layers: int
    of: int
    experts_on_host: int
    total: int
    host: int
    option: str
    command: str = ""
    room: int | None = None

    @property
    def held(self) -> bool:
        """Whether the host has room for its part."""
        return self.room is None or self.host <= self.room

    @property
    def whole(self) -> bool:
        """Whether all of it is on accelerators."""
        return self.layers == self.of and not self.experts_on_host
