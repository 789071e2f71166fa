"""Class imbalance on a real table: 569 tumours, and the rarer of two classes matters more.

Thirty measurements of cell nuclei; 212 tumours are malignant and 357 benign. The table comes with scikit-learn. Who
looks for the malignant ones counts how many of them are missed, and chooses the threshold accordingly.
"""

from matplotlib import pyplot
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import recall_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import xpnet
from xpnet import plots

table = load_breast_cancer()
x, t = table.data.astype("float32"), (table.target == 0).astype(int)  # 1 is malignant
x, x_test, t, t_test = train_test_split(x, t, test_size=0.3, stratify=t, random_state=0)
scaler = StandardScaler().fit(x)
x, x_test = scaler.transform(x), scaler.transform(x_test)

# "balanced" gives both classes the same weight in the loss, whatever their number.
net = xpnet.mlp([30, 16, 2], activation="relu", loss="cross_entropy", l2=0.03, seed=0)
history = net.fit(x, t, optimizer=xpnet.Adam(0.003), epochs=20, class_weight="balanced")

malignant = net.predict_proba(x_test)[:, 1]
print(f"area under the ROC curve, {len(t_test)} other tumours: {roc_auc_score(t_test, malignant):.4f}")
for threshold in (0.5, 0.1):
    found = recall_score(t_test, malignant > threshold)
    alarms = int(((malignant > threshold) & (t_test == 0)).sum())
    print(f"threshold {threshold}: {found:.1%} of the malignant ones are found, with {alarms} false alarms")

plots.loss(history)
plots.confusion(t_test, net.predict(x_test), classes=("benign", "malignant"))
pyplot.show()
