// Package quotas is Service Quotas on one machine: it knows the quotas that the rest of the region keeps, and those that a
// test sets.
package quotas

import (
	"fmt"
	"sync"
)

// Quota is one of them, as Service Quotas names it.
type Quota struct {
	Service, Code string // such as ec2 and L-1216C47A
	ServiceName   string
	Name          string
	Value         float64
	Adjustable    bool
	// Usage is the metric of AWS/Usage that says how much of it is used; nil: there is none.
	Usage *Usage
}

// Usage names a metric of the namespace AWS/Usage.
type Usage struct {
	Metric     string
	Dimensions map[string]string
	Statistic  string
}

// StandardVCPUs is the quota "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", in vCPUs.
const StandardVCPUs = "L-1216C47A"

// StandardUsage are the dimensions by which AWS/Usage counts the vCPUs of StandardVCPUs (CloudWatch User Guide, "AWS usage
// metrics").
func StandardUsage() map[string]string {
	return map[string]string{"Service": "EC2", "Type": "Resource", "Resource": "vCPU", "Class": "Standard/OnDemand"}
}

// Service is one account's Service Quotas in one Region.
type Service struct {
	// Known are the quotas that the region keeps by itself, as they are now.
	Known           func() []Quota
	Account, Region string

	mu  sync.Mutex
	set map[[2]string]Quota
}

// Set adds a quota, or changes what is answered for one.
func (s *Service) Set(q Quota) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		s.set = map[[2]string]Quota{}
	}
	s.set[[2]string{q.Service, q.Code}] = q
}

// Handle answers a decoded call.
func (s *Service) Handle(operation string, params map[string]any) (map[string]any, error) {
	if operation != "GetServiceQuota" {
		return nil, &Error{"UnknownOperationException", operation + " is not served here"}
	}
	if _, given := params["ContextId"]; given {
		return nil, &Error{"IllegalArgumentException", "quotas of single resources are not played here"}
	}
	service, _ := params["ServiceCode"].(string)
	code, _ := params["QuotaCode"].(string)
	q, there := s.find(service, code)
	if !there {
		return nil, &Error{"NoSuchResourceException", fmt.Sprintf("The request failed because the specified quota %s of service %s does not exist.", code, service)}
	}
	m := map[string]any{"ServiceCode": q.Service, "ServiceName": q.ServiceName, "QuotaCode": q.Code, "QuotaName": q.Name, "Value": q.Value, "Unit": "None",
		"QuotaArn":   "arn:aws:servicequotas:" + s.Region + ":" + s.Account + ":" + q.Service + "/" + q.Code,
		"Adjustable": q.Adjustable, "GlobalQuota": false, "QuotaAppliedAtLevel": "ACCOUNT"}
	if q.Usage != nil {
		dimensions := map[string]any{}
		for name, value := range q.Usage.Dimensions {
			dimensions[name] = value
		}
		m["UsageMetric"] = map[string]any{"MetricNamespace": "AWS/Usage", "MetricName": q.Usage.Metric, "MetricDimensions": dimensions,
			"MetricStatisticRecommendation": q.Usage.Statistic}
	}
	return map[string]any{"Quota": m}, nil
}

func (s *Service) find(service, code string) (Quota, bool) {
	s.mu.Lock()
	q, set := s.set[[2]string{service, code}]
	s.mu.Unlock()
	if set {
		return q, true
	}
	for _, q := range s.Known() {
		if q.Service == service && q.Code == code {
			return q, true
		}
	}
	return Quota{}, false
}

// Error is a refusal as Service Quotas words it.
type Error struct{ code, message string }

func (e *Error) Error() string   { return e.code + ": " + e.message }
func (e *Error) Code() string    { return e.code }
func (e *Error) Message() string { return e.message }
func (e *Error) Status() int     { return 400 }
