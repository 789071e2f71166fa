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


def sample_losses(kind, y, t, delta=1.0, targets=None, levels=()):
    if kind == "CrossEntropy":
        return F.cross_entropy(y, t, reduction="none")
    if kind == "BinaryCrossEntropy":
        return F.binary_cross_entropy_with_logits(y, t, reduction="none").sum(1)
    if kind == "Gaussian":
        m, s = y.chunk(2, 1)
        return F.gaussian_nll_loss(m, t, torch.exp(s), reduction="none", eps=0).mean(1)
    if kind == "Quantile":
        e, q = t[:, None, :] - y.reshape(len(y), len(levels), -1), torch.tensor(levels)[:, None]
        return torch.maximum(q * e, (q - 1) * e).mean((1, 2))
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


def one(layer, arrays, place, h, mask=None):
    """Return the output of the layer at a place such as "3" or "3.shortcut.0"."""
    options = {name: value for name, value in layer.items() if name != "kind"}
    W, b = arrays.get(f"{place}.W"), arrays.get(f"{place}.b")
    if layer["kind"] == "Linear":
        return F.linear(h, W.T, b)
    if layer["kind"] == "Dropout":
        return h * torch.tensor(mask) / (1 - layer["rate"])
    if layer["kind"] == "Flatten":
        return h.flatten(1)
    if "features" in layer:
        return normalized(layer, h, arrays[f"{place}.gamma"], arrays.get(f"{place}.beta"))
    if layer["kind"] == "Residual":
        y, shortcut = h, h
        for number, inner in enumerate(layer["layers"]):
            y = one(inner, arrays, f"{place}.{number}", y)
        for number, inner in enumerate(layer["shortcut"]):
            shortcut = one(inner, arrays, f"{place}.shortcut.{number}", shortcut)
        return y + shortcut
    if layer["kind"][-2:] in ("1D", "2D"):
        return windowed(layer, h.movedim(-1, 1), W, b).movedim(1, -1)
    return ACTIVATIONS[layer["kind"]](h, **options)


def normalized(layer, h, gamma, beta):
    kind, eps = layer["kind"], layer["eps"]
    if kind == "LayerNorm":
        return F.layer_norm(h, h.shape[-1:], gamma, beta, eps)
    if kind == "RMSNorm":
        return F.rms_norm(h, h.shape[-1:], gamma, eps)
    h = h.movedim(-1, 1)
    if kind == "GroupNorm":
        return F.group_norm(h, layer["groups"], gamma, beta, eps).movedim(1, -1)
    if h.numel() == h.shape[1]:  # one place a channel, which PyTorch refuses: the variance is 0
        return (0.0 * h + beta.reshape(h[:1].shape)).movedim(1, -1) + 0.0 * gamma
    return F.batch_norm(h, None, None, gamma, beta, training=True, eps=eps).movedim(1, -1)


def windowed(layer, h, W, b):
    """Return a convolution or pool of (B, C, H, W) or (B, C, L)."""
    kind, axes = layer["kind"][:-2], tuple(range(2, h.ndim))
    if kind == "GlobalAveragePool":
        return h.mean(axes)
    if kind != "Conv":
        pool = getattr(F, {"MaxPool": "max_pool", "AveragePool": "avg_pool"}[kind] + layer["kind"][-2:].lower())
        return pool(h, layer["size"], layer["stride"])
    size, stride, padding = (
        v if isinstance(v, tuple) else (v,) * len(axes) for v in (layer["size"], layer["stride"], layer["padding"])
    )
    around = []
    for n, k, s, p in zip(h.shape[2:], size, stride, padding, strict=True):
        zeros = max((-(-n // s) - 1) * s + k - n, 0)
        around = [*{"same": (zeros // 2, zeros - zeros // 2), "valid": (0, 0)}.get(p, (p, p)), *around]
    convolve = F.conv1d if len(axes) == 1 else F.conv2d
    return convolve(F.pad(h, around).contiguous(), W.movedim((-1, -2), (0, 1)).contiguous(), b, stride)


def gradients(config, params, x, t, weight=None, masks=None):
    """Return `(value, {name: gradient})`, the input's under the name "x"."""
    arrays = {name: torch.tensor(p, requires_grad=True) for name, p in {**params, "x": x}.items()}
    h, penalty = arrays["x"], torch.zeros((), dtype=torch.float64)
    for number, layer in enumerate(config["layers"]):
        h = one(layer, arrays, f"{number}", h, (masks or {}).get(number))
    for name, p in arrays.items():
        if name != "x" and (name.endswith(".W") or config["penalize_biases"]):
            penalty = penalty + config["l1"] * p.abs().sum() + config["l2"] / 2 * p.square().sum()
    losses = sample_losses(y=h, t=torch.tensor(t), **config["loss"])
    weight = torch.ones(len(x), dtype=torch.float64) if weight is None else torch.tensor(weight)
    value = (losses * weight).sum() / weight.sum() + penalty
    value.backward()
    return value.item(), {name: p.grad.numpy() for name, p in arrays.items()}
