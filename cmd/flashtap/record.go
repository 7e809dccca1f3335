package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"flashtap/events"
	"flashtap/functions/evidence"
)

// The states of a capture, as the bucket tells them.
const (
	stateRunning  = "running"  // begun, and its time is not over
	stateSealed   = "sealed"   // closed by a manifest
	stateRefused  = "refused"  // no capture came of it
	stateUnsealed = "unsealed" // its time is over, and it has no manifest yet
)

// record is what the bucket holds of one capture.
type record struct {
	Capture  events.CaptureID
	State    string
	Why      string           // of the state, where it needs a reason
	Plan     *events.Plan     // nil: refused before it was planned, or about to be
	Manifest *events.Manifest // nil until sealed
	Seal     *events.SealResult
	Finding  string // the finding's type
}

// read reads a capture's record. It is fs.ErrNotExist when the bucket holds nothing of it.
func read(ctx context.Context, store evidence.Store, c events.CaptureID, now time.Time) (record, error) {
	r := record{Capture: c}
	body, err := store.Read(ctx, events.ManifestKey(c))
	if err == nil {
		if r.Manifest, r.Seal, err = readManifest(c, body); err != nil {
			return r, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	plan, err := store.Plan(ctx, c)
	switch {
	case err == nil:
		r.Plan, r.Finding = &plan, plan.Request.FindingType
	case !errors.Is(err, fs.ErrNotExist):
		return r, err
	default:
		if err := r.unplanned(ctx, store); err != nil {
			return r, err
		}
	}
	var guard guardWord
	if r.Manifest == nil && r.Plan != nil && r.Plan.Go {
		if guard, err = readGuard(ctx, store, c); err != nil {
			return r, err
		}
	}
	r.State, r.Why, err = r.judge(guard, now)
	return r, err
}

// guardWord is what the guard recorded: that it made the schedule which begins every capture, or that another capture
// holds the interface.
type guardWord struct {
	made     bool
	joinedTo string
}

func readGuard(ctx context.Context, store evidence.Store, c events.CaptureID) (guardWord, error) {
	made, err := store.Exists(ctx, events.CustodyKey(c, "guard", "guarded"))
	if err != nil || made {
		return guardWord{made: made}, err
	}
	var entry events.CustodyEntry
	err = store.ReadJSON(ctx, events.CustodyKey(c, "guard", events.ActJoined), &entry)
	if errors.Is(err, fs.ErrNotExist) {
		return guardWord{}, nil
	}
	return guardWord{joinedTo: entry.Detail["to"]}, err
}

// unplanned reads the type of the finding of a capture without a plan, which may also not be there at all.
func (r *record) unplanned(ctx context.Context, store evidence.Store) error {
	event, err := store.Read(ctx, events.FindingKey(r.Capture))
	if err == nil {
		finding, _ := events.ParseFinding(event) // a refused finding has a type all the same
		r.Finding = finding.Type
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) || r.Manifest != nil {
		return nil
	}
	list, listErr := store.List(ctx, events.CapturePrefix(r.Capture))
	if listErr != nil {
		return listErr
	}
	if len(list) == 0 {
		return fmt.Errorf("capture %s: %w", r.Capture, fs.ErrNotExist)
	}
	return nil
}

// settling is how long after its start a capture may still be without plan or guard: the longest that preflight and
// guard may take, with the guard's 20 retries at 15 seconds while a former capture is removed (infra/capture.asl.json).
const settling = 10 * time.Minute

// judge says in which state the capture is.
func (r record) judge(guard guardWord, now time.Time) (state, why string, err error) {
	start, err := r.Capture.Start()
	if err != nil {
		return "", "", err
	}
	if r.Plan != nil {
		start = r.Plan.CreatedAt // the capture's own may lie far back, when the request waited for a place
	}
	young := now.Before(start.Add(settling))
	switch {
	case r.Manifest != nil:
		return stateSealed, "", nil
	case r.Plan == nil && young:
		return stateRunning, "preflight is deciding", nil
	case r.Plan == nil:
		return stateRefused, "it ended before it was planned; its execution tells why", nil
	case !r.Plan.Go:
		return stateRefused, verdictsText(r.Plan.Failed()), nil
	case guard.joinedTo != "":
		return stateRefused, "joined: its interface is captured by " + guard.joinedTo, nil
	case !guard.made && young:
		return stateRunning, "about to begin", nil
	case !guard.made:
		return stateRefused, "it never began: its execution ended before", nil
	case now.Before(r.Plan.GuardAt()):
		return stateRunning, "", nil
	}
	return stateUnsealed, "its time is over; guard and sweep remove what is left and then seal it", nil
}

func verdictsText(list []events.Verdict) string {
	var words []string
	for _, v := range list {
		text := v.Check + ": " + v.Reason
		if v.Remedy != "" {
			text += " (" + v.Remedy + ")"
		}
		words = append(words, text)
	}
	return strings.Join(words, "; ")
}

func readManifest(c events.CaptureID, body []byte) (*events.Manifest, *events.SealResult, error) {
	var m events.Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, nil, fmt.Errorf("read manifest of %s: %w", c, err)
	}
	if m.Version > events.RecordVersion {
		return nil, nil, problem{exitFailed, fmt.Errorf("manifest of %s has version %d; this flashtap reads version %d", c, m.Version, events.RecordVersion), "use a newer flashtap"}
	}
	s := events.SealResult{Verdict: m.Verdict, Reasons: slices.Clone(m.Reasons), Segments: len(m.Segments), Manifest: events.ManifestKey(c), SHA256: evidence.Digest(body)}
	for _, seg := range m.Segments {
		s.Packets += seg.Packets
		s.Bytes += seg.Bytes
	}
	return &m, &s, nil
}

// progress is the latest checkpoint of the capture's own collector; nil before the first. Only the folders of the
// instances that launch recorded count: others can't be a collector's of this capture.
func progress(ctx context.Context, store evidence.Store, c events.CaptureID) (*events.Checkpoint, error) {
	users, err := collectors(ctx, store, c)
	if err != nil {
		return nil, err
	}
	var latest *events.Checkpoint
	for _, user := range users {
		list, err := store.List(ctx, events.CheckpointsPrefix(c, user))
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			continue
		}
		var said events.Checkpoint
		if err := store.ReadJSON(ctx, list[len(list)-1].Key, &said); err != nil {
			return nil, err
		}
		if latest == nil || said.At.After(latest.At) {
			latest = &said
		}
	}
	return latest, nil
}

// collectors are the aws:userids of the capture's collectors, as launch recorded them.
func collectors(ctx context.Context, store evidence.Store, c events.CaptureID) ([]string, error) {
	list, err := store.List(ctx, events.CustodyPrefix(c)+"launch-launched-")
	if err != nil {
		return nil, err
	}
	var users []string
	for _, e := range list {
		var entry events.CustodyEntry
		if err := store.ReadJSON(ctx, e.Key, &entry); err != nil {
			return nil, err
		}
		users = append(users, entry.Detail["userId"])
	}
	return users, nil
}

// captureID reads the operand of a command about one capture.
func captureID(text string) (events.CaptureID, error) {
	c := events.CaptureID(text)
	if err := c.Validate(); err != nil {
		return "", usage(err.Error(), "give the id as flashtap list shows it, like 20261122T030405Z-eni-0a1b2c3d4e5f60718")
	}
	return c, nil
}

// orAbsent gives the error for a capture that is not there its code and remedy.
func orAbsent(err error, c events.CaptureID, bucket string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return notFound("flashtap list --since 30d shows what there is", "bucket %s holds nothing of capture %s", bucket, c)
	}
	return err
}
