// Package standin takes the place of S3 and of an instance's metadata when a collector's way to the store is measured:
// TLS as there, but objects cost next to nothing, since only the client is of interest.
package standin

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"flashtap/testutil/region/imds"
)

// Config says what stands in.
type Config struct {
	Dir      string       // for the certificate, and for all objects but segments
	Instance string       // id of the instance that the metadata describe
	Region   string       // where it is
	Address  netip.Addr   // what it receives on
	Others   []netip.Addr // IPv6
}

// Place is where a stand-in is found.
type Place struct {
	Endpoint    string `json:"endpoint"`    // of S3
	Metadata    string `json:"metadata"`    // of the metadata service
	Certificate string `json:"certificate"` // file with the authority's certificate
}

// Server is a running stand-in.
type Server struct {
	Place
	dir   string
	https *http.Server
	imds  *imds.Server

	mu       sync.Mutex
	segments int
	bytes    int64
}

// Serve starts a stand-in on loopback.
func Serve(ctx context.Context, cfg Config) (*Server, error) {
	s := &Server{dir: cfg.Dir, Place: Place{Certificate: filepath.Join(cfg.Dir, "authority.pem")}}
	certificate, authority, err := newCertificate()
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	if err := os.WriteFile(s.Certificate, authority, 0o600); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.Endpoint = "https://" + listener.Addr().String()
	s.https = &http.Server{
		Handler: s, ErrorLog: log.New(io.Discard, "", 0),
		// S3 speaks HTTP/1.1 alone.
		TLSConfig:    &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}},
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	go s.https.ServeTLS(listener, "", "") //nolint:errcheck // it ends with Close
	s.imds, err = imds.Serve(ctx, imds.Instance{
		ID: cfg.Instance, Type: "c7g.large", ImageID: "ami-0a1b2c3d4e5f60718", Architecture: "arm64", AccountID: "111122223333",
		Region: cfg.Region, AvailabilityZone: cfg.Region + "a", LaunchTime: time.Now(), MetadataTags: true,
		Interfaces: []imds.Interface{{
			ID: "eni-0a1b2c3d4e5f60718", SubnetID: "subnet-0a1b2c3d4e5f60718", VPCID: "vpc-0a1b2c3d4e5f60718",
			MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, IPv4s: []netip.Addr{cfg.Address}, IPv6s: cfg.Others,
		}},
		Profile: &imds.Profile{ARN: "arn:aws:iam::111122223333:instance-profile/collector", ID: "AIPAEXAMPLE", Role: "collector",
			Credentials: func() (imds.Credentials, error) {
				return imds.Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", Updated: time.Now(), Expires: time.Now().Add(6 * time.Hour)}, nil
			}},
	})
	if err != nil {
		return nil, errors.Join(err, s.https.Close())
	}
	s.Metadata = s.imds.URL
	return s, nil
}

// Close ends the stand-in.
func (s *Server) Close() error { return errors.Join(s.https.Close(), s.imds.Close()) }

// Received is what segments have come.
func (s *Server) Received() (segments int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.segments, s.bytes
}

// ServeHTTP takes every object, keeps those that are no segments, and answers as S3 does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPut {
		w.WriteHeader(http.StatusNotImplemented)
		return
	}
	into := io.Discard
	segment := strings.HasSuffix(r.URL.Path, ".pcap")
	if !segment {
		path := filepath.Join(s.dir, filepath.Base(r.URL.Path))
		file, err := os.Create(path)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		defer file.Close()
		into = file
	}
	// Large pieces, and hidden from the short cuts of io.Copy, which would take small ones.
	n, err := io.CopyBuffer(struct{ io.Writer }{into}, struct{ io.Reader }{r.Body}, make([]byte, 256<<10))
	if err != nil || n != r.ContentLength {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if segment {
		s.mu.Lock()
		s.segments++
		s.bytes += n
		s.mu.Unlock()
	}
	w.Header().Set("ETag", `"9b2cf535f27731c974343645a3985328"`)
	w.Header().Set("X-Amz-Version-Id", "3HL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY")
	w.Header().Set("X-Amz-Checksum-Sha256", r.Header.Get("X-Amz-Checksum-Sha256"))
	w.Header().Set("X-Amz-Checksum-Type", "FULL_OBJECT")
}

// newCertificate makes a certificate for loopback that vouches for itself.
func newCertificate() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stand-in for S3"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
