"""The oracle of tests/chaos: what must hold of a run, by the topics and by what arrived, and by nothing of ours.

It reads `lead-events`, `delivery-jobs`, `delivery-outcomes` and `dead-letters` with confluent-kafka and fastavro by the
schemas in schemas/, and the sandbox's log. Attempts are paired with arrivals by job and time: both clocks are this
machine's. What is checked, and by which bound:

- Every event has exactly one job for each rule that holds (promise 1), every job one final outcome or several that say
  the same (2 and 7); the group's offsets stand behind the last. Each hostile record is one dead letter, and nothing else
  is, as nothing here is beyond repair; one in the jobs topic may be two where a sender went before it could say so.
- Every sent job has arrived. Nothing has arrived that no job asked for.
- A job arrives again only where the earlier arrival's answer was ambiguous (a `retry` in the outcomes), or its sender
  was killed before Kafka had its outcome (then there is none), or the sender had been stopped, or Kafka or the way to it
  was away: then Kafka can't have acknowledged the outcome, and in flight lasts until it has. For each SIGKILL these are
  at most one for a Slack lane and the uploads of an account.
- An event that is written twice arrives once: its second job is a `duplicate`.
- Topics are deleted and made anew: each then has one more life. What only the old life held is lost by definition, and is
  known: all of it is read up to its deletion, and where the groups were before and after it is asked for. An event is
  lost only if it was not consumed when its life ended, a job only if it was not below what its sender had committed, a
  job that nobody saw only if its event was consumed while the topic was away. A job may arrive without an outcome if its
  life ended meanwhile, and its event's second job in a later life may be sent as well, since the outcomes ended, too.
- First arrivals of a lane (of an identity, in a CleverTap account) come in the order of the jobs.
- Inside a Retry-After nothing of the scope starts, where Kafka has the `throttled` and was there to take it at once: a
  sender that is killed with the answer unread takes it to its grave, so those don't count.
- In no window of a limit's length arrive more requests than it allows. The window is shortened by STAMP_SECONDS, which
  lie between a start and the sandbox's stamp (two busy cores, a proxy), and by what its first request was longer on its
  way than its last; by the outcomes' own `started_at` the windows hold to the two milliseconds that rounding takes.
- In the calm time each limit is used to 95 %, and at most 0.5 % of the requests are answered 429 without a fault.
"""

import io
import json
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

import hostile

SCHEMAS = Path(__file__).resolve().parent.parent.parent / "schemas"
FINAL = {"sent", "digested", "duplicate", "expired", "skipped", "shadowed", "cancelled", "dead"}
# That a broker is away is part of the run, and no news.
QUIET = {"log_level": 0}
STAMP_SECONDS = 0.1
# From a request's start until Kafka has its outcome, on a busy machine.
FLIGHT_SECONDS = 2.0
# Until a transaction that was open has ended, and what is behind it can be seen.
VISIBLE_SECONDS = 10.0
# From when a topic was made anew until every sender has noticed.
NOTICED_SECONDS = 30.0
# From the end of a disruption until clients have found out.
RECOVERY_SECONDS = 3.0


@dataclass
class Way:
    """One lane, its limits as (count, seconds), and whether the destination has the same ones."""

    name: str
    credential: str
    share: int
    limit: tuple = None
    credential_limit: tuple = None
    same: bool = False

    @property
    def trigger(self):
        return f"chaos.{self.name}"

    @property
    def per_second(self):
        """What the lane sends at most; an account's is a guess."""
        return self.limit[0] / self.limit[1] if self.limit else 4


EVENTS, JOBS, OUTCOMES, LETTERS = "lead-events", "delivery-jobs", "delivery-outcomes", "dead-letters"
# Who reads them on.
GROUPS = {EVENTS: "chaos", JOBS: "chaos-sender"}


