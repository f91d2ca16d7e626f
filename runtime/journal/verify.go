package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// The store trusts its file: on a damaged one it panics in goroutines of its own, recurses without end or asks for all the
// memory there is. So the shape of the file is checked before the store sees it: that every page which can be reached is
// in the file, is reached once, and has its parts inside of itself. What the records hold is checked when they are opened.
//
// A file is pages of the same size. Each begins with its number (8 bytes), kind (2), count of elements (2) and number of
// further pages that belong to it (4). The first two are heads, written in turn; the valid one with the higher
// transaction counts. Numbers are in the byte order of the machine.

const (
	pageHeader  = 16
	elementSize = 16

	pageBranch   = 0x01
	pageLeaf     = 0x02
	pageFreelist = 0x10

	elementBucket = 0x01 // a leaf element that is a bucket

	headMagic    = 0xED0CDAED
	headVersion  = 2
	headSize     = 56 // without the checksum
	bucketHeader = 16
)

// maxDepth is far more than a tree of this program can have.
const maxDepth = 64

var order = binary.NativeEndian

// verify returns an error that matches errBroken if the store must not open the file at path. A file that is not there
// or empty is good: it will be made.
func verify(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	v := verifier{file: f, size: info.Size(), seen: map[uint64]bool{}}
	if err := v.file0(); err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	return nil
}

type verifier struct {
	file     io.ReaderAt
	size     int64
	pageSize int64
	limit    uint64 // pages from here on are not in use
	seen     map[uint64]bool
}

type head struct {
	pageSize              uint32
	root, freelist, limit uint64
	transaction           uint64
}

// file0 checks all from the heads on.
func (v *verifier) file0() error {
	h, err := v.head()
	if err != nil {
		return err
	}
	v.pageSize, v.limit = int64(h.pageSize), h.limit
	v.seen[0], v.seen[1] = true, true
	if err := v.tree(h.root, 0); err != nil {
		return err
	}
	return v.freelist(h.freelist)
}

// head returns the head that counts.
func (v *verifier) head() (head, error) {
	first, err := v.headAt(0)
	size := int64(os.Getpagesize())
	if err == nil {
		size = int64(first.pageSize)
	}
	second, err2 := v.headAt(size)
	switch {
	case err != nil && err2 != nil:
		return head{}, err
	case err != nil || err2 == nil && second.transaction > first.transaction:
		return second, nil
	}
	return first, nil
}

func (v *verifier) headAt(at int64) (head, error) {
	b := make([]byte, pageHeader+headSize+8)
	if _, err := v.file.ReadAt(b, at); err != nil {
		return head{}, errors.New("it is too short")
	}
	b = b[pageHeader:]
	if order.Uint32(b) != headMagic || order.Uint32(b[4:]) != headVersion {
		return head{}, errors.New("it does not begin like a journal")
	}
	sum := fnv.New64a()
	sum.Write(b[:headSize])
	h := head{
		pageSize: order.Uint32(b[8:]), root: order.Uint64(b[16:]), freelist: order.Uint64(b[32:]), limit: order.Uint64(b[40:]),
		transaction: order.Uint64(b[48:]),
	}
	if order.Uint64(b[headSize:]) != sum.Sum64() || h.pageSize < 1024 || h.pageSize > 1<<20 || h.pageSize&(h.pageSize-1) != 0 {
		return head{}, errors.New("its head is damaged")
	}
	return h, nil
}

// page reads a page with what belongs to it, which nothing else may refer to.
func (v *verifier) page(number uint64) ([]byte, error) {
	if number >= v.limit || int64(number) > v.size/v.pageSize {
		return nil, fmt.Errorf("page %d is not in it", number)
	}
	header := make([]byte, pageHeader)
	if _, err := v.file.ReadAt(header, int64(number)*v.pageSize); err != nil {
		return nil, fmt.Errorf("page %d is not in it", number)
	}
	more := uint64(order.Uint32(header[12:]))
	if order.Uint64(header) != number || number+more >= v.limit || int64(number+more) >= v.size/v.pageSize+1 {
		return nil, fmt.Errorf("page %d is damaged", number)
	}
	for n := number; n <= number+more; n++ {
		if v.seen[n] {
			return nil, fmt.Errorf("page %d is in use twice", n)
		}
		v.seen[n] = true
	}
	b := make([]byte, int64(more+1)*v.pageSize)
	if _, err := v.file.ReadAt(b, int64(number)*v.pageSize); err != nil {
		return nil, fmt.Errorf("page %d is not whole", number)
	}
	return b, nil
}

