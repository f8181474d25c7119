from parley.cli.chat import _harmless


def test_what_a_model_says_does_not_steer_the_terminal():
    said = "a\tb\nc\x1b]52;c;Zm9v\x07d\r\x9b2J\x7f\u00e9\U0001f511"

    assert "a\tb\nc\ufffd]52;c;Zm9v\ufffdd\ufffd\ufffd2J\ufffd\u00e9\U0001f511" == _harmless(said)
