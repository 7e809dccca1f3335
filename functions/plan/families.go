package plan

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"
)

//go:embed data/families.txt
var familiesFile string

// families is AWS's list of the instance families that can be mirrored, as of a day: those whose virtualized sizes can, those
// whose bare-metal sizes can, and those that are known not to be. The list is an aid: AWS's own answer,
// NetworkInterfaceNotSupported, is the authority.
type families struct {
	asOf                    string
	virtual, metal, refused map[string]bool
}

// familiesOf reads the embedded list once. That it can be read is a test's matter, not a capture's: a broken list would be a
// broken build.
var familiesOf = sync.OnceValue(func() families {
	list, err := parseFamilies(familiesFile)
	if err != nil {
		panic(err)
	}
	return list
})

// parseFamilies reads lines of "yes virtual", "yes metal" or "no any", a colon, and families. Comments begin with #; one of them
// carries the date.
func parseFamilies(text string) (families, error) {
	f := families{virtual: map[string]bool{}, metal: map[string]bool{}, refused: map[string]bool{}}
	kinds := map[string]map[string]bool{"yes virtual": f.virtual, "yes metal": f.metal, "no any": f.refused}
	for i, line := range strings.Split(text, "\n") {
		if date, is := strings.CutPrefix(line, "# as of "); is {
			f.asOf = date
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		kind, names, found := strings.Cut(line, ":")
		set, known := kinds[kind]
		if !found || !known {
			return f, fmt.Errorf("families line %d: %q: want yes virtual, yes metal or no any, a colon, and families", i+1, kind)
		}
		for _, name := range strings.Fields(names) {
			if set[name] || f.refused[name] || kind == "no any" && (f.virtual[name] || f.metal[name]) {
				return f, fmt.Errorf("families line %d: %s is there twice", i+1, name)
			}
			set[name] = true
		}
	}
	if f.asOf == "" || len(f.virtual) == 0 || len(f.metal) == 0 {
		return f, fmt.Errorf("families: as of %q, %d virtualized and %d bare metal: something is missing", f.asOf, len(f.virtual), len(f.metal))
	}
	return f, nil
}

// Mirrorable says whether a source of this instance type can be mirrored: yes, no, or unknown when AWS's list does not settle it.
func Mirrorable(instanceType string) (yes, known bool) {
	list := familiesOf()
	family, size, _ := strings.Cut(strings.ToLower(instanceType), ".")
	if strings.HasPrefix(size, "metal") && !strings.HasPrefix(family, "mac") {
		return list.metal[family], list.metal[family] || list.virtual[family] || list.refused[family]
	}
	if list.virtual[family] {
		return true, true
	}
	return false, list.refused[family]
}