class Topics:
    """Everything of the topics in all their lives, read by a client that isn't ours."""

    def __init__(self, address):
        self.address = address
        self.consumer = self.client("oracle")
        self.records = defaultdict(list)
        self.places = {}
        self.lives = Counter()
        self.deletions = []
        self.read_as = {"delivery-jobs": schema("delivery_job"), "delivery-outcomes": schema("delivery_outcome")}

    def client(self, group):
        return Consumer({"bootstrap.servers": self.address, "group.id": group, "enable.auto.commit": False,
                         "isolation.level": "read_committed", "auto.offset.reset": "error",
                         "enable.partition.eof": True, "fetch.wait.max.ms": 20, **QUIET})

    def read(self, topic):
        """Reads on, to the end that the topic has now."""
        partitions = self.consumer.list_topics(topic, timeout=30).topics[topic].partitions
        places = [TopicPartition(topic, number, self.places.get((topic, number), OFFSET_BEGINNING)) for number in partitions]
        self.consumer.assign(places)
        open_ends = set(partitions)
        while open_ends:
            message = self.consumer.poll(30)
            if message is None:
                raise RuntimeError(f"{topic}: the broker is silent")
            if message.error():
                if message.error().code() == -191:
                    open_ends.discard(message.partition())
                    continue
                raise KafkaException(message.error())
            self.places[(topic, message.partition())] = message.offset() + 1
            record = {"partition": message.partition(), "offset": message.offset(), "at": message.timestamp()[1] / 1000,
                      "life": self.lives[topic]}
            if hostile.is_marked(message.headers()):
                self.records["hostile"].append(record | {"topic": topic})
                continue
            if topic in self.read_as:
                record |= decoded(message.value(), self.read_as[topic])
            elif topic == "lead-events":
                record |= json.loads(message.value())
            else:
                record |= {"headers": {name: value.decode() for name, value in message.headers() or []}}
            self.records[topic].append(record)
        self.consumer.unassign()
        return self.records[topic]

    def count(self, topic):
        return len(self.read(topic))

    def read_all(self):
        for topic in (EVENTS, JOBS, OUTCOMES, LETTERS):
            self.read(topic)
        self.committed = self.consumed(JOBS)

    def consumed(self, topic):
        """Where the topic's group is, as pairs of partition and offset; 0 where it has no place."""
        partitions = self.consumer.list_topics(topic, timeout=30).topics[topic].partitions
        group, due = self.client(GROUPS[topic]), time.time() + 60
        while True:
            try:
                found = group.committed([TopicPartition(topic, number) for number in partitions], timeout=30)
                group.close()
                break
            except KafkaException:
                # A broker that is just back doesn't know its groups yet.
                if time.time() > due:
                    raise
                time.sleep(0.2)
        return [(place.partition, max(place.offset, 0)) for place in found]

    def behind(self, topic):
        """How many partitions hold a record that their group has not consumed."""
        consumed = dict(self.consumed(topic))
        return sum(self.places.get((topic, number), 0) > offset for number, offset in consumed.items())

    # ---- lives

    def last_look(self, deletion):
        """Reads topics that are about to be deleted to their ends, after asking where their readers are."""
        deletion["lives"] = dict(self.lives)
        deletion["events_before"], deletion["jobs_before"] = self.consumed(EVENTS), self.consumed(JOBS)
        due = time.time() + VISIBLE_SECONDS
        while True:
            for topic in (EVENTS, LETTERS, OUTCOMES, JOBS):
                self.read(topic)
            # An open transaction may hide what was committed behind it for a moment.
            if not self.hidden(deletion) or time.time() > due:
                return

    def hidden(self, deletion):
        """Whether an event was consumed before the deletion whose job, or dead letter, isn't seen yet."""
        if not {JOBS, LETTERS} & set(deletion["topics"]):
            return False
        before = dict(deletion["events_before"])
        consumed = [one for one in self.records[EVENTS] if self.is_below(one, EVENTS, before)]
        jobs = {job["event_id"] for job in self.records[JOBS]}
        hostile_ones = [one for one in self.records["hostile"] if one["topic"] == EVENTS and self.is_below(one, EVENTS, before)]
        letters = {source(letter) for letter in self.records[LETTERS]}
        return (JOBS in deletion["topics"] and any(one["event_id"] not in jobs for one in consumed[-200:])
                or any((EVENTS, one["partition"], one["offset"]) not in letters for one in hostile_ones))

    def is_below(self, record, topic, consumed):
        return record["life"] == self.lives[topic] and record["offset"] < consumed.get(record["partition"], 0)

    def new_life(self, deletion):
        """Topics were made anew. A client that knew the old ones may not find the new ones."""
        self.deletions.append(deletion)
        for topic in deletion["topics"]:
            self.lives[topic] += 1
        self.places = {place: offset for place, offset in self.places.items() if place[0] not in deletion["topics"]}
        self.consumer.close()
        self.consumer = self.client("oracle")

    def first_look(self, deletion):
        """Where the readers are once everything that was open at the deletion has ended."""
        deletion["lives_after"] = dict(self.lives)
        deletion["events_after"], deletion["jobs_after"] = self.consumed(EVENTS), self.consumed(JOBS)

    def unsettled(self):
        """How many jobs of the topic's life have no final outcome yet, and how many partitions are not consumed."""
        try:
            self.read(EVENTS)
            behind = self.behind(EVENTS)
            jobs, outcomes = self.read(JOBS), self.read(OUTCOMES)
            behind += self.behind(JOBS)
            self.read(LETTERS)
        except (KafkaException, RuntimeError):
            return 1_000_000
        settled = {(one["job_partition"], one["job_offset"], one["job_id"]) for one in outcomes if one["result"] in FINAL}
        return behind + sum((job["partition"], job["offset"], job["job_id"]) not in settled
                            for job in jobs if job["life"] == self.lives[JOBS])


