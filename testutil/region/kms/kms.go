// Package kms is AWS Key Management Service on one machine, as far as keys are described and sign: an asymmetric key is a
// real one.
package kms

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// The specs of keys that are played.
const (
	Symmetric = "SYMMETRIC_DEFAULT" // ENCRYPT_DECRYPT
	ECCP256   = "ECC_NIST_P256"     // SIGN_VERIFY
)

// The states of a key (KMS Developer Guide, "Key states of AWS KMS keys").
const (
	Enabled         = "Enabled"
	Disabled        = "Disabled"
	PendingDeletion = "PendingDeletion"
	PendingImport   = "PendingImport"
	Unavailable     = "Unavailable"
)

// Key is a key to seed.
type Key struct {
	ID          string // default: made up
	Spec        string // default Symmetric
	State       string // default Enabled
	Description string
	Aliases     []string // alias/NAME
	AWSManaged  bool
}

type key struct {
	Key
	created, deletion time.Time
	private           *ecdsa.PrivateKey
}

// Config says whose keys these are.
type Config struct{ Account, Region string }

// Service is one account's KMS in one Region.
type Service struct {
	cfg Config

	mu   sync.Mutex
	keys map[string]*key // by id
}

// New returns a KMS without any key.
func New(cfg Config) *Service { return &Service{cfg: cfg, keys: map[string]*key{}} }

// AddKey makes a key and returns its ARN. One whose id is there already stays as it is.
func (s *Service) AddKey(k Key) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys[k.ID] != nil {
		return s.arn(k.ID)
	}
	if k.ID == "" {
		n := len(s.keys) + 1
		k.ID = fmt.Sprintf("%08x-0000-4000-8000-%012x", n, n)
	}
	if k.Spec == "" {
		k.Spec = Symmetric
	}
	if k.State == "" {
		k.State = Enabled
	}
	made := &key{Key: k, created: time.Now()}
	switch k.Spec {
	case Symmetric:
	case ECCP256:
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic("kms: " + err.Error()) // crypto/rand documents that it never fails
		}
		made.private = private
	default:
		panic("kms: keys of spec " + k.Spec + " are not played")
	}
	made.setState(k.State)
	s.keys[k.ID] = made
	return s.arn(k.ID)
}

// RemoveKey deletes a key that is named by its id or ARN, as AWS does at the end of its waiting period.
func (s *Service) RemoveKey(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, strings.TrimPrefix(id, s.arn("")))
}

// SetState changes the state of a key that is named by its id or ARN.
func (s *Service) SetState(id, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.find(id)
	if err != nil {
		panic("kms: " + err.Error())
	}
	k.setState(state)
}

// deletionWindow is the default of ScheduleKeyDeletion (KMS API reference).
const deletionWindow = 30 * 24 * time.Hour

func (k *key) setState(state string) {
	k.State, k.deletion = state, time.Time{}
	if state == PendingDeletion {
		k.deletion = time.Now().Add(deletionWindow)
	}
}

func (s *Service) arn(id string) string {
	return "arn:aws:kms:" + s.cfg.Region + ":" + s.cfg.Account + ":key/" + id
}

// find takes an id, an ARN, or an alias by name or ARN (KMS API reference, "KeyId").
func (s *Service) find(name string) (*key, error) {
	id := strings.TrimPrefix(name, s.arn(""))
	alias := strings.TrimPrefix(name, "arn:aws:kms:"+s.cfg.Region+":"+s.cfg.Account+":")
	for _, at := range slices.Sorted(maps.Keys(s.keys)) {
		if k := s.keys[at]; at == id || slices.Contains(k.Aliases, alias) {
			return k, nil
		}
	}
	if strings.HasPrefix(alias, "alias/") {
		return nil, &Error{"NotFoundException", fmt.Sprintf("Alias %s is not found.", name)}
	}
	if !strings.HasPrefix(name, "arn:") {
		name = s.arn(name)
	}
	return nil, &Error{"NotFoundException", fmt.Sprintf("Key '%s' does not exist", name)}
}

// Handle answers a decoded call.
func (s *Service) Handle(operation string, params map[string]any) (map[string]any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, _ := params["KeyId"].(string)
	k, err := s.find(name)
	if err != nil {
		return nil, err
	}
	switch operation {
	case "DescribeKey":
		return map[string]any{"KeyMetadata": s.show(k)}, nil
	case "GetPublicKey":
		return s.publicKey(k)
	case "Sign":
		return s.sign(k, params)
	}
	return nil, &Error{"UnknownOperationException", operation + " is not served here"}
}

