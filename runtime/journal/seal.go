package journal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// Every record is sealed with AES-256-GCM, because tasks carry tokens and their inputs are their owners'. The seal is
// also the checksum of the record, and binds it to its address.
//
// Each opened journal seals with a key of its own, derived from the secret and a random salt, and counts its nonces: so
// no nonce repeats, however many records there are. A record is version, salt, counter, ciphertext and tag.
const (
	sealVersion = 1
	saltBytes   = 16
	sealHeader  = 1 + saltBytes + 8
)

var errSealed = errors.New("the record is damaged or was written with another key")

// sealer seals and opens records. It is not safe for concurrent use.
type sealer struct {
	secret []byte
	salt   [saltBytes]byte
	own    cipher.AEAD
	count  uint64
	others map[[saltBytes]byte]cipher.AEAD // of records that earlier journals wrote
}

func newSealer(secret []byte) (*sealer, error) {
	s := &sealer{secret: secret, others: map[[saltBytes]byte]cipher.AEAD{}}
	rand.Read(s.salt[:]) // never fails
	var err error
	s.own, err = s.derive(s.salt)
	return s, err
}

func (s *sealer) derive(salt [saltBytes]byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, s.secret, salt[:], "blocksd journal 1", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// seal returns the sealed form of plain for the address where it will stand.
func (s *sealer) seal(address, plain []byte) []byte {
	s.count++
	b := make([]byte, 0, sealHeader+len(plain)+s.own.Overhead())
	b = append(b, sealVersion)
	b = append(b, s.salt[:]...)
	b = binary.BigEndian.AppendUint64(b, s.count)
	return s.own.Seal(b, nonce(s.count), plain, address)
}

func nonce(count uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 4, 12), count) }

// open is the inverse of seal.
func (s *sealer) open(address, sealed []byte) ([]byte, error) {
	if len(sealed) < sealHeader || sealed[0] != sealVersion {
		return nil, errSealed
	}
	salt := [saltBytes]byte(sealed[1 : 1+saltBytes])
	aead := s.own
	if salt != s.salt {
		if aead = s.others[salt]; aead == nil {
			var err error
			if aead, err = s.derive(salt); err != nil {
				return nil, err
			}
			if len(s.others) > maxSalts { // a damaged file has many
				clear(s.others)
			}
			s.others[salt] = aead
		}
	}
	plain, err := aead.Open(nil, nonce(binary.BigEndian.Uint64(sealed[1+saltBytes:])), sealed[sealHeader:], address)
	if err != nil {
		return nil, errSealed
	}
	return plain, nil
}

const maxSalts = 1024