def source(letter):
    """The place of the record that a dead letter is about."""
    headers = letter["headers"]
    return headers["source-topic"], int(headers["source-partition"]), int(headers["source-offset"])


def schema(name):
    return fastavro.parse_schema(json.loads((SCHEMAS / f"{name}.avsc").read_text()))


def decoded(value, as_schema):
    """Avro single-object encoding: two bytes, the schema's fingerprint, the record."""
    if value[:2] != b"\xc3\x01":
        raise RuntimeError(f"a record begins with {value[:2].hex()}")
    return fastavro.schemaless_reader(io.BytesIO(value[10:]), as_schema)


@dataclass
class Run:
    """All that the oracle sees of a run. `at`-times are epoch seconds."""

    events: list
    lanes: dict
    ways: dict
    topics: Topics
    disruptions: list
    faults: dict
    calm: tuple
    arrivals: list
    summary: list
    latency: float
    request: float
    concurrency: int
    batch_max: int

    def save(self, path):
        """Keeps it, so that `oracle.py FILE` can judge it again."""
        path.write_text(json.dumps(self.__dict__, default=plain))

    @classmethod
    def load(cls, path):
        run = cls(**json.loads(path.read_text()))
        run.ways = {name: Way(**{key: tuple(value) if isinstance(value, list) else value for key, value in way.items()})
                    for name, way in run.ways.items()}
        run.topics = SimpleNamespace(**run.topics)
        return run


def plain(value):
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, Topics):
        return {"records": value.records, "committed": value.committed, "lives": value.lives,
                "deletions": value.deletions}
    return value.__dict__


def judge(run, say):
    """The breaches, in words; the figures go to `say`."""
    verdict = Verdict(run)
    verdict.conservation()
    verdict.repeats()
    verdict.order()
    verdict.retry_after()
    verdict.limits()
    verdict.use()
    for name, figure in verdict.figures.items():
        say(f"  {name}: {figure}")
    return verdict.breaches


