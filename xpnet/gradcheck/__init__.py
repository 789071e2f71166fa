"""Is a hand-written gradient the derivative of its forward pass?"""

from xpnet.gradcheck.check import check_gradients

__all__ = ["check_gradients"]
