package queue

import (
	"crypto/md5"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func bodies(messages []Message) string {
	var all []string
	for _, m := range messages {
		all = append(all, m.Body)
	}
	return strings.Join(all, " ")
}

type fixture struct {
	*testing.T
	s *Service
}

// in runs a test on fake time with some queues.
func in(t *testing.T, test func(f fixture), queues ...Queue) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Endpoint: "http://127.0.0.1:1"})
		defer s.Close()
		for _, q := range queues {
			if _, err := s.Create(q); err != nil {
				t.Fatal(err)
			}
		}
		test(fixture{t, s})
	})
}

func (f fixture) send(queue string, messages ...Message) []Receipt {
	f.Helper()
	var receipts []Receipt
	for _, m := range messages {
		r, err := f.s.Send(queue, m)
		if err != nil {
			f.Fatal(err)
		}
		receipts = append(receipts, r)
	}
	return receipts
}

func (f fixture) receive(queue string, most int) []Message {
	f.Helper()
	messages, err := f.s.Receive(f.Context(), queue, Receive{Max: most})
	if err != nil {
		f.Fatal(err)
	}
	return messages
}

func (f fixture) want(queue string, most int, want string) []Message {
	f.Helper()
	got := f.receive(queue, most)
	if bodies(got) != want {
		f.Errorf("received %q from %s, want %q", bodies(got), queue, want)
	}
	return got
}

func grouped(group string, texts ...string) []Message {
	var all []Message
	for _, text := range texts {
		all = append(all, Message{Body: text, GroupID: group, DeduplicationID: group + text})
	}
	return all
}

func TestAMessageIsHiddenForItsVisibilityTimeout(t *testing.T) {
	in(t, func(f fixture) {
		f.send("q", Message{Body: "a"})
		first := f.want("q", 10, "a")[0]
		time.Sleep(29 * time.Second)
		f.want("q", 10, "")
		time.Sleep(time.Second)
		second := f.want("q", 10, "a")[0]
		if second.ID != first.ID || second.ReceiptHandle == first.ReceiptHandle || second.ReceiveCount != 2 || !second.FirstReceived.Equal(first.Sent) {
			t.Errorf("first %+v, second %+v", first, second)
		}
		if err := f.s.Delete("q", first.ReceiptHandle); err != nil {
			t.Errorf("an old handle is refused: %v", err)
		}
		time.Sleep(30 * time.Second)
		third := f.want("q", 10, "a")[0] // the old handle deleted nothing
		if err := f.s.Delete("q", third.ReceiptHandle); err != nil {
			t.Fatal(err)
		}
		if err := f.s.Delete("q", third.ReceiptHandle); err != nil {
			t.Errorf("a second delete is refused: %v", err)
		}
		time.Sleep(time.Hour)
		f.want("q", 10, "")
	}, Queue{Name: "q"})
}

func TestChangeVisibility(t *testing.T) {
	in(t, func(f fixture) {
		f.send("q", Message{Body: "a"})
		m := f.want("q", 1, "a")[0]
		if err := f.s.ChangeVisibility("q", m.ReceiptHandle, time.Minute); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Second)
		f.want("q", 1, "")
		if err := f.s.ChangeVisibility("q", m.ReceiptHandle, 0); err != nil {
			t.Fatal(err)
		}
		var e *Error
		if err := f.s.ChangeVisibility("q", m.ReceiptHandle, time.Minute); !errors.As(err, &e) || e.Code() != "MessageNotInflight" {
			t.Errorf("a visible message was hidden: %v", err)
		}
		m = f.want("q", 1, "a")[0]
		if err := f.s.Delete("q", m.ReceiptHandle); err != nil {
			t.Fatal(err)
		}
		if err := f.s.ChangeVisibility("q", m.ReceiptHandle, time.Minute); !errors.As(err, &e) || e.Code() != "InvalidParameterValue" {
			t.Errorf("a deleted message was hidden: %v", err)
		}
		if err := f.s.ChangeVisibility("q", m.ReceiptHandle, 13*time.Hour); !errors.As(err, &e) || e.Code() != "InvalidParameterValue" {
			t.Errorf("13 hours: %v", err)
		}
	}, Queue{Name: "q"})
}

