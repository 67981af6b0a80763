"""The table of exporters. To register an exporter, add one import line."""

from mtbert.use.export import Exporter
from mtbert.use.export.onnx import ONNX as ONNX

EXPORTERS: dict[str, Exporter] = {value.name: value for key, value in tuple(vars().items()) if key.isupper()}
