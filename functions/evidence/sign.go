package evidence

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"flashtap/events"
)

// Signer is a key that signs, and never leaves where it is.
type Signer interface {
	// PublicKey is the key's ARN, and its public half as DER SubjectPublicKeyInfo.
	PublicKey(ctx context.Context) (arn string, der []byte, err error)
	// Sign signs a SHA-256 digest by ECDSA; the signature is in DER.
	Sign(ctx context.Context, digest []byte) ([]byte, error)
}

// algorithm is KMS's word for what every signature of ours is.
const algorithm = "ECDSA_SHA_256"

// signingKey is the key of one capture: the one that lies with it, which is also the one that signs.
type signingKey struct {
	events.Signer
	public *ecdsa.PublicKey
}

// publishKey puts the public half of the signing key to the evidence; nil when there is no key.
func (s Sealer) publishKey(ctx context.Context, c events.CaptureID) (*signingKey, error) {
	if s.Signer == nil {
		return nil, nil
	}
	key, text, err := s.key(ctx)
	if err != nil {
		return nil, err
	}
	err = s.Create(ctx, events.PublicKeyKey(c), text)
	if errors.Is(err, ErrExists) {
		return nil, fmt.Errorf("%s is of another key than %s", events.PublicKeyKey(c), key.KeyID)
	}
	return key, err
}

// key asks for the public half of the signing key.
func (s Sealer) key(ctx context.Context) (*signingKey, []byte, error) {
	arn, der, err := s.Signer.PublicKey(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("public half of the signing key: %w", err)
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, nil, fmt.Errorf("public half of %s: %w", arn, err)
	}
	public, isECDSA := parsed.(*ecdsa.PublicKey)
	if !isECDSA || public.Curve != elliptic.P256() {
		return nil, nil, fmt.Errorf("signing key %s: it is not of the curve P-256 (ECC_NIST_P256)", arn)
	}
	return &signingKey{Signer: events.Signer{KeyID: arn, Algorithm: algorithm, PublicKeySHA256: Digest(der)}, public: public},
		pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// signObject signs what the bucket holds under key and keeps the signature under signature, unless there is one: each
// signature of the same bytes is another, and the first stands.
func (s Sealer) signObject(ctx context.Context, key *signingKey, body []byte, signature string) error {
	made, err := s.sign(ctx, key, body)
	if err != nil {
		return fmt.Errorf("sign for %s: %w", signature, err)
	}
	return s.keepSignature(ctx, signature, made)
}

func (s Sealer) sign(ctx context.Context, key *signingKey, body []byte) ([]byte, error) {
	digest := sha256.Sum256(body)
	made, err := s.Signer.Sign(ctx, digest[:])
	if err == nil && !ecdsa.VerifyASN1(key.public, digest[:], made) {
		err = fmt.Errorf("what %s answered is no signature of its own", key.KeyID)
	}
	return made, err
}

func (s Sealer) keepSignature(ctx context.Context, signature string, made []byte) error {
	if err := s.Create(ctx, signature, made); err != nil && !errors.Is(err, ErrExists) {
		return err
	}
	return nil
}

// signTree signs the root of the tree, once.
func (s Sealer) signTree(ctx context.Context, c events.CaptureID, key *signingKey) error {
	if there, err := s.Exists(ctx, events.TreeSignatureKey(c)); err != nil || there {
		return err
	}
	body, err := s.Read(ctx, events.TreeKey(c))
	if err != nil {
		return err
	}
	return s.signObject(ctx, key, body, events.TreeSignatureKey(c))
}

// signManifest signs a manifest as the bucket holds it, and says whether it is signed. Before that the witness is told, so
// that there is no signature without a witness; should the signature then fail, the witness is told the same again.
func (s Sealer) signManifest(ctx context.Context, m events.Manifest, body []byte) (bool, error) {
	c := m.Capture
	if m.Signer == nil {
		slog.Warn("not signed", "capture", c, "why", "the deployment had no signing key when it was sealed")
		return false, s.tell(ctx, m, body)
	}
	there, err := s.Exists(ctx, events.ManifestSignatureKey(c))
	if err != nil || there {
		return there, err
	}
	key, err := s.keyOf(ctx, m)
	if err != nil {
		return false, err
	}
	if err := s.tell(ctx, m, body); err != nil {
		return false, err
	}
	plan, err := s.Plan(ctx, c)
	if err != nil {
		return false, err
	}
	if s.Hold, err = s.holdAll(ctx, plan); err != nil {
		return false, err
	}
	if err := s.signObject(ctx, key, body, events.ManifestSignatureKey(c)); err != nil {
		return false, err
	}
	slog.Info("signed", "capture", c, "eni", c.NetworkInterfaceID(), "sha256", Digest(body), "key", key.KeyID)
	return true, nil
}

// keyOf is the key that signs what belongs to a manifest: the one that the manifest names.
func (s Sealer) keyOf(ctx context.Context, m events.Manifest) (*signingKey, error) {
	if s.Signer == nil {
		return nil, fmt.Errorf("its manifest is to be signed by %s, which the deployment no longer has", m.Signer.KeyID)
	}
	key, _, err := s.key(ctx)
	if err != nil {
		return nil, err
	}
	if key.PublicKeySHA256 != m.Signer.PublicKeySHA256 {
		return nil, fmt.Errorf("its manifest is to be signed by %s, and the deployment now has %s", m.Signer.KeyID, key.KeyID)
	}
	return key, nil
}

// testimony is what the witness is told.
type testimony struct {
	Capture         events.CaptureID `json:"capture"`
	Manifest        string           `json:"manifest"` // object key
	SHA256          string           `json:"sha256"`
	KeyID           string           `json:"keyId,omitempty"`
	PublicKeySHA256 string           `json:"publicKeySha256,omitempty"`
	At              time.Time        `json:"at"`
}

func (s Sealer) tell(ctx context.Context, m events.Manifest, body []byte) error {
	if s.Witness == nil {
		return nil
	}
	said := testimony{Capture: m.Capture, Manifest: events.ManifestKey(m.Capture), SHA256: Digest(body), At: time.Now().UTC()}
	if m.Signer != nil {
		said.KeyID, said.PublicKeySHA256 = m.Signer.KeyID, m.Signer.PublicKeySHA256
	}
	text, err := Canonical(said)
	if err != nil {
		return err
	}
	if err := s.Witness.Tell(ctx, text); err != nil {
		return fmt.Errorf("tell the witness: %w", err)
	}
	return nil
}