func TestDelay(t *testing.T) {
	in(t, func(f fixture) {
		short := 2 * time.Second
		f.send("q", Message{Body: "a"}, Message{Body: "b", Delay: &short})
		f.want("q", 10, "")
		time.Sleep(2 * time.Second)
		f.want("q", 10, "b")
		time.Sleep(3 * time.Second)
		f.want("q", 10, "a")
	}, Queue{Name: "q", Delay: 5 * time.Second})
}

func TestAReceiveWaits(t *testing.T) {
	wait := 20 * time.Second
	for _, row := range []struct {
		name  string
		after time.Duration
		do    func(f fixture)
		takes time.Duration
		want  string
	}{
		{"until a message is sent", 3 * time.Second, func(f fixture) { f.send("q", Message{Body: "new"}) }, 3 * time.Second, "new"},
		{"until a visibility timeout ends", 0, func(f fixture) { f.send("q", Message{Body: "old"}); f.receive("q", 1) }, 7 * time.Second, "old"},
		{"until a delay ends", 0, func(f fixture) { d := 4 * time.Second; f.send("q", Message{Body: "late", Delay: &d}) }, 4 * time.Second, "late"},
		{"until its time is over", 0, func(f fixture) {}, 20 * time.Second, ""},
		{"until the service closes", 2 * time.Second, func(f fixture) { f.s.Close() }, 2 * time.Second, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			in(t, func(f fixture) {
				if row.after == 0 {
					row.do(f)
				} else {
					time.AfterFunc(row.after, func() { row.do(f) })
				}
				began := time.Now()
				messages, err := f.s.Receive(f.Context(), "q", Receive{Wait: &wait})
				if err != nil || bodies(messages) != row.want || time.Since(began) != row.takes {
					t.Errorf("got %q, %v after %v; want %q after %v", bodies(messages), err, time.Since(began), row.want, row.takes)
				}
			}, Queue{Name: "q", VisibilityTimeout: 7 * time.Second})
		})
	}
}

func TestRedrive(t *testing.T) {
	in(t, func(f fixture) {
		sent := f.send("q", Message{Body: "poison"}, Message{Body: "good"})
		for range 2 {
			f.want("q", 1, "poison")
			if err := f.s.ChangeVisibility("q", f.messages("q")[0].ReceiptHandle, 0); err != nil {
				t.Fatal(err)
			}
		}
		f.want("q", 1, "good") // the third receive of the first moves it
		dead := f.want("dead", 1, "poison")[0]
		if dead.ID != sent[0].MessageID || dead.ReceiveCount != 3 || dead.SourceARN != "arn:aws:sqs:us-east-1:123456789012:q" {
			t.Errorf("it arrived as %+v", dead)
		}
		if len(f.messages("q")) != 1 {
			t.Errorf("%d messages stayed behind", len(f.messages("q")))
		}
	}, Queue{Name: "dead"}, Queue{Name: "q", DeadLetterQueue: "dead", MaxReceiveCount: 2})
}

func (f fixture) messages(queue string) []Message {
	f.Helper()
	all, err := f.s.Messages(queue)
	if err != nil {
		f.Fatal(err)
	}
	return all
}

func TestRetention(t *testing.T) {
	for _, row := range []struct {
		name   string
		suffix string
		after  time.Duration // of the first send; the message was redriven after 40 s
	}{
		{"a standard queue counts from the first send", "", time.Minute},
		{"a FIFO queue counts from the redrive", ".fifo", 100 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				expired := make(chan Message, 1)
				s := New(Config{})
				defer s.Close()
				began := time.Now()
				for _, q := range []Queue{
					{Name: "dead" + row.suffix, Retention: time.Minute, OnExpired: func(m Message) { expired <- m }},
					{Name: "q" + row.suffix, Retention: time.Minute, DeadLetterQueue: "dead" + row.suffix, MaxReceiveCount: 1,
						OnExpired: func(m Message) { t.Errorf("%q expired in the first queue", m.Body) }},
				} {
					if _, err := s.Create(q); err != nil {
						t.Fatal(err)
					}
				}
				f := fixture{t, s}
				m := Message{Body: "a"}
				if row.suffix != "" {
					m = grouped("g", "a")[0]
				}
				f.send("q"+row.suffix, m)
				f.want("q"+row.suffix, 1, "a")
				time.Sleep(40 * time.Second)
				f.want("q"+row.suffix, 1, "")
				if got := <-expired; got.Body != "a" || time.Since(began) != row.after {
					t.Errorf("%q expired after %v, want %v", got.Body, time.Since(began), row.after)
				}
				if len(f.messages("dead"+row.suffix)) != 0 {
					t.Error("it is still there")
				}
			})
		})
	}
}

