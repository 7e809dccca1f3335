#!/usr/bin/env python3
"""Verifies captures by docs/evidence.md alone: verify.py FOLDER... [--key pub.pem]

Tells discrepancies as `CHECK: OBJECT: WHAT`, then outcome and verdict. Exits with the highest of: 0 authentic and
complete, 5 authentic but incomplete or without packets, 6 signer unverified, 7 broken, 8 unsealed.
"""
import argparse, collections, json, re, sys
from evidence import (CAUSES, NEVER, UNREADABLE, Evidence, Record, balances, bare, counts, everything, link, plain, split,
                      total)
from formats import canon, digest, instant, measure, public_key, root, signed

CHECKS = "format signature objects names segments chain checkpoints manifest tree custody ledger addenda".split()
UNVERIFIED = "consistent, signer unverified"
CODES = {"authentic": 0, UNVERIFIED: 6, "broken": 7, "unsealed": 8}

NAMED = re.compile(r"(?:joined/|collectors/[^/]+/checkpoints/[0-9]{6}-)([0-9a-f]{64})\.json|"
                   r"collectors/[^/]+/segments/[0-9]{6}-([0-9a-f]{64})\.pcap")


class Checks(Evidence):
    """Each check yields what must hold, of which object, and what is wrong when it does not."""
    def format(self):
        closed = {c["userId"] for c in self.collectors if not c["derived"]}  # the others may leave what they like
        for name, fault in self.faults.items():
            yield name.startswith("collectors/") and name.split("/")[1] not in closed, name, fault

    def signature(self):
        der, own = public_key(self.key), public_key(self.files.get("key.pem", ""))
        names = ["manifest.json", "tree.json", *self.later] if "manifest.sig" in self.files else []
        same = der and der == own and digest(der) == self.m["signer"]["publicKeySha256"]
        yield same or not names, "key.pem", "it is not the trusted key, or not signer's, or not of P-256"
        for name, sig in ((n, n[:-4] + "sig") for n in names):
            whole = sig in self.files and name in self.files
            yield whole and signed(self.key, self.files[sig], self.files[name]), sig, "it is not by the key"

    def objects(self):
        own, apart = self.m["objects"], {n[:-4] + e for n in ["manifest.json", *self.later] for e in ("json", "sig")}
        yield own == sorted(own, key=lambda o: o["key"].encode()), "manifest.json", "objects are not in order"
        times = dict.fromkeys(self.files.keys() - apart, 0)
        for o in own + [o for a in self.later for o in self.records[a]["objects"]]:
            name = self.name(o)
            times[name] = times.get(name, 0) + 1
            here = name in self.files and self.files[name].stat().st_size == o["bytes"]
            yield here and self.digests[name] == o["sha256"], name, "it is not there with this length and digest"
        for name in times:
            yield times[name] == 1, name, f"it is listed {times[name]} times"

    def names(self):
        for match in filter(None, map(NAMED.fullmatch, self.files)):
            yield self.digests[match[0]] in match.groups(), match[0], "its name has another digest"

    def segments(self):
        for c in self.collectors:
            numbers, lax = [r["seq"] for r in c["segments"]], self.m["reasons"] or not self.sealed
            whole = numbers == list(range(1, len(numbers) + 1)) or lax and numbers == sorted(set(numbers))
            yield whole, c["userId"], "numbers of segments do not ascend, or one is missing"
        known = self.held()
        files = known if self.sealed else (n for n in self.files if NAMED.fullmatch(n) and n.endswith(".pcap"))
        for name in filter(self.files.get, files):
            file, r = measure(self.files[name].read_bytes()), known.get(name)
            yield file, name, "it is no segment"
            file |= {"sha256": self.digests[name]} if file else {}
            said = {k: instant(r[k]) if k in ("first", "last") else r[k] for k in file} if r else file
            yield said == file, name, f"its record says {said}, the file {file}"

    def chain(self):
        for c in self.collectors:
            user, order, records = c["userId"], self.order(c), c["segments"] + c["superseded"]
            links, after = {link(r) for r in records}, [r["previous"] for r in records if r["previous"]]
            begins = len(records) - len([p for p in after if p in links])
            yield begins <= 1 or c["derived"] or c["error"], user, f"the chain begins {begins} times"
            yield c["derived"] or links.issuperset(after), user, "a record follows one that is not there"
            single = len(links) == len(records) and len(set(after)) == len(after)
            yield single, user, "two records are the same, or follow the same"
            yield c["chain"] in (links - set(after) or [""]), user, "chain is not the last link"
            yield len(order) < len(records) or split(order)[0] == c["segments"], user, "segments are not the latest"

    def checkpoints(self):
        for c in self.collectors:
            user, points, lax = c["userId"], self.points(c["userId"], c["checkpoints"]), c["derived"] or c["error"]
            numbers, last = [p[0] for p in points], points[-1][1] if points else ""
            whole = len(numbers) == c["checkpoints"] and numbers == list(range(1, len(numbers) + 1))
            single = len(numbers) == len(set(numbers))
            yield whole or self.m["reasons"] and single, user, "some are missing, or have one number"
            yield not whole or self.digests.get(last, "") == c["lastCheckpoint"], user, "lastCheckpoint is another"
            for (before, old, a), (number, name, b) in zip([(0, "", Record())] + points, points):
                records, chain = b["records"], link(b["records"][-1]) if b["records"] else a["chain"]
                follows = (self.digests.get(old, ""), chain) == (b["previous"], b["chain"])
                yield follows or number > before + 1, name, "previous or chain is another"
                yield not before or instant(a["at"]) <= instant(b["at"]), name, "its time lies before the last"
                cut = ("sealedBytes", "reduced") if any(r["replaces"] for r in records) else ()
                fell = [k for k, v in counts(a["tally"]).items() if counts(b["tally"])[k] < v and k not in cut]
                yield not fell or lax, name, f"counters fell: {fell}"
            records = [bare(r) for p in points for r in p[2]["records"]]
            begin = max((i for i, r in enumerate(records) if not r["previous"]), default=0)
            chain = [bare(r) for r in self.order(c)]
            yield not whole or records[begin:] == chain, user, "their records are not the chain"

    def manifest(self):
        m, plan = self.m, self.records.get("plan.json", Record())
        for c in self.collectors:
            name = f"collectors/{c['userId']}/manifest.json"
            left = self.records.get(name, Record()) if name in self.listed else Record()
            said = self.derived(c["userId"]) if c["derived"] else left
            same = all(plain(c[k]) == plain(said[k]) for k in (said if c["derived"] else said | c))
            yield same and bool(left) != bool(c["derived"]), name, "its entry in collectors says something else"
        same = [bare(r) for r in m["segments"]] == [bare(r) for r in self.held().values()]
        yield same, "manifest.json", "segments are not those of the collectors in the bucket"
        for k in ("finding", "plan"):
            entries = [o for o in m["objects"] if self.name(o) == k + ".json"]
            yield entries == ([m[k]] if m[k] else []), k + ".json", "objects has another"
        applied = {k: v for k, v in m["mirror"].items() if k != "sessionId"}
        same = plain(applied) == plain(plan["mirror"]) and plain(m["source"]) == plain(plan["source"])
        yield same, "manifest.json", "source or mirror is not that of the plan"

    def tree(self):
        tree, leaves = self.records.get("tree.json", Record()), [canon(bare(r)) for r in self.m["segments"]]
        same = tree["root"] == root(leaves).hex() and (tree["segments"] or 0) == len(leaves)
        yield same, "tree.json", "segments have another root"

    def custody(self):
        *lines, rest = self.files["custody.jsonl"].read_bytes().split(b"\n")
        before, order = "", []
        for text in lines:
            line = json.loads(text, object_hook=Record)
            same = line["sha256"] == self.digests.get(self.name(line)) == digest(canon(line["entry"]))
            yield same and line["previous"] == before and canon(line) == text, self.name(line), "its line is wrong"
            before = digest(text)
            order.append((instant(line["stored"]), line["key"]))
        acts = [f"captures/{self.capture}/{n}" for n in self.listed if n.startswith(("custody/", "certificates/"))]
        yield not rest and order == sorted(order), "custody.jsonl", "lines are not in order, or the last one has no end"
        yield sorted(acts) == sorted(key for _, key in order), "custody.jsonl", "its acts are not those that are listed"

    def ledger(self):
        m, told, cs, tally = self.m, self.m["ledger"], self.collectors, counts(self.m["tally"])
        segments = [r for c in cs for r in c["segments"]]
        whole = sum((counts(c["tally"]) for c in cs), collections.Counter())
        yield tally == whole, "manifest.json", "tally is not the sum"
        rows = [row for c in cs for row in balances(c["tally"], c["segments"], not c["derived"])]
        rows += balances(m["tally"], segments) + [(total(m["segments"], "packets"), tally["uploaded"])]
        said = [(b["left"], b["right"], bool(b["holds"])) for b in told["balances"]]
        yield said == [(a, b, a == b) for a, b in rows], "manifest.json", "balances come to something else"
        missing = [r for r in segments if self.name(r) not in self.held()]
        lost = sum(tally[k] for k in CAUSES[:3]) + total(missing, "packets")
        yield (told["lost"], told["atMostLost"]) == (lost, tally["hostDropped"]), "manifest.json", f"{lost} are lost"
        gaps = [g for c in cs for g in self.gaps(c)]
        gaps.sort(key=lambda g: (instant(g["from"]), g["collector"], g["cause"]))
        yield plain(told["gaps"]) == plain(gaps), "manifest.json", f"gaps are {gaps}"
        stray = {n for n in self.listed if "/segments/" in n} - set(map(self.name, segments))
        stray |= set(self.users) - {c["userId"] for c in cs} | {c["userId"] for c in cs if c["derived"] or c["error"]}
        faults = [lost, tally["hostDropped"], tally["reduced"], missing, stray, any(a != b for a, b in rows)]
        yield m["reasons"] or not any(faults), "manifest.json", "there is no reason for what is missing"
        for c in (c for c in cs if c["derived"] and c["checkpoints"]):
            said = any(r.startswith(f"incomplete from {c['ended']}: ") for r in m["reasons"])
            yield said, c["userId"], "no reason says since when"
        whole = everything(m["mirror"]) and not tally["truncated"] and not total(m["segments"], "truncated")
        verdict = "incomplete" if m["reasons"] else "no packets captured" if not total(m["segments"], "packets") else \
            "complete" if whole else "complete as filtered and truncated"
        yield m["verdict"] == verdict, "manifest.json", f"the verdict is {verdict}"

    def addenda(self):
        before = ""
        for i, name in enumerate(self.later, 1):
            r = self.records[name]
            right = (r["seq"], r["previous"], r["manifestSha256"]) == (i, before, self.digests["manifest.json"])
            yield right and name == f"addenda/{i:06}.json", name, "number, previous or manifestSha256 is wrong"
            before = self.digests[name]

    def verdict(self):
        """The verdict of the manifest, or what addenda or checkpoints make of it."""
        ends = max((c["ended"] for c in self.collectors), key=instant, default=NEVER)
        told = [self.m["verdict"]] + [self.records[n]["verdict"] for n in self.later if self.records[n]["verdict"]]
        return told[-1] if self.sealed else f"incomplete from {ends}" if ends != NEVER else "incomplete"


def verify(folder, key):
    """Prints all about one capture, and returns the exit code."""
    print(f"folder: {folder}")
    capture, broken = Checks(folder, key), False
    for check in CHECKS if capture.sealed else ("format", "names", "segments", "chain", "checkpoints"):
        try:
            for holds, name, what in getattr(capture, check)():
                if not holds:
                    broken = not print(f"{check}: {name}: {what}")
        except UNREADABLE as err:
            broken = not print(f"{check}: manifest.json: it cannot be checked: {err!r}")
    pinned = key and "manifest.sig" in capture.files
    outcome = "broken" if broken else "unsealed" if not capture.sealed else "authentic" if pinned else UNVERIFIED
    print(f"outcome: {outcome}\nverdict: {capture.verdict()}")
    return 5 if outcome == "authentic" and not capture.verdict().startswith("complete") else CODES[outcome]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="+")
    parser.add_argument("--key", help="public key in PEM, from elsewhere than the evidence")
    told = parser.parse_args()
    sys.exit(max(verify(folder, told.key) for folder in told.folder))
