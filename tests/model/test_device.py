"""A device that is not the current one: every public call makes it so, and leaves the user's errors as they were."""

import pickle

import numpy as np
import pytest
from guarded import GuardedBackend, Refused

import xpnet

X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
T = np.arange(40) % 3


@pytest.fixture
def net():
    return xpnet.mlp([5, 8, 3], dropout=0.1, l1=1e-3, l2=1e-3, backend=GuardedBackend())


@pytest.fixture(params=[False, True], ids=["from the host", "on the device"])
def data(request, net):
    return tuple(net.backend.asarray(a) for a in (X, T, np.ones(40))) if request.param else (X, T, np.ones(40))


def test_the_stand_in_refuses_work_outside(net):
    with pytest.raises(Refused):
        net.theta.sum()
    with pytest.raises(Refused):
        net.theta[...] = 0.0
    with net.backend.active():
        net.theta[...] = np.exp(net.theta)


def test_using_a_network(net, data, tmp_path):
    x, t, weight = data
    net.forward(x), net.predict(x), net.predict_proba(x), net.evaluate(x, t, weight), net.gradients(x, t, weight)
    str(net.trace(x, t, weight)), net.explain(), net.summary(), repr(net), net.copy(), net.to("numpy")
    net.set_parameters({"0.b": np.ones(8)})
    net.save(tmp_path / "net.safetensors")
    xpnet.load(tmp_path / "net.safetensors", backend=net.backend).predict(x)
    pickle.loads(pickle.dumps(net)).predict(x)
    assert xpnet.check_gradients(net, X[:4], T[:4]).passed


@pytest.mark.parametrize("precision", [None, "float16"])
def test_training(net, data, tmp_path, precision):
    x, t, weight = data
    for epochs, resume in ((2, False), (4, True)):
        recorder = xpnet.Recorder(every=2, parameters=True)
        net.fit(
            x, t, epochs=epochs, batch_size=16, averaging=0.9, validation_split=0.2, sample_weight=weight,
            verbose=False, callbacks=[xpnet.EarlyStopping(patience=9), recorder, lambda run: run.net.theta.sum()],
            checkpoint=tmp_path / "run.safetensors", checkpoint_every=1, resume=resume, precision=precision,
        )  # fmt: skip
        assert recorder["0.delta"].rms.all()
        assert recorder.network(-1).predict(x).shape == (40,)
        assert recorder.parameters("0.W").shape[1:] == (5, 8)
    trainer = xpnet.Trainer(net, "adam", x, t, batch_size=7, averaging=0.5, precision=precision)
    trainer.run(9)
    trainer.restore(*trainer.export())
    assert trainer.advance(1) == trainer.mean_loss()
    assert trainer.loss_scale >= 1.0
    assert trainer.skipped_steps >= 0


def test_divergence(net, data):
    with pytest.raises(xpnet.errors.NonFiniteError, match="layer"):
        net.fit(data[0], data[1], optimizer=xpnet.SGD(1e30), epochs=2, verbose=False)


def test_callbacks_hear_warnings_as_anywhere_else():
    def divide(run):
        np.ones(1) / np.zeros(1)

    with pytest.warns(RuntimeWarning, match="divide by zero"):
        xpnet.mlp([5, 3]).fit(X, T, epochs=1, verbose=False, callbacks=divide)
