"""The page about migration: its programs run, and its table has every parameter with its default."""

import re
from pathlib import Path

import pytest
from sklearn import neural_network

from xpnet.estimators import MLPClassifier, MLPRegressor

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "migration.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_its_programs_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    programs = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert len(programs) == 5
    names = {}
    for program in programs:
        exec(compile(program, "docs/migration.md", "exec"), names)
    assert (tmp_path / "digits.safetensors").exists()
    assert "delta" in capsys.readouterr().out


def test_its_table_has_every_parameter_with_its_default():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \| ", PAGE, flags=re.MULTILINE))
    classifier, regressor = MLPClassifier().get_params(), MLPRegressor().get_params()
    assert set(rows) == set(classifier) | set(regressor)
    for name, shown in rows.items():
        defaults = {repr(p[name]).replace("'", '"') for p in (classifier, regressor) if name in p}
        assert set(re.findall(r"`(.*?)`", shown)) == defaults, name
    new = {name for name in rows if re.search(rf"^\| `{name}` \| .*? \| new", PAGE, flags=re.MULTILINE)}
    known = set(neural_network.MLPClassifier().get_params()) | set(neural_network.MLPRegressor().get_params())
    assert new == set(rows) - known
