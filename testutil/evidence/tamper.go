package evidence

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"flashtap/events"
)

// Tampering is one way to change evidence. It says what it did; "" when there was nothing that it could have changed.
type Tampering func(r *rand.Rand, e *Evidence) string

// Tamperings are what somebody can do who does not have the key.
func Tamperings() map[string]Tampering {
	return map[string]Tampering{
		"flip a bit": func(r *rand.Rand, e *Evidence) string {
			name := some(r, e, whatever)
			if name == "" {
				return ""
			}
			bit := r.IntN(8 * len(e.Files[name]))
			e.Files[name] = bytes.Clone(e.Files[name])
			e.Files[name][bit/8] ^= 1 << (bit % 8)
			return fmt.Sprintf("bit %d of %s", bit, name)
		},
		"flip a bit of what is signed, or of a signature": func(r *rand.Rand, e *Evidence) string {
			name := some(r, e, func(name string) bool {
				return strings.HasSuffix(name, ".sig") || name == "manifest.json" || name == "tree.json" || name == "key.pem"
			})
			bit := r.IntN(8 * len(e.Files[name]))
			e.Files[name] = bytes.Clone(e.Files[name])
			e.Files[name][bit/8] ^= 1 << (bit % 8)
			return fmt.Sprintf("bit %d of %s", bit, name)
		},
		"delete": func(r *rand.Rand, e *Evidence) string {
			name := some(r, e, whatever)
			delete(e.Files, name)
			return name
		},
		"truncate": func(r *rand.Rand, e *Evidence) string {
			name := some(r, e, whatever)
			n := r.IntN(len(e.Files[name]))
			e.Files[name] = e.Files[name][:n]
			return fmt.Sprintf("%s to %d bytes", name, n)
		},
		"truncate to a whole number of packets": func(r *rand.Rand, e *Evidence) string {
			name := some(r, e, isSegment)
			if name == "" {
				return ""
			}
			ends := recordEnds(e.Files[name])
			n := ends[r.IntN(len(ends)-1)]
			e.Files[name] = e.Files[name][:n]
			return fmt.Sprintf("%s to %d bytes", name, n)
		},
		"append": func(r *rand.Rand, e *Evidence) string {
			name := some(r, e, whatever)
			e.Files[name] = append(bytes.Clone(e.Files[name]), byte(r.IntN(256)))
			return name
		},
		"white space": func(r *rand.Rand, e *Evidence) string {
			name := some(r, e, whatever)
			e.Files[name] = append(bytes.Clone(e.Files[name]), '\n')
			return name
		},
		"duplicate under another name": func(r *rand.Rand, e *Evidence) string {
			name := some(r, e, whatever)
			to := path.Join(path.Dir(name), fmt.Sprintf("%06d-%s", 900+r.IntN(90), path.Base(name)))
			e.Files[to] = e.Files[name]
			return name + " as " + to
		},
		"duplicate a segment under the next number": func(r *rand.Rand, e *Evidence) string {
			name := some(r, e, isSegment)
			if name == "" {
				return ""
			}
			to := path.Join(path.Dir(name), fmt.Sprintf("%06d-%s.pcap", 90, Digest(e.Files[name])))
			e.Files[to] = e.Files[name]
			return name + " as " + to
		},
		"swap": func(r *rand.Rand, e *Evidence) string {
			a, b := some(r, e, whatever), some(r, e, whatever)
			e.Files[a], e.Files[b] = e.Files[b], e.Files[a]
			return a + " and " + b
		},
		"swap two segments": func(r *rand.Rand, e *Evidence) string {
			a, b := some(r, e, isSegment), some(r, e, isSegment)
			if a == "" {
				return ""
			}
			e.Files[a], e.Files[b] = e.Files[b], e.Files[a]
			return a + " and " + b
		},
		"rename": func(r *rand.Rand, e *Evidence) string {
			name := some(r, e, whatever)
			to := name + "x"
			if r.IntN(2) == 0 {
				to = path.Join(path.Dir(name), "x"+path.Base(name))
			}
			e.Files[to] = e.Files[name]
			delete(e.Files, name)
			return name + " to " + to
		},
		"add an object": func(r *rand.Rand, e *Evidence) string {
			name := []string{"notes.txt", "custody/zz-zz.json", "certificates/000777.json", "collectors/x/manifest.json", "addenda/000099.sig", "console/i-1.txt",
				"collectors/x/segments/000001-" + strings.Repeat("a", 64) + ".pcap", "report.html", "key.pem.bak", "joined/" + strings.Repeat("b", 64) + ".json"}[r.IntN(10)]
			e.Files[name] = fmt.Appendf(nil, "%d", r.Uint64())
			return name
		},
		"empty": func(r *rand.Rand, e *Evidence) string {
			name := some(r, e, whatever)
			e.Files[name] = nil
			return name
		},
		"swap two packets": func(r *rand.Rand, e *Evidence) string {
			name := some(r, e, isSegment)
			if name == "" {
				return ""
			}
			body, ends := e.Files[name], recordEnds(e.Files[name])
			if len(ends) < 3 {
				return ""
			}
			i := 1 + r.IntN(len(ends)-2)
			e.Files[name] = slices.Concat(body[:ends[i-1]], body[ends[i]:ends[i+1]], body[ends[i-1]:ends[i]], body[ends[i+1]:])
			return fmt.Sprintf("packets %d and %d of %s", i, i+1, name)
		},
		"edit a member of a record": func(r *rand.Rand, e *Evidence) string {
			name := some(r, e, isRecord)
			what := editJSON(r, e, name)
			return name + " " + what
		},
		"swap two lines of the custody log": func(r *rand.Rand, e *Evidence) string {
			lines := bytes.SplitAfter(e.Files["custody.jsonl"], []byte("\n"))
			i := r.IntN(len(lines) - 2)
			lines[i], lines[i+1] = lines[i+1], lines[i]
			e.Files["custody.jsonl"] = bytes.Join(lines, nil)
			return fmt.Sprintf("lines %d and %d", i+1, i+2)
		},
		"sign all with another key": func(r *rand.Rand, e *Evidence) string {
			resign(r, e, false)
			return "key.pem stays"
		},
		"sign all with another key, and replace key.pem": func(r *rand.Rand, e *Evidence) string {
			resign(r, e, true)
			return "key.pem replaced"
		},
		"replace key.pem": func(r *rand.Rand, e *Evidence) string {
			text, _, err := PublicKey(another(r))
			must(err)
			e.Files["key.pem"] = text
			return "key.pem"
		},
		// What follows is consistent from the edit up to the manifest, but for the signatures.
		"edit a record and hash again upward": func(r *rand.Rand, e *Evidence) string {
			old := maps.Clone(e.Files)
			what := editBelow(r, e)
			if what == "" || e.Seal(nil) != nil {
				return ""
			}
			for _, name := range []string{"key.pem", "tree.sig", "manifest.sig"} {
				if old[name] != nil {
					e.Files[name] = old[name]
				}
			}
			return what
		},
		"edit a record and sign upward with another key": func(r *rand.Rand, e *Evidence) string {
			what := editBelow(r, e)
			if what == "" || e.Seal(another(r)) != nil {
				return ""
			}
			return what
		},
		"edit a record, sign upward with another key, and leave the old key.pem": func(r *rand.Rand, e *Evidence) string {
			old := e.Files["key.pem"]
			what := editBelow(r, e)
			if what == "" || e.Seal(another(r)) != nil {
				return ""
			}
			e.Files["key.pem"] = old
			return what
		},
		"forge from the packets up": func(r *rand.Rand, e *Evidence) string {
			n := uint64(1 + r.IntN(9))
			forged, err := New(Config{Key: another(r), Packets: 38, Changes: Changes{Closing: func(c *events.CollectorManifest) { c.Tally.Rejected.ForeignVNI += n; c.Tally.Received += n }}})
			must(err)
			e.Files = forged.Files
			return fmt.Sprintf("%d datagrams more", n)
		},
		"sign the manifest with the signature of the tree": func(_ *rand.Rand, e *Evidence) string {
			e.Files["manifest.sig"] = e.Files["tree.sig"]
			return "manifest.sig"
		},
		"take objects of another capture of the same key": func(r *rand.Rand, e *Evidence) string {
			other, err := New(Config{Capture: "20261122T030405Z-eni-00000bad", Key: e.Key, Packets: 41})
			must(err)
			names := []string{"manifest.json", "manifest.sig"}
			if r.IntN(2) == 0 {
				names = []string{"tree.json", "tree.sig"}
			}
			for _, name := range names {
				e.Files[name] = other.Files[name]
			}
			return strings.Join(names, " and ")
		},
	}
}

