package evidence

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"flashtap/events"
)

// chainCustody orders the recorded acts and certificates by the time at which S3 stored them and chains each to the one
// before (docs/evidence.md, section 7). It writes custody.jsonl once, and returns the keys that the one in the bucket has.
func (s Store) chainCustody(ctx context.Context, c events.CaptureID) (map[string]bool, error) {
	log, err := s.Read(ctx, events.CustodyLogKey(c))
	if errors.Is(err, fs.ErrNotExist) {
		if log, err = s.custodyLog(ctx, c); err != nil {
			return nil, err
		}
		err = s.Create(ctx, events.CustodyLogKey(c), log)
		if errors.Is(err, ErrExists) { // another seal was faster
			log, err = s.Read(ctx, events.CustodyLogKey(c))
		}
	}
	if err != nil {
		return nil, err
	}
	return keysOfLog(log)
}

func (s Store) custodyLog(ctx context.Context, c events.CaptureID) ([]byte, error) {
	var list []Entry
	for _, prefix := range []string{events.CertificatesPrefix(c), events.CustodyPrefix(c)} {
		part, err := s.List(ctx, prefix)
		if err != nil {
			return nil, err
		}
		list = append(list, part...)
	}
	slices.SortFunc(list, func(a, b Entry) int {
		if order := a.Stored.Compare(b.Stored); order != 0 {
			return order
		}
		return strings.Compare(a.Key, b.Key)
	})
	var log bytes.Buffer
	previous := ""
	for _, e := range list {
		body, unreadable, err := s.readAct(ctx, c, e.Key)
		if err != nil {
			return nil, err
		}
		if unreadable != "" {
			continue // the manifest has it as an object, and says why
		}
		line, err := Canonical(events.CustodyLine{Key: e.Key, Stored: e.Stored.UTC(), SHA256: Digest(body), Previous: previous, Entry: body})
		if err != nil {
			return nil, fmt.Errorf("chain %s: %w", e.Key, err)
		}
		previous = Digest(line)
		log.Write(line)
		log.WriteByte('\n')
	}
	return log.Bytes(), nil
}

// readAct reads an act or a certificate; unreadable says why it is no record.
func (s Store) readAct(ctx context.Context, c events.CaptureID, key string) (body []byte, unreadable string, err error) {
	if strings.HasPrefix(key, events.CertificatesPrefix(c)) {
		var cert events.Certificate
		body, unreadable, err = s.readReport(ctx, key, maxRecord, &cert)
		return body, cmp.Or(unreadable, otherCapture(cert.Version, cert.Capture, c)), err
	}
	var entry events.CustodyEntry
	body, unreadable, err = s.readReport(ctx, key, maxRecord, &entry)
	return body, cmp.Or(unreadable, otherCapture(entry.Version, entry.Capture, c)), err
}

// isAct says that custody.jsonl has the objects of this kind, as far as they are records.
func isAct(c events.CaptureID, key string) bool {
	return strings.HasPrefix(key, events.CustodyPrefix(c)) || strings.HasPrefix(key, events.CertificatesPrefix(c))
}

// keysOfLog are the keys that a custody log lists.
func keysOfLog(log []byte) (map[string]bool, error) {
	keys := map[string]bool{}
	for _, text := range bytes.Split(log, []byte{'\n'}) {
		if len(text) == 0 {
			continue // behind the last line feed
		}
		var line events.CustodyLine
		if err := json.Unmarshal(text, &line); err != nil {
			return nil, fmt.Errorf("read line %d of the custody log: %w", len(keys)+1, err)
		}
		keys[line.Key] = true
	}
	return keys, nil
}
