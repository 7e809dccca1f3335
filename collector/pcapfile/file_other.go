//go:build !linux

package pcapfile

import "os"

// File is a regular file. On Linux it is faster than an os.File.
type File struct{ *os.File }
