package ec2

import "slices"

// amazonAccount owns Amazon Linux images.
const amazonAccount = "137112412989"

// Image is a machine image to seed.
type Image struct {
	ID, Name     string
	Architecture string // default arm64
	RootDevice   string // default /dev/xvda
	Tags         map[string]string
}

type image struct {
	thing
	name, architecture, root string
}

func (*image) kind() kind { return kindImage }

// AddImage seeds an image owned by Amazon and returns its id.
func (s *Service) AddImage(i Image) string {
	s.mu.Lock()
	defer s.unlock()
	made := &image{thing: s.seedThing(kindImage, i.ID, i.Tags), name: i.Name, architecture: i.Architecture, root: i.RootDevice}
	if made.architecture == "" {
		made.architecture = "arm64"
	}
	if made.root == "" {
		made.root = "/dev/xvda"
	}
	s.add(made)
	return made.id
}

func (s *Service) describeImages(r *request) (map[string]any, error) {
	show := func(i *image) map[string]any {
		return map[string]any{"ImageId": i.id, "Name": i.name, "Architecture": i.architecture, "State": "available", "ImageType": "machine", "Public": true,
			"OwnerId": amazonAccount, "ImageOwnerAlias": "amazon", "RootDeviceName": i.root, "RootDeviceType": "ebs", "VirtualizationType": "hvm",
			"EnaSupport": true, "Hypervisor": "xen", "Tags": tagList(i.tags)}
	}
	views := viewsOf(s, show)
	if owners := r.strs("Owners"); len(owners) > 0 && !slices.Contains(owners, "amazon") && !slices.Contains(owners, amazonAccount) {
		views = nil
	}
	return r.list(views, listing{kind: kindImage, ids: "ImageIds", out: "Images", tags: "Tags", idsOrPages: true, filters: map[string]string{
		"architecture": "Architecture", "image-id": "ImageId", "image-type": "ImageType", "is-public": "Public", "name": "Name", "owner-alias": "ImageOwnerAlias",
		"owner-id": "OwnerId", "root-device-name": "RootDeviceName", "root-device-type": "RootDeviceType", "state": "State",
		"virtualization-type": "VirtualizationType", "ena-support": "EnaSupport", "hypervisor": "Hypervisor"}})
}
