package deployment_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"flashtap/events"
	"flashtap/testutil/deployment"
	"flashtap/testutil/packets"
	"flashtap/testutil/region/asl"
	"flashtap/testutil/region/dataplane"
	"flashtap/testutil/region/ec2"
	"flashtap/testutil/region/model"
)

// broken is an environment in which a capture can't be what it should be.
type broken struct {
	name   string
	breaks func(*site)
	// check and result are the verdict that names it. A refusal, which comes before any check, has its error or reason for a
	// check and the result "refused".
	check, result string
	// ends is the error by which the state machine ends; "" for what only warns, and for what intake refuses.
	ends string
	// event makes the finding that intake gets; nil: the capture is asked for by hand.
	event func(*site) string
	// remedy does what the verdict's remedy says. Nil: the remedy consists of commands, and they are carried out.
	remedy func(*site)
	// alone: the whole account is broken, so no other environment may be judged meanwhile.
	alone bool
	// stays: the remedy takes the risk away and leaves the verdict.
	stays bool
	// last: the remedy makes something, so it waits until everything is judged.
	last bool
	// anew: the remedy is to deploy again.
	anew func(*deployment.Options)
}

const refused = "refused"

// site is a VPC of its own with a suspect that talks, and a second subnet in its zone from which S3 is reached as well.
type site struct {
	t *testing.T
	s *deployment.Scene
	d *deployment.Deployment // that is asked
	n int                    // of the row
	broken

	vpc, subnet, beside string
	table, endpoint     string
	instance, eni       string
	planes              map[string]*dataplane.Plane // by interface
	request             events.Request
	verdict             events.Verdict

	done      bool              // it has succeeded
	taken     []string          // interfaces that are in the way
	addresses map[string]string // of interfaces, also of those that are gone
}

// TestBrokenEnvironments: every broken environment is named before anything is made, with a remedy; and once the remedy is
// applied as it is written, the same capture succeeds.
func TestBrokenEnvironments(t *testing.T) {
	t.Parallel()
	s, log := brokenScene(t)
	rows := brokenEnvironments()
	if len(rows) < 40 {
		t.Errorf("only %d environments", len(rows))
	}
	var sites []*site
	for i, row := range rows {
		x := newSite(t, s, i+2, row)
		if !row.alone {
			row.breaks(x)
		}
		sites = append(sites, x)
	}
	lines := make([]string, len(sites))
	together(8, len(sites), func(i int) {
		if x := sites[i]; !x.alone {
			lines[i] = x.judge(log)
		}
	})
	for i, x := range sites {
		if x.alone {
			x.breaks(x)
			lines[i] = x.judge(log)
			if !x.last {
				x.apply()
			}
		}
	}
	nothingMade(t, s)
	messages(t, strings.Join(lines, "\n")+"\n")
	if testing.Short() { // make golden wants the messages alone
		return
	}
	for _, last := range []bool{true, false} { // what is counted in the account is as it was judged
		for _, x := range sites {
			if x.last == last && (last || !x.alone) {
				x.apply()
			}
		}
	}
	time.Sleep(time.Second) // a capture's name has its second
	others := left(t, s)    // teams' sessions and what remedies have made
	together(16, len(sites), func(i int) {
		if !sites[i].done {
			sites[i].succeed()
		}
	})
	eventually(t, 30*time.Second, "nothing of the captures is left", func() bool { return slices.Equal(left(t, s), others) })
}

var update = flag.Bool("update", false, "rewrite the golden file")