class Verdict:
    def __init__(self, run):
        self.run = run
        self.breaches, self.figures = [], {}
        records = run.topics.records
        # By life, partition and offset.
        self.jobs = {(job["life"], job["partition"], job["offset"]): job for job in records[JOBS]}
        self.life = run.topics.lives.get(JOBS, 0)
        self.deletions = [one for one in run.topics.deletions if JOBS in one["topics"]]
        self.outcomes = defaultdict(list)
        self.sort_outcomes(records[OUTCOMES])
        self.gone_with_topics()
        self.of_lane = defaultdict(list)
        for place, job in sorted(self.jobs.items()):
            self.of_lane[self.lane(job)].append(job)
        # The first job of an id is the one that goes out; jobs of one id are in one partition.
        self.first = {}
        for place, job in sorted(self.jobs.items()):
            self.first.setdefault(job["job_id"], job)
        self.accepted = defaultdict(list)
        self.unasked = 0
        self.by_text = {(self.lane(job), job["event_id"], job["rule_id"]): job["job_id"] for job in self.jobs.values()}
        self.sort_arrivals()

    def sort_outcomes(self, outcomes):
        """Outcomes by their job: of those of one id at one place the last that was there by then."""
        lives = defaultdict(list)
        for (life, *place), job in sorted(self.jobs.items()):
            lives[(*place, job["job_id"])].append((job["at"], life))
        for outcome in outcomes:
            outcome["started"], outcome["ended"] = seconds(outcome["started_at"]), seconds(outcome["ended_at"])
            place = (outcome["job_partition"], outcome["job_offset"])
            for at, life in reversed(lives[(*place, outcome["job_id"])]):
                if at <= outcome["ended"] + STAMP_SECONDS:
                    self.outcomes[(life, *place)].append(outcome)
                    break

    def gone_with_topics(self):
        """What only a deleted topic held: events that nobody had consumed, and jobs that nobody has seen."""
        self.lost_events, self.unseen, self.letters_unseen = Counter(), Counter(), set()
        records = self.run.topics.records
        for deletion in self.run.topics.deletions:
            topics, life = set(deletion["topics"]), deletion["lives"].get(EVENTS, 0)
            before = dict(deletion["events_before"])
            # Of an open end: the topic of the events was made anew before the readers could be asked again.
            open_end = deletion["lives_after"].get(EVENTS, 0) > life
            after = {} if open_end else dict(deletion["events_after"])

            def is_between(one, before=before, after=after, life=life):
                number, offset = one["partition"], one["offset"]
                return one["life"] == life and before.get(number, 0) <= offset < after.get(number, sys.maxsize)

            between = [one for one in records[EVENTS] if is_between(one)]
            if EVENTS in topics:
                self.lost_events.update(one["event_id"] for one in between)
            if JOBS in topics:
                self.unseen.update(one["event_id"] for one in between)
            if topics & {EVENTS, LETTERS}:
                self.letters_unseen |= {place_of(one) for one in records["hostile"] if one["topic"] == EVENTS and is_between(one)}
            if topics & {JOBS, LETTERS}:
                life, before = deletion["lives"].get(JOBS, 0), dict(deletion["jobs_before"])
                self.letters_unseen |= {
                    place_of(one) for one in records["hostile"]
                    if one["topic"] == JOBS and one["life"] == life and one["offset"] >= before.get(one["partition"], 0)
                    and (JOBS in topics or one["at"] < deletion["end"])}

    def end_of(self, job):
        """The deletion that ended a job's life."""
        return self.deletions[job["life"]] if job["life"] < self.life else None

    def lane(self, job):
        """The lane's name, which is what the sandbox logs as the target."""
        kind, name = job["credential"].split(":")
        return {"slack": job["destination"], "webhook": name, "clevertap": name.upper()}[kind]

    def sort_arrivals(self):
        """Accepted arrivals by their job, each with the outcome that it led to."""
        rules = defaultdict(list)
        for lane, event, rule in self.by_text:
            rules[(lane, event)].append(rule)
        for arrival in self.run.arrivals:
            arrival["time"] = moment(arrival["at"])
            text = said(arrival)
            arrival["jobs"] = []
            if text is None:
                continue
            found = [self.by_text[(arrival["target"], text, rule)] for rule in rules.get((arrival["target"], text), [])]
            if not found and not self.unseen[text]:
                self.breaches.append(f"nobody asked for what arrived as {arrival['seq']} at {arrival['target']}: {text}")
            arrival["jobs"] = found
            if arrival["accepted"]:
                for job_id in found:
                    self.accepted[job_id].append(arrival)

    def attempt(self, job_id, arrival):
        """The outcome of the attempt that this arrival was of; none where its sender could not write it."""
        for job in self.same_id(job_id):
            for outcome in self.outcomes[(job["life"], job["partition"], job["offset"])]:
                started = outcome["started"]
                if started and started - 0.02 <= arrival["time"] <= outcome["ended"] + 0.02:
                    return outcome
        return None

    def same_id(self, job_id):
        if not hasattr(self, "ids"):
            self.ids = defaultdict(list)
            for job in self.jobs.values():
                self.ids[job["job_id"]].append(job)
        return self.ids[job_id]

    # ---- conservation

    def conservation(self):
        run, records = self.run, self.run.topics.records
        written, read = Counter(e["event_id"] for e in run.events), Counter(e["event_id"] for e in records["lead-events"])
        if written != read:
            self.breaches.append(f"{sum((written - read).values())} events are missing in lead-events")
        due = Counter((event["event_id"], rule) for event in run.events for rule, _ in run.lanes[event["trigger"]])
        there = Counter((job["event_id"], job["rule_id"]) for job in self.jobs.values())
        missing = due - there
        gone = {key: min(count, self.lost_events[key[0]] + self.unseen[key[0]]) for key, count in missing.items()}
        lost = sum((missing - Counter(gone)).values())
        if lost or there - due:
            self.breaches.append(f"{lost} jobs are missing, {sum((there - due).values())} too many")
        gone_jobs, ended_jobs, duplicates = 0, 0, 0
        first_in_life = {}
        for place, job in sorted(self.jobs.items()):
            finals = {outcome["result"] for outcome in self.outcomes[place] if outcome["result"] in FINAL}
            is_first = self.first[job["job_id"]] is job
            earlier = first_in_life.setdefault((job["life"], job["job_id"]), job) is not job
            end = self.end_of(job)
            ended_jobs += end is not None
            if not finals:
                if end and job["offset"] >= dict(end["jobs_before"]).get(job["partition"], 0):
                    gone_jobs += 1
                else:
                    lost += 1
                    self.breaches.append(f"job {place} of {self.lane(job)} has no final outcome")
            # A sender that had sent it before it lost its partition may find it a duplicate; so may one that sent the
            # event's job of an earlier life.
            elif (finals - {"sent", "duplicate"} or (is_first and not self.unseen[job["event_id"]] and "sent" not in finals)
                  or (earlier and "sent" in finals)):
                self.breaches.append(f"job {place} of {self.lane(job)} ended as {sorted(finals)}"
                                     + ("" if is_first else ", though its event was sent before"))
            duplicates += not is_first
            if finals and not self.accepted[job["job_id"]]:
                self.breaches.append(f"job {place} of {self.lane(job)} is {sorted(finals)} but has not arrived")
        self.dead_letters()
        last = defaultdict(int)
        for life, partition, offset in self.jobs:
            if life == self.life:
                last[partition] = max(last[partition], offset)
        committed = dict(run.topics.committed)
        for partition, offset in last.items():
            if committed.get(partition, -1) <= offset:
                self.breaches.append(f"partition {partition}: committed is {committed.get(partition)}, but job {offset} is settled")
        self.figures["events"] = f"{len(run.events)}, of them {sum(count - 1 for count in written.values())} written twice"
        self.figures["jobs"] = f"{len(self.jobs)}, of them {duplicates} duplicates"
        self.figures["lost"] = lost
        made = Counter(topic for deletion in run.topics.deletions for topic in deletion["topics"])
        self.figures["topics made anew"] = f"{sum(made.values())} {dict(made)}"
        self.figures["gone with a topic"] = (f"{sum(self.lost_events.values())} events not consumed, {sum(gone.values())} jobs of these or "
                                             f"never seen, {gone_jobs} of {ended_jobs} jobs not sent")

    def dead_letters(self):
        records = self.run.topics.records
        at = defaultdict(list)
        for one in sorted(records["hostile"], key=lambda one: one["life"]):
            at[(one["topic"], one["partition"], one["offset"])].append(one)
        found = Counter()
        for letter in records[LETTERS]:
            # Of those at one place the last that was there by then.
            there = [one for one in at[source(letter)] if one["at"] <= letter["at"] + STAMP_SECONDS]
            if there:
                found[place_of(there[-1])] += 1
            else:
                self.breaches.append(f"a dead letter: {letter['headers']}")
        places = {place_of(one) for one in records["hostile"]}
        for place, count in found.items():
            if count > 1 and place[0] != JOBS:
                self.breaches.append(f"{count} dead letters of the hostile record at {place}")
        missing = places - set(found)
        for place in sorted(missing - self.letters_unseen):
            self.breaches.append(f"the hostile record at {place} has no dead letter")
        self.figures["hostile records"] = (f"{len(places)}, dead letters {len(records[LETTERS])}, "
                                           f"gone with a topic {len(missing & self.letters_unseen)}")

    # ---- repeats

    def repeats(self):
        in_flight, excused, kills = Counter(), Counter(), Counter()
        for job_id, arrivals in self.accepted.items():
            if not all(self.attempt(job_id, arrival) for arrival in arrivals[-1:]):
                self.excuse(job_id, arrivals[-1], self.disruption(arrivals[-1]), in_flight)
            for earlier, later in zip(arrivals, arrivals[1:]):
                outcome, found = self.attempt(job_id, earlier), self.disruption(earlier)
                self.excuse(job_id, earlier, found, in_flight) if not outcome else None
                if outcome and outcome["result"] == "retry":
                    excused["ambiguous answer"] += 1
                elif self.in_two_lives(job_id, earlier, later):
                    excused["its outcome was deleted"] += 1
                elif not found or (found["kind"] == "kill" and outcome):
                    self.breaches.append(
                        f"{earlier['target']}: {said(earlier)} arrived as {earlier['seq']} and again as {later['seq']}, "
                        f"{later['time'] - earlier['time']:.1f} s later; the outcome between is {outcome and outcome['result']}")
                else:
                    excused[f"in flight at a {found['kind']}"] += 1
                    kills[(found["start"], earlier["target"])] += found["kind"] == "kill"
        for (start, target), count in kills.items():
            most = 1 if self.run.ways[target].limit else self.run.concurrency * self.run.batch_max
            if count > most:
                self.breaches.append(f"{target}: {count} repeats after the kill at {start:.1f}, but {most} can be in flight")
        self.figures["repeats"] = f"{sum(excused.values())} {dict(excused)}"
        self.figures["in flight, their outcome never written"] = f"{sum(in_flight.values())} {dict(in_flight)}"

    def in_two_lives(self, job_id, earlier, later):
        """Whether an event has jobs on both sides of a deletion that lies between two arrivals."""
        lives = {job["life"] for job in self.same_id(job_id)}
        return any(any(life <= number for life in lives) and any(life > number for life in lives)
                   and earlier["time"] <= deletion["end"] + NOTICED_SECONDS and later["time"] >= deletion["start"]
                   for number, deletion in enumerate(self.deletions))

    def excuse(self, job_id, arrival, found, in_flight):
        # Its outcome went with the topic, or was not written any more when the sender noticed.
        ends = (self.end_of(job) for job in self.same_id(job_id))
        if not found and any(end and end["start"] - FLIGHT_SECONDS <= arrival["time"] <= end["end"] + NOTICED_SECONDS for end in ends):
            in_flight["when its topic was deleted"] += 1
        elif not found:
            self.breaches.append(f"{arrival['target']}: {said(arrival)} arrived as {arrival['seq']}, but no attempt says so")
        else:
            in_flight[f"at a {found['kind']}"] += 1

    def disruption(self, arrival, but=("cut-destination",)):
        """What had befallen the senders, or Kafka, before an arrival's outcome was in Kafka for sure."""
        # Of a request that gets no answer the outcome comes when the sender has given up waiting.
        unanswered = arrival["status"] is None or any(one["kind"] == "cut-destination" and one["start"] - 1 <= arrival["time"] <= one["end"]
                                                      for one in self.run.disruptions)
        flight = FLIGHT_SECONDS + (self.run.request if unanswered else 0)
        found = [one for one in self.run.disruptions if one["kind"] not in but and not one["kind"].startswith("anew")
                 and one["start"] - flight <= arrival["time"] <= ended(one)]
        # A kill explains more than the rest does: least is asked of it.
        return min(found, key=lambda one: (one["kind"] == "kill", one["start"]), default=None)

    # ---- order

    def order(self):
        wrong = 0
        for lane, jobs in self.of_lane.items():
            last = {}
            for job in jobs:
                if self.first[job["job_id"]] is not job or not self.accepted[job["job_id"]]:
                    continue
                key = job["destination"] if not self.run.ways[lane].limit else lane
                seq = self.accepted[job["job_id"]][0]["seq"]
                if seq < last.get(key, (0, None))[0]:
                    wrong += 1
                    before = last[key][1]
                    self.breaches.append(f"{lane}: job {job['offset']} ({job['event_id']}) arrived before job "
                                         f"{before['offset']} ({before['event_id']}) of partition {job['partition']}")
                last[key] = max(last.get(key, (0, None)), (seq, job), key=lambda pair: pair[0])
        self.figures["out of order"] = wrong

    # ---- Retry-After

    def retry_after(self):
        inside, asked, unknown = 0, 0, 0
        for refused in (arrival for arrival in self.run.arrivals if arrival["status"] == 429):
            fault = self.run.faults.get(str(refused.get("fault")), {})
            wait = fault.get("retry_after", None if fault else 1)
            if wait is None or not refused["jobs"]:
                continue
            told = self.attempt(refused["jobs"][0], refused)
            until = refused["time"] + self.run.latency + wait
            # Where the outcomes are deleted meanwhile, nobody who takes over knows.
            forgotten = any(told and told["ended"] - FLIGHT_SECONDS < deletion["end"] and deletion["start"] < until for deletion in self.deletions)
            if forgotten or not told or told["result"] != "throttled" or self.disruption(refused, but=("cut-destination", "kill")):
                unknown += 1
                continue
            asked += 1
            for arrival in self.run.arrivals:
                if told["ended"] < arrival["time"] < until and same_scope(refused, arrival):
                    own = arrival["jobs"] and self.attempt(arrival["jobs"][0], arrival)
                    # A request may be on its way when the answer comes.
                    if (own["started"] if own else arrival["time"] - STAMP_SECONDS) > told["ended"]:
                        inside += 1
                        self.breaches.append(f"{arrival['target']}: arrival {arrival['seq']} is {until - arrival['time']:.3f} s "
                                             f"inside the Retry-After of {wait} s of arrival {refused['seq']}")
        self.figures["inside a Retry-After"] = f"{inside} (of {asked} that were known, {unknown} that were not)"

    # ---- limits

    def limits(self):
        arrivals, starts = defaultdict(list), defaultdict(list)
        for arrival in self.run.arrivals:
            way = self.run.ways.get(arrival["target"])
            if way and way.limit:
                at, attempt = arrival["at_ms"] / 1000, arrival["jobs"] and self.attempt(arrival["jobs"][0], arrival)
                moment = (at, arrival["time"] - attempt["started"] if attempt else 0)
                arrivals[(way.name, way.limit)].append(moment)
                if way.credential_limit:
                    arrivals[(way.credential, way.credential_limit)].append(moment)
        for place, job in self.jobs.items():
            way = self.run.ways[self.lane(job)]
            # An outcome that Kafka did not acknowledge is written again.
            attempts = {(outcome["attempt"], outcome["started"]) for outcome in self.outcomes[place] if way.limit}
            for number, started in attempts:
                if started and number:
                    starts[(way.name, way.limit)].append((started, 0))
                    if way.credential_limit:
                        starts[(way.credential, way.credential_limit)].append((started, 0))
        worst = 0
        for what, times, tolerance in (("arrived", arrivals, STAMP_SECONDS), ("started", starts, 0.002)):
            for (name, (count, period)), moments in times.items():
                moments.sort()
                for (first, late), (beyond, later) in zip(moments, moments[count:]):
                    # Of two requests that start a second apart, the first may be longer on its way.
                    if beyond - first < period - tolerance - max(late - later, 0):
                        worst += 1
                        self.breaches.append(f"{name}: {count + 1} requests {what} within {beyond - first:.3f} s from {first:.3f} on, "
                                             f"but the limit is {count} in {period} s")
        self.figures["windows over a limit"] = worst
        for target, counts in self.run.summary["targets"].items():
            way = self.run.ways.get(target)
            if way and not way.limit and counts["in_flight_max"] > self.run.concurrency:
                self.breaches.append(f"{target}: {counts['in_flight_max']} uploads at once, but the limit is {self.run.concurrency}")

    def use(self):
        """How much of each limit was used while work waited and all was well."""
        began, end = self.run.calm
        shares = {}
        for way in self.run.ways.values():
            if not way.limit:
                continue
            of_credential = [other for other in self.run.ways.values() if other.credential == way.credential]
            names = {other.name for other in of_credential}
            lanes = sum(other.per_second for other in of_credential)
            most = min(lanes, way.credential_limit[0] / way.credential_limit[1]) if way.credential_limit else lanes
            times = [arrival["time"] for arrival in self.run.arrivals if arrival["target"] in names and began <= arrival["time"] <= end]
            if len(times) > 2:
                shares[way.credential] = (len(times) - 1) / (times[-1] - times[0]) / most
                if times[-1] < end - 3 / most:
                    self.breaches.append(f"{way.credential}: nothing came in the calm after {times[-1] - began:.1f} s")
            else:
                shares[way.credential] = 0
        for credential, share in shares.items():
            if share < 0.95:
                self.breaches.append(f"{credential}: {share:.1%} of the limit is used while work waits")
        requests = [arrival for arrival in self.run.arrivals if (way := self.run.ways.get(arrival["target"])) and (way.same or not way.limit)
                    and arrival["kind"] != "clevertap_record"]
        refused = [arrival for arrival in requests if arrival["status"] == 429 and not arrival.get("fault")]
        share = len(refused) / max(1, len(requests))
        if share > 0.005:
            self.breaches.append(f"{len(refused)} of {len(requests)} requests were answered 429")
        self.figures["limit used in the calm"] = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
        self.figures["answered 429 without a fault"] = f"{len(refused)} of {len(requests)} ({share:.2%})"


