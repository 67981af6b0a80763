"""The table of exporters. To register an exporter, add one import line."""

from mtbert.use.export import Exporter
from mtbert.use.export.onnx import ONNX as ONNX
from mtbert.use.export.sentence_transformers import SENTENCE_TRANSFORMERS as SENTENCE_TRANSFORMERS
from mtbert.use.export.transformers import TRANSFORMERS as TRANSFORMERS

EXPORTERS: dict[str, Exporter] = {value.name: value for key, value in tuple(vars().items()) if key.isupper()}
