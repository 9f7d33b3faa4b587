"""Leadlane under faults: real Kafka, real processes, a sandbox, toxiproxy between them, and chance by a seed.

  tests/chaos --minutes 5 --seed 7 --kills 20

First a calm time with work waiting in every lane, by which the use of the limits is measured. Then lanes change hands
while they are frozen. Then senders are killed, stopped for longer than their session, leave and join; the broker is
killed and comes back with its data; the ways to the broker and to the destinations are cut; destinations answer 429 with
Retry-After, 5xx, resets and silence; hostile records (hostile.py) come among the good ones; topics are deleted and made
anew. Then all is well again, the lanes drain, and the oracle (oracle.py) says whether every promise was kept. Exit code 1
where not, and the seed; the folder with the logs and with all that the oracle saw is kept then.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Producer

import hostile
import oracle
from oracle import EVENTS, JOBS, LETTERS, OUTCOMES, Topics
from world import ACCOUNT_CONCURRENCY, BATCH_MAX, LATENCY_MS, REPOSITORY, REQUEST_SECONDS, SESSION_SECONDS, WAYS, World

SETTLE_SECONDS = 6
# The longest Retry-After of lanes that change hands, and a little more.
HANDOVER_SECONDS = 11


# What is deleted and made anew in one go.
ANEW = {"events": [EVENTS], "jobs": [JOBS, OUTCOMES], "rules": ["tracking-rules"],
        "letters": [LETTERS, "rule-audit"]}
# By then every transaction that was open when a topic was deleted has ended.
OPEN_SECONDS = 4.0
# From a topic's deletion to its next, at least.
APART_SECONDS = 20.0


class Events:
    """Lead events for all lanes, one in fifty said twice."""

    def __init__(self, chance, address, seed):
        self.chance, self.address, self.seed, self.count = chance, address, seed, 0
        self.written, self.last, self.hostile = [], [], 0
        # Nothing is written meanwhile.
        self.held = False
        self.begin()

    def begin(self):
        self.producer = Producer({"bootstrap.servers": self.address, "enable.idempotence": True, "linger.ms": 5,
                                  "message.timeout.ms": 600_000, "compression.type": "gzip",
                                  "message.max.bytes": 20_000_000, **oracle.QUIET})

    def settle(self):
        """Everything is in Kafka; what comes next is written by a client that knows no topic."""
        if self.producer.flush(60):
            raise RuntimeError("not all events were written")
        self.begin()

    def write(self, name, headers=None):
        self.count += 1
        event = {"event_id": f"e{self.seed}-{self.count}", "trigger": f"chaos.{name}", "product": {"id": "12"},
                 "occurred_at": int(time.time() * 1000), "lead_id": f"lead-{self.chance.randrange(40)}"}
        if self.last and self.chance.random() < 0.02:
            event = self.chance.choice(self.last)
        self.last = [*self.last[-49:], event]
        self.written.append(event)
        self.producer.produce("lead-events", json.dumps(event), event["lead_id"], on_delivery=self.delivered, headers=headers)
        self.producer.poll(0)

    def write_hostile(self, chance):
        """A record that can only be a dead letter, and a good event beside hostile headers."""
        self.hostile += 1
        topic, key, value, headers = hostile.make(chance, self.hostile)
        self.producer.produce(topic, value, key, on_delivery=self.delivered, headers=headers)
        self.write(chance.choice(WAYS).name, hostile.headers(chance))

    def write_any(self):
        self.write(self.chance.choices(WAYS, [way.share for way in WAYS])[0].name)

    def delivered(self, error, _message):
        if error:
            raise RuntimeError(f"an event was not written: {error}")


def schedule(chance, seconds, kills):
    """(second, action), each kind spread over a time of so many seconds with so many SIGKILLs of senders."""
    few, some = max(1, round(kills / 7)), max(1, kills // 4)
    counts = {"kill": kills, "broker": few, "stop": few, "change": max(2, kills // 3), "cut-kafka": some,
              "cut-destination": some, "fault": max(4, kills), "hostile": max(12, 3 * kills)}
    # Each once in a short run.
    counts |= {f"anew-{what}": max(1, round(kills / 7)) for what in ANEW}
    return sorted(((number + chance.random()) * seconds / count, action)
                  for action, count in counts.items() for number in range(count))


@dataclass
class Making:
    """Topics that are just being made anew."""

    what: str
    deletion: dict
    thread: threading.Thread


class Chaos:
    """Lays faults on a world, by the seed."""

    def __init__(self, world, chance, events, topics):
        self.world, self.chance, self.events, self.topics = world, chance, events, topics
        self.making, self.made_at = None, {}
        self.later = []
        self.coming = set()
        self.cut = set()
        self.broker = None
        self.count = 0

    def after(self, seconds, action):
        self.count += 1
        self.later.append((time.time() + seconds, self.count, action))
        self.later.sort(key=lambda entry: entry[:2])

    def due(self):
        if self.making:
            self.made()
        while self.later and self.later[0][0] <= time.time():
            self.later.pop(0)[2]()

    def is_over(self):
        """Whether all that lasts has ended, and all that was to come back is back."""
        return not self.later and not self.making and not (self.broker and self.broker.is_alive())

    def free_seats(self):
        return [seat for seat, found in self.world.seats.items() if not found["stopped"]]

    def through(self):
        return self.chance.random() < 0.6

    def do(self, action):
        {"kill": self.kill, "broker": self.kill_broker, "stop": self.stop, "change": self.change,
         "cut-kafka": lambda: self.cut_off("kafka"), "cut-destination": lambda: self.cut_off("destination"),
         "fault": self.fault, "hostile": self.write_hostile,
         **{f"anew-{what}": lambda what=what: self.make_anew(what) for what in ANEW}}[action]()

    def again(self, action):
        """What can't be done now is done a little later."""
        self.after(1.0, lambda: self.do(action))

    def write_hostile(self):
        if self.making:
            return self.again("hostile")
        self.events.write_hostile(self.chance)

    def kill(self):
        # One that has only just begun has nothing in flight.
        seats = [seat for seat in self.free_seats() if time.time() - self.world.seats[seat]["began"] > 4]
        if not seats:
            return self.again("kill")
        seat = self.chance.choice(seats)
        self.world.kill(seat)
        through = self.through()
        self.coming.add(seat)

        def join():
            self.coming.discard(seat)
            self.world.join(seat, through)

        self.after(self.chance.uniform(0, 3), join)

    def kill_broker(self):
        if self.making or (self.broker and self.broker.is_alive()):
            return self.again("broker")
        self.broker = self.world.kill_broker(self.chance.uniform(0.5, 6))

    def make_anew(self, what):
        """Deletes topics and makes them again, under all that runs and beside the rest of the faults."""
        soon = time.time() - self.made_at.get(what, 0) < APART_SECONDS
        if soon or self.making or (self.broker and self.broker.is_alive()):
            return self.again(f"anew-{what}")
        # Who writes to a topic that isn't there doesn't know where it went.
        self.events.held = what == "events"
        self.events.settle()
        deletion = {"topics": ANEW[what]}

        def work():
            self.topics.last_look(deletion)
            deletion["start"] = time.time()
            self.world.say(f"deleted and made anew: {', '.join(ANEW[what])}")
            self.world.make_anew(ANEW[what])
            deletion["end"] = time.time()
            self.topics.new_life(deletion)
            if what == "rules":
                self.world.apply_rules()
            time.sleep(OPEN_SECONDS)

        self.making = Making(what, deletion, threading.Thread(target=work))
        self.making.thread.start()

    def made(self):
        """Everything goes on once the topics are there again, and the readers are asked where they are a little later."""
        making = self.making
        if making.deletion.get("end") and self.events.held:
            self.events.held = False
            self.events.begin()
        if making.thread.is_alive() or self.broker and self.broker.is_alive():
            return
        if "end" not in making.deletion:
            raise RuntimeError(f"{making.what} could not be made anew")
        self.topics.first_look(making.deletion)
        self.made_at[making.what] = time.time()
        self.making = None
        self.events.settle()

    def stop(self):
        seats = self.free_seats()
        if not seats:
            return self.again("stop")
        seat, seconds = self.chance.choice(seats), SESSION_SECONDS + self.chance.uniform(1.5, 5)
        self.world.say(f"SIGSTOP of sender {seat} for {seconds:.1f} s")
        disruption = self.world.stop(seat)

        def go_on():
            self.world.say(f"SIGCONT of sender {seat}")
            self.world.go_on(seat, disruption)

        self.after(seconds, go_on)

    def change(self):
        """One, two or three senders; some lanes are frozen when they change hands."""
        lanes = [way for way in WAYS if not way.credential.startswith("clevertap")]
        for way in self.chance.sample(lanes, 3):
            self.world.order({"target": way.name, "kind": "rate_limit", "times": 1, "retry_after": self.chance.randrange(5, 10)})
        self.after(1.5, self.come_or_go)

    def come_or_go(self):
        taken = self.coming | set(self.world.seats)
        free, empty = self.free_seats(), [seat for seat in (1, 2, 3) if seat not in taken]
        if empty and (len(taken) < 2 or self.chance.random() < 0.5):
            self.world.join(self.chance.choice(empty), self.through())
        elif len(free) > 1:
            self.world.leave(self.chance.choice(free))
        else:
            self.after(1.0, self.come_or_go)

    def cut_off(self, proxy):
        if proxy in self.cut:
            return self.again(f"cut-{proxy}")
        longest = SESSION_SECONDS + 6 if proxy == "kafka" else 6
        way, seconds = self.chance.choice(["off", "silent", "deaf"]), self.chance.uniform(1, longest)
        self.world.say(f"the way to {proxy} is cut, {way}, for {seconds:.1f} s")
        self.cut.add(proxy)
        disruption = self.world.cut(proxy, way)

        def mend():
            self.world.mend(proxy, way, disruption)
            self.cut.discard(proxy)
            self.world.say(f"the way to {proxy} is mended")

        self.after(seconds, mend)

    def fault(self):
        chance, way = self.chance, self.chance.choice(WAYS)
        kinds = ["rate_limit", "rate_limit", "rate_limit", "status", "html_500", "reset", "reset_after"]
        kinds += [] if way.credential.startswith("clevertap") else ["hang", "hang_after", "ratelimited"]
        kind = chance.choice(kinds)
        fault = {"target": way.name, "kind": kind}
        if kind == "ratelimited" and not way.credential.startswith("slack"):
            kind = fault["kind"] = "rate_limit"
        if kind == "ratelimited":
            token = (self.world.folder / "secrets" / way.credential.split(":")[1]).read_text().strip()
            fault |= {"target": "chat.postMessage", "kind": "rate_limit", "error": "ratelimited", "token": token}
        if fault["kind"] == "rate_limit":
            fault |= {"times": chance.randrange(1, 3)}
            if not way.credential.startswith("clevertap"):
                # A killed sender's successor comes after a session's time.
                fault |= {"retry_after": chance.choice([1, 2, 4, 15])}
        elif kind in ("hang", "hang_after"):
            fault |= {"for": f"{chance.randrange(1, 5)}s"}
        elif kind == "status":
            fault |= {"status": chance.choice([500, 502, 503]), "for": f"{chance.randrange(1, 4)}s"}
        else:
            fault |= {"times": chance.randrange(1, 6)}
        self.world.order(fault)


