#!/usr/bin/env python3
"""Verifies captures by docs/evidence.md alone: verify.py [--key pub.pem] FOLDER...

Tells discrepancies as `CHECK: OBJECT: WHAT`, then outcome and verdict. Exits with the highest of: 0 authentic and
complete, 5 authentic but incomplete or without packets, 6 signer unverified, 7 broken, 8 unsealed.
It leaves to flashtap verify: the form of plan.json, numbers above 2^53, kinds of keys, userId and seq against names,
sizes of gaps, filters, missing numbers, chains that are derived or lack checkpoints, stray files' reasons, proofs.
"""
import collections, datetime, hashlib, json, pathlib, re, struct, subprocess, sys

LOSSES, NEVER = "unwritten ringDropped socketDropped hostDropped unknown".split(), "0001-01-01T00:00:00Z"
RECORD = re.compile(r"(manifest|plan|tree|(custody|certificates|addenda|collectors/[^/]+(/checkpoints)?)/[^/]+)\.json")
NAMED = re.compile(r"(joined/|collectors/[^/]+/(checkpoints|segments)/[0-9]{6}-)([0-9a-f]{64})\.(json|pcap)")

class Record(dict):  # a JSON object whose absent and null members are zero
    def __getitem__(self, k):
        return NIL.get(k, "") if self.get(k) in (None, NEVER) else self.get(k)
NIL = dict.fromkeys("bytes packets truncated reduced backwardsNs seq checkpoints lost atMostLost left right".split(), 0)
NIL |= dict.fromkeys("segments superseded records objects reasons collectors gaps balances rules".split(), [])
NIL |= dict.fromkeys("tally rejected ledger signer mirror source".split(), Record())

def digest(raw):
    return hashlib.sha256(raw).hexdigest()
def canon(v):  # RFC 8785 of a record: numbers are integers, and names are ASCII, which Python sorts alike
    return json.dumps(v, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
def leaf(r):
    return canon({k: v for k, v in r.items() if k != "confirmed"})
def link(r):
    return digest(leaf(r))
def total(records, k):
    return sum(r[k] for r in records)
def counts(tally):
    return collections.Counter({k: v for k, v in (tally | tally["rejected"]).items() if k != "rejected"})
def openssl(*args):
    return subprocess.run(["openssl", *args], stdin=subprocess.DEVNULL, capture_output=True).stdout
def expect(check, obj, condition, what):
    return bool(condition) or print(f"{check}: {obj}: {what}")
def instant(time):  # nanoseconds since 1970 (RFC 3339)
    second, _, fraction = (time or NEVER).removesuffix("Z").partition(".")
    return int(datetime.datetime.fromisoformat(second + "+00:00").timestamp()) * 10**9 + int(fraction.ljust(9, "0"))
def chained(check, items, gaps=False):  # checks (object, number from 1, digest of the one before, own digest)
    for (_, number, _, before), (obj, n, previous, _) in zip([("", 0, "", ""), *items], items):
        yield check, obj, (n, previous) == (number + 1, before) or gaps and n > number + 1, f"it is not after {number}"
def root(leaves):  # the Merkle Tree Hash (RFC 9162, section 2.1.1)
    if len(leaves) < 2:
        return hashlib.sha256(b"\0" + leaves[0] if leaves else b"").digest()
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + root(leaves[:k]) + root(leaves[k:])).digest()
def measure(raw):  # what a segment record says of its file (draft-ietf-opsawg-pcap); nothing: it is no segment
    at, times, truncated, good = 24, [], 0, raw[:8] + raw[16:24] == struct.pack("<IHHII", 0xA1B23C4D, 2, 4, 262144, 1)
    while good and at + 16 <= len(raw):
        second, nano, length, original = struct.unpack_from("<IIII", raw, at)
        good, at = nano < 10**9 and 14 <= length <= min(262144, original), at + 16 + length
        times.append(second * 10**9 + nano)
        truncated += length < original
    back = max((a - b for a, b in zip(times, times[1:])), default=0)
    return {"bytes": at, "packets": len(times), "truncated": truncated, "first": times[0], "last": times[-1],
            "backwardsNs": min(back, 2**53 - 1) if back > 10**8 else 0} if good and times and at == len(raw) else {}
