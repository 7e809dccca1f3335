package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"flashtap/collector/evidence"
	"flashtap/events"
)

func verifyCommand() command {
	return command{
		name: "verify", operands: "DIR|s3://BUCKET/captures/CAPTURE", least: 1, most: 1,
		summary: "check that evidence is whole and untouched",
		about: `Checks everything that docs/evidence.md demands: every byte, digest, chain, count and signature. It needs no AWS when
the evidence is in a folder. Every discrepancy is told, with the check that found it and the object it is about.

Two questions are answered: is it authentic, and is it everything? The second is the verdict that was sealed. A key
that lies in the evidence proves nothing, since whoever forges a manifest can replace the key beside it; so give the
public key, or its fingerprint, from elsewhere: from KMS (aws kms get-public-key), the deployment's records, or a witness.

With --segment only that segment of the manifest is read. It is also how a folder with one segment that was handed out,
with proof.json, is checked without the rest of the capture; a bucket or a folder named like a capture is never taken for one.

It exits with 0 when the evidence is authentic and complete, or complete as filtered; 5 when it is authentic, but
incomplete or without packets; 6 when it is consistent, but who signed is not verified; 7 when it is broken; 8 when it is
not sealed and holds up to the last checkpoints; 4 when there is none.`,
		examples: []example{
			{"flashtap verify 20261122T030405Z-eni-0a1b2c3d4e5f60718 --key signer.pem", "a folder"},
			{"flashtap verify s3://evidence/captures/20261122T030405Z-eni-0a1b2c3d4e5f60718 --fingerprint 5f70...", "where it lies"},
			{"flashtap verify handed-out --segment 3 --key signer.pem", "one segment with its proof"},
		},
		setup: func(t *tool, flags *flag.FlagSet) runner {
			var o trustFlags
			o.register(flags)
			segment := 0
			flags.Func("segment", "check only segment `N` of the manifest, counted from 1 (default: everything)", func(text string) error {
				n, err := parseCount(text, 1, 1<<30, "")
				segment = int(n)
				return err
			})
			return func(ctx context.Context, operands []string) error {
				options, err := o.options()
				if err != nil {
					return err
				}
				options.Segment = segment
				return t.verify(ctx, operands[0], options)
			}
		},
	}
}

// trustFlags say whose signature is wanted.
type trustFlags struct{ key, fingerprint string }

func (o *trustFlags) register(flags *flag.FlagSet) {
	flags.StringVar(&o.key, "key", "", "PEM or DER `FILE` with the public key that must have signed (default: the key in the evidence, which proves nothing)")
	flags.StringVar(&o.fingerprint, "fingerprint", "", "`SHA256` of the DER form of that key, instead of the key itself")
}

func (o *trustFlags) options() (evidence.Options, error) {
	var options evidence.Options
	if o.key != "" {
		text, err := os.ReadFile(o.key)
		if errors.Is(err, os.ErrNotExist) {
			return options, notFound("check the path", "--key %s: no such file", o.key)
		}
		if err != nil {
			return options, err
		}
		if options.Key, err = evidence.ParseKey(text); err != nil {
			return options, usage(fmt.Sprintf("--key %s: %v", o.key, err), "give the public key as PEM, as key.pem beside the manifest is, or as aws kms get-public-key has it")
		}
	}
	if o.fingerprint != "" {
		var err error
		if options.Fingerprint, err = evidence.ParseFingerprint(o.fingerprint); err != nil {
			return options, usage(fmt.Sprintf("--fingerprint %s: %v", o.fingerprint, err), "openssl pkey -pubin -in key.pem -outform DER | sha256sum")
		}
		if options.Key != nil && options.Key.SHA256 != options.Fingerprint {
			return options, usage(fmt.Sprintf("--key has the fingerprint %s, not the one of --fingerprint", options.Key.SHA256), "find out which of them is right")
		}
	}
	return options, nil
}

// verification is the answer of verify.
type verification struct {
	Evidence string `json:"evidence"` // where it lies
	evidence.Report
	ExitCode int `json:"exitCode"`
}

func (t *tool) verify(ctx context.Context, operand string, o evidence.Options) error {
	at, err := t.openEvidence(ctx, operand)
	if err != nil {
		return err
	}
	answer, err := t.check(ctx, at, o)
	if closed := at.close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	if err := t.show(answer); err != nil {
		return err
	}
	return answer.end()
}

