"""Rows of a table with yes or no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def boosting(data: Any) -> Any:
    """Boosted trees over histograms (scikit-learn's defaults, early stopping), categories as such where there are few enough."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    rows = list(data.batches("train", batch_size=1024))
    table = np.concatenate([_columns(batch.inputs) for batch in rows])
    label = np.concatenate([np.asarray(batch.targets["label"]) for batch in rows])
    numeric = rows[0].inputs["numeric"].shape[1] if "numeric" in rows[0].inputs else 0
    lowest = table[:, numeric:].min(0)
    table[:, numeric:] -= lowest
    few = [place for place in range(numeric, table.shape[1]) if table[:, place].max() < 255]
    model = HistGradientBoostingClassifier(categorical_features=few, early_stopping=True, random_state=0).fit(table, label)

    def predict(feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        asked = _columns(feeds)
        asked[:, numeric:] = np.where(asked[:, numeric:] >= lowest, asked[:, numeric:] - lowest, np.nan)
        return {"logit": np.asarray(model.decision_function(asked), np.float32)}

    return data.score(predict, "test")


def _columns(feeds: Mapping[str, Any]) -> Any:
    return np.concatenate([np.asarray(feeds[name], np.float64) for name in ("numeric", "categorical") if name in feeds], axis=1)
