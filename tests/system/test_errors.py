import pickle

import pytest

from system.errors import DataError, UserError, name_flag

ERROR = DataError("a.mat", "2 cubes in it {x}", "name the array by {key}")


def test_parameters_become_flags_on_the_command_line():
    assert str(ERROR) == "a.mat: 2 cubes in it {x}; name the array by key"
    assert ERROR.format_for_command_line() == "a.mat: 2 cubes in it {x}; name the array by --key"


def test_errors_survive_pickling():
    back = pickle.loads(pickle.dumps(ERROR))
    assert (back.path, back.what, back.remedy) == (ERROR.path, ERROR.what, ERROR.remedy)


def raised_below(flag, path):
    with pytest.raises(UserError) as caught, name_flag(flag, path):
        raise ERROR
    return caught.value


def test_flag_is_named_if_its_path_fails():
    assert str(raised_below("raw_dir", "a.mat")) == "--raw_dir a.mat: 2 cubes in it {x}; name the array by --key"
    assert raised_below("raw_dir", "b.mat") is ERROR


def test_absent_flag_is_not_named():
    with pytest.raises(DataError), name_flag("raw_dir", ""):
        raise DataError(".", "the folder is empty", "check the path")
