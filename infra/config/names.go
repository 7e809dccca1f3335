package config

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"flashtap/infra/policy"
)

// Functions are the Lambdas of a deployment, each the name of its folder under functions/. Setup serves the deployment
// itself, the others serve captures.
var Functions = []Function{
	{Name: "intake", Memory: 256, Seconds: 60},
	{Name: "preflight", Memory: 256, Seconds: 60, Step: true},
	{Name: "guard", Memory: 256, Seconds: 30, Step: true},
	{Name: "launch", Memory: 256, Seconds: 60, Step: true},
	{Name: "mirror", Memory: 256, Seconds: 60, Step: true},
	{Name: "watch", Memory: 256, Seconds: 60, Step: true},
	{Name: "teardown", Memory: 256, Seconds: 90, Step: true},
	{Name: "seal", Memory: 512, Seconds: 900, Step: true},
	{Name: "sweep", Memory: 512, Seconds: 900},
	{Name: Setup, Memory: 512, Seconds: 300},
}

// Setup is the function that serves the custom resources of the deployment.
const Setup = "setup"

// Function is one Lambda. Seconds never exceed what the state machine waits for it, or its answer would come too late.
type Function struct {
	Name    string
	Memory  int // MB
	Seconds int
	Step    bool // the state machine calls it
}

// Title is the function's name as the placeholders of the state machine and the logical ids have it.
func (f Function) Title() string { return strings.ToUpper(f.Name[:1]) + f.Name[1:] }

// Prefix begins every name of the deployment.
func (c Config) Prefix() string { return "flashtap-" + c.Deployment }

// Names names the things of the deployment. Everything has a fixed name, since IAM statements name things by it, except
// buckets and the roles other than the collector's. ARNs need the account and Region as well: Scope.
func (c Config) Names() policy.Scope {
	return policy.Scope{Deployment: c.Deployment, Prefix: c.Prefix()}
}

// Stack is the name of a stack.
func (c Config) Stack(kind string) string { return c.Prefix() + "-" + kind }

// KeyAlias is the alias of a KMS key.
func (c Config) KeyAlias(purpose string) string { return "alias/" + c.Prefix() + "-" + purpose }

// Trail is the name of the CloudTrail trail, when there is one.
func (c Config) Trail() string { return c.Prefix() + "-evidence" }

// ProgramKey is where the collector of an architecture lies in the evidence bucket; digest is its SHA-256.
func ProgramKey(arch, digest string) string { return "tools/collector-" + arch + "-" + digest }

// ActionID is the id of the custom action in Security Hub: at most 20 letters and digits (Security Hub API Reference,
// CreateActionTarget). A deployment id that does not fit is replaced by its digest.
func (c Config) ActionID() string {
	const longest, name = 20, "Flashtap"
	id := c.Deployment
	if len(name)+len(id) > longest {
		sum := sha256.Sum256([]byte(id))
		id = hex.EncodeToString(sum[:])[:longest-len(name)]
	}
	return name + id
}
