"""JAX: a jitted step called from Python, or a whole epoch as one `lax.scan`; every buffer is donated."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from networks import Array, Weights, with_weights
from workloads import Workload

from systems.base import NotMeasured, System
from systems.jax_layers import apply

Tree = Any
# Places in the state: parameters, slots, rate, count, batch number, sum of losses, running statistics.
RATE, AT, TOTAL, RUNNING = 2, 4, 5, 6


def network(workload: Workload, params: Tree, running: Tree, x: Any) -> Any:
    """The outputs of the network for rows x."""
    return apply(workload.network, iter(params), iter(running), x, False)[0]


def loss_of(workload: Workload, params: Tree, running: Tree, x: Any, t: Any) -> tuple[Any, Tree]:
    """The mean loss over rows x, and the running statistics after them."""
    y, running = apply(workload.network, iter(params), iter(running), x, True)
    if workload.loss == "squared_error":
        return jnp.mean((y - t) ** 2), running
    log_p = jax.nn.log_softmax(y)
    return -jnp.mean(jnp.take_along_axis(log_p, t[:, None], axis=1, mode="clip")), running


def update(workload: Workload, params: Tree, slots: Tree, grads: Tree, rate: Any, count: Any) -> tuple[Tree, Tree]:
    """One step of the workload's optimizer; `count` is 1 in the first step."""
    tree = jax.tree.map
    if workload.optimizer == "sgd":
        return tree(lambda p, g: p - rate * g, params, grads), slots
    if workload.optimizer == "momentum":
        v = tree(lambda v, g: 0.9 * v + g, slots[0], grads)
        return tree(lambda p, v: p - rate * v, params, v), (v,)
    m = tree(lambda m, g: 0.9 * m + 0.1 * g, slots[0], grads)
    v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, slots[1], grads)
    c1, c2 = 1 - 0.9**count, 1 - 0.999**count
    return tree(lambda p, m, v: p - rate * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), params, m, v), (m, v)


class Jax(System):
    """The data is on the device, which also picks the batch; the host sends one permutation an epoch."""

    def __init__(self, threads: int, tf32: bool, scan: bool, device: str) -> None:
        super().__init__(threads, tf32)
        try:
            self._device = jax.devices(device)[0]
        except RuntimeError as error:
            raise NotMeasured(f"this JAX has no {device} device") from error
        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if tf32 else "float32")
        self.scan = scan
        self._state: Tree

    def versions(self) -> dict[str, str]:
        return {"jax": jax.__version__, "jaxlib": jax.lib.__version__}

    @property
    def unit(self) -> int:
        return self.workload.batches if self.scan else 1

    def adapt(self, workload: Workload) -> tuple[Workload, str]:
        if workload.layers and self.scan and self._device.platform == "cpu":
            raise NotMeasured("within a scan XLA's convolutions on a CPU take many times as long as alone")
        return workload, ""

    def load(self, workload: Workload, x: Array, t: Array, weights: Weights, seed: int) -> None:
        self.workload = workload
        self._rng = np.random.default_rng(seed)
        self._x, self._t = jax.device_put(x, self._device), jax.device_put(t.astype(_narrow(t)), self._device)
        B = workload.batch

        def step(state: Tree, order: Any, x: Any, t: Any) -> Tree:
            params, slots, rate, count, at, total, running = state
            picked = jax.lax.dynamic_slice(order, (at * B,), (B,))
            xb, tb = (jnp.take(a, picked, axis=0, mode="clip") for a in (x, t))
            differentiate = jax.value_and_grad(partial(loss_of, workload), has_aux=True)
            (loss, running), grads = differentiate(params, running, xb, tb)
            params, slots = update(workload, params, slots, grads, rate, count + 1.0)
            return params, slots, rate, count + 1.0, at + 1, total + loss, running

        def epoch(state: Tree, order: Any, x: Any, t: Any) -> Tree:
            return jax.lax.scan(lambda s, _: (step(s, order, x, t), None), state, None, length=workload.batches)[0]

        self._step = jax.jit(epoch if self.scan else step, donate_argnums=0)
        self._network = jax.jit(partial(network, workload))
        self.reset(weights)

    def set_weights(self, weights: Weights) -> None:
        copies = [tuple(p.copy() for p in own) for own in weights]
        self._state = (jax.device_put(copies, self._device), *self._state[1:])

    def reset(self, weights: Weights) -> None:
        slots = {"sgd": 0, "momentum": 1, "adam": 2}[self.workload.optimizer]
        zeros = tuple([tuple(np.zeros_like(p) for p in own) for own in weights] for _ in range(slots))
        copies, rate = [tuple(p.copy() for p in own) for own in weights], np.float32(self.workload.learning_rate)
        norms = [layer[1] for layer in with_weights(self.workload.network) if layer[0] == "norm"]
        running = [(np.zeros(n, np.float32), np.ones(n, np.float32)) for n in norms]
        state = (copies, zeros, rate, np.float32(0), np.int32(0), np.float32(0), running)
        self._state = jax.device_put(state, self._device)
        self._left = 0

    def set_rate(self, rate: float) -> None:
        self._set(RATE, np.float32(rate))

    def _set(self, index: int, value: Any) -> None:
        state = list(self._state)
        state[index] = jax.device_put(value, self._device)
        self._state = tuple(state)

    def run(self, steps: int) -> None:
        step, x, t = self._step, self._x, self._t
        self._set(TOTAL, np.float32(0))
        for _ in range(steps // self.unit):
            if self._left == 0:
                order = self._rng.permutation(self.workload.rows).astype(np.int32)
                self._order, self._left = jax.device_put(order, self._device), self.workload.batches
                self._set(AT, np.int32(0))
            self._state = step(self._state, self._order, x, t)
            self._left -= self.unit
        self._steps = steps
        jax.block_until_ready(self._state)

    def loss(self) -> float:
        return float(self._state[TOTAL]) / self._steps

    def weights(self) -> Weights:
        return [tuple(np.asarray(p) for p in own) for own in self._state[0]]

    def put(self, x: Array) -> Any:
        return jax.device_put(x, self._device)

    def forward(self, x: Any) -> Any:
        return self._network(self._state[0], self._state[RUNNING], x)

    def predict(self, x: Any, chunk: int) -> list[Any]:
        outputs = super().predict(x, chunk)
        jax.block_until_ready(outputs)
        return outputs


def _narrow(t: Array) -> type:
    return np.int32 if t.dtype.kind == "i" else np.float32
