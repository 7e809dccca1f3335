package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/sync/errgroup"

	"flashtap/events"
	"flashtap/functions/evidence"
	"flashtap/functions/internal/awserr"
	"flashtap/functions/internal/boot"
	"flashtap/functions/internal/describe"
	"flashtap/functions/plan"
)

type preflight struct {
	ec2      *ec2.Client
	store    evidence.Store
	settings events.Settings
}

// run makes the plan, or returns the one that an earlier run of this very step has made.
func (p preflight) run(ctx context.Context, in events.PreflightInput) (events.PlanSummary, error) {
	request := in.Request
	if err := request.Validate(); err != nil {
		return events.PlanSummary{}, boot.BadRequest{Reason: strings.ReplaceAll(err.Error(), "\n", "; ")}
	}
	if request.Capture != "" {
		made, err := p.store.Plan(ctx, request.Capture)
		if err == nil && time.Now().After(made.Deadline) { // the input of an old execution, started again
			return events.PlanSummary{}, boot.BadRequest{Reason: fmt.Sprintf("capture %s is over since %s; to capture anew, leave \"capture\" out",
				made.Capture, made.Deadline.Format(time.RFC3339))}
		}
		if err == nil {
			return conclude(made)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return events.PlanSummary{}, err
		}
	}
	facts, err := p.facts(ctx, request, in.StartedAt)
	if err != nil {
		return events.PlanSummary{}, err
	}
	made := plan.Decide(facts)
	err = p.store.CreateJSON(ctx, events.PlanKey(made.Capture), made)
	if errors.Is(err, evidence.ErrExists) { // an earlier run drew another VNI; its word stands
		made, err = p.store.Plan(ctx, made.Capture)
	}
	if err != nil {
		return events.PlanSummary{}, err
	}
	slog.Info("planned", "capture", made.Capture, "eni", made.Source.NetworkInterfaceID, "go", made.Go, "vni", made.Mirror.VNI)
	return conclude(made)
}

// conclude turns a plan's failed verdicts into the error that names them.
func conclude(p events.Plan) (events.PlanSummary, error) {
	summary := events.PlanSummary{
		Capture: p.Capture, NetworkInterfaceID: p.Source.NetworkInterfaceID, PlanKey: events.PlanKey(p.Capture),
		Deadline: p.Deadline, FindingType: p.Request.FindingType,
	}
	var reasons, remedies []string
	sourceFails, requestFails := false, false
	for _, v := range p.Failed() {
		reasons = append(reasons, v.Reason)
		remedies = append(remedies, v.Remedy)
		switch v.Check {
		case "placement", "collector":
		case "request", "filter":
			requestFails = true
		default:
			sourceFails = true
		}
	}
	reason, remedy := strings.Join(reasons, "; "), strings.Join(remedies, "; ")
	switch {
	case len(reasons) == 0:
		return summary, nil
	case requestFails:
		return summary, boot.BadRequest{Reason: reason + "; " + remedy}
	case sourceFails:
		return summary, boot.NotMirrorable{Source: summary.NetworkInterfaceID, Reason: reason, Remedy: remedy}
	}
	return summary, boot.NoPlace{Source: summary.NetworkInterfaceID, Reason: reason, Remedy: remedy}
}

