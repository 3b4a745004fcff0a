"""The strategy that a searcher's and a scheduler's names and options make together."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.engine import strategies
from experiments.engine.events import Config, Metrics
from experiments.engine.outcome import Outcome
from experiments.engine.strategies import Strategy
from experiments.engine.strategies.pair import Pair

Options = Mapping[str, Any]


def named(
    searcher: tuple[str, Options],
    scheduler: tuple[str, Options],
    space: Any,
    seed: int,
    *,
    first: Sequence[Config],
    trials: int | None,
    epochs: float,
    outcome: Callable[[Metrics], Outcome],
    admit: Callable[[Config], str | None] = lambda _: None,
    advised: Sequence[Config] = (),
) -> Strategy:
    """Each part is (name, options); the rest is as `Pair` takes it. Raises ValueError for a name that is not found."""
    name, options = searcher
    rest: dict[str, Any] = {
        "first": first,
        "trials": trials,
        "epochs": epochs,
        "outcome": outcome,
        "admit": admit,
        "advised": advised,
    }
    if name in strategies.find("STRATEGY"):
        whole = strategies.load(name, "STRATEGY")
        made: Strategy = whole(whole.Config(**options), space, seed, **rest)
        return made
    find, stop = strategies.load(name, "SEARCHER"), strategies.load(scheduler[0], "SCHEDULER")
    return Pair(
        searcher=find(find.Config(**options), space, seed),
        scheduler=stop(stop.Config(**scheduler[1]), epochs),
        **rest,
    )
