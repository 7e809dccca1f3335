package evidence_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"maps"
	"slices"
	"sync"
	"testing"

	"flashtap/collector/evidence"
	build "flashtap/testutil/evidence"
)

// TestMutations tampers with evidence in thousands of ways. None may be taken for authentic by somebody who has the key.
// testutil/deployment does the same to the evidence of a capture that was made.
func TestMutations(t *testing.T) {
	sealer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rounds := 6
	if testing.Short() {
		rounds = 1
	}
	var mu sync.Mutex
	figures := map[string]build.Figures{}
	t.Run("of", func(t *testing.T) {
		all := kinds()
		for i, name := range slices.Sorted(maps.Keys(all)) {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				cfg := all[name]
				cfg.Key = sealer
				e := made(t, cfg)
				with := pinned(t, e)
				did, wrong := build.Campaign(e, uint64(i), rounds, func(files map[string][]byte, key bool) (string, error) {
					o := evidence.Options{}
					if key {
						o = with
					}
					r, err := evidence.Verify(t.Context(), memory(files), o)
					return r.Outcome, err
				})
				for _, w := range wrong {
					t.Error(w)
				}
				mu.Lock()
				defer mu.Unlock()
				for way, f := range did {
					sum := figures[way]
					sum.Add(f)
					figures[way] = sum
				}
			})
		}
	})
	var sum build.Figures
	for _, way := range slices.Sorted(maps.Keys(figures)) {
		t.Logf("%s: %s", way, figures[way])
		if figures[way].Done == 0 {
			t.Errorf("%s: never done", way)
		}
		sum.Add(figures[way])
	}
	t.Logf("tamperings, none of them accepted: %s", sum)
	if sum.Done < 2000 && !testing.Short() {
		t.Errorf("%d tamperings: want 2000 or more", sum.Done)
	}
}
