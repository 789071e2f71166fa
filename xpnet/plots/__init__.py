"""Pictures of networks and of how they learn, with matplotlib (the extra ``plot``).

Every function takes an axes, or makes a figure with one, and returns the axes; `animate_regions` returns the animation.
Colours can be told apart by colour-blind people, and what stands in a legend differs in more than colour.
"""

from typing import TYPE_CHECKING

from xpnet.keywords import public
from xpnet.plots.activations import activation
from xpnet.plots.confusion import confusion, errors
from xpnet.plots.curves import accuracy, loss
from xpnet.plots.evolution import evolution, update_ratios
from xpnet.plots.flow import delta_flow, delta_history
from xpnet.plots.images import feature_maps, filters, pixels
from xpnet.plots.matrices import weight_images, weights
from xpnet.plots.regions import animate_regions, regions

__all__ = [
    "accuracy",
    "activation",
    "animate_regions",
    "confusion",
    "delta_flow",
    "delta_history",
    "errors",
    "evolution",
    "feature_maps",
    "filters",
    "loss",
    "pixels",
    "regions",
    "update_ratios",
    "weight_images",
    "weights",
]

if not TYPE_CHECKING:  # to whom every name would then be right
    __getattr__, __dir__ = public(__name__, __all__)
