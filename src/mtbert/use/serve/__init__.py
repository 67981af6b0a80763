"""The HTTP server of a trained model: one process, one model, one pass through the encoder for all tasks.

``app.py`` puts the parts together. ``limits.py`` guards every request, ``service.py`` checks the texts of a request,
``batching.py`` collects requests, and ``together.py`` answers them with an engine of ``engines.py``. Each group of
routes has a file of its own. The packages of the extra ``serve`` are imported when a server starts.
"""
