"""Reads evidence, and works out what follows from its parts. What must hold is in verify.py."""
import collections, json, pathlib, re
from formats import canon, digest, instant, integer

CAUSES = "unwritten ringDropped socketDropped hostDropped".split()
UNREADABLE = LookupError, TypeError, ValueError, AttributeError, RecursionError, OSError

ZERO = dict.fromkeys("bytes packets truncated reduced backwardsNs seq checkpoints left right lost atMostLost".split(), 0)
ZERO |= dict.fromkeys("segments superseded records objects reasons collectors gaps balances rules".split(), [])
NEVER = "0001-01-01T00:00:00Z"
RECORD = re.compile(r"(manifest|plan|tree)\.json|(custody|certificates)/[^/]+\.json|addenda/[0-9]{6}\.json|"
                    r"collectors/(?P<user>[^/]+)/(manifest|checkpoints/(?P<seq>[0-9]{6})-[0-9a-f]{64})\.json")


class Record(dict):
    """A JSON object whose absent and null members are zero."""
    def __getitem__(self, k):
        return ZERO.get(k, "") if self.get(k) is None else self.get(k)


ZERO |= dict.fromkeys("tally rejected ledger signer mirror filter source finding plan".split(), Record())


def parse(name, raw, capture):
    """The record that raw is, of an object of this name. ValueError: it is none."""
    match, fraction = RECORD.fullmatch(name), float if name == "plan.json" else integer
    r = json.loads(raw, object_hook=Record, parse_int=integer, parse_float=fraction, parse_constant=integer)
    wanted = {"version": 1, "capture": capture, "userId": match["user"], "seq": match["seq"] and int(match["seq"]),
              "format": "flashtap-evidence/1" if match[1] in ("manifest", "tree") else None}
    wrong = [k for k, v in wanted.items() if v is not None and r[k] != v]
    if wrong or canon(r) != raw:
        raise ValueError(f"wrong are {wrong}" if wrong else "it is not canonical")
    return r


def bare(r):
    """A segment record as links and leaves have it."""
    return Record((k, v) for k, v in r.items() if k != "confirmed")


def link(r):
    return digest(canon(bare(r)))


def split(records):
    """The latest record of each number, and the others."""
    latest = {r["seq"]: r for r in records}
    return [latest[n] for n in sorted(latest)], [r for r in records if r is not latest[r["seq"]]]


def counts(tally):
    return collections.Counter({k: v for k, v in (tally | tally["rejected"]).items() if k != "rejected"})


def plain(v):
    """v without members that are zero; of times, the one that Flashtap writes for none."""
    if isinstance(v, dict):
        return {k: plain(x) for k, x in v.items() if plain(x)}
    return [plain(x) for x in v] if isinstance(v, list) else "" if v == NEVER else v


def total(records, k):
    return sum(r[k] for r in records)


def balances(tally, segments, closed=True):
    """Both sides of the equations 1 to 5 of section 6.5; of a collector without closing manifest, of the first."""
    of, held = counts(tally), [s for s in segments if s["confirmed"]]
    return [(of["received"], of["written"] + of["unwritten"] + sum(tally["rejected"].values()))] + closed * [
        (of["written"], of["sealed"]), (of["sealed"], total(segments, "packets")),
        (of["sealedBytes"], total(segments, "bytes")), (of["uploaded"], total(held, "packets")),
        (of["uploadedBytes"], total(held, "bytes")), (of["reduced"], total(segments, "reduced"))]


def everything(mirror):
    """Whether everything was asked for."""
    rules = mirror["filter"]["rules"]
    whole = {(r["direction"], r["sourceCidr"], r["destinationCidr"]) for r in rules if not (
        r["protocol"] or r["sourcePorts"] or r["destinationPorts"])}
    needed = {(way, block, block) for way in ("ingress", "egress") for block in ("0.0.0.0/0", "::/0")}
    accepts = needed <= whole and all(r["action"] == "accept" for r in rules)
    return accepts and mirror["filter"]["dns"] and not mirror["packetLength"]


