"""Everything that can go wrong, as facts. The sentence for a person is made at the edge (`hfmem.report`).

HfmemError
├── ModelNotFoundError         no such repository, folder, file or catalog entry (or it is private)
├── RevisionNotFoundError      the repository exists, the branch, tag or commit does not
├── GatedModelError            the files need an accepted licence
├── DisabledModelError         the Hub has switched the repository off
├── InvalidTokenError          the Hub does not know the token
├── AccessDeniedError          the Hub knows the token and refuses all the same
├── RateLimitedError           too many requests, and waiting would take too long
├── HubUnreachableError        no answer: no network, a dropped or stalled connection, a server error
│   └── ConnectionSettingsError    the environment's proxy or certificates cannot be used
├── UnexpectedAnswerError      an answer that is not what the Hub's protocol says
├── OfflineError               off-line mode, and the model is in neither cache nor catalog
├── InvalidFileError           a file that cannot be what its name says
│   ├── InvalidHeaderError     the header of a weight file that cannot be right
│   └── InvalidConfigError     a config.json that cannot be read, or a key of the wrong type in it
├── NoWeightsError             nothing in the repository says how large the model is
├── UntraceableError           the class of the model cannot be built, or does not run without weights
├── InvalidScenarioError       options that contradict each other or are not built yet; its kinds are `hfmem.refusals`
└── UnforeseenError            something that this version does not expect
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

__all__ = [
    "AccessDeniedError",
    "ConnectionSettingsError",
    "DisabledModelError",
    "GatedModelError",
    "HfmemError",
    "HubUnreachableError",
    "InvalidConfigError",
    "InvalidFileError",
    "InvalidHeaderError",
    "InvalidScenarioError",
    "InvalidTokenError",
    "ModelNotFoundError",
    "NoWeightsError",
    "OfflineError",
    "RateLimitedError",
    "RevisionNotFoundError",
    "UnexpectedAnswerError",
    "UnforeseenError",
    "UntraceableError",
]

_LONGEST_VALUE = 80  # characters of a value that a sentence quotes
_LONGEST_WORD = 160  # a path is as long
_LONGEST_SENTENCE = 6000  # with the files to choose from
_WORD = re.compile(rf"\S{{{_LONGEST_WORD + 1},}}")


def quoted(value: object) -> str:
    """A value of a file as sentences quote it: of a long one the beginning."""
    return cut(repr(value))


def cut(text: object) -> str:
    """Words of somebody else in a sentence: of long ones the beginning."""
    words = str(text)
    return words if len(words) <= _LONGEST_VALUE else f"{words[:_LONGEST_VALUE]}…"


def shortened(text: str) -> str:
    """A sentence whose names, which are others', may be of any length: of long ones their beginning and their end."""
    if len(text) <= _LONGEST_WORD:
        return text
    short = _WORD.sub(lambda found: f"{found[0][:_LONGEST_VALUE]}…{found[0][-_LONGEST_VALUE // 4 :]}", text)
    if len(short) > _LONGEST_SENTENCE:
        return f"{short[:_LONGEST_SENTENCE]}…"
    return text if short == text else short  # the text itself, which may be marked


