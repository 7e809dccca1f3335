package region_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"flashtap/testutil/region"
	regionec2 "flashtap/testutil/region/ec2"
)

// guest does what its user data says, a word: "obey" powers off when asked to, "ignore" does not, "leave" powers off at
// once, "crash" ends with an error.
type guest struct {
	mu      sync.Mutex
	booted  []region.Machine
	running int
}

func (g *guest) Run(ctx context.Context, m region.Machine, shutdown <-chan struct{}) error {
	g.mu.Lock()
	g.booted = append(g.booted, m)
	g.running++
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.running--
	}()
	fmt.Fprintf(m.Console, "booted %s\n", m.ID)
	switch string(m.UserData) {
	case "obey":
		select {
		case <-shutdown:
		case <-ctx.Done():
		}
	case "ignore":
		<-ctx.Done()
	case "crash":
		return errors.New("kernel panic")
	}
	return nil
}

func (g *guest) count() (booted, running int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.booted), g.running
}

// hall is a region in which instances can be launched.
type hall struct {
	*region.Region
	t     *testing.T
	guest *guest
	api   *ec2.Client
	place scene
	image string
}

func newHall(t *testing.T, cfg regionec2.Config) hall {
	t.Helper()
	g := &guest{}
	r := start(t, region.Config{Guest: g, EC2: cfg})
	r.EC2.AddInstanceProfile(regionec2.Profile{Name: "collector", RoleName: "the-collectors-role", RoleID: "AROAEXAMPLE"})
	return hall{r, t, g, ec2.NewFromConfig(client(r, "launcher")), place(r, "127.7.0.0/16", "127.7.1.0/24", "127.7.1.10"), r.EC2.AddImage(regionec2.Image{})}
}

func (h hall) launch(userData string) string {
	h.t.Helper()
	out, err := h.api.RunInstances(h.t.Context(), &ec2.RunInstancesInput{
		ImageId: &h.image, InstanceType: "c7gn.large", MinCount: aws.Int32(1), MaxCount: aws.Int32(1), SubnetId: &h.place.subnet,
		UserData: aws.String(base64.StdEncoding.EncodeToString([]byte(userData))), InstanceInitiatedShutdownBehavior: types.ShutdownBehaviorTerminate,
		IamInstanceProfile: &types.IamInstanceProfileSpecification{Name: aws.String("collector")},
		MetadataOptions:    &types.InstanceMetadataOptionsRequest{InstanceMetadataTags: types.InstanceMetadataTagsStateEnabled, HttpTokens: types.HttpTokensStateRequired},
		TagSpecifications:  []types.TagSpecification{{ResourceType: types.ResourceTypeInstance, Tags: []types.Tag{{Key: aws.String("deadline"), Value: aws.String("noon")}}}},
	})
	must(h.t, err)
	return *out.Instances[0].InstanceId
}

func (h hall) state(id string) string {
	i, _ := h.EC2.Instance(id)
	return i.State
}

