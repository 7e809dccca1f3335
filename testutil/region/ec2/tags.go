package ec2

import (
	"maps"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"
)

// Tag restrictions: EC2 user guide, "Tag your Amazon EC2 resources".
const (
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

func tagsOf(list []params) (map[string]string, error) {
	tags := map[string]string{}
	for _, t := range list {
		key, value := t.str("Key"), t.str("Value")
		switch {
		case key == "":
			return nil, invalidValue("Tag key cannot be empty")
		case utf8.RuneCountInString(key) > maxTagKey:
			return nil, invalidValue("Tag key exceeds the maximum length of %d characters", maxTagKey)
		case utf8.RuneCountInString(value) > maxTagValue:
			return nil, invalidValue("Tag value exceeds the maximum length of %d characters", maxTagValue)
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return nil, invalidValue("Tag keys starting with 'aws:' are reserved for internal use")
		}
		if _, twice := tags[key]; twice {
			return nil, invalidValue("Duplicate tag key '%s' specified.", key)
		}
		tags[key] = value
	}
	return tags, nil
}

// tagsOnCreate reads TagSpecifications; each must be of a type that the operation
// makes.
func (r *request) tagsOnCreate(made ...string) (map[string]map[string]string, error) {
	byType := map[string]map[string]string{}
	for _, spec := range r.objects("TagSpecifications") {
		of := spec.str("ResourceType")
		if of == "" {
			return nil, apiError("MissingParameter", "The request must contain the parameter ResourceType for a tag specification")
		}
		if !slices.Contains(made, of) {
			return nil, invalidValue("'%s' is not a valid taggable resource type for this operation.", of)
		}
		if byType[of] != nil {
			return nil, invalidValue("Resource type '%s' is specified more than once in the tag specifications.", of)
		}
		tags, err := tagsOf(spec.objects("Tags"))
		if err != nil {
			return nil, err
		}
		if err := withinTagLimit(tags); err != nil {
			return nil, err
		}
		byType[of] = tags
	}
	return byType, nil
}

// tagsFor is tagsOnCreate for an operation that makes one kind of resource.
func (r *request) tagsFor(k kind) (map[string]string, error) {
	byType, err := r.tagsOnCreate(k.resource)
	return byType[k.resource], err
}

// withinTagLimit leaves out AWS's own tags, which do not count.
func withinTagLimit(tags map[string]string) error {
	own := 0
	for key := range tags {
		if !strings.HasPrefix(key, "aws:") {
			own++
		}
	}
	if own > maxTags {
		return apiError("TagLimitExceeded", "The maximum number of tags for a resource is %d", maxTags)
	}
	return nil
}

// fitForMetadata says whether IMDS can serve the tags as paths (EC2 user guide,
// "View tags for your EC2 instances using instance metadata").
func fitForMetadata(tags map[string]string) error {
	for key := range tags {
		bad := key == "." || key == ".." || key == "_index"
		for _, c := range key {
			letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
			bad = bad || !letter && !strings.ContainsRune("+-=.,_:@", c)
		}
		if bad {
			return invalidValue("'%s' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\-_+=,.@:]{1,255}), and must not be a reserved name ('.', '..', '_index')", key)
		}
	}
	return nil
}

func tagList(tags map[string]string) []any {
	var list []any
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		list = append(list, map[string]any{"Key": key, "Value": tags[key]})
	}
	return list
}

// tagged finds the resources of CreateTags and DeleteTags.
func (s *Service) tagged(r *request) ([]resource, error) {
	var list []resource
	for _, id := range r.strs("Resources") {
		k, known := kinds[prefixesOfKinds(id)]
		if !known {
			return nil, apiError("InvalidID", "The ID '%s' is not valid", id)
		}
		found, err := find[resource](s, k, id)
		if err != nil {
			return nil, err
		}
		list = append(list, found)
	}
	return list, nil
}

func (s *Service) createTags(r *request) (map[string]any, error) {
	added, err := tagsOf(r.objects("Tags"))
	if err != nil {
		return nil, err
	}
	list, err := s.tagged(r)
	if err != nil {
		return nil, err
	}
	for _, on := range list {
		tags := maps.Clone(on.base().tags)
		maps.Copy(tags, added)
		if err := withinTagLimit(tags); err != nil {
			return nil, err
		}
		if i, ok := on.(*instance); ok && i.metadata.tags {
			if err := fitForMetadata(added); err != nil {
				return nil, err
			}
		}
	}
	for _, on := range list {
		maps.Copy(on.base().tags, added)
		s.tellTags(on)
	}
	return nil, nil
}

func (s *Service) deleteTags(r *request) (map[string]any, error) {
	list, err := s.tagged(r)
	if err != nil {
		return nil, err
	}
	for _, t := range r.objects("Tags") {
		if strings.HasPrefix(strings.ToLower(t.str("Key")), "aws:") {
			return nil, invalidValue("Tag keys starting with 'aws:' are reserved for internal use")
		}
	}
	for _, on := range list {
		tags := on.base().tags
		if !r.has("Tags") {
			maps.DeleteFunc(tags, func(key, _ string) bool { return !strings.HasPrefix(key, "aws:") })
		}
		for _, t := range r.objects("Tags") {
			if value, there := tags[t.str("Key")]; there && (!t.has("Value") || t.str("Value") == value) {
				delete(tags, t.str("Key"))
			}
		}
		s.tellTags(on)
	}
	return nil, nil
}

func (s *Service) tellTags(on resource) {
	if i, ok := on.(*instance); ok && s.cfg.Hooks.Tagged != nil {
		tags := maps.Clone(i.tags)
		s.outbox = append(s.outbox, func() { s.cfg.Hooks.Tagged(i.id, tags) })
	}
}

// SetTags puts tags on a resource from outside, as an operator in the console does.
func (s *Service) SetTags(id string, tags map[string]string) {
	s.mu.Lock()
	defer s.unlock()
	if on := s.all[id]; on != nil {
		maps.Copy(on.base().tags, tags)
		s.tellTags(on)
	}
}

func (s *Service) describeTags(r *request) (map[string]any, error) {
	var views []view
	for _, on := range every[resource](s) {
		if !s.visible(on) {
			continue
		}
		t := on.base()
		keys := slices.Collect(maps.Keys(t.tags))
		sort.Strings(keys)
		for _, key := range keys {
			v := map[string]any{"Key": key, "Value": t.tags[key], "ResourceId": t.id, "ResourceType": on.kind().resource}
			views = append(views, view{id: t.id + "/" + key, fields: v})
		}
	}
	return r.list(views, listing{out: "Tags", filters: map[string]string{
		"key": "Key", "value": "Value", "resource-id": "ResourceId", "resource-type": "ResourceType"}, tagPairs: true})
}
