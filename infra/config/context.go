package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"flashtap/events"
)

// keys are the context keys, each with the field that it sets.
func (c *Config) keys() map[string]any {
	return map[string]any{
		"deployment": &c.Deployment, "retentionMode": &c.RetentionMode, "retentionDays": &c.RetentionDays, "tierDays": &c.TierDays,
		"expireDays": &c.ExpireDays, "evidenceBucket": &c.EvidenceBucket, "evidenceKey": &c.EvidenceKey,
		"accessLogging": &c.AccessLogging, "witnessTopic": &c.WitnessTopic, "breakGlass": &c.BreakGlass, "logDays": &c.LogDays,
		"minSeverity": &c.MinSeverity, "findingTypes": &c.FindingTypes, "sampleFindings": &c.SampleFindings,
		"securityHubAction": &c.SecurityHubAction, "instanceEvents": &c.InstanceEvents, "paused": &c.Paused,
		"vpcs": &c.VPCs, "optOutTag": &c.OptOutTag, "maxCaptures": &c.MaxCaptures, "maxInterfaces": &c.MaxInterfaces,
		"durationSeconds": &c.DurationSeconds, "maxBytes": &c.MaxBytes, "packetLength": &c.PacketLength, "filter": &c.Filter,
		"profile": &c.Profile, "controlCidrs": &c.ControlCIDRs, "allowTemporaryEndpoint": &c.AllowTemporaryEndpoint,
		"instanceTypes": &c.InstanceTypes, "spoolGiB": &c.SpoolGiB, "volumeKey": &c.VolumeKey,
		"tags": &c.Tags, "permissionsBoundary": &c.PermissionsBoundary, "alertTopic": &c.AlertTopic, "alarmEmail": &c.AlarmEmail, "captureHourUSD": &c.CaptureHourUSD,
		"hubAccount": &c.HubAccount, "buildDir": &c.BuildDir,
	}
}

// foreignKey matches the keys that CDK itself puts into the context: none is a plain word.
var foreignKey = regexp.MustCompile(`[^A-Za-z]`)

// Load reads the context over the defaults and validates the outcome. Values come from cdk.json with their JSON types
// and from the command line as text: -c vpcs=vpc-1,vpc-2 and -c tags=Team=soc,Cost=42. A key that nobody reads is an
// error, since a misspelt retention would otherwise be none.
func Load(context map[string]any) (Config, error) {
	c := Default()
	keys := c.keys()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(context)) {
		field, known := keys[name]
		if !known {
			if !foreignKey.MatchString(name) {
				errs = append(errs, fmt.Errorf("context %s: there is no such key; there are %s", name, strings.Join(slices.Sorted(maps.Keys(keys)), ", ")))
			}
			continue
		}
		if context[name] == nil {
			continue
		}
		if err := set(field, context[name]); err != nil {
			errs = append(errs, fmt.Errorf("context %s: %w", name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return c, err
	}
	return c, c.Validate()
}

func set(field, value any) error {
	text, isText := value.(string)
	switch f := field.(type) {
	case *string:
		if !isText {
			return fmt.Errorf("%v: want text", value)
		}
		*f = text
	case *bool:
		b, err := strconv.ParseBool(fmt.Sprint(value))
		if err != nil {
			return fmt.Errorf("%v: want true or false", value)
		}
		*f = b
	case *int:
		n, err := whole(value, strconv.IntSize)
		*f = int(n)
		return err
	case *int32:
		n, err := whole(value, 32)
		*f = int32(n)
		return err
	case *int64:
		n, err := whole(value, 64)
		*f = n
		return err
	case *float64:
		n, err := strconv.ParseFloat(fmt.Sprint(value), 64)
		if err != nil {
			return fmt.Errorf("%v: want a number", value)
		}
		*f = n
	case *[]string:
		return setList(f, value)
	case *map[string]string:
		return setTags(f, value)
	case **events.Filter:
		return setFilter(f, value)
	default:
		return fmt.Errorf("a field of type %T can't be set", field)
	}
	return nil
}

func whole(value any, bits int) (int64, error) {
	text := fmt.Sprint(value)
	if f, isNumber := value.(float64); isNumber {
		text = strconv.FormatFloat(f, 'f', -1, 64) // JSON's numbers arrive so, and %v would give 5e+10
	}
	n, err := strconv.ParseInt(text, 10, bits)
	if err != nil {
		return 0, fmt.Errorf("%s: want a whole number", text)
	}
	return n, nil
}

func setList(field *[]string, value any) error {
	*field = nil
	switch v := value.(type) {
	case string:
		for _, item := range strings.Split(v, ",") {
			if item = strings.TrimSpace(item); item != "" {
				*field = append(*field, item)
			}
		}
	case []any:
		for _, item := range v {
			*field = append(*field, fmt.Sprint(item))
		}
	default:
		return fmt.Errorf("%v: want a list, or a,b,c", value)
	}
	return nil
}

func setTags(field *map[string]string, value any) error {
	tags := map[string]string{}
	switch v := value.(type) {
	case string:
		for _, pair := range strings.Split(v, ",") {
			if pair == "" {
				continue
			}
			key, text, found := strings.Cut(pair, "=")
			if !found {
				return fmt.Errorf("%q: want key=value,key=value", pair)
			}
			tags[key] = text
		}
	case map[string]any:
		for key, text := range v {
			tags[key] = fmt.Sprint(text)
		}
	default:
		return fmt.Errorf("%v: want an object, or key=value,key=value", value)
	}
	*field = tags
	return nil
}

func setFilter(field **events.Filter, value any) error {
	text, isText := value.(string)
	if isText && text == "" {
		*field = nil
		return nil
	}
	if !isText {
		encoded, err := json.Marshal(value)
		if err != nil {
			return err
		}
		text = string(encoded)
	}
	var f events.Filter
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return fmt.Errorf("want a filter as JSON: %w", err)
	}
	*field = &f
	return nil
}
