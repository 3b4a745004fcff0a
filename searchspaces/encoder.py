"""Shape of a small Transformer encoder trained from scratch on some 20,000 to 100,000 short texts or small images.

Every point is legal: the inner width of attention is n_heads * d_head and need not equal d_model. Left out on
purpose: post-norm (it needs a long warm-up at these sizes, Xiong et al. 2020, arXiv:2002.04745), rms for layer norm
and an embedding rank (d_model moves quality and size more); an experiment sets them under `options`.
"""

from ConfigSpace import ConfigurationSpace
from ConfigSpace.hyperparameters import CategoricalHyperparameter, OrdinalHyperparameter, UniformIntegerHyperparameter

SPACE = ConfigurationSpace(name="encoder")
SPACE.add(
    UniformIntegerHyperparameter("n_layers", 1, 4, default_value=2),
    OrdinalHyperparameter("d_model", (64, 96, 128, 192, 256), default_value=128),
    OrdinalHyperparameter("n_heads", (1, 2, 4, 8), default_value=4),
    OrdinalHyperparameter("d_head", (16, 32, 64), default_value=32),
    OrdinalHyperparameter("d_ff", (64, 128, 256, 384, 512, 768, 1024), default_value=256),
    CategoricalHyperparameter("activation", ("gelu", "relu"), default_value="gelu"),
    CategoricalHyperparameter("positions", ("learned", "sinusoidal", "rotary"), default_value="learned"),
    CategoricalHyperparameter("pooling", ("mean", "max"), default_value="mean"),
)
