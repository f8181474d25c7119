"""What is around the application: nothing reaches it, and nothing leaves, but through here."""

from parley.middleware.body import Allowance
from parley.middleware.cors import Cors
from parley.middleware.hosts import OWN_HOSTS, Hosts
from parley.middleware.request import RequestLayer

__all__ = ["OWN_HOSTS", "Allowance", "Cors", "Hosts", "RequestLayer"]
