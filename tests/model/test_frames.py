"""Tables with named columns."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

import xpnet
from xpnet.errors import DataError, DTypeError
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