func TestFIFOOrderAndExclusivity(t *testing.T) {
	in(t, func(f fixture) {
		f.send("q.fifo", slices.Concat(grouped("a", "a1", "a2"), grouped("b", "b1"), grouped("a", "a3"), grouped("b", "b2"))...)
		batch := f.want("q.fifo", 3, "a1 a2 b1")
		f.want("q.fifo", 10, "") // both groups are in flight
		if err := f.s.Delete("q.fifo", batch[2].ReceiptHandle); err != nil {
			t.Fatal(err)
		}
		f.want("q.fifo", 10, "b2")
		if err := f.s.Delete("q.fifo", batch[0].ReceiptHandle); err != nil {
			t.Fatal(err)
		}
		f.want("q.fifo", 10, "") // a2 still is
		time.Sleep(30 * time.Second)
		f.want("q.fifo", 10, "a2 a3 b2")
		var e *Error
		if err := f.s.Delete("q.fifo", batch[1].ReceiptHandle); err != nil {
			t.Errorf("an old handle is refused: %v", err)
		}
		if n := len(f.messages("q.fifo")); n != 3 {
			t.Errorf("an old handle deleted something: %d messages", n)
		}
		again := f.messages("q.fifo")[0].ReceiptHandle
		time.Sleep(30 * time.Second)
		if err := f.s.Delete("q.fifo", again); !errors.As(err, &e) || e.Code() != "InvalidParameterValue" {
			t.Errorf("an expired handle deleted: %v", err)
		}
	}, Queue{Name: "q.fifo"})
}

func TestAFailedMessageHoldsItsGroup(t *testing.T) {
	in(t, func(f fixture) {
		f.send("q.fifo", grouped("a", "a1", "a2")...)
		batch := f.want("q.fifo", 1, "a1")
		if err := f.s.ChangeVisibility("q.fifo", batch[0].ReceiptHandle, 0); err != nil {
			t.Fatal(err)
		}
		f.want("q.fifo", 1, "a1") // and not a2
	}, Queue{Name: "q.fifo"})
}

func TestDeduplication(t *testing.T) {
	same := func(text, group string) Message { return Message{Body: text, GroupID: group} }
	for _, row := range []struct {
		name  string
		q     Queue
		first Message
		after time.Duration
		again Message
		twice bool
	}{
		{"the same content", Queue{ContentBasedDeduplication: true}, same("x", "a"), 4 * time.Minute, same("x", "a"), false},
		{"the same content in another group", Queue{ContentBasedDeduplication: true}, same("x", "a"), 0, same("x", "b"), false},
		{"another content", Queue{ContentBasedDeduplication: true}, same("x", "a"), 0, same("y", "a"), true},
		{"after five minutes", Queue{ContentBasedDeduplication: true}, same("x", "a"), 5 * time.Minute, same("x", "a"), true},
		{"another group, deduplicated per group", Queue{ContentBasedDeduplication: true, DeduplicatePerGroup: true}, same("x", "a"), 0, same("x", "b"), true},
		{"the same id, another content", Queue{}, Message{Body: "x", GroupID: "a", DeduplicationID: "1"}, 0, Message{Body: "y", GroupID: "a", DeduplicationID: "1"}, false},
		{"an explicit id overrides the content", Queue{ContentBasedDeduplication: true}, Message{Body: "x", GroupID: "a", DeduplicationID: "1"}, 0, same("x", "a"), true},
		{"an explicit id that is the content's digest", Queue{ContentBasedDeduplication: true}, same("x", "a"), 0,
			Message{Body: "y", GroupID: "a", DeduplicationID: "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.q.Name = "q.fifo"
			in(t, func(f fixture) {
				one := f.send("q.fifo", row.first)[0]
				// That the first is received and deleted makes no difference.
				m := f.want("q.fifo", 1, row.first.Body)[0]
				if err := f.s.Delete("q.fifo", m.ReceiptHandle); err != nil {
					t.Fatal(err)
				}
				time.Sleep(row.after)
				two := f.send("q.fifo", row.again)[0]
				if (one != two) != row.twice || (len(f.messages("q.fifo")) == 1) != row.twice {
					t.Errorf("first %v, second %v, %d messages", one, two, len(f.messages("q.fifo")))
				}
				if row.twice && two.SequenceNumber <= one.SequenceNumber {
					t.Errorf("sequence numbers %s and %s", one.SequenceNumber, two.SequenceNumber)
				}
			}, row.q)
		})
	}
}

func TestSendRefuses(t *testing.T) {
	minute := time.Minute
	for _, row := range []struct {
		name, queue string
		m           Message
		code        string
	}{
		{"nothing", "q", Message{}, "MissingParameter"},
		{"a control character", "q", Message{Body: "a\x00b"}, "InvalidMessageContents"},
		{"more than the queue takes", "q", Message{Body: strings.Repeat("x", 1025)}, "InvalidParameterValue"},
		{"more than the queue takes with its attributes", "q", Message{Body: strings.Repeat("x", 1020), Attributes: map[string]Attribute{"a": {DataType: "String", StringValue: "x"}}}, "InvalidParameterValue"},
		{"an attribute without a value", "q", Message{Body: "x", Attributes: map[string]Attribute{"a": {DataType: "String"}}}, "InvalidParameterValue"},
		{"an attribute of no type", "q", Message{Body: "x", Attributes: map[string]Attribute{"a": {DataType: "Text", StringValue: "x"}}}, "InvalidParameterValue"},
		{"an attribute of AWS's own", "q", Message{Body: "x", Attributes: map[string]Attribute{"AWS.x": {DataType: "String", StringValue: "x"}}}, "InvalidParameterValue"},
		{"a deduplication id for a standard queue", "q", Message{Body: "x", DeduplicationID: "1"}, "InvalidParameterValue"},
		{"a group for a standard queue is fair queueing", "q", Message{Body: "x", GroupID: "tenant"}, ""},
		{"no group for a FIFO queue", "q.fifo", Message{Body: "x", DeduplicationID: "1"}, "MissingParameter"},
		{"no deduplication id without content-based deduplication", "q.fifo", Message{Body: "x", GroupID: "a"}, "InvalidParameterValue"},
		{"a group with a space", "q.fifo", Message{Body: "x", GroupID: "a b", DeduplicationID: "1"}, "InvalidParameterValue"},
		{"a delay of one FIFO message", "q.fifo", Message{Body: "x", GroupID: "a", DeduplicationID: "1", Delay: &minute}, "InvalidParameterValue"},
		{"a queue that is not there", "other", Message{Body: "x"}, "QueueDoesNotExist"},
	} {
		t.Run(row.name, func(t *testing.T) {
			in(t, func(f fixture) {
				_, err := f.s.Send(row.queue, row.m)
				var e *Error
				if errors.As(err, &e) != (row.code != "") || e != nil && e.Code() != row.code {
					t.Errorf("got %v, want %q", err, row.code)
				}
			}, Queue{Name: "q", MaximumMessageSize: 1024}, Queue{Name: "q.fifo"})
		})
	}
}

func TestCreateRefuses(t *testing.T) {
	for _, row := range []struct {
		name string
		q    Queue
	}{
		{"a name that is taken", Queue{Name: "q"}},
		{"a name with a dot", Queue{Name: "a.b"}},
		{"a name of 81 characters", Queue{Name: strings.Repeat("x", 81)}},
		{"deduplication in a standard queue", Queue{Name: "x", ContentBasedDeduplication: true}},
		{"13 hours of visibility timeout", Queue{Name: "x", VisibilityTimeout: 13 * time.Hour}},
		{"16 minutes of delay", Queue{Name: "x", Delay: 16 * time.Minute}},
		{"30 seconds of retention", Queue{Name: "x", Retention: 30 * time.Second}},
		{"2 MiB", Queue{Name: "x", MaximumMessageSize: 2 << 20}},
		{"a dead-letter queue that is not there", Queue{Name: "x", DeadLetterQueue: "y", MaxReceiveCount: 3}},
		{"a standard dead-letter queue for a FIFO queue", Queue{Name: "x.fifo", DeadLetterQueue: "q", MaxReceiveCount: 3}},
		{"a dead-letter queue after no receive", Queue{Name: "x", DeadLetterQueue: "q"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			in(t, func(f fixture) {
				if _, err := f.s.Create(row.q); err == nil {
					t.Error("it was created")
				}
			}, Queue{Name: "q"})
		})
	}
}