def balances(tally, segments):  # both sides of the equations 1 to 5 of section 6.5
    of, held = counts(tally), [r for r in segments if r["confirmed"]]
    left = [of[k] for k in "received written sealed sealedBytes uploaded uploadedBytes reduced".split()]
    right = [of["written"] + of["unwritten"] + sum(tally["rejected"].values()), of["sealed"]]
    right += [total(records, k) for records in (segments, held) for k in ("packets", "bytes")]
    return list(zip(left, right + [total(segments, "reduced")]))

class Capture:  # what a folder holds; checks yield their name, an object, what must hold, and what is wrong if not
    def __init__(self, folder, key):
        self.folder, self.key, paths = folder, key, sorted(p for p in pathlib.Path(folder).rglob("*") if p.is_file())
        self.files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}
        self.digests, self.sealed = {n: digest(raw) for n, raw in self.files.items()}, "manifest.json" in self.files
        names = sorted(filter(RECORD.fullmatch, self.files), key=lambda n: ("/" in n, n))
        found = re.search(rb'"capture":"([0-9A-Za-z-]+)"', b"".join(self.files[n] for n in names))
        self.prefix = f"captures/{found[1].decode() if found else ''}/"
        self.records = collections.defaultdict(Record, {n: self.parse(n, self.files[n]) for n in names})
        self.m, self.seals = self.records["manifest.json"], [n for n in names if n[:8] in ("manifest", "addenda/")]
        self.listed = {o["key"] for o in self.m["objects"]} if self.sealed else {self.prefix + n for n in self.files}
        users = {n.split("/")[1] for n in names if "/checkpoints/" in n}
        segments = {user: [r for _, p in self.states(user, 999999) for r in p["records"]] for user in users}
        self.collectors = self.m["collectors"] if self.sealed else [
            Record(userId=user, derived=True, checkpoints=999999, segments=segments[user]) for user in users]
        form = (self.prefix + "collectors/{}/segments/{:06}-{}.pcap").format
        known = {form(c["userId"], r["seq"], r["sha256"]): r for c in self.collectors for r in c["segments"]}
        self.held = {k: r for k, r in sorted(known.items()) if k in self.listed and k == r["key"]}
    def parse(self, name, raw):  # an empty record when it is none
        try:
            r = json.loads(raw, object_hook=Record, parse_float=float if name == "plan.json" else int)
            good = r["format"] == "flashtap-evidence/1" or name not in ("manifest.json", "tree.json")
            good = good and r["version"] == 1 and r["capture"] == self.prefix[9:-1]
            return r if good and (name == "plan.json" or canon(r) == raw) else Record()
        except Exception:  # whatever is wrong with it
            return Record()
    def states(self, user, until):  # the names and records of a collector's checkpoints, after one with zeros
        return [("", Record())] + [(n, r) for n, r in self.records.items() if 0 < r["seq"] <= until and
                                   self.prefix + n in self.listed and n.startswith(f"collectors/{user}/checkpoints/")]

    def check_files(self):
        closed = {c["userId"] for c in self.collectors if not c["derived"]}  # the others may leave what they like
        for name, match in ((n, NAMED.fullmatch(n)) for n in self.files):
            lax = not RECORD.fullmatch(name) or name.startswith("collectors/") and name.split("/")[1] not in closed
            yield "format", name, lax or self.records[name], "it is no record of this capture"
            yield "names", name, not match or match[3] == self.digests[name], "its digest is another"
            r = self.held.get(self.prefix + name)
            if r or not self.sealed and match and match[2] == "segments":
                file = measure(self.files[name])
                said = {k: instant(r[k]) if k in ("first", "last") else r[k] for k in file} if r else file
                yield "segments", name, file and said == file, f"its record says {said}, the file {file}"
    def check_collectors(self):
        for c in self.collectors:
            user, lax = c["userId"], c["derived"] or c["error"]
            left, states = self.records[f"collectors/{user}/manifest.json"], self.states(user, c["checkpoints"])
            said = {k: states[-1][1][k] for k in ("tally", "chain")} if c["derived"] else left
            good = not self.sealed or bool(left) != bool(c["derived"]) and all(c[k] == v for k, v in said.items())
            yield "manifest", user, good, "its entry in collectors says something else"
            items = [(n, r["seq"], r["previous"], self.digests[n]) for n, r in states[1:]]
            yield from chained("checkpoints", items, self.m["reasons"])
            whole, last = len(items) == c["checkpoints"], self.digests.get(states[-1][0], "")
            good = last == c["lastCheckpoint"] if whole else self.m["reasons"] or not self.sealed
            yield "checkpoints", user, good, "some are missing, or lastCheckpoint is another"
            for (_, a), (name, b) in zip(states, states[1:]):
                old, now, replaced = counts(a["tally"]), counts(b["tally"]), any(r["replaces"] for r in b["records"])
                good = bool(lax) or all(now[k] >= old[k] or replaced and k in ("sealedBytes", "reduced") for k in old)
                chain = link(b["records"][-1]) if b["records"] else a["chain"]
                good &= (b["seq"] > a["seq"] + 1 or chain == b["chain"]) and instant(b["at"]) >= instant(a["at"])
                yield "checkpoints", name, good, "chain is another, at is earlier, or a counter fell"
            records, own = [r for _, p in states for r in p["records"]], c["segments"] + c["superseded"]
            records = records[max((i for i, r in enumerate(records) if not r["previous"]), default=0):]
            if whole and not c["derived"]:
                yield from chained("chain", [(user, i, r["previous"], link(r)) for i, r in enumerate(records, 1)])
                good = {*map(link, own)} == {*map(link, records)} and c["chain"] == ["", *map(link, records)][-1]
                good = good and [r["seq"] for r in c["segments"]] == sorted({r["seq"] for r in records})
                yield "chain", user, good, "it is not that of the checkpoints"
    def check_seals(self):
        m, files, seals, at, path = self.m, self.files, self.seals, self.prefix, self.folder + "/"
        ders = {digest(openssl("pkey", "-pubin", "-outform", "DER", "-in", k)) for k in (self.key, path + "key.pem")}
        for name in [*seals, "tree.json"] if "manifest.sig" in files else []:
            sig, der = path + name[:-4] + "sig", files[name[:-4] + "sig"]
            done = openssl("dgst", "-sha256", "-verify", self.key, "-signature", sig, path + name)
            good = done == b"Verified OK\n" and len(der) == 2 + der[1] and ders == {m["signer"]["publicKeySha256"]}
            yield "signature", name, good, "it is not by the trusted key, or that is not signer's or in key.pem"
        yield "objects", "manifest.json", m["objects"] == sorted(m["objects"], key=lambda o: o["key"]), "not in order"
        told = [(o["key"], o["bytes"], o["sha256"]) for n in seals for o in self.records[n]["objects"]]
        there = [(at + n, len(raw), digest(raw)) for n, raw in files.items() if n.replace(".sig", ".json") not in seals]
        for name, *_ in {*told} ^ {*there} | {o for o, n in collections.Counter(told).items() if n > 1}:
            yield "objects", name, False, "it is not listed once, as it is there"
        later = [(n, self.records[n], self.records[n]["manifestSha256"] == self.digests[seals[0]]) for n in seals[1:]]
        yield from chained("addenda", [(n, good and r["seq"], r["previous"], self.digests[n]) for n, r, good in later])
        *texts, rest = files["custody.jsonl"].split(b"\n")
        lines = [json.loads(text, object_hook=Record) for text in texts]
        yield from chained("custody", [(r["key"], i + 1, r["previous"], digest(texts[i])) for i, r in enumerate(lines)])
        acts = [(o["key"], o["sha256"]) for o in m["objects"] if o["key"].split("/")[2] in ("custody", "certificates")]
        good = acts == sorted((r["key"], r["sha256"]) for r in lines) and [*map(canon, lines)] == texts and not rest
        good = good and all(r["sha256"] == digest(canon(r["entry"])) for r in lines)
        good = good and lines == sorted(lines, key=lambda r: (instant(r["stored"]), r["key"]))
        yield "custody", "custody.jsonl", good, "lines are not canonical, not in order, or not those of the acts"
    def check_manifest(self):
        m, cs, ledger, tally = self.m, self.collectors, self.m["ledger"], counts(self.m["tally"])
        plan, tree, leaves = self.records["plan.json"], self.records["tree.json"], [*map(leaf, m["segments"])]
        mirror = {k: v for k, v in m["mirror"].items() if k != "sessionId"}
        segments, packets = [r for c in cs for r in c["segments"]], total(m["segments"], "packets")
        sides = [pair for c in cs for pair in balances(c["tally"], c["segments"])[:1 if c["derived"] else None]]
        rows = [(a, b, a == b) for a, b in [*sides, *balances(m["tally"], segments), (packets, tally["uploaded"])]]
        missing = [r for r in segments if r["key"] not in self.held]
        lost, maybe = sum(tally[k] for k in LOSSES[:3]) + total(missing, "packets"), tally["hostDropped"]
        faults = [c for c in cs if c["derived"] or c["error"]] + missing + [1 for *_, holds in rows if not holds]
        cut = m["mirror"].get("packetLength") or tally["truncated"] or total(m["segments"], "truncated")
        whole = "complete" if m["verdict"] == "complete" and not cut else "complete as filtered and truncated"
        verdict = "incomplete" if m["reasons"] else whole if packets else "no packets captured"
        for check, what, said, follows in (
                ("tree", "root and segments", (tree["root"], tree["segments"] or 0), (root(leaves).hex(), len(leaves))),
                ("manifest", "segments", leaves, [*map(leaf, self.held.values())]),
                ("manifest", "finding and plan", [m[k] for k in ("finding", "plan") if m[k]],
                 [o for o in m["objects"] if o["key"].split("/")[2] in ("finding.json", "plan.json")]),
                ("manifest", "mirror and source", (mirror, m["source"]), (plan["mirror"], plan["source"])),
                ("ledger", "tally", tally, sum((counts(c["tally"]) for c in cs), collections.Counter())),
                ("ledger", "balances", [(b["left"], b["right"], bool(b["holds"])) for b in ledger["balances"]], rows),
                ("ledger", "lost and atMostLost", (ledger["lost"], ledger["atMostLost"]), (lost, maybe)),
                ("ledger", "gaps", {(g["collector"], g["cause"]) for g in ledger["gaps"]}, {(c["userId"], k) for c in cs
                 for k in LOSSES if counts(c["tally"])[k] or k == "unknown" and c["derived"]}),
                ("ledger", "reasons", bool(m["reasons"]), any([m["reasons"], faults, lost, maybe, tally["reduced"]])),
                ("ledger", "verdict", m["verdict"], verdict)):
            yield check, what, said == follows, f"{said}, but it follows {follows}"

