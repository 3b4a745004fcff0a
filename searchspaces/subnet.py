"""Subnets of a supernet of MiniLM's size: 6 layers of width 384, 12 heads, 1,536 feed-forward units.

Every point is legal where the supernet has as much; `narrow` it to what that was trained for. 1,400 points:
few enough to try all of them.
"""

from ConfigSpace import ConfigurationSpace
from ConfigSpace.hyperparameters import OrdinalHyperparameter

SPACE = ConfigurationSpace(name="subnet")
SPACE.add(
    OrdinalHyperparameter("n_layers", (1, 2, 3, 4, 6), default_value=3),
    OrdinalHyperparameter("d_model", (48, 64, 96, 128, 192, 256, 320, 384), default_value=384),
    OrdinalHyperparameter("n_heads", (2, 4, 6, 8, 12), default_value=12),
    OrdinalHyperparameter("d_ff", (64, 128, 256, 384, 512, 768, 1536), default_value=768),
)
