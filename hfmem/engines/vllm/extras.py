"""What a server does besides serving the model: adapters, drafts, offloading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["NO_EXTRAS", "Extras"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """Settings of these."""

    spec_tokens: int = 0

    @property
    def query_length(self) -> int:
        """Tokens of a sequence in a step of decoding: the last one and the drafts to be verified."""
        return 1 + self.spec_tokens


NO_EXTRAS: Final = Extras()
