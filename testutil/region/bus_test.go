package region_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"flashtap/testutil/region"
	"flashtap/testutil/region/queue"
)

// An event goes to a FIFO queue with its group, and from there to a function; what the function returns as failed comes
// back to it, and nothing else does.
func TestFromAnEventThroughAQueueToAFunction(t *testing.T) {
	t.Parallel()
	r := start(t, region.Config{})
	register(t, r, "worker")
	for _, q := range []queue.Queue{
		{Name: "intake-dlq.fifo", ContentBasedDeduplication: true},
		{Name: "intake.fifo", ContentBasedDeduplication: true, DeadLetterQueue: "intake-dlq.fifo", MaxReceiveCount: 3, VisibilityTimeout: 3 * time.Second},
	} {
		_, err := r.Queues.Create(q)
		must(t, err)
	}
	together(warmUp(t, r), warmUp(t, r)) // or a slow start outlasts the visibility timeout
	must(t, r.Rule("urgent", `{"source": ["aws.guardduty"], "detail": {"severity": [{"numeric": [">=", 9]}]}}`, r.ToQueue("intake.fifo", "urgent")))
	must(t, r.Rule("rest", `{"source": ["aws.guardduty"], "detail": {"severity": [{"numeric": ["<", 9]}]}}`, r.ToQueue("intake.fifo", "rest")))
	log, failed := filepath.Join(r.Dir(), "log"), filepath.Join(r.Dir(), "failed")
	publish := func(text string, severity int, fail string) []string {
		event, err := json.Marshal(map[string]any{"source": "aws.guardduty", "detail-type": "GuardDuty Finding",
			"detail": map[string]any{"severity": severity, "File": log, "Text": text, "Fail": fail}})
		must(t, err)
		matched, err := r.Publish(event)
		must(t, err)
		return matched
	}
	equal(t, "rules", publish("first", 5, ""), []string{"rest"})
	equal(t, "rules", publish("second", 9, ""), []string{"urgent"})
	equal(t, "rules", publish("third", 5, failed), []string{"rest"})
	equal(t, "rules", publish("first", 5, ""), []string{"rest"}) // the same again, which the queue takes for one
	groups := map[string]string{}
	messages, err := r.Queues.Messages("intake.fifo")
	must(t, err)
	for _, m := range messages {
		var e struct{ Detail struct{ Text string } }
		must(t, json.Unmarshal([]byte(m.Body), &e))
		groups[e.Detail.Text] = m.GroupID
	}
	equal(t, "groups", groups, map[string]string{"first": "rest", "second": "urgent", "third": "rest"})

	must(t, r.MapQueue("intake.fifo", 10, "worker"))
	eventually(t, "the queue is empty", func() bool {
		messages, err := r.Queues.Messages("intake.fifo")
		must(t, err)
		return len(messages) == 0
	})
	text, err := os.ReadFile(log)
	must(t, err)
	lines := strings.Fields(string(text))
	equal(t, "the order in a group", slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return l == "second" }), []string{"first", "third", "third"})
	equal(t, "lines", len(lines), 4)
	letters, err := r.Queues.Messages("intake-dlq.fifo")
	must(t, err)
	equal(t, "dead letters", len(letters), 0)
	if err := r.MapQueue("nobody", 10, "worker"); err == nil {
		t.Error("a queue that does not exist was mapped")
	}
}

// warmUp has a process of the function start.
func warmUp(t *testing.T, r *region.Region) func() {
	return func() {
		if _, err := r.Lambda.Invoke(t.Context(), "worker", []byte(`{"do": "sleep"}`)); err != nil {
			t.Error(err)
		}
	}
}

// A message that no try of the function survives ends in the dead-letter queue.
func TestAFunctionThatFailsLeavesTheMessageToTheQueue(t *testing.T) {
	t.Parallel()
	r := start(t, region.Config{})
	register(t, r, "worker")
	for _, q := range []queue.Queue{{Name: "dlq"}, {Name: "jobs", DeadLetterQueue: "dlq", MaxReceiveCount: 2, VisibilityTimeout: time.Second}} {
		_, err := r.Queues.Create(q)
		must(t, err)
	}
	must(t, r.MapQueue("jobs", 1, "worker"))
	_, err := r.Queues.Send("jobs", queue.Message{Body: "no JSON, at which the function fails"})
	must(t, err)
	eventually(t, "it is in the dead-letter queue", func() bool {
		messages, err := r.Queues.Messages("dlq")
		must(t, err)
		return len(messages) == 1
	})
}

