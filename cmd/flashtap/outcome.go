package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sfn/types"

	"flashtap/events"
)

// outcome is how an execution ended.
type outcome struct {
	Status   string             `json:"status"` // Step Functions' word: SUCCEEDED, FAILED, TIMED_OUT, ABORTED
	Capture  events.CaptureID   `json:"capture,omitempty"`
	JoinedTo events.CaptureID   `json:"joinedTo,omitempty"` // the capture that ran already
	Seal     *events.SealResult `json:"seal,omitempty"`
	Error    string             `json:"error,omitempty"`
	Cause    string             `json:"cause,omitempty"`
	Phases   []passage          `json:"phases"`

	bucket string // where the evidence lies, when it is known
}

// passage is a phase and when it began.
type passage struct {
	Phase string    `json:"phase"`
	At    time.Time `json:"at"`
}

// refusals are the errors with which preflight says no before anything is made.
var refusals = []string{"BadRequest", "NotMirrorable", "NoPlace"}

func (o outcome) code() int {
	switch {
	case slices.Contains(refusals, o.Error) || o.JoinedTo != "" && o.Status == string(types.ExecutionStatusSucceeded):
		return exitRefused
	case o.Status != string(types.ExecutionStatusSucceeded) || o.Seal == nil:
		return exitFailed
	case o.Seal.Verdict == events.VerdictComplete || o.Seal.Verdict == events.VerdictTruncated:
		return exitOK
	}
	return exitIncomplete
}

func (o outcome) text() string {
	var b strings.Builder
	switch {
	case o.code() == exitRefused && o.JoinedTo != "":
		fmt.Fprintf(&b, "joined: the interface is being captured already\nsee it:  flashtap status %s\n", o.JoinedTo)
		return b.String()
	case o.code() == exitRefused:
		fmt.Fprintf(&b, "refused: %s: %s\n", o.Error, o.Cause)
		return b.String()
	case o.Status != string(types.ExecutionStatusSucceeded):
		fmt.Fprintf(&b, "%s", strings.ToLower(strings.ReplaceAll(o.Status, "_", " ")))
		if o.Error != "" {
			fmt.Fprintf(&b, ": %s: %s", o.Error, o.Cause)
		}
		b.WriteByte('\n')
		if o.Seal == nil && o.Capture != "" {
			fmt.Fprintf(&b, "guard and sweep remove what is left and seal what there is:  flashtap status %s\n", o.Capture)
		}
	}
	switch {
	case o.Seal != nil:
		b.WriteString(sealText(*o.Seal, o.bucket))
	case b.Len() == 0:
		b.WriteString("ended without a verdict\n")
	}
	return b.String()
}

// sealText is the closing word on a capture.
func sealText(s events.SealResult, bucket string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "sealed: %s; %s, %s in %s\n", s.Verdict, countOf(s.Packets, "packet"), sizeText(s.Bytes), countOf(uint64(max(s.Segments, 0)), "segment"))
	for _, reason := range s.Reasons {
		fmt.Fprintf(&b, "  %s\n", reason)
	}
	manifest := s.Manifest
	if bucket != "" {
		manifest = "s3://" + bucket + "/" + manifest
	}
	fmt.Fprintf(&b, "manifest %s\n  sha256 %s\n", manifest, s.SHA256)
	return b.String()
}
