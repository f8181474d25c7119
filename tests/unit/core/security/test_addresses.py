from ipaddress import ip_network

import pytest

from parley.core.security.addresses import bucket_of, client_address

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


class TestClientAddress:
    @pytest.mark.parametrize(
        ("peer", "forwarded", "address"),
        [
            pytest.param("203.0.113.7", [], "203.0.113.7", id="nobody between"),
            pytest.param("203.0.113.7", ["198.51.100.1"], "203.0.113.7", id="peer not trusted"),
            pytest.param("10.0.0.1", ["198.51.100.1"], "198.51.100.1", id="trusted proxy"),
            pytest.param("10.0.0.1", [], "10.0.0.1", id="the proxy itself"),
            pytest.param(
                "10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1", id="invented part before"
            ),
            pytest.param(
                "10.0.0.1", ["198.51.100.1, 10.0.0.2"], "198.51.100.1", id="two trusted proxies"
            ),
            pytest.param(
                "10.0.0.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1", id="last header counts"
            ),
            pytest.param("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3", id="all trusted"),
            pytest.param("10.0.0.1", ["1.1.1.1, garbage"], "10.0.0.1", id="garbage ends it"),
            pytest.param("10.0.0.1", ["1.1.1.1, "], "10.0.0.1", id="empty ends it"),
            pytest.param("10.0.0.1", ["198.51.100.1:4711"], "10.0.0.1", id="port is garbage"),
            pytest.param("10.0.0.1", ["1.1.1.1, x, 10.0.0.2"], "10.0.0.2", id="as far as it goes"),
            pytest.param("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1", id="mapped proxy"),
            pytest.param(
                "10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1", id="mapped client is IPv4"
            ),
            pytest.param("::ffff:203.0.113.7", [], "203.0.113.7", id="mapped peer is IPv4"),
            pytest.param("fd00::1", ["2001:db8::7"], "2001:db8::7", id="IPv6"),
            pytest.param("2001:DB8:0::7", [], "2001:db8::7", id="one spelling"),
            pytest.param(None, ["198.51.100.1"], None, id="no peer"),
            pytest.param("", ["198.51.100.1"], "", id="unix socket"),
        ],
    )
    def test_it_is_the_nearest_that_is_no_trusted_proxys(
        self, peer: str | None, forwarded: list[str], address: str | None
    ):
        assert address == client_address(peer, forwarded, PROXIES)

    def test_with_no_trusted_proxy_nothing_that_is_forwarded_counts(self):
        assert "10.0.0.1" == client_address("10.0.0.1", ["198.51.100.1"], ())


class TestBucketOf:
    @pytest.mark.parametrize(
        ("left", "right"),
        [
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            (None, ""),
            (None, "not-an-address"),
        ],
    )
    def test_these_are_one(self, left: str | None, right: str | None):
        assert bucket_of(left) == bucket_of(right)

    @pytest.mark.parametrize(
        ("left", "right"),
        [
            ("2001:db8:1:2::1", "2001:db8:1:3::1"),
            ("203.0.113.7", "203.0.113.8"),
            ("203.0.113.7", None),
        ],
    )
    def test_these_are_two(self, left: str | None, right: str | None):
        assert bucket_of(left) != bucket_of(right)