func whatever(string) bool       { return true }
func isSegment(name string) bool { return strings.HasSuffix(name, ".pcap") }
func isRecord(name string) bool {
	return strings.HasSuffix(name, ".json") && !strings.HasPrefix(name, "joined/") && name != "finding.json"
}
func isSealed(name string) bool {
	return name == "manifest.json" || name == "tree.json" || strings.HasPrefix(name, "addenda/")
}
func belowSeal(name string) bool { return isRecord(name) && !isSealed(name) }
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// some is an object that is not empty, of those that which admits; "" when there is none.
func some(r *rand.Rand, e *Evidence, which func(string) bool) string {
	var names []string
	for _, name := range e.Names() {
		if which(name) && len(e.Files[name]) > 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return names[r.IntN(len(names))]
}

// recordEnds are the offsets behind the header and behind each packet of a segment.
func recordEnds(body []byte) []int {
	ends := []int{24}
	for at := 24; at < len(body); {
		at += 16 + int(body[at+8]) + int(body[at+9])<<8 + int(body[at+10])<<16
		ends = append(ends, at)
	}
	return ends
}

// editJSON changes one number, word or time somewhere in a record, and writes it in canonical form.
func editJSON(r *rand.Rand, e *Evidence, name string) string {
	d := json.NewDecoder(bytes.NewReader(e.Files[name]))
	d.UseNumber()
	var record any
	must(d.Decode(&record))
	var leaves []func() string
	collect(record, "", func(any) {}, &leaves, r)
	what := leaves[r.IntN(len(leaves))]()
	body, err := Canonical(record)
	must(err)
	e.Files[name] = body
	return what
}

// collect finds every value that can be changed in place.
func collect(v any, at string, set func(any), leaves *[]func() string, r *rand.Rand) {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			collect(v[name], at+"."+name, func(to any) { v[name] = to }, leaves, r)
			*leaves = append(*leaves, func() string { delete(v, name); return at + "." + name + " removed" })
		}
	case []any:
		for i := range v {
			collect(v[i], fmt.Sprintf("%s[%d]", at, i), func(to any) { v[i] = to }, leaves, r)
		}
		if len(v) > 0 {
			*leaves = append(*leaves, func() string { set(v[1:]); return at + " loses its first" })
			*leaves = append(*leaves, func() string { set(append(slices.Clone(v), v[len(v)-1])); return at + " has its last twice" })
		}
	case json.Number:
		*leaves = append(*leaves, func() string {
			n, err := v.Int64()
			if err != nil {
				set(1)
			} else {
				set(n + 1 + int64(r.IntN(3)))
			}
			return at + " is more"
		})
	case string:
		*leaves = append(*leaves, func() string {
			if len(v) > 0 && v[len(v)-1] >= '0' && v[len(v)-1] < '9' {
				set(v[:len(v)-1] + string(v[len(v)-1]+1))
			} else {
				set("0" + v)
			}
			return at + " is another"
		})
	case bool:
		*leaves = append(*leaves, func() string { set(!v); return at + " is turned" })
	}
}

