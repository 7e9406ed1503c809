"""What only diffusers takes."""

from dataclasses import dataclass

__all__ = ["DiffusersOptions"]


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class DiffusersOptions:
    """The options of diffusers."""