// messages compares what people are told with what was reviewed.
func messages(t *testing.T, got string) {
	t.Helper()
	file := filepath.Join("testdata", "broken.golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	old := slices.Collect(strings.Lines(string(want)))
	for line := range strings.Lines(got) {
		if !slices.Contains(old, line) {
			t.Errorf("not in %s: %s", file, line)
		}
	}
	if got != string(want) {
		t.Errorf("%s differs: go test ./testutil/deployment -run TestBrokenEnvironments -update, and review the difference", file)
	}
}

// left names what is there and was not seeded.
func left(t *testing.T, s *deployment.Scene) []string {
	t.Helper()
	list, err := s.Left()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

// together calls f for every number below n, some at once.
func together(some, n int, f func(int)) {
	var all sync.WaitGroup
	slots := make(chan bool, some)
	for i := range n {
		all.Go(func() {
			slots <- true
			f(i)
			<-slots
		})
	}
	all.Wait()
}

func brokenScene(t *testing.T) (*deployment.Scene, *lockedBuffer) {
	t.Helper()
	log := &lockedBuffer{}
	s, err := deployment.Set(t.Context(), deployment.SceneConfig{
		Dir: t.TempDir(), Programs: programs, Event: finding(t, "07-eb-ec2-torclient-camel.derived.json"), Frames: packets.MustLoad("zeek-get.pcap"),
		EC2: ec2.Config{Pending: 200 * time.Millisecond, ShuttingDown: 3 * time.Second, EndpointDelay: 500 * time.Millisecond}, Log: log, WithoutSweep: true,
		Change: brokenSettings,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the region: %v", err)
		}
		for _, v := range s.Region.Violations() {
			t.Errorf("a request left AWS's service model: %v", v)
		}
		if t.Failed() {
			t.Logf("log of functions:\n%s", log.String())
		}
	})
	return s, log
}

func brokenSettings(set *events.Settings) {
	set.DurationSeconds, set.ProofSeconds, set.DrainSeconds, set.ReadySeconds = 5, 20, 15, 60
	set.MaxCaptures = 500
}

// address is one of the site's own: networks of several VPCs may be the same, but only one collector can have an address of
// this machine.
func (x *site) address(host int) string {
	scene, _ := x.s.Region.EC2.Interface(x.s.ENI)
	a := scene.Address.As4()
	return netip.AddrFrom4([4]byte{a[0], a[1], byte(x.n), byte(host)}).String()
}

// id is one that depends on nothing but the row.
func (x *site) id(kind string, n int) string { return fmt.Sprintf("%s-0%014x%02x", kind, x.n, n) }

func newSite(t *testing.T, s *deployment.Scene, n int, row broken) *site {
	x := &site{t: t, s: s, d: s.Deployment, n: n, broken: row, planes: map[string]*dataplane.Plane{}}
	e := s.Region.EC2
	x.vpc = e.AddVPC(ec2.VPC{ID: x.id("vpc", 0), CIDR: x.address(0) + "/24"})
	x.subnet = e.AddSubnet(ec2.Subnet{ID: x.id("subnet", 0), VPC: x.vpc, CIDR: x.address(0) + "/26"})
	x.beside = e.AddSubnet(ec2.Subnet{ID: x.id("subnet", 1), VPC: x.vpc, CIDR: x.address(64) + "/26"})
	x.table = e.AddRouteTable(ec2.RouteTable{ID: x.id("rtb", 0), VPC: x.vpc, Subnets: []string{x.subnet, x.beside}})
	x.endpoint = e.AddEndpoint(ec2.Endpoint{ID: x.id("vpce", 0), VPC: x.vpc, Service: "s3", RouteTables: []string{x.table}})
	x.instance, x.eni = x.suspect(0, "m5.large", ec2.InterfaceSeed{})
	x.request = events.Request{NetworkInterfaceID: x.eni, InstanceID: x.instance}
	return x
}

// suspect adds an instance that talks; seed may say more about its first interface.
func (x *site) suspect(n int, instanceType string, seed ec2.InterfaceSeed) (instance, eni string) {
	seed.ID = x.id("eni", n)
	if seed.Subnet == "" {
		seed.Subnet = x.subnet
	}
	instance = x.s.Region.EC2.AddInstance(ec2.InstanceSeed{ID: x.id("i", n), Type: instanceType, Interfaces: []ec2.InterfaceSeed{seed}})
	x.talks(seed.ID)
	return instance, seed.ID
}

// talks gives an interface packets, if it has an address that they could be mirrored from.
func (x *site) talks(eni string) {
	known, _ := x.s.Region.EC2.Interface(eni)
	if !known.Address.IsValid() {
		return
	}
	frames := packets.MustLoad("zeek-get.pcap")
	play, err := dataplane.NewReplay(dataplane.ReplayConfig{Frames: frames, Suspect: dataplane.Suspect{Addresses: []netip.Addr{deployment.Talker(frames)}}, Loop: true, MaxGap: time.Millisecond})
	if err == nil {
		x.planes[eni], err = x.s.Region.AddTraffic(eni, dataplane.Config{Interface: eni, Address: known.Address, Traffic: play, Start: dataplane.WithSession, PacketsPerSecond: 20, Record: true})
	}
	if err != nil {
		x.t.Errorf("%s: traffic of %s: %v", x.name, eni, err)
	}
}

// judge asks for the capture and returns the line of the golden file about the verdict that the row waits for.
func (x *site) judge(log *lockedBuffer) string {
	switch {
	case x.event != nil:
		x.verdict = x.refusedByIntake(log)
	case x.ends != "":
		x.verdict = x.endsByError()
	default:
		x.verdict = x.warned()
	}
	v := x.verdict
	if v.Check != x.check || v.Result != x.result || v.Reason == "" {
		x.t.Errorf("%s: %s %s: %s, want %s %s", x.name, v.Check, v.Result, v.Reason, x.check, x.result)
	}
	return anonymous(fmt.Sprintf("%s: %s %s: %s | %s", x.name, v.Check, v.Result, v.Reason, v.Remedy))
}

// endsByError has the state machine start, and end before anything is made.
func (x *site) endsByError() events.Verdict {
	result := x.run()
	if result == nil {
		return events.Verdict{}
	}
	if result.Status != asl.Failed || result.Error != x.ends {
		x.t.Errorf("%s: the execution %s: %s: %s, want %s", x.name, result.Status, result.Error, result.Cause, x.ends)
	}
	if x.result == refused { // without a plan; the error says it all
		var said struct {
			ErrorMessage string `json:"errorMessage"`
		}
		if err := json.Unmarshal([]byte(result.Cause), &said); err != nil {
			x.t.Errorf("%s: the cause is %s: %v", x.name, result.Cause, err)
		}
		reason, remedy, _ := strings.Cut(said.ErrorMessage, "; ")
		if result.Error == "BadRequest" { // what would be right is part of what is wrong
			reason, remedy = said.ErrorMessage, ""
		}
		return events.Verdict{Check: result.Error, Result: refused, Reason: reason, Remedy: remedy}
	}
	p := x.plan()
	if p.Go {
		x.t.Errorf("%s: the plan says go", x.name)
	}
	return x.find(p)
}

// find is the verdict that the row waits for. Nothing else may be wrong.
func (x *site) find(p events.Plan) events.Verdict {
	var found events.Verdict
	for _, v := range p.Verdicts {
		if v.Check == x.check {
			found = v
		} else if v.Result == events.Fail {
			x.t.Errorf("%s: %s fails as well: %s", x.name, v.Check, v.Reason)
		}
	}
	return found
}

// warned has preflight alone decide: the capture would go on.
func (x *site) warned() events.Verdict {
	input, err := json.Marshal(events.PreflightInput{Request: x.request, Execution: "by the test", StartedAt: time.Now()})
	if err != nil {
		x.t.Error(err)
		return events.Verdict{}
	}
	out, err := x.s.Region.Lambda.Invoke(x.t.Context(), x.function("preflight"), input)
	if err != nil || out.FunctionError != "" {
		x.t.Errorf("%s: preflight: %v %s", x.name, err, out.Payload)
		return events.Verdict{}
	}
	return x.find(x.plan())
}

func (x *site) function(name string) string {
	return strings.TrimSuffix(x.d.Settings.TeardownARN[strings.LastIndexByte(x.d.Settings.TeardownARN, ':')+1:], "teardown") + name
}

// captured is the newest capture of the interface that the request is about.
func (x *site) captured() events.CaptureID {
	eni := x.request.NetworkInterfaceID
	entries, err := os.ReadDir(filepath.Join(x.s.Region.S3.BucketDir(x.d.Settings.Bucket), "captures"))
	if err != nil {
		x.t.Errorf("%s: %v", x.name, err)
	}
	var newest events.CaptureID
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "-"+eni) {
			newest = events.CaptureID(e.Name())
		}
	}
	return newest
}

