"""Architecture, training and distillation at once, small enough to be recorded as a whole (benchmarks/recorded.py).

Few parameters on purpose: among some hundred random points the one nearest to a wish is near only where there are few.
Without a teacher's answers (soft_weight 0) their temperature and mixed examples, which have no label, mean nothing.
"""

from ConfigSpace import ConfigurationSpace, GreaterThanCondition
from ConfigSpace.hyperparameters import OrdinalHyperparameter, UniformFloatHyperparameter, UniformIntegerHyperparameter

SPACE = ConfigurationSpace(name="joint")
_soft_weight = OrdinalHyperparameter("soft_weight", (0.0, 0.5, 0.8, 1.0), default_value=0.0)
_temperature = UniformFloatHyperparameter("temperature", 1.0, 8.0, default_value=2.0, log=True)
_mixup = OrdinalHyperparameter("mixup", (0.0, 0.2, 0.5), default_value=0.0)
SPACE.add(
    UniformIntegerHyperparameter("n_layers", 1, 3, default_value=2),
    OrdinalHyperparameter("d_model", (32, 64, 96, 128), default_value=64),
    OrdinalHyperparameter("n_heads", (1, 2, 4), default_value=2),
    OrdinalHyperparameter("d_ff", (64, 128, 256, 512), default_value=128),
    UniformFloatHyperparameter("learning_rate", 2e-4, 1e-2, default_value=1e-3, log=True),
    OrdinalHyperparameter("batch_size", (16, 32, 64, 128), default_value=32),
    OrdinalHyperparameter("weight_decay", (0.0, 0.01, 0.1, 0.3), default_value=0.01),
    OrdinalHyperparameter("dropout", (0.0, 0.1, 0.2, 0.3), default_value=0.1),
    _soft_weight,
    _temperature,
    _mixup,
)
SPACE.add(GreaterThanCondition(_temperature, _soft_weight, 0.0), GreaterThanCondition(_mixup, _soft_weight, 0.0))
