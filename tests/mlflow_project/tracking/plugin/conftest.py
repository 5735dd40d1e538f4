"""Programs under a `durable+` address."""

from tests.support.durable import away as away
from tests.support.durable import durable as durable
