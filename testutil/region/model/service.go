// Package model speaks AWS's wire protocols strictly by AWS's own service models.
//
// It decodes a request into plain values and refuses whatever the model does not
// know: an emulated service built on it cannot accept a call that AWS would
// reject for its form. Answers are encoded from plain values by the same rules.
package model

import (
	"embed"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"slices"
	"sort"
	"strings"
	"sync"
)

//go:embed data/*.json
var models embed.FS

// Service is one AWS service as its model describes it. It is safe for
// concurrent use.
type Service struct {
	// Name is the folder of the service in botocore, such as "stepfunctions".
	Name string
	// SigningName is what a request's credential scope calls it, such as "states".
	SigningName string

	*definition
	protocol string
}

// definition is what all protocols of a service share.
type definition struct {
	Metadata   metadata              `json:"metadata"`
	Operations map[string]*operation `json:"operations"`
	Shapes     map[string]*shape     `json:"shapes"`
	routes     []route
}

type metadata struct {
	APIVersion         string    `json:"apiVersion"`
	EndpointPrefix     string    `json:"endpointPrefix"`
	JSONVersion        string    `json:"jsonVersion"`
	Protocol           string    `json:"protocol"`
	Protocols          []string  `json:"protocols"`
	SigningName        string    `json:"signingName"`
	TargetPrefix       string    `json:"targetPrefix"`
	XMLNamespace       string    `json:"xmlNamespace"`
	AWSQueryCompatible *struct{} `json:"awsQueryCompatible"`
}

type operation struct {
	Name string `json:"name"`
	HTTP struct {
		Method       string `json:"method"`
		RequestURI   string `json:"requestUri"`
		ResponseCode int    `json:"responseCode"`
	} `json:"http"`
	Input  *member  `json:"input"`
	Output *output  `json:"output"`
	Errors []member `json:"errors"`
}

// output is the reference to an output shape with the wrapper the query protocol
// puts around it.
type output struct {
	member
	ResultWrapper string `json:"resultWrapper"`
}

var (
	loading sync.Mutex
	loaded  = map[string]*Service{}
)

// aliases are the names by which requests and ARNs call a service whose model
// has another one.
var aliases = map[string]string{"states": "stepfunctions", "sfn": "stepfunctions", "monitoring": "cloudwatch", "eventbridge": "events", "servicequotas": "service-quotas"}

// Load returns a service by its model's name or by the name it signs with.
func Load(name string) (*Service, error) {
	loading.Lock()
	defer loading.Unlock()
	if alias := aliases[name]; alias != "" {
		name = alias
	}
	if s := loaded[name]; s != nil {
		return s, nil
	}
	text, err := models.ReadFile("data/" + path.Base(name) + ".json")
	if err != nil {
		return nil, fmt.Errorf("load model of %s: %w", name, err)
	}
	def := &definition{}
	if err := json.Unmarshal(text, def); err != nil {
		return nil, fmt.Errorf("load model of %s: %w", name, err)
	}
	if err := def.link(); err != nil {
		return nil, fmt.Errorf("load model of %s: %w", name, err)
	}
	s := &Service{Name: name, SigningName: def.Metadata.SigningName, definition: def, protocol: def.Metadata.Protocol}
	if s.SigningName == "" {
		s.SigningName = def.Metadata.EndpointPrefix
	}
	loaded[name] = s
	return s, nil
}

// MustLoad is Load for a name that is written in the program.
func MustLoad(name string) *Service {
	s, err := Load(name)
	if err != nil {
		panic(err)
	}
	return s
}

// Names lists the services that can be loaded.
func Names() []string {
	entries, err := models.ReadDir("data")
	if err != nil {
		panic(err) // the folder is compiled in
	}
	var names []string
	for _, entry := range entries {
		names = append(names, strings.TrimSuffix(entry.Name(), ".json"))
	}
	return names
}

// OperationNames lists what the service's excerpt knows, sorted.
func (s *Service) OperationNames() []string {
	var names []string
	for name := range s.Operations {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// Members lists the top-level parameters of an operation, sorted.
func (s *Service) Members(operation string) []string {
	op := s.Operations[operation]
	if op == nil || op.Input == nil {
		return nil
	}
	return op.Input.target.memberNames
}

// For returns the service as it speaks to the sender of r: some services answer
// in several protocols.
func (s *Service) For(r *http.Request) *Service {
	protocol := s.Metadata.Protocol
	if len(s.Metadata.Protocols) > 1 {
		switch {
		case r.Header.Get("Smithy-Protocol") == protocolCBORHeader:
			protocol = protocolCBOR
		case r.Header.Get("X-Amz-Target") != "":
			protocol = protocolJSON
		default:
			protocol = protocolQuery
		}
		if !slices.Contains(s.Metadata.Protocols, protocol) {
			protocol = s.Metadata.Protocol
		}
	}
	if protocol == s.protocol {
		return s
	}
	spoken := *s
	spoken.protocol = protocol
	return &spoken
}

// The protocols by the names botocore gives them.
const (
	protocolEC2        = "ec2"
	protocolQuery      = "query"
	protocolJSON       = "json"
	protocolRESTJSON   = "rest-json"
	protocolRESTXML    = "rest-xml"
	protocolCBOR       = "smithy-rpc-v2-cbor"
	protocolCBORHeader = "rpc-v2-cbor"
)
