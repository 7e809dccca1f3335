package events

import (
	"math/rand/v2"
	"strings"
	"testing"
	"testing/quick"
	"time"
)

const (
	testCapture = CaptureID("20261122T030405Z-eni-0a1b2c3d4e5f60718")
	testUser    = "AROAEXAMPLEROLEID:i-0a1b2c3d4e5f60718"
)

var (
	testDigest   = strings.Repeat("0123456789abcdef", 4)
	testDeadline = time.Date(2026, 11, 22, 3, 24, 5, 0, time.UTC)
)

// TestKeysRoundTrip builds keys from anything that can occur and reads them back.
func TestKeysRoundTrip(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	hexadecimal := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "0123456789abcdef"[random.IntN(16)]
		}
		return string(b)
	}
	check := func(second uint32, long bool, number uint32) bool {
		digits := 8
		if long {
			digits = 17
		}
		c := NewCaptureID(time.Unix(int64(second), 0), "eni-"+hexadecimal(digits))
		user := UserID("AROA"+strings.ToUpper(hexadecimal(16)), "i-"+hexadecimal(17))
		seq, digest := int(number%999999)+1, hexadecimal(64)
		segment, checkpoint := SegmentKey(c, user, seq, digest), CheckpointKey(c, user, seq, digest)
		s, err := ParseObjectKey(segment)
		if err != nil || s != (ObjectRef{c, user, "segments", seq, digest}) {
			t.Errorf("%s reads %+v, %v", segment, s, err)
			return false
		}
		k, err := ParseObjectKey(checkpoint)
		if err != nil || k != (ObjectRef{c, user, "checkpoints", seq, digest}) {
			t.Errorf("%s reads %+v, %v", checkpoint, k, err)
			return false
		}
		for _, key := range []string{segment, checkpoint, CollectorManifestKey(c, user)} {
			if UserIDOfKey(key) != user || !strings.HasPrefix(key, CollectorPrefix(c, user)) {
				t.Errorf("%s is in the folder of %q", key, UserIDOfKey(key))
				return false
			}
		}
		for _, key := range []string{
			segment, checkpoint, FindingKey(c), PlanKey(c), JoinedKey(c, digest), CustodyKey(c, "launch", "launched"),
			ConsoleKey(c, "i-"+digest[:17]), CertificateKey(c, seq), ManifestKey(c), CustodyLogKey(c), CollectorManifestKey(c, user), CapturePrefix(c),
		} {
			if got, err := CaptureOfKey(key); err != nil || got != c || !strings.HasPrefix(key, CapturePrefix(c)) {
				t.Errorf("%s belongs to %q, %v", key, got, err)
				return false
			}
		}
		return true
	}
	if err := quick.Check(check, nil); err != nil {
		t.Error(err)
	}
}

// TestKeysSortAsTheyAreNumbered: whoever lists a folder takes the last key for the latest.
func TestKeysSortAsTheyAreNumbered(t *testing.T) {
	last := ""
	for _, n := range []int{1, 2, 9, 10, 11, 99, 100, 5760, 999999} {
		key := CheckpointKey(testCapture, testUser, n, testDigest)
		if key <= last {
			t.Errorf("%s does not sort after %s", key, last)
		}
		last = key
	}
	early, late := NewCaptureID(time.Unix(1e9, 0), "eni-ffffffff"), NewCaptureID(time.Unix(1e9+1, 0), "eni-00000000")
	if CapturePrefix(early) >= CapturePrefix(late) {
		t.Error("captures do not sort by time")
	}
}

func TestParseObjectKeyRefuses(t *testing.T) {
	good := SegmentKey(testCapture, testUser, 1, testDigest)
	for name, key := range map[string]string{
		"empty":                    "",
		"a plan":                   PlanKey(testCapture),
		"another root":             "x" + good,
		"a leading slash":          "/" + good,
		"something after it":       good + "x",
		"a line break after it":    good + "\n",
		"number 0":                 strings.Replace(good, "000001", "000000", 1),
		"five digits":              strings.Replace(good, "000001", "00001", 1),
		"a short digest":           strings.Replace(good, testDigest, testDigest[1:], 1),
		"a digest in upper case":   strings.Replace(good, testDigest, strings.ToUpper(testDigest), 1),
		"a segment called .json":   strings.Replace(good, ".pcap", ".json", 1),
		"a checkpoint called pcap": strings.Replace(good, "segments", "checkpoints", 1),
		"a folder too deep":        strings.Replace(good, "segments/", "segments/x/", 1),
		"no folder":                strings.Replace(good, testUser+"/", "", 1),
		"no capture":               strings.Replace(good, string(testCapture), "somewhere", 1),
	} {
		if ref, err := ParseObjectKey(key); err == nil {
			t.Errorf("%s: %q reads %+v", name, key, ref)
		}
	}
}

func TestUserIDOfKey(t *testing.T) {
	for key, want := range map[string]string{
		CollectorManifestKey(testCapture, testUser):      testUser,
		ManifestKey(testCapture):                         "",
		CollectorsPrefix(testCapture) + "stray":          "",
		CollectorsPrefix(testCapture) + testUser + "/":   testUser,
		"captures/x/collectors//segments/000001-aa.pcap": "",
	} {
		if got := UserIDOfKey(key); got != want {
			t.Errorf("%s is in the folder of %q, want %q", key, got, want)
		}
	}
}

// FuzzParseObjectKey: what is accepted is exactly what is built.
func FuzzParseObjectKey(f *testing.F) {
	f.Add(SegmentKey(testCapture, testUser, 1, testDigest))
	f.Add(CheckpointKey(testCapture, testUser, 999999, testDigest))
	f.Add(ManifestKey(testCapture))
	f.Fuzz(func(t *testing.T, key string) {
		ref, err := ParseObjectKey(key)
		if err != nil {
			return
		}
		build := SegmentKey
		if ref.Kind == "checkpoints" {
			build = CheckpointKey
		}
		if again := build(ref.Capture, ref.UserID, ref.Seq, ref.SHA256); again != key {
			t.Errorf("%q reads as %+v, which is %q", key, ref, again)
		}
		if c, err := CaptureOfKey(key); err != nil || c != ref.Capture {
			t.Errorf("%q belongs to %q, %v", key, c, err)
		}
		if UserIDOfKey(key) != ref.UserID {
			t.Errorf("%q is in the folder of %q, not %q", key, UserIDOfKey(key), ref.UserID)
		}
	})
}
