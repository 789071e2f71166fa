"""What a prompt and a notebook show as the value of a cell."""

import re

import numpy as np
import pytest

import xpnet
from xpnet.errors import UnknownNameError


@pytest.fixture(scope="module")
def trained():
    x, t = xpnet.datasets.xor()
    net, recorder = xpnet.mlp([2, 4, 2], "tanh"), xpnet.Recorder(every=5)
    stopping = xpnet.EarlyStopping(patience=3)
    before = repr(recorder), repr(stopping)
    history = net.fit(
        x, t, epochs=10, batch_size=4, callbacks=[recorder, stopping], validation_data=(x, t), verbose=False
    )
    return net, history, recorder, stopping, before, (x, t)


def test_a_gradient_report_shows_itself_as_it_is_printed_and_as_a_table(trained):
    net, *_, (x, t) = trained
    report = xpnet.check_gradients(net, x, t)
    assert repr(report) == str(report)
    assert "ArrayReport(" not in repr(report)
    html = report._repr_html_()
    assert html.startswith("<table>")
    assert "passed: " in html
    assert html.count("<tr>") == 1 + len(report.arrays)


def test_an_explanation_is_shown_as_formulas_in_a_notebook_and_without_quotes_at_a_prompt(trained):
    net = trained[0]
    text = net.explain()
    assert isinstance(text, str)
    assert repr(text) == text == str(text)
    assert text._repr_markdown_() == net.explain("markdown") == net.explain("markdown")._repr_markdown_()
    assert "$$" in text._repr_markdown_()
    assert net.explain("latex")._repr_markdown_() is None


def test_a_history_is_a_table(trained):
    html = trained[1]._repr_html_()
    assert html.count("<tr>") == 1 + 5
    assert [*re.findall(r"<th[^>]*>(\w+)</th>", html)] == ["curve", "first", "smallest", "largest", "last"]
    assert f"{trained[1]['validation_loss'].min():.4g}" in html


def test_callbacks_say_what_they_have_seen(trained):
    _, history, recorder, stopping, before, _ = trained
    assert before == (
        "Recorder(every=5, parameters=False)",
        "<EarlyStopping on validation_loss: nothing measured yet>",
    )
    best = np.argmin(history["validation_loss"])
    assert repr(stopping).endswith(f"best {history['validation_loss'][best]:.4g} in epoch {best + 1}>")
    assert repr(xpnet.CSVLog("run.csv")) == "CSVLog('run.csv')"
    assert repr(recorder) == f"<Recorder of {len(recorder.steps)} records, one each 5 steps, of 0.y, 0.delta, 0.W, ...>"


@pytest.mark.parametrize(
    ("name", "advice"), [("val_loss", "'validation_loss'"), ("val_accuracy", "'validation_accuracy'")]
)
def test_a_curve_by_another_librarys_name_is_answered_with_ours(trained, name, advice):
    with pytest.raises(UnknownNameError, match=f"Did you mean {advice}") as caught:
        trained[1][name]
    assert str(caught.value).startswith(f"no curve is called '{name}'; recorded are loss, ")
    with pytest.raises(UnknownNameError, match="Give fit validation_data"):
        xpnet.History({"loss": [1.0]})[name]


def test_curves_keep_their_order_after_a_resumption(tmp_path):
    x, t = xpnet.datasets.xor()
    names = []
    for epochs in (2, 3):
        history = xpnet.mlp([2, 2]).fit(
            x, t, epochs=epochs, batch_size=4, validation_data=(x, t), checkpoint=tmp_path / "f", resume=True,
            verbose=False,
        )  # fmt: skip
        names.append(list(history))
    assert names[0] == names[1]
