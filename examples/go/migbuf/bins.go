// SPDX-License-Identifier: MIT

package migbuf

// #include <migbuf/migbuf.h>
import "C"

import (
	"sync"
	"unsafe"
)

// Bin is one migration's share of the volume, on paper only.
type Bin struct {
	ID         uint64 // its owner
	ShareBytes uint64
	UsedBytes  uint64 // everybody's bytes in it
	Shards     uint32 // height of the stack, owner counted
	frozen     uint32
}

// Frozen tells whether the bin is full.
func (b *Bin) Frozen() bool { return b.frozen != 0 }

// Shard is one entry of one bin's stack.
type Shard struct {
	Bin      uint64 // id of the bin's owner
	ID       uint64 // whose bytes
	Bytes    uint64 // 0 only for an owner
	Position uint32 // 1 is the bottom
	reserved uint32
}

// BinsView is what the paper's formula needs to know about one migration; see bins.h.
type BinsView struct {
	size                                uint64
	Bytes, HomeBytes, ShareBytes        uint64
	CapacityBytes, UsedBytes, RoomBytes float64
	Priority                            float64
	Shards                              uint32 // bins it lies in, its own included
	Prospective                         uint32 // 1: it looks at another's bin; 2: no bin is open
}

// Bins is the ledger alone, for a host with a policy of its own; a [Buffer] has one inside.
type Bins struct {
	mu sync.Mutex
	b  *C.struct_migbuf_bins
}

// NewBins makes an empty ledger of that capacity.
func NewBins(capacityBytes uint64) (*Bins, error) {
	var c *C.struct_migbuf_bins
	if err := failed("bins_new", C.migbuf_bins_new(C.uint64_t(capacityBytes), nil, &c)); err != nil {
		return nil, err
	}
	return &Bins{b: c}, nil
}

// Close frees the ledger. Twice is fine.
func (b *Bins) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	C.migbuf_bins_free(b.b)
	b.b = nil
}

// Start enters a migration with bytes of file already there.
func (b *Bins) Start(id uint64, weight uint32, bytes uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return failed("bins_start", C.migbuf_bins_start(b.b, C.uint64_t(id), C.uint32_t(weight), C.uint64_t(bytes)))
}

// Set says what its files weigh now.
func (b *Bins) Set(id, bytes uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return failed("bins_set", C.migbuf_bins_set(b.b, C.uint64_t(id), C.uint64_t(bytes)))
}

// End says that its files are deleted.
func (b *Bins) End(id uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return failed("bins_end", C.migbuf_bins_end(b.b, C.uint64_t(id)))
}

// Resize gives the volume another size. ErrInUse: the files need more.
func (b *Bins) Resize(capacityBytes uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return failed("bins_resize", C.migbuf_bins_resize(b.b, C.uint64_t(capacityBytes)))
}

// Count is the number of migrations.
func (b *Bins) Count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int(C.migbuf_bins_count(b.b))
}

// Used is the sum of all files.
func (b *Bins) Used() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return uint64(C.migbuf_bins_used(b.b))
}

// Excess is by how much the files exceed the volume.
func (b *Bins) Excess() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return uint64(C.migbuf_bins_excess(b.b))
}

// View of one migration.
func (b *Bins) View(id uint64) (BinsView, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return viewBins(b.b, id)
}

// List of all bins in order of start.
func (b *Bins) List() ([]Bin, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return listBins(b.b)
}

// Shards of all bins in order of start, each from the bottom to the top.
func (b *Bins) Shards() ([]Shard, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return listShards(b.b)
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