// Every target of an event is served, whatever becomes of the others.
func TestOneTargetsFailureIsNotTheOthers(t *testing.T) {
	t.Parallel()
	r := start(t, region.Config{})
	register(t, r, "worker")
	_, err := r.Queues.Create(queue.Queue{Name: "jobs"})
	must(t, err)
	broken := errors.New("the target is broken")
	must(t, r.Rule("broken", `{"source": ["x"]}`, func(context.Context, []byte) error { return broken }))
	must(t, r.Rule("no such queue", `{"source": ["x"]}`, r.ToQueue("nobody", "")))
	must(t, r.Rule("no such function", `{"source": ["x"]}`, r.ToFunction("nobody")))
	must(t, r.Rule("other", `{"source": ["y"]}`, r.ToQueue("jobs", "")))
	must(t, r.Rule("queue", `{"source": ["x"]}`, r.ToQueue("jobs", "")))
	must(t, r.Rule("function", `{"source": ["x"]}`, r.ToFunction("worker")))
	file := filepath.Join(r.Dir(), "ran")
	heard := 0
	r.Listen(func([]byte) { heard++ })
	matched, err := r.Publish([]byte(`{"source": "x", "do": "note", "file": "` + file + `"}`))
	equal(t, "matched", matched, []string{"broken", "no such queue", "no such function", "queue", "function"})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "no such queue") || !strings.Contains(err.Error(), "no such function") {
		t.Errorf("the error is %v", err)
	}
	messages, err := r.Queues.Messages("jobs")
	must(t, err)
	equal(t, "messages and events heard", []int{len(messages), heard}, []int{1, 1})
	eventually(t, "the function ran", func() bool { return exists(file) })
	if _, err := r.Publish([]byte("no JSON")); err == nil {
		t.Error("no JSON was published")
	}
	if err := r.Rule("odd", `{"source": "x"}`, nil); err == nil {
		t.Error("a pattern that AWS refuses was taken")
	}
}

func TestPutEventsKeepsWhatItIsGiven(t *testing.T) {
	t.Parallel()
	r := start(t, region.Config{})
	var got struct {
		Version, ID, Source, Account, Time, Region string
		Type                                       string `json:"detail-type"`
		Resources                                  []string
		Detail                                     json.RawMessage
	}
	r.Listen(func(event []byte) { must(t, json.Unmarshal(event, &got)) })
	api := eventbridge.NewFromConfig(client(r, "tester"))
	in := types.PutEventsRequestEntry{Source: aws.String("flashing"), DetailType: aws.String("Packets Flowing"), Detail: aws.String(`{"n": 12345678901234567890}`),
		Resources: []string{"arn:aws:ec2:us-east-1:123456789012:network-interface/eni-1"}, Time: aws.Time(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)),
		EventBusName: aws.String("arn:aws:events:us-east-1:123456789012:event-bus/default")}
	out, err := api.PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{in}})
	must(t, err)
	equal(t, "the event", []string{got.Version, got.ID, got.Source, got.Account, got.Time, got.Region, got.Type, got.Resources[0], string(got.Detail)},
		[]string{"0", *out.Entries[0].EventId, "flashing", "123456789012", "2026-01-02T03:04:05Z", "us-east-1", "Packets Flowing", in.Resources[0], `{"n":12345678901234567890}`})
	in.EventBusName = aws.String("others")
	out, err = api.PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{in}})
	must(t, err)
	equal(t, "on a bus that is not here", aws.ToString(out.Entries[0].ErrorCode), "InvalidArgument")
	_, err = api.PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: slices.Repeat([]types.PutEventsRequestEntry{in}, 11)})
	if code(err) == "none" || code(err) == "" {
		t.Errorf("eleven entries: %v", err)
	}
	violations(t, r, 1)
}