// editBelow edits a record that is not made by seal, and gives it the name of its new digest.
func editBelow(r *rand.Rand, e *Evidence) string {
	name := some(r, e, belowSeal)
	old := e.Files[name]
	what := editJSON(r, e, name)
	if bytes.Equal(old, e.Files[name]) {
		return ""
	}
	if strings.Contains(name, "/checkpoints/") {
		body := e.Files[name]
		delete(e.Files, name)
		name = path.Join(path.Dir(name), path.Base(name)[:7]+Digest(body)+".json")
		e.Files[name] = body
	}
	return name + " " + what
}

// forgers are keys that sign what is forged.
var forgers = []*ecdsa.PrivateKey{newKey(), newKey(), newKey()}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), nil)
	must(err)
	return key
}

func another(r *rand.Rand) *ecdsa.PrivateKey { return forgers[r.IntN(len(forgers))] }

// resign has another key sign everything that is signed; whole: as if it had from the start.
func resign(r *rand.Rand, e *Evidence, whole bool) {
	key := another(r)
	if whole {
		for _, name := range e.Names() {
			if strings.HasPrefix(name, "addenda/") {
				delete(e.Files, name)
			}
		}
		must(e.Seal(key))
		return
	}
	for _, name := range e.Names() {
		if record, ok := strings.CutSuffix(name, ".sig"); ok {
			sig, err := Sign(key, e.Files[record+".json"])
			must(err)
			e.Files[name] = sig
		}
	}
}

