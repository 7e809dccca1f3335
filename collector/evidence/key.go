package evidence

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// PublicKey is the public half of a signing key.
type PublicKey struct {
	key    *ecdsa.PublicKey
	SHA256 string // of its DER SubjectPublicKeyInfo
}

// ParseKey reads a public key as key.pem has it (RFC 7468, section 13), or its bare DER form, as KMS gives it.
func ParseKey(text []byte) (*PublicKey, error) {
	der := text
	if block, rest := pem.Decode(text); block != nil {
		if block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("it holds a %s, not a PUBLIC KEY", block.Type)
		}
		if len(bytes.TrimSpace(rest)) > 0 {
			return nil, errors.New("something follows the key")
		}
		der = block.Bytes
	}
	any, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("it holds no public key: %w", err)
	}
	key, ok := any.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("its key is not of ECDSA with curve P-256")
	}
	if der, err = x509.MarshalPKIXPublicKey(key); err != nil { // one key has one digest
		return nil, err
	}
	return &PublicKey{key, digest(der)}, nil
}

// ParseFingerprint reads the digest of a key as people write it: colons and capitals are no matter.
func ParseFingerprint(text string) (string, error) {
	plain := strings.ToLower(strings.ReplaceAll(text, ":", ""))
	if !isDigest(plain) {
		return "", errors.New("want the SHA-256 of the public key's DER form, 64 hexadecimal digits")
	}
	return plain, nil
}

// signs says whether sig is this key's signature over body (FIPS 186-5; DER).
func (k *PublicKey) signs(body, sig []byte) bool {
	sum := sha256.Sum256(body)
	return ecdsa.VerifyASN1(k.key, sum[:], sig)
}

// trust finds the key that must have signed: the one given from outside, else the one in the evidence. It is nil where there is
// none to check with.
func (v *verifier) trust(ctx context.Context) (*PublicKey, error) {
	text, err := v.body(ctx, keyName)
	if missing(err) {
		v.bad(Signature, keyName, "is not there")
		return v.Options.Key, nil
	}
	if err != nil {
		return nil, err
	}
	found, err := ParseKey(text)
	if err != nil {
		v.bad(Signature, keyName, "%v", err)
		return v.Options.Key, nil
	}
	wanted := v.Fingerprint
	key := found
	if v.Options.Key != nil {
		wanted, key = v.Options.Key.SHA256, v.Options.Key
	}
	if wanted != "" && found.SHA256 != wanted {
		v.bad(Signature, keyName, "is the key %s, not %s, which was given", found.SHA256, wanted)
	}
	v.Pinned = wanted != ""
	v.Report.Key = found.SHA256
	return key, nil
}

// checkSignature checks that X.sig is the key's signature over X.json.
func (v *verifier) checkSignature(ctx context.Context, key *PublicKey, record, signature string, body []byte) error {
	sig, err := v.body(ctx, signature)
	if missing(err) {
		v.bad(Signature, signature, "is not there")
		return nil
	}
	if err != nil {
		return err
	}
	if key != nil && !key.signs(body, sig) {
		v.bad(Signature, signature, "is not a signature over %s by the key %s", record, key.SHA256)
	}
	return nil
}

// checkSignatures checks all signatures of a sealed capture, if it is signed.
func (v *verifier) checkSignatures(ctx context.Context, m *manifest) error {
	v.Signed = v.holds(signatureName)
	if m.Signer != nil {
		v.Signer = m.Signer.KeyID
	}
	if !v.Signed {
		v.Notes = append(v.Notes, "it is unsigned: there is no "+signatureName)
		return nil
	}
	key, err := v.trust(ctx)
	if err != nil {
		return err
	}
	switch {
	case m.Signer == nil:
		v.bad(Signature, manifestName, "names no signer")
	case m.Signer.Algorithm != "ECDSA_SHA_256":
		v.bad(Signature, manifestName, "its signer uses %q, not ECDSA_SHA_256", m.Signer.Algorithm)
	}
	if m.Signer != nil && key != nil && m.Signer.PublicKeySHA256 != key.SHA256 {
		v.bad(Signature, manifestName, "names a signer with the key %s, not %s", m.Signer.PublicKeySHA256, key.SHA256)
	}
	if key != nil && !v.Pinned {
		v.Notes = append(v.Notes, "the key comes from the evidence itself and proves nothing: give --key or --fingerprint")
	}
	if err := v.checkSignature(ctx, key, manifestName, signatureName, m.body); err != nil {
		return err
	}
	pairs := [][2]string{{treeName, treeSigName}}
	for name := range v.listed {
		if kindOf(name) == addendumKind {
			pairs = append(pairs, [2]string{name, strings.TrimSuffix(name, ".json") + ".sig"})
		}
	}
	slices.SortFunc(pairs, func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(kindOf(a[0]), kindOf(b[0])), strings.Compare(a[0], b[0]))
	})
	for _, p := range pairs {
		body, err := v.body(ctx, p[0])
		if missing(err) {
			v.bad(Signature, p[0], "is not there")
			continue
		}
		if err != nil {
			return err
		}
		if err := v.checkSignature(ctx, key, p[0], p[1], body); err != nil {
			return err
		}
	}
	return nil
}
