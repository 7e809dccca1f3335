package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"flashtap/events"
)

// optionFlags are what a person may choose about a capture that is started, or only thought through.
type optionFlags struct {
	options events.Options
	filter  string
}

func (o *optionFlags) register(flags *flag.FlagSet) {
	flags.Func("duration", fmt.Sprintf("how long to capture, a `TIME` from %s to %s (default: the deployment's)",
		spanText(events.MinDuration), spanText(events.MaxDuration)), func(text string) error {
		d, err := parseSpan(text)
		if err == nil && (d < events.MinDuration || d > events.MaxDuration) {
			err = fmt.Errorf("want %s to %s", spanText(events.MinDuration), spanText(events.MaxDuration))
		}
		o.options.DurationSeconds = int(d / time.Second)
		return err
	})
	flags.Func("max-bytes", "end the capture after this `SIZE` of packets, like 2GiB (default: the deployment's)", func(text string) (err error) {
		o.options.MaxBytes, err = parseSize(text)
		return err
	})
	flags.Func("profile", "what to mirror, a `PROFILE`: "+strings.Join(profiles, ", ")+" (default: the deployment's)", func(text string) error {
		if !slices.Contains(profiles, text) {
			return errors.New("want " + strings.Join(profiles, ", "))
		}
		o.options.Profile = text
		return nil
	})
	flags.StringVar(&o.filter, "filter", "", `JSON `+"`FILE`"+` with a filter, {"rules": [...], "dns": true}, of the profile custom (default: the profile's)`)
	flags.Func("packet-length", fmt.Sprintf("keep only the first `N` bytes of each frame, %d to %d (default: the profile's)", events.MinPacketLength, events.MaxPacketLength),
		func(text string) (err error) {
			o.options.PacketLength, err = parseCount(text, events.MinPacketLength, events.MaxPacketLength, ", or leave it out for whole frames")
			return err
		})
	flags.Func("control", "leave out SSH and RDP from this `CIDR`, your own; may be given several times (default: the deployment's)", func(text string) error {
		if _, err := netip.ParsePrefix(text); err != nil {
			return errors.New("want a CIDR like 203.0.113.0/24, or 203.0.113.7/32 for one address")
		}
		o.options.ControlCIDRs = append(o.options.ControlCIDRs, text)
		return nil
	})
	flags.Func("session-number", fmt.Sprintf("`N` of the mirror session, 1 to %d; AWS tries lower ones first (default: after all that exist)", events.MaxSessionNumber),
		func(text string) (err error) {
			o.options.SessionNumber, err = parseCount(text, 1, events.MaxSessionNumber, ", or leave it out for one after all that exist")
			return err
		})
	flags.BoolVar(&o.options.AllowTemporaryEndpoint, "allow-temporary-endpoint", false, "make an S3 interface endpoint for the time of the capture where no other way to S3 exists")
}

// profiles in the order of the help: from the most packets to the fewest.
var profiles = []string{events.ProfileEverything, events.ProfileHeaders, events.ProfileFinding, events.ProfileCustom}

// request is what is asked about one interface or instance.
func (o optionFlags) request(source string) (events.Request, error) {
	r := events.Request{Options: o.options}
	switch {
	case events.IsNetworkInterfaceID(source):
		r.NetworkInterfaceID = source
	case events.IsInstanceID(source):
		r.InstanceID = source
	default:
		return r, usage(fmt.Sprintf("%q: neither an interface id like eni-0a1b2c3d4e5f60718 nor an instance id like i-0a1b2c3d4e5f60718", source), "")
	}
	if err := o.complete(&r.Options); err != nil {
		return r, err
	}
	if err := r.Validate(); err != nil {
		return r, usage(strings.ReplaceAll(err.Error(), "\n", "; "), "")
	}
	return r, nil
}

// complete reads the filter's file into the options.
func (o optionFlags) complete(options *events.Options) error {
	if o.filter == "" {
		return nil
	}
	filter, err := readFilter(o.filter)
	if err != nil {
		return err
	}
	options.Filter = &filter
	return nil
}

// maxFilter is more than ten rules can need.
const maxFilter = 64 << 10

func readFilter(file string) (events.Filter, error) {
	var f events.Filter
	body, err := readFile(file, maxFilter)
	if err != nil {
		return f, fmt.Errorf("--filter: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	err = dec.Decode(&f)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = errors.New("something follows the JSON object")
		}
	}
	if err == nil {
		err = f.Validate()
	}
	if err != nil {
		return f, usage(fmt.Sprintf("--filter %s: %v", file, err), `write it like {"dns": true, "rules": [{"number": 100, "direction": "egress", "action": "accept", `+
			`"protocol": 6, "sourceCidr": "0.0.0.0/0", "destinationCidr": "0.0.0.0/0", "destinationPorts": {"from": 443, "to": 443}}]}`)
	}
	return f, nil
}

// over lays what the flags say over the options that a finding brings along.
func (o optionFlags) over(base events.Options) (events.Options, error) {
	said := o.options
	if err := o.complete(&said); err != nil {
		return base, err
	}
	if said.DurationSeconds != 0 {
		base.DurationSeconds = said.DurationSeconds
	}
	if said.MaxBytes != 0 {
		base.MaxBytes = said.MaxBytes
	}
	if said.PacketLength != 0 {
		base.PacketLength = said.PacketLength
	}
	if said.SessionNumber != 0 {
		base.SessionNumber = said.SessionNumber
	}
	if said.Filter != nil || said.Profile != "" {
		base.Filter, base.Profile = said.Filter, said.Profile
	}
	if len(said.ControlCIDRs) > 0 {
		base.ControlCIDRs = said.ControlCIDRs
	}
	base.AllowTemporaryEndpoint = base.AllowTemporaryEndpoint || said.AllowTemporaryEndpoint
	if err := base.Validate(); err != nil {
		return base, usage(strings.ReplaceAll(err.Error(), "\n", "; "), "")
	}
	return base, nil
}
