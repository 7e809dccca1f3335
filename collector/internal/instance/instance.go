// Package instance tells what the collector's instance says of itself through its metadata service (IMDSv2).
package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"flashtap/events"
)

// Metadata asks the metadata service, and nobody else.
type Metadata struct{ client *imds.Client }

// Connect makes a client of the metadata service. AWS_EC2_METADATA_SERVICE_ENDPOINT names another one than the
// instance's own.
func Connect(ctx context.Context) (*Metadata, error) {
	shared, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("load the SDK's configuration: %w", err)
	}
	return &Metadata{imds.NewFromConfig(shared, func(o *imds.Options) {
		o.EnableFallback = aws.FalseTernary // never the version that answers without a token
	})}, nil
}

// ID is the id of the instance.
func (m *Metadata) ID(ctx context.Context) (string, error) {
	id, err := m.get(ctx, "instance-id")
	if err != nil {
		return "", err
	}
	if !events.IsInstanceID(id) {
		return "", fmt.Errorf("instance metadata: %q is no instance id", id)
	}
	return id, nil
}

// Addresses are the addresses that a mirror session can send to: the primary IPv4 address, and the IPv6 addresses of
// the primary interface.
func (m *Metadata) Addresses(ctx context.Context) ([]netip.Addr, error) {
	primary, err := m.get(ctx, "local-ipv4")
	if err != nil {
		return nil, err
	}
	mac, err := m.get(ctx, "mac")
	if err != nil {
		return nil, err
	}
	v6, err := m.get(ctx, "network/interfaces/macs/"+mac+"/ipv6s")
	if err != nil && !errors.Is(err, errAbsent) {
		return nil, err
	}
	var addrs []netip.Addr
	for _, text := range append([]string{primary}, strings.Fields(v6)...) {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("instance metadata: %q is no address", text)
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

// Tag is the value of one of the instance's own tags, and whether it has the tag.
func (m *Metadata) Tag(ctx context.Context, key string) (string, bool, error) {
	value, err := m.get(ctx, "tags/instance/"+key)
	if errors.Is(err, errAbsent) {
		return "", false, nil
	}
	return value, err == nil, err
}

// UserData is the first-boot script of the instance.
func (m *Metadata) UserData(ctx context.Context) ([]byte, error) {
	out, err := m.client.GetUserData(ctx, &imds.GetUserDataInput{})
	if err != nil {
		return nil, fmt.Errorf("read user data: %w", err)
	}
	defer out.Content.Close()
	data, err := io.ReadAll(out.Content)
	if err != nil {
		return nil, fmt.Errorf("read user data: %w", err)
	}
	return data, nil
}

var errAbsent = errors.New("not there")

func (m *Metadata) get(ctx context.Context, path string) (string, error) {
	out, err := m.client.GetMetadata(ctx, &imds.GetMetadataInput{Path: path})
	var answer interface{ HTTPStatusCode() int }
	if errors.As(err, &answer) && answer.HTTPStatusCode() == http.StatusNotFound {
		return "", fmt.Errorf("read instance metadata %s: %w: %w", path, errAbsent, err)
	}
	if err != nil {
		return "", fmt.Errorf("read instance metadata %s: %w", path, err)
	}
	defer out.Content.Close()
	value, err := io.ReadAll(out.Content)
	if err != nil {
		return "", fmt.Errorf("read instance metadata %s: %w", path, err)
	}
	return string(value), nil
}