def moment(text):
    """Epoch seconds of RFC 3339 in UTC, whatever the number of its decimals."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")


def place_of(record):
    return record["topic"], record["life"], record["partition"], record["offset"]


def seconds(at):
    return at.timestamp() if isinstance(at, datetime) else at


def ended(disruption):
    if disruption["kind"] in ("kill", "stop"):
        return disruption["start"] + 0.05
    return disruption["end"] + RECOVERY_SECONDS


def said(arrival):
    """The event's id, which is all that a message or a record says."""
    if arrival["kind"] in ("slack_message", "slack_webhook"):
        return arrival["text"]
    if arrival["kind"] == "clevertap_record":
        return arrival["record"]["evtData"]["Id"]
    return None


def same_scope(refused, arrival):
    if arrival["kind"] != refused["kind"]:
        return False
    if refused.get("error") == "ratelimited":
        return arrival.get("workspace") == refused.get("workspace")
    return arrival["target"] == refused["target"]



def doubt(path):
    """What the oracle does not see of the corruptions of a kept run that broke no promise. One that finds nothing to
    corrupt says False."""
    unseen = []
    for corruption in (drop_new_job, drop_new_outcome, drop_event, repeat_arrival, unknown_letter, drop_letter,
                       drop_old_outcome, crowd):
        run = Run.load(path)
        if corruption(run) is not False and not judge(run, lambda _: None):
            unseen.append(f"the oracle does not see: {corruption.__name__}")
    return unseen