// tree checks the page and all below it.
func (v *verifier) tree(number uint64, depth int) error {
	b, err := v.page(number)
	if err != nil {
		return err
	}
	if depth > maxDepth {
		return fmt.Errorf("page %d is too deep", number)
	}
	if order.Uint16(b[8:]) == pageBranch {
		count := int(order.Uint16(b[10:]))
		if count == 0 {
			return fmt.Errorf("page %d is damaged", number)
		}
		for i := range count {
			e, err := element(b, i)
			if err != nil {
				return fmt.Errorf("page %d: %w", number, err)
			}
			if _, err := part(b, i, uint64(order.Uint32(e)), uint64(order.Uint32(e[4:]))); err != nil {
				return fmt.Errorf("page %d: %w", number, err)
			}
			if err := v.tree(order.Uint64(e[8:]), depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	if err := v.leaf(b, depth); err != nil {
		return fmt.Errorf("page %d: %w", number, err)
	}
	return nil
}

// leaf checks a leaf page, which may stand inside of an element.
func (v *verifier) leaf(b []byte, depth int) error {
	if len(b) < pageHeader || order.Uint16(b[8:]) != pageLeaf {
		return errors.New("it is of the wrong kind")
	}
	for i := range int(order.Uint16(b[10:])) {
		e, err := element(b, i)
		if err != nil {
			return err
		}
		flags, at, key, value := order.Uint32(e), uint64(order.Uint32(e[4:])), uint64(order.Uint32(e[8:])), uint64(order.Uint32(e[12:]))
		content, err := part(b, i, at, key+value)
		if err != nil {
			return err
		}
		if flags > elementBucket || key == 0 {
			return errors.New("an element is damaged")
		}
		if flags != elementBucket {
			continue
		}
		bucket := content[key:]
		if len(bucket) < bucketHeader || depth > maxDepth {
			return errors.New("a bucket is damaged")
		}
		if root := order.Uint64(bucket); root != 0 {
			err = v.tree(root, depth+1)
		} else {
			err = v.leaf(bucket[bucketHeader:], depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func element(b []byte, i int) ([]byte, error) {
	at := pageHeader + i*elementSize
	if at+elementSize > len(b) {
		return nil, errors.New("it has more elements than room")
	}
	return b[at : at+elementSize], nil
}

// part returns size bytes that stand at bytes after the beginning of element i.
func part(b []byte, i int, at, size uint64) ([]byte, error) {
	from := uint64(pageHeader+i*elementSize) + at
	if from+size > uint64(len(b)) {
		return nil, errors.New("an element reaches out of it")
	}
	return b[from : from+size], nil
}

// freelist checks that what counts as free is inside of the file and not in use.
func (v *verifier) freelist(number uint64) error {
	b, err := v.page(number)
	if err != nil {
		return err
	}
	if order.Uint16(b[8:]) != pageFreelist {
		return fmt.Errorf("page %d is of the wrong kind", number)
	}
	count, ids := uint64(order.Uint16(b[10:])), b[pageHeader:]
	if count == 0xFFFF {
		count, ids = order.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return fmt.Errorf("page %d has more elements than room", number)
	}
	free := map[uint64]bool{}
	for i := range count {
		id := order.Uint64(ids[8*i:])
		if id >= v.limit || v.seen[id] || free[id] {
			return fmt.Errorf("page %d is free and in use", id)
		}
		free[id] = true
	}
	return nil
}
