"""The metrics of the server, in the text format of Prometheus."""

from collections.abc import Callable
from typing import Any

from mtbert.use.serve.limits import Scope, route_of

LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCH_SIZES = tuple(2**i for i in range(11))


class Measures:
    """Counts requests, batches and tokens."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        # A registry of its own: the global one would refuse a second server in a process.
        self._registry = own = CollectorRegistry()
        self._requests = Counter("mtbert_requests", "Requests", ["route", "status"], registry=own)
        self._seconds = Histogram("mtbert_request_seconds", "Latency", ["route"], buckets=LATENCIES, registry=own)
        self._tokens = Counter("mtbert_tokens", "Tokens that were encoded", registry=own)
        self._batch_requests = Histogram(
            "mtbert_batch_requests", "Requests of a batch", buckets=BATCH_SIZES, registry=own
        )
        self._batch_rows = Histogram("mtbert_batch_rows", "Rows of a batch", buckets=BATCH_SIZES, registry=own)
        self._waiting = Gauge("mtbert_waiting_requests", "Requests that wait for the model", registry=own)

    def request(self, scope: Scope, status: int, seconds: float) -> None:
        """Counts one request that has ended.

        The request is counted under its route, not its path. Otherwise, each new path would add a time series.
        """
        route = route_of(scope)
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, requests: int, rows: int, tokens: int) -> None:
        """Counts one batch that was answered. The arguments are the numbers of its requests, rows and tokens."""
        self._batch_requests.observe(requests)
        self._batch_rows.observe(rows)
        self._tokens.inc(tokens)

    def queue(self, size: Callable[[], int]) -> None:
        """Sets the function that returns how many requests wait. This function is called when the metrics are read."""
        self._waiting.set_function(lambda: float(size()))

    def text(self) -> tuple[Any, str]:
        """Returns a pair (page, content type). The page holds all metrics in Prometheus text format, as bytes."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST
