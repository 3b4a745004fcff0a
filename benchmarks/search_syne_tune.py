"""Syne Tune's MO-ASHA behind two pipes, run by a Python that has syne-tune and need not have anything of ours.

Standard input takes a JSON line a request, standard output gives one back: first {space, metrics, epochs, eta, seed},
where space is {name: [kind, ...]}; then {"suggest": n}, {"start": n}, {"report": n, "result": {...}} or {"end": n,
"result": {...}, "stopped": true}.
"""

import json
import sys
from datetime import datetime
from typing import Any

import numpy as np
from syne_tune import config_space  # type: ignore[import-not-found]
from syne_tune.backend.trial_status import Trial  # type: ignore[import-not-found]
from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA  # type: ignore[import-not-found]

_KINDS = {
    "choice": lambda values: config_space.choice(values),
    "int": config_space.randint,
    "float": config_space.uniform,
    "log float": config_space.loguniform,
}


def main() -> None:
    """Until the input ends."""
    told = json.loads(sys.stdin.readline())
    np.random.seed(told["seed"])  # noqa: NPY002  MO-ASHA draws from NumPy's own generator
    scheduler = MOASHA(
        {name: _KINDS[kind](*rest) for name, (kind, *rest) in told["space"].items()},
        metrics=told["metrics"],
        time_attr="epoch",
        max_t=told["epochs"],
        reduction_factor=told["eta"],
        random_seed=told["seed"],
    )
    trials: dict[int, Any] = {}
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(scheduler, trials, json.loads(line))), flush=True)


def _answer(scheduler: Any, trials: dict[int, Any], request: dict[str, Any]) -> Any:
    if "suggest" in request:
        config = scheduler.suggest().config
        return {name: value.item() if hasattr(value, "item") else value for name, value in config.items()}
    if "start" in request:
        number = request["start"]
        trials[number] = Trial(number, {}, datetime.now())
        return scheduler.on_trial_add(trials[number])
    if "report" in request:
        return scheduler.on_trial_result(trials[request["report"]], request["result"])
    trial = trials.pop(request["end"])
    if request["stopped"]:
        return scheduler.on_trial_remove(trial)
    return scheduler.on_trial_complete(trial, request["result"])
