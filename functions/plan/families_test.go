package plan

import "testing"

// TestMirrorable: from AWS's list of 2025-08-28 (VPC Traffic Mirroring guide, "Traffic Mirroring limitations").
func TestMirrorable(t *testing.T) {
	const yes, no, unknown = "yes", "no", "unknown"
	for kind, want := range map[string]string{
		"m5.large": yes, "t3.micro": yes, "t4g.nano": yes, "c4.large": yes, "c6gn.16xlarge": yes, "m7i-flex.large": yes, "u-6tb1.56xlarge": yes,
		"u7in-16tb.224xlarge": yes, "p5e.48xlarge": yes, "mac2-m2pro.metal": yes, "hpc7a.12xlarge": yes, "M5.LARGE": yes,
		"m5.metal": yes, "i3.metal": yes, "g5g.metal": yes, "c6gd.metal": yes, "mac1.metal": yes, "a1.metal": yes,
		"t2.micro": no, "m3.medium": no, "c7gn.large": no, "i7ie.large": no, "hpc7g.4xlarge": no, "m8g.large": no, "p5en.48xlarge": no, "trn2.48xlarge": no,
		"m6i.metal": no, "m7g.metal": no, "r6i.metal": no, "c7i.metal-24xl": no, "m8g.metal-48xl": no, "c5n.metal": no,
		"m9g.large": unknown, "z9.huge": unknown, "": unknown, "m9g.metal-24xl": unknown,
	} {
		can, known := Mirrorable(kind)
		got := unknown
		if can {
			got = yes
		} else if known {
			got = no
		}
		if got != want {
			t.Errorf("%s: %s, want %s", kind, got, want)
		}
	}
}

func TestFamiliesThatCannotBeRead(t *testing.T) {
	for name, text := range map[string]string{
		"no date":                  "yes virtual: m5\nyes metal: m5\n",
		"a kind of its own":        "# as of 2025-08-28\nyes virtual: m5\nyes metal: m5\nperhaps any: m9\n",
		"twice in one list":        "# as of 2025-08-28\nyes virtual: m5 m5\nyes metal: m5\n",
		"supported and refused":    "# as of 2025-08-28\nyes virtual: m5\nyes metal: m5\nno any: m5\n",
		"refused and supported":    "# as of 2025-08-28\nno any: m5\nyes virtual: m5\nyes metal: c5\n",
		"refused, then bare metal": "# as of 2025-08-28\nno any: m5\nyes virtual: c5\nyes metal: m5\n",
		"nothing at all":           "# as of 2025-08-28\n",
	} {
		if _, err := parseFamilies(text); err == nil {
			t.Errorf("%s: is read without complaint", name)
		}
	}
	if list := familiesOf(); len(list.virtual) < 100 || len(list.metal) < 20 || len(list.refused) < 20 {
		t.Errorf("the list has %d, %d and %d families", len(list.virtual), len(list.metal), len(list.refused))
	}
}
