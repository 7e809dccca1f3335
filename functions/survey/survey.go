// Package survey asks AWS about a suspect and its surroundings.
package survey

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go/middleware"
	"golang.org/x/sync/errgroup"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/internal/awserr"
	"flashtap/functions/internal/describe"
	"flashtap/functions/internal/service"
	"flashtap/functions/plan"
)

// Surveyor asks, and touches nothing: every call is a read. For one interface it makes at most 25 calls.
type Surveyor struct {
	// Finding is what the capture is about, when the caller has it; else the capture's finding.json is read.
	Finding *events.Finding

	tool     string
	settings events.Settings
	store    evidence.Store
	ec2      *ec2.Client
	services service.Client
	calls    *atomic.Int64
}

// New makes a surveyor. Tool is what the plan names as the tool that made it. A store without an API has no finding.
func New(cfg aws.Config, store evidence.Store, settings events.Settings, tool string) Surveyor {
	calls := &atomic.Int64{}
	count := func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("count", func(ctx context.Context, in middleware.InitializeInput,
			next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			calls.Add(1)
			return next.HandleInitialize(ctx, in)
		}), middleware.Before)
	}
	return Surveyor{
		tool: tool, settings: settings, store: store, calls: calls,
		ec2:      ec2.NewFromConfig(cfg, func(o *ec2.Options) { o.APIOptions = append(o.APIOptions, count) }),
		services: service.Client{Config: cfg},
	}
}

// Calls is how many calls were made so far. A page of a list is a call, a retry is not.
func (s Surveyor) Calls() int { return int(s.calls.Load()) }

// Facts describes the suspect and its surroundings, at the same time what does not depend on one another. StartedAt names the
// capture when the request does not. A suspect that can't be captured whatever surrounds it is an *events.Refusal.
func (s Surveyor) Facts(ctx context.Context, request events.Request, startedAt time.Time) (plan.Facts, error) {
	f := plan.Facts{Settings: s.settings, Tool: s.tool, Now: time.Now(), DrawVNI: drawVNI}
	ni, why, err := s.target(ctx, request)
	if err != nil {
		return f, err
	}
	f.Interface, f.Why = ni, why
	request.NetworkInterfaceID = aws.ToString(ni.NetworkInterfaceId)
	named := request.Capture != ""
	if !named {
		request.Capture = events.NewCaptureID(startedAt, request.NetworkInterfaceID)
	}
	f.Request = request
	if f.Start, err = request.Capture.Start(); err != nil {
		return f, err
	}
	if vpc, allowed := aws.ToString(ni.VpcId), s.settings.VPCs; len(allowed) > 0 && !slices.Contains(allowed, vpc) { // IAM refuses to describe it further
		return f, &events.Refusal{Reason: events.ForeignVPC,
			Detail: fmt.Sprintf("%s is in %s; this deployment captures only in %s", request.NetworkInterfaceID, vpc, strings.Join(allowed, ", ")),
			Remedy: "deploy with -c vpcs=... that includes it, or ask whoever deployed Flashtap"}
	}

	g, ctx := errgroup.WithContext(ctx)
	for _, gather := range []func(context.Context, *plan.Facts) error{
		s.mirroring, s.subnets, s.routeTables, s.acls, s.groups, s.endpoints, s.natGateways, s.prefixList, s.dnsSupport, s.suspect,
	} {
		g.Go(func() error { return gather(ctx, &f) })
	}
	g.Go(func() (err error) { f.Finding, err = s.finding(ctx, request.Capture, named); return err })
	defer s.without(ctx, g, &f)()
	err = g.Wait()
	return f, err
}

// target describes the interface that the request means. By an instance id alone it is the primary one.
func (s Surveyor) target(ctx context.Context, r events.Request) (types.NetworkInterface, string, error) {
	if r.NetworkInterfaceID != "" {
		ni, err := describe.Interface(ctx, s.ec2, r.NetworkInterfaceID)
		if awserr.IsNotFound(err) {
			return ni, "", gone(r.NetworkInterfaceID)
		}
		if err != nil {
			return ni, "", err
		}
		if r.InstanceID != "" && ni.Attachment != nil && aws.ToString(ni.Attachment.InstanceId) != r.InstanceID {
			return ni, "", &events.Refusal{Reason: events.SuspectGone,
				Detail: fmt.Sprintf("%s has moved from %s to %s", r.NetworkInterfaceID, r.InstanceID, aws.ToString(ni.Attachment.InstanceId)),
				Remedy: "start a capture by hand for the one that you mean"}
		}
		return ni, "the request names it", nil
	}
	list, err := describe.InterfacesOf(ctx, s.ec2, r.InstanceID)
	if err != nil {
		return types.NetworkInterface{}, "", err
	}
	targets, err := plan.Choose(events.Suspect{InstanceID: r.InstanceID}, list, 0)
	if err != nil {
		return types.NetworkInterface{}, "", gone(r.InstanceID)
	}
	why := "primary interface of " + r.InstanceID
	if others := len(targets.Interfaces) - 1; others > 0 {
		why += fmt.Sprintf("; each of its other interfaces, %d, needs a capture of its own", others)
	}
	return targets.Interfaces[0], why, nil
}

func gone(id string) error {
	return &events.Refusal{Reason: events.SuspectGone, Detail: id + " does not exist any more", Remedy: "look for what took over its address, and capture that"}
}

// finding reads what the capture is about. One that can't be understood is no reason to capture nothing.
func (s Surveyor) finding(ctx context.Context, c events.CaptureID, named bool) (plan.Answer[*events.Finding], error) {
	if s.Finding != nil || !named || s.store.API == nil {
		return plan.Known(s.Finding), nil
	}
	s.calls.Add(1)
	body, err := s.store.Read(ctx, events.FindingKey(c))
	if errors.Is(err, fs.ErrNotExist) {
		return plan.Known[*events.Finding](nil), nil
	}
	if err != nil {
		return plan.Answer[*events.Finding]{}, err
	}
	finding, err := events.ParseFinding(body)
	if err != nil {
		return plan.Answer[*events.Finding]{Why: err.Error()}, nil
	}
	return plan.Known(&finding), nil
}

// drawVNI is a random number, fixed in the plan once it is drawn. A VNI that cannot be guessed keeps forged datagrams out of the
// evidence.
func drawVNI() uint32 {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // crypto/rand documents that it never fails
	}
	return binary.BigEndian.Uint32(b[:])
}
