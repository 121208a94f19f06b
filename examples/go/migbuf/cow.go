// SPDX-License-Identifier: MIT

package migbuf

// #include <migbuf/migbuf.h>
import "C"

import (
	"os"
	"unsafe"
)

// CowFileBytes is what an open overlay takes from its volume: its allocated bytes. Keep a duplicate of the descriptor: LXD
// and Incus remove the name before QEMU opens the file. Errors: ErrSystem, ErrUnsupported for what is no file (the kernel
// counts no blocks of a block device: take wr_highest_offset of query-blockstats there), ErrInvalid for one that is closed.
func CowFileBytes(f *os.File) (uint64, error) {
	var bytes C.uint64_t
	err := onDescriptor("cow_file_bytes", f, func(fd C.int, e *C.struct_migbuf_error) C.int {
		return C.migbuf_cow_file_bytes(fd, &bytes, e)
	})
	return uint64(bytes), err
}

// Volume is a file system's size.
type Volume struct {
	SizeBytes uint64 // its blocks, used and free
	FreeBytes uint64 // free for everybody, without the superuser's reserve; of the empty volume: the capacity for NewBuffer
	UsedBytes uint64 // size minus free: what files and metadata take
}

// CowVolume asks the file system of an open file or directory how large it is. Errors: ErrSystem, ErrUnsupported for
// what is neither, ErrInvalid.
func CowVolume(f *os.File) (Volume, error) {
	var v Volume
	err := onDescriptor("cow_volume", f, func(fd C.int, e *C.struct_migbuf_error) C.int {
		return C.migbuf_cow_volume(fd, (*C.struct_migbuf_volume)(unsafe.Pointer(&v)), e)
	})
	return v, err
}

// CowFlags say what a file system's figures are worth.
type CowFlags uint32

// Flags of a Filesystem.
const (
	CowLags         CowFlags = C.MIGBUF_COW_LAGS         // the block count follows seconds after the writes: a larger length is believed
	CowCompresses   CowFlags = C.MIGBUF_COW_COMPRESSES   // files may take less than their count, or grow when they are rewritten
	CowPreallocates CowFlags = C.MIGBUF_COW_PREALLOCATES // the count may hold room beyond the end that is given back later
	CowCopies       CowFlags = C.MIGBUF_COW_COPIES       // a rewrite takes new room before the old is freed: only CowVolume knows
	CowUnknown      CowFlags = C.MIGBUF_COW_UNKNOWN      // no local file system that is known: nothing is sure of its counts
)

// String names the flags: "lags|compresses", "none".
func (f CowFlags) String() string {
	return flagText([]string{"lags", "compresses", "preallocates", "copies", "unknown"}, uint32(f))
}

// Filesystem says of what kind the volume is.
type Filesystem struct {
	Name  string   // "ext4", "xfs", "btrfs", "zfs", "tmpfs", …; "" when not known
	Magic uint32   // statfs's f_type
	Flags CowFlags // what its figures are worth
}

// CowFilesystem tells of what kind the file system of an open file or directory is. Linux. Errors: as CowVolume.
func CowFilesystem(f *os.File) (Filesystem, error) {
	var fs C.struct_migbuf_filesystem
	err := onDescriptor("cow_filesystem", f, func(fd C.int, e *C.struct_migbuf_error) C.int { return C.migbuf_cow_filesystem(fd, &fs, e) })
	return Filesystem{C.GoString(&fs.name[0]), uint32(fs.magic), CowFlags(fs.flags)}, err
}

// CowSizes is CowFileBytes of many, all or none, in one crossing; flags as [CowFilesystem] gives them. Errors: those of
// CowFileBytes.
func CowSizes(files []*os.File, flags CowFlags) ([]uint64, error) {
	fds, sizes := make([]int32, 0, len(files)), make([]uint64, len(files))
	var e C.struct_migbuf_error
	var rc C.int
	err := onDescriptors("cow_sizes", files, &fds, func() {
		rc = C.migbuf_cow_sizes((*C.int32_t)(at(fds)), C.size_t(len(fds)), C.uint32_t(flags), (*C.uint64_t)(at(sizes)), &e)
	})
	if err == nil {
		err = failedWith("cow_sizes", rc, &e)
	}
	if err != nil {
		return nil, err
	}
	return sizes, nil
}

