package standalone

import "testing"

// The folder ../.. tests captures as a whole, with the real program and real packets.

func TestNumbersAreSaidAsSpans(t *testing.T) {
	for _, c := range []struct {
		want    string
		numbers []int
	}{
		{"1", []int{1}},
		{"1 to 3", []int{3, 1, 2}},
		{"1 to 2, 4, 7 to 9", []int{1, 2, 4, 7, 8, 9}},
	} {
		if got := spans(c.numbers); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}
