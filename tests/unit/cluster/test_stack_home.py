"""The folder of an embedded stack: which ports are chosen, and kept."""

from cluster.stack.home import StackHome
from cluster.stack.services import PORT_NAMES, SERVICES


def test_every_service_of_a_new_home_gets_its_ports_even_one_that_needs_none(tmp_path):
    home = StackHome(tmp_path)
    home.make_folders()
    ports = home.choose_ports(SERVICES)
    assert {name: set(chosen) for name, chosen in ports.items()} == {name: set(PORT_NAMES[name]) for name in SERVICES}
    assert home.choose_ports(SERVICES) == ports