def final_of(run, of_life):
    """A job that was sent in a life that `of_life` takes, of which nothing may be missing, and its final outcomes."""
    verdict = Verdict(run)
    lives = run.topics.lives.get(JOBS, 0)
    finals = defaultdict(list)
    for outcome in run.topics.records[OUTCOMES]:
        if outcome["result"] == "sent":
            finals[(outcome["job_partition"], outcome["job_offset"], outcome["job_id"])].append(outcome)
    known = Counter(job["job_id"] for job in run.topics.records[JOBS])
    # The latest: of one that was there at a deletion less is asked.
    for job in sorted(run.topics.records[JOBS], key=lambda job: -job["at"]):
        found = finals[(job["partition"], job["offset"], job["job_id"])]
        if of_life(job, lives) and found and known[job["job_id"]] == 1 and not (
                verdict.unseen[job["event_id"]] or verdict.lost_events[job["event_id"]]):
            return job, found
    return None, []


def drop_new_job(run):
    """With all that came of it: as if its event had been passed by."""
    job, finals = final_of(run, lambda job, last: job["life"] == last)
    if job:
        target = Verdict(run).lane(job)
        run.topics.records[JOBS].remove(job)
        run.topics.records[OUTCOMES] = [one for one in run.topics.records[OUTCOMES] if one not in finals]
        run.arrivals = [one for one in run.arrivals if one["target"] != target or said(one) != job["event_id"]]
    return bool(job)


