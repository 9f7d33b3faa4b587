"""Hostile records for tests/chaos: each carries the header `x-hostile` with a number, by which the oracle knows it.

`make` gives (topic, key, value, headers). What is no lead event, or no job, becomes one dead letter; a good event beside
hostile headers is none of these, and is written by `headers`.
"""

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
MARK = "x-hostile"

EVENTS = [
    lambda chance: (b"k", None),
    lambda chance: (None, b""),
    lambda chance: (chance.randbytes(300), b"{"),
    lambda chance: (b"k", chance.randbytes(chance.randrange(1, 2000))),
    # Compressed, as the broker counts it, it is small.
    lambda chance: (b"k", b"x" * 3_000_000),
    lambda chance: (b"x" * 2_000_000, b"[]"),
    lambda chance: (b"k", b'{"event_id": ["a"], "trigger": "chaos.C1A", "occurred_at": 0, "lead_id": "l"}'),
    lambda chance: (b"k", b"[" * 100_000),
    lambda chance: (b"k", b"\xc3\x01" + chance.randbytes(8)),
]
JOBS = [
    lambda chance: (b"slack:bot-1", b"no job"),
    lambda chance: (b"slack:bot-2", b"x" * 3_000_000),
    lambda chance: (b"clevertap:acme", None),
]
HEADERS = [
    lambda chance: [("traceparent", b"0" * 1_000_000)],
    lambda chance: [("traceparent", b"\xff\xfe")],
    lambda chance: [("only-rule", b"\xff")],
    lambda chance: [("replay-of", b"yes"), ("x-junk", bytes(500_000))],
    lambda chance: [("traceparent", TRACE)],
]


def make(chance, number):
    topic = chance.choice(["lead-events", "lead-events", "delivery-jobs"])
    key, value = chance.choice(EVENTS if topic == "lead-events" else JOBS)(chance)
    return topic, key, value, [(MARK, str(number).encode())]


def headers(chance):
    """What stands beside a good event."""
    return chance.choice(HEADERS)(chance)


def is_marked(found):
    return any(name == MARK for name, _ in found or [])
