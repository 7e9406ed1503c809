"""Files of `torch.save` and `torch.jit.save`: tensors from pickles that are read as data, and from sizes in the file.

A file is a zip archive (PyTorch 1.6 and later): the pickle is its record `…/data.pkl`, and each storage a record
`…/data/KEY`, whose size the directory at the end has. Before, it was a row of pickles (magic number, version, system,
object, keys of the storages), then each storage with its number of elements before it. Of either, the head and the
tail are read, and no data.

Formats: `torch/serialization.py` (`_save`, `_legacy_save`), `torch/csrc/jit/serialization/export_module.cpp`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from hfmem.errors import InvalidHeaderError
from hfmem.fetcher.formats.pickled import archive
from hfmem.fetcher.formats.pickled.limits import HEAD, LONGEST
from hfmem.fetcher.formats.pickled.opcodes import Call, Items, PickleError, Reference, load
from hfmem.fetcher.formats.pickled.safe import unsafe
from hfmem.fetcher.formats.pickled.tensors import Found, Storage, Stored, find, storage_of
from hfmem.fetcher.formats.protocol import FileContents, Reading, Span
from hfmem.fetcher.tensors import table_bytes
from hfmem.fetcher.values import TensorInfo
from hfmem.units import MIB

__all__ = ["read"]

_TAIL: Final = 64 * 1024
_LONG_TAIL: Final = 512 * 1024  # of a file whose pickle is longer than its head: the directory of 8,000 tensors
_LEGACY: Final = 0x1950A86A20F9469CFC6C
_STEP: Final = 1 * MIB  # bytes more of a row of pickles whose end was not reached
_COUNT_BYTES: Final = 8  # before each storage of a legacy file
_PICKLES: Final = ("data.pkl", "constants.pkl")  # the second one is TorchScript's
_NAMED: Final = 3  # names of a kind in metadata
_LONGEST: Final = 200  # characters of a name in metadata


def read(file: str) -> Reading:
    """Read a file of either kind.

    Raises:
        InvalidHeaderError: it is neither, or cannot be read as one.
    """
    head = yield Span(start=0, stop=4)
    if head == archive.MAGIC:
        return (yield from _archive(file))
    return (yield from _legacy(file))


def _archive(file: str) -> Reading:
    """Read an archive: its directory, then its pickles."""
    head = yield Span(start=0, stop=HEAD)
    more = len(head) == HEAD and archive.MAGIC not in head[len(archive.MAGIC) :]
    records = yield from archive.directory(file, _LONG_TAIL if more else _TAIL)
    pickles = {name: record for name, record in records.items() if name.rpartition("/")[2] in _PICKLES}
    if not any(name.endswith("data.pkl") for name in pickles):
        raise InvalidHeaderError("", f"{file} is a zip archive without data.pkl, so no file of torch.save")
    found = Found()
    for name, record in pickles.items():
        content = yield from archive.content_of(file, record)
        part = _found(_unpickled(file, content, 0)[0])
        folder = name.removesuffix(".pkl") + "/"
        _check_records(part, folder, records)
        _merge(found, part, "" if folder.endswith("data/") else "constants.")
    return _contents(file, found, None)


def _contents(file: str, found: Found, length: int | None) -> FileContents:
    """The tensors, each once, with what else there is to tell of the file."""
    names: dict[tuple[object, ...], str] = {}
    tensors, tied = [], 0
    for tensor in found.tensors:
        if tensor.identity is not None and names.setdefault(tensor.identity, tensor.name) != tensor.name:
            tied += 1
            continue
        tensors.append(_info(file, tensor))
    metadata: dict[str, Any] = {"tied": tied} if tied else {}
    if found.optimizer:
        kept = [_info(file, tensor) for tensor in found.optimizer]
        metadata["optimizer"] = {"tensors": len(kept), "bytes": sum(tensor.nbytes for tensor in kept)}
    if refused := sorted(set(unsafe(found.names))):
        metadata["refused"] = [name[:_LONGEST] for name in refused[:_NAMED]]
    faults = tuple(f"{fault} in {file}" for fault in found.faults[:_NAMED])
    return FileContents(tensors=tuple(tensors), metadata=metadata, length=length, faults=faults)


def _info(file: str, tensor: Stored) -> TensorInfo:
    nbytes = table_bytes(tensor.dtype, tensor.shape)
    return TensorInfo(name=tensor.name, dtype=tensor.dtype, shape=tensor.shape, nbytes=nbytes, file=file)


def _merge(found: Found, part: Found, prefix: str) -> None:
    """Add what another pickle of the same file has, under a prefix."""
    for target, tensors in ((found.tensors, part.tensors), (found.optimizer, part.optimizer)):
        for tensor in tensors:
            identity = None if tensor.identity is None else (prefix, *tensor.identity)
            target.append(replace(tensor, name=prefix + tensor.name, identity=identity))
    found.names.update(part.names)
    found.faults += part.faults


def _check_records(found: Found, folder: str, records: Mapping[str, archive.Record]) -> None:
    """Add faults of tensors whose storages the archive lacks, or has with fewer bytes."""
    for tensor in (*found.tensors, *found.optimizer):
        if tensor.storage is None:
            continue
        record = records.get(folder + tensor.storage.key)
        if record is None:
            found.faults.append(f"the data of '{tensor.name}' is missing")
        elif record.size < tensor.last:
            found.faults.append(f"'{tensor.name}' is larger than its data")


def _found(root: Any) -> Found:
    """The tensors in a pickle. A state that is one entry of a dictionary, beside others without tensors, is named as
    if it stood alone."""
    found = find(root)
    first = {tensor.name.partition(".")[0] for tensor in found.tensors}
    if not isinstance(root, Items) or not root.mapping or len(first) != 1:
        return found
    wrapper = next(iter(first))
    inner = next((value for key, value in root.pairs if key == wrapper), None)
    if isinstance(inner, Items) or (isinstance(inner, Call) and inner.items.pairs):
        found.tensors = [replace(tensor, name=tensor.name[len(wrapper) + 1 :]) for tensor in found.tensors]
    return found


def _unpickled(file: str, content: bytes, start: int) -> tuple[Any, int]:
    try:
        return load(content, start)
    except PickleError as error:
        raise InvalidHeaderError("", f"the pickle in {file} cannot be read: {error}") from error


def _legacy(file: str) -> Reading:
    """Read a row of pickles, as many bytes as they need, and compare the file's length with its storages."""
    stop = HEAD
    while True:
        content = yield Span(start=0, stop=stop)
        if not _is_legacy(content):
            raise InvalidHeaderError("", f"{file} is not a file of torch.save")
        try:
            values, end = _row(content)
            break
        except PickleError as error:
            if len(content) < stop or stop >= LONGEST:
                raise InvalidHeaderError("", f"the pickles in {file} cannot be read: {error}") from error
            stop = min(LONGEST, max(stop * 4, _STEP))
    found = _found(values[3])
    return _contents(file, found, _legacy_length(values, end))