def options():
    parser = argparse.ArgumentParser(prog="tests/chaos", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5, help="how long faults come (default 5)")
    parser.add_argument("--seed", type=int, help="what chance is made of (default: any)")
    parser.add_argument("--events-per-second", type=float, default=14, metavar="R")
    parser.add_argument("--kills", type=int, metavar="N", help="SIGKILLs of senders (default: three a minute)")
    parser.add_argument("--calm", type=float, default=15, metavar="SECONDS",
                        help="the time before the faults, in which the use of the limits is measured (default 15)")
    parser.add_argument("--binary", type=Path, help="the leadlane to run (default: target/debug/leadlane, built first)")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs whatever comes out")
    given = parser.parse_args()
    if given.seed is None:
        given.seed = random.SystemRandom().randrange(1_000_000)
    if given.kills is None:
        given.kills = max(1, round(given.minutes * 3))
    if given.binary is None:
        subprocess.run(["cargo", "build", "--quiet", "--locked"], cwd=REPOSITORY, check=True)
        given.binary = REPOSITORY / "target/debug/leadlane"
    return given


def run(world, given):
    """Gives what the oracle has to know of the run."""
    world.start()
    events = Events(random.Random(f"events {given.seed}"), world.direct, given.seed)
    # Enough for every lane to have work until the calm is over.
    for way in WAYS:
        for _ in range(round((SETTLE_SECONDS + given.calm + 3) * way.per_second)):
            events.write(way.name)
    events.producer.flush(60)
    topics = Topics(world.direct)
    expected = sum(len(world.lanes[event["trigger"]]) for event in events.written)
    world.until(lambda: topics.count("delivery-jobs") >= expected, 60, "the first jobs are written")
    world.join(1, True)
    world.join(2, False)
    log_url = f"{world.sandbox}/log?limit=1"
    world.until(lambda: json.loads(world.request("GET", log_url)), 60, "the first message arrives")
    # Both senders have their partitions by then, and have waited their first spacing.
    time.sleep(SETTLE_SECONDS)
    calm = (time.time(), time.time() + given.calm)
    time.sleep(given.calm)
    world.say("the calm is over")
    chance = random.Random(f"faults {given.seed}")
    plan = [(HANDOVER_SECONDS + second, action) for second, action in schedule(chance, given.minutes * 60, given.kills)]
    chaos = Chaos(world, chance, events, topics)
    # One hand-over while nothing else is wrong.
    chaos.do("change")
    began, calm_events = time.time(), len(events.written)
    while (second := time.time() - began) < HANDOVER_SECONDS or plan or not chaos.is_over():
        while plan and plan[0][0] <= second:
            chaos.do(plan.pop(0)[1])
        chaos.due()
        world.look_after()
        if not events.held and len(events.written) - calm_events < second * given.events_per_second:
            events.write_any()
        time.sleep(0.01)
    world.request("DELETE", f"{world.sandbox}/faults")
    world.say("faults are over; draining")
    events.settle()
    drain(world, topics)
    world.check_told()
    world.end()
    topics.read_all()
    return oracle.Run(events.written, world.lanes, {way.name: way for way in WAYS}, topics, world.disruptions,
                      world.faults, calm, all_arrivals(world), json.loads(world.request("GET", f"{world.sandbox}/summary")),
                      LATENCY_MS / 1000, REQUEST_SECONDS, ACCOUNT_CONCURRENCY, BATCH_MAX)


