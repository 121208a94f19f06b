// SPDX-License-Identifier: MIT

package migbuf

// #include <migbuf/migbuf.h>
import "C"

import (
	"sync"
	"unsafe"
)

// Bin is one migration's share of the volume, on paper only: no file is cut or moved.
type Bin struct {
	ID         uint64 // its owner
	ShareBytes uint64 // its size
	UsedBytes  uint64 // everybody's bytes in it
	Shards     uint32 // height of the stack, owner counted
	frozen     uint32
}

// Frozen tells whether the bin is full.
func (b *Bin) Frozen() bool { return b.frozen != 0 }

// Shard is one entry of one bin's stack: what a migration's files claim of somebody's share.
type Shard struct {
	Bin      uint64 // id of the bin's owner
	ID       uint64 // whose bytes
	Bytes    uint64 // 0 only for an owner
	Position uint32 // 1 is the bottom
	reserved uint32
}

// BinsView is what the paper's formula needs to know about one migration. Open bins are those that are not full.
type BinsView struct {
	size          uint64
	Bytes         uint64   // all its bytes
	HomeBytes     uint64   // of them in its own bin
	ShareBytes    uint64   // size of its own bin
	CapacityBytes float64  // size of the open bins it lies in; where none is open, of the one it looks at
	UsedBytes     float64  // everybody's bytes in these
	RoomBytes     float64  // what is free in each of these, divided by the height of its stack, summed
	Priority      float64  // mean position in the stacks, from 1 on: 1 is the highest priority
	Shards        uint32   // bins it lies in, its own included
	Prospective   Prospect // whether none of the bins it lies in is open
}

// Prospect says where a migration could grow.
type Prospect uint32

// Prospects.
const (
	ProspectOwn     Prospect = 0 // in an open bin that it lies in
	ProspectAnother Prospect = 1 // in another open bin, at which it looks
	ProspectNone    Prospect = 2 // nowhere: no bin is open
)

// String is "own", "another" or "none".
func (p Prospect) String() string { return text([]string{"own", "another", "none"}, int(p)) }

// Bins is the ledger alone, for a host with a policy of its own; a [Buffer] has one inside. The volume is cut into one bin
// per migration. A file that outgrows its bin lies on others' bins too, on top of what they hold; a stack's bottom is
// position 1. Several goroutines may use it.
type Bins struct {
	mu sync.Mutex
	b  *C.struct_migbuf_bins
}

// NewBins makes an empty ledger of that capacity. Errors: ErrRange.
func NewBins(capacityBytes uint64) (*Bins, error) {
	var c *C.struct_migbuf_bins
	if err := failed("bins_new", C.migbuf_bins_new(C.uint64_t(capacityBytes), nil, &c)); err != nil {
		return nil, err
	}
	return &Bins{b: c}, nil
}

// Close frees the ledger. It returns nil, also the second time.
func (b *Bins) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	C.migbuf_bins_free(b.b)
	b.b = nil
	return nil
}

func (b *Bins) failed(op string, rc C.int) error {
	return ofHandle(b.b != nil, "NewBins", failed(op, rc))
}

// Start enters a migration with bytes of file already there. weight: 1 to 1000000, its part of the volume is its weight
// divided by the sum of all. Errors: ErrExists, ErrRange.
func (b *Bins) Start(id uint64, weight uint32, bytes uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed("bins_start", C.migbuf_bins_start(b.b, C.uint64_t(id), C.uint32_t(weight), C.uint64_t(bytes)))
}

// Set says what its files weigh now, more or less than before. Errors: ErrNotFound, ErrRange.
func (b *Bins) Set(id, bytes uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed("bins_set", C.migbuf_bins_set(b.b, C.uint64_t(id), C.uint64_t(bytes)))
}

// End says that its files are deleted. Errors: ErrNotFound.
func (b *Bins) End(id uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed("bins_end", C.migbuf_bins_end(b.b, C.uint64_t(id)))
}

// Resize gives the volume another size. ErrInUse: the files need more.
func (b *Bins) Resize(capacityBytes uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed("bins_resize", C.migbuf_bins_resize(b.b, C.uint64_t(capacityBytes)))
}

// Count is the number of migrations; 0 of a closed ledger.
func (b *Bins) Count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int(C.migbuf_bins_count(b.b))
}

// Used is the sum of all files, in bytes.
func (b *Bins) Used() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return uint64(C.migbuf_bins_used(b.b))
}

// Excess is by how many bytes the files exceed the volume: 0 as long as a throttle does its work.
func (b *Bins) Excess() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return uint64(C.migbuf_bins_excess(b.b))
}

// View of one migration. Errors: ErrNotFound.
func (b *Bins) View(id uint64) (BinsView, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	view, err := viewBins(b.b, id)
	return view, ofHandle(b.b != nil, "NewBins", err)
}

// List of all bins in order of start.
func (b *Bins) List() ([]Bin, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	bins, err := listBins(b.b)
	return bins, ofHandle(b.b != nil, "NewBins", err)
}

// Shards of all bins in order of start, each from the bottom to the top.
func (b *Bins) Shards() ([]Shard, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	shards, err := listShards(b.b)
	return shards, ofHandle(b.b != nil, "NewBins", err)
}

func viewBins(b *C.struct_migbuf_bins, id uint64) (BinsView, error) {
	v := BinsView{size: uint64(unsafe.Sizeof(BinsView{}))}
	rc := C.migbuf_bins_view(b, C.uint64_t(id), (*C.struct_migbuf_bins_view)(unsafe.Pointer(&v)))
	return v, failed("bins_view", rc)
}

func listBins(b *C.struct_migbuf_bins) ([]Bin, error) {
	n := C.migbuf_bins_list(b, nil, 0)
	if n <= 0 {
		return nil, failed("bins_list", n)
	}
	out := make([]Bin, n)
	n = C.migbuf_bins_list(b, (*C.struct_migbuf_bin)(at(out)), C.size_t(n))
	return out, failed("bins_list", n)
}

func listShards(b *C.struct_migbuf_bins) ([]Shard, error) {
	n := C.migbuf_bins_shards(b, nil, 0)
	if n <= 0 {
		return nil, failed("bins_shards", n)
	}
	out := make([]Shard, n)
	n = C.migbuf_bins_shards(b, (*C.struct_migbuf_shard)(at(out)), C.size_t(n))
	return out, failed("bins_shards", n)
}
