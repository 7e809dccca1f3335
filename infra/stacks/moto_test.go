package stacks_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMotoMakesTheStacks: moto's CloudFormation takes the templates, in the order of a deployment, with the exports of each
// for the next. It is a smoke test: moto knows fewer resource types and checks less than AWS. Left out is what would need
// running code: custom resources.
func TestMotoMakesTheStacks(t *testing.T) {
	if testing.Short() {
		t.Skip("moto takes its time")
	}
	program, err := exec.LookPath("moto_server")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI needs moto_server: pip install 'moto[server]==5.2.1'")
		}
		t.Skip("moto_server is not installed: pip install 'moto[server]==5.2.1'")
	}
	m := startMoto(t, program)
	bucket := "cdk-hnb659fds-assets-123456789012-" + region
	m.do(t, "s3", http.MethodPut, "/"+bucket, `<CreateBucketConfiguration><LocationConstraint>`+region+`</LocationConstraint></CreateBucketConfiguration>`)
	for key := range assetKeys(t) {
		m.do(t, "s3", http.MethodPut, "/"+bucket+"/"+key, "stub")
	}
	for _, stack := range []string{"evidence", "collector", "control", "observability"} {
		template, kept := forMoto(t, plain.Templates[stack])
		form := url.Values{"Action": {"CreateStack"}, "Version": {"2010-05-15"}, "StackName": {plain.config.Stack(stack)}, "TemplateBody": {string(encoded(t, template))}}
		m.do(t, "cloudformation", http.MethodPost, "/", form.Encode())
		answer := m.do(t, "cloudformation", http.MethodPost, "/", url.Values{"Action": {"DescribeStacks"}, "Version": {"2010-05-15"}, "StackName": {form.Get("StackName")}}.Encode())
		var said struct {
			Status string `xml:"DescribeStacksResult>Stacks>member>StackStatus"`
		}
		if err := xml.Unmarshal(answer, &said); err != nil || said.Status != "CREATE_COMPLETE" {
			t.Errorf("%s: %s, %v", stack, said.Status, err)
		}
		t.Logf("%s: %d resources, %s", stack, kept, said.Status)
	}
}

// forMoto is a copy of a template without what moto 5.2.1 stumbles over, and how many resources it has: CDK's check of its own
// bootstrap; tags of keys and parameters, which moto reads wrongly; and references to a bus, where it wants the name.
func forMoto(t *testing.T, template map[string]any) (map[string]any, int) {
	t.Helper()
	var copied map[string]any
	if err := json.Unmarshal(encoded(t, template), &copied); err != nil {
		t.Fatal(err)
	}
	delete(copied, "Rules")
	if parameters, ok := copied["Parameters"].(map[string]any); ok {
		delete(parameters, "BootstrapVersion")
	}
	resources := copied["Resources"].(map[string]any)
	for id, r := range resources {
		kind, _ := at(r, "Type").(string)
		properties, _ := at(r, "Properties").(map[string]any)
		switch {
		case strings.HasPrefix(kind, "Custom::"):
			delete(resources, id)
		case kind == "AWS::KMS::Key" || kind == "AWS::SSM::Parameter":
			delete(properties, "Tags")
		case kind == "AWS::Events::Rule" && properties["EventBusName"] != nil:
			properties["EventBusName"] = plain.config.Names().BusName()
			r.(map[string]any)["DependsOn"] = []string{"Bus"}
		}
	}
	return copied, len(resources)
}

var assetKey = regexp.MustCompile(`"([0-9a-f]{64}(\.zip)?)"`)

// assetKeys are the object keys of assets that the templates name.
func assetKeys(t *testing.T) map[string]bool {
	t.Helper()
	keys := map[string]bool{}
	for _, template := range plain.Templates {
		for _, m := range assetKey.FindAllSubmatch(encoded(t, template), -1) {
			keys[string(m[1])] = true
		}
	}
	return keys
}

type moto struct{ endpoint string }

func startMoto(t *testing.T, program string) moto {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close() // moto_server chooses no port by itself
	var log bytes.Buffer
	cmd := exec.Command(program, "-H", "127.0.0.1", "-p", fmt.Sprint(port))
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		if t.Failed() {
			words := log.String()
			t.Logf("moto's last words:\n%s", words[max(0, len(words)-4000):])
		}
	})
	m := moto{fmt.Sprintf("http://127.0.0.1:%d", port)}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		answer, err := http.Get(m.endpoint + "/moto-api/")
		if err == nil {
			answer.Body.Close()
			return m
		}
		if time.Now().After(deadline) {
			t.Fatalf("moto_server does not answer: %v", err)
		}
	}
}

// do sends a request as an SDK would sign it; moto looks at the scope alone.
func (m moto) do(t *testing.T, service, method, path, body string) []byte {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, m.endpoint+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x/20261122/"+region+"/"+service+"/aws4_request, SignedHeaders=host, Signature=0")
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	words, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s, %v\n%s", method, path, answer.Status, err, words)
	}
	return words
}