def drain(world, topics):
    """Waits until everything is consumed and every job has its final outcome, or nothing has moved for a minute."""
    best, moved = None, time.time()
    while True:
        world.look_after()
        left = topics.unsettled()
        if not left:
            return
        if best is None or left < best:
            best, moved = left, time.time()
        if time.time() - moved > 60:
            world.breaches.append(f"{left} jobs had no final outcome, or records were not read, when nothing had moved for a minute")
            return
        time.sleep(0.5)


def all_arrivals(world):
    arrivals = []
    while True:
        since = arrivals[-1]["seq"] if arrivals else 0
        page = json.loads(world.request("GET", f"{world.sandbox}/log?since={since}"))
        if not page:
            return arrivals
        arrivals += page


def main():
    given = options()
    folder = Path(tempfile.mkdtemp(prefix="leadlane-chaos."))
    began = time.time()

    def say(words):
        print(f"{time.time() - began:7.1f} s  {words}", flush=True)

    print(f"chaos: seed {given.seed}, {given.minutes} minutes, {given.kills} kills; everything of it in {folder}", flush=True)
    world = World(folder, given.binary, say)
    breaches = ["it did not come to its end"]
    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, lambda *_: sys.exit(130))
    try:
        seen = run(world, given)
        seen.save(folder / "seen.json")
        breaches = world.breaches + oracle.judge(seen, say)
        breaches = breaches or oracle.doubt(folder / "seen.json")
    finally:
        world.close()
        for breach in breaches:
            print(f"BREACH  {breach}", flush=True)
        if breaches:
            print(f"chaos: {len(breaches)} breaches with seed {given.seed}; see {folder}", flush=True)
        elif not given.keep:
            shutil.rmtree(folder)
    if breaches:
        sys.exit(1)
    print(f"chaos: every promise kept, seed {given.seed}", flush=True)


if __name__ == "__main__":
    main()
