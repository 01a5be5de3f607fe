from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs.tools.network import AllowList, is_public


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_public_addresses_are_called(address: str) -> None:
    assert is_public(ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_address_in_ipv6_clothes_is_judged_by_what_is_inside(address: object) -> None:
    plain = ip_address(str(address))
    assert is_public(ip_address(f"::ffff:{plain}")) == is_public(plain)
    assert is_public(ip_address(f"64:ff9b::{plain}")) == is_public(plain)
    assert not is_public(ip_address(f"::{plain}"))


def test_the_allow_list_knows_names_addresses_and_networks() -> None:
    allowed = AllowList([" Intern.Test. ", "10.1.0.0/16", "[::1]", "", "192.168.7.9/24"])
    assert allowed.permits("intern.test", ip_address("10.9.9.9"))
    assert allowed.permits("x.test", ip_address("10.1.2.3"))
    assert allowed.permits("x.test", ip_address("::ffff:10.1.2.3"))
    assert allowed.permits("x.test", ip_address("::1"))
    assert allowed.permits("x.test", ip_address("192.168.7.1"))
    assert not allowed.permits("x.test", ip_address("10.2.0.1"))
    assert not allowed.permits("sub.intern.test", ip_address("10.9.9.9"))
