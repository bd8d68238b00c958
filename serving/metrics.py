"""What a server counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .batcher import BatchStats

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


class ServerMetrics:
    """Counters of one server; each has a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("amask_requests", "Requests answered.", ("route", "status"), registry=self.registry)
        self.latency = Histogram("amask_request_seconds", "From a request to its answer.", ("route",), registry=self.registry)
        self.batches = Histogram("amask_batch_rows", "Segments of a batch.", buckets=BATCH_SIZES, registry=self.registry)
        self.batch_seconds = Histogram("amask_batch_seconds", "Answering a batch.", registry=self.registry)
        self.encoded = Counter("amask_encoded_segments", "Segments whose audio was encoded.", registry=self.registry)
        self.audio = Counter("amask_audio_seconds", "Seconds of audio answered.", registry=self.registry)
        self.queue = Gauge("amask_queue_rows", "Segments that wait.", registry=self.registry)

    def count_batch(self, stats: BatchStats) -> None:
        """Count a batch."""
        self.batches.observe(stats.rows)
        self.batch_seconds.observe(stats.seconds)
        self.encoded.inc(stats.encoded)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self.registry)
