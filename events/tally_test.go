package events

import (
	"reflect"
	"testing"
)

// TestTalliesAddFieldByField sets every count to a number of its own, so that one that Add forgets shows.
func TestTalliesAddFieldByField(t *testing.T) {
	var a, b Tally
	n := uint64(0)
	var fill func(v reflect.Value, factor uint64)
	fill = func(v reflect.Value, factor uint64) {
		for i := range v.NumField() {
			if f := v.Field(i); f.Kind() == reflect.Struct {
				fill(f, factor)
			} else {
				n++
				f.SetUint(n * factor)
			}
		}
	}
	fill(reflect.ValueOf(&a).Elem(), 1)
	n = 0
	fill(reflect.ValueOf(&b).Elem(), 1000)
	sum := a.Add(b)
	n = 0
	var want Tally
	fill(reflect.ValueOf(&want).Elem(), 1001)
	if sum != want {
		t.Errorf("%+v, want %+v", sum, want)
	}
}

// TestTallyOfLiars: a sum is never more than a record can carry.
func TestTallyOfLiars(t *testing.T) {
	a := Tally{Received: MaxInteger, Written: 1 << 63, Rejected: Rejected{Oversize: MaxInteger}}
	if sum := a.Add(a); sum.Received != MaxInteger || sum.Written != MaxInteger || sum.Rejected.Oversize != MaxInteger {
		t.Errorf("%+v", sum)
	}
}
