"""Pipelines and cross-validation on a real table: 178 bottles of wine by three growers.

Thirteen chemical measurements tell the growers apart. The table comes with scikit-learn, and so does everything here
but the network, which has the same interface.
"""

from matplotlib import pyplot
from sklearn.datasets import load_wine
from sklearn.inspection import permutation_importance
from sklearn.model_selection import cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from xpnet import plots
from xpnet.estimators import MLPClassifier

table = load_wine()
x, t = table.data, table.target
network = MLPClassifier((16,), solver="lbfgs", alpha=0.1, max_iter=500, random_state=0)
model = make_pipeline(StandardScaler(), network)
print(f"accuracy, in five parts: {cross_val_score(model, x, t, cv=5).round(3)}")

# Which measurements does it need? One column at a time is shuffled, and the accuracy falls, or does not.
importance = permutation_importance(model.fit(x, t), x, t, n_repeats=5, random_state=0).importances_mean
for k in importance.argsort()[::-1][:4]:
    print(f"{table.feature_names[k]:30} {importance[k]:.3f}")

plots.confusion(t, cross_val_predict(model, x, t, cv=5), classes=table.target_names)
plots.weights(model[-1].network_, "0.W")
pyplot.show()
