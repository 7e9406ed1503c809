"""From config.json and tensor headers to an architecture and its parameters. The only package that reads config keys
or tensor names."""

from hfmem.mapper.interpret import Model, interpret
from hfmem.mapper.values import Architecture, Layer, ParameterTable, TensorGroup

__all__ = ["Architecture", "Layer", "Model", "ParameterTable", "TensorGroup", "interpret"]