func (x *site) path(key string) string {
	return filepath.Join(x.s.Region.S3.BucketDir(x.d.Settings.Bucket), filepath.FromSlash(key))
}

func (x *site) plan() events.Plan {
	var p events.Plan
	text, err := os.ReadFile(x.path(events.PlanKey(x.captured())))
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		x.t.Errorf("%s: the plan: %v", x.name, err)
	}
	return p
}

// run has the state machine carry the request out, as a person would who starts it by hand.
func (x *site) run() *asl.Result {
	input, err := json.Marshal(x.request)
	if err != nil {
		x.t.Error(err)
		return nil
	}
	name := fmt.Sprintf("row-%d-%d", x.n, time.Now().UnixNano())
	if _, err := x.s.Region.StartExecution(x.d.StateMachine, name, input); err != nil {
		x.t.Errorf("%s: %v", x.name, err)
		return nil
	}
	execution := x.s.Region.Execution(name)
	select {
	case <-execution.Done():
	case <-time.After(3 * time.Minute):
		x.t.Errorf("%s: the execution is still running: %v", x.name, execution.Trace())
		return nil
	}
	return execution.Describe()
}

// refusedByIntake publishes the finding and waits for intake's word about it.
func (x *site) refusedByIntake(log *lockedBuffer) events.Verdict {
	if matched, err := x.s.Deployment.Publish([]byte(x.event(x))); err != nil || len(matched) == 0 {
		x.t.Errorf("%s: publish: matched %v, %v", x.name, matched, err)
		return events.Verdict{}
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		for line := range strings.Lines(log.String()) {
			var said struct{ Msg, Case, Reason, Detail, Remedy string }
			at := strings.IndexByte(line, '{')
			if at >= 0 && json.Unmarshal([]byte(line[at:]), &said) == nil && said.Msg == refused && said.Case == x.findingID() {
				return events.Verdict{Check: said.Reason, Result: refused, Reason: said.Detail, Remedy: said.Remedy}
			}
		}
	}
	x.t.Errorf("%s: intake has not refused it", x.name)
	return events.Verdict{}
}

