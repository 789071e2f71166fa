"""Tables with named columns."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

import xpnet
from xpnet.errors import DataError, DTypeError
from xpnet.estimators import MLPClassifier
from xpnet.model.frames import as_numbers, columns_of


def table():
    return pd.DataFrame(
        {
            "age": [1.5, 2.0, 3.0],
            "visits": pd.array([1, 2, 3], dtype="Int64"),
            "paid": [True, False, True],
            "asked": pd.array([True, True, False], dtype="boolean"),
        }
    )


def test_numbers_booleans_and_nullable_integers_of_a_table_are_taken():
    x, t = table(), pd.Series([0, 1, 1], dtype="Int64")
    net, reference = xpnet.mlp([4, 2]), xpnet.mlp([4, 2])
    net.fit(x, t, epochs=2, batch_size=3, verbose=False)
    reference.fit(x.astype("float64").to_numpy(), [0, 1, 1], epochs=2, batch_size=3, verbose=False)
    assert_array_equal(net.theta, reference.theta)
    assert_array_equal(net.predict(x), reference.predict(x.astype("float64").to_numpy()))


@pytest.mark.parametrize("dtype", ["str", "category", "object"])
def test_a_column_of_something_else_is_named_with_the_cure(dtype):
    x = table().assign(city=pd.Series(["a", "b", "a"], dtype=dtype))
    with pytest.raises(DTypeError, match=rf"x: column 'city' has dtype {dtype}.*get_dummies\(x, columns=\['city'\]\)"):
        xpnet.mlp([5, 2]).predict(x)


def test_columns_of_something_else_are_counted():
    x = table().assign(city="a", street="b", house="c")
    with pytest.raises(DTypeError, match=r"x: column 'city' has dtype \w+ \(and 2 more such columns\); expected"):
        xpnet.mlp([7, 2]).predict(x)
    with pytest.raises(DTypeError, match=r"x: column 'city' has dtype \w+; expected"):
        xpnet.mlp([5, 2]).predict(x[["age", "visits", "paid", "asked", "city"]])


def test_missing_values_are_named_by_their_column():
    x = table()
    x.loc[1, "visits"] = pd.NA
    with pytest.raises(DataError, match=r"x\[1, 'visits'\] is not finite"):
        xpnet.mlp([4, 2]).predict(x)
    x = table().assign(age=[1.0, np.inf, 2.0])
    with pytest.raises(DataError, match=r"contains inf: x\[1, 'age'\]"):
        xpnet.mlp([4, 2]).predict(x)


class Column:
    """A column as polars and Arrow have it: NumPy makes objects of booleans with gaps."""

    def __init__(self, name, values, dtype):
        self.name, self.values, self.dtype = name, values, dtype

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype=object if None in self.values else None)


class Table:
    def __init__(self, *columns):
        self.all = columns

    def __array__(self, dtype=None, copy=None):
        return np.stack([np.asarray(c, dtype=object) for c in self.all], axis=1)


class PolarsLike(Table):
    def get_columns(self):
        return list(self.all)


class ArrowLike(Table):
    @property
    def column_names(self):
        return [c.name for c in self.all]

    def column(self, k):
        return self.all[k]


@pytest.mark.parametrize("kind", [PolarsLike, ArrowLike])
def test_tables_of_other_libraries_are_read_by_what_they_can_do(kind):
    x = kind(Column("n", [1, 2], "Int64"), Column("ok", [True, None], "Boolean"))
    assert [name for name, _ in columns_of(x)] == ["n", "ok"]
    assert_array_equal(as_numbers("x", x, np.asarray(x)), [[1.0, 1.0], [2.0, np.nan]])
    bad = kind(Column("n", [1, 2], "Int64"), Column("city", ["a", "b"], "String"))
    with pytest.raises(DTypeError, match="column 'city' has dtype String"):
        as_numbers("x", bad, np.asarray(bad))


@pytest.fixture
def pl():
    return pytest.importorskip("polars", reason="polars is in the extra test, and an optional import of users")


@pytest.fixture
def pa():
    return pytest.importorskip("pyarrow", reason="pyarrow is in the extra test, and an optional import of users")


def test_tables_of_polars_and_arrow_train_as_their_numbers_do(pl, pa):
    columns = {"age": [1.5, 2.0, 3.0], "visits": [1, 2, 3], "paid": [True, False, True]}
    theta = []
    for x, t in (
        (pd.DataFrame(columns).astype("float64").to_numpy(), [0, 1, 1]),
        (pl.DataFrame(columns), pl.Series([0, 1, 1])),
        (pa.table(columns), pa.array([0, 1, 1])),
        (pd.DataFrame(columns).convert_dtypes(dtype_backend="pyarrow"), pd.Series([0, 1, 1], dtype="int64[pyarrow]")),
    ):
        net = xpnet.mlp([3, 2])
        net.fit(x, t, epochs=2, batch_size=3, verbose=False)
        theta.append(net.theta)
    for other in theta[1:]:
        assert_array_equal(other, theta[0])


def test_columns_that_polars_would_make_numbers_of_are_named_instead(pl):
    day = pl.Series(["2020-01-01", "2020-01-02"]).str.to_date()
    with pytest.raises(DTypeError, match=r"x: column 'day' has dtype Date; .*x\.to_dummies\(\['day'\]\)"):
        xpnet.mlp([2, 2]).predict(pl.DataFrame({"n": [1, 2], "day": day}))
    with pytest.raises(DTypeError, match=r"x: column 'both' has dtype Struct"):
        xpnet.mlp([2, 2]).predict(pl.DataFrame({"n": [1, 2], "both": [{"u": 1}, {"u": 2}]}))
    with pytest.raises(DTypeError, match=r"x is a LazyFrame, which has no values yet; pass x.collect\(\)"):
        xpnet.mlp([2, 2]).predict(pl.LazyFrame({"n": [1, 2], "m": [1, 2]}))


def test_what_is_missing_in_polars_and_arrow_is_named_by_its_column(pl, pa):
    columns = {"n": [1.0, 2.0], "visits": [1, None]}
    with pytest.raises(DataError, match=r"x\[1, 'visits'\] is not finite"):
        xpnet.mlp([2, 2]).predict(pl.DataFrame(columns))
    with pytest.raises(DataError, match=r"column 'visits' has 1 nulls; fill or remove them first"):
        xpnet.mlp([2, 2]).predict(pa.table(columns))


def test_an_estimator_names_the_column_too():
    x = table().assign(city=["a", "b", "a"])
    with pytest.raises(ValueError, match=r"X: column 'city' has dtype .*get_dummies\(X, columns=\['city'\]\)"):
        MLPClassifier().fit(x, [0, 1, 0])
    with pytest.raises(ValueError, match=r"X contains NaN: X\[1, 'age'\] is not finite"):
        MLPClassifier().fit(table().assign(age=[1.0, np.nan, 2.0]), [0, 1, 0])


def test_rows_that_are_dicts_are_answered_with_a_table():
    with pytest.raises(DTypeError, match=r"x is a list of dict; make a table: pandas\.DataFrame\(x\)"):
        xpnet.mlp([2, 2]).predict([{"a": 1, "b": 2}])
