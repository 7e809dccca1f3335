package s3

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

const (
	objects  = "objects"
	versions = "versions"

	// settingsVariable makes a process the server instead of the program it would be.
	settingsVariable = "FLASHTAP_TEST_S3_SERVER"
)

type settings struct {
	Config
	Addr string
}

func init() {
	text, asked := os.LookupEnv(settingsVariable)
	if !asked {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin) //nolint:errcheck // any end of it means that the parent has gone
		stop()
	}()
	if err := serve(ctx, text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve runs the gateway until ctx ends.
func serve(ctx context.Context, text string) error {
	var s settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return fmt.Errorf("%s: %w", settingsVariable, err)
	}
	root := filepath.Join(s.Dir, objects)
	var store meta.MetadataStorer = meta.XattrMeta{}
	options := posix.PosixOpts{VersioningDir: filepath.Join(s.Dir, versions)}
	if err := (meta.XattrMeta{}).Test(root); err != nil {
		// A file system without extended attributes: what belongs to an object lies beside it.
		options.SideCarDir = filepath.Join(s.Dir, "attributes")
		if err := os.MkdirAll(options.SideCarDir, 0o755); err != nil {
			return err
		}
		sidecar, err := meta.NewSideCar(options.SideCarDir)
		if err != nil {
			return err
		}
		store = sidecar
	}
	backend, err := posix.New(root, store, options)
	if err != nil {
		return err
	}
	return embedgw.RunVersityGW(ctx, backend, &embedgw.Config{
		RootUserAccess: s.AccessKey, RootUserSecret: s.SecretKey, Region: s.Region,
		Ports: []string{s.Addr}, MaxConnections: 1000, MaxRequests: 500, MultipartMaxParts: 10000,
		Quiet: true, KeepAlive: true,
	})
}
