"""How a small encoder is trained from scratch with AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101)."""

from ConfigSpace import ConfigurationSpace
from ConfigSpace.hyperparameters import CategoricalHyperparameter, OrdinalHyperparameter, UniformFloatHyperparameter

SPACE = ConfigurationSpace(name="optimization")
SPACE.add(
    UniformFloatHyperparameter("learning_rate", 2e-4, 4e-3, default_value=1e-3, log=True),
    OrdinalHyperparameter("batch_size", (16, 32, 64, 128), default_value=32),
    OrdinalHyperparameter("weight_decay", (0.0, 0.01, 0.1, 0.3), default_value=0.01),
    OrdinalHyperparameter("warmup", (0.0, 0.05, 0.1, 0.2), default_value=0.1),
    OrdinalHyperparameter("dropout", (0.0, 0.1, 0.2, 0.3), default_value=0.1),
    OrdinalHyperparameter("label_smoothing", (0.0, 0.05, 0.1), default_value=0.0),
    OrdinalHyperparameter("beta2", (0.95, 0.98, 0.999), default_value=0.999),
    CategoricalHyperparameter("schedule", ("linear", "cosine"), default_value="linear"),
)
