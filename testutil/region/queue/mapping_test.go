package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

type eventOf struct {
	Records []struct {
		MessageID  string
		Body       string
		Attributes map[string]string
	}
}

func parse(t *testing.T, payload []byte) eventOf {
	t.Helper()
	var e eventOf
	if err := json.Unmarshal(payload, &e); err != nil {
		t.Errorf("the event is not JSON: %v", err)
	}
	return e
}

// calls collects what a function was given.
type calls struct {
	mu  sync.Mutex
	all []string
}

func (c *calls) add(e eventOf) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var bodies []string
	for _, r := range e.Records {
		bodies = append(bodies, r.Body)
	}
	c.all = append(c.all, strings.Join(bodies, " "))
}

func (c *calls) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.all, " | ")
}

func TestTheEventOfABatch(t *testing.T) {
	in(t, func(f fixture) {
		sent := f.send("q.fifo", Message{Body: "Test message.", GroupID: "1", DeduplicationID: "1",
			Attributes: map[string]Attribute{"myAttribute": {DataType: "String", StringValue: "myValue"}}})[0]
		payloads := make(chan []byte, 1)
		if _, err := f.s.Map(Mapping{Queue: "q.fifo", Invoke: func(_ context.Context, payload []byte) ([]byte, error) {
			payloads <- payload
			return nil, nil
		}}); err != nil {
			t.Fatal(err)
		}
		payload := <-payloads
		var e struct{ Records []map[string]any }
		if err := json.Unmarshal(payload, &e); err != nil {
			t.Fatal(err)
		}
		handle, _ := e.Records[0]["receiptHandle"].(string)
		// After the guide's "Example FIFO queue message event".
		want := `{"Records":[{"messageId":"` + sent.MessageID + `","receiptHandle":"` + handle + `","body":"Test message.",` +
			`"attributes":{"ApproximateFirstReceiveTimestamp":"946684800000","ApproximateReceiveCount":"1","MessageDeduplicationId":"1",` +
			`"MessageGroupId":"1","SenderId":"AIDALOCALSENDER000000","SentTimestamp":"946684800000","SequenceNumber":"` + sent.SequenceNumber + `"},` +
			`"messageAttributes":{"myAttribute":{"stringValue":"myValue","stringListValues":[],"binaryListValues":[],"dataType":"String"}},` +
			`"md5OfMessageAttributes":"` + attributesDigest(map[string]Attribute{"myAttribute": {DataType: "String", StringValue: "myValue"}}) + `",` +
			`"md5OfBody":"e4e68fb7bd0e697a0ae8f1bb342846b3","eventSource":"aws:sqs",` +
			`"eventSourceARN":"arn:aws:sqs:us-east-1:123456789012:q.fifo","awsRegion":"us-east-1"}]}`
		if string(payload) != want {
			t.Errorf("got  %s\nwant %s", payload, want)
		}
		synctest.Wait()
		if n := len(f.messages("q.fifo")); n != 0 {
			t.Errorf("%d messages are left after success", n)
		}
	}, Queue{Name: "q.fifo"})
}

