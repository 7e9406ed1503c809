"""`hfmem-check`: whether what is about to be started fits, file by file, for hooks and workflows.

A file is a training file (YAML or JSON, as `hfmem --from-args` takes it) or a script with launch lines of servers.
Each is one question to `hfmem`, whose JSON is summed up.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Called(ModuleType):
    """This module, which is `hfmem.check` too: the function that holds a report against a log."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        return import_module("hfmem.api").check(*given, **named)


sys.modules[__name__].__class__ = _Called
