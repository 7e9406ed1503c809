"""What follows the layers in training: logits over the vocabulary, a classifier, or the hidden states alone."""

from __future__ import annotations

from dataclasses import replace

from hfmem.estimator.recipe.values import TrainingScenario
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Architecture, TensorGroup
from hfmem.options.words import Head

__all__ = ["own_head", "with_head"]


def own_head(model: Model) -> Head:
    """The head of the model's class; that of a class whose head is not known is taken to be a vocabulary."""
    if model.architecture.head != "none":
        return "lm"
    groups = model.parameters.groups if model.parameters else ()
    return "classification" if any(group.component == "lm_head" for group in groups) else "embedding"


def with_head(model: Model, scenario: TrainingScenario) -> Model:
    """The model as the class with the head of a scenario has it."""
    asked, architecture, table = scenario.training.head, model.architecture, model.parameters
    if asked == own_head(model):
        return model if asked == "lm" else replace(model, architecture=_headless(architecture))
    groups = table.groups if table is not None else ()
    body = tuple(group for group in groups if group.component != "lm_head")
    head: tuple[TensorGroup, ...] = ()
    rows = [
        group
        for group in body
        if group.component == "embedding" and group.shape == (architecture.vocab_size, architecture.hidden_size)
    ]
    if asked == "classification" and rows:
        head = (_classifier(rows[0], scenario.training.labels),)
    if asked != "lm":
        architecture = _headless(architecture)
    else:
        architecture = replace(architecture, head="lm_head")
        head = () if architecture.tied_embeddings else tuple(group.as_head() for group in rows[:1])
    return replace(
        model,
        architecture=architecture,
        parameters=replace(table, groups=(*body, *head)) if table is not None else None,
    )


def _headless(architecture: Architecture) -> Architecture:
    """An embedding is the only use of its weights then, whatever the configuration says of tying."""
    return replace(architecture, head="none", tied_embeddings=False)


def _classifier(embedding: TensorGroup, labels: int) -> TensorGroup:
    """A classifier as wide as the embedding, in its dtype."""
    rows, width = embedding.shape
    elements = labels * width
    stored = None if embedding.stored_bytes is None else embedding.stored_bytes * labels // rows
    return replace(
        embedding,
        component="lm_head",
        role="score",
        shape=(labels, width),
        count=1,
        stored_bytes=stored,
        parameters=elements,
        active=elements,
    )
