"""Parts remember their arguments."""

from qieemo_sb.rebuild import Rebuildable


class Scale(Rebuildable):
    def __init__(self, size, gain=1.0, *, bias=None):
        super().__init__()
        self.size = size + 1  # an attribute is no argument


class Half(Scale):
    def __init__(self, size):
        super().__init__(size, gain=0.5)


class Quarter(Half):
    pass


def test_arguments_and_defaults_are_kept():
    expected = {"size": 3, "gain": 2.0, "bias": None}
    assert Scale(3, gain=2.0).config == expected


def test_positions_and_names_are_the_same():
    assert Scale(3, 2.0).config == Scale(gain=2.0, size=3).config


def test_a_child_keeps_its_own_arguments():
    assert Half(4).config == {"size": 4}


def test_a_child_without_constructor_keeps_its_parents():
    assert Quarter(4).config == {"size": 4}


def test_config_makes_the_part_again():
    part = Scale(3, bias=True)
    again = type(part)(**part.config)
    assert (again.size, again.config) == (part.size, part.config)


def test_asking_gives_a_copy():
    part = Scale(3)
    part.rebuild_config()["size"] = 9
    assert part.rebuild_config()["size"] == 3


def test_arguments_are_not_parts_of_the_module():
    part = Scale(3, bias=Half(2))
    assert list(part.children()) == []
    assert list(part.state_dict()) == []
