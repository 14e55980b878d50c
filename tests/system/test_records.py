import pytest

from system.records import SCALAR, Field

RUN = Field(
    dict,
    fields={
        "count": Field(int, 1, 9),
        "mean": Field(float, -5, 5, is_finite=False),
        "names": Field(list, 2, 2, items=Field(str)),
        "config": Field(dict, items=Field(SCALAR)),
        "kind": Field(str, choices=("a", "b"), is_optional=True),
    },
)
SOUND = {"count": 3, "mean": 1, "names": ["x", "y"], "config": {"seed": 1, "title": None}}


@pytest.mark.parametrize(
    "changes",
    [{}, {"mean": float("inf")}, {"mean": float("nan")}, {"kind": "b"}, {"kind": None}, {"count": 9}, {"other": 3}],
)
def test_possible_records_are_accepted(changes):
    RUN.check({**SOUND, **changes})
    assert RUN.is_possible({**SOUND, **changes})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"count": 0}, "count is 0, not a whole number from 1 to 9"),
        ({"count": 10**400}, "count is 1000"),
        ({"count": 2.0}, "count is 2.0, not a whole number"),
        ({"count": True}, "count is True, not a whole number"),
        ({"mean": 5.5}, "mean is 5.5, not a number from -5 to 5"),
        ({"mean": False}, "mean is False, not a number"),
        ({"names": ["x"]}, "names is .* not a list of length from 2 to 2"),
        ({"names": ["x", 3]}, "item 1 of names is 3, not text"),
        ({"config": {"seed": [1]}}, "seed of config is .* not text or a number"),
        ({"config": {3: 1}}, "the key 3 of config is not text"),
        ({"kind": "c"}, "kind is 'c', not a or b"),
        ({"kind": []}, "kind is .*, not a or b"),
    ],
)
def test_the_first_impossible_entry_is_named(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        RUN.check({**SOUND, **changes})
    assert not RUN.is_possible({**SOUND, **changes})


def test_a_missing_entry_is_named():
    with pytest.raises(ValueError, match="count is missing"):
        RUN.check({})
    with pytest.raises(ValueError, match=r"the record is \[1\], not a mapping"):
        RUN.check([1])
