package model

import (
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"testing"
)

func expect(t *testing.T, service string, r *http.Request, body string, want map[string]any, kind Kind) {
	t.Helper()
	call, err := MustLoad(service).Decode(r, []byte(body))
	if kind == "" {
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(call.Params, want) {
			t.Errorf("decoded\n%v\nwant\n%v", call.Params, want)
		}
		return
	}
	var v *Violation
	if !errors.As(err, &v) || v.Kind != kind {
		t.Errorf("got %v, want a violation: %s", err, kind)
	}
}

// FuzzDecode feeds bytes from outside to every service and protocol: the answer
// is a call or a violation, whatever they are.
func FuzzDecode(f *testing.F) {
	f.Add("ec2", "POST", "/", "", []byte(form("DescribeInstances", "Filter.1.Name=a", "Filter.1.Value.1=b")))
	f.Add("ec2", "POST", "/", "", []byte(form("RunInstances", "MinCount.1.2.3=1")))
	f.Add("sns", "POST", "/", "", []byte("Action=Publish&Version=2010-03-31&MessageAttributes.entry.1.Name=k"))
	f.Add("ssm", "POST", "/", "AmazonSSM.GetParameter", []byte(`{"Name":"/a"}`))
	f.Add("states", "POST", "/", "AWSStepFunctions.StartExecution", []byte(`{"stateMachineArn":"a","input":"{}"}`))
	f.Add("scheduler", "GET", "/schedules?MaxResults=7", "", []byte{})
	f.Add("s3", "PUT", "/b/k?retention", "", []byte(`<Retention><Mode>COMPLIANCE</Mode></Retention>`))
	f.Add("cloudwatch", "POST", "/service/GraniteServiceVersion20100801/operation/PutMetricData", "cbor", []byte("\xbf\x69Namespace\x61a\xff"))
	f.Fuzz(func(t *testing.T, service, method, uri, target string, body []byte) {
		s, err := Load(service)
		if err != nil {
			return
		}
		at, err := url.ParseRequestURI(uri)
		if err != nil {
			return
		}
		r := &http.Request{Method: method, URL: at, Header: http.Header{}}
		switch target {
		case "":
		case "cbor":
			r.Header.Set("Smithy-Protocol", protocolCBORHeader)
		default:
			r.Header.Set("X-Amz-Target", target)
			r.Header.Set("Content-Type", "application/x-amz-json-"+s.Metadata.JSONVersion)
		}
		call, err := s.Decode(r, body)
		var v *Violation
		switch {
		case err == nil && s.Operations[call.Operation] == nil:
			t.Errorf("decoded a call of %q", call.Operation)
		case err != nil && !errors.As(err, &v):
			t.Errorf("refused with %T", err)
		case err != nil && (v.Error() == "" || v.Code() == ""):
			t.Errorf("a violation without words: %#v", v)
		}
	})
}
