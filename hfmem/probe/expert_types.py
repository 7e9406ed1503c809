"""Writes `hfmem/data/expert_types.json`: the types of the installed transformers whose experts can be run in several
ways (`use_experts_implementation`), so that `generate` runs them as `batched_mm`.

python -m hfmem.probe.expert_types
"""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import transformers

import hfmem.data

_TYPE = re.compile(r'^\s+model_type = "([^"]+)"', re.MULTILINE)


def types() -> list[str]:
    """The model types that the configurations beside such modules declare."""
    found: set[str] = set()
    for module in (Path(transformers.__file__).parent / "models").glob("*/modeling_*.py"):
        if "@use_experts_implementation" in module.read_text(encoding="utf-8"):
            for configuration in module.parent.glob("configuration_*.py"):
                found |= set(_TYPE.findall(configuration.read_text(encoding="utf-8")))
    return sorted(found)


def main() -> None:
    """Write the table with the version that it comes from."""
    source = f"transformers {version('transformers')} (integrations/moe.py, generation/utils.py)"
    path = Path(hfmem.data.__file__).parent / "expert_types.json"
    path.write_text(json.dumps({"source": source, "types": types()}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
