from __future__ import annotations

import pytest

from migrator.errors import InvalidRequest, PreconditionFailed
from migrator.lab.control import check_database
from migrator.lab.host import hosts_file
from migrator.lab.lab import Shape
from migrator.lab.layout import CONTROL, GREEK, Layout, address_of, host_names, mac_of
from migrator.settings import LAB_RUN_DIR


def test_hosts_are_greek_letters() -> None:
    assert host_names(3) == ("alpha", "beta", "gamma")
    assert len(host_names(24)) == 24


@pytest.mark.parametrize("count", [0, -1, 25])
def test_an_impossible_number_of_hosts_is_refused(count: int) -> None:
    with pytest.raises(InvalidRequest, match=str(count)):
        host_names(count)


def test_addresses_are_as_promised_and_all_different() -> None:
    assert (address_of(CONTROL), address_of("alpha"), address_of("beta")) == ("10.77.0.2", "10.77.0.11", "10.77.0.12")
    everyone = [CONTROL, *GREEK]
    assert len({address_of(name) for name in everyone}) == len({mac_of(name) for name in everyone}) == 25


def test_the_hosts_file_names_everyone() -> None:
    assert "10.77.0.2 control\n10.77.0.11 alpha\n" in hosts_file(("control", "alpha"))


@pytest.mark.parametrize("name", ["", "../etc", "a/b", "UPPER", "-a", "a" * 33, "a b", "a."])
def test_a_name_that_could_leave_its_place_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="lab name"):
        Layout(name)


def test_the_api_socket_is_where_clients_look() -> None:
    assert Layout("demo").api_socket == LAB_RUN_DIR / "demo" / "api" / "api.sock"


def test_no_lab_is_a_prefix_of_another_in_the_kernel() -> None:
    assert not Layout("a-2").cgroup_name.startswith(Layout("a").cgroup_name + "/")
    assert Layout("a").cgroup_name != Layout("a-2").cgroup_name


def test_a_running_lab_grows_and_never_shrinks() -> None:
    running = Shape(hosts=3, control=False)
    assert running.joined(Shape(hosts=2, database="postgresql")) == Shape(3, "postgresql", True)
    assert Shape(hosts=2).joined(Shape(hosts=4, control=False)) == Shape(hosts=4)


def test_the_database_of_a_running_lab_cannot_change() -> None:
    with pytest.raises(PreconditionFailed, match="runs with sqlite, not postgresql") as failure:
        Shape(database="sqlite").joined(Shape(database="postgresql"))
    assert "lab down" in str(failure.value.remedy)


def test_an_unknown_database_names_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match="'oracle'") as failure:
        check_database("oracle")
    assert "sqlite or postgresql" in str(failure.value.remedy)