class Evidence:
    """What a folder holds of one capture."""
    def __init__(self, folder, key):
        paths = sorted(p for p in pathlib.Path(folder).rglob("*") if p.is_file())
        self.files = {p.relative_to(folder).as_posix(): p for p in paths}
        self.digests, self.key = {n: digest(p.read_bytes()) for n, p in self.files.items()}, key or f"{folder}/key.pem"
        texts = [self.files[n].read_bytes() for n in ("manifest.json", "plan.json", *self.files) if n in self.files]
        found = [m[1].decode() for m in (re.search(rb'"capture":"([0-9A-Za-z-]+)"', t) for t in texts) if m]
        self.capture, self.records, self.faults = found[0] if found else "", {}, {}
        for name in filter(RECORD.fullmatch, self.files):
            try:
                self.records[name] = parse(name, self.files[name].read_bytes(), self.capture)
            except UNREADABLE as err:
                self.records[name], self.faults[name] = Record(), err
        self.m, self.sealed = self.records.get("manifest.json", Record()), "manifest.json" in self.files
        self.listed = {self.name(o) for o in self.m["objects"]} if self.sealed else set(self.files)
        self.users = sorted({n.split("/")[1] for n in self.listed if n.startswith("collectors/")})
        self.collectors = self.m["collectors"] if self.sealed else [self.derived(u) for u in self.users]
        self.later = [n for n in self.records if n.startswith("addenda/")]

    def name(self, entry):
        prefix, key = f"captures/{self.capture}/", entry["key"]
        return key.removeprefix(prefix) if key.startswith(prefix) else "/" + key

    def points(self, user, until=999999):
        """The checkpoints of a collector: number, name and record."""
        return [(r["seq"], n, r) for n, r in self.records.items() if n in self.listed and
                n.startswith(f"collectors/{user}/checkpoints/") and 0 < r["seq"] <= until]

    def derived(self, user):
        """What the checkpoints of a collector say of it."""
        points = self.points(user) or [(0, "", Record())]
        segments, superseded = split([r for p in points for r in p[2]["records"]])
        number, name, last = points[-1]
        return Record({k: last[k] for k in ("tally", "host", "chain")}, derived=True, userId=user, checkpoints=number,
                      started=points[0][2]["at"] or NEVER, ended=last["at"] or NEVER,
                      lastCheckpoint=self.digests.get(name, ""), segments=segments, superseded=superseded)

    def held(self):
        """The segments of all collectors that are in the bucket, by name."""
        name = "collectors/{}/segments/{:06}-{}.pcap".format
        named = {name(c["userId"], r["seq"], r["sha256"]): r for c in self.collectors for r in c["segments"]}
        return {n: named[n] for n in sorted(named, key=str.encode) if n in self.listed and n == self.name(named[n])}

    def order(self, c):
        """The records of a collector's chain."""
        links, last, order = {link(r): r for r in c["segments"] + c["superseded"]}, c["chain"], []
        while last in links:
            order.insert(0, links.pop(last))
            last = order[0]["previous"]
        return order

    def gaps(self, c):
        """When a collector lost packets (section 6.3)."""
        states = [(c["started"], {})]
        states += [(p["at"], counts(p["tally"])) for _, _, p in self.points(c["userId"], c["checkpoints"])]
        states += [] if c["derived"] else [(c["ended"], counts(c["tally"]))]
        gaps = []
        for cause in CAUSES:
            for (start, before), (end, after) in zip(states, states[1:]):
                grown = after[cause] - before.get(cause, 0)
                if grown > 0 and gaps and (gaps[-1]["to"], gaps[-1]["cause"]) == (start, cause):
                    gaps[-1] |= {"to": end, "packets": gaps[-1]["packets"] + grown}
                elif grown > 0:
                    gaps.append({"from": start, "to": end, "cause": cause, "packets": grown, "collector": c["userId"]})
        return gaps + bool(c["derived"]) * [{"from": c["ended"], "cause": "unknown", "collector": c["userId"]}]
