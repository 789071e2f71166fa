"""What other libraries call things, and what serves here."""

from __future__ import annotations

ARGUMENTS = {
    # optimizers
    "lr": "learning_rate_init or learning_rate", "alpha": "learning_rate", "betas": "beta1 and beta2",
    "beta_1": "beta1", "beta_2": "beta2", "epsilon": "eps", "rho": "decay", "clipnorm": "clip_norm",
    "clipvalue": "clip_value", "global_clipnorm": "clip_norm",
    # layers
    "units": "outputs", "out_features": "outputs", "out_channels": "outputs", "filters": "outputs",
    "in_features": "inputs", "in_channels": "inputs", "num_features": "inputs", "kernel_size": "size",
    "pool_size": "size", "strides": "stride", "use_bias": "bias", "kernel_initializer": "weight_init", "p": "rate",
    "negative_slope": "slope", "quantiles": "levels", "tau": "levels",
    # networks, and how they are trained
    "layers": "sizes or hidden_layer_sizes", "hidden": "sizes or hidden_layer_sizes", "hidden_layer_sizes": "sizes",
    "device": "backend", "random_state": "seed",
    "nb_epoch": "epochs", "n_epochs": "epochs", "max_iter": "epochs", "validation": "validation_data",
    "eval_set": "validation_data", "weights": "sample_weight", "y": "t", "X": "x", "n_samples": "samples",
    "n_classes": "classes", "n_threads": "threads", "num_threads": "threads", "n_jobs": "threads",
    "filepath": "path", "filename": "path", "root": "directory", "map_location": "backend", "opset_version": "opset",
    "workers": "slices", "restore_best_weights": "restore_best",
    # estimators
    "epochs": "max_iter", "hidden_layers": "hidden_layer_sizes", "optimizer": "solver", "seed": "random_state",
    "x": "X", "t": "y",
}  # fmt: skip
"""Arguments, where the callable takes what is meant."""

OTHER_ARGUMENTS = {
    "learning_rate": "the optimizer has it: optimizer=xpnet.Adam(learning_rate=0.01)",
    "lr": "the optimizer has it: optimizer=xpnet.Adam(learning_rate=0.01)",
    "weight_decay": "the optimizer has it: optimizer=xpnet.AdamW(weight_decay=0.01)",
    "loss": "the network has it: xpnet.mlp([2, 3], loss='cross_entropy')",
    "optimizer": "a network's fit takes it: net.fit(x, t, optimizer='adam')",
    "epochs": "a network's fit takes it, net.fit(x, t, epochs=10), and an estimator's constructor max_iter=10",
    "batch_size": "a network's fit takes it, net.fit(x, t, batch_size=32), and an estimator's constructor",
    "verbose": "a network's fit takes it, and an estimator's constructor",
    "device": "the network has it: xpnet.mlp([2, 3], backend='cupy')",
    "activation": "it is a layer of its own behind this one: xpnet.ReLU()",
    "patience": "a callback has it: callbacks=[xpnet.EarlyStopping(patience=5)]",
    "early_stopping": "it is a callback: callbacks=[xpnet.EarlyStopping()]",
    "threshold": "compare probabilities: net.predict_proba(x)[:, 1] > 0.3",
    "save_best_only": "the file always holds the best network",
    "mode": "accuracies, AUC and R2 are better when larger, other curves when smaller",
    "reduction": "a loss is the mean over the samples, weighted if fit gets sample_weight=",
    "from_logits": "the network's output is logits, without a Softmax or Sigmoid layer at its end",
    "class_weight": "fit takes it: net.fit(x, t, class_weight='balanced')",
    "axis": "a sample is a row, and features are the last axis",
    "download": "files are downloaded where directory= is left out",
    "color": "change what is returned, an Axes of matplotlib",
    "title": "set it on what is returned, an Axes of matplotlib: ax.set_title('...')",
}
"""Arguments that something else takes, or that nothing needs."""