def verify(folder, key):
    print(f"folder: {folder}")
    capture, holds = Capture(folder, key or folder + "/key.pem"), []
    for check in ("files", "collectors", "seals", "manifest")[:None if capture.sealed else 2]:
        try:
            holds += [expect(*told) for told in getattr(capture, "check_" + check)()]
        except Exception as err:
            holds += [expect("format", check, False, f"it cannot be checked: {err!r}")]
    ends = max((r["at"] for n, r in capture.records.items() if "/checkpoints/" in n), key=instant, default="")
    said = [capture.records[n]["verdict"] for n in capture.seals]
    verdict = [f"incomplete from {ends}" if ends else "incomplete", *filter(None, said)][-1]
    outcome = "authentic" if key and "manifest.sig" in capture.files else "consistent, signer unverified"
    outcome = "broken" if not all(holds) else outcome if capture.sealed else "unsealed"
    print(f"outcome: {outcome}\nverdict: {verdict}")
    return {"broken": 7, "unsealed": 8, "authentic": 0 if verdict.startswith("complete") else 5}.get(outcome, 6)

pinned, *folders = sys.argv[2:] if sys.argv[1:2] == ["--key"] else ["", *sys.argv[1:]]
sys.exit(max([verify(folder, pinned) for folder in folders]) if folders else __doc__)
