"""The same over TLS: wss with a certificate of an authority that both ends trust."""

from __future__ import annotations

import pytest

from tests.interop.cases import LARGE, MESSAGES
from tests.interop.conftest import PLAIN_ONLY, LinkName, World
from tests.interop.ends import TIMEOUT, Ended
from tests.interop.test_interop import FACES, carry
from tests.peers.certificates import Certificates


@pytest.mark.parametrize("name", [name for name in FACES if name.theirs not in PLAIN_ONLY], ids=str)
def test_messages_and_close(world: World, tls: Certificates, name: LinkName) -> None:
    with world.link(name, tls) as link, link.open(["chat"]) as pair:
        assert pair.ours.subprotocol == pair.theirs.subprotocol == "chat"
        for sender, receiver in pair.both_ways():
            for message in MESSAGES:
                carry(pair, sender, receiver, message)
        if name.theirs == "websockets":
            for sender, receiver in pair.both_ways():
                carry(pair, sender, receiver, LARGE)
        closed = pair.meanwhile(pair.theirs.close, 4001, "over")
        assert pair.ours.receive() is None
        closed.result(TIMEOUT)
        assert pair.ours.ended == Ended(4001, "over")