func (h hall) terminate(id string) {
	h.t.Helper()
	_, err := h.api.TerminateInstances(h.t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	must(h.t, err)
}

// boots waits until n guests have booted, and returns the last.
func (h hall) boots(n int) region.Machine {
	h.t.Helper()
	eventually(h.t, "the guest boots", func() bool {
		booted, _ := h.guest.count()
		return booted == n
	})
	h.guest.mu.Lock()
	defer h.guest.mu.Unlock()
	return h.guest.booted[n-1]
}

func TestAGuestFindsItsSurroundings(t *testing.T) {
	t.Parallel()
	h := newHall(t, regionec2.Config{ShuttingDown: time.Hour})
	ctx := t.Context()
	id := h.launch("obey")
	m := h.boots(1)
	equal(t, "the machine", []string{m.ID, m.Type, string(m.UserData), m.Env["AWS_SDK_UA_APP_ID"], m.Env["AWS_ENDPOINT_URL"], m.Env["AWS_EC2_METADATA_DISABLED"]},
		[]string{id, "c7gn.large", "obey", "the-collectors-role+" + id, h.Endpoint(), ""})
	equal(t, "its disk", exists(m.Dir), true)

	metadata := imds.New(imds.Options{Endpoint: m.Env["AWS_EC2_METADATA_SERVICE_ENDPOINT"]})
	document, err := metadata.GetInstanceIdentityDocument(ctx, nil)
	must(t, err)
	equal(t, "identity", []string{document.InstanceID, document.AccountID, document.Region, document.PrivateIP}, []string{id, "123456789012", "us-east-1", "127.7.1.5"})
	role, err := metadata.GetIAMInfo(ctx, nil)
	must(t, err)
	if !strings.HasSuffix(role.InstanceProfileArn, ":instance-profile/collector") {
		t.Errorf("the profile is %s", role.InstanceProfileArn)
	}
	tag := func(key string) string {
		out, err := metadata.GetMetadata(ctx, &imds.GetMetadataInput{Path: "tags/instance/" + key})
		if err != nil {
			return ""
		}
		defer out.Content.Close()
		text := make([]byte, 100)
		n, _ := out.Content.Read(text)
		return string(text[:n])
	}
	equal(t, "a tag from birth", tag("deadline"), "noon")
	_, err = h.api.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{id}, Tags: []types.Tag{{Key: aws.String("stop"), Value: aws.String("now")}}})
	must(t, err)
	equal(t, "a later tag", tag("stop"), "now")

	eventually(t, "the console shows what the guest prints", func() bool {
		out, err := h.api.GetConsoleOutput(ctx, &ec2.GetConsoleOutputInput{InstanceId: &id})
		must(t, err)
		text, err := base64.StdEncoding.DecodeString(aws.ToString(out.Output))
		must(t, err)
		return string(text) == "booted "+id+"\n"
	})
	file, err := os.ReadFile(filepath.Join(h.Dir(), "logs", id+".console"))
	must(t, err)
	equal(t, "the log", string(file), "booted "+id+"\n")

	h.terminate(id)
	eventually(t, "the guest's own shutdown ends the wait", func() bool { return h.state(id) == "terminated" })
	if resp, err := http.Get(m.Env["AWS_EC2_METADATA_SERVICE_ENDPOINT"]); err == nil {
		resp.Body.Close()
		t.Error("the metadata service outlived its instance")
	}
}

func TestEndsOfInstances(t *testing.T) {
	t.Parallel()
	h := newHall(t, regionec2.Config{ShuttingDown: 200 * time.Millisecond})
	gone := func(what, id string) {
		t.Helper()
		eventually(t, what, func() bool {
			_, running := h.guest.count()
			return h.state(id) == "terminated" && running == 0
		})
	}
	left := h.launch("leave")
	gone("a guest that powers off ends its instance", left)
	crashed := h.launch("crash")
	gone("a guest that crashes ends its instance", crashed)
	text, err := os.ReadFile(filepath.Join(h.Dir(), "logs", crashed+".console"))
	must(t, err)
	if !strings.Contains(string(text), "kernel panic") {
		t.Errorf("the console says %q", text)
	}

	deaf := h.launch("ignore")
	h.boots(3)
	h.terminate(deaf)
	gone("a guest that does not listen loses its power", deaf)

	host := h.launch("ignore")
	h.boots(4)
	must(t, h.PullPlug(host))
	gone("a host that dies takes its guest along", host)
	if err := h.PullPlug(host); err == nil {
		t.Error("the plug of nothing was pulled")
	}
}

// EC2's calls may overtake a boot. An instance that was ended while it came up must not run on.
func TestATerminationDuringTheBootIsNotLost(t *testing.T) {
	t.Parallel()
	h := newHall(t, regionec2.Config{Pending: 2 * time.Millisecond, ShuttingDown: time.Millisecond})
	var ids []string
	for n := range 60 {
		id := h.launch("obey")
		time.Sleep(time.Duration(n%6) * time.Millisecond)
		h.terminate(id)
		ids = append(ids, id)
	}
	eventually(t, "all have ended, guests and instances", func() bool {
		for _, id := range ids {
			if h.state(id) != "terminated" {
				return false
			}
		}
		_, running := h.guest.count()
		return running == 0
	})
	time.Sleep(50 * time.Millisecond)
	if _, running := h.guest.count(); running != 0 {
		t.Errorf("%d guests run in no instance", running)
	}
}

func TestInstancesWithoutUserDataHaveNoGuest(t *testing.T) {
	t.Parallel()
	h := newHall(t, regionec2.Config{})
	id := h.launch("")
	eventually(t, "it runs", func() bool { return h.state(id) == "running" })
	h.terminate(id)
	eventually(t, "it ends", func() bool { return h.state(id) == "terminated" })
	if booted, _ := h.guest.count(); booted != 0 {
		t.Error("a guest booted without user data")
	}
}
