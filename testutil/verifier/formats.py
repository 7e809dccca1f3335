"""What evidence has of formats that others defined: JSON, times, Merkle trees, pcap and keys."""
import datetime, decimal, hashlib, json, re, struct, subprocess

P256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")  # how the DER of such a key begins


def digest(raw):
    return hashlib.sha256(raw).hexdigest()


def canon(v):
    """RFC 8785."""
    if isinstance(v, dict):
        members = sorted(v.items(), key=lambda m: m[0].encode("utf-16-be"))
        return b"{" + b",".join(canon(k) + b":" + canon(x) for k, x in members) + b"}"
    if isinstance(v, list):
        return b"[" + b",".join(map(canon, v)) + b"]"
    if isinstance(v, float):  # as ECMAScript writes numbers
        shortest = decimal.Decimal(repr(v or 0.0)).normalize()
        return format(shortest, "f" if v == 0 or 1e-6 <= abs(v) < 1e21 else "e").encode()
    return json.dumps(v, ensure_ascii=False).encode()


def integer(text):
    """RFC 7493, section 2.2."""
    if abs(int(text)) >= 2**53:
        raise ValueError(f"the number {text} is too large")
    return int(text)


def instant(time):
    """Nanoseconds since 1970 (RFC 3339)."""
    second, fraction = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", time, re.ASCII).groups()
    since = datetime.datetime.fromisoformat(second) - datetime.datetime(1970, 1, 1)
    return since // datetime.timedelta(seconds=1) * 10**9 + int((fraction or "").ljust(9, "0"))


def root(leaves):
    """The Merkle Tree Hash (RFC 9162, section 2.1.1)."""
    if len(leaves) < 2:
        return hashlib.sha256(b"\0" + leaves[0] if leaves else b"").digest()
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + root(leaves[:k]) + root(leaves[k:])).digest()


def measure(raw):
    """What the record of a segment says, by its file (draft-ietf-opsawg-pcap). Nothing: the file is no segment."""
    at, times, truncated, back = 24, [], 0, 0
    good = raw[:8] == struct.pack("<IHH", 0xA1B23C4D, 2, 4) and raw[16:24] == struct.pack("<II", 262144, 1)
    while good and at + 16 <= len(raw):
        second, nano, length, original = struct.unpack_from("<IIII", raw, at)
        good = nano < 10**9 and 14 <= length <= min(262144, original)
        at += 16 + length
        times.append(second * 10**9 + nano)
        truncated += length < original
        back = max(back, times[-2:][0] - times[-1])
    if not good or not times or at != len(raw):
        return {}
    return {"bytes": at, "packets": len(times), "truncated": truncated, "first": times[0], "last": times[-1],
            "backwardsNs": min(back, 2**53 - 1) if back > 100_000_000 else 0}


def openssl(*args):
    done = subprocess.run(["openssl", *args], stdin=subprocess.DEVNULL, capture_output=True)
    return done.stdout if done.returncode == 0 else b""


def public_key(pem):
    """The DER form of a P-256 key; nothing when it is no such key."""
    der = openssl("pkey", "-pubin", "-outform", "DER", "-in", pem)
    return der if der.startswith(P256) else b""


def signed(pem, signature, body):
    """Whether a file is signed. openssl reads no more than the longest signature, and would not see what follows."""
    with open(signature, "rb") as file:
        der = file.read()
    whole = len(der) > 1 and len(der) == 2 + der[1]
    return whole and bool(openssl("dgst", "-sha256", "-verify", pem, "-signature", signature, body))