NEEDED = {
    "loss": "'cross_entropy' for classes, 'mean_squared_error' for numbers",
    "layers": "a list such as [xpnet.Linear(2, 3), xpnet.ReLU(), xpnet.Linear(3, 1)]",
    "sizes": "numbers of inputs, hidden units and outputs, such as [784, 512, 10]",
    "x": "the inputs, one sample a row",
    "t": "the targets, one for each row of x",
    "path": "the name of a file",
    "df": "the derivative of f: xpnet.Activation(f, df). xpnet.ReLU() and others are ready",
}
"""What to give for an argument that is missing."""

NAMES = {
    "Dense": "Linear", "Sequential": "Network", "Model": "Network", "Module": "Layer",
    "BatchNormalization": "BatchNorm", "BatchNorm1d": "BatchNorm", "BatchNorm2d": "BatchNorm",
    "LayerNormalization": "LayerNorm", "CrossEntropyLoss": "CrossEntropy", "BCEWithLogitsLoss": "BinaryCrossEntropy",
    "BCELoss": "BinaryCrossEntropy", "BCE": "BinaryCrossEntropy", "MSE": "MeanSquaredError",
    "MSELoss": "MeanSquaredError", "MAE": "MeanAbsoluteError", "L1Loss": "MeanAbsoluteError", "HuberLoss": "Huber",
    "GaussianNLLLoss": "Gaussian", "ModelCheckpoint": "BestFile", "CSVLogger": "CSVLog",
    "TensorBoard": "TensorBoardLog", "SummaryWriter": "TensorBoardLog", "ReduceLROnPlateau": "ReduceOnPlateau",
    "load_model": "load",
    "xavier": "glorot_uniform", "xavier_normal": "glorot_normal", "xavier_uniform": "glorot_uniform",
    "kaiming_normal": "he_normal", "kaiming_uniform": "he_uniform", "HeNormal": "he_normal",
    "GlorotUniform": "glorot_uniform", "StepLR": "StepDecay", "ExponentialLR": "ExponentialDecay",
    "CosineAnnealingLR": "CosineDecay", "decision_boundary": "regions", "confusion_matrix": "confusion",
    "history": "loss", "learning_curve": "loss",
}  # fmt: skip
"""Names in modules, where the module has what is meant."""

OTHER_NAMES = {
    "MLPClassifier": "It is xpnet.estimators.MLPClassifier.",
    "MLPRegressor": "It is xpnet.estimators.MLPRegressor.",
    "nn": "Layers and losses are in xpnet itself, such as xpnet.Linear.",
    "optim": "Optimizers are in xpnet itself, such as xpnet.Adam.",
    "callbacks": "Callbacks are in xpnet itself, such as xpnet.EarlyStopping.",
    "relu": "It is a layer, xpnet.ReLU(), or a name: xpnet.mlp([2, 8, 3], activation='relu').",
    "softmax": "net.predict_proba(x) returns probabilities; xpnet.Softmax() is a layer.",
    "tensor": "NumPy's arrays serve.",
    "DataLoader": "net.fit takes arrays, tables or batches, and batch_size=.",
    "no_grad": "Nothing is recorded: net.gradients(x, t) computes gradients when it is called.",
    "save": "A network saves itself: net.save('net.safetensors').",
    "fit": "A network trains itself: net.fit(x, t).",
    "train": "A network trains itself: net.fit(x, t).",
    "summary": "print(net) shows a table of the layers.",
    "manual_seed": "Networks and data sets take seed=.",
    "set_seed": "Networks and data sets take seed=.",
    "cuda": "Networks take backend='cupy'.",
    "device": "Networks take backend='cupy'.",
    "onnx": "A network exports itself: net.to_onnx('net.onnx').",
    "LearningRateScheduler": "An optimizer takes a schedule: xpnet.Adam(xpnet.schedules.StepDecay(0.01, every=100)).",
    **dict.fromkeys(("LSTM", "GRU", "RNN", "Embedding"), "xpnet has feed-forward networks and convolutions."),
    "Input": "The first layer says how many inputs it takes: xpnet.Linear(2, 8).",
}
"""Names in modules that something else serves for."""

