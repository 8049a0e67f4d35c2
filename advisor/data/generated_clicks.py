"""A built-in table of clicks, drawn by a rule that is written down: who saw what, when, and whether they clicked.

Idea: what a click depends on is what nets over tables are made for, and a linear model cannot say: which campaign on which site (two
hidden directions each), at which hour on which device, and a price that matters by its logarithm. Chance has the last word, so no
model is right; `best` is the area under the curve that knowing the true chances would give.
Everything follows from (seed, row): the same seed gives the same table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advisor.data.corpus import SPLITS, Split
from advisor.data.tables import Table

COUNTS: Mapping[Split, int] = {"train": 30000, "val": 4000, "test": 6000}
SITES, CAMPAIGNS = 60, 40
DEVICES = ("phone", "tablet", "laptop", "desktop", "television")
REGIONS = ("north", "east", "south", "west", "centre", "abroad")
MISSING = 0.08  # of the ages and of the regions
GENERATOR = {
    "site": f"{SITES} of them, the k-th with weight 1 / k",
    "campaign": f"{CAMPAIGNS}, the k-th with weight 1 / sqrt(k)",
    "price": "exp(normal(1.5, 0.8))",
    "age": "normal(41, 14) within 16 to 90",
    "seen": "earlier views, geometric(0.3) - 1",
    "missing": f"{MISSING:g} of age and region",
    "logit": "-0.9 + 1.1 <site, campaign> + 0.9 [hour x device] - 0.5 log price + 0.8 age near 30 - 0.25 min(seen, 6) + 0.4 region",
}
Floats = NDArray[np.float64]


def tables(counts: Mapping[Split, int], *, seed: int) -> tuple[dict[Split, Table], dict[str, Any]]:
    """The three splits as texts, as a file would hold them, and the facts about them."""
    world = _world(np.random.default_rng([seed, 99]))
    found: dict[Split, Table] = {}
    best = 0.5
    for number, split in enumerate(SPLITS):
        found[split], logits, clicks = _rows(counts[split], split, world, np.random.default_rng([seed, number]))
        best = _area(clicks, logits)
    facts = {"source": "built-in clicks, made by a rule", "licence": "CC0-1.0", "generator": GENERATOR, "data seed": seed}
    return found, {**facts, "best possible auc on test": round(best, 4)}


def _world(dice: np.random.Generator) -> dict[str, Floats]:
    """What holds for every row: directions of sites and campaigns, and how hours suit devices and regions the thing itself."""
    return {
        "sites": dice.standard_normal((SITES, 2)),
        "campaigns": dice.standard_normal((CAMPAIGNS, 2)),
        "peaks": dice.uniform(0, 24, len(DEVICES)),
        "regions": dice.standard_normal(len(REGIONS)),
    }


def _rows(count: int, split: str, world: Mapping[str, Floats], dice: np.random.Generator) -> tuple[Table, Floats, NDArray[np.bool_]]:
    site, campaign = (_weighted(dice, 1 / np.arange(1, size + 1) ** power, count) for size, power in ((SITES, 1.0), (CAMPAIGNS, 0.5)))
    device, region = dice.integers(0, len(DEVICES), count), dice.integers(0, len(REGIONS), count)
    hour, seen = dice.integers(0, 24, count), dice.geometric(0.3, count) - 1
    price, age = np.exp(dice.normal(1.5, 0.8, count)), np.clip(dice.normal(41, 14, count), 16, 90).round()
    logits = (
        -0.9
        + 1.1 * (world["sites"][site] * world["campaigns"][campaign]).sum(1) / 2**0.5
        + 0.9 * np.cos((hour - world["peaks"][device]) * np.pi / 12)
        - 0.5 * (np.log(price) - 1.5)
        + 0.8 * np.exp(-(((age - 30) / 10) ** 2))
        - 0.25 * np.minimum(seen, 6)
        + 0.4 * world["regions"][region]
    )
    clicks = dice.random(count) < 1 / (1 + np.exp(-logits))
    gone = dice.random((2, count)) < MISSING
    columns = {
        "site": [f"site-{k:02d}" for k in site],
        "campaign": [f"c{k:02d}" for k in campaign],
        "device": [DEVICES[k] for k in device],
        "region": ["" if lost else REGIONS[k] for k, lost in zip(region, gone[1], strict=True)],
        "hour": [str(k) for k in hour],
        "age": ["" if lost else str(int(k)) for k, lost in zip(age, gone[0], strict=True)],
        "price": [f"{k:.2f}" for k in price],
        "seen": [str(k) for k in seen],
        "clicked": ["yes" if k else "no" for k in clicks],
    }
    return Table(tuple(f"{split}-{k:05d}" for k in range(count)), columns), logits, clicks


def _weighted(dice: np.random.Generator, weights: Floats, count: int) -> NDArray[np.int64]:
    return np.asarray(dice.choice(len(weights), count, p=weights / weights.sum()))


def _area(clicks: NDArray[np.bool_], logits: Floats) -> float:
    """The area under the ROC curve of the true chances: the share of pairs in order (no two chances are equal)."""
    if not clicks.any() or clicks.all():
        return 0.5
    ranks = np.empty(len(logits))
    ranks[np.argsort(logits)] = np.arange(1, len(logits) + 1)
    hits = int(clicks.sum())
    return float((ranks[clicks].sum() - hits * (hits + 1) / 2) / (hits * (len(clicks) - hits)))