func TestBatchOutcomes(t *testing.T) {
	for _, row := range []struct {
		name   string
		report bool
		answer string // %0 and %1 stand for the ids of the first two messages
		err    error
		left   string
	}{
		{"success", false, `"anything"`, nil, ""},
		{"a function error keeps the whole batch", false, "", errors.New("Unhandled"), "a b c"},
		{"a function error keeps the whole batch, reported or not", true, "", errors.New("Unhandled"), "a b c"},
		{"without the setting failures are not read", false, `{"batchItemFailures":[{"itemIdentifier":"%0"}]}`, nil, ""},
		{"one of three failed", true, `{"batchItemFailures":[{"itemIdentifier":"%1"}]}`, nil, "b"},
		{"two of three failed", true, `{"batchItemFailures":[{"itemIdentifier":"%1"},{"itemIdentifier":"%0"}]}`, nil, "a b"},
		{"an empty list is success", true, `{"batchItemFailures":[]}`, nil, ""},
		{"a null list is success", true, `{"batchItemFailures":null}`, nil, ""},
		{"an empty answer is success", true, ``, nil, ""},
		{"an empty object is success", true, `{}`, nil, ""},
		{"a null answer is success", true, `null`, nil, ""},
		{"no JSON is failure", true, `{"batchItemFailures":`, nil, "a b c"},
		{"a string is failure", true, `"done"`, nil, "a b c"},
		{"an empty identifier is failure", true, `{"batchItemFailures":[{"itemIdentifier":""}]}`, nil, "a b c"},
		{"a null identifier is failure", true, `{"batchItemFailures":[{"itemIdentifier":null}]}`, nil, "a b c"},
		{"a badly named identifier is failure", true, `{"batchItemFailures":[{"messageId":"%0"}]}`, nil, "a b c"},
		{"an unknown identifier is failure", true, `{"batchItemFailures":[{"itemIdentifier":"%0"},{"itemIdentifier":"x"}]}`, nil, "a b c"},
	} {
		t.Run(row.name, func(t *testing.T) {
			in(t, func(f fixture) {
				f.send("q", Message{Body: "a"}, Message{Body: "b"}, Message{Body: "c"})
				var seen calls
				stop, err := f.s.Map(Mapping{Queue: "q", ReportBatchItemFailures: row.report, Invoke: func(_ context.Context, payload []byte) ([]byte, error) {
					e := parse(t, payload)
					seen.add(e)
					answer := strings.NewReplacer("%0", e.Records[0].MessageID, "%1", e.Records[min(1, len(e.Records)-1)].MessageID).Replace(row.answer)
					return []byte(answer), row.err
				}})
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if got := bodies(f.messages("q")); got != row.left {
					t.Errorf("%q is left, want %q", got, row.left)
				}
				time.Sleep(29 * time.Second)
				if seen.String() != "a b c" {
					t.Errorf("before the visibility timeout the function saw %s", seen.String())
				}
				time.Sleep(2 * time.Second)
				stop()
				if want := strings.TrimSuffix("a b c | "+row.left, " | "); seen.String() != want {
					t.Errorf("after the visibility timeout the function saw %s, want %s", seen.String(), want)
				}
			}, Queue{Name: "q"})
		})
	}
}