_ARRAYS = "its network has the arrays: net.parameters['0.W']"
_PARAMETERS = "use parameters, and set_parameters to change them"
_TRAIN = "fit trains, and returns the History"
ATTRIBUTES = {
    "Network": {
        "score": "evaluate(x, t) returns loss and accuracy",
        "metrics": "fit and evaluate take metrics=",
        "compile": "there is nothing to compile: the loss is given to the network, the optimizer to fit",
        **dict.fromkeys(("optimizer", "lr", "learning_rate"), "fit takes it: optimizer=xpnet.Adam(0.001)"),
        **dict.fromkeys(("history", "history_", "loss_curve_", "loss_"), _TRAIN),
        **dict.fromkeys(("train", "learn", "train_on_batch"), "use fit(x, t, epochs=10)"),
        "eval": "there is nothing to switch: predict and evaluate compute as after training, fit as in training",
        **dict.fromkeys(("backward", "backward_pass", "backprop"), "gradients(x, t) returns loss and gradients"),
        "zero_grad": "there is nothing to clear: gradients(x, t) returns new ones",
        "step": "fit takes the steps, xpnet.Trainer one at a time",
        **dict.fromkeys(("weights", "get_weights", "trainable_weights", "state_dict"), _PARAMETERS),
        **dict.fromkeys(("named_parameters", "coefs_", "intercepts_", "W", "b", "bias"), _PARAMETERS),
        "set_weights": "use set_parameters({'0.W': array})",
        **dict.fromkeys(("load_state_dict", "load_weights", "load"), "use xpnet.load(path), or set_parameters"),
        "save_weights": "use save(path)",
        **dict.fromkeys(("count_params", "num_params", "n_params"), "use parameter_count"),
        **dict.fromkeys(("children", "modules"), "use layers"),
        **dict.fromkeys(("add", "append"), "give all layers at once: xpnet.Network([...], loss)"),
        "cuda": "use to('cupy')", "cpu": "use to('numpy')", "device": "use backend",
        **dict.fromkeys(("half", "double", "float"), "give the data type when building: dtype='float64'"),
        **dict.fromkeys(("export", "onnx"), "use to_onnx(path)"),
        "plot": "xpnet.plots draws networks and histories",
        **dict.fromkeys(("freeze", "trainable", "requires_grad_"), "give fit optimizer=xpnet.Adam(factors={'0.W': 0})"),
        "reset": "build it anew, or keep a copy() of it before training",
        "classes_": "use labels",
        "predict_classes": "predict returns classes",
        "predict_log_proba": "take the logarithm of predict_proba(x)",
        "fit_transform": "use fit and predict",
        "input_size": "use input_shape",
    },
    "Layer": dict.fromkeys(("W", "b", "weight", "weights", "bias", "get_weights", "parameters"), _ARRAYS),
    "Optimizer": {
        "step": "fit takes the steps, xpnet.Trainer one at a time",
        "zero_grad": "there is nothing to clear: gradients are computed anew in each step",
        "lr": "use learning_rate", "param_groups": "use factors",
        "state_dict": "fit(checkpoint=path) writes the whole state of a training",
    },
    "BaseMultilayerPerceptron": {
        **dict.fromkeys(("weights", "coef_", "coefs", "parameters"), "use coefs_ and intercepts_ after fit"),
        **dict.fromkeys(("history", "network"), "after fit it is called so with a _ at its end"),
        **dict.fromkeys(("trace", "explain", "evaluate", "summary", "to_onnx"), "the fitted network_ has it"),
        "compile": "there is nothing to compile: loss and solver are given to the estimator",
    },
    "Trace": {"gradients": "each layer has its own: trace[0].gradients", "plot": "use xpnet.plots.delta_flow(trace)"},
    "LayerTrace": {
        **dict.fromkeys(("W", "b", "weight", "weights"), "use parameters['W']"),
        **dict.fromkeys(("grad", "dW", "db"), "use gradients['W']"),
        "input": "use x", "output": "use y",
    },
    "GradientReport": {"ok": "use passed"},
}  # fmt: skip
"""Attributes, by the class that is asked."""
