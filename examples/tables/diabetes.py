"""Regression on a real table: the diabetes of 442 patients, a network beside a straight line.

Ten measurements, and how far the disease has gone a year later, a number from 25 to 346. The table comes with
scikit-learn. It is small and noisy, and a straight line does well on it; a network that is trained for too long does
worse. So a penalty keeps its weights small, and a part of the patients decides when to stop.
"""

from matplotlib import pyplot
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import xpnet
from xpnet import plots

x, t = load_diabetes(return_X_y=True, scaled=False)
x, x_test, t, t_test = train_test_split(x.astype("float32"), t.astype("float32"), test_size=0.25, random_state=0)

# Inputs and targets with mean 0 and spread 1: otherwise the first steps would only look for the right size.
inputs, targets = StandardScaler().fit(x), StandardScaler().fit(t[:, None])
net = xpnet.mlp([10, 16, 1], activation="tanh", loss="mean_squared_error", l2=0.1, seed=0)
history = net.fit(
    inputs.transform(x),
    targets.transform(t[:, None]),
    optimizer=xpnet.Adam(0.005),
    epochs=200,
    validation_split=0.2,
    callbacks=xpnet.EarlyStopping(patience=15),
)

predicted = targets.inverse_transform(net.predict(inputs.transform(x_test)))[:, 0]
line = LinearRegression().fit(x, t)
print(f"stopped after {history.epochs} epochs")
print(f"R2 on {len(t_test)} other patients: {r2_score(t_test, predicted):.3f}")
print(f"R2 of a straight line:        {r2_score(t_test, line.predict(x_test)):.3f}")

plots.loss(history)
_, ax = pyplot.subplots(figsize=(4.5, 4.5), layout="constrained")
ax.plot([25, 346], [25, 346], color="grey", linewidth=1)
ax.scatter(t_test, predicted, s=14)
ax.set(title="On the line a prediction is exact", xlabel="measured", ylabel="predicted")
pyplot.show()
