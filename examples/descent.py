"""Gradient descent, bare: the smallest value of a^2 + b^2, from (10, 10), with the learning rate 0.3.

The gradient of a^2 + b^2 is (2 a, 2 b). A step takes 0.3 times the gradient off, which leaves 0.4 a and 0.4 b: so
each step multiplies the error by 0.16.

    python examples/descent.py
"""

import common
import numpy as np

import xpnet

args = common.arguments(__doc__)

# As a network: the input 1 times the weights W = (a, b) gives the outputs (a, b), and both should be 0.
# The squared error, summed over the outputs, is a^2 + b^2.
net = xpnet.Network(
    [xpnet.Linear(1, 2, bias=False)], loss=xpnet.SumSquaredError(), backend=args.backend, dtype="float64"
)
net.set_parameters({"0.W": [[10.0, 10.0]]})
x, t = [[1.0]], [[0.0, 0.0]]

print("step         a         b       error")
errors = []
for step in range(7):
    error, gradients = net.gradients(x, t)
    W, dW = net.backend.to_numpy(net.parameters["0.W"]), net.backend.to_numpy(gradients["0.W"])  # (1, 2) each
    print(f"{step:4}  {W[0, 0]:8.5f}  {W[0, 1]:8.5f}  {error:10.5g}")
    errors.append(float(f"{error:.5g}"))
    net.set_parameters({"0.W": W - 0.3 * dW})

common.require(
    "the errors are 200, 32, 5.12, 0.8192, 0.13107, 0.020972, 0.0033554",
    errors == [200, 32, 5.12, 0.8192, 0.13107, 0.020972, 0.0033554],
)

# The loop above is what xpnet's optimizer SGD does.
by_hand = net.backend.to_numpy(net.parameters["0.W"]).copy()  # parameters are views: training changes them
net.set_parameters({"0.W": [[10.0, 10.0]]})
history = net.fit(x, t, optimizer=xpnet.SGD(0.3), epochs=7, batch_size=1, verbose=False)
difference = np.abs(net.backend.to_numpy(net.parameters["0.W"]) - by_hand).max()
common.require(f"seven steps of xpnet.SGD(0.3) end at the same point (difference {difference:.1g})", difference < 1e-15)
common.draw(args, lambda plots: {"error": plots.loss(history, log=True)})  # a straight line: each step times 0.16