// The outcomes of a verifier (docs/evidence.md, section 11).
const (
	authentic  = "authentic"
	consistent = "consistent, signer unverified"
	unsealed   = "unsealed"
	broken     = "broken"
)

// Judge is a verifier: it says what it thinks of evidence, with the key that signed the original or without any. An error says
// that it could not judge.
type Judge func(files map[string][]byte, key bool) (outcome string, err error)

// Figures are what came of tamperings.
type Figures struct {
	Done     int
	Broken   int
	Unsealed int // the manifest was taken away
	Unsigned int // its signature was
	Refused  int // it was no longer taken for evidence
	Keyless  int // how many of these were judged without a key as well,
	Blind    int // and how many of those passed as consistent
}

// Add is the sum of two.
func (f *Figures) Add(g Figures) {
	f.Done, f.Broken, f.Unsealed, f.Unsigned = f.Done+g.Done, f.Broken+g.Broken, f.Unsealed+g.Unsealed, f.Unsigned+g.Unsigned
	f.Refused, f.Keyless, f.Blind = f.Refused+g.Refused, f.Keyless+g.Keyless, f.Blind+g.Blind
}

func (f Figures) String() string {
	return fmt.Sprintf("%d: %d broken, %d unsealed, %d unsigned, %d refused; without a key %d of %d pass as consistent", f.Done, f.Broken, f.Unsealed, f.Unsigned, f.Refused, f.Blind, f.Keyless)
}

// Campaign has every tampering done to the evidence, rounds times, and a verifier judge what comes of it. It returns the figures of each
// way, and what the verifier got wrong: whatever it accepted, and the untouched evidence if it did not accept that.
func Campaign(original *Evidence, seed uint64, rounds int, judge Judge) (figures map[string]Figures, wrong []string) {
	figures = map[string]Figures{}
	untouched := func(when string) {
		if outcome, err := judge(original.Files, true); err != nil || outcome != authentic {
			wrong = append(wrong, fmt.Sprintf("untouched %s: %s, %v", when, outcome, err))
		}
	}
	untouched("at the beginning")
	ways := Tamperings()
	for n, way := range slices.Sorted(maps.Keys(ways)) {
		r := rand.New(rand.NewPCG(seed, uint64(n)))
		var f Figures
		for round := range rounds {
			e := original.Clone()
			what := ways[way](r, e)
			if what == "" || maps.EqualFunc(e.Files, original.Files, bytes.Equal) {
				continue
			}
			f.Done++
			outcome, err := judge(e.Files, true)
			switch {
			case err != nil:
				f.Refused++
			case outcome == broken:
				f.Broken++
			case outcome == unsealed && e.Files["manifest.json"] == nil:
				f.Unsealed++
			case outcome == consistent && e.Files["manifest.sig"] == nil:
				f.Unsigned++
			default:
				wrong = append(wrong, fmt.Sprintf("%s: %s: taken for %s", way, what, outcome))
			}
			if round > 0 {
				continue
			}
			f.Keyless++
			if outcome, err = judge(e.Files, false); err == nil && outcome == authentic {
				wrong = append(wrong, fmt.Sprintf("%s: %s: authentic without a key", way, what))
			} else if err == nil && outcome == consistent {
				f.Blind++
			}
		}
		figures[way] = f
	}
	untouched("at the end")
	return figures, wrong
}
