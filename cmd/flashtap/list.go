package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"

	"flashtap/events"
	"flashtap/functions/evidence"
)

func listCommand() command {
	return command{
		name: "list", remote: true,
		summary: "list the captures in the evidence bucket, newest first",
		about: `A capture is running until its time is over, then sealed by a manifest; unsealed when the manifest is still
missing; refused when no capture came of it, for the reason that is shown. Packets and bytes are those of the sealed
segments, or, while it runs, of what the collector has written so far.`,
		examples: []example{
			{"flashtap list", "the last 7 days"},
			{"flashtap list --since 36h", ""},
			{"flashtap list --since 30d --output json", "for scripts"},
		},
		setup: func(t *tool, flags *flag.FlagSet) runner {
			since := 7 * day
			flags.Func("since", "how far to look back, a `TIME` like 36h or 30d (default: 7d)", func(text string) (err error) {
				since, err = parseSpan(text)
				return err
			})
			return func(ctx context.Context, _ []string) error { return t.list(ctx, since) }
		},
	}
}

// row is one capture of the list.
type row struct {
	Capture            events.CaptureID `json:"capture"`
	Start              time.Time        `json:"start"`
	NetworkInterfaceID string           `json:"networkInterfaceId"`
	InstanceID         string           `json:"instanceId,omitempty"`
	FindingType        string           `json:"findingType,omitempty"`
	Case               string           `json:"case,omitempty"`
	State              string           `json:"state"`
	Why                string           `json:"why,omitempty"`
	Verdict            string           `json:"verdict,omitempty"`
	Packets            uint64           `json:"packets"`
	Bytes              int64            `json:"bytes"`
}

type listing struct {
	Since    time.Time `json:"since"`
	Captures []row     `json:"captures"`
}

func (l listing) text() string {
	if len(l.Captures) == 0 {
		return fmt.Sprintf("no captures since %s; --since looks further back\n", timeText(l.Since))
	}
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CAPTURE\tSOURCE\tFINDING\tSTATE\tVERDICT\tPACKETS\tBYTES")
	for _, r := range l.Captures {
		source, finding, verdict := r.InstanceID, r.FindingType, r.Verdict
		if source == "" {
			source = r.NetworkInterfaceID
		}
		if finding == "" {
			finding = "by hand"
		}
		packets, size := countText(r.Packets), sizeText(r.Bytes)
		if verdict == "" {
			verdict = r.Why
		}
		if verdict == "" {
			verdict = "-"
		}
		if r.State == stateRefused {
			packets, size = "-", "-"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Capture, cell(source), cell(finding), r.State, cell(verdict), packets, size)
	}
	_ = table.Flush() // a strings.Builder takes everything
	return b.String()
}

// cell keeps others' words from breaking the table, and long reasons from pushing it off the screen.
func cell(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	const most = 60
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-3]) + "..."
	}
	return text
}

func (t *tool) list(ctx context.Context, since time.Duration) error {
	settings, err := t.settings("FLASHTAP_BUCKET")
	if err != nil {
		return err
	}
	cfg, err := connect(ctx)
	if err != nil {
		return err
	}
	store := evidence.Store{API: s3.NewFromConfig(cfg), Bucket: settings.Bucket}
	now := time.Now()
	l := listing{Since: now.Add(-since).UTC().Truncate(time.Second)}
	captures, err := store.Captures(ctx, l.Since)
	if err != nil {
		return fmt.Errorf("bucket %s: %w", settings.Bucket, err)
	}
	slices.Reverse(captures)
	l.Captures = make([]row, len(captures))
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(8)
	for i, c := range captures {
		work.Go(func() (err error) {
			l.Captures[i], err = rowOf(ctx, store, c, now)
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	return t.show(l)
}

func rowOf(ctx context.Context, store evidence.Store, c events.CaptureID, now time.Time) (row, error) {
	r, err := read(ctx, store, c, now)
	if err != nil {
		return row{}, err
	}
	line := row{Capture: c, NetworkInterfaceID: c.NetworkInterfaceID(), FindingType: r.Finding, State: r.State, Why: r.Why}
	if line.Start, err = c.Start(); err != nil {
		return row{}, err
	}
	if r.Plan != nil {
		line.InstanceID, line.Case = r.Plan.Source.InstanceID, r.Plan.Request.Case
	}
	switch {
	case r.Seal != nil:
		line.Verdict, line.Packets, line.Bytes = r.Seal.Verdict, r.Seal.Packets, r.Seal.Bytes
	case r.State != stateRefused:
		said, err := progress(ctx, store, c)
		if err != nil {
			return row{}, err
		}
		if said != nil {
			line.Packets, line.Bytes = said.Tally.Written, int64(said.Tally.WrittenBytes)
		}
	}
	return line, nil
}
