package plan

import "strings"

// familiesAsOf is the date of AWS's list that this file copies the names from.
const familiesAsOf = "2025-08-28"

// virtualFamilies are the instance families whose virtualized sizes can be mirrored, and metalFamilies those whose
// bare-metal sizes can (VPC Traffic Mirroring guide, "Traffic Mirroring limitations", as of familiesAsOf). The list is
// an aid: AWS's own answer, NetworkInterfaceNotSupported, is the authority.
var (
	virtualFamilies = set(`a1 m4 m5 m5a m5ad m5d m5dn m5n m5zn m6a m6g m6gd m6i m6id m6idn m6in m7a m7g m7gd m7i m7i-flex
		mac1 mac2 mac2-m1ultra mac2-m2 mac2-m2pro t3 t3a t4g
		c4 c5 c5a c5ad c5d c5n c6a c6g c6gd c6gn c6i c6id c6in c7a c7g c7gd c7i c7i-flex
		r4 r5 r5a r5ad r5b r5d r5dn r5n r6a r6g r6gd r6i r6id r6idn r6in r7a r7g r7gd r7i r7iz
		u-3tb1 u-6tb1 u-9tb1 u-12tb1 u-18tb1 u-24tb1 u7i-6tb u7i-8tb u7i-12tb u7in-16tb u7in-24tb u7in-32tb u7inh-32tb
		x1 x1e x2gd x2idn x2iedn x2iezn z1d d2 d3 d3en h1 i3 i3en i4g i4i i7i im4gn is4gen
		dl1 dl2q f2 g3 g4ad g4dn g5 g5g g6 g6e g6f gr6 gr6f inf1 inf2 p3 p3dn p4d p4de p5 p5e trn1 trn1n vt1
		hpc6a hpc6id hpc7a`)
	metalFamilies = set(`m5 m5d m6g m6gd mac1 mac2 mac2-m1ultra mac2-m2 mac2-m2pro a1 c5 c5d c6g c6gd r5 r5b r5d r6g r6gd
		x2gd z1d i3 g5g`)
	// refusedFamilies are known not to be mirrored; families on no list are unknown and get the benefit of the doubt.
	refusedFamilies = set(`t1 t2 m1 m2 m3 c1 c3 r3 i2 m8a m8g m8gd m8i c8a c8g c8gd c8gn c8i r8a r8g r8gd r8i x8g i8g i8ge c7gn
		i7ie hpc7g p5en p6-b200 trn2`)
)

func set(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}

// mirrorable says whether a source of this instance type can be mirrored: yes, no, or unknown when AWS's list of
// familiesAsOf does not settle it.
func mirrorable(instanceType string) (yes, known bool) {
	family, size, _ := strings.Cut(strings.ToLower(instanceType), ".")
	if strings.HasPrefix(size, "metal") && !strings.HasPrefix(family, "mac") {
		return metalFamilies[family], metalFamilies[family] || virtualFamilies[family] || refusedFamilies[family]
	}
	if virtualFamilies[family] {
		return true, true
	}
	return false, refusedFamilies[family]
}
