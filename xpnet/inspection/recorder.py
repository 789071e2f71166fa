"""Recording how a network learns: sizes of activations, deltas, parameters and gradients, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from xpnet.errors import ConfigError, UnknownNameError, closest
from xpnet.inspection.probe import Probe
from xpnet.layers.shapes import every_layer
from xpnet.model.core import Model
from xpnet.training.callbacks import Callback
from xpnet.training.run import Run
from xpnet.training.trainer import Trainer
from xpnet.typing import Array, HostArray
from xpnet.validation import check_flag, check_size


class Curves(NamedTuple):
    """How one quantity went, each an array (R,) with a number for each record.

    Attributes
    ----------
    mean, spread : array
        Mean and standard deviation of the entries.
    rms, largest : array
        Root of the mean square, and largest absolute value.
    zeros : array
        Share of entries that are exactly 0.
    """

    mean: HostArray
    spread: HostArray
    rms: HostArray
    largest: HostArray
    zeros: HostArray


def default_every(trainer: Trainer) -> int:
    """Return how often to record so that it takes less than a twentieth of the time, a function of sizes alone.

    Measured with NumPy on one core, steps compiled by the extra ``fast``: a step takes about 0.6 microseconds a layer
    and its matrix products, a record 60 microseconds a layer and two and a half steps. So 37 to 44 steps for each step
    that a record is worth keep it at 2 to 3 %. Steps that are not compiled take longer, and recording a smaller share.
    """
    products = 6e-5 * trainer.net.parameter_count * trainer.feed.batch_size  # microseconds at 100 GFLOP/s
    calls = 0.6 * len(list(every_layer(trainer.net.layers, trainer.net.input_shape)))
    extra: int = round(3700.0 * calls / (calls + products))
    return 110 + extra


class Recorder(Callback):
    """Callback that records per-layer statistics before the first step and after every `every` steps.

    A record is one more training step from where the training is, with the same samples each time (as many as a batch
    has, chosen by the network's seed), whose result is looked at and thrown away: the training itself is not touched,
    and gives the same numbers as without the recorder. The numbers stay on the device until somebody reads them, so
    that the host never waits for a device because of a record.

    ``recorder["0.delta"]`` are the `Curves` of the delta of layer 0. The names of the quantities of layer k are:
    ``k.y`` (its output), ``k.delta`` (dL/dy), and for each parameter ``k.W`` and ``k.dW``, the gradient as the
    optimizer gets it, penalties included and clipped; ``k.mean`` and the like, its running statistics. Those of the
    first layer inside of layer 3 begin with ``3.0.``.

    Parameters
    ----------
    every : int, optional
        Steps from one record to the next. By default it is chosen by `default_every` so that recording takes less
        than a twentieth of the training's time: 3810 steps for the smallest networks, down to 110 for large ones.
    parameters : bool
        Keep the parameters themselves of each record, too, and the running statistics: P numbers and more each time, on
        the device. The pictures of single weights, and of decisions as they change, need them.

    Attributes
    ----------
    steps : array (R,)
        The number of training steps done before each record.
    names : list of str
        The quantities.

    Examples
    --------
    >>> import xpnet
    >>> x, t = xpnet.datasets.xor()
    >>> net, recorder = xpnet.mlp([2, 4, 2], activation="tanh"), xpnet.Recorder(every=50)
    >>> history = net.fit(x, t, epochs=200, batch_size=4, callbacks=[recorder], verbose=False)
    >>> recorder.steps.tolist()
    [0, 50, 100, 150, 200]
    >>> recorder["0.delta"].rms.shape
    (5,)
    """

    looks = False

    def __init__(self, every: int | None = None, *, parameters: bool = False) -> None:
        self.every = self._asked = None if every is None else check_size("Recorder: every", every)
        self.keep_parameters = check_flag("Recorder: parameters", parameters)
        self._forget()

    def _forget(self) -> None:
        self._steps: list[int] = []
        self._rows: list[Array] = []  # on the device, like the parameters
        self._thetas: list[Array] = []
        self._states: list[dict[str, Array]] = []
        self._probe: Probe | None = None

    def __repr__(self) -> str:
        if self._probe is None:
            return f"Recorder(every={self._asked}, parameters={self.keep_parameters})"
        names = f"{', '.join(self.names[:3])}, ..." if len(self.names) > 3 else ", ".join(self.names)
        return f"<Recorder of {len(self._steps)} records, one each {self.every} steps, of {names}>"

    # ------------------------------------------------------------------------------- what was recorded

    @property
    def steps(self) -> HostArray:
        """The number of training steps done before each record."""
        return np.asarray(self._steps, dtype=np.int64)

    @property
    def net(self) -> Any:
        """The network whose training was recorded, as it is now."""
        return self._recorded().net

    @property
    def names(self) -> list[str]:
        """The names of the quantities."""
        return list(self._recorded().sizes)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, name: str) -> Curves:
        curves = self._read()[0]
        if name not in curves:
            raise UnknownNameError(f"{name!r} was not recorded; names are {', '.join(curves)}.{closest(name, curves)}")
        mean, rms, largest, zeros = curves[name].T
        return Curves(mean, np.sqrt(np.maximum(rms**2 - mean**2, 0.0)), rms, largest, zeros)

    def update_ratio(self, name: str) -> HostArray:
        """Return |update| / |parameter| of the parameter `name`, for instance "0.W": Euclidean norms, (R,).

        The update is that of the recorded step, by the optimizer. A parameter of norm 0 gives NaN.
        """
        curves, updates = self._read()
        if name not in updates:
            raise UnknownNameError(f"{name!r} is no parameter; names are {', '.join(updates)}.{closest(name, updates)}")
        norm = curves[name][:, 1] * sqrt(self._recorded().sizes[name])
        return np.divide(updates[name], norm, out=np.full(len(norm), np.nan), where=norm > 0)  # type: ignore[no-any-return]

    def parameters(self, name: str) -> HostArray:
        """Return the values of the parameter `name` at each record, of shape (R, ...)."""
        net, thetas = self._kept()
        for p in net.layout.places:
            if p.key == name:
                return np.stack([net.backend.to_numpy(theta[p.start : p.stop]).reshape(p.shape) for theta in thetas])
        raise UnknownNameError(f"{name!r} is no parameter; names are {', '.join(net.parameters)}")

    def network(self, record: int) -> Any:
        """Return a copy of the network as it was at a record, counted from 0 or, if negative, from the end."""
        net, thetas = self._kept()
        clone = net.copy()
        with net.backend.active():
            clone.theta[...] = thetas[record]
            for name, value in self._states[record].items():
                clone.state[name][...] = value
        return clone

    def _kept(self) -> tuple[Model, list[Array]]:
        net = self._recorded().net
        if not self.keep_parameters:
            raise ConfigError("the parameters were not kept; use Recorder(parameters=True)")
        return net, self._thetas

    def _recorded(self) -> Probe:
        if self._probe is None:
            raise ConfigError("nothing was recorded yet; give the recorder to fit: net.fit(..., callbacks=[recorder])")
        return self._probe

    def _read(self) -> tuple[dict[str, HostArray], dict[str, HostArray]]:
        """Return all curves and updates on the host; this is where the device is waited for."""
        return self._recorded().read(self._table())

    def _table(self) -> HostArray:
        """Return all records (R, numbers) on the host."""
        backend = self._recorded().net.backend
        with backend.active():
            table: HostArray = backend.to_numpy(backend.xp.stack(self._rows))
        return table

    # --------------------------------------------------------------------------------------- recording

    def on_begin(self, run: Run) -> None:
        self._forget()
        self.every = default_every(run.trainer) if self._asked is None else self._asked
        self._probe = Probe(run.trainer)
        self._record(run)

    def on_steps(self, run: Run) -> None:
        self._record(run)

    def on_exception(self, run: Run, error: BaseException) -> None:
        kept = sum(step <= run.step for step in self._steps)  # later ones are of steps that were undone
        for records in (self._steps, self._rows, self._thetas, self._states):
            del records[kept:]

    def _record(self, run: Run) -> None:
        xp, backend = run.net.backend.xp, run.net.backend
        with backend.active():
            self._rows.append(xp.asarray(self._recorded()(), copy=True))
            if self.keep_parameters:
                self._thetas.append(xp.asarray(run.net.theta, copy=True))
                self._states.append({name: xp.asarray(a, copy=True) for name, a in run.net.state.items()})
        self._steps.append(run.step)

    def get_state(self) -> dict[str, Any]:
        backend, thetas = self._recorded().net.backend, [*self._thetas]
        state: dict[str, Any] = {"steps": self.steps, "records": self._table()}
        if self.keep_parameters:
            state["parameters"] = np.stack([backend.to_numpy(theta) for theta in thetas])
            for name in self.net.state:
                state[name] = np.stack([backend.to_numpy(kept[name]) for kept in self._states])
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        asarray, steps = self._recorded().net.backend.asarray, state["steps"]
        wanted = {name: (a.dtype, (steps.size, *a.shape[1:])) for name, a in self.get_state().items()}
        if not steps.size or {name: (a.dtype, a.shape) for name, a in state.items()} != wanted:
            raise ValueError(f"{steps.size} records, which must have {wanted!r:.200}")
        if steps[0] < 0 or steps[-1] > self._recorded().trainer.step or not (steps[1:] > steps[:-1]).all():
            raise ValueError(f"records of the impossible steps {steps}")
        self._steps, self._rows = steps.tolist(), [asarray(row) for row in state["records"]]
        self._thetas = [asarray(theta) for theta in state.get("parameters", ())]
        kept = [name for name in self.net.state if name in state]
        self._states = [{name: asarray(state[name][r]) for name in kept} for r in range(len(self._thetas))]
