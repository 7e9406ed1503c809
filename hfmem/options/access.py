"""Options on access to models."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from hfmem.options.option import Need, Option
from hfmem.options.panels import LISTS, MODEL

__all__ = ["Access", "Concurrency", "Revision"]


def _token(text: str) -> str | None:
    """A token; None for an empty string, which an unset shell variable produces."""
    return text.strip() or None


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Access:
    """How to access a model.

    Attributes:
        token: a Hub token; None uses the stored login or `HF_TOKEN`, as `huggingface_hub` does.
        offline: do not use the network (like `HF_HUB_OFFLINE`).
        use_cache: read and write the cache of earlier responses.
        headers: whether the headers of weight files are read in any case.
        file: the weight file to count, of several in a repository or folder; None for those that would be loaded.
        mine: whether it is the owner of this machine who asks, so that paths, the stored login, caches and downloads
            may be used.
    """

    mine: ClassVar[bool] = True

    token: Annotated[
        str | None,
        Option(
            help="Hub token",
            panel=MODEL,
            parse=_token,
            shown="HF_TOKEN or the stored login",
            needs=(Need(sentence="has no effect with --offline", met=lambda asked: not asked.offline, harmless=True),),
        ),
    ] = None
    offline: Annotated[bool, Option(help="Run without network access", panel=MODEL, common=True)] = False
    use_cache: Annotated[
        bool, Option(help="Do not read or write the cache of earlier results", panel=MODEL, names=("--no-cache",))
    ] = True
    headers: Annotated[
        bool,
        Option(
            help="Read the headers of weight files also where config.json and the Hub's public totals tell the same",
            panel=MODEL,
        ),
    ] = False
    file: Annotated[
        str | None,
        Option(
            help="Weight file to count, of several in a repository or folder",
            panel=MODEL,
            metavar="NAME",
            shown="those that would be loaded",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class Revision:
    """The revision of a repository."""

    revision: Annotated[
        str,
        Option(help="Branch, tag, commit or refs/pr/N", panel=MODEL, metavar="REV"),
    ] = "main"


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class Concurrency:
    """How many models are fetched concurrently."""

    jobs: Annotated[
        int,
        Option(
            help="Models to fetch in parallel",
            panel=LISTS,
            least=1,
            most=64,
            needs=(
                Need(
                    sentence="has no effect on a single model",
                    met=lambda asked: asked.several or asked.variants,
                    harmless=True,
                ),
            ),
        ),
    ] = 8