def _is_legacy(content: bytes) -> bool:
    """Whether it begins with the magic number of `torch.save`."""
    try:
        return bool(load(content[:64])[0] == _LEGACY)
    except PickleError:
        return False


def _row(content: bytes) -> tuple[list[Any], int]:
    """The five pickles of a legacy file, and the offset of the first byte after them."""
    values, place = [], 0
    for _ in range(5):
        value, place = load(content, place)
        values.append(value)
    return values, place


def _legacy_length(values: list[Any], end: int) -> int | None:
    """Bytes of a whole legacy file; None where its keys name other storages than its object."""
    storages = dict(_storages(values[3]))
    keys = values[4]
    names = [key for _, key in keys.pairs] if isinstance(keys, Items) else []
    if set(names) != set(storages):
        return None
    return end + sum(_COUNT_BYTES + storages[name].nbytes for name in names)


def _storages(root: Any) -> Iterator[tuple[str, Storage]]:
    """All storages that a pickle refers to."""
    pending, seen = [root], set()
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Reference):
            try:
                storage = storage_of(value)
            except ValueError:
                continue
            yield storage.key, storage
        elif isinstance(value, tuple):
            pending += value
        elif isinstance(value, Items):
            pending += [part for pair in value.pairs for part in pair]
        elif isinstance(value, Call):
            pending += [value.function, value.arguments, value.state, value.items]
