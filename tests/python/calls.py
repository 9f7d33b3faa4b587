"""Sends the calls of tests/it/real_kafka/clients.rs with a client library for Python as it is published.

  python calls.py LIBRARY URL WRITE_KEY ROUNDS CLOCK

CLOCK is how many seconds this machine's clock seems to be ahead. One line a call when all are done with: the call as
the library sent it, or why it could not.
"""

import datetime
import importlib
import json
import sys

library, host, write_key, rounds, clock = sys.argv[1:]
ahead = datetime.timedelta(seconds=float(clock))


class Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + ahead

    @classmethod
    def utcnow(cls):
        return super().utcnow() + ahead


datetime.datetime = Shifted

# Only the host and the key are given, and that bodies are compressed, which these libraries leave to their users.
analytics = importlib.import_module(library)
analytics.host, analytics.write_key, analytics.gzip = host, write_key, True
failed = {}


def on_error(error, calls):
    failed.update((call["messageId"], str(error)) for call in calls)


analytics.on_error = on_error
sent = []
for n in range(int(rounds)):
    user, visitor = f"user-{n}", f"visitor-{n}"
    sent += [
        analytics.identify(user, {"plan": "enterprise", "seats": n, "renewed": None}),
        analytics.track(user, "NPS Submitted", {"name": "Ana Díaz", "score": 9.5, "tags": ["a", "b"]}),
        analytics.page(anonymous_id=visitor, category="Docs", name="Pricing", properties={"url": "https://example.com/?q=1"}),
        analytics.screen(user, name="Inbox", properties={"unread": n}),
        analytics.group(user, f"group-{n}", {"name": "Acme & Söhne"}),
        analytics.alias(visitor, user),
    ]
analytics.shutdown()
for queued, call in sent:
    why = failed.get(call["messageId"]) if queued else "not queued"
    print(json.dumps({"failed": why} if why else {"sent": call}))
