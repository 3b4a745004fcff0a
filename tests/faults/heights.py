"""A space of one number: the height that a toy trial's score approaches."""

from ConfigSpace import ConfigurationSpace
from ConfigSpace.hyperparameters import UniformFloatHyperparameter

SPACE = ConfigurationSpace(name="heights")
SPACE.add(UniformFloatHyperparameter("height", 0.0, 1.0, default_value=0.5))


def height(trial):
    """The height of a listed trial: 0.5 for the default point, then spread evenly; four decimals name it."""
    return round((0.5 + trial * 0.6180339887) % 1, 4)
