"""How a pretrained encoder is fine-tuned: the ranges of Devlin et al. 2019 (arXiv:1810.04805, A.3), higher rates
included, which small encoders such as MiniLM take well. The architecture is the checkpoint's.
"""

from ConfigSpace import ConfigurationSpace
from ConfigSpace.hyperparameters import OrdinalHyperparameter, UniformFloatHyperparameter

SPACE = ConfigurationSpace(name="finetuning")
SPACE.add(
    UniformFloatHyperparameter("learning_rate", 2e-5, 5e-4, default_value=2e-4, log=True),
    OrdinalHyperparameter("batch_size", (16, 32, 64), default_value=32),
    OrdinalHyperparameter("weight_decay", (0.0, 0.01, 0.1), default_value=0.01),
    OrdinalHyperparameter("warmup", (0.0, 0.05, 0.1, 0.2), default_value=0.1),
)