def drop_new_outcome(run):
    job, finals = final_of(run, lambda job, last: job["life"] == last)
    run.topics.records[OUTCOMES] = [one for one in run.topics.records[OUTCOMES] if one not in finals]
    return bool(job)


def drop_old_outcome(run):
    """Of a job below what was committed when its topic was deleted."""
    ends = [dict(one["jobs_before"]) for one in run.topics.deletions if JOBS in one["topics"]]
    job, finals = final_of(run, lambda job, last: job["life"] < last and job["offset"] < ends[job["life"]].get(job["partition"], 0))
    run.topics.records[OUTCOMES] = [one for one in run.topics.records[OUTCOMES] if one not in finals]
    return bool(job)


def drop_event(run):
    run.topics.records[EVENTS].pop()


def repeat_arrival(run):
    """Of one that was answered well while all was well."""
    arrival = next(one for one in run.arrivals if one["accepted"] and said(one) and run.calm[0] < moment(one["at"]) < run.calm[1])
    last = run.arrivals[-1]
    run.arrivals.append(arrival | {"seq": last["seq"] + 1, "at": last["at"], "at_ms": last["at_ms"]})


def crowd(run):
    """A request comes with those before it, and no request was longer on its way than the others."""
    target, way = next((target, way) for target, way in run.ways.items() if way.limit and way.limit[1] == 1)
    calm = [one for one in run.arrivals if one["target"] == target and run.calm[0] < moment(one["at"]) < run.calm[1]]
    calm[way.limit[0]]["at_ms"] = calm[0]["at_ms"] + 1


def unknown_letter(run):
    letter = run.topics.records[LETTERS][0]
    run.topics.records[LETTERS].append(letter | {"headers": letter["headers"] | {"source-offset": "987654321"}})


def drop_letter(run):
    """Of an event that was read while no topic was made anew."""
    near = [(one["start"] - 15, one["end"] + 15) for one in run.topics.deletions]
    letters = run.topics.records[LETTERS]
    for letter in letters:
        if letter["headers"]["source-topic"] == EVENTS and not any(start < letter["at"] < end for start, end in near):
            letters.remove(letter)
            return True
    return False


if __name__ == "__main__":
    found = judge(Run.load(Path(sys.argv[1])), print)
    found = found or doubt(Path(sys.argv[1]))
    print("\n".join(f"BREACH  {breach}" for breach in found))
    sys.exit(1 if found else 0)