func TestHandle(t *testing.T) {
	in(t, func(f fixture) {
		call := func(operation string, params map[string]any) map[string]any {
			t.Helper()
			answer, err := f.s.Handle(operation, params)
			if err != nil {
				t.Fatalf("%s: %v", operation, err)
			}
			return answer
		}
		url := call("GetQueueUrl", map[string]any{"QueueName": "q.fifo"})["QueueUrl"]
		if url != "http://127.0.0.1:1/123456789012/q.fifo" {
			t.Fatalf("the URL is %v", url)
		}
		sent := call("SendMessage", map[string]any{"QueueUrl": url, "MessageBody": "héllo", "MessageGroupId": "urgent",
			"MessageAttributes": map[string]any{
				"b": map[string]any{"DataType": "Binary", "BinaryValue": []byte{1, 2}},
				"a": map[string]any{"DataType": "String", "StringValue": "x"},
			}})
		if sent["MD5OfMessageBody"] != fmt.Sprintf("%x", md5.Sum([]byte("héllo"))) || sent["SequenceNumber"] == nil {
			t.Errorf("sent: %v", sent)
		}
		// The bytes that the guide prescribes, by hand: name, type and value of a, then of b.
		digest := fmt.Sprintf("%x", md5.Sum([]byte("\x00\x00\x00\x01a\x00\x00\x00\x06String\x01\x00\x00\x00\x01x"+
			"\x00\x00\x00\x01b\x00\x00\x00\x06Binary\x02\x00\x00\x00\x02\x01\x02")))
		if sent["MD5OfMessageAttributes"] != digest {
			t.Errorf("the attributes' digest is %v", sent["MD5OfMessageAttributes"])
		}
		time.Sleep(1500 * time.Millisecond)
		got := call("ReceiveMessage", map[string]any{"QueueUrl": url, "MaxNumberOfMessages": float64(10), "VisibilityTimeout": int64(60),
			"MessageSystemAttributeNames": []any{"All"}, "MessageAttributeNames": []any{"b.*"}})["Messages"].([]any)[0].(map[string]any)
		attributes := got["Attributes"].(map[string]any)
		for name, want := range map[string]any{
			"SentTimestamp": "946684800000", "ApproximateFirstReceiveTimestamp": "946684801500", "ApproximateReceiveCount": "1",
			"MessageGroupId": "urgent", "SequenceNumber": sent["SequenceNumber"], "SenderId": "AIDALOCALSENDER000000",
			"MessageDeduplicationId": "3c48591d8d098a4538f5e013dfcf406e948eac4d3277b10bf614e295d6068179",
		} {
			if attributes[name] != want {
				t.Errorf("%s is %v, want %v", name, attributes[name], want)
			}
		}
		if got["MessageId"] != sent["MessageId"] || got["Body"] != "héllo" || got["MD5OfBody"] != sent["MD5OfMessageBody"] ||
			len(got["MessageAttributes"].(map[string]any)) != 1 {
			t.Errorf("received: %v", got)
		}
		counts := call("GetQueueAttributes", map[string]any{"QueueUrl": url, "AttributeNames": []any{"All"}})["Attributes"].(map[string]any)
		for name, want := range map[string]string{
			"ApproximateNumberOfMessages": "0", "ApproximateNumberOfMessagesNotVisible": "1", "ApproximateNumberOfMessagesDelayed": "0",
			"FifoQueue": "true", "ContentBasedDeduplication": "true", "VisibilityTimeout": "30", "MessageRetentionPeriod": "345600",
			"QueueArn": "arn:aws:sqs:us-east-1:123456789012:q.fifo", "CreatedTimestamp": "946684800",
			"RedrivePolicy": `{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:123456789012:dead.fifo","maxReceiveCount":3}`,
		} {
			if counts[name] != want {
				t.Errorf("%s is %v, want %s", name, counts[name], want)
			}
		}
		call("ChangeMessageVisibility", map[string]any{"QueueUrl": url, "ReceiptHandle": got["ReceiptHandle"], "VisibilityTimeout": 120})
		call("DeleteMessage", map[string]any{"QueueUrl": url, "ReceiptHandle": got["ReceiptHandle"]})
		if empty := call("ReceiveMessage", map[string]any{"QueueUrl": url}); len(empty) != 0 {
			t.Errorf("an empty queue gives %v", empty)
		}
	}, Queue{Name: "dead.fifo"}, Queue{Name: "q.fifo", ContentBasedDeduplication: true, DeadLetterQueue: "dead.fifo", MaxReceiveCount: 3})
}

