"""How the launch line of an engine's program is read: which words begin it, and what its options are called here.

Each engine has a `LAUNCH` in the module that its row names. Options that hfmem has under the same name need no entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Launch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A program's launch line.

    Attributes:
        begins: words that begin it, any of these; of an image its name without registry and tag.
        model: options whose value is the model.
        positional: whether the first word that is no option is the model too.
        length: the option without which the program takes the model's own maximum; "" if it takes something else.
        renamed: its names of options, with hfmem's.
        values: for an option (under hfmem's name), values that mean something else here; None is the default, which
            is left out. A tuple is another option with its value.
        dotted: options whose value is a JSON object, that may be written key by key: `--option.key value`.
        products: flags that stand for an option whose value is the product of others: expert parallelism over all
            ranks.
        missing: options with the value that the program takes where the line has none, and hfmem would take another:
            it uses every accelerator that is named.
        idle: flags that change no memory.
        idle_with_value: options with a value that change no memory.
        source: the release whose options these are.
    """

    begins: tuple[tuple[str, ...], ...]
    model: tuple[str, ...] = ()
    positional: bool = False
    length: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str | tuple[str, str] | None]] = field(default_factory=dict)
    dotted: frozenset[str] = frozenset()
    products: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    idle: frozenset[str] = frozenset()
    idle_with_value: frozenset[str] = frozenset()
    source: str
