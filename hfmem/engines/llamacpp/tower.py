"""The image or audio tower that llama-server loads beside a model: which file, and how large."""

from __future__ import annotations

from pathlib import Path

from hfmem.engines.llamacpp.settings import server_of
from hfmem.estimator.scenario import Scenario
from hfmem.fetcher.quantisations import tower_for, towers
from hfmem.mapper.interpret import Model
from hfmem.refusals.files import MissingTowerError

__all__ = ["tower_of"]


def tower_of(model: Model, scenario: Scenario) -> tuple[tuple[str, int], ...]:
    """The file of the tower and its bytes; () for none, and where its size is not known.

    Args:
        model: the file it runs beside.
        scenario: with what was asked: `auto`, `none` or a file of the repository, the folder or this machine.

    Raises:
        MissingTowerError: there is no such file.
    """
    asked, checkpoint = server_of(scenario).asked.mmproj, model.checkpoint
    if asked == "none":
        return ()
    if asked == "auto":  # what `-m` is given a file for is loaded alone
        remote = checkpoint.source in ("hub", "cache") and checkpoint.weight_files
        found = tower_for(checkpoint.weight_files[0].name, checkpoint.files) if remote else None
        return ((found.name, found.size),) if found is not None and found.size else ()
    known = {file.name: file.size for file in towers(checkpoint.files)}
    size = known.get(asked) or _size_of(Path(asked).expanduser()) or _size_of(_beside(checkpoint.ref.model_id, asked))
    if size is None:
        raise MissingTowerError("--mmproj", asked, checkpoint.ref.model_id, known)
    return ((asked, size),)


def _beside(model: str, name: str) -> Path:
    """A file in the folder of a local model."""
    path = Path(model).expanduser()
    return (path if path.is_dir() else path.parent) / name


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):
        return None
