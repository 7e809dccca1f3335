// Package remove takes away what was made for captures: one pass lists what bears our tags, removes what is provably
// ours in dependency order, and certifies what is gone and what remains.
package remove

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/scheduler"

	"flashtap/events"
	"flashtap/functions/evidence"
)

// Remover removes what this deployment made. Teardown of one capture, the guard and the sweep of the account all use
// it, with different filters.
type Remover struct {
	EC2       *ec2.Client
	Schedules *scheduler.Client
	Store     evidence.Store
	Settings  events.Settings
}

// Description marks what has a description instead of a name; together with the tags it is a proof of ownership.
func Description(c events.CaptureID) string { return "flashtap " + string(c) }

// Pass removes what it can of one capture and never waits; its caller repeats it until nothing remains. With
// events.PhaseMirror it removes only what mirrors, so that the collector can drain. The certificate names everything
// that was found, what is verifiably gone and what remains; the error joins everything that could not be done, and a
// certificate comes with it.
func (r Remover) Pass(ctx context.Context, c events.CaptureID, by, phase string) (events.Certificate, string, error) {
	before, err := r.Inventory(ctx, c)
	if err != nil {
		return events.Certificate{}, "", fmt.Errorf("capture %s: take inventory: %w", c, err)
	}
	var errs []error
	refused, calls := map[string]string{}, map[string]string{}
	blocked := false
	for _, item := range before { // in the order of removal
		if phase == events.PhaseMirror && !item.mirrors() || item.Gone() {
			continue
		}
		if why := item.doubt; why != "" {
			refused[item.key()] = why
			blocked = true
			slog.Error("refused to remove", "capture", c, "kind", item.Kind, "id", item.ID, "why", why)
			continue
		}
		if item.Kind == KindGuard && (blocked || !only(before, item)) {
			continue // the guard goes last of all, and only when there is nothing left to guard
		}
		if item.Kind == KindEndpoint && slices.ContainsFunc(before, Item.uploads) {
			continue // a collector that is told to end still uploads what it has, and this is its only way to S3
		}
		if calls[item.key()], err = r.remove(ctx, item); err != nil {
			errs = append(errs, fmt.Errorf("remove %s %s: %w", item.Kind, item.ID, err))
		}
	}
	after, err := r.Inventory(ctx, c)
	if err != nil {
		return events.Certificate{}, "", errors.Join(append(errs, fmt.Errorf("capture %s: verify: %w", c, err))...)
	}
	remained, err := r.remained(ctx, c)
	if err != nil {
		errs = append(errs, err)
	}
	for _, items := range [][]Item{before, after} {
		for i := range items {
			items[i].RequestID = calls[items[i].key()]
		}
	}
	cert := certify(c, by, remained, before, after, refused)
	key, err := r.file(ctx, &cert)
	if err != nil {
		errs = append(errs, err)
	}
	return cert, key, errors.Join(errs...)
}

// only says whether nothing but item itself is there any more.
func only(items []Item, item Item) bool {
	for _, other := range items {
		if other.key() != item.key() && !other.Gone() {
			return false
		}
	}
	return true
}

// remained is what the last certificate left.
func (r Remover) remained(ctx context.Context, c events.CaptureID) ([]events.Resource, error) {
	if c.Validate() != nil {
		return nil, nil
	}
	list, err := r.Store.List(ctx, events.CertificatesPrefix(c))
	if err != nil || len(list) == 0 {
		return nil, err
	}
	var last events.Certificate
	err = r.Store.ReadJSON(ctx, list[len(list)-1].Key, &last)
	return last.Remaining, err
}

// certify compares what was there before with what is there after. What the last certificate left and is not there any more
// went between the passes: an endpoint, unlike an instance, is not shown once it is gone.
func certify(c events.CaptureID, by string, remained []events.Resource, before, after []Item, refused map[string]string) events.Certificate {
	cert := events.Certificate{Version: events.RecordVersion, Capture: c, By: by, At: time.Now().UTC(),
		Found: []events.Resource{}, Gone: []events.Resource{}, Remaining: []events.Resource{}, Refused: []events.Resource{}}
	still := map[string]Item{}
	for _, item := range after {
		if !item.Gone() {
			still[item.key()] = item
		}
	}
	found := map[string]bool{}
	for _, item := range before {
		found[item.key()] = true
	}
	for _, r := range remained {
		key := Item{Resource: r}.key()
		if _, there := still[key]; !there && !found[key] {
			cert.Gone = append(cert.Gone, r)
		}
	}
	for _, item := range before {
		cert.Found = append(cert.Found, item.Resource)
		if _, there := still[item.key()]; !there {
			cert.Gone = append(cert.Gone, item.Resource)
		}
	}
	for _, item := range after {
		if _, there := still[item.key()]; !there {
			continue
		}
		if why, no := refused[item.key()]; no {
			item.Reason = why
			cert.Refused = append(cert.Refused, item.Resource)
		} else {
			cert.Remaining = append(cert.Remaining, item.Resource)
		}
	}
	return cert
}

// file stores the certificate under the next free number. Passes may overlap (state machine, guard, sweep), so the
// number is taken by whoever creates the object. A pass that found nothing, and misses nothing, files nothing, and neither does one about a
// tag that names no capture: whoever may set tags could choose the folder.
func (r Remover) file(ctx context.Context, cert *events.Certificate) (string, error) {
	if len(cert.Found)+len(cert.Gone) == 0 || cert.Capture.Validate() != nil {
		return "", nil
	}
	list, err := r.Store.List(ctx, events.CertificatesPrefix(cert.Capture))
	if err != nil {
		return "", err
	}
	const tries = 20
	for n := len(list) + 1; n < len(list)+tries; n++ {
		cert.Seq = n
		key := events.CertificateKey(cert.Capture, n)
		err := r.Store.CreateJSON(ctx, key, cert)
		if errors.Is(err, evidence.ErrExists) {
			continue
		}
		return key, err
	}
	return "", fmt.Errorf("capture %s: file a teardown certificate: %d numbers in a row are taken", cert.Capture, tries)
}
