"""What Parley's own metrics say in this process: theirs outlast a test, so that it looks at what is new."""

from prometheus_client import CollectorRegistry

from parley.core import metrics

Series = tuple[str, frozenset[tuple[str, str]]]


def _all() -> dict[Series, float]:
    registry = CollectorRegistry()
    for metric in metrics.ALL:
        registry.register(metric)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def gauge(name: str, **labels: str) -> float:
    """As it is now."""
    return _all()[name, frozenset(labels.items())]


class Counted:
    """What was counted since this was made."""

    def __init__(self) -> None:
        self._before = _all()

    def __call__(self, name: str, **labels: str) -> float:
        series = name, frozenset(labels.items())
        return _all().get(series, 0.0) - self._before.get(series, 0.0)

    def series(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        """Those of the name that have counted something."""
        return {
            labels: value - self._before.get((known, labels), 0.0)
            for (known, labels), value in _all().items()
            if known == name and value != self._before.get((known, labels), 0.0)
        }
