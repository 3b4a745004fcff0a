"""The same director on virtual time: recorded or closed-form curves instead of training, any number of workers.

A strategy is tested in milliseconds by what it would have done, and two of them are compared at equal cost.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from experiments.engine.director import Director
from experiments.engine.events import Config, Event, Metrics, Reported, Segment, Started


@dataclass(frozen=True)
class Curve:
    """What a configuration would report: metrics after each epoch, and the virtual seconds an epoch takes."""

    metrics: Callable[[int], Metrics]
    seconds: float = 1.0


def simulate(
    director: Director, curve: Callable[[Config], Curve], workers: int, until: float = float("inf")
) -> Iterator[tuple[float, Event]]:
    """Drives the director to its end (or virtual time `until`); yields (virtual seconds, event) as they happen.

    Reports that fall together come in the order their segments started, so a simulation repeats exactly.
    """
    now = 0.0
    queue: list[tuple[float, int, int]] = []
    curves: dict[int, tuple[Segment, Curve]] = {}
    while True:
        for segment in _handed_out(director, workers):
            yield now, Started(segment)
            first = int(segment.start.epochs if segment.start else 0) + 1
            curves[segment.number] = segment, curve(segment.config)
            heapq.heappush(queue, (now + curves[segment.number][1].seconds, segment.number, first))
        if not queue or queue[0][0] > until:
            return
        now, number, epoch = heapq.heappop(queue)
        course = curves[number][1]
        event = Reported(number, epoch, course.metrics(epoch), checkpoint=f"{number}/{epoch}")
        verdict = director.tell(event)
        yield now, event
        if verdict == "continue":
            heapq.heappush(queue, (now + course.seconds, number, epoch + 1))


def _handed_out(director: Director, workers: int) -> Iterator[Segment]:
    while len(director.in_flight) < workers and isinstance(segment := director.ask(), Segment):
        director.tell(Started(segment))
        yield segment
