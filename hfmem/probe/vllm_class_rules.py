"""What vLLM sets for certain model classes: `hfmem/data/vllm_class_rules.jsonl`.

    python -m hfmem.probe.vllm_class_rules FOLDER...    # unpacked wheels, oldest first, each named like its release

The source is read as syntax trees, never imported.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

__all__ = ["main", "rules"]

_TABLE: Final = Path(__file__).parents[1] / "data" / "vllm_class_rules.jsonl"
_MEANING: Final = {
    "captured": "tokens of the largest CUDA graph (model_executor/models/config.py)",
    "prefixed": "images attend in both directions, without a FlashAttention kernel (MM_PREFIX_LM_MODELS)",
    "adapted": "what else adapters may change: embedding_modules (model_executor/models)",
    "shared": "ranks may share the images of a batch: supports_encoder_tp_data (model_executor/models)",
    "twice": "a head is made, and then tied to the embedding (model_executor/models)",
    "spared": "an encoder is not built where --limit-mm-per-prompt allows none of its inputs (model_executor/models)",
}


_TIES: Final = re.compile(r"\.tie_weights\(|lm_head\.weight = .*embed")
_LEAVES_OUT: Final = ("._mark_tower_model(", "._mark_composite_model(", "get_limit_per_prompt(")


@dataclass(slots=True)
class _Classes:
    """The classes of a release's models: bases, the `embedding_modules` of each that has them, whether its encoder
    shares a batch where it says so, and of each that builds its parts, whether it leaves an encoder out, whether it
    ties a head that it made, and which language models it has."""

    bases: dict[str, list[str]] = field(default_factory=dict)
    own: dict[str, list[str]] = field(default_factory=dict)
    shared: dict[str, bool] = field(default_factory=dict)
    spared: dict[str, bool] = field(default_factory=dict)
    twice: dict[str, bool] = field(default_factory=dict)
    within: dict[str, list[str]] = field(default_factory=dict)

    def add(self, source: str) -> None:
        """The classes of a module."""
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.ClassDef):
                continue
            self.bases.setdefault(node.name, []).extend(base.id for base in node.bases if isinstance(base, ast.Name))
            for target, value in _assigned(node):
                if target == "embedding_modules" and value is not None:
                    named = value.keys if isinstance(value, ast.Dict) else []
                    self.own[node.name] = [str(key.value) for key in named if isinstance(key, ast.Constant)]
                if target == "supports_encoder_tp_data" and isinstance(value, ast.Constant):
                    self.shared[node.name] = bool(value.value)
            made = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
            if made is not None:
                text = ast.unparse(made)
                self.spared[node.name] = any(name in text for name in _LEAVES_OUT)
                self.twice[node.name] = "ParallelLMHead(" in text and bool(_TIES.search(text))
                self.within[node.name] = re.findall(r"'(\w+ForCausalLM)'", text)

    def modules(self, name: str, seen: tuple[str, ...] = ()) -> list[str]:
        """`embedding_modules` of a class, inherited ones included."""
        if name in self.own:
            return self.own[name]
        found = (self.modules(base, (*seen, name)) for base in self.bases.get(name, ()) if base not in seen)
        return next(filter(None, found), [])

    def says(self, name: str, table: dict[str, bool], seen: tuple[str, ...] = ()) -> bool:
        """What a class says, or the first of its bases that does."""
        if name in table:
            return table[name]
        bases = [base for base in self.bases.get(name, ()) if base not in seen]
        return any(self.says(base, table, (*seen, name)) for base in bases[:1])

    def rule(self, name: str, registry: dict[str, str]) -> dict[str, Any]:
        """What a class's own source says; `registry` has the classes of the names in it."""
        found: dict[str, Any] = {}
        if modules := self.modules(name):
            found["adapted"] = "both" if len(modules) > 1 else "embedding"
        inner = (registry.get(each, each) for each in self.within.get(name, ()))
        if any(self.says(each, self.twice) for each in (name, *inner)):
            found["twice"] = True
        for rule, table in (("shared", self.shared), ("spared", self.spared)):
            if self.says(name, table):
                found[rule] = True
        return found


def _assigned(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr | None]]:
    for statement in node.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
        value = getattr(statement, "value", None)
        yield from ((target.id, value) for target in targets if isinstance(target, ast.Name))


def rules(package: Path) -> dict[str, dict[str, Any]]:
    """The rules of a release, by the classes of its registry."""
    models = package / "vllm" / "model_executor" / "models"
    classes = _Classes()
    for path in sorted(models.rglob("*.py")):
        classes.add(path.read_text(encoding="utf-8"))
    registry = (models / "registry.py").read_text(encoding="utf-8")
    named = dict(re.findall(r'"(\w+)": \(\s*"\w+",\s*"(\w+)"', registry))
    found: dict[str, dict[str, Any]] = {}
    for name, class_ in named.items():
        if own := classes.rule(class_, named):
            found[name] = own
    config = (models / "config.py").read_text(encoding="utf-8") if (models / "config.py").exists() else ""
    if "GptOss" in config:
        found.setdefault("GptOssForCausalLM", {})["captured"] = 1024
    places = ("config/model.py", "transformers_utils/model_arch_config_convertor.py")
    settings = (package / "vllm" / place for place in places)
    text = "\n".join(path.read_text(encoding="utf-8") for path in settings if path.exists())
    if listed := re.search(r"MM_PREFIX_LM_MODELS = \((.*?)\)", text, re.DOTALL):
        types = re.findall(r'"(\w+)"', listed[1])
        for name in named:
            kind, _, rest = name.partition("ForConditionalGeneration")
            if not rest and kind != name and kind.lower() in types:
                found.setdefault(name, {})["prefixed"] = True
    return found


def main(folders: list[str]) -> None:
    """Write the table: for each class its rules, with the first and the last release that has them."""
    read = {Path(folder).name: rules(Path(folder)) for folder in folders}
    versions = list(read)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for version, found in read.items():
        for name, rule in found.items():
            row = rows.setdefault((name, json.dumps(rule, sort_keys=True)), {"class": name, "since": version} | rule)
            row["until"] = version
    for row in rows.values():
        if row["until"] == versions[-1]:
            del row["until"]
    head = {"source": f"vLLM {', '.join(versions)}", "tool": "python -m hfmem.probe.vllm_class_rules"} | _MEANING
    lines = [json.dumps(line) for line in (head, *(rows[key] for key in sorted(rows)))]
    _TABLE.write_text("\n".join(lines) + "\n", encoding="ascii")


if __name__ == "__main__":
    main(sys.argv[1:])
