"""Models whose LM head is replaced by one that scores a row, as sequence classification does."""

from __future__ import annotations

from dataclasses import replace

from hfmem.mapper.interpret import Model

__all__ = ["scoring"]


def scoring(model: Model) -> Model:
    """The model with a score per label of one row in place of its LM head; a tied embedding stays."""
    table, architecture = model.parameters, model.architecture
    if table is None:
        return model
    heads = [group for group in table.groups if group.component == "lm_head"]
    embeddings = [group for group in table.groups if group.component == "embedding" and len(group.shape) > 1]
    like = (heads or [group.as_head() for group in embeddings[:1]])[:1]
    scores = tuple(
        replace(group, shape=(1, width := group.shape[-1]), parameters=width, active=width, count=1) for group in like
    )
    kept = tuple(group for group in table.groups if group.component != "lm_head")
    return replace(
        model,
        architecture=replace(architecture, head="none", tied_embeddings=False),
        parameters=replace(table, groups=(*kept, *scores)),
    )
