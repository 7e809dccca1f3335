package traffic

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// Generator makes the frames of one plan. It may be used by several goroutines, each with buffers of its own.
type Generator struct {
	plan     Plan
	patterns [Patterns][]byte
	stampAt  int
	bodyAt   int

	// The stream of each flow repeats its lengths after so many frames: where in the stream each of them begins, and
	// how far it goes on meanwhile.
	cycle    uint64
	position []uint32
	advance  []uint32
}

// Patterns is how many different bodies there are; frames take them in turn. A buffer that is only used for numbers
// with one remainder need never be laid out again.
const Patterns = 64

// Lengths of the inner headers.
const (
	ethernet = 14
	ipv4     = 20
	udp      = 8
	tcp      = 20
)

// New makes the generator of a plan.
func New(plan Plan) (*Generator, error) {
	if err := plan.Validate(); err != nil {
		return nil, fmt.Errorf("plan traffic: %w", err)
	}
	g := &Generator{plan: plan, stampAt: ethernet + ipv4 + udp}
	if plan.TCP {
		g.stampAt = ethernet + ipv4 + tcp
		g.planStreams()
	}
	g.bodyAt = g.stampAt + stampSize
	for i := range g.patterns {
		source := rand.NewPCG(uint64(plan.Run), uint64(i))
		g.patterns[i] = make([]byte, 0, Max+8)
		for len(g.patterns[i]) < Max {
			g.patterns[i] = binary.LittleEndian.AppendUint64(g.patterns[i], source.Uint64())
		}
		g.patterns[i] = g.patterns[i][:Max]
	}
	return g, nil
}

func (g *Generator) planStreams() {
	turn, sizes := uint64(g.plan.Flows*g.plan.Burst), uint64(len(g.plan.Sizes))
	g.cycle = turn / gcd(turn, sizes) * sizes
	g.advance = make([]uint32, g.plan.Flows)
	g.position = make([]uint32, g.cycle)
	for n := range g.cycle {
		flow := g.Flow(n)
		g.position[n] = g.advance[flow]
		g.advance[flow] += uint32(g.Size(n) - g.stampAt)
	}
}

func gcd(a, b uint64) uint64 {
	for b > 0 {
		a, b = b, a%b
	}
	return a
}

// Plan is what the generator was made of.
func (g *Generator) Plan() Plan { return g.plan }

// Size is how many bytes frame n has.
func (g *Generator) Size(n uint64) int { return g.plan.Sizes[n%uint64(len(g.plan.Sizes))] }

// Flow is the flow of frame n, counted from 0.
func (g *Generator) Flow(n uint64) int {
	return int(n / uint64(g.plan.Burst) % uint64(g.plan.Flows))
}

// VNI is what frame n is tagged with.
func (g *Generator) VNI(n uint64) uint32 {
	return g.plan.VNI + uint32(g.Flow(n)%g.plan.VNIs)
}

// stream is the TCP sequence number of frame n.
func (g *Generator) stream(n uint64) uint32 {
	return uint32(n/g.cycle)*g.advance[g.Flow(n)] + g.position[n%g.cycle]
}
