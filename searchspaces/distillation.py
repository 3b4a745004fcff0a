"""How a student learns from its teacher: Hinton et al. 2015 (arXiv:1503.02531) for temperature and weight, matches and
augmentation around what TinyBERT (arXiv:1909.10351) and MiniLMv2 (arXiv:2012.15828) found to help. The student's sizes
are fixed or searched beside it.
"""

from ConfigSpace import ConfigurationSpace
from ConfigSpace.hyperparameters import OrdinalHyperparameter, UniformFloatHyperparameter

SPACE = ConfigurationSpace(name="distillation")
SPACE.add(
    UniformFloatHyperparameter("learning_rate", 1e-4, 2e-3, default_value=3e-4, log=True),
    UniformFloatHyperparameter("temperature", 1.0, 8.0, default_value=2.0, log=True),
    OrdinalHyperparameter("soft_weight", (0.5, 0.7, 0.8, 0.9, 1.0), default_value=0.8),
    OrdinalHyperparameter("hidden_weight", (0.0, 0.01, 0.1, 1.0), default_value=0.0),
    OrdinalHyperparameter("relation_weight", (0.0, 0.01, 0.1, 1.0), default_value=0.0),
    OrdinalHyperparameter("neighbours", (0.0, 0.1, 0.2, 0.4), default_value=0.0),
    OrdinalHyperparameter("deletion", (0.0, 0.05, 0.1, 0.2), default_value=0.0),
    OrdinalHyperparameter("splice", (0.0, 0.1, 0.3), default_value=0.0),
    OrdinalHyperparameter("mixup", (0.0, 0.2, 0.5), default_value=0.0),
)
