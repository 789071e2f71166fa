"""Odd or even? The ten bits of a number go in, and a network with three hidden units finds out which bit matters.

10-3-2 with sigmoids, squared error, batches of 8, learning rate 0.3. It is trained with 700 of the numbers from 0 to
1023 and then decides about the other 324, of which it has not seen one.

    python examples/parity.py
"""

import common
import numpy as np

import xpnet

args = common.arguments(__doc__, epochs=10)

# Rows of bits, the most significant first: bit 9 of the row, the last, says whether the number is odd.
(x, t), (x_test, t_test) = xpnet.datasets.parity(bits=10, test=324, seed=0)
targets = np.eye(2, dtype=np.float32)[t]  # class 0, even, becomes the row (1, 0); class 1, odd, the row (0, 1)

net = xpnet.Network(
    [xpnet.Linear(10, 3), xpnet.Sigmoid(), xpnet.Linear(3, 2), xpnet.Sigmoid()],
    loss=xpnet.SumSquaredError(),
    backend=args.backend,
    seed=0,
)
recorder = xpnet.Recorder(every=20, parameters=True)  # for the pictures: the weights as they change
net.fit(x, targets, optimizer=xpnet.SGD(0.3), epochs=args.epochs, batch_size=8, callbacks=[recorder], verbose=False)

# Under a squared error `predict` gives the two outputs; the larger one is the answer.
accuracy = float(np.mean(np.argmax(net.predict(x_test), axis=1) == t_test))

# A bit that matters has large weights; how large, over the three hidden units together:
sizes = np.abs(net.backend.to_numpy(net.parameters["0.W"])).sum(axis=1)
common.bars((f"bit {bit} (worth {2 ** (9 - bit):3})", size) for bit, size in enumerate(sizes))
found = int(np.argmax(sizes))
print(f"the weights found bit {found}, worth {2 ** (9 - found)}")

common.require("the bit that they found is the one worth 1", found == 9)
goal = 1.0 if args.full else 0.9
common.require(
    f"the accuracy on the {len(x_test)} unseen numbers, {accuracy:.4f}, is at least {goal}", accuracy >= goal
)
common.draw(
    args,
    lambda plots: {
        "weights": plots.weights(net, "0.W"),
        "evolution": plots.evolution(recorder, "0.W"),
        "deltas": plots.delta_history(recorder),
    },
)