func (x *site) findingID() string { return fmt.Sprintf("finding-%d", x.n) }

// apply does what the remedy says, and nothing else.
func (x *site) apply() {
	switch {
	case x.anew != nil:
		o := deployment.Options{Account: x.s.Settings.Account, Region: x.s.Settings.Region, Programs: programs, Change: brokenSettings, WithoutSweep: true}
		c := deployment.Config()
		c.Deployment = fmt.Sprintf("anew%d", x.n)
		o.Config = &c
		x.anew(&o)
		var err error
		if x.d, err = deployment.Deploy(x.t.Context(), x.s.Region, o); err != nil {
			x.t.Errorf("%s: deploy again: %v", x.name, err)
		}
	case x.remedy != nil:
		x.remedy(x)
	default:
		x.carryOut(x.verdict.Remedy)
	}
}

// succeed runs the capture again, now that the remedy is applied.
func (x *site) succeed() {
	result := x.run()
	if result == nil {
		return
	}
	if result.Status != asl.Succeeded {
		x.t.Errorf("%s: with the remedy applied, the execution %s: %s: %s", x.name, result.Status, result.Error, result.Cause)
		return
	}
	p := x.plan()
	for _, v := range p.Verdicts {
		if v.Check == x.check && v.Result == x.result && v.Result != events.Fixed && !x.stays {
			x.t.Errorf("%s: with the remedy applied, %s is still %s: %s", x.name, v.Check, v.Result, v.Reason)
		}
	}
	var m events.Manifest
	text, err := os.ReadFile(x.path(events.ManifestKey(p.Capture)))
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		x.t.Errorf("%s: the manifest: %v", x.name, err)
	}
	if plane := x.planes[p.Source.NetworkInterfaceID]; plane == nil || m.Tally.Written == 0 || uint64(len(plane.Sent())) < m.Tally.Written {
		x.t.Errorf("%s: %d packets of %s are in the evidence: %s %v", x.name, m.Tally.Written, p.Source.NetworkInterfaceID, m.Verdict, m.Reasons)
	}
}

// nothingMade demands that nobody has made, changed or removed anything so far.
func nothingMade(t *testing.T, s *deployment.Scene) {
	t.Helper()
	for _, call := range s.Region.Calls() {
		reads := strings.HasPrefix(call.Operation, "Describe") || strings.HasPrefix(call.Operation, "Get") || strings.HasPrefix(call.Operation, "List") ||
			strings.HasPrefix(call.Operation, "Head") || strings.HasPrefix(call.Operation, "Simulate")
		records := call.Service == "s3" || call.Operation == "StartExecution" || call.Operation == "PutEvents"
		if !reads && !records {
			t.Errorf("%s called %s.%s before the verdict: %v", call.Principal, call.Service, call.Operation, call.Params)
		}
	}
}

// anonymous writes a line as every run has it: ids by the order of their appearance, addresses of one network, no times.
func anonymous(line string) string {
	line = captureIDs.ReplaceAllString(line, "CAPTURE")
	line = clockTimes.ReplaceAllString(line, "(hh:mm)")
	line = deletionDays.ReplaceAllString(line, "to be deleted on DAY")
	line = ownAddresses.ReplaceAllString(line, "10.0.0.")
	line = executionNames.ReplaceAllString(line, "EXECUTION")
	seen := map[string][]string{}
	return awsIDs.ReplaceAllStringFunc(line, func(id string) string {
		kind, _, _ := strings.Cut(id, "-")
		at := slices.Index(seen[kind], id)
		if at < 0 {
			at = len(seen[kind])
			seen[kind] = append(seen[kind], id)
		}
		return fmt.Sprintf("%s-%d", kind, at+1)
	})
}

var (
	captureIDs     = regexp.MustCompile(`\d{8}T\d{6}Z-eni-[0-9a-f]{17}`)
	clockTimes     = regexp.MustCompile(`\(\d\d:\d\d\)`)
	deletionDays   = regexp.MustCompile(`to be deleted on \d{4}-\d\d-\d\d`)
	ownAddresses   = regexp.MustCompile(`\b127\.\d+\.\d+\.`)
	executionNames = regexp.MustCompile(`row-\d+-\d+`)
	awsIDs         = regexp.MustCompile(`\b[a-z]+-[0-9a-f]{17}\b`)
)

// call has EC2 do something for somebody who is not Flashtap.
func (x *site) call(operation string, params map[string]any) map[string]any {
	out, err := x.s.Region.EC2.Handle(&model.Call{Service: "ec2", Operation: operation, Params: params}, "somebody")
	if err != nil {
		x.t.Errorf("%s: %s: %v", x.name, operation, err)
	}
	return out
}