func (k *key) usage() string {
	if k.private == nil {
		return "ENCRYPT_DECRYPT"
	}
	return "SIGN_VERIFY"
}

// The one algorithm of each spec.
const (
	encryption = "SYMMETRIC_DEFAULT"
	signing    = "ECDSA_SHA_256"
)

func (s *Service) show(k *key) map[string]any {
	m := map[string]any{"AWSAccountId": s.cfg.Account, "KeyId": k.ID, "Arn": s.arn(k.ID), "CreationDate": k.created, "Enabled": k.State == Enabled,
		"Description": k.Description, "KeyUsage": k.usage(), "KeyState": k.State, "Origin": "AWS_KMS", "KeyManager": "CUSTOMER", "CustomerMasterKeySpec": k.Spec,
		"KeySpec": k.Spec, "MultiRegion": false}
	if k.AWSManaged {
		m["KeyManager"] = "AWS"
	}
	if k.private == nil {
		m["EncryptionAlgorithms"] = []any{encryption}
	} else {
		m["SigningAlgorithms"] = []any{signing}
	}
	if !k.deletion.IsZero() {
		m["DeletionDate"] = k.deletion
	}
	return m
}

// usable says what a key in another state than Enabled answers to whoever wants to use it (KMS Developer Guide, "Key state
// table").
func (s *Service) usable(k *key) error {
	arn := s.arn(k.ID)
	switch k.State {
	case Enabled:
		return nil
	case Disabled:
		return &Error{"DisabledException", arn + " is disabled."}
	case Unavailable:
		return &Error{"KeyUnavailableException", arn + " is unavailable."}
	}
	return &Error{"KMSInvalidStateException", fmt.Sprintf("%s is pending %s.", arn, strings.ToLower(strings.TrimPrefix(k.State, "Pending")))}
}

func (s *Service) publicKey(k *key) (map[string]any, error) {
	if k.private == nil {
		return nil, &Error{"UnsupportedOperationException", s.arn(k.ID) + " is a symmetric key."}
	}
	if err := s.usable(k); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(&k.private.PublicKey)
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyId": s.arn(k.ID), "PublicKey": der, "CustomerMasterKeySpec": k.Spec, "KeySpec": k.Spec, "KeyUsage": k.usage(),
		"SigningAlgorithms": []any{signing}}, nil
}

// maxRaw is the longest message that Sign takes as it is (KMS API reference, Sign).
const maxRaw = 4096

func (s *Service) sign(k *key, params map[string]any) (map[string]any, error) {
	if k.private == nil {
		return nil, &Error{"InvalidKeyUsageException", s.arn(k.ID) + " key usage is ENCRYPT_DECRYPT which is not valid for Sign."}
	}
	if err := s.usable(k); err != nil {
		return nil, err
	}
	algorithm, _ := params["SigningAlgorithm"].(string)
	if algorithm != signing {
		return nil, &Error{"InvalidKeyUsageException", fmt.Sprintf("Algorithm %s is incompatible with key spec %s.", algorithm, k.Spec)}
	}
	message, _ := params["Message"].([]byte)
	digest := message
	switch kind, _ := params["MessageType"].(string); kind {
	case "", "RAW":
		if len(message) > maxRaw {
			return nil, &Error{"ValidationException", fmt.Sprintf("Message has more than %d bytes", maxRaw)}
		}
		sum := sha256.Sum256(message)
		digest = sum[:]
	case "DIGEST":
		if len(message) != sha256.Size {
			return nil, &Error{"ValidationException", "Digest is invalid length for algorithm " + algorithm + "."}
		}
	default:
		return nil, &Error{"ValidationException", "MessageType " + kind + " is not valid for key spec " + k.Spec}
	}
	if dry, _ := params["DryRun"].(bool); dry {
		return nil, &Error{"DryRunOperationException", "The request would have succeeded, but the DryRun option is set."}
	}
	signature, err := ecdsa.SignASN1(rand.Reader, k.private, digest)
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyId": s.arn(k.ID), "Signature": signature, "SigningAlgorithm": algorithm}, nil
}

// Error is a refusal as KMS words it.
type Error struct{ code, message string }

func (e *Error) Error() string   { return e.code + ": " + e.message }
func (e *Error) Code() string    { return e.code }
func (e *Error) Message() string { return e.message }
func (e *Error) Status() int     { return 400 }