func TestHandleRefuses(t *testing.T) {
	const url = "http://127.0.0.1:1/123456789012/q"
	for _, row := range []struct {
		name, operation string
		params          map[string]any
		code, query     string
	}{
		{"no queue", "SendMessage", map[string]any{"MessageBody": "x"}, "MissingParameter", "MissingParameter"},
		{"an unknown queue", "SendMessage", map[string]any{"QueueUrl": url + "x", "MessageBody": "x"}, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"},
		{"a queue of another account", "SendMessage", map[string]any{"QueueUrl": "http://127.0.0.1:1/999999999999/q", "MessageBody": "x"}, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"},
		{"an unknown name", "GetQueueUrl", map[string]any{"QueueName": "x"}, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"},
		{"a body that is a number", "SendMessage", map[string]any{"QueueUrl": url, "MessageBody": 5}, "InvalidParameterValue", "InvalidParameterValue"},
		{"a delay of an hour", "SendMessage", map[string]any{"QueueUrl": url, "MessageBody": "x", "DelaySeconds": 3600}, "InvalidParameterValue", "InvalidParameterValue"},
		{"eleven messages", "ReceiveMessage", map[string]any{"QueueUrl": url, "MaxNumberOfMessages": 11}, "InvalidParameterValue", "InvalidParameterValue"},
		{"no messages", "ReceiveMessage", map[string]any{"QueueUrl": url, "MaxNumberOfMessages": 0}, "InvalidParameterValue", "InvalidParameterValue"},
		{"half a message", "ReceiveMessage", map[string]any{"QueueUrl": url, "MaxNumberOfMessages": 1.5}, "InvalidParameterValue", "InvalidParameterValue"},
		{"a wait of 21 seconds", "ReceiveMessage", map[string]any{"QueueUrl": url, "WaitTimeSeconds": 21}, "InvalidParameterValue", "InvalidParameterValue"},
		{"an unknown attribute", "ReceiveMessage", map[string]any{"QueueUrl": url, "AttributeNames": []any{"Sender"}}, "InvalidAttributeName", "InvalidAttributeName"},
		{"an unknown queue attribute", "GetQueueAttributes", map[string]any{"QueueUrl": url, "AttributeNames": []any{"Size"}}, "InvalidAttributeName", "InvalidAttributeName"},
		{"no handle", "DeleteMessage", map[string]any{"QueueUrl": url}, "MissingParameter", "MissingParameter"},
		{"a handle that never was one", "DeleteMessage", map[string]any{"QueueUrl": url, "ReceiptHandle": "x"}, "ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid"},
		{"a handle that only looks like one", "ChangeMessageVisibility", map[string]any{"QueueUrl": url, "ReceiptHandle": "AQEBxx==", "VisibilityTimeout": 1}, "ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid"},
		{"no timeout", "ChangeMessageVisibility", map[string]any{"QueueUrl": url, "ReceiptHandle": "x"}, "MissingParameter", "MissingParameter"},
		{"another operation", "PurgeQueue", map[string]any{"QueueUrl": url}, "InvalidAction", "InvalidAction"},
	} {
		t.Run(row.name, func(t *testing.T) {
			in(t, func(f fixture) {
				_, err := f.s.Handle(row.operation, row.params)
				var e *Error
				if !errors.As(err, &e) || e.Code() != row.code || e.QueryCode() != row.query || e.Status() != 400 {
					t.Errorf("got %v, want %s", err, row.code)
				}
			}, Queue{Name: "q"})
		})
	}
}