// check verifies what lies somewhere, and shows how far it is.
func (t *tool) check(ctx context.Context, at place, o evidence.Options) (verification, error) {
	m := newMeter(t.err, "verifying")
	o.Capture = at.capture
	if t.output != outputJSON {
		o.Progress = m.at
	}
	report, err := evidence.Verify(ctx, at.Source, o)
	m.end()
	switch {
	case errors.Is(err, evidence.ErrNoEvidence):
		return verification{}, notFound("check the name; flashtap list shows the captures in the bucket", "%s holds no evidence of a capture", at.name)
	case errors.Is(err, evidence.ErrHandedOut):
		return verification{}, handedOut(at)
	case errors.Is(err, evidence.ErrNoSegment):
		return verification{}, notFound("leave out --segment to check all", "%v", err)
	case err != nil:
		return verification{}, fmt.Errorf("verify %s: %w", at.name, err)
	}
	return verification{Evidence: at.name, Report: report, ExitCode: verdictCode(report)}, nil
}

// handedOut says that a place holds no capture, but one segment.
func handedOut(at place) error {
	return usage(fmt.Sprintf("%s %v", at.name, evidence.ErrHandedOut), "flashtap verify "+at.name+" --segment N checks it, where N is its number in the capture")
}

// verdictCode is the exit code that a report comes to.
func verdictCode(r evidence.Report) int {
	switch r.Outcome {
	case evidence.Broken:
		return exitBroken
	case evidence.Unsealed:
		return exitUnsealed
	case evidence.Consistent:
		return exitUnverified
	}
	switch r.Verdict {
	case events.VerdictComplete, events.VerdictTruncated, "": // a segment alone has no verdict
		return exitOK
	}
	return exitIncomplete
}

// end is the error that carries the exit code.
func (v verification) end() error {
	if v.ExitCode == exitOK {
		return nil
	}
	return ended(v.ExitCode)
}

// outcomes say what an outcome means.
var outcomes = map[string]string{
	evidence.Authentic:  "everything holds, and the signature is by the key that was given",
	evidence.Consistent: "everything holds together, and who signed it is not known",
	evidence.Unsealed:   "there is no manifest; it holds together up to the last checkpoints",
	evidence.Broken:     "it is not as it was sealed, or was never right",
}

func (v verification) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", v.Outcome, outcomes[v.Outcome])
	if n := len(v.Discrepancies); n > 0 {
		plural := "discrepancies"
		if n == 1 {
			plural = "discrepancy"
		}
		fmt.Fprintf(&b, "%d %s:\n", n, plural)
		for _, d := range v.Discrepancies {
			fmt.Fprintf(&b, "  %s\n", d)
		}
	}
	if v.Verdict != "" {
		fmt.Fprintf(&b, "verdict   %s\n", v.Verdict)
	}
	for _, reason := range v.Reasons {
		fmt.Fprintf(&b, "          %s\n", reason)
	}
	if v.Capture != "" {
		fmt.Fprintf(&b, "capture   %s\n", v.Capture)
	}
	fmt.Fprintf(&b, "read      %s in %s; %s in %s", sizeText(v.Bytes), countOf(uint64(v.Objects), "object"), countOf(v.Packets, "packet"), countOf(uint64(v.Segments), "segment"))
	if v.Checkpoints+v.Acts+v.Addenda > 0 {
		addenda := countOf(uint64(v.Addenda), "addendum")
		if v.Addenda != 1 {
			addenda = countText(uint64(v.Addenda)) + " addenda"
		}
		fmt.Fprintf(&b, "; %s, %s, %s", countOf(uint64(v.Checkpoints), "checkpoint"), countOf(uint64(v.Acts), "act"), addenda)
	}
	b.WriteByte('\n')
	if v.Lost+v.AtMostLost > 0 {
		fmt.Fprintf(&b, "lost      %s, and at most %s more\n", countOf(v.Lost, "packet"), countText(v.AtMostLost))
	}
	if v.Signer != "" {
		fmt.Fprintf(&b, "signer    %s\n", v.Signer)
	}
	if v.Key != "" {
		fmt.Fprintf(&b, "key       sha256 %s\n", v.Key)
	}
	if v.SHA256 != "" {
		fmt.Fprintf(&b, "manifest  sha256 %s\n", v.SHA256)
	}
	for _, note := range v.Notes {
		fmt.Fprintf(&b, "note      %s\n", note)
	}
	return b.String()
}