// facts describes the suspect and its surroundings, at the same time what does not depend on one another.
func (p preflight) facts(ctx context.Context, request events.Request, startedAt time.Time) (plan.Facts, error) {
	f := plan.Facts{Settings: p.settings, Tool: boot.Tool("preflight"), Now: time.Now(), DrawVNI: drawVNI}
	ni, why, err := p.target(ctx, request)
	if err != nil {
		return f, err
	}
	f.Interface, f.Why = ni, why
	request.NetworkInterfaceID = aws.ToString(ni.NetworkInterfaceId)
	if request.Capture == "" {
		request.Capture = events.NewCaptureID(startedAt, request.NetworkInterfaceID)
	}
	f.Request = request
	if f.Start, err = request.Capture.Start(); err != nil {
		return f, err
	}
	vpc, zone := aws.ToString(ni.VpcId), aws.ToString(ni.AvailabilityZone)
	if allowed := p.settings.VPCs; len(allowed) > 0 && !slices.Contains(allowed, vpc) { // IAM refuses to describe it further
		return f, boot.NotMirrorable{Source: request.NetworkInterfaceID,
			Reason: fmt.Sprintf("it is in %s; this deployment captures only in %s", vpc, strings.Join(allowed, ", ")),
			Remedy: "deploy with -c vpcs=... that includes it, or ask whoever deployed Flashtap"}
	}
	service := "com.amazonaws." + p.settings.Region + ".s3"

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if ni.Attachment != nil && aws.ToString(ni.Attachment.InstanceId) != "" {
			f.Instance, err = describe.Instance(ctx, p.ec2, aws.ToString(ni.Attachment.InstanceId))
		}
		return err
	})
	g.Go(func() (err error) { f.Sessions, err = describe.Sessions(ctx, p.ec2); return err })
	g.Go(func() (err error) { f.Targets, err = describe.Targets(ctx, p.ec2); return err })
	g.Go(func() error {
		pages := ec2.NewDescribeSubnetsPaginator(p.ec2, &ec2.DescribeSubnetsInput{Filters: []types.Filter{
			describe.Filter("vpc-id", vpc), describe.Filter("availability-zone", zone)}})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return fmt.Errorf("describe subnets of %s: %w", vpc, err)
			}
			f.Subnets = append(f.Subnets, page.Subnets...)
		}
		return nil
	})
	g.Go(func() error {
		pages := ec2.NewDescribeRouteTablesPaginator(p.ec2, &ec2.DescribeRouteTablesInput{Filters: []types.Filter{describe.Filter("vpc-id", vpc)}})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return fmt.Errorf("describe route tables of %s: %w", vpc, err)
			}
			f.RouteTables = append(f.RouteTables, page.RouteTables...)
		}
		return nil
	})
	g.Go(func() error {
		pages := ec2.NewDescribeVpcEndpointsPaginator(p.ec2, &ec2.DescribeVpcEndpointsInput{Filters: []types.Filter{
			describe.Filter("vpc-id", vpc), describe.Filter("service-name", service)}})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return fmt.Errorf("describe endpoints of %s: %w", vpc, err)
			}
			f.Endpoints = append(f.Endpoints, page.VpcEndpoints...)
		}
		return nil
	})
	g.Go(func() error {
		out, err := p.ec2.DescribeManagedPrefixLists(ctx, &ec2.DescribeManagedPrefixListsInput{Filters: []types.Filter{describe.Filter("prefix-list-name", service)}})
		if err != nil {
			return fmt.Errorf("describe prefix list %s: %w", service, err)
		}
		for _, l := range out.PrefixLists {
			f.S3PrefixList = aws.ToString(l.PrefixListId)
		}
		if f.S3PrefixList == "" {
			return fmt.Errorf("describe prefix list %s: there is none", service)
		}
		return nil
	})
	g.Go(func() error {
		out, err := p.ec2.DescribeVpcAttribute(ctx, &ec2.DescribeVpcAttributeInput{VpcId: &vpc, Attribute: types.VpcAttributeNameEnableDnsSupport})
		if err != nil {
			return fmt.Errorf("describe DNS support of %s: %w", vpc, err)
		}
		f.DNSSupport = out.EnableDnsSupport != nil && aws.ToBool(out.EnableDnsSupport.Value)
		return nil
	})
	return f, g.Wait()
}

// target describes the interface that the request means. By an instance id alone it is the primary one.
func (p preflight) target(ctx context.Context, r events.Request) (types.NetworkInterface, string, error) {
	if r.NetworkInterfaceID != "" {
		ni, err := describe.Interface(ctx, p.ec2, r.NetworkInterfaceID)
		if awserr.IsNotFound(err) {
			return ni, "", gone(r.NetworkInterfaceID)
		}
		if err != nil {
			return ni, "", err
		}
		if r.InstanceID != "" && ni.Attachment != nil && aws.ToString(ni.Attachment.InstanceId) != r.InstanceID {
			return ni, "", boot.NotMirrorable{Source: r.NetworkInterfaceID,
				Reason: "it has moved from " + r.InstanceID + " to " + aws.ToString(ni.Attachment.InstanceId),
				Remedy: "start a capture by hand for the one that you mean"}
		}
		return ni, "the request names it", nil
	}
	list, err := describe.InterfacesOf(ctx, p.ec2, r.InstanceID)
	if err != nil {
		return types.NetworkInterface{}, "", err
	}
	targets, err := plan.Choose(events.Suspect{InstanceID: r.InstanceID}, list, 0)
	if err != nil {
		return types.NetworkInterface{}, "", gone(r.InstanceID)
	}
	why := "primary interface of " + r.InstanceID
	if others := len(targets.Interfaces) - 1; others > 0 {
		why += fmt.Sprintf("; its %d other interfaces need captures of their own", others)
	}
	return targets.Interfaces[0], why, nil
}

func gone(id string) error {
	return boot.NotMirrorable{Source: id, Reason: "it does not exist any more", Remedy: "look for what took over its address"}
}

// drawVNI is a random number, fixed in the plan once it is drawn. A VNI that cannot be guessed keeps forged
// datagrams out of the evidence.
func drawVNI() uint32 {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // crypto/rand documents that it never fails
	}
	return binary.BigEndian.Uint32(b[:])
}
