package imds

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Server answers the programs of one instance.
type Server struct {
	// URL is what AWS_EC2_METADATA_SERVICE_ENDPOINT is set to for them.
	URL string

	instance Instance
	http     *http.Server
	done     chan error

	mu     sync.Mutex
	tags   map[string]string
	tokens map[string]time.Time // when each ends
}

// Serve answers on a port of 127.0.0.1 that the kernel chooses, until ctx ends or Close is called.
func Serve(ctx context.Context, i Instance) (*Server, error) {
	s, err := newServer(i)
	if err != nil {
		return nil, fmt.Errorf("serve metadata: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("serve metadata of %s: %w", i.ID, err)
	}
	s.URL = "http://" + listener.Addr().String()
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second}
	s.done = make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { s.http.Close() })
	go func() {
		err := s.http.Serve(listener)
		stop()
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		s.done <- err
		close(s.done)
	}()
	return s, nil
}

func newServer(i Instance) (*Server, error) {
	if err := i.validate(); err != nil {
		return nil, err
	}
	return &Server{instance: i, tags: maps.Clone(i.Tags), tokens: map[string]time.Time{}}, nil
}

// Close ends all answers and returns when the service has ended.
func (s *Server) Close() error {
	return errors.Join(s.http.Close(), <-s.done)
}

// SetTags replaces the instance's tags; the next request sees them, as on an instance that isn't restarted.
func (s *Server) SetTags(tags map[string]string) error {
	if err := validateTags(s.instance.MetadataTags, tags); err != nil {
		return fmt.Errorf("tag instance %s: %w", s.instance.ID, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tags = maps.Clone(tags)
	return nil
}

const (
	tokenHeader = "X-Aws-Ec2-Metadata-Token"
	ttlHeader   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	// maxTTL is six hours.
	maxTTL = 21600
)

// ServeHTTP answers as the service does that requires tokens.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "EC2ws")
	w.Header().Set("Content-Type", "text/plain")
	if strings.TrimSuffix(r.URL.Path, "/") == "/latest/api/token" {
		s.giveToken(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		refuse(w, http.StatusMethodNotAllowed)
		return
	}
	left, ok := s.tokenLeft(r.Header.Get(tokenHeader))
	if !ok {
		refuse(w, http.StatusUnauthorized) // also what a request of version 1 gets
		return
	}
	w.Header().Set(ttlHeader, strconv.Itoa(int(left/time.Second)))
	path, ok := strings.CutPrefix(r.URL.Path, "/latest/")
	if !ok {
		refuse(w, http.StatusNotFound)
		return
	}
	body, found, err := newTree(s.instance, s.currentTags()).read(path)
	switch {
	case err != nil:
		refuse(w, http.StatusInternalServerError)
	case !found:
		refuse(w, http.StatusNotFound)
	default:
		if strings.Trim(path, "/") == "user-data" {
			w.Header().Set("Content-Type", "application/octet-stream")
		}
		w.Write(body) // the client is gone if this fails
	}
}

func refuse(w http.ResponseWriter, status int) {
	http.Error(w, fmt.Sprintf("%d - %s", status, http.StatusText(status)), status)
}

// giveToken answers the request that starts a session. A request that passed a proxy gets none (EC2 User Guide, "Use
// the Instance Metadata Service": tokens aren't given when X-Forwarded-For is present).
func (s *Server) giveToken(w http.ResponseWriter, r *http.Request) {
	ttl, err := strconv.Atoi(r.Header.Get(ttlHeader))
	switch {
	case r.Method != http.MethodPut:
		refuse(w, http.StatusMethodNotAllowed)
		return
	case r.Header.Values("X-Forwarded-For") != nil:
		refuse(w, http.StatusForbidden)
		return
	case err != nil || ttl < 1 || ttl > maxTTL:
		refuse(w, http.StatusBadRequest)
		return
	}
	raw := make([]byte, 40)
	rand.Read(raw) // never fails (crypto/rand)
	token := base64.URLEncoding.EncodeToString(raw)

	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(s.tokens, func(_ string, ends time.Time) bool { return !now.Before(ends) })
	s.tokens[token] = now.Add(time.Duration(ttl) * time.Second)
	w.Header().Set(ttlHeader, strconv.Itoa(ttl))
	w.Write([]byte(token)) // the client is gone if this fails
}

func (s *Server) tokenLeft(token string) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := time.Until(s.tokens[token])
	return left, token != "" && left > 0
}

func (s *Server) currentTags() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tags // replaced as a whole, never changed
}
