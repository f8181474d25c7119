from parley.core.ids import new_id
from parley.services.turns.orders import fingerprint_of

OF_THE_RELEASE_BEFORE = "d05903edd73467f87ee9b36317853f065bd2e8883d2addbf0fd8aef63c15df64"


def test_without_files_it_is_what_it_was_before_there_were_any():
    """A key outlives a release: who sends a message again behind one is to be answered as before."""
    assert OF_THE_RELEASE_BEFORE == fingerprint_of("hello", [], None, None, replaces_last=False)


def test_each_file_and_their_order_make_it_another():
    first, second = new_id(), new_id()
    asked = [[], [first], [second], [first, second], [second, first]]

    fingerprints = {fingerprint_of("a", each, None, None, replaces_last=False) for each in asked}

    assert len(asked) == len(fingerprints)
