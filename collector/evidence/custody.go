package evidence

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"

	"flashtap/events"
)

// checkCustody checks that custody.jsonl has exactly the acts and certificates that the manifest lists.
func (v *verifier) checkCustody(ctx context.Context, m *manifest) error {
	wanted := map[string]string{} // digest by name
	for _, o := range m.Objects {
		if name, ok := v.name(o.Key); ok && isAct(name) {
			wanted[name] = o.SHA256
		}
	}
	v.Acts = len(wanted)
	in, err := v.src.Open(ctx, custodyName, 0)
	if missing(err) {
		v.bad(Custody, custodyName, "is not there")
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	hash := sha256.New()
	lines := bufio.NewReaderSize(io.TeeReader(in, hash), 64<<10)
	previous, last := "", events.CustodyLine{}
	for n := 1; ; n++ {
		text, err := readLine(lines)
		if err == io.EOF {
			break
		}
		if errors.Is(err, errTooLong) || errors.Is(err, io.ErrUnexpectedEOF) {
			v.bad(Custody, custodyName, "line %d does not end as a line does", n)
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", custodyName, err)
		}
		var line events.CustodyLine
		if err := errors.Join(canonical(text), integers(text)); err != nil {
			v.bad(Format, custodyName, "line %d %v", n, err)
			previous = digest(text)
			continue
		}
		if err := strict(text, &line); err != nil {
			v.bad(Format, custodyName, "line %d %v", n, err)
			previous = digest(text)
			continue
		}
		if line.Previous != previous {
			v.bad(Custody, custodyName, "line %d follows one with the digest %q, the one before it has %q", n, line.Previous, previous)
		}
		previous = digest(text)
		if n > 1 && (line.Stored.Before(last.Stored) || line.Stored.Equal(last.Stored) && line.Key <= last.Key) {
			v.bad(Custody, custodyName, "line %d is out of order", n)
		}
		last = line
		name, _ := v.name(line.Key)
		want, listed := wanted[name]
		delete(wanted, name)
		switch {
		case !listed:
			v.bad(Custody, custodyName, "line %d is about %s, which is no act of the manifest, or a second time", n, name)
		case line.SHA256 != want:
			v.bad(Custody, custodyName, "line %d says that %s has the digest %s", n, name, line.SHA256)
		case digest(line.Entry) != want:
			v.bad(Custody, custodyName, "line %d: its entry is not %s", n, name)
		}
	}
	if hex.EncodeToString(hash.Sum(nil)) != v.seen[custodyName].digest {
		v.bad(Objects, custodyName, "changed while it was checked")
	}
	for name := range wanted {
		if v.noAct(name) && len(m.Reasons) > 0 {
			v.Acts--
			continue
		}
		v.bad(Custody, custodyName, "has no line for %s", name)
	}
	return nil
}

// noAct says that an object among the acts and certificates is there, and is none.
func (v *verifier) noAct(name string) bool {
	s, there := v.seen[name]
	return there && isAct(name) && (s.fault != nil || kindOf(name) == otherKind)
}

func isAct(name string) bool {
	return strings.HasPrefix(name, "custody/") || strings.HasPrefix(name, "certificates/")
}

// readLine reads up to a line feed, which it takes off.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return bytes.TrimSuffix(line, []byte("\n")), nil
		case err == io.EOF && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(line) > maxRecord:
			return nil, errTooLong
		}
	}
}

// addendum is an addendum that could be read.
type addendum struct {
	events.Addendum
	name   string
	digest string
}

// addenda reads what was added, by number.
func (v *verifier) addenda(ctx context.Context) (all []addendum, err error) {
	for name, s := range v.seen {
		if kindOf(name) != addendumKind || s.fault != nil {
			continue
		}
		body, err := v.body(ctx, name)
		if err != nil {
			return nil, err
		}
		a := addendum{name: name, digest: s.digest}
		if err := v.decode(body, &a.Addendum); err != nil {
			v.bad(Format, name, "%v", err)
			continue
		}
		all = append(all, a)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].name < all[j].name })
	return all, nil
}

// checkAddenda checks how they hang together, and takes over what they change.
func (v *verifier) checkAddenda(m *manifest, addenda []addendum) {
	v.Report.Addenda = len(addenda)
	before := ""
	verdicts := []string{events.VerdictComplete, events.VerdictTruncated, events.VerdictIncomplete, events.VerdictNothing}
	for i, a := range addenda {
		if n := number(strings.TrimSuffix(strings.TrimPrefix(a.name, "addenda/"), ".json")); a.Seq != n || n != i+1 {
			v.bad(Addenda, a.name, "says that it is number %d, and comes as number %d", a.Seq, i+1)
		}
		if a.Previous != before {
			v.bad(Addenda, a.name, "follows one with the digest %q, the one before it has %q", a.Previous, before)
		}
		before = a.digest
		if a.ManifestSHA256 != v.SHA256 {
			v.bad(Addenda, a.name, "is about a manifest with the digest %q", a.ManifestSHA256)
		}
		switch {
		case a.Verdict == "":
		case !slices.Contains(verdicts, a.Verdict):
			v.bad(Addenda, a.name, "its verdict is %q, which is none", a.Verdict)
		default:
			v.Verdict, v.Reasons = a.Verdict, append([]string{}, a.Reasons...)
		}
	}
}

// oneOfMany checks one segment of a sealed capture without reading the others.
func (v *verifier) oneOfMany(ctx context.Context) error {
	v.done = true
	m, err := v.readManifest(ctx)
	if err != nil || m == nil {
		return err
	}
	if v.Segment > len(m.segments) {
		return fmt.Errorf("the capture has %d segments: there is no segment %d: %w", len(m.segments), v.Segment, ErrNoSegment)
	}
	v.Notes = append(v.Notes, fmt.Sprintf("only segment %d of %d was checked", v.Segment, len(m.segments)))
	if err := v.checkTree(ctx, m); err != nil {
		return err
	}
	if err := v.checkTreeSignature(ctx); err != nil {
		return err
	}
	r := m.segments[v.Segment-1]
	name, ok := v.name(r.Key)
	if !ok {
		v.bad(Segments, r.Key, "is of another capture")
		return nil
	}
	return v.checkOne(ctx, name, r)
}

// ErrNoSegment means that a capture has no segment of the number that was asked for.
var ErrNoSegment = errors.New("no such segment")
