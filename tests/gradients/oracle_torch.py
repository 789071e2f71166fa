"""The gradient from PyTorch in double precision: `torch.nn.functional` and `backward`, built from the same dict."""

import torch
from torch.nn import functional as F

ACTIVATIONS = {
    "Identity": lambda z: z,
    "ReLU": F.relu,
    "LeakyReLU": lambda z, slope=0.01: F.leaky_relu(z, slope),
    "ELU": lambda z, alpha=1.0: F.elu(z, alpha),
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Softplus": lambda z: F.softplus(z, threshold=60.0),
    "SiLU": F.silu,
    "GELU": lambda z, approximate="none": F.gelu(z, approximate=approximate),
    "Softmax": lambda z: F.softmax(z, dim=1),
}


def sample_losses(kind, y, t, delta=1.0, targets=None):
    if kind == "CrossEntropy":
        return F.cross_entropy(y, t, reduction="none")
    if kind == "BinaryCrossEntropy":
        return F.binary_cross_entropy_with_logits(y, t, reduction="none").sum(1)
    elementwise = {
        "SumSquaredError": lambda: F.mse_loss(y, t, reduction="none") * y.shape[1],
        "MeanSquaredError": lambda: F.mse_loss(y, t, reduction="none"),
        "MeanAbsoluteError": lambda: F.l1_loss(y, t, reduction="none"),
        "Huber": lambda: F.huber_loss(y, t, reduction="none", delta=delta),
        "HalfSquaredError": lambda: 0.5 * F.mse_loss(y, t, reduction="none"),
        "PoissonDeviance": lambda: (torch.xlogy(t, t) - t - t * y + torch.exp(y)) * y.shape[1],
        "Poisson": lambda: F.poisson_nll_loss(y, t, log_input=True, reduction="none"),
    }
    return elementwise[kind]().mean(1)


def gradients(config, params, x, t, weight=None, masks=None):
    """Return `(value, {name: gradient})`, the input's under the name "x"."""
    arrays = {name: torch.tensor(p, requires_grad=True) for name, p in {**params, "x": x}.items()}
    h, penalty = arrays["x"], torch.zeros((), dtype=torch.float64)
    for number, layer in enumerate(config["layers"]):
        options = {name: value for name, value in layer.items() if name != "kind"}
        if layer["kind"] == "Linear":
            W, b = arrays[f"{number}.W"], arrays.get(f"{number}.b")
            h = F.linear(h, W.T, b)
            for p in [W] if b is None or not config["penalize_biases"] else [W, b]:
                penalty = penalty + config["l1"] * p.abs().sum() + config["l2"] / 2 * p.square().sum()
        elif layer["kind"] == "Dropout":
            h = h * torch.tensor(masks[number]) / (1 - layer["rate"])
        else:
            h = ACTIVATIONS[layer["kind"]](h, **options)
    losses = sample_losses(y=h, t=torch.tensor(t), **config["loss"])
    weight = torch.ones(len(x), dtype=torch.float64) if weight is None else torch.tensor(weight)
    value = (losses * weight).sum() / weight.sum() + penalty
    value.backward()
    return value.item(), {name: p.grad.numpy() for name, p in arrays.items()}
