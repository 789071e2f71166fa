"""The optimizers once more, for one number at a time, in plain Python floats, without a line of xpnet.

`minimize(options, theta, gradient, steps)` is what fifty steps of training do. `options` is a dict such as
`{"kind": "Adam", "learning_rate": 0.1, "beta1": 0.5}`.
"""

import math

DEFAULTS = {
    "SGD": {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False},
    "Adagrad": {"learning_rate": 0.01, "eps": 1e-10},
    "RMSProp": {"learning_rate": 0.001, "decay": 0.9, "eps": 1e-8},
    "Adam": {"learning_rate": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "AdamW": {"learning_rate": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01},
}
COMMON = {"weight_decay": 0.0, "clip_norm": None, "clip_value": None, "factors": ()}


def schedule(options, k):
    """The learning rate of step k = 0, 1, ..., by name."""
    kind, first = options["kind"], options.get("initial")
    if kind == "StepDecay":
        rate = first
        for _ in range(k // options["every"]):
            rate *= options["factor"]
        return rate
    if kind == "ExponentialDecay":
        return first * math.exp(math.log(options["factor"]) * k / options["steps"])
    final = options.get("final", 0.0)
    if kind == "PolynomialDecay":
        if k >= options["steps"]:
            return final
        return final + (first - final) * (1 - k / options["steps"]) ** options["power"]
    if kind == "CosineDecay":
        if k >= options["steps"]:
            return final
        return final + (first - final) * math.cos(math.pi * k / options["steps"] / 2) ** 2
    if kind == "WarmUp":
        if k < options["steps"]:
            return options["after"] * (k + 1) / options["steps"]
        return options["after"]
    if kind == "OneCycle":
        peak, last = options["peak"], options["steps"] - 1
        turn = options["rise"] * last
        if k < turn:
            low = peak / options["divide"]
            return low + (peak - low) * math.sin(math.pi / 2 * k / turn) ** 2
        low = peak / options["final_divide"]
        return low + (peak - low) * math.cos(math.pi / 2 * (min(k, last) - turn) / (last - turn)) ** 2
    raise NotImplementedError(kind)


def step(kind, o, theta, g, memory, t, rate):
    """Return the new value of one parameter. `memory` is its own dict, empty at first; t = 1, 2, ..."""
    if kind == "SGD":
        velocity = memory["velocity"] = o["momentum"] * memory.get("velocity", 0.0) + g
        return theta - rate * (g + o["momentum"] * velocity if o["nesterov"] else velocity)
    if kind == "Adagrad":
        total = memory["total"] = memory.get("total", 0.0) + g * g
        return theta - rate * g / (math.sqrt(total) + o["eps"])
    if kind == "RMSProp":
        square = memory["square"] = o["decay"] * memory.get("square", 0.0) + (1 - o["decay"]) * g * g
        return theta - rate * g / (math.sqrt(square) + o["eps"])
    first = memory["first"] = o["beta1"] * memory.get("first", 0.0) + (1 - o["beta1"]) * g
    second = memory["second"] = o["beta2"] * memory.get("second", 0.0) + (1 - o["beta2"]) * g * g
    first_hat, second_hat = first / (1 - o["beta1"] ** t), second / (1 - o["beta2"] ** t)
    return theta - rate * first_hat / (math.sqrt(second_hat) + o["eps"])


def minimize(options, theta, decayed, gradient, steps):
    """Return the parameters, a list, after `steps` steps; the first `decayed` of them decay."""
    kind = options["kind"]
    o = {**COMMON, **DEFAULTS[kind], **options}
    theta, memory = list(theta), [{} for _ in theta]
    for k in range(steps):
        rate = o["learning_rate"]
        rate = schedule(rate, k) if isinstance(rate, dict) else rate
        g = list(gradient(theta))
        if o["clip_value"] is not None:
            g = [math.copysign(min(abs(v), o["clip_value"]), v) for v in g]
        norm = math.sqrt(math.fsum(v * v for v in g))
        if o["clip_norm"] is not None and norm > o["clip_norm"]:
            g = [v * o["clip_norm"] / norm for v in g]
        theta = [p - rate * o["weight_decay"] * p if i < decayed else p for i, p in enumerate(theta)]
        theta = [step(kind, o, p, v, m, k + 1, rate) for p, v, m in zip(theta, g, memory, strict=True)]
    return theta
