"""What the command line and the config file of a benchmark choose from; nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Activation = Literal["none", "relu"]
"""The function between the layers of a head."""

AGGREGATIONS: Mapping[str, str] = {
    "weighted": "-1.5 to 1.5",
    "contrastive_only": "-2 to 2",
    "mean": "-2 to 2",
}
"""Ways to make one score of all attributes, the default first, and the range of each."""

PAIR_PROBABILITY = "pair_probability"