// onDescriptors calls f when it has all descriptors, which stay these files' own all the while.
func onDescriptors(op string, files []*os.File, fds *[]int32, f func()) error {
	if len(files) == 0 {
		f()
		return nil
	}
	var inner error
	err := control(op, files[0], func(fd uintptr) {
		*fds = append(*fds, int32(fd))
		inner = onDescriptors(op, files[1:], fds, f)
	})
	if err == nil {
		err = inner
	}
	return err
}

// Full says what a volume does when it is full. QEMU stops a guest for ENOSPC only. Over a quota its writes fail, and what
// it was told is safe may be lost.
type Full int32

// Kinds of Full.
const (
	FullStops   Full = C.MIGBUF_FULL_STOPS   // ENOSPC: QEMU stops the guest, and cont repeats the write
	FullFails   Full = C.MIGBUF_FULL_FAILS   // a quota: the guest gets an I/O error and runs on
	FullUnknown Full = C.MIGBUF_FULL_UNKNOWN // take it for FullFails
)

// String is "stops", "fails" or "unknown".
func (f Full) String() string {
	return text([]string{"unknown", "stops", "fails", "unknown"}, int(f))
}

// CowWhenFull says what a write gets that finds no room in this directory, and how much room one file in it could take.
// Ask when the volume is set up, while nobody uses it: where it has to be tried, all of its room is taken for some
// milliseconds. Errors: ErrSystem (no directory, no permission), ErrInvalid.
func CowWhenFull(dir *os.File) (kind Full, roomBytes uint64, err error) {
	var full C.struct_migbuf_full
	err = onDescriptor("cow_when_full", dir, func(fd C.int, e *C.struct_migbuf_error) C.int { return C.migbuf_cow_when_full(fd, &full, e) })
	return Full(full.kind), uint64(full.room_bytes), err
}

// StateDeviceRAM is what a VM's devices keep in memory of their own, LXD's usual ones: the default of DeviceRAMBytes.
const StateDeviceRAM uint64 = C.MIGBUF_STATE_DEVICE_RAM

// State describes a VM's memory dump. Start from [NewState] to set DeviceRAMBytes to 0: in a literal, 0 is the default.
type State struct {
	size           uint64
	MemoryBytes    uint64 // limits.memory; 1 to 2^50
	DeviceRAMBytes uint64 // all other RAM of the VM; StateDeviceRAM; 0 to 2^40
	ResentBytes    uint64 // what the guest may write to its memory while the dump is made; 0: it is stopped
	CPUs           uint32 // 1; 1 to 4096
	PageBytes      uint32 // of the guest's architecture; 4096; a power of two up to 65536
}

// NewState has the library's defaults for a VM with that much memory.
func NewState(memoryBytes uint64) State {
	var s State
	C.migbuf_state_init((*C.struct_migbuf_state)(unsafe.Pointer(&s)), C.uint64_t(unsafe.Sizeof(s)))
	s.MemoryBytes = memoryBytes
	return s
}

// Bound is how large the dump can become, as it is and compressed by gzip: for size.state of a VM. LXD and Incus dump a VM
// while it runs: stop the guest first, or count ResentBytes. Errors: ErrRange.
func (s State) Bound() (rawBytes, gzipBytes uint64, err error) {
	s = orDefaults(s, NewState(s.MemoryBytes))
	var raw, gzip C.uint64_t
	rc := C.migbuf_state_bound((*C.struct_migbuf_state)(unsafe.Pointer(&s)), &raw, &gzip)
	return uint64(raw), uint64(gzip), failed("state_bound", rc)
}
