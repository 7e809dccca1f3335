package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"flashtap/events"
)

// judgement is a plan as preflight shows it: go or no-go, and why. As JSON it is the plan.
type judgement struct{ events.Plan }

func (j judgement) text() string {
	var s sheet
	p := j.Plan
	word := "NO-GO"
	if p.Go {
		word = "GO"
	}
	s.say(word, "%s: %s", sourceText(p.Source), standingText(p))
	s.gap()
	verdictsOn(&s, p)
	s.gap()
	filterOn(&s, p)
	if p.Go {
		s.gap()
		s.say("collector", "%s", collectorText(p.Collector))
	}
	return s.b.String()
}

// sourceText names a suspect interface and where it is.
func sourceText(source events.Source) string {
	text := strings.TrimSpace(source.NetworkInterfaceID + " " + source.PrimaryIPv4)
	if source.InstanceID != "" {
		text += " of " + source.InstanceID
		if source.InstanceType != "" {
			text += " (" + source.InstanceType + ")"
		}
	}
	if source.VPC != "" {
		text += " in " + source.VPC + ", " + source.AvailabilityZone
	}
	return text
}

// standingText counts the verdicts that a person should read.
func standingText(p events.Plan) string {
	count := map[string]uint64{}
	for _, v := range p.Verdicts {
		count[v.Result]++
	}
	var parts []string
	if n := count[events.Fail]; n == 1 {
		parts = append(parts, "1 check fails")
	} else if n > 1 {
		parts = append(parts, countText(n)+" checks fail")
	}
	if n := count[events.Warn]; n > 0 {
		parts = append(parts, countOf(n, "warning"))
	}
	if n := count[events.Fixed]; n > 0 {
		parts = append(parts, countText(n)+" fixed by the capture itself")
	}
	parts = append(parts, countText(count[events.Pass])+" of "+countOf(uint64(len(p.Verdicts)), "check")+" passed")
	return strings.Join(parts, ", ")
}

// verdictsOn shows what needs a person first, with its remedy; of what passed only the names.
func verdictsOn(s *sheet, p events.Plan) {
	var passed []string
	for _, result := range []string{events.Fail, events.Warn, events.Fixed, events.Pass} {
		for _, v := range p.Verdicts {
			switch {
			case v.Result != result:
			case result == events.Pass:
				passed = append(passed, v.Check)
			default:
				s.item(result, "%s: %s", v.Check, v.Reason)
				if v.Remedy != "" {
					s.item("  fix", "%s", v.Remedy)
				}
			}
		}
	}
	if len(passed) > 0 {
		s.say(events.Pass, "%s", strings.Join(passed, ", "))
	}
}

// filterOn shows what would be mirrored: in a sentence, and the rules as AWS gets them.
func filterOn(s *sheet, p events.Plan) {
	s.say("mirrored", "%s", mirroredText(p))
	rows := [][]string{{"direction", "rule", "action", "protocol", "from", "to"}}
	for _, direction := range []string{events.Ingress, events.Egress} {
		rules := slices.DeleteFunc(slices.Clone(p.Mirror.Filter.Rules), func(r events.FilterRule) bool { return r.Direction != direction })
		slices.SortFunc(rules, func(a, b events.FilterRule) int { return int(a.Number - b.Number) })
		for _, r := range rules {
			rows = append(rows, []string{r.Direction, strconv.Itoa(int(r.Number)), r.Action, protocolText(r.Protocol),
				endText(r.SourceCIDR, r.SourcePorts), endText(r.DestinationCIDR, r.DestinationPorts)})
		}
	}
	if len(rows) > 1 {
		s.table("rules", rows)
	} else {
		s.say("rules", "none")
	}
}

// mirroredText is the filter's verdict, which says what it keeps and leaves out, unless that has been shown as a warning.
func mirroredText(p events.Plan) string {
	dns := "without the VPC's DNS"
	if p.Mirror.Filter.DNS {
		dns = "with the VPC's DNS (amazon-dns)"
	}
	text := lengthText(p.Mirror.PacketLength) + ", " + dns
	i := slices.IndexFunc(p.Verdicts, func(v events.Verdict) bool { return v.Check == "filter" })
	if i < 0 || p.Verdicts[i].Result != events.Pass {
		return fmt.Sprintf("profile %s: %s", p.Profile, text)
	}
	return fmt.Sprintf("%s. %s", text, p.Verdicts[i].Reason)
}

// protocolText names an IANA protocol number.
func protocolText(number int32) string {
	switch number {
	case 0:
		return "all"
	case 1:
		return "ICMP"
	case 6:
		return "TCP"
	case 17:
		return "UDP"
	case 58:
		return "ICMPv6"
	}
	return strconv.Itoa(int(number))
}

func endText(cidr string, ports *events.PortRange) string {
	text := cidr
	switch cidr {
	case "0.0.0.0/0":
		text = "any IPv4"
	case "::/0":
		text = "any IPv6"
	}
	text = strings.TrimSuffix(strings.TrimSuffix(text, "/32"), "/128")
	switch {
	case ports == nil:
	case ports.From == ports.To:
		text += fmt.Sprintf(" port %d", ports.From)
	default:
		text += fmt.Sprintf(" ports %d-%d", ports.From, ports.To)
	}
	return text
}

func collectorText(c events.PlacedAt) string {
	text := "nowhere"
	if c.Subnet != "" {
		text = c.Subnet + ", " + c.AvailabilityZone
	}
	var kinds []string
	for _, candidate := range c.Candidates {
		kinds = append(kinds, candidate.InstanceType)
	}
	if len(kinds) > 0 {
		text = kinds[0] + " in " + text
	}
	switch {
	case c.Endpoint != nil:
		text += "; S3 by a temporary interface endpoint in " + c.Endpoint.Subnet
	case c.S3Path != "":
		text += "; S3 by " + c.S3Path
	}
	if len(kinds) > 1 {
		text += "; when AWS has none left: " + strings.Join(kinds[1:], ", ")
	}
	return text
}

// costOn shows what an hour costs, item by item.
func costOn(s *sheet, c events.Cost, region string) {
	least := ""
	if c.AtLeast {
		least = "at least "
	}
	whose := c.Region
	if region != "" && region != c.Region {
		whose += " (not of " + region + ")"
	}
	s.say("cost", "%s%s USD an hour, by the list prices of %s as of %s", least, usdText(c.PerHourUSD), whose, c.AsOf)
	var rows [][]string
	for _, item := range c.Items {
		price := usdText(item.PerHourUSD)
		if item.PerHourUSD == 0 {
			price = "?"
		}
		rows = append(rows, []string{price, item.What})
	}
	s.table("", rows)
	for _, text := range c.Beside {
		s.item("", "and %s", text)
	}
}

func usdText(usd float64) string { return strconv.FormatFloat(usd, 'f', 4, 64) }

// shadowsOn shows which packets sessions of others take.
func shadowsOn(s *sheet, shadows []events.Shadow) {
	label := "shadows"
	for _, sh := range shadows {
		takes := strings.Join(sh.Takes, "; ")
		if sh.All {
			takes = "everything that this capture wants"
		}
		s.item(label, "session %s of account %s at number %d takes: %s", sh.Session, sh.Owner, sh.Number, takes)
		label = ""
	}
}