func TestAPoisonMessageEndsInTheDeadLetterQueue(t *testing.T) {
	in(t, func(f fixture) {
		f.send("q", Message{Body: "poison"})
		var seen calls
		if _, err := f.s.Map(Mapping{Queue: "q", Invoke: func(_ context.Context, payload []byte) ([]byte, error) {
			seen.add(parse(t, payload))
			return nil, errors.New("Unhandled")
		}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if seen.String() != "poison | poison | poison" || bodies(f.messages("dead")) != "poison" || len(f.messages("q")) != 0 {
			t.Errorf("the function saw %s; %q is dead, %q left", seen.String(), bodies(f.messages("dead")), bodies(f.messages("q")))
		}
	}, Queue{Name: "dead"}, Queue{Name: "q", DeadLetterQueue: "dead", MaxReceiveCount: 3})
}

func TestFIFOGroupsRunSideBySideButNeverAgainstThemselves(t *testing.T) {
	in(t, func(f fixture) {
		var mu sync.Mutex
		running, most := map[string]int{}, 0
		var seen calls
		if _, err := f.s.Map(Mapping{Queue: "q.fifo", BatchSize: 1, Invoke: func(_ context.Context, payload []byte) ([]byte, error) {
			e := parse(t, payload)
			group := e.Records[0].Attributes["MessageGroupId"]
			mu.Lock()
			running[group]++
			if running[group] > 1 {
				t.Errorf("two invocations of group %s at once", group)
			}
			most = max(most, running["a"]+running["b"])
			mu.Unlock()
			time.Sleep(time.Second)
			seen.add(e)
			mu.Lock()
			running[group]--
			mu.Unlock()
			return nil, nil
		}}); err != nil {
			t.Fatal(err)
		}
		f.send("q.fifo", slices.Concat(grouped("a", "a1", "a2", "a3"), grouped("b", "b1", "b2"))...)
		time.Sleep(10 * time.Second)
		f.s.Close() // waits for every invocation
		var order [2][]string
		for _, body := range strings.Split(seen.String(), " | ") {
			order[strings.Index("ab", body[:1])] = append(order[strings.Index("ab", body[:1])], body)
		}
		if fmt.Sprint(order) != "[[a1 a2 a3] [b1 b2]]" || most != 2 {
			t.Errorf("order %v, at most %d at once", order, most)
		}
	}, Queue{Name: "q.fifo"})
}

func TestPartialFailuresOfFIFOGroups(t *testing.T) {
	for _, row := range []struct {
		name    string
		failed  []string
		left    string
		skipped string
		then    string
	}{
		{"the failed one and the rest of its group", []string{"a2", "a3"}, "a2 a3", "", "a2 a3"},
		{"the failed one alone: the rest is lost, and somebody is told", []string{"a2"}, "a2", "a2: a3", "a2"},
		{"a whole group, and the other is not held", []string{"a1", "a2", "a3"}, "a1 a2 a3", "", "a1 a2 a3"},
	} {
		t.Run(row.name, func(t *testing.T) {
			in(t, func(f fixture) {
				f.send("q.fifo", slices.Concat(grouped("a", "a1", "a2"), grouped("b", "b1"), grouped("a", "a3"))...)
				var seen calls
				skipped := ""
				stop, err := f.s.Map(Mapping{Queue: "q.fifo", ReportBatchItemFailures: true,
					OnSkipped: func(failed Message, deleted []Message) { skipped += failed.Body + ": " + bodies(deleted) },
					Invoke: func(_ context.Context, payload []byte) ([]byte, error) {
						e := parse(t, payload)
						seen.add(e)
						var items []string
						if len(seen.all) == 1 {
							for _, r := range e.Records {
								if slices.Contains(row.failed, r.Body) {
									items = append(items, `{"itemIdentifier":"`+r.MessageID+`"}`)
								}
							}
						}
						return []byte(`{"batchItemFailures":[` + strings.Join(items, ",") + `]}`), nil
					}})
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if got := bodies(f.messages("q.fifo")); got != row.left || skipped != row.skipped {
					t.Errorf("%q is left, skipped %q", got, skipped)
				}
				time.Sleep(31 * time.Second)
				stop()
				if want := "a1 a2 b1 a3 | " + row.then; seen.String() != want {
					t.Errorf("the function saw %s, want %s", seen.String(), want)
				}
			}, Queue{Name: "q.fifo"})
		})
	}
}

func TestConcurrencyIsBounded(t *testing.T) {
	in(t, func(f fixture) {
		var mu sync.Mutex
		running, most, total := 0, 0, 0
		if _, err := f.s.Map(Mapping{Queue: "q", BatchSize: 1, MaximumConcurrency: 2, Invoke: func(context.Context, []byte) ([]byte, error) {
			mu.Lock()
			running, total = running+1, total+1
			most = max(most, running)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			running--
			mu.Unlock()
			return nil, nil
		}}); err != nil {
			t.Fatal(err)
		}
		for i := range 7 {
			f.send("q", Message{Body: fmt.Sprint(i)})
		}
		time.Sleep(10 * time.Second)
		f.s.Close() // waits for every invocation
		if most != 2 || total != 7 {
			t.Errorf("%d invocations, at most %d at once", total, most)
		}
	}, Queue{Name: "q"})
}

func TestStopWaitsForTheInvocationUnderWay(t *testing.T) {
	in(t, func(f fixture) {
		f.send("q", Message{Body: "a"})
		ended := false
		stop, err := f.s.Map(Mapping{Queue: "q", Invoke: func(ctx context.Context, _ []byte) ([]byte, error) {
			<-ctx.Done()
			time.Sleep(time.Second)
			ended = true
			return nil, ctx.Err()
		}})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		stop()
		if !ended {
			t.Error("stop came back too early")
		}
		f.send("q", Message{Body: "b"})
		time.Sleep(time.Minute)
		if n := len(f.messages("q")); n != 2 {
			t.Errorf("%d messages are left", n)
		}
	}, Queue{Name: "q"})
}

func TestMapRefuses(t *testing.T) {
	for _, row := range []struct {
		name string
		m    Mapping
	}{
		{"a queue that is not there", Mapping{Queue: "x"}},
		{"a batch of eleven", Mapping{Queue: "q", BatchSize: 11}},
		{"a concurrency of one", Mapping{Queue: "q", MaximumConcurrency: 1}},
		{"a function that may run longer than its messages are hidden", Mapping{Queue: "q", FunctionTimeout: time.Minute}},
	} {
		t.Run(row.name, func(t *testing.T) {
			in(t, func(f fixture) {
				row.m.Invoke = func(context.Context, []byte) ([]byte, error) { return nil, nil }
				if _, err := f.s.Map(row.m); err == nil {
					t.Error("it was made")
				}
			}, Queue{Name: "q"})
		})
	}
}
