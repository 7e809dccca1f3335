package ec2

import (
	"maps"
	"slices"
	"strconv"
	"time"
)

// LaunchTemplate is a launch template to seed. Data has the members of the model's
// ResponseLaunchTemplateData, in the types that a decoded call has: lists are
// []any of map[string]any, numbers int64.
type LaunchTemplate struct {
	ID, Name string
	Data     map[string]any
	Tags     map[string]string
}

type launchTemplate struct {
	thing
	name     string
	versions []templateVersion
	standard int // the default version, from 1
}

type templateVersion struct {
	data params
	at   time.Time
}

func (*launchTemplate) kind() kind { return kindTemplate }

// AddLaunchTemplate seeds a template with one version and returns its id.
func (s *Service) AddLaunchTemplate(t LaunchTemplate) string {
	s.mu.Lock()
	defer s.unlock()
	made := &launchTemplate{thing: s.seedThing(kindTemplate, t.ID, t.Tags), name: t.Name, standard: 1,
		versions: []templateVersion{{t.Data, s.cfg.Now()}}}
	s.add(made)
	return made.id
}

// AddLaunchTemplateVersion adds a version to a seeded template; the default one
// stays as it is.
func (s *Service) AddLaunchTemplateVersion(id string, data map[string]any) int {
	s.mu.Lock()
	defer s.unlock()
	t := mustFind[*launchTemplate](s, id)
	t.versions = append(t.versions, templateVersion{data, s.cfg.Now()})
	return len(t.versions)
}

// template finds a launch template by id or name.
func (s *Service) template(p params) (*launchTemplate, error) {
	id, name := p.str("LaunchTemplateId"), p.str("LaunchTemplateName")
	switch {
	case id != "" && name != "":
		return nil, apiError("InvalidParameterCombination", "Only one of launchTemplateId and launchTemplateName can be specified")
	case id != "":
		return find[*launchTemplate](s, kindTemplate, id)
	case name == "":
		return nil, apiError("MissingParameter", "Either a launch template ID or a launch template name must be specified in the request")
	}
	for _, t := range every[*launchTemplate](s) {
		if t.name == name && s.visible(t) {
			return t, nil
		}
	}
	return nil, apiError("InvalidLaunchTemplateName.NotFoundException", "The specified launch template, with template name %s, does not exist.", name)
}

// version resolves "$Default", "$Latest" or a number.
func (t *launchTemplate) version(text string) (int, error) {
	switch text {
	case "", "$Default":
		return t.standard, nil
	case "$Latest":
		return len(t.versions), nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, invalidValue("Invalid launch template version: either '$Default', '$Latest', or a numeric version are allowed.")
	}
	if n < 1 || n > len(t.versions) {
		return 0, apiError("InvalidLaunchTemplateId.VersionNotFound", "Could not find the specified version %d for the launch template with ID %s.", n, t.id)
	}
	return n, nil
}

// merged lays a call's parameters over a template's data: a parameter of the call
// overrides the template's (EC2 user guide, "Launch instances from a launch
// template"). Tags are overridden key by key and interfaces device by device,
// which AWS does not document.
func merged(data, call params) params {
	out := params{}
	maps.Copy(out, data)
	maps.Copy(out, call)
	if data.has("TagSpecifications") && call.has("TagSpecifications") {
		out["TagSpecifications"] = mergedTags(data, call)
	}
	if data.has("NetworkInterfaces") && call.has("NetworkInterfaces") {
		out["NetworkInterfaces"] = mergedInterfaces(data, call)
	}
	for _, nested := range []string{"MetadataOptions", "Placement"} {
		if data.has(nested) && call.has(nested) {
			both := map[string]any{}
			maps.Copy(both, data.object(nested))
			maps.Copy(both, call.object(nested))
			out[nested] = both
		}
	}
	return out
}

func mergedTags(data, call params) []any {
	var order []string
	byType := map[string]map[string]string{}
	for _, p := range []params{data, call} {
		for _, spec := range p.objects("TagSpecifications") {
			of := spec.str("ResourceType")
			if byType[of] == nil {
				byType[of] = map[string]string{}
				order = append(order, of)
			}
			for _, t := range spec.objects("Tags") {
				byType[of][t.str("Key")] = t.str("Value")
			}
		}
	}
	var out []any
	for _, of := range order {
		out = append(out, map[string]any{"ResourceType": of, "Tags": tagList(byType[of])})
	}
	return out
}

func mergedInterfaces(data, call params) []any {
	byDevice := map[int]map[string]any{}
	for _, p := range []params{data, call} {
		for _, spec := range p.objects("NetworkInterfaces") {
			device := spec.number("DeviceIndex")
			if byDevice[device] == nil {
				byDevice[device] = map[string]any{}
			}
			maps.Copy(byDevice[device], spec)
		}
	}
	var out []any
	for _, device := range slices.Sorted(maps.Keys(byDevice)) {
		out = append(out, byDevice[device])
	}
	return out
}

func (s *Service) describeLaunchTemplates(r *request) (map[string]any, error) {
	show := func(t *launchTemplate) map[string]any {
		return map[string]any{"LaunchTemplateId": t.id, "LaunchTemplateName": t.name, "CreateTime": t.versions[0].at, "CreatedBy": "arn:aws:iam::" + s.cfg.Account + ":root",
			"DefaultVersionNumber": t.standard, "LatestVersionNumber": len(t.versions), "Tags": tagList(t.tags)}
	}
	return r.list(viewsOf(s, show), listing{kind: kindTemplate, ids: "LaunchTemplateIds", names: "LaunchTemplateNames", nameAt: "LaunchTemplateName",
		notFoundName: "InvalidLaunchTemplateName.NotFoundException", out: "LaunchTemplates", tags: "Tags",
		filters: map[string]string{"create-time": "CreateTime", "launch-template-name": "LaunchTemplateName"}})
}

func (s *Service) describeLaunchTemplateVersions(r *request) (map[string]any, error) {
	templates := every[*launchTemplate](s)
	if r.has("LaunchTemplateId") || r.has("LaunchTemplateName") {
		t, err := s.template(r.params)
		if err != nil {
			return nil, err
		}
		templates = []*launchTemplate{t}
	}
	wanted := r.strs("Versions")
	var views []view
	for _, t := range templates {
		numbers := map[int]bool{}
		for _, text := range wanted {
			n, err := t.version(text)
			if err != nil {
				return nil, err
			}
			numbers[n] = true
		}
		for i, v := range t.versions {
			n := i + 1
			if len(wanted) > 0 && !numbers[n] {
				continue
			}
			views = append(views, view{id: t.id + "/" + strconv.Itoa(n), fields: map[string]any{"LaunchTemplateId": t.id, "LaunchTemplateName": t.name,
				"VersionNumber": n, "DefaultVersion": n == t.standard, "CreateTime": v.at, "LaunchTemplateData": map[string]any(v.data)}})
		}
	}
	return r.list(views, listing{out: "LaunchTemplateVersions", filters: map[string]string{
		"create-time": "CreateTime", "ebs-optimized": "LaunchTemplateData.EbsOptimized", "http-endpoint": "LaunchTemplateData.MetadataOptions.HttpEndpoint",
		"http-tokens": "LaunchTemplateData.MetadataOptions.HttpTokens", "iam-instance-profile": "LaunchTemplateData.IamInstanceProfile.Arn|LaunchTemplateData.IamInstanceProfile.Name",
		"image-id": "LaunchTemplateData.ImageId", "instance-type": "LaunchTemplateData.InstanceType", "is-default-version": "DefaultVersion"}})
}
