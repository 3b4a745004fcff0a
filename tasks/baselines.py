"""Classical models without a Transformer, which a search has to beat."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from tasks.classification import Classification

STRENGTHS = (1.0, 10.0)  # inverse regularisation; the better one on validation counts
FEWEST_WORDS = 50_000  # words and pairs that are counted at least, the frequent ones first; rare ones cost only time


def tfidf(data: Classification) -> dict[str, Any]:
    """Logistic regression on TF-IDF of words and pairs of words."""
    every = {name: split.raw(np.arange(len(split))) for name, split in data.splits.items()}
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2),
        token_pattern=r"\w+|[^\w\s]",  # signs count too, so that no script leaves the vocabulary empty
        sublinear_tf=True,
        max_features=max(FEWEST_WORDS, 2 * len(every["train"])),
        dtype=np.float32,
    )
    features = {"train": vectorizer.fit_transform(every["train"])}
    features |= {name: vectorizer.transform(every[name]) for name in ("validation", "test")}
    return {"name": "TF-IDF (1-2 grams) + logistic regression"} | _scores(data, features)


def pixels(data: Classification) -> dict[str, Any]:
    """Logistic regression on the pixels themselves."""
    features = {name: _flat(split.batch(np.arange(len(split))).inputs["pixels"]) for name, split in data.splits.items()}
    return {"name": "Pixels + logistic regression"} | _scores(data, features)


def _flat(images: NDArray[np.float32]) -> NDArray[np.float32]:
    return images.reshape(len(images), -1)


def _scores(data: Classification, features: Mapping[str, Any]) -> dict[str, Any]:
    """Of the model that does best on validation: `validation` metrics, `test` intervals and its `C`."""
    models = [_fit(features["train"], data.splits["train"].targets, strength) for strength in STRENGTHS]
    logits = [model.predict_log_proba(features["validation"]) for model in models]
    scores = [data.metrics(found, data.splits["validation"].targets) for found in logits]
    best = int(np.argmax([score["accuracy"] for score in scores]))
    test = data.interval(models[best].predict_log_proba(features["test"]), data.splits["test"].targets)
    return {"validation": scores[best], "test": test, "C": STRENGTHS[best]}


def _fit(features: Any, targets: NDArray[np.int64], strength: float) -> LogisticRegression:
    """SAGA (Defazio et al., 2014) uses one thread, and on sparse counts is ten times quicker than L-BFGS.

    The loose tolerance costs no accuracy: on 20,000 glosses it stops after 13 passes at what 300 of L-BFGS reach.
    """
    model = LogisticRegression(C=strength, solver="saga", tol=0.01, max_iter=100, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a baseline that is still improving is a baseline
        return model.fit(features, targets)
