"""Which modules a quantisation packs, and how: its configuration as rules, of which the first that fits a module holds.

What is read, and in whom: `dynamic` and `lm_head` (gptqmodel 7.7, `quantization/config.py:2519-2610` and
`models/writer.py:1297`; vLLM 0.33, `quantization/utils/gptq_utils.py:85-104`), `modules_in_block_to_quantize` and
`block_name_to_quantize` (transformers' GPTQConfig; the same file of vLLM, lines 117-166), `extra_config` (auto-round
0.16, `inference/convert_model.py`; vLLM, `inc/config_parser.py:71-160`), `quantized_layers` and lists of what stays
(ModelOpt), `config_groups` (compressed-tensors), and the lists of what stays that all others have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

from hfmem.mapper.module_names import PARENTS, Names
from hfmem.mapper.schemes import Scheme, algorithm, fp4_exponents, group_scheme, scheme_of
from hfmem.mapper.values import TensorGroup

__all__ = ["Reading", "Rule", "reading_of"]

_SCALED_LATER: Final = ("compressor.", "indexer.kv_proj", "indexer.gate_proj", "indexer.weights_proj")
"""What DeepSeek's files keep in 16 bits without a list that says so: what makes the keys of its indexer and the entries
of its compressors (modeling_deepseek_v4.py)."""

_BLOCKS_ONLY: Final = ("gptq", "awq", "auto-round")

_STAYING: Final = (
    "modules_to_not_convert",
    "ignored_layers",
    "ignore",
    "exclude_modules",
    "llm_int8_skip_modules",
)
_BLOCKS: Final = ("block_name_to_quantize", "to_quant_block_names")
_LAYOUTS: Final = ("format", "fmt", "method", "quant_method", "adapter", "pack_dtype")
"""Keys of an override that change the layout in a way that is not read."""

_PLAIN_BITS: Final = 16
_MOST_EXPRESSIONS: Final = 1_000  # of a list
_MOST_FORMATS: Final = 64  # of a mixed checkpoint, which has two or three

_READ: Final = frozenset(
    (
        *_STAYING,
        *_BLOCKS,
        "modules_in_block_to_quantize",
        "dynamic",
        "extra_config",
        "quantized_layers",
        "quantization",
        "config_groups",
    )
)
_ELSEWHERE: Final = frozenset(
    ("meta", "producer", "kv_cache_scheme", "weight_block_size", "sparsity_config", "dataset")
)
"""Keys with lists and objects that say nothing of which weights are packed, and how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one scheme is for.

    Attributes:
        scheme: the layout; None for what stays as it is.
        taken: modules, as the configuration writes them; empty for all linear ones.
        left: modules that are not meant, although they are taken.
        within: lists of modules, each of which has to have a module of the decoder's layers too.
        components: which it looks at; empty for all.
        head: whether the head is a linear layer like others.
    """

    scheme: Scheme | None
    taken: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    within: tuple[tuple[str, ...], ...] = ()
    components: frozenset[str] = frozenset()
    head: bool = False

    def layers(self, group: TensorGroup, names: Names) -> frozenset[int]:
        """The layers in which it is about a group."""
        if self.components and group.component not in self.components:
            return frozenset()
        if not (group.linear or (self.head and group.component == "lm_head" and len(group.shape) == 2)):
            return frozenset()
        if group.role.startswith(_SCALED_LATER):
            return frozenset()
        found = names.spoken_of(group, self.taken) if self.taken else names.layers(group)
        for entries in self.within if group.component != "lm_head" else ():
            found &= names.spoken_of(group, entries)
        return found - names.spoken_of(group, self.left) if self.left else found


@dataclass(slots=True, kw_only=True)
class Reading:
    """A quantisation as rules.

    Attributes:
        rules: in their order; empty where the layout is not known at all.
        unread: what is not understood, as the configuration writes it.
        looked_at: the expressions that were tried.
    """

    rules: list[Rule] = field(default_factory=list)
    unread: dict[str, None] = field(default_factory=dict)
    looked_at: set[str] = field(default_factory=set)

    def add(self, rule: Rule) -> None:
        """One more rule; regular expressions in it that are not read are named."""
        self.rules.append(rule)
        entries = (*rule.taken, *rule.left, *(word for words in rule.within for word in words))
        expressions = {entry.removeprefix("re:"): None for entry in entries if entry.startswith("re:")}
        if not expressions:
            return
        from hfmem.mapper.expressions import Expression  # for models with such lists only

        if len(expressions) > _MOST_EXPRESSIONS:
            self.unread["patterns, of which there are too many"] = None
        for text in islice(expressions, _MOST_EXPRESSIONS):
            if text not in self.looked_at:
                self.looked_at.add(text)
                if not Expression(text).readable:
                    self.unread[text] = None


def reading_of(method: str, bits: int, facts: Mapping[str, Any], config: Mapping[str, Any]) -> Reading:
    """The rules of a quantisation."""
    found = Reading()
    if method == "compressed-tensors":
        _groups(found, facts)
    else:
        _others(found, method, bits, facts, config)
    if found.rules:
        found.unread.update(dict.fromkeys(key for key, value in facts.items() if _may_choose(key, value)))
    return found


def _may_choose(key: str, value: object) -> bool:
    """Whether a key that is not read may say which modules are packed, or how."""
    if key in _READ or key in _ELSEWHERE or not value:
        return False
    return isinstance(value, Mapping) or (
        isinstance(value, list) and any(isinstance(each, str) for each in _flat(value))
    )


_LINEAR: Final = ("Linear",)


def _groups(found: Reading, facts: Mapping[str, Any]) -> None:
    """The groups of compressed-tensors, each with its targets."""
    left = _words(facts, *_STAYING)
    groups = facts.get("config_groups")
    for name, group in groups.items() if isinstance(groups, Mapping) else ():
        scheme = group_scheme(group) if isinstance(group, Mapping) else None
        if scheme is None:
            continue
        targets = _words(group, "targets")
        classes = [word for word in targets if word.isidentifier() and word[:1].isupper() and word not in _LINEAR]
        found.unread.update(dict.fromkeys(f"the target {word} of {name}" for word in classes))
        named = () if set(_LINEAR) & set(targets) else tuple(targets)
        found.add(Rule(scheme=scheme, taken=named, left=left, head=True))


def _others(found: Reading, method: str, bits: int, facts: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    left = _words(facts, *_STAYING)
    layers = facts.get("quantized_layers")
    if isinstance(layers, Mapping) and layers:
        _mixed(found, layers)
    if method == "fp8" and "fp4" in (config.get("expert_dtype"), facts.get("expert_dtype")):
        found.add(Rule(scheme=fp4_exponents, components=frozenset({"experts"})))
    scheme = scheme_of(method, facts, bits)
    if scheme is None:
        return
    blocks = tuple(f"re:{re.escape(word)}" for word in _words(facts, *_BLOCKS))
    listed = _words(facts, "modules_in_block_to_quantize")
    head = facts.get("lm_head") is True or facts.get("quant_lm_head") is True
    components = frozenset({"experts"}) if method == "mxfp4" else frozenset()
    if method in _BLOCKS_ONLY:
        outside = ("vision", "audio", "projector") if blocks else ()
        components = frozenset((*PARENTS, *outside, *(("lm_head",) if head else ())))
    base = Rule(
        scheme=scheme,
        # the list of a mixed checkpoint speaks of what its own layers leave, not of what the rest does
        left=() if layers and method == "fp8" else left,
        within=tuple(words for words in (blocks, listed) if words),
        components=components,
        head=head,
    )
    for rule in _overrides(found, method, bits, facts, base):
        found.add(rule)
    found.add(base)


_Override = tuple[str, str, object]
"""An entry as the configuration writes it and as rules do, and what differs there; None where modules stay."""


def _overrides(found: Reading, method: str, bits: int, facts: Mapping[str, Any], base: Rule) -> Iterator[Rule]:
    """The rules that come before the one for the rest: `dynamic` of gptqmodel, which chooses among what is packed, then
    `extra_config` of auto-round, which can pack what else is not."""
    anything = replace(base, within=(), components=frozenset(), head=True)
    for key, entries_of, rule in (("dynamic", _dynamic, base), ("extra_config", _extra, anything)):
        entries = facts.get(key)
        if isinstance(entries, Mapping):
            yield from _overridden(found, entries_of(entries), (method, bits, facts), rule)
        elif entries:
            found.unread[key] = None


def _overridden(
    found: Reading, entries: Iterable[_Override], of: tuple[str, int, Mapping[str, Any]], base: Rule
) -> Iterator[Rule]:
    """A rule an entry; those that are not understood are named."""
    method, bits, facts = of
    for entry, module, override in entries:
        rule = replace(base, taken=(module,))
        if override is None:
            yield replace(rule, scheme=None)
            continue
        values: Mapping[str, Any] = override if isinstance(override, Mapping) else {}
        own = values.get("bits", bits)
        known = isinstance(override, Mapping) and all(values.get(key) in (None, facts.get(key)) for key in _LAYOUTS)
        if not known or type(own) is not int or own < 1:
            found.unread[entry] = None
        elif own >= _PLAIN_BITS:
            yield replace(rule, scheme=None)
        else:
            scheme = scheme_of(method, {**facts, **values}, own)
            if scheme is None:
                found.unread[entry] = None
            else:
                yield replace(rule, scheme=scheme)


def _dynamic(entries: Mapping[str, Any]) -> Iterator[_Override]:
    """Regular expressions of whole names: after `-:` of modules that stay, after `+:` or nothing of such with other
    values."""
    for entry, override in entries.items():
        text = entry[2:] if entry.startswith(("-:", "+:")) else entry
        yield entry, f"re:{text}", None if entry.startswith("-:") else override


_SPECIAL: Final = frozenset(r"*+?^$()[]{}|\\")


def _extra(entries: Mapping[str, Any]) -> Iterator[_Override]:
    """Names first; then regular expressions, of any part of a name."""
    for entry, override in entries.items():
        if not _SPECIAL & set(entry):
            yield entry, entry, override
    for entry, override in entries.items():
        if _SPECIAL & set(entry):
            yield entry, f"re:{entry}" if entry.startswith(("^", ".*")) else f"re:.*(?:{entry})", override


def _mixed(found: Reading, layers: Mapping[str, Any]) -> None:
    """ModelOpt's list of layers, each with its format."""
    by_word: dict[str, list[str]] = {}
    for name, entry in layers.items():
        word = entry.get("quant_algo") if isinstance(entry, Mapping) else entry
        by_word.setdefault(str(word), []).append(str(name))
    if len(by_word) > _MOST_FORMATS:
        found.unread[f"{len(by_word):,} formats of quantized_layers"] = None
    for word, names in islice(by_word.items(), _MOST_FORMATS):
        scheme = algorithm(word, {})
        if scheme is None:
            found.unread[f"{word} of {len(names)} quantized_layers"] = None
        else:
            found.add(Rule(scheme=scheme, taken=tuple(names), head=True))


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    """The entries of a list, and of lists in it."""
    for value in values:
        yield from value if isinstance(value, list) else (value,)


def _words(facts: Mapping[str, Any], *keys: str) -> tuple[str, ...]:
    """The words of the lists under the keys; a string has commas between its words."""
    found: list[str] = []
    for key in keys:
        value = facts.get(key)
        if isinstance(value, str):
            found += (word.strip() for word in value.split(",") if word.strip())
        elif isinstance(value, list):
            found += (word for word in _flat(value) if isinstance(word, str))
    return tuple(found)
