"""The network as its users see it; what trains, traces and exports is imported by the method that does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from xpnet.inspection.summary import summary, summary_html
from xpnet.keywords import Whole, named_methods
from xpnet.model.core import Model
from xpnet.model.inputs import input_gradients
from xpnet.model.metrics import evaluate
from xpnet.model.predict import predict, predict_proba
from xpnet.saving.network import save
from xpnet.saving.onnx.package import USUAL
from xpnet.typing import Array, HostArray

if TYPE_CHECKING:
    from xpnet.inspection.trace import Trace
    from xpnet.optimizers import Optimizer
    from xpnet.parallel.mpi import MPI
    from xpnet.training.history import History


@named_methods
class Network(Model, Whole):
    """A feed-forward network: layers, a loss, and one flat vector of parameters.

    Parameters
    ----------
    layers : sequence of Layer
        Applied in order. A layer owns no arrays, so the same object may stand at two positions.
    loss : Loss or str
        What training makes small; a name of `xpnet.losses.LOSSES` stands for its default.
    backend : str or Backend
        The array library and device, see `xpnet.backends.get`.
    dtype : "float32" or "float64"
        Data type of the parameters and of all arithmetic.
    seed : int or None
        Every random number (initial values, shuffles, dropout) is a function of it. None draws one.
    l1, l2 : float >= 0
        The objective is loss + l1 sum |W| + l2 / 2 sum W^2 over the weights; never divided by the batch size.
    penalize_biases : bool
        Whether these penalties, and weight decay, also act on biases.
    input_shape : sequence of int, optional
        The shape of one sample, such as (28, 28, 1), where the layers do not say it: a convolution takes images of
        any height and width.

    Attributes
    ----------
    theta : array (P,)
        All parameters as one vector: first those that penalties act on, layer by layer, then the others.

    Examples
    --------
    >>> import xpnet
    >>> net = xpnet.Network([xpnet.Linear(2, 3), xpnet.Tanh(), xpnet.Linear(3, 1)], loss="mean_squared_error")
    >>> x, t = [[0, 1], [1, 0]], [[1], [0]]
    >>> history = net.fit(x, t, epochs=300, batch_size=2, optimizer=xpnet.Adam(0.02))
    >>> net.forward(x).shape, bool(net.predict(x)[0, 0] > 0.8), sorted(net.evaluate(x, t))
    ((2, 1), True, ['loss'])
    >>> loss, gradients = net.gradients(x, t)
    >>> gradients["0.W"].shape, net.trace(x, t)[0].delta.shape
    ((2, 3), (2, 3))
    >>> print(net.explain().splitlines()[2])
    y0 = x @ W0 + b0                              # (B, 3) = (B, 2) @ (2, 3) + (3,)
    """

    def fit(
        self, x: Any, t: Any = None, *, optimizer: Optimizer | str = "adam", epochs: int = 10, batch_size: int = 32,
        validation_data: tuple[Any, Any] | None = None, validation_split: float = 0.0, sample_weight: Any = None,
        class_weight: Mapping[int, float] | str | None = None, callbacks: Any = (), shuffle: bool = True,
        verbose: bool | int = True, averaging: float | None = None, checkpoint: Any = None,
        checkpoint_every: int | None = None, resume: bool = False, precision: str | None = None,
        memory: int | str | None = None, window: int | None = None, scale: float | None = None,
        metrics: Any = (), parallel: str | MPI | None = None,
    ) -> History:  # fmt: skip
        """Train by minibatch gradient descent, and return what happened.

        Each epoch goes through all samples once, in an order that depends on the network's seed, the epoch and `window`
        alone; the last batch may be smaller. The optimizer starts afresh at each call.

        Parameters
        ----------
        x : array (N, I), or what has a shape, a dtype and slices of rows, or a feed of batches
            Moved to the device once if it fits (see `memory`), in the network's data type; a table of pandas, polars or
            Arrow serves too. It is never written to; what happens if another thread changes it meanwhile is undefined.
            A feed gives an epoch's batches (x, t), each of them a step, whenever it is gone through.
        t : array, or the like of `x`
            Integer classes (N,), or rows (N, O), as the network's loss takes them; None with a feed.
        optimizer : Optimizer or str
        epochs : int >= 0
        batch_size : int >= 1
            More than N is taken as N, with a warning.
        validation_data : (x, t), optional
            Measured after each epoch.
        validation_split : float in [0, 1)
            Instead of `validation_data`: the part of the samples, chosen by the seed, that is set aside.
        sample_weight : array (N,), optional
            A batch's loss is the weighted mean of its samples' losses.
        class_weight : mapping or "balanced", optional
            Multiplies the weights of the samples of a class; 0 is no and 1 is yes under binary cross-entropy.
        callbacks : sequence of Callback or function
            A plain function ``f(run)`` is called after each epoch.
        shuffle : bool
        verbose : bool or int
            True: progress on a terminal and in a notebook, quiet elsewhere. 2: a line an epoch. False: nothing.
        averaging : float in (0, 1), optional
            Decay of an average of the parameters (see `Trainer`), which is validated, and kept in the end.
        checkpoint : path, optional
            A file that holds the whole state of the training; written after each epoch, when the training ends,
            and when an exception (also Ctrl-C) ends it.
        checkpoint_every : int, optional
            Write it after every so many steps too.
        resume : bool
            Go on from the file `checkpoint` if it is there, also in the middle of an epoch: what comes out is the
            same, to the bit, as if the training had never been interrupted.
        memory : int or str, optional
            Bytes of data on the device, such as ``"2 GB"``, half of the free memory if left out. Data that take more
            are streamed: a window of rows is trained on while a thread reads the next one.
        window : int, optional
            Rows that are shuffled together; all, or of streamed data as many as fit. A checkpoint hands it on.
        scale : float, optional
            Inputs are multiplied by it on the device; integers of one or two bytes travel, and lie there, as they are.
        precision : "float16" or "bfloat16", optional
            Compute in 16 bits where that is safe, to save a GPU's time and memory (see `xpnet.training.precision`); the
            network must be of float32, and stays so. A step whose gradient overflows is skipped, which is usual in the
            beginning; ``run.trainer.loss_scale`` and ``run.trainer.skipped_steps`` tell a callback about it.
        parallel : "mpi" or MPI, optional
            Let the processes that ``mpiexec`` has started share each step; see `xpnet.parallel.MPI`.
        metrics : str, function, or a sequence of them, optional
            Measured after each epoch on the training and the validation data: "accuracy", "auc" (by scikit-learn),
            "r2", or ``f(t, p)`` of the targets and the probabilities or values (N, O) that are predicted.

        Returns
        -------
        History
            Curves ``loss``, ``validation_loss``, ``validation_accuracy``, ``learning_rate``, ``seconds``; and of each
            metric ``name`` and ``validation_name``.

        Raises
        ------
        ConfigError, ShapeError, DTypeError, DataError, BackendMismatchError
            Before anything has changed; a DataError of streamed data when they are read: after the last whole step.
        NonFiniteError
            Training diverged; the parameters are those of the last finite step.

        Notes
        -----
        An exception that ends the training carries the history so far as its attribute ``history``.
        """
        from xpnet.parallel.mpi import shared
        from xpnet.training.fit import fit

        with shared(parallel) as workers:
            return fit(
                self, x, t, optimizer=optimizer, epochs=epochs, batch_size=batch_size, validation_data=validation_data,
                validation_split=validation_split, sample_weight=sample_weight, class_weight=class_weight,
                callbacks=callbacks, shuffle=shuffle, verbose=verbose, averaging=averaging, checkpoint=checkpoint,
                checkpoint_every=checkpoint_every, resume=resume, precision=precision, memory=memory, window=window,
                scale=scale, metrics=metrics, workers=workers,
            )  # fmt: skip

    def predict(
        self, x: Any, *, batch_size: int | None = None, allow_nonfinite: bool = False, out: Any = None,
        scale: float | None = None,
    ) -> HostArray:  # fmt: skip
        """Return class labels (B,) under a classification loss, else values (B, O), as a NumPy array.

        Under binary cross-entropy labels are 0 or 1: (B,) for one output, (B, O) for several. A network with `labels`,
        such as one that a classifier saved, answers with those.

        Parameters
        ----------
        x : array (B, I), or anything with a shape, a dtype and slices of rows, which are read some at a time
        batch_size : int, optional
            Rows computed at a time; it limits memory only. By default as many as suit the network and the backend.
        allow_nonfinite : bool
            Whether rows with NaN or infinities may come in. They give NaN values, and the label -1.
        out : array, optional
            Where the answers are written as they come, and which is returned: a `numpy.memmap`, for example.
        scale : float, optional
            What the inputs are multiplied by, as in `fit`.
        """
        return predict(self, x, batch_size=batch_size, allow_nonfinite=allow_nonfinite, out=out, scale=scale)

    def predict_proba(
        self, x: Any, *, batch_size: int | None = None, allow_nonfinite: bool = False, out: Any = None,
        scale: float | None = None,
    ) -> HostArray:  # fmt: skip
        """Return class probabilities (B, O), whose rows sum to 1, as a NumPy array.

        Under binary cross-entropy with one output the columns are those of 0 and of 1, with several each is the
        probability of that output's yes. See `predict` for the parameters.
        """
        return predict_proba(self, x, batch_size=batch_size, allow_nonfinite=allow_nonfinite, out=out, scale=scale)

    def evaluate(
        self, x: Any, t: Any, sample_weight: Any = None, *, batch_size: int | None = None, scale: float | None = None,
        metrics: Any = (),
    ) -> dict[str, float]:  # fmt: skip
        """Return {"loss": ...} without penalties, "accuracy" under a classification loss, and `metrics` as for `fit`.

        With several yes-or-no outputs a sample is right if all its outputs are. Data are as for `fit`. Where an output
        is not a number, there is no accuracy either: a NonFiniteError.
        """
        return evaluate(self, x, t, sample_weight, batch_size=batch_size, metrics=metrics, scale=scale)

    def input_gradients(self, x: Any, t: Any = None, *, output: int | None = None) -> Array:
        """Return how each sample's loss, or one of its outputs, depends on its own input: dL/dx, of the shape of x.

        Row b is the derivative by x[b] of sample b's loss, without penalties, or of y[b, output], in inference.

        Parameters
        ----------
        x : array (B, I)
        t : array, optional
            Targets in the form that the loss takes.
        output : int, optional
            Instead of targets: the number of an output, such as the logit of a class.
        """
        return input_gradients(self, x, t, output)

    def trace(self, x: Any, t: Any, sample_weight: Any = None, *, training: bool = False, step: int = 0) -> Trace:
        """Return every layer's input, output, delta and parameter gradients for one batch; see `Trace`."""
        from xpnet.inspection.trace import trace

        return trace(self, x, t, sample_weight, training=training, step=step)

    def explain(self, format: str = "text") -> str:
        """Return the delta rule of this network, layer by layer.

        Parameters
        ----------
        format : "text", "markdown" or "latex"
        """
        from xpnet.inspection.explain import explain

        return explain(self, format)

    def save(self, path: Any) -> None:
        """Write the network to a safetensors file, which `xpnet.load` reads and which cannot run code."""
        save(self, path)

    def to_onnx(
        self, path: Any, batch: int | None = None, *, dtype: str | None = None, opset: int = USUAL,
        parameters_as_input: bool = False,
    ) -> None:  # fmt: skip
        """Write the network, as it is outside of training, to an ONNX file, which other programs run.

        Layers are operators of the standard, or their recorded forward pass. The input is ``x`` (B, ...), outputs are
        ``label`` (B,) and ``probabilities`` (B, O), as `predict` and `predict_proba` return them, or under a loss of
        regression ``variable`` (B, O); and ``y``, what `forward` returns. The file also says how it came about.

        Parameters
        ----------
        path : str or path
            By custom it ends with ``.onnx``.
        batch : int, optional
            The number B of samples, if it shall be fixed; any by default.
        dtype : "float32" or "float64", optional
            By default the network's. In float64 onnxruntime has fewer operators; others are written out.
        opset : int
            The version of the standard's operators, 18 or newer.
        parameters_as_input : bool
            Whether ``theta``, all parameters as one vector, and the running statistics ``state.1.mean`` and so on are
            inputs too, as in `xpnet.saving.export_training`.

        Raises
        ------
        ExportError
            A layer cannot be exported: which, where it stands, and what is missing.
        ConfigError, DTypeError
            An opset or a data type that is not there.
        BackendUnavailableError
            The package onnx is missing; ``pip install "xpnet[onnx]"``.
        CheckpointIOError
            The system refused to write; an old file is as it was.
        """
        from xpnet.saving.onnx.inference import to_onnx

        to_onnx(self, path, batch, dtype, opset, parameters_as_input)

    def __repr__(self) -> str:
        inner = ", ".join(map(repr, self.layers))
        shape = f", input_shape={self.input_shape}" if self.given_shape else ""
        return f"Network([{inner}], loss={self.loss!r}, backend={self.backend.name!r}, dtype={self.dtype!r}{shape})"

    def summary(self) -> str:
        """Return a table of the layers, their output shapes and parameters."""
        return summary(self)

    __str__ = summary

    def _repr_html_(self) -> str:
        return summary_html(self)
