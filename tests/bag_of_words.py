"""A model that counts words: what an encoder has to beat on the generated tasks."""

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from mtbert.batch import Example
from mtbert.data import demo


def score(task: str) -> float:
    """Accuracy (sts: Pearson's r) on the dev split of a linear model over word counts, trained on the train split."""
    train, dev = demo.examples(task, "train"), demo.examples(task, "dev")
    vectorizer = CountVectorizer(analyzer=_features, binary=True)
    x = sparse.hstack([vectorizer.fit_transform(train), _overlap(train)]).tocsr()
    x_dev = sparse.hstack([vectorizer.transform(dev), _overlap(dev)]).tocsr()
    y, y_dev = (np.array([example.label for example in examples]) for examples in (train, dev))
    if task == "sts":
        return float(np.corrcoef(Ridge(alpha=1.0).fit(x, y).predict(x_dev), y_dev)[0, 1])
    return float(np.mean(LogisticRegression(max_iter=1000).fit(x, y).predict(x_dev) == y_dev))


def words(text: str) -> list[str]:
    """The lower-case words of a text, without its punctuation."""
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


def _features(example: Example) -> list[str]:
    return [f"{side}:{word}" for side, text in zip("ab", example.texts, strict=False) for word in words(text)]


def _overlap(examples: list[Example]) -> np.ndarray:
    """Jaccard overlap, whether it is low or high, and shared words; constant where there is one text."""
    rows = []
    for example in examples:
        a, b = (set(words(text)) for text in (example.texts * 2)[:2])
        jaccard = len(a & b) / len(a | b)
        rows.append([5 * jaccard, 5 * jaccard**2, float(jaccard < 0.3), float(jaccard > 0.7), len(a & b), len(a ^ b)])
    return np.array(rows)