class HfmemError(Exception):
    """Base of all errors of the package.

    Attributes:
        model: the model asked for, as the user wrote it ("" where no model is concerned).
        reason: what was seen, in a few words, with the place it was seen at; no advice.
        near: ids of models that are known and may be meant.
        asked: the model's id with the revision and the quantisation that were asked for; "" where nobody said.
        kept: the states of the model that this machine has, where it has others than the one that was asked for.
    """

    def __init__(self, model: str, reason: str = "") -> None:
        self.model = model
        self._seen = shortened(reason)
        self.near: tuple[str, ...] = ()
        self.asked = ""
        self.kept: tuple[str, ...] = ()
        super().__init__(model, self._seen)

    @property
    def reason(self) -> str:
        """What was seen."""
        return self._seen

    def __str__(self) -> str:
        return ": ".join(part for part in (self.model, self.reason) if part) or self.code()

    @staticmethod
    @contextmanager
    def concerning(model: str) -> Iterator[None]:
        """Errors that come from within are about the model, where they name none themselves."""
        try:
            yield
        except HfmemError as error:
            error.model = error.model or model
            raise

    @classmethod
    def code(cls) -> str:
        """The class name in snake case, as `errors[].error` in JSON has it: `model_not_found_error`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


class ModelNotFoundError(HfmemError):
    """No repository, folder, file or catalog entry of that name; a private one looks the same without access.

    Attributes:
        local: whether the name can only be a path, and the Hub was not asked.
    """

    def __init__(self, model: str, reason: str = "", *, local: bool = False) -> None:
        super().__init__(model, reason)
        self.local = local


class RevisionNotFoundError(HfmemError):
    """The repository exists, the asked branch, tag or commit does not."""


class GatedModelError(HfmemError):
    """The files need an accepted licence, and nothing public tells the size.

    Attributes:
        authenticated: whether a token was sent (then the account lacks access, else a login may be enough).
    """

    def __init__(self, model: str, reason: str = "", *, authenticated: bool = False) -> None:
        super().__init__(model, reason)
        self.authenticated = authenticated


class DisabledModelError(HfmemError):
    """The Hub has switched the repository off."""


class InvalidTokenError(HfmemError):
    """The Hub does not know the token that was sent."""


class AccessDeniedError(HfmemError):
    """The Hub refuses (403) for another reason than a licence."""


class RateLimitedError(HfmemError):
    """The Hub's request quota is used up.

    Attributes:
        seconds: how long until the quota is renewed, where the answer said so.
    """

    def __init__(self, model: str, reason: str = "", *, seconds: int | None = None) -> None:
        super().__init__(model, reason)
        self.seconds = seconds


class HubUnreachableError(HfmemError):
    """No usable answer after retries: no network, a dropped or stalled connection, a server error."""


class ConnectionSettingsError(HubUnreachableError):
    """The environment asks for a proxy or for certificates that cannot be used.

    Attributes:
        package: what has to be installed for it; "" where the setting is wrong.
    """

    def __init__(self, model: str, reason: str = "", *, package: str = "") -> None:
        super().__init__(model, reason)
        self.package = package


class UnexpectedAnswerError(HfmemError):
    """The server answered, but not as a Hub does (a captive portal, a proxy's page, a wrong endpoint)."""


class OfflineError(HfmemError):
    """Off-line mode is on, and the model is in neither the cache nor the catalog."""


class InvalidFileError(HfmemError):
    """A file whose content cannot be what its name says.

    Attributes:
        place: the folder on this machine that it is in, where the person can correct it; "" for one of the Hub.
    """

    place: str = ""


class InvalidHeaderError(InvalidFileError):
    """The header of a weight file that is cut, too long, not JSON, or contradicts itself."""


class InvalidConfigError(InvalidFileError):
    """A config.json that is not a JSON object, or a key in it that has an impossible value."""


class NoWeightsError(HfmemError):
    """Neither the files nor the configuration tell how large the model is.

    Attributes:
        offered: the models that its files hold and of which none was named, in a sentence that says how to name one; ""
            where there are none.
        dtype: whether a dtype is all that is missing.
        local: whether it was looked for on this machine.
    """

    def __init__(
        self, model: str, reason: str = "", *, offered: str = "", dtype: bool = False, local: bool = False
    ) -> None:
        super().__init__(model, reason)
        self.offered, self.dtype, self.local = offered, dtype, local


class UntraceableError(HfmemError):
    """The class of the model cannot be built under fake tensors, or what it computes depends on their content."""


class InvalidScenarioError(HfmemError):
    """Options that contradict each other, or that are not available with the asked method.

    The package raises its kinds (`hfmem.refusals`), which have no reason in words but fields. To scripts they are one
    error, `invalid_scenario_error`, whatever their class: a kind may be divided without breaking them.

    Attributes:
        usage: whether it is wrong usage although it depends on a model: the exit code is that of wrong usage then.
        teller: makes the words of a kind's fields. It belongs to `hfmem.report`, which nothing below it imports, so the
            root of the package puts it here.
    """

    usage: ClassVar[bool] = False
    teller: ClassVar[Callable[[InvalidScenarioError], str]]

    def __init__(self, model: str = "", reason: str = "") -> None:
        super().__init__(model, reason)

    @property
    def reason(self) -> str:
        """What was seen; of a kind in the words that the report has for it."""
        return self._seen or shortened(InvalidScenarioError.teller(self))

    @classmethod
    def code(cls) -> str:
        """One word for all kinds."""
        return "invalid_scenario_error"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.args, vars(self))


def _again(kind: type[InvalidScenarioError], args: tuple[Any, ...], facts: Mapping[str, Any]) -> InvalidScenarioError:
    """An error that was pickled or copied: a kind is made of other values than `args`."""
    error = kind.__new__(kind, *args)
    vars(error).update(facts)
    return error


class UnforeseenError(HfmemError):
    """Something that this version does not expect; one model's trouble must not cost the answers of the others."""
